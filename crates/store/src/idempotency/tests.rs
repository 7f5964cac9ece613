use super::*;
use crate::testing::{on_each_engine, replica};

async fn claim(db: &Db, actor: &str, key: &str, fingerprint: &str) -> Claim {
    match db.begin_idempotent(actor, key, fingerprint).await.unwrap() {
        Idempotency::Fresh(claim) => claim,
        other => panic!("{other:?}"),
    }
}

async fn age(db: &Db, by: i64) {
    sqlx::query("UPDATE idempotency SET at = at - $1").bind(by).execute(db.write()).await.unwrap();
}

#[tokio::test]
async fn a_request_is_done_once_and_answered_again() {
    on_each_engine(|db| async move {
        let first = claim(&db, "admin", "k", "f").await;
        let again = db.begin_idempotent("admin", "k", "f").await.unwrap();
        assert!(matches!(again, Idempotency::InProgress { since } if since == first.at));
        assert_eq!(db.begin_idempotent("admin", "k", "g").await.unwrap(), Idempotency::Conflict);

        let answer = "sealed Ünïcode '; DROP TABLE idempotency; --".repeat(1000);
        db.finish_idempotent(&first, 201, &answer).await.unwrap();
        let again = db.begin_idempotent("admin", "k", "f").await.unwrap();
        assert_eq!(again, Idempotency::Replay { status: 201, answer: answer.clone() });
        assert_eq!(db.begin_idempotent("admin", "k", "g").await.unwrap(), Idempotency::Conflict);

        // What is done stays done.
        db.forget_idempotent(&first).await.unwrap();
        db.finish_idempotent(&first, 500, "other").await.unwrap();
        let again = db.begin_idempotent("admin", "k", "f").await.unwrap();
        assert_eq!(again, Idempotency::Replay { status: 201, answer });

        // Another caller's keys are another's.
        claim(&db, "7", "k", "g").await;
        claim(&db, "admin", "K", "g").await;
    })
    .await;
}

#[tokio::test]
async fn what_was_not_done_may_be_sent_again() {
    on_each_engine(|db| async move {
        let first = claim(&db, "admin", "'; --", "f").await;
        db.forget_idempotent(&first).await.unwrap();
        let second = claim(&db, "admin", "'; --", "g").await;
        db.finish_idempotent(&second, 204, "").await.unwrap();
        let again = db.begin_idempotent("admin", "'; --", "g").await.unwrap();
        assert_eq!(again, Idempotency::Replay { status: 204, answer: String::new() });
    })
    .await;
}

/// Mutation: without the age of the row in `ON CONFLICT … WHERE`, every copy is fresh.
#[tokio::test]
async fn of_copies_at_once_on_two_replicas_one_is_fresh() {
    on_each_engine(|db| async move {
        let other = replica(&db).await;
        for round in 0..10 {
            let key = format!("k{round}");
            if round % 2 == 1 {
                // An expired row is taken over once, too.
                claim(&db, "admin", &key, "old").await;
                age(&db, IDEMPOTENCY_KEEP_MS + 1000).await;
            }
            let copies: Vec<_> = (0..8)
                .map(|n| {
                    let (db, key) = (if n % 2 == 0 { db.clone() } else { other.clone() }, key.clone());
                    tokio::spawn(async move { db.begin_idempotent("admin", &key, "f").await.unwrap() })
                })
                .collect();
            let mut fresh = 0;
            for copy in copies {
                match copy.await.unwrap() {
                    Idempotency::Fresh(_) => fresh += 1,
                    Idempotency::InProgress { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(fresh, 1, "round {round}");
        }
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_day_later_a_key_is_new() {
    on_each_engine(|db| async move {
        let first = claim(&db, "admin", "k", "f").await;
        db.finish_idempotent(&first, 201, "one").await.unwrap();
        age(&db, IDEMPOTENCY_KEEP_MS - 60_000).await;
        let kept = db.begin_idempotent("admin", "k", "f").await.unwrap();
        assert_eq!(kept, Idempotency::Replay { status: 201, answer: "one".into() });
        age(&db, 60_001).await;
        let second = claim(&db, "admin", "k", "g").await;
        // Who began a day ago cannot answer for who has it now.
        db.finish_idempotent(&first, 201, "one").await.unwrap();
        db.forget_idempotent(&first).await.unwrap();
        let state = db.begin_idempotent("admin", "k", "g").await.unwrap();
        assert!(matches!(state, Idempotency::InProgress { .. }));
        db.finish_idempotent(&second, 201, "two").await.unwrap();
        let state = db.begin_idempotent("admin", "k", "g").await.unwrap();
        assert_eq!(state, Idempotency::Replay { status: 201, answer: "two".into() });
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_removed() {
    on_each_engine(|db| async move {
        for n in 0..5 {
            claim(&db, "admin", &format!("old{n}"), "f").await;
        }
        age(&db, IDEMPOTENCY_KEEP_MS).await;
        let young = claim(&db, "admin", "young", "f").await;
        assert_eq!(db.prune_idempotency().await.unwrap(), 5);
        assert_eq!(db.prune_idempotency().await.unwrap(), 0);
        let kept = db.begin_idempotent("admin", "young", "f").await.unwrap();
        assert_eq!(kept, Idempotency::InProgress { since: young.at });
    })
    .await;
}

#[tokio::test]
async fn keys_that_cannot_be_kept_are_refused() {
    on_each_engine(|db| async move {
        for key in ["", "a\0b", "a\nb", &"é".repeat(256)] {
            let error = db.begin_idempotent("admin", key, "f").await.unwrap_err();
            assert_eq!(error.kind(), base::Kind::Invalid, "{error}");
        }
        let longest = claim(&db, "admin", &"é".repeat(255), "f").await;
        let answer = "x".repeat(LONGEST_ANSWER + 1);
        let error = db.finish_idempotent(&longest, 201, &answer).await.unwrap_err();
        assert_eq!(error.kind(), base::Kind::Invalid);
        db.finish_idempotent(&longest, 201, &answer[1..]).await.unwrap();
    })
    .await;
}
