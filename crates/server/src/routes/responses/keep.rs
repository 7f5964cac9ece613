//! Keeping what came of a request, before the client has all of it: so that it can be gone on from at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gateway::{Facts, Relay};
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use store::{Place, StoredResponse, now_ms};
use tokio::task::JoinHandle;

use super::items::items;
use crate::settings::ResponsesSettings;
use crate::state::Shared;

/// How much of a stream is looked through for the id that its provider gave it.
const MAX_HEAD: usize = 256 << 10;

/// How to keep what comes of a request.
pub(crate) struct Keep {
    shared: Arc<Shared>,
    owner: String,
    /// The request, with everything before it.
    body: Bytes,
    settings: ResponsesSettings,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

impl Keep {
    pub(super) fn new(shared: Arc<Shared>, owner: String, body: Bytes, settings: ResponsesSettings) -> Self {
        Keep { shared, owner, body, settings }
    }

    /// Keeps a whole answer: here if it was made here, else where it is.
    pub(crate) async fn whole(self, answer: &Bytes, facts: &Facts) {
        if let Some(task) = self.begin(answer, facts) {
            // Its own words are in the log; the answer is the client's all the same.
            let _ = task.await;
        }
    }

    /// Begins to keep an answer; `None` when there is nothing that could be kept.
    fn begin(self, answer: &[u8], facts: &Facts) -> Option<JoinHandle<()>> {
        let Ok(Identified { id }) = serde_json::from_slice(answer) else { return None };
        if !facts.converted {
            return self.remember(id, facts);
        }
        let response = std::str::from_utf8(answer).ok()?.to_owned();
        Some(self.shared.control.clone().spawn(async move {
            let Keep { body, settings, .. } = &self;
            let input = input_of(body, &id);
            let size = response.len() + input.len();
            if size as u64 > settings.max_size.0 {
                tracing::warn!(
                    id,
                    size,
                    "a response is larger than `server.responses.max_size` and not kept"
                );
                return;
            }
            self.save(id, Place::Here { response, input }).await;
        }))
    }

    /// Begins to remember where a response is.
    fn remember(self, id: String, facts: &Facts) -> Option<JoinHandle<()>> {
        let provider = facts.provider.as_ref()?.to_string();
        Some(self.shared.control.clone().spawn(async move { self.save(id, Place::At(provider)).await }))
    }

    async fn save(&self, id: String, place: Place) {
        let span = i64::try_from(self.settings.retention.0.as_millis()).unwrap_or(i64::MAX);
        let expires_at = now_ms().saturating_add(span);
        let kept = StoredResponse { id, owner: self.owner.clone(), place, expires_at };
        match self.shared.access.db().keep_response(&kept).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(id = kept.id, "a response is not kept: its id is taken"),
            Err(error) => tracing::error!(%error, id = kept.id, "a response is not kept"),
        }
    }
}

/// The items of a request.
fn input_of(body: &[u8], id: &str) -> String {
    #[derive(Deserialize)]
    struct Asked<'a> {
        #[serde(borrow, default)]
        input: Option<&'a RawValue>,
    }
    let asked: Option<Asked> = serde_json::from_slice(body).ok();
    let input = asked.and_then(|asked| serde_json::from_str(asked.input?.get()).ok());
    Value::Array(items(input.unwrap_or_default(), id)).to_string()
}

/// A stream that is kept as it ends.
pub(crate) struct Keeping {
    relay: Relay,
    facts: Facts,
    keep: Option<Keep>,
    /// What was seen while the id is looked for.
    head: Vec<u8>,
    /// The piece that waits until the response is kept.
    waiting: Option<(JoinHandle<()>, Bytes)>,
}

impl Keeping {
    pub(crate) fn new(relay: Relay, facts: Facts, keep: Keep) -> Self {
        Keeping { relay, facts, keep: Some(keep), head: Vec::new(), waiting: None }
    }

    /// The next piece for the client.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some((task, _)) = &mut self.waiting {
            let _ = ready!(Pin::new(task).poll(cx));
        } else {
            let Some(piece) = ready!(self.relay.poll_piece(cx)) else { return Poll::Ready(None) };
            let Some(task) = self.look(&piece) else { return Poll::Ready(Some(piece)) };
            self.waiting = Some((task, piece));
            return self.poll_piece(cx);
        }
        Poll::Ready(self.waiting.take().map(|(_, piece)| piece))
    }

    /// Looks at what goes to the client until there is something to keep.
    fn look(&mut self, piece: &Bytes) -> Option<JoinHandle<()>> {
        self.keep.as_ref()?;
        if self.facts.converted {
            // The last event is written at once, with all of the response.
            let response = last_response(piece)?;
            return self.keep.take()?.begin(response.as_bytes(), &self.facts);
        }
        self.head.extend_from_slice(piece);
        if let Some(id) = first_id(&self.head) {
            self.head = Vec::new();
            return self.keep.take()?.remember(id, &self.facts);
        }
        if self.head.len() > MAX_HEAD {
            self.keep = None;
        }
        None
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

/// The response in the event that ends a stream.
fn last_response(piece: &[u8]) -> Option<String> {
    let name = ["response.completed", "response.incomplete"].iter().find_map(|name| {
        let line = format!("event: {name}\ndata: ");
        memmem::rfind(piece, line.as_bytes()).map(|at| at + line.len())
    })?;
    let data = piece.get(name..)?;
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let event: Event = serde_json::from_slice(data.get(..end)?).ok()?;
    Some(event.response?.get().to_owned())
}

/// The id in the first event that has a response.
fn first_id(head: &[u8]) -> Option<String> {
    let lines = head.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let data = lines.filter_map(|line| line.strip_prefix(b"data:"));
    data.filter_map(|data| {
        let event: Event = serde_json::from_slice(data).ok()?;
        let response: Identified = serde_json::from_str(event.response?.get()).ok()?;
        Some(response.id)
    })
    .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_and_the_end_are_found() {
        let first = b"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
        assert_eq!(first_id(first).as_deref(), Some("resp_1"));
        assert_eq!(first_id(&first[..60]), None);
        assert_eq!(first_id(b"data: {\"id\":\"x\"}\n"), None);
        assert_eq!(last_response(first), None);
        let last =
            b"event: x\ndata: {}\n\nevent: response.completed\ndata: {\"response\":{\"id\":\"r\"}}\n\n";
        assert_eq!(last_response(last).as_deref(), Some("{\"id\":\"r\"}"));
    }
}
