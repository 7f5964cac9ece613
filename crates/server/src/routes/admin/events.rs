//! What changes and what is spent, as it happens.

use std::sync::Arc;
use std::time::Duration;

use access::SPEND;
use base::seams::Event;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{Call, Events, Refusal, Route};
use crate::state::Shared;

/// Events that wait for a slow client; then it is cut off and may come back.
const WAITING: usize = 256;
/// How often we look whether the client is still there and we still are.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks lie between two comments that keep proxies from closing the connection.
const COMMENT_EVERY: u32 = 15;

pub(super) fn routes() -> Vec<Route> {
    let summary = "Tells of changes and of spending as they happen, as server-sent events.";
    vec![Route::new(Method::GET, "/api/events", "events.listen", summary, listen)]
}

async fn listen(call: Call) -> Result<Events, Refusal> {
    let shared = Arc::clone(&call.shared);
    let spending = shared.access.events().subscribe(SPEND).await.map_err(|error| {
        tracing::error!(%error, "nobody can listen to events");
        let text = "Events cannot be listened to for now; the log says why. Try again in a while.";
        Refusal::new(base::Kind::Unavailable, "events_unavailable", text)
    })?;
    let (pieces, receiver) = mpsc::channel(WAITING);
    // At once, so that the client knows that it listens.
    drop(pieces.try_send(Bytes::from_static(b": listening\n\n")));
    drop(shared.control.clone().spawn(tell(shared, spending, pieces)));
    Ok(Events(receiver))
}

async fn tell(
    shared: Arc<Shared>,
    mut spending: Box<dyn base::seams::Subscription>,
    pieces: mpsc::Sender<Bytes>,
) {
    let mut changes = shared.access.changes();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0;
    loop {
        let piece = tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => {
                    let data = json!({"kind": change.kind, "id": change.item, "revision": change.revision});
                    frame(&format!("{}.changed", word(&change.kind)), &data)
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => frame("missed", &json!({})),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
            event = spending.next() => match event {
                Some(Event::Published(text)) => {
                    let data: Value = serde_json::from_str(&text).unwrap_or_default();
                    let kind = data["kind"].as_str().unwrap_or("spend").to_owned();
                    frame(word(&kind), &data)
                }
                Some(Event::Missed) => frame("missed", &json!({})),
                None => return,
            },
            _ = look.tick() => {
                looks += 1;
                if pieces.is_closed() || shared.is_draining() {
                    return;
                }
                if looks % COMMENT_EVERY != 0 {
                    continue;
                }
                Bytes::from_static(b": still here\n\n")
            }
        };
        if pieces.try_send(piece).is_err() {
            return;
        }
    }
}

/// One event. JSON has no line breaks of its own, so its text is one line.
fn frame(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// A kind as it may stand in an event's name.
fn word(kind: &str) -> &str {
    let plain = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-');
    if plain { kind } else { "all" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_frame_whatever_it_says() {
        let bytes = frame(word("key"), &json!({"id": "a\n\nevent: forged"}));
        assert_eq!(&bytes[..], b"event: key\ndata: {\"id\":\"a\\n\\nevent: forged\"}\n\n");
        assert_eq!(word("x\nevent: forged"), "all");
    }
}
