//! What every ledger does for the queue of a broker.

use std::time::Duration;

use base::seams::{DeadLetter, Depth, Ledger, Note, Parked, SeamError, Which};
use bytes::Bytes;

/// Runs all of it, in queues whose names begin with `name`; they are empty afterwards.
pub async fn ledger(ledger: &dyn Ledger, name: &str) -> Result<(), SeamError> {
    let queue = format!("{name}.ledger");
    parked(ledger, &queue).await?;
    notes(ledger, &queue).await?;
    buried(ledger, &queue).await
}

fn message(id: &str, attempts: u32) -> Parked {
    Parked {
        id: id.to_owned(),
        body: Bytes::from(format!("body of {id}")),
        attempts,
        reason: (attempts > 0).then(|| "failed".to_owned()),
        enqueued_at: Some(7),
        due_at: 0,
    }
}

async fn parked(ledger: &dyn Ledger, queue: &str) -> Result<(), SeamError> {
    let lease = Duration::from_secs(60);
    let later = Parked { due_at: i64::MAX / 2, ..message("c", 0) };
    ledger.park(queue, &[message("a", 1), message("b", 0), later]).await?;
    ledger.park(queue, &[message("a", 2)]).await?;
    assert_eq!(ledger.depth(queue).await?, Depth { waiting: 2, delayed: 1, ..Depth::default() });
    let mut taken = ledger.pull(queue, 10, lease, Duration::ZERO).await?;
    taken.sort_by(|x, y| x.id.cmp(&y.id));
    let shown: Vec<_> =
        taken.iter().map(|d| (d.id.as_str(), d.attempt, d.reason.as_deref(), d.enqueued_at)).collect();
    assert_eq!(shown, [("a", 3, Some("failed"), Some(7)), ("b", 1, None, Some(7))]);
    for delivery in &taken {
        ledger.ack(delivery).await?;
    }
    assert_eq!(ledger.purge(queue).await?, 1);
    Ok(())
}

async fn notes(ledger: &dyn Ledger, queue: &str) -> Result<(), SeamError> {
    let note = |attempts| Note { id: "n".into(), attempts, reason: Some("why".into()), due_at: 5 };
    let ids = ["m".to_owned(), "n".to_owned()];
    assert!(ledger.notes(queue, &ids).await?.is_empty());
    ledger.note(queue, &note(1)).await?;
    ledger.note(queue, &note(2)).await?;
    assert_eq!(ledger.notes(queue, &ids).await?, [note(2)]);
    assert!(ledger.notes("another", &ids).await?.is_empty());
    assert_eq!(ledger.depth(queue).await?, Depth::default(), "a note is no message");
    assert!(ledger.pull(queue, 10, Duration::from_secs(1), Duration::ZERO).await?.is_empty());
    assert_eq!(ledger.purge(queue).await?, 0);
    assert_eq!(ledger.notes(queue, &ids).await?.len(), 1, "a purge leaves notes");
    ledger.forget(queue, "n").await?;
    ledger.forget(queue, "n").await?;
    assert!(ledger.notes(queue, &ids).await?.is_empty());
    Ok(())
}

async fn buried(ledger: &dyn Ledger, queue: &str) -> Result<(), SeamError> {
    let letter = |id: &str| DeadLetter {
        id: id.to_owned(),
        body: Bytes::from_static(b"x"),
        partition: Some("p".into()),
        attempts: 3,
        reason: "why".into(),
        enqueued_at: None,
        died_at: 9,
    };
    ledger.note(queue, &Note { id: "a".into(), attempts: 1, reason: None, due_at: 0 }).await?;
    ledger.bury(queue, &letter("a")).await?;
    ledger.bury(queue, &letter("a")).await?;
    ledger.bury(queue, &letter("b")).await?;
    assert!(ledger.notes(queue, &["a".to_owned()]).await?.is_empty(), "the note went with it");
    assert_eq!(ledger.dead(queue, 0, 10).await?, [letter("a"), letter("b")]);
    assert_eq!(ledger.buried(queue, &["b".to_owned(), "c".to_owned()]).await?, ["b"]);
    assert_eq!(ledger.purge_dead(queue, &Which::All).await?, 2);
    assert_eq!(ledger.depth(queue).await?, Depth::default());
    Ok(())
}
