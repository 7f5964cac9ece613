use super::*;
use crate::UsageRecord;
use crate::groups::{GroupFields, TransactionKind};
use crate::testing::{on_each_engine, replica};

async fn group(db: &Db, name: &str, balance: i64) -> i64 {
    let fields = GroupFields { name: name.into(), ..GroupFields::default() };
    db.create_group(&fields, Money::nanos(balance), "test").await.unwrap().id
}

fn record(group: i64, cost: i64) -> UsageRecord {
    UsageRecord {
        at: 86_400_000 * 20_000 + 5,
        request_id: "r".into(),
        group_id: Some(group),
        operation: "chat".into(),
        outcome: "ok".into(),
        input: 7,
        output: 3,
        priced: true,
        cost,
        tags: vec!["blue".into()],
        ..UsageRecord::default()
    }
}

#[tokio::test]
async fn leases_move_money_and_never_make_it() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 1_000).await;
        db.register_replica("a", "file", "1").await.unwrap();
        let grant = db.lease("a", id, Money::nanos(10), Money::nanos(500)).await.unwrap();
        assert_eq!((grant.granted, grant.left), (Money::nanos(62), Money::nanos(938)), "a sixteenth");
        let seen = db.group(id).await.unwrap();
        assert_eq!(
            (seen.balance, seen.held),
            (Money::nanos(1_000), Money::nanos(62)),
            "held is shown, not spent"
        );

        let batch = Batch {
            replica: "a",
            journal: "a-0",
            from: 0,
            to: 40,
            calls: &[record(id, 30)].iter().collect(),
        };
        assert!(db.apply(&batch).await.unwrap().is_some());
        assert!(db.apply(&batch).await.unwrap().is_none(), "a journal is applied once");
        let seen = db.group(id).await.unwrap();
        assert_eq!(
            (seen.balance, seen.held, seen.spent),
            (Money::nanos(970), Money::nanos(32), Money::nanos(30))
        );

        db.give_back("a", id, Money::nanos(20)).await.unwrap();
        db.release_replica("a", false).await.unwrap();
        let seen = db.group(id).await.unwrap();
        assert_eq!((seen.balance, seen.held), (Money::nanos(970), Money::ZERO));
        // Who comes late is charged all the same.
        let late =
            Batch { replica: "a", journal: "a-1", from: 0, to: 9, calls: &[record(id, 5)].iter().collect() };
        db.apply(&late).await.unwrap().unwrap();
        assert_eq!(db.group(id).await.unwrap().balance, Money::nanos(965));
    })
    .await;
}

#[tokio::test]
async fn many_replicas_lease_exactly_what_there_is() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 100).await;
        let mut asking = tokio::task::JoinSet::new();
        for name in ["a", "b", "c", "d"] {
            let db = replica(&db).await;
            asking.spawn(async move {
                let mut granted = 0;
                loop {
                    match db
                        .lease(name, id, Money::nanos(3), Money::nanos(3))
                        .await
                        .unwrap()
                        .granted
                        .as_nanos()
                    {
                        0 => return granted,
                        more => granted += more,
                    }
                }
            });
        }
        let granted: i64 = asking.join_all().await.into_iter().sum();
        assert_eq!(granted, 99, "33 times 3, and the last one is not enough for a call");
        assert_eq!(db.group(id).await.unwrap().held, Money::nanos(99));
    })
    .await;
}

#[tokio::test]
async fn who_is_short_gets_back_what_others_hold() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 10).await;
        for name in ["a", "b"] {
            db.register_replica(name, "file", "1").await.unwrap();
        }
        db.lease("b", id, Money::nanos(8), Money::nanos(8)).await.unwrap();
        assert_eq!(db.lease("a", id, Money::nanos(5), Money::nanos(5)).await.unwrap().granted, Money::ZERO);
        assert_eq!(db.ask_back("a", id, 0).await.unwrap(), 1);
        assert_eq!(
            (db.asked_of("b").await.unwrap(), db.unanswered("a", id, 0).await.unwrap()),
            (vec![id], 1)
        );
        db.give_back("b", id, Money::nanos(6)).await.unwrap();
        assert_eq!((db.asked_of("b").await.unwrap(), db.unanswered("a", id, 0).await.unwrap()), (vec![], 0));
        assert_eq!(
            db.lease("a", id, Money::nanos(5), Money::nanos(5)).await.unwrap().granted,
            Money::nanos(5)
        );
        // A replica that is silent is not waited for.
        assert_eq!(db.ask_back("a", id, now_ms() + 60_000).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn usage_is_added_up_by_day_and_tag() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 1_000).await;
        for (from, to) in [(0, 1), (1, 2)] {
            let calls = [record(id, 10), record(id, 20)].iter().collect();
            let batch = Batch { replica: "a", journal: "j", from, to, calls: &calls };
            db.apply(&batch).await.unwrap().unwrap();
        }
        let query =
            "SELECT requests, input, output, cost, tag FROM usage_daily WHERE day = 20000 ORDER BY tag";
        let rows = sqlx::query(query).fetch_all(db.read()).await.unwrap();
        let read = |row: &sqlx::any::AnyRow| {
            let number = |at: usize| row.get::<i64, _>(at);
            (number(0), number(1), number(2), number(3), row.get::<String, _>(4))
        };
        let rows: Vec<_> = rows.iter().map(read).collect();
        assert_eq!(rows, [(4, 28, 12, 60, String::new()), (4, 28, 12, 60, "blue".to_owned())]);
        let count: i64 = sqlx::query_scalar("SELECT CAST(SUM(calls) AS BIGINT) FROM usage_pages")
            .fetch_one(db.read())
            .await
            .unwrap();
        assert_eq!(count, 4);
    })
    .await;
}

#[tokio::test]
async fn alerts_are_told_once_and_again_after_a_credit() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 100).await;
        let mut place = 0;
        let mut spend = async |cost: i64| {
            let calls = [record(id, cost)].iter().collect();
            let batch = Batch { replica: "a", journal: "j", from: place, to: place + 1, calls: &calls };
            place += 1;
            let applied = db.apply(&batch).await.unwrap().unwrap();
            applied.alerts.iter().map(|alert| alert.percent).collect::<Vec<_>>()
        };
        assert_eq!(spend(49).await, [0; 0]);
        assert_eq!(spend(1).await, [50]);
        assert_eq!(spend(10).await, [0; 0], "told already");
        assert_eq!(spend(30).await, [90], "the highest that was crossed");
        assert_eq!(spend(20).await, [100]);
        db.transact(id, TransactionKind::Credit, Money::nanos(100), "", "test").await.unwrap();
        assert_eq!(spend(1).await, [0; 0], "55 % of 200 was known when the credit came");
        assert_eq!(spend(60).await, [80]);
    })
    .await;
}

fn bytes(record: &UsageRecord) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.as_call().encode(&mut bytes);
    bytes
}

fn open(call: i64, group: i64) -> Reservation {
    let record = bytes(&record(group, 0));
    Reservation { call, group_id: Some(group), amount: Money::nanos(9), record, at: 1 }
}

#[tokio::test]
async fn calls_opened_in_the_store_are_settled_once() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 100).await;
        assert!(!db.open_calls("a", &[open(1, id)]).await.unwrap(), "nobody knows this replica");
        db.register_replica("a", "store", "1").await.unwrap();
        assert!(db.open_calls("a", &[open(1, id), open(2, id), open(3, id)]).await.unwrap());
        let ended = |call, cost| Ended { call, record: Some(bytes(&record(id, cost))) };
        let unsent = Ended { call: 3, record: None };
        for charged in [1, 0] {
            let (_, calls) =
                db.settle_calls("a", &[ended(1, 5), ended(7, 50), unsent.clone()]).await.unwrap();
            assert_eq!(calls.len(), charged);
        }
        let left = db.open_reservations("a").await.unwrap();
        assert_eq!((left, db.group(id).await.unwrap().spent), (vec![open(2, id)], Money::nanos(5)));
    })
    .await;
}

/// Mutation: without the look at which rows were removed, both charge all calls.
#[tokio::test]
async fn what_the_dead_left_open_is_charged_once_with_what_was_set_aside() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 1_000).await;
        db.register_replica("dead", "store", "1").await.unwrap();
        let calls: Vec<Reservation> = (0..50).map(|call| open(call, id)).collect();
        assert!(db.open_calls("dead", &calls).await.unwrap());
        let mut charging = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let db = replica(&db).await;
            charging.spawn(async move {
                let charged = db.charge_reservations("dead").await.unwrap();
                db.close().await;
                charged
            });
        }
        assert_eq!(charging.join_all().await.into_iter().sum::<usize>(), 50);
        let seen = db.group(id).await.unwrap();
        assert_eq!((seen.spent, seen.balance), (Money::nanos(450), Money::nanos(550)));
        let kept = db.requests(&crate::RequestFilter::default(), 0, 100).await.unwrap();
        assert_eq!(kept.len(), 50);
        assert!(
            kept.iter()
                .all(|row| row.record.estimated && row.record.cost == 9 && row.record.outcome == "failed")
        );
    })
    .await;
}

#[tokio::test]
async fn balances_stay_within_what_is_read() {
    on_each_engine(|db| async move {
        let id = group(&db, "g", 0).await;
        db.transact(id, TransactionKind::Credit, Money::MAX, "all", "test").await.unwrap();
        let more = db.transact(id, TransactionKind::Credit, Money::nanos(1), "", "test").await.unwrap_err();
        assert!(matches!(more, StoreError::Invalid(_)), "{more}");
        let missing =
            db.transact(99, TransactionKind::Credit, Money::nanos(1), "", "test").await.unwrap_err();
        assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
    })
    .await;
}
