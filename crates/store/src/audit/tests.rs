use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::chain::{canonical, check, hash};
use super::*;
use crate::db::Engine;
use crate::meta::record_change;
use crate::testing::{on_each_engine, replica};
use crate::time::now_ms;

fn entry(n: i64) -> AuditEntry {
    AuditEntry {
        at: 1_000 * n,
        actor: format!("{}", n % 3),
        ip: (n % 2 == 0).then(|| "2001:db8::1".into()),
        action: if n % 4 == 0 { "keys.create" } else { "groups.credit" }.into(),
        target: format!("key {n}"),
        outcome: if n % 5 == 0 { "forbidden" } else { "ok" }.into(),
        request_id: Some(format!("req-{n}")),
        detail: (n % 3 == 0).then(|| format!(r#"{{"n":{n}}}"#)),
    }
}

async fn append(db: &Db, rows: i64) {
    let entries: Vec<_> = (1..=rows).map(entry).collect();
    db.append_audits(&entries).await.unwrap();
}

async fn verify(db: &Db) -> Verified {
    db.verify_audit(0, |_| {}).await.unwrap()
}

async fn run(db: &Db, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(db.write()).await.unwrap();
}

/// Keeps the log as it is, for [`restore`].
async fn back_up(db: &Db) {
    run(db, "CREATE TABLE audit_backup AS SELECT * FROM audit").await;
    run(db, "CREATE TABLE meta_backup AS SELECT * FROM meta").await;
}

async fn restore(db: &Db) {
    run(
        db,
        "BEGIN; DELETE FROM audit; INSERT INTO audit SELECT * FROM audit_backup; DELETE FROM meta; \
         INSERT INTO meta SELECT * FROM meta_backup; COMMIT",
    )
    .await;
}

#[tokio::test]
async fn rows_are_chained_listed_and_whole() {
    on_each_engine(|db| async move {
        assert_eq!(verify(&db).await, Verified { rows: 0, first_bad: None, head: Link::first() });
        assert_eq!(db.append_audit(&entry(1)).await.unwrap(), 1);
        assert_eq!(db.append_audit(&entry(2)).await.unwrap(), 2);
        assert_eq!(db.append_audits(&[entry(3), entry(4), entry(5)]).await.unwrap(), 5);
        assert_eq!(db.append_audits(&[]).await.unwrap(), 5);

        let rows = db.audit_log(&AuditFilter::default(), 0, 100).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
        assert!(rows.iter().all(|row| row.entry == entry(row.seq)));
        assert!(rows.windows(2).all(|pair| pair[0].previous == pair[1].hash));
        assert_eq!(rows[4].previous, Link::first().hash);

        let verified = verify(&db).await;
        let head = Link { seq: 5, hash: rows[0].hash.clone() };
        assert_eq!(verified, Verified { rows: 5, first_bad: None, head });
    })
    .await;
}

/// The hash is a promise to whoever verifies an export with a program of their own.
#[test]
fn the_hash_is_what_the_documentation_says() {
    let entry = AuditEntry {
        at: 1,
        actor: "é".into(),
        action: "a".into(),
        target: String::new(),
        outcome: "ok".into(),
        request_id: Some("r".into()),
        ..AuditEntry::default()
    };
    let mut expected = b"trunkline audit 1".to_vec();
    expected.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0xc3, 0xa9]);
    expected.push(0);
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, b'a']);
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, b'o', b'k']);
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, b'r']);
    expected.push(0);
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, b'p']);
    assert_eq!(canonical(2, &entry, "p"), expected);
    assert_eq!(hash(2, &entry, "p"), "27f77d3e07ddf701044f903560c696445a4dbef833bd2bc055bbe8683955c211");
}

#[tokio::test]
async fn filters_and_pages() {
    on_each_engine(|db| async move {
        append(&db, 60).await;
        let list = async |filter: AuditFilter, after: i64, limit: i64| -> Vec<i64> {
            db.audit_log(&filter, after, limit).await.unwrap().iter().map(|row| row.seq).collect()
        };
        let none = AuditFilter::default;
        assert_eq!(list(none(), 4, 2).await, [3, 2]);
        assert_eq!(list(none(), 1, 10).await, [0_i64; 0]);
        assert_eq!(list(none(), 0, i64::MIN).await, [60]);
        assert_eq!(list(none(), 0, i64::MAX).await.len(), 60);
        let between = AuditFilter { from: Some(5_000), to: Some(7_000), ..none() };
        assert_eq!(list(between, 0, 10).await, [6, 5]);
        let both = AuditFilter { actor: Some("0".into()), action: Some("keys.create".into()), ..none() };
        assert_eq!(list(both, 40, 10).await, [36, 24, 12]);
        let failed = AuditFilter { outcome: Some("forbidden".into()), ..none() };
        assert_eq!(list(failed, 0, 2).await, [60, 55]);
        let target = AuditFilter { target: Some("key 9".into()), ..none() };
        assert_eq!(list(target, 0, 2).await, [9]);
        for nothing in ["' OR '1'='1", "%", "$1", "a\0b", ""] {
            let filter = AuditFilter { actor: Some(nothing.into()), ..none() };
            assert_eq!(list(filter, 0, 10).await, [0_i64; 0], "{nothing:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_that_is_sent_keeps_an_action_out_of_the_log() {
    on_each_engine(|db| async move {
        let hostile = AuditEntry {
            at: i64::MIN,
            actor: "a\0b'; DROP TABLE audit; --".into(),
            ip: Some("\0".repeat(2000)),
            action: "🦀".repeat(1000),
            target: String::new(),
            outcome: "\r\nforged: line \u{202e}".into(),
            request_id: Some("é".repeat(512)),
            detail: Some("模".repeat(10_000)),
        };
        db.append_audit(&hostile).await.unwrap();
        db.append_audit(&AuditEntry { at: i64::MAX, ..AuditEntry::default() }).await.unwrap();
        let row = db.audit_log(&AuditFilter::default(), 0, 10).await.unwrap().remove(1).entry;
        assert_eq!(row.actor, "a\u{fffd}b'; DROP TABLE audit; --");
        assert_eq!(row.outcome, hostile.outcome);
        assert_eq!(row.request_id, hostile.request_id);
        assert!(row.action.ends_with("🦀…") && row.action.len() <= LONGEST, "{}", row.action.len());
        assert!(row.ip.is_some_and(|ip| ip.ends_with("\u{fffd}…") && ip.len() <= LONGEST));
        assert!(row.detail.is_some_and(|detail| detail.len() <= LONGEST_DETAIL && detail.len() > 16_000));
        assert!(verify(&db).await.is_ok());
    })
    .await;
}

/// Mutation: without `FOR UPDATE` on the head, PostgreSQL gives a number twice and an append fails.
#[tokio::test]
async fn appenders_on_two_replicas_take_turns() {
    on_each_engine(|db| async move {
        let other = replica(&db).await;
        let appends: Vec<_> = (0..40)
            .map(|n| {
                let db = if n % 2 == 0 { db.clone() } else { other.clone() };
                tokio::spawn(async move {
                    // The first of all meet where there is no head yet.
                    match n % 4 {
                        3 => db.append_audits(&[entry(n), entry(n)]).await.unwrap(),
                        _ => db.append_audit(&entry(n)).await.unwrap(),
                    }
                })
            })
            .collect();
        let mut last = Vec::new();
        for append in appends {
            last.push(append.await.unwrap());
        }
        last.sort_unstable();
        last.dedup();
        assert_eq!((last.len(), last[39]), (40, 50));
        let verified = verify(&db).await;
        assert_eq!((verified.rows, verified.first_bad), (50, None));
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_record_is_not_there_without_what_it_is_about() {
    on_each_engine(|db| async move {
        append(&db, 2).await;
        let mut tx = db.begin().await.unwrap();
        record_change(&mut tx, "key", "7", 0).await.unwrap();
        assert_eq!(db.append_audit_in(&mut tx, &entry(3)).await.unwrap(), 3);
        tx.rollback().await.unwrap();
        assert_eq!((db.revision().await.unwrap(), verify(&db).await.rows), (0, 2));

        let mut tx = db.begin().await.unwrap();
        record_change(&mut tx, "key", "7", 0).await.unwrap();
        assert_eq!(db.append_audit_in(&mut tx, &entry(3)).await.unwrap(), 3);
        tx.commit().await.unwrap();
        assert_eq!((db.revision().await.unwrap(), verify(&db).await.rows), (1, 3));
    })
    .await;
}

/// R09: tamper-evident. Mutations: without `detail` in the canonical form, without the comparison of `previous`,
/// without the comparison with the head, or without the presence byte, one of the cases goes unseen.
#[tokio::test]
async fn promise_r09_every_way_to_change_the_log_is_seen() {
    on_each_engine(|db| async move {
        append(&db, 6).await;
        back_up(&db).await;
        let mut ways: Vec<(String, &str)> = Vec::new();
        for seq in 1..=6 {
            for (set, why) in [
                ("at = at + 1", "changed"),
                ("actor = actor || ' '", "changed"),
                ("ip = CASE WHEN ip IS NULL THEN '' ELSE NULL END", "changed"),
                ("action = upper(action)", "changed"),
                ("action = actor, actor = action", "changed"),
                ("target = ''", "changed"),
                ("outcome = 'OK'", "changed"),
                ("request_id = NULL", "changed"),
                ("detail = CASE WHEN detail IS NULL THEN 'x' ELSE NULL END", "changed"),
                ("previous = hash", "changed"),
                ("hash = previous", "changed"),
                ("hash = upper(hash) || 'A'", "changed"),
                ("seq = 100", "is missing"),
                ("seq = -seq", "was put in"),
            ] {
                ways.push((format!("UPDATE audit SET {set} WHERE seq = {seq}"), why));
            }
            ways.push((format!("DELETE FROM audit WHERE seq = {seq}"), "is missing"));
        }
        ways.push(("DELETE FROM audit WHERE seq > 3".into(), "the end of the log was removed"));
        ways.push(("DELETE FROM audit WHERE seq <= 3".into(), "is missing"));
        ways.push(("DELETE FROM audit".into(), "is missing: the end of the log was removed"));
        ways.push(("DELETE FROM meta WHERE name = 'audit_head'".into(), "after the end of the log"));
        for seq in [-1, 0] {
            let copy = format!(
                "INSERT INTO audit SELECT {seq}, at, actor, ip, action, target, outcome, request_id, detail, previous, \
                 hash FROM audit WHERE seq = 1"
            );
            ways.push((copy, "was put in"));
        }
        if db.engine() == Engine::Sqlite {
            // SQLite keeps in a column what it is given.
            for set in ["at = 1.5", "at = 'x'", "actor = x'ff'", "actor = CAST(x'ff' AS TEXT)"] {
                ways.push((format!("UPDATE audit SET {set} WHERE seq = 4"), "cannot be read"));
            }
            ways.push(("UPDATE audit SET seq = NULL WHERE seq = 6".into(), "was put in"));
            ways.push(("UPDATE audit SET seq = 'x' WHERE seq = 6".into(), "cannot be read"));
        }
        for (statement, why) in ways {
            run(&db, &statement).await;
            let bad = verify(&db).await.first_bad;
            assert!(bad.as_ref().is_some_and(|bad| bad.why.contains(why)), "{statement}: {bad:?}");
            restore(&db).await;
        }
        assert_eq!(verify(&db).await.rows, 6, "as it was");
    })
    .await;
}

#[tokio::test]
async fn promise_r09_a_row_replaced_with_its_hash_is_seen() {
    on_each_engine(|db| async move {
        append(&db, 4).await;
        back_up(&db).await;
        let rows = db.audit_log(&AuditFilter::default(), 0, 10).await.unwrap();
        let replace = async |seq: i64| {
            let row = rows.iter().find(|row| row.seq == seq).unwrap();
            let forged = AuditEntry { actor: "nobody".into(), ..row.entry.clone() };
            sqlx::query("UPDATE audit SET actor = $1, hash = $2 WHERE seq = $3")
                .bind(&forged.actor)
                .bind(hash(seq, &forged, &row.previous))
                .bind(seq)
                .execute(db.write())
                .await
                .unwrap();
            let bad = verify(&db).await.first_bad.unwrap();
            restore(&db).await;
            bad
        };
        let bad = replace(2).await;
        assert_eq!((bad.seq, &*bad.why), (3, "does not follow row 2: one of the two was replaced"));
        let bad = replace(4).await;
        assert_eq!((bad.seq, &*bad.why), (4, "was replaced: it is not what the log ended with"));

        // Rows that fit, but that nobody appended.
        let after = entry(5);
        let forged = hash(5, &after, &rows[0].hash);
        let mut tx = db.begin().await.unwrap();
        let head = Link { seq: 4, hash: rows[0].hash.clone() };
        assert_eq!(insert(&mut tx, &head, &after).await.unwrap().hash, forged);
        tx.commit().await.unwrap();
        let bad = verify(&db).await.first_bad.unwrap();
        assert_eq!((bad.seq, &*bad.why), (5, "was put in: it is after the end of the log"));
    })
    .await;
}

fn any_entry() -> impl Strategy<Value = AuditEntry> {
    let text = || prop_oneof![Just(String::new()), "[ab]{1,2}", "[^\0]{0,12}"];
    let maybe = || prop_oneof![Just(None), text().prop_map(Some)];
    let columns = (any::<i64>(), text(), maybe(), text(), text(), text(), maybe(), maybe());
    columns.prop_map(|(at, actor, ip, action, target, outcome, request_id, detail)| AuditEntry {
        at,
        actor,
        ip,
        action,
        target,
        outcome,
        request_id,
        detail,
    })
}

fn chained(entries: Vec<AuditEntry>) -> (Vec<AuditRow>, Link) {
    let mut last = Link::first();
    let chain = |entry: AuditEntry| {
        let (seq, previous) = (last.seq + 1, last.hash.clone());
        let hash = hash(seq, &entry, &previous);
        last = Link { seq, hash: hash.clone() };
        AuditRow { seq, entry, previous, hash }
    };
    (entries.into_iter().map(chain).collect(), last)
}

fn is_whole(rows: &[AuditRow], head: &Link) -> bool {
    rows.iter().try_fold(Link::first(), |last, row| check(&last, row)).is_ok_and(|last| last == *head)
}

proptest! {
    /// No two rows have the same canonical form, however text is moved between columns.
    #[test]
    fn promise_r09_the_canonical_form_is_of_one_row_only(
        a in any_entry(), b in any_entry(), seqs in any::<(bool, bool)>(), previous in "[ab]{0,2}",
    ) {
        let forms = (canonical(seqs.0.into(), &a, &previous), canonical(seqs.1.into(), &b, &previous));
        prop_assert_eq!(forms.0 == forms.1, (seqs.0, &a) == (seqs.1, &b));
    }

    /// Text that looks like the marks between columns does not move the mark. Mutations: without the lengths, or with
    /// one byte for both NULL and the empty text, two rows have one form.
    #[test]
    fn promise_r09_text_cannot_be_moved_between_columns(
        x in "[\0\u{1}a]{0,3}", y in "[\0\u{1}a]{0,3}", z in "[\0\u{1}a]{0,3}",
        mark in prop::sample::select(vec!["", "\0", "\u{1}", "\0\u{1}"]),
    ) {
        let ways = [
            (format!("{x}{mark}{y}"), Some(z.clone())),
            (x.clone(), Some(format!("{y}{mark}{z}"))),
            (x.clone(), Some(String::new())),
            (x.clone(), None),
            (format!("{x}{mark}"), None),
        ];
        for (actor, ip) in &ways {
            for (other_actor, other_ip) in &ways {
                let one = AuditEntry { actor: actor.clone(), ip: ip.clone(), ..AuditEntry::default() };
                let two = AuditEntry { actor: other_actor.clone(), ip: other_ip.clone(), ..AuditEntry::default() };
                prop_assert_eq!(canonical(1, &one, "") == canonical(1, &two, ""), one == two);
            }
        }
    }

    /// Any row replaced by any other, with its old hash or with one that fits, breaks the chain; so does its removal
    /// and its repetition.
    #[test]
    fn promise_r09_any_single_row_change_breaks_the_chain(
        entries in prop::collection::vec(any_entry(), 1..12), at in any::<prop::sample::Index>(),
        other in any_entry(), seq in any::<Option<i64>>(), fitting in any::<bool>(),
    ) {
        let (rows, head) = chained(entries);
        prop_assert!(is_whole(&rows, &head));
        let index = at.index(rows.len());

        let mut changed = rows.clone();
        changed[index].entry = other;
        changed[index].seq = seq.unwrap_or(rows[index].seq);
        if fitting {
            let row = &changed[index];
            changed[index].hash = hash(row.seq, &row.entry, &row.previous);
        }
        prop_assert_eq!(is_whole(&changed, &head), changed == rows);

        let mut removed = rows.clone();
        removed.remove(index);
        prop_assert!(!is_whole(&removed, &head));

        let mut repeated = rows.clone();
        repeated.insert(index, rows[index].clone());
        prop_assert!(!is_whole(&repeated, &head));
    }
}

/// The same through the database, so that what is bound, kept and read is what was hashed.
#[tokio::test]
async fn promise_r09_any_single_row_change_in_the_database_is_seen() {
    on_each_engine(|db| async move {
        let mut runner = TestRunner::deterministic();
        let mut sample = || any_entry().new_tree(&mut runner).unwrap().current();
        let entries: Vec<_> = (0..20).map(|_| sample()).collect();
        let changes: Vec<_> = (0..150).map(|_| sample()).collect();
        db.append_audits(&entries).await.unwrap();
        back_up(&db).await;
        let columns = ["at", "actor", "ip", "action", "target", "outcome", "request_id", "detail"];
        let mut seen = 0;
        for (n, change) in changes.iter().enumerate() {
            let (column, seq) = (columns[n % columns.len()], n as i64 * 7 % 20 + 1);
            let query = format!("UPDATE audit SET {column} = $1 WHERE seq = $2");
            let query = sqlx::query(AssertSqlSafe(query));
            let query = match column {
                "at" => query.bind(change.at),
                "actor" => query.bind(&change.actor),
                "ip" => query.bind(change.ip.as_deref()),
                "action" => query.bind(&change.action),
                "target" => query.bind(&change.target),
                "outcome" => query.bind(&change.outcome),
                "request_id" => query.bind(change.request_id.as_deref()),
                _ => query.bind(change.detail.as_deref()),
            };
            query.bind(seq).execute(db.write()).await.unwrap();
            let row = db.audit_log(&AuditFilter::default(), seq + 1, 1).await.unwrap().remove(0);
            let same = row.entry == entries[usize::try_from(seq).unwrap() - 1];
            let verified = verify(&db).await;
            assert_eq!(verified.is_ok(), same, "{column} of row {seq}: {verified:?}");
            seen += usize::from(!same);
            restore(&db).await;
        }
        assert!(seen > 100, "{seen}");
        assert!(verify(&db).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn the_check_begins_where_it_is_asked_to_and_tells_how_far_it_is() {
    on_each_engine(|db| async move {
        let entries: Vec<_> = (1..=1203).map(entry).collect();
        db.append_audits(&entries).await.unwrap();
        let mut told = Vec::new();
        let verified = db.verify_audit(0, |rows| told.push(rows)).await.unwrap();
        assert_eq!((verified.rows, verified.first_bad, told), (1203, None, vec![500, 1000, 1203]));

        run(&db, "UPDATE audit SET actor = 'x' WHERE seq = 700").await;
        let verified = verify(&db).await;
        assert_eq!((verified.rows, verified.first_bad.map(|bad| bad.seq)), (699, Some(700)));
        for from in [700, 701] {
            let verified = db.verify_audit(from, |_| {}).await.unwrap();
            assert_eq!(verified.is_ok(), from == 701, "{from}: {verified:?}");
        }
        let verified = db.verify_audit(1203, |_| {}).await.unwrap();
        assert_eq!((verified.rows, verified.is_ok()), (1, true));
        let verified = db.verify_audit(2000, |_| {}).await.unwrap();
        assert_eq!(verified.first_bad.unwrap().seq, 1999);
    })
    .await;
}

#[tokio::test]
async fn retention_leaves_a_log_that_can_be_verified() {
    on_each_engine(|db| async move {
        let entries: Vec<_> = (1..=1300).map(entry).collect();
        db.append_audits(&entries).await.unwrap();
        assert_eq!(db.prune_audit(0, "system").await.unwrap(), 0);
        assert_eq!(verify(&db).await.rows, 1300, "no record where nothing was removed");

        // In several pieces.
        assert_eq!(db.prune_audit(1_201_000, "system").await.unwrap(), 1200);
        let verified = verify(&db).await;
        assert_eq!((verified.rows, verified.first_bad), (101, None));
        let newest = db.audit_log(&AuditFilter::default(), 0, 1).await.unwrap().remove(0);
        assert_eq!((newest.seq, &*newest.entry.action, &*newest.entry.target), (1301, "audit.prune", "1200"));
        assert_eq!(db.prune_audit(1_201_000, "system").await.unwrap(), 0);

        db.append_audit(&entry(2000)).await.unwrap();
        assert_eq!(db.prune_audit(1_250_000, "system").await.unwrap(), 49);
        assert_eq!(verify(&db).await.rows, 54);
        // All that is old, though the record of the removal is young.
        let removed = db.prune_audit(now_ms() + 60_000, "system").await.unwrap();
        let verified = verify(&db).await;
        assert_eq!((removed, verified.rows, verified.first_bad), (54, 1, None));
        db.append_audit(&entry(3000)).await.unwrap();
        assert_eq!(verify(&db).await.rows, 2);
    })
    .await;
}

/// Mutation: without the comparison of the anchor with the record, the first case goes unseen.
#[tokio::test]
async fn promise_r09_a_beginning_removed_without_a_record_is_seen() {
    on_each_engine(|db| async move {
        append(&db, 8).await;
        let anchored = async |seq: i64| {
            let row = db.audit_log(&AuditFilter::default(), seq + 1, 1).await.unwrap().remove(0);
            run(&db, &format!("DELETE FROM audit WHERE seq <= {seq}")).await;
            db.set_meta(ANCHOR, &Link { seq, hash: row.hash }.to_string()).await.unwrap();
            let bad = verify(&db).await.first_bad;
            restore(&db).await;
            bad
        };
        back_up(&db).await;
        let bad = anchored(3).await.unwrap();
        assert!(bad.seq == 3 && bad.why.contains("no record says"), "{bad:?}");

        // With a record of some, not more than these.
        assert_eq!(db.prune_audit(4_000, "system").await.unwrap(), 3);
        run(&db, "DROP TABLE audit_backup").await;
        run(&db, "DROP TABLE meta_backup").await;
        back_up(&db).await;
        assert!(verify(&db).await.is_ok());
        let bad = anchored(5).await.unwrap();
        assert!(bad.seq == 5 && bad.why.contains("no record says"), "{bad:?}");

        // The anchor itself.
        for anchor in [format!("3 {}", "0".repeat(64)), format!("0 {}", "0".repeat(64))] {
            db.set_meta(ANCHOR, &anchor).await.unwrap();
            assert!(!verify(&db).await.is_ok(), "{anchor}");
            restore(&db).await;
        }
        db.set_meta(ANCHOR, "nonsense").await.unwrap();
        let error = db.verify_audit(0, |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("`audit_anchor`"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn what_is_damaged_is_not_removed() {
    on_each_engine(|db| async move {
        append(&db, 8).await;
        back_up(&db).await;
        for (statement, bad) in [
            ("UPDATE audit SET actor = 'nobody' WHERE seq = 2", 2),
            ("DELETE FROM audit WHERE seq = 2", 2),
            ("DELETE FROM audit WHERE seq = 1", 1),
        ] {
            run(&db, statement).await;
            let error = db.prune_audit(5_000, "system").await.unwrap_err();
            assert!(error.to_string().starts_with(&format!("row {bad} of the audit log")), "{error}");
            assert_eq!(verify(&db).await.first_bad.map(|bad| bad.seq), Some(bad));
            restore(&db).await;
        }
        assert_eq!(db.prune_audit(5_000, "system").await.unwrap(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_jumped_neither_keeps_rows_for_ever_nor_removes_young_ones() {
    on_each_engine(|db| async move {
        let now = now_ms();
        // Old, in the far future, old; young, seemingly old, in the future.
        for at in [1, now + 1_000_000_000, 2, now - 1000, 3, now + 1_000_000_000] {
            db.append_audit(&AuditEntry { at, ..entry(1) }).await.unwrap();
        }
        assert_eq!(db.prune_audit(now - 5000, "system").await.unwrap(), 3);
        let kept = db.audit_log(&AuditFilter::default(), 0, 10).await.unwrap();
        assert_eq!(kept.iter().map(|row| row.seq).collect::<Vec<_>>(), [7, 6, 5, 4]);
        assert!(verify(&db).await.is_ok());
    })
    .await;
}

/// Mutation: without the second look at the anchor, the check takes for missing what retention has removed.
#[tokio::test]
async fn the_check_stands_others_that_append_and_remove_meanwhile() {
    on_each_engine(|db| async move {
        let other = replica(&db).await;
        let entries: Vec<_> = (1..=1500).map(entry).collect();
        db.append_audits(&entries).await.unwrap();
        let appending = {
            let db = other.clone();
            tokio::spawn(async move {
                for n in 1501..1540 {
                    db.append_audit(&entry(n)).await.unwrap();
                }
            })
        };
        let removing = [db.clone(), other.clone()].map(|db| {
            tokio::spawn(async move {
                let mut removed = 0;
                for n in 1..30 {
                    removed += db.prune_audit(n * 50_000, "system").await.unwrap();
                }
                removed
            })
        });
        while !removing.iter().all(tokio::task::JoinHandle::is_finished) || !appending.is_finished() {
            let verified = verify(&db).await;
            assert!(verified.is_ok(), "{verified:?}");
        }
        appending.await.unwrap();
        let mut removed = 0;
        for one in removing {
            removed += one.await.unwrap();
        }
        assert_eq!(removed, 1449);
        assert!(verify(&db).await.is_ok());
        other.close().await;
    })
    .await;
}
