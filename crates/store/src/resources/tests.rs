use super::*;
use crate::audit::AuditFilter;
use crate::testing::{on_each_engine, replica};

fn draft(kind: &str, name: &str, body: &str) -> ResourceDraft {
    ResourceDraft { kind: kind.into(), name: name.into(), body: body.into() }
}

fn by(actor: &str) -> AuditEntry {
    AuditEntry {
        at: now_ms(),
        actor: actor.into(),
        action: "models.write".into(),
        target: "model".into(),
        outcome: "ok".into(),
        ..AuditEntry::default()
    }
}

async fn audited(db: &Db) -> usize {
    db.audit_log(&AuditFilter::default(), 0, 100).await.unwrap().len()
}

#[tokio::test]
async fn a_document_lives_and_every_step_is_a_change() {
    on_each_engine(|db| async move {
        let made = db.create_resource(&draft("model", "smart", r#"{"a":1}"#), None).await.unwrap();
        assert_eq!((&*made.kind, &*made.name, made.version), ("model", "smart", 1));
        assert_eq!(db.resource("model", "smart").await.unwrap(), made);
        assert_eq!(db.resource_by_id("model", made.id).await.unwrap(), made);

        let edited = db.update_resource(&draft("model", "smart", r#"{"a":2}"#), Some(1), None).await.unwrap();
        assert_eq!((&*edited.body, edited.version, edited.id), (r#"{"a":2}"#, 2, made.id));
        assert_eq!(edited.created_at, made.created_at);

        let renamed = db.rename_resource("model", "smart", "clever", Some(2), None).await.unwrap();
        assert_eq!((&*renamed.name, renamed.version, &*renamed.body), ("clever", 3, r#"{"a":2}"#));
        let gone = db.resource("model", "smart").await.unwrap_err();
        assert_eq!(gone.to_string(), "there is no model `smart`");

        assert_eq!(db.delete_resource("model", "clever", Some(3), None).await.unwrap(), renamed);
        assert!(matches!(db.resource_by_id("model", made.id).await, Err(StoreError::NotFound { .. })));

        let changes = db.changes_after(0).await.unwrap().unwrap();
        let items: Vec<_> = changes.iter().map(|change| (&*change.kind, &*change.item)).collect();
        let expected = ["smart", "smart", "smart", "clever", "clever"].map(|name| ("model", name));
        assert_eq!(items, expected);
    })
    .await;
}

#[tokio::test]
async fn what_fails_leaves_nothing_behind() {
    on_each_engine(|db| async move {
        db.create_resource(&draft("role", "viewer", "{}"), None).await.unwrap();
        db.create_resource(&draft("role", "editor", "{}"), None).await.unwrap();
        let before = (db.revision().await.unwrap(), db.all_resources("role").await.unwrap());

        let stale = Some(7);
        let audit = by("eve");
        let errors = [
            db.create_resource(&draft("role", "viewer", "[]"), Some(&audit)).await.unwrap_err(),
            db.update_resource(&draft("role", "viewer", "[]"), stale, Some(&audit)).await.unwrap_err(),
            db.update_resource(&draft("role", "nobody", "[]"), None, Some(&audit)).await.unwrap_err(),
            db.rename_resource("role", "viewer", "editor", None, Some(&audit)).await.unwrap_err(),
            db.rename_resource("role", "viewer", "reader", stale, Some(&audit)).await.unwrap_err(),
            db.delete_resource("role", "viewer", stale, Some(&audit)).await.unwrap_err(),
            db.delete_resource("role", "nobody", None, Some(&audit)).await.unwrap_err(),
            db.resource_by_id("model", before.1[0].id).await.unwrap_err(),
        ];
        let kinds = errors.map(|error| error.kind().as_str());
        let expected =
            ["conflict", "changed", "not_found", "conflict", "changed", "changed", "not_found", "not_found"];
        assert_eq!(kinds, expected);
        assert_eq!((db.revision().await.unwrap(), db.all_resources("role").await.unwrap()), before);
        assert_eq!(audited(&db).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_change_and_its_audit_record_are_there_together() {
    on_each_engine(|db| async move {
        let audit = by("ann");
        db.create_resource(&draft("price", "lab/*", "{}"), Some(&audit)).await.unwrap();
        db.update_resource(&draft("price", "lab/*", "[]"), None, Some(&audit)).await.unwrap();
        db.rename_resource("price", "lab/*", "lab/a*", None, Some(&audit)).await.unwrap();
        db.put_resources(&[draft("price", "b", "1")], Some(&audit)).await.unwrap();
        db.delete_resource("price", "lab/a*", None, Some(&audit)).await.unwrap();
        assert_eq!(audited(&db).await, 5);
        assert!(db.verify_audit(0, |_| {}).await.unwrap().is_ok());
    })
    .await;
}

#[tokio::test]
async fn names_are_only_names() {
    let names = [
        "'; DROP TABLE resources; --",
        "\" OR 1=1",
        "$1",
        "?",
        "%",
        "_",
        "Ünïcode 模型 🦀",
        "u\u{308}",
        "ü",
        "Smart",
        "smart",
        " smart",
        "\\",
        "NULL",
    ];
    on_each_engine(move |db| async move {
        for name in names {
            let body = serde_json::json!({ "says": name }).to_string();
            db.create_resource(&draft("model", name, &body), None).await.unwrap();
        }
        for name in names {
            let found = db.resource("model", name).await.unwrap();
            assert_eq!(found.name, name);
            assert_eq!(found.body, serde_json::json!({ "says": name }).to_string());
        }
        let mut sorted = names;
        sorted.sort_unstable();
        let all = db.all_resources("model").await.unwrap();
        assert_eq!(all.iter().map(|resource| &*resource.name).collect::<Vec<_>>(), sorted);
        for name in names {
            db.delete_resource("model", name, None, None).await.unwrap();
        }
        assert!(db.all_resources("model").await.unwrap().is_empty());
        assert!(matches!(db.resource("model", "a\0b").await, Err(StoreError::NotFound { .. })));
        let nul = db.delete_resource("model", "a\0b", None, None).await;
        assert!(matches!(nul, Err(StoreError::NotFound { .. })));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_with_what_to_change() {
    on_each_engine(|db| async move {
        let large = format!("\"{}\"", "x".repeat(LONGEST_BODY));
        let cases = [
            (draft("model", "", "{}"), "the name of a model is empty: give one"),
            (draft("model", "a\u{0}", "{}"), "control characters"),
            (draft("model", "a\nb", "{}"), "control characters"),
            (draft("model", &"é".repeat(257), "{}"), "is longer than 512 bytes"),
            (draft("model", "m", "{\"a\":}"), "model `m` is not JSON: expected value"),
            (draft("model", "m", "{} {}"), "is not JSON"),
            (draft("model", "m", &large), "is larger than 1048576 bytes"),
        ];
        for (draft, text) in cases {
            for error in [
                db.create_resource(&draft, None).await.unwrap_err(),
                db.put_resources(std::slice::from_ref(&draft), None).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), base::Kind::Invalid, "{text}");
                assert!(error.to_string().contains(text), "{error}");
            }
        }
        let largest = format!("\"{}\"", "x".repeat(LONGEST_BODY - 2));
        db.create_resource(&draft("model", &"é".repeat(256), &largest), None).await.unwrap();
        assert_eq!(db.all_resources("model").await.unwrap()[0].body, largest);
    })
    .await;
}

#[tokio::test]
async fn pages_meet_without_gap_or_overlap() {
    on_each_engine(|db| async move {
        let drafts: Vec<_> = (0..25).map(|n| draft("rule", &format!("r{n:02}"), "{}")).collect();
        db.put_resources(&drafts, None).await.unwrap();
        db.put_resources(&[draft("role", "other", "{}")], None).await.unwrap();
        let (mut after, mut names) = (0, Vec::new());
        loop {
            let page = db.resources("rule", after, 10).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.id;
            names.extend(page.into_iter().map(|resource| resource.name));
        }
        names.sort_unstable();
        assert_eq!(names, drafts.into_iter().map(|draft| draft.name).collect::<Vec<_>>());
    })
    .await;
}

/// Mutation: without the version in `find`, all eight edits succeed.
#[tokio::test]
async fn of_edits_of_one_version_one_is_made() {
    on_each_engine(|db| async move {
        let other = replica(&db).await;
        db.create_resource(&draft("model", "m", "0"), None).await.unwrap();
        for round in 1..=5_i64 {
            let edits: Vec<_> = (0..8)
                .map(|n| {
                    let db = if n % 2 == 0 { db.clone() } else { other.clone() };
                    tokio::spawn(async move {
                        db.update_resource(&draft("model", "m", &n.to_string()), Some(round), None).await
                    })
                })
                .collect();
            let mut made = Vec::new();
            for edit in edits {
                match edit.await.unwrap() {
                    Ok(resource) => made.push(resource),
                    Err(error) => assert_eq!(error.kind(), base::Kind::Changed, "{error}"),
                }
            }
            assert_eq!(made, [db.resource("model", "m").await.unwrap()]);
            assert_eq!(made[0].version, round + 1);
        }
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn of_creations_of_one_name_one_is_made() {
    on_each_engine(|db| async move {
        let other = replica(&db).await;
        let creations: Vec<_> = (0..8)
            .map(|n| {
                let db = if n % 2 == 0 { db.clone() } else { other.clone() };
                let draft = draft("model", "m", &n.to_string());
                tokio::spawn(async move { db.create_resource(&draft, Some(&by("ann"))).await })
            })
            .collect();
        let mut made = 0;
        for creation in creations {
            match creation.await.unwrap() {
                Ok(_) => made += 1,
                Err(error) => assert_eq!(error.to_string(), "a model named `m` exists already"),
            }
        }
        assert_eq!((made, audited(&db).await, db.revision().await.unwrap()), (1, 1, 1));
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_import_makes_all_or_nothing() {
    on_each_engine(|db| async move {
        let many: Vec<_> = (0..450).map(|n| draft("price", &format!("p{n}"), &n.to_string())).collect();
        let imported = db.put_resources(&many, None).await.unwrap();
        assert_eq!(imported, Imported { created: 450, updated: 0, unchanged: 0 });
        let revision = db.revision().await.unwrap();
        assert_eq!(revision, 1);

        // The same again changes nothing, and nobody is told of a change.
        let imported = db.put_resources(&many, None).await.unwrap();
        assert_eq!(imported, Imported { created: 0, updated: 0, unchanged: 450 });
        assert_eq!(db.revision().await.unwrap(), revision);

        let mixed = [draft("price", "p7", "\"seven\""), draft("price", "p8", "8"), draft("role", "r", "{}")];
        let imported = db.put_resources(&mixed, None).await.unwrap();
        assert_eq!(imported, Imported { created: 1, updated: 1, unchanged: 1 });
        assert_eq!(db.resource("price", "p7").await.unwrap().version, 2);
        assert_eq!(db.resource("price", "p8").await.unwrap().version, 1);
        let changes = db.changes_after(revision).await.unwrap().unwrap();
        let kinds: Vec<_> = changes.iter().map(|change| (&*change.kind, &*change.item)).collect();
        assert_eq!(kinds, [("price", MANY), ("role", MANY)]);

        let twice = [draft("role", "a", "1"), draft("role", "a", "2")];
        let error = db.put_resources(&twice, None).await.unwrap_err();
        assert_eq!(error.to_string(), "a role named `a` is there twice: leave one out");
        let broken = [draft("role", "a", "1"), draft("zone", "z", "nonsense")];
        db.put_resources(&broken, None).await.unwrap_err();
        assert_eq!(db.all_resources("role").await.unwrap().len(), 1);
        assert_eq!(db.put_resources(&[], None).await.unwrap(), Imported::default());
    })
    .await;
}

#[tokio::test]
async fn the_documents_of_a_kind_are_bounded() {
    on_each_engine(|db| async move {
        let many = "INSERT INTO resources (kind, name, body, created_at, updated_at) SELECT 'price', 'p' || n, '0', 0, 0 FROM \
             (WITH RECURSIVE numbers (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < $1) \
             SELECT n FROM numbers) AS all_numbers";
        sqlx::query(many).bind(MOST - 1).execute(db.write()).await.unwrap();
        db.create_resource(&draft("price", "the last", "0"), None).await.unwrap();
        let one = draft("price", "one more", "0");
        let errors = [
            db.create_resource(&one, None).await.unwrap_err(),
            db.put_resources(&[draft("model", "m", "0"), one], None).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains("more than 50000 documents of the kind `price`"), "{error}");
        }
        assert!(db.all_resources("model").await.unwrap().is_empty());
        assert_eq!(i64::try_from(db.all_resources("price").await.unwrap().len()).unwrap(), MOST);
    })
    .await;
}

/// Mutation: with the change noted after the rows instead of before, PostgreSQL reports a deadlock.
#[tokio::test]
async fn imports_in_opposite_orders_do_not_wait_for_each_other() {
    on_each_engine(|db| async move {
        let other = replica(&db).await;
        let many: Vec<_> = (0..400).map(|n| draft("price", &format!("p{n}"), "0")).collect();
        db.put_resources(&many, None).await.unwrap();
        for round in 0..5 {
            let imports: Vec<_> = (0..6)
                .map(|n| {
                    let db = if n % 2 == 0 { db.clone() } else { other.clone() };
                    let body = format!("{round}{n}").trim_start_matches('0').to_owned() + "0";
                    let mut drafts: Vec<_> =
                        many.iter().map(|one| draft("price", &one.name, &body)).collect();
                    if n % 2 == 1 {
                        drafts.reverse();
                    }
                    tokio::spawn(async move { db.put_resources(&drafts, Some(&by("ann"))).await })
                })
                .collect();
            for import in imports {
                import.await.unwrap().unwrap();
            }
            let bodies: BTreeSet<_> =
                db.all_resources("price").await.unwrap().into_iter().map(|one| one.body).collect();
            assert_eq!(bodies.len(), 1, "one import won as a whole");
        }
        other.close().await;
    })
    .await;
}
