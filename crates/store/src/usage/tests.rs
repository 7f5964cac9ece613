use super::*;
use crate::ledger::Batch;
use crate::settings::PoolSettings;
use crate::testing::{on_each_engine, on_postgres, replica};

const DAY_MS: i64 = 86_400_000;

fn record(n: i64) -> UsageRecord {
    UsageRecord {
        at: 100 * DAY_MS + n * DAY_MS / 2,
        request_id: format!("req-{n}"),
        key_id: Some(n % 3 + 1).filter(|key| *key != 3),
        group_id: Some(n % 2 + 1),
        user: (n % 2 == 0).then(|| format!("user{n}")),
        operation: "chat".into(),
        model: "smart".into(),
        provider: if n % 4 == 0 { "lab" } else { "openai" }.into(),
        provider_model: if n % 3 == 0 { "gpt-模" } else { "'; DROP TABLE usage; --" }.into(),
        status: if n % 5 == 0 { 502 } else { 200 },
        outcome: if n % 5 == 0 { base::Outcome::Failed } else { base::Outcome::Ok }.as_str().into(),
        stream: n % 2 == 0,
        attempts: 1,
        duration_us: 1000,
        first_token_us: (n % 2 == 0).then_some(100),
        input: 10,
        cached_input: 2,
        output: 5,
        reasoning: 1,
        estimated: false,
        priced: n % 7 != 0,
        cost: n * 1_000_000_000 + 1,
        tags: match n % 3 {
            0 => vec!["a".into(), "b".into()],
            1 => vec!["a".into()],
            _ => Vec::new(),
        },
    }
}

async fn apply(db: &Db, records: &[UsageRecord]) {
    let from = db.applied("r", "j").await.unwrap();
    let to = from + i64::try_from(records.len()).unwrap();
    let calls = records.iter().collect();
    db.apply(&Batch { replica: "r", journal: "j", from, to, calls: &calls }).await.unwrap().unwrap();
}

fn days() -> UsageQuery {
    UsageQuery { from_day: 0, to_day: 1000, ..UsageQuery::default() }
}

/// What the queries must answer, added up from the records themselves.
fn sums(records: &[UsageRecord], which: impl Fn(&UsageRecord) -> bool) -> UsageSums {
    let mut sums = UsageSums::default();
    for record in records.iter().filter(|record| which(record)) {
        sums.requests += 1;
        sums.failed += i64::from(record.outcome != "ok");
        sums.unpriced += i64::from(!record.priced);
        sums.input += i64::try_from(record.input).unwrap();
        sums.cached_input += i64::try_from(record.cached_input).unwrap();
        sums.output += i64::try_from(record.output).unwrap();
        sums.reasoning += i64::try_from(record.reasoning).unwrap();
        sums.cost += Money::nanos(record.cost);
    }
    sums
}

#[tokio::test]
async fn sums_are_those_of_the_requests_by_whatever_is_asked() {
    on_each_engine(|db| async move {
        let records: Vec<_> = (1..=60).map(record).collect();
        let total = sums(&records, |_| true);
        assert_eq!(db.summarize_usage(&days()).await.unwrap(), UsageSummary::default());
        apply(&db, &records).await;

        let none = db.summarize_usage(&days()).await.unwrap();
        assert_eq!(none, UsageSummary { rows: Vec::new(), truncated: false, total });

        for dimension in Dimension::ALL {
            let query = UsageQuery { group_by: vec![dimension, dimension], ..days() };
            let summary = db.summarize_usage(&query).await.unwrap();
            assert!(!summary.truncated && summary.total == total);
            for row in &summary.rows {
                let which = |record: &UsageRecord| match dimension {
                    Dimension::Day => row.day == Some(record.at / DAY_MS),
                    Dimension::Key => row.key_id == Some(record.key_id.unwrap_or_default()),
                    Dimension::Group => row.group_id == record.group_id,
                    Dimension::Model => row.model.as_ref() == Some(&record.provider_model),
                    Dimension::Provider => row.provider.as_ref() == Some(&record.provider),
                    Dimension::Tag => row.tag.as_ref().is_some_and(|tag| record.tags.contains(tag)),
                };
                assert_eq!(row.sums, sums(&records, which), "{row:?}");
            }
            let rows = summary.rows.len();
            let expected = match dimension {
                Dimension::Day => 31,
                Dimension::Key => 3,
                _ => 2,
            };
            assert_eq!(rows, expected, "{dimension:?}");
        }

        let all = UsageQuery { group_by: Dimension::ALL.to_vec(), ..days() };
        let all = db.summarize_usage(&all).await.unwrap();
        let first = &all.rows[0];
        assert!(first.day.is_some() && first.key_id.is_some() && first.group_id.is_some());
        assert!(first.model.is_some() && first.provider.is_some() && first.tag.is_some());
    })
    .await;
}

#[tokio::test]
async fn filters_hold_for_the_rows_and_the_total() {
    on_each_engine(|db| async move {
        let records: Vec<_> = (1..=60).map(record).collect();
        apply(&db, &records).await;
        type Which = fn(&UsageRecord) -> bool;
        let cases: [(UsageQuery, Which); 8] = [
            (UsageQuery { from_day: 105, to_day: 107, ..days() }, |one| {
                (105..=107).contains(&(one.at / DAY_MS))
            }),
            (UsageQuery { key_id: Some(1), ..days() }, |one| one.key_id == Some(1)),
            (UsageQuery { key_id: Some(0), ..days() }, |one| one.key_id.is_none()),
            (UsageQuery { group_id: Some(2), ..days() }, |one| one.group_id == Some(2)),
            (UsageQuery { provider: Some("lab".into()), ..days() }, |one| one.provider == "lab"),
            (UsageQuery { model: Some("'; DROP TABLE usage; --".into()), ..days() }, |one| {
                one.provider_model.starts_with('\'')
            }),
            (UsageQuery { tag: Some("b".into()), ..days() }, |one| one.tags.contains(&"b".into())),
            (
                UsageQuery {
                    tag: Some("a".into()),
                    group_id: Some(1),
                    model: Some("gpt-模".into()),
                    ..days()
                },
                |one| {
                    one.tags.contains(&"a".into())
                        && one.group_id == Some(1)
                        && one.provider_model == "gpt-模"
                },
            ),
        ];
        for (query, which) in cases {
            let expected = sums(&records, which);
            assert!(expected.requests > 0);
            for group_by in [Dimension::Day, Dimension::Key] {
                let query = UsageQuery { group_by: vec![group_by], ..query.clone() };
                let summary = db.summarize_usage(&query).await.unwrap();
                assert_eq!(summary.total, expected, "{query:?}");
                let added = summary.rows.iter().map(|row| row.sums.requests).sum::<i64>();
                assert_eq!(added, expected.requests, "{query:?}");
            }
        }
        for nothing in ["' OR ''='", "%", "$1", "a\0", "A"] {
            let query = UsageQuery { tag: Some(nothing.into()), group_by: vec![Dimension::Tag], ..days() };
            assert_eq!(db.summarize_usage(&query).await.unwrap(), UsageSummary::default(), "{nothing:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn days_come_in_order_and_then_the_dearest_first() {
    on_each_engine(|db| async move {
        let costs =
            [("b", 1, 2_000_000_000), ("a", 10, 900_000_000), ("d", 1, 500), ("c", 1, 500), ("e", 1, -7)];
        for day in [3, 1, 2] {
            for (model, times, cost) in costs {
                let one = UsageRecord { at: day * DAY_MS, provider_model: model.into(), cost, ..record(1) };
                apply(&db, &vec![one; times]).await;
            }
        }
        let query = UsageQuery { group_by: vec![Dimension::Model, Dimension::Day], ..days() };
        let rows = db.summarize_usage(&query).await.unwrap().rows;
        let order: Vec<_> =
            rows.iter().map(|row| (row.day.unwrap(), row.model.as_deref().unwrap())).collect();
        let expected: Vec<_> =
            (1..=3).flat_map(|day| ["a", "b", "c", "d", "e"].map(|model| (day, model))).collect();
        assert_eq!(order, expected);
    })
    .await;
}

/// Mutation: with `SUM(cost)` instead of two parts, SQLite reports an overflow and PostgreSQL a number out of range.
#[tokio::test]
async fn sums_beyond_the_engines_integers_are_held_at_the_largest() {
    on_each_engine(|db| async move {
        for key in 1..=3 {
            let insert = "INSERT INTO usage_daily (day, group_id, key_id, provider, model, tag, requests, failed, unpriced, \
                 input, cached_input, output, reasoning, cost) VALUES (1, 1, $1, 'p', 'm', '', 1, 0, 0, $2, $2, $3, 5, $3)";
            let query = sqlx::query(insert).bind(key).bind(i64::MAX).bind(-4_000_000_000_000_000_007_i64);
            query.execute(db.write()).await.unwrap();
        }
        let query = UsageQuery { group_by: vec![Dimension::Key], ..days() };
        let summary = db.summarize_usage(&query).await.unwrap();
        assert_eq!((summary.total.input, summary.total.output), (i64::MAX, i64::MIN));
        assert_eq!((summary.total.requests, summary.total.reasoning), (3, 15));
        assert_eq!(summary.rows.len(), 3);
        assert!(summary.rows.iter().all(|row| row.sums.input == i64::MAX));
        assert!(summary.rows.iter().all(|row| row.sums.cost == Money::nanos(-4_000_000_000_000_000_007)));
        let one = UsageQuery { key_id: Some(2), ..days() };
        let one = db.summarize_usage(&one).await.unwrap().total;
        assert_eq!((one.input, one.output), (i64::MAX, -4_000_000_000_000_000_007));
    })
    .await;
}

#[tokio::test]
async fn summaries_are_bounded() {
    on_each_engine(|db| async move {
        let backwards = UsageQuery { from_day: 2, to_day: 1, ..days() };
        let long = UsageQuery { from_day: i64::MIN, to_day: i64::MAX, ..days() };
        for query in [backwards, long] {
            let error = db.summarize_usage(&query).await.unwrap_err();
            assert_eq!(error.kind(), base::Kind::Invalid, "{error}");
        }
        let rows = i64::try_from(USAGE_ROWS).unwrap() + 5;
        let many = "INSERT INTO usage_daily SELECT 1, 1, n, 'p', 'm', '', 1, 0, 0, 0, 0, 0, 0, n FROM \
             (WITH RECURSIVE numbers (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < $1) \
             SELECT n FROM numbers) AS all_numbers";
        sqlx::query(many).bind(rows).execute(db.write()).await.unwrap();
        let query = UsageQuery { group_by: vec![Dimension::Key], ..days() };
        let summary = db.summarize_usage(&query).await.unwrap();
        assert_eq!((summary.rows.len(), summary.truncated), (USAGE_ROWS, true));
        assert_eq!((summary.rows[0].key_id, summary.total.requests), (Some(rows), rows));
        assert_eq!(summary.rows[USAGE_ROWS - 1].key_id, Some(6), "the cheapest are left out");
    })
    .await;
}

#[tokio::test]
async fn requests_are_listed_as_they_were_kept() {
    on_each_engine(|db| async move {
        let mut records: Vec<_> = (1..=30).map(record).collect();
        records[6].request_id = "é'; --".into();
        records[7] = UsageRecord {
            user: Some("Ünïcode 🦀".into()),
            input: u64::try_from(i64::MAX).unwrap(),
            cost: i64::MIN,
            attempts: u32::MAX,
            estimated: true,
            ..records[7].clone()
        };
        apply(&db, &records).await;

        let all = db.requests(&RequestFilter::default(), 0, 100).await.unwrap();
        assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id));
        assert!(all.iter().rev().map(|row| &row.record).eq(&records));

        let (mut after, mut paged) = (0, Vec::new());
        loop {
            let page = db.requests(&RequestFilter::default(), after, 7).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.id;
            paged.extend(page);
        }
        assert_eq!(paged, all);

        type Which = fn(&UsageRecord) -> bool;
        let none = RequestFilter::default;
        let (from, to) = (Some(105 * DAY_MS), Some(107 * DAY_MS));
        let cases: [(RequestFilter, Which); 11] = [
            (RequestFilter { from, to, ..none() }, |one| (105..107).contains(&(one.at / DAY_MS))),
            (RequestFilter { key_id: Some(2), ..none() }, |one| one.key_id == Some(2)),
            (RequestFilter { group_id: Some(1), ..none() }, |one| one.group_id == Some(1)),
            (RequestFilter { user: Some("Ünïcode 🦀".into()), ..none() }, |one| one.attempts == u32::MAX),
            (RequestFilter { model: Some("smart".into()), ..none() }, |_| true),
            (RequestFilter { model: Some("gpt-模".into()), ..none() }, |one| one.provider_model == "gpt-模"),
            (RequestFilter { provider: Some("lab".into()), ..none() }, |one| one.provider == "lab"),
            (RequestFilter { status: Some(502), ..none() }, |one| one.status == 502),
            (RequestFilter { outcome: Some("ok".into()), ..none() }, |one| one.outcome == "ok"),
            (RequestFilter { request_id: Some("é'; --".into()), ..none() }, |one| {
                one.request_id == "é'; --"
            }),
            (RequestFilter { from, key_id: Some(1), status: Some(200), ..none() }, |one| {
                one.at >= 105 * DAY_MS && one.key_id == Some(1) && one.status == 200
            }),
        ];
        for (filter, which) in cases {
            let found = db.requests(&filter, 0, 100).await.unwrap();
            assert!(!found.is_empty(), "{filter:?}");
            let expected = records.iter().rev().filter(|record| which(record));
            assert!(found.iter().map(|row| &row.record).eq(expected), "{filter:?}");
        }
        let injected = RequestFilter { user: Some("' OR 1=1 --".into()), ..none() };
        assert!(db.requests(&injected, 0, 100).await.unwrap().is_empty());
        assert_eq!(db.requests(&none(), 0, i64::MIN).await.unwrap().len(), 1);
    })
    .await;
}

/// Mutation: with `page - 1` left out of the next look, pages come twice; without the look at the id, calls do.
#[tokio::test]
async fn requests_are_found_across_pages() {
    on_each_engine(|db| async move {
        // Large batches of two full pages and a bit, and small ones.
        let records: Vec<_> = (1..=2_400).map(record).collect();
        for (index, batch) in records.chunks(1_100).enumerate() {
            let (large, small) = batch.split_at(batch.len() - index);
            apply(&db, large).await;
            for one in small {
                apply(&db, std::slice::from_ref(one)).await;
            }
        }
        let rare = RequestFilter { request_id: Some("req-3".into()), ..RequestFilter::default() };
        let keyed = RequestFilter { key_id: Some(2), group_id: Some(1), ..RequestFilter::default() };
        let late = RequestFilter { from: Some(records[2_000].at), ..RequestFilter::default() };
        type Which = fn(&UsageRecord) -> bool;
        let cases: [(RequestFilter, Which); 4] = [
            (RequestFilter::default(), |_| true),
            (rare, |one| one.request_id == "req-3"),
            (keyed, |one| one.key_id == Some(2) && one.group_id == Some(1)),
            (late, |one| one.at >= record(2_001).at),
        ];
        for (filter, which) in cases {
            let (mut after, mut found) = (0, Vec::new());
            loop {
                let page = db.requests(&filter, after, 333).await.unwrap();
                let Some(last) = page.last() else { break };
                after = last.id;
                found.extend(page.into_iter().map(|row| row.record));
            }
            let expected = records.iter().rev().filter(|record| which(record));
            assert!(found.iter().eq(expected), "{filter:?}: {}", found.len());
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_of_a_newer_form_is_told_and_not_guessed() {
    on_each_engine(|db| async move {
        apply(&db, &[record(1)]).await;
        sqlx::query("UPDATE usage_pages SET body = $1").bind(vec![99_u8]).execute(db.write()).await.unwrap();
        let error = db.requests(&RequestFilter::default(), 0, 10).await.unwrap_err().to_string();
        assert!(error.contains("newer form"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn old_requests_go_and_their_sums_stay() {
    on_each_engine(|db| async move {
        let records: Vec<_> = (0..2500).map(|n| UsageRecord { at: n, key_id: None, ..record(1) }).collect();
        apply(&db, &records).await;
        let other = replica(&db).await;
        let pruned =
            [db.clone(), other.clone()].map(|db| tokio::spawn(async move { db.prune_requests(2400).await }));
        let mut removed = 0;
        for one in pruned {
            removed += one.await.unwrap().unwrap();
        }
        assert_eq!(removed, 2400);
        let left = db.requests(&RequestFilter::default(), 0, 1000).await.unwrap();
        assert_eq!(left.len(), 100);
        assert!(left.iter().all(|row| row.record.at >= 2400));
        assert_eq!(db.summarize_usage(&days()).await.unwrap().total.requests, 2500);
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn old_sums_go_a_day_at_a_time() {
    on_each_engine(|db| async move {
        let records: Vec<_> = (0..20).map(|n| UsageRecord { at: n * DAY_MS, ..record(0) }).collect();
        apply(&db, &records).await;
        // Of each day a row without a tag and one for each of its two.
        assert_eq!(db.prune_usage_daily(15).await.unwrap(), 45);
        assert_eq!(db.prune_usage_daily(15).await.unwrap(), 0);
        let query = UsageQuery { group_by: vec![Dimension::Day], ..days() };
        let rows = db.summarize_usage(&query).await.unwrap().rows;
        assert_eq!(rows.iter().filter_map(|row| row.day).collect::<Vec<_>>(), [15, 16, 17, 18, 19]);
    })
    .await;
}

/// C03. Mutation: with `read()` instead of `read_any()` the primary's rows are seen.
#[tokio::test]
async fn promise_c03_usage_is_asked_of_the_read_replica() {
    on_postgres(|db| async move {
        apply(&db, &[record(1)]).await;
        // A schema of its own stands for a replica that is behind.
        for statement in [
            "CREATE SCHEMA behind",
            "CREATE TABLE behind.usage_pages (LIKE public.usage_pages)",
            "CREATE TABLE behind.usage_daily (LIKE public.usage_daily)",
        ] {
            sqlx::raw_sql(statement).execute(db.write()).await.unwrap();
        }
        let behind = format!("{}?options=-c%20search_path%3Dbehind", db.url());
        let db = Db::open(
            db.url(),
            Some(&behind),
            &PoolSettings { max_connections: 2, ..PoolSettings::default() },
        )
        .await
        .unwrap();
        assert_eq!(db.summarize_usage(&days()).await.unwrap(), UsageSummary::default());
        assert!(db.requests(&RequestFilter::default(), 0, 10).await.unwrap().is_empty());
        db.close().await;
    })
    .await;
}
