//! Reading a provider's stream: events forwarded as they came, and what they mean decoded on the side.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::Usage;
use bytes::Bytes;
use llm::InboundBody;
use llm::openai::{Chunk, DONE, DONE_EVENT, Envelope, read_chunk};
use llm::sse::{Decoder, Event};

use crate::failure::Failure;

/// The longest single event.
const MAX_EVENT: usize = 4 << 20;
/// How much may be held back while waiting for the first content.
const MAX_HELD: usize = 64 << 10;
/// How much of the answer's text is kept, in case it must be counted here.
const MAX_TEXT: usize = 256 << 10;

/// How a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More may come.
    Open,
    /// It ended as it should.
    Clean,
    /// It broke. The text is for the log.
    Broken(String),
}

/// A provider's stream being read.
pub(crate) struct Reader {
    body: InboundBody,
    decoder: Decoder,
    /// Events to forward, in order.
    pub(crate) ready: VecDeque<Bytes>,
    held: usize,
    /// The first content, or the proper end, is here.
    committed: bool,
    pub(crate) end: End,
    include_usage: bool,
    choices: u32,
    finished: u32,
    /// The event that ends the stream, held until usage is known.
    pub(crate) terminator: Option<Bytes>,
    pub(crate) seen: Seen,
    pub(crate) idle_timeout: Duration,
}

/// What the stream said, for the record.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) usage: Option<Usage>,
    pub(crate) model: Option<String>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) text: String,
}

impl Reader {
    pub(crate) fn new(body: InboundBody, envelope: &Envelope, idle_timeout: Duration) -> Self {
        Reader {
            body,
            decoder: Decoder::new(MAX_EVENT),
            ready: VecDeque::with_capacity(4),
            held: 0,
            committed: false,
            end: End::Open,
            include_usage: envelope.include_usage,
            choices: envelope.choices,
            finished: 0,
            terminator: None,
            seen: Seen::default(),
            idle_timeout,
        }
    }

    /// Reads until the first content is here, so that an earlier error can still be hidden.
    pub(crate) async fn prime(&mut self) -> Result<(), Failure> {
        while !self.committed && self.held <= MAX_HELD {
            poll_fn(|cx| self.poll_advance(cx)).await;
            match &self.end {
                End::Open => {}
                End::Clean => break,
                End::Broken(what) if !self.committed => return Err(Failure::Protocol(what.clone())),
                End::Broken(_) => break,
            }
        }
        Ok(())
    }

    /// Takes what has arrived. Ready when there was something; look at `ready` and `end` then.
    pub(crate) fn poll_advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(chunk)) => {
                self.decoder.push(chunk);
                self.take_events();
            }
            Some(Err(error)) => self.ended(Some(error.to_string())),
            None => self.ended(None),
        }
        Poll::Ready(())
    }

    /// After the end: reads the rest of the body away, so that its connection can be used again.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    }

    fn take_events(&mut self) {
        while self.end == End::Open {
            match self.decoder.next_event() {
                Ok(Some(event)) => self.take(&event),
                Ok(None) => return,
                Err(too_long) => self.end = End::Broken(too_long.to_string()),
            }
        }
    }

    fn take(&mut self, event: &Event) {
        let Some(data) = event.data() else {
            // A comment: some providers send them to keep the connection alive.
            return self.forward(event.raw.clone());
        };
        if &data[..] == DONE {
            self.committed = true;
            self.end = End::Clean;
            self.terminator = Some(event.raw.clone());
            return;
        }
        match read_chunk(&data, &mut self.seen.text, MAX_TEXT) {
            Ok(chunk) => self.take_chunk(event, chunk),
            Err(error) => self.end = End::Broken(format!("a malformed chunk: {error}")),
        }
    }

    fn take_chunk(&mut self, event: &Event, chunk: Chunk) {
        if let Some(error) = chunk.error {
            self.end = End::Broken(format!("an error in the stream: {error}"));
            return;
        }
        self.committed |= chunk.content || chunk.finished > 0;
        self.finished += chunk.finished;
        self.seen.usage = chunk.usage.or(self.seen.usage);
        if chunk.finish_reason.is_some() {
            self.seen.finish_reason = chunk.finish_reason;
        }
        if self.seen.model.is_none() {
            self.seen.model = chunk.model;
        }
        if !chunk.only_usage || self.include_usage {
            self.forward(event.raw.clone());
        }
    }

    fn forward(&mut self, raw: Bytes) {
        if !self.committed {
            self.held += raw.len();
        }
        self.ready.push_back(raw);
    }

    /// The body is over, properly or not. What decides is whether every choice gave its reason to end: with
    /// it the answer is whole, and a missing `[DONE]` is ours to add; without it the answer is cut off.
    fn ended(&mut self, error: Option<String>) {
        if let Some(rest) = self.decoder.finish().filter(|_| self.end == End::Open) {
            match rest.data() {
                Some(data) if &data[..] == DONE => {
                    self.committed = true;
                    self.end = End::Clean;
                    self.terminator = Some(Bytes::from_static(DONE_EVENT));
                    return;
                }
                Some(data) if self.finished >= self.choices => {
                    // Usage may come last, without the blank line.
                    if let Ok(chunk) = read_chunk(&data, &mut self.seen.text, MAX_TEXT) {
                        self.seen.usage = chunk.usage.or(self.seen.usage);
                    }
                }
                _ => {}
            }
        }
        if self.end != End::Open {
            return;
        }
        self.end = if self.finished >= self.choices {
            self.terminator = Some(Bytes::from_static(DONE_EVENT));
            End::Clean
        } else {
            let how = error.unwrap_or_else(|| "it ended with neither a finish reason nor [DONE]".into());
            End::Broken(format!("the stream was cut off: {how}"))
        };
    }
}

impl Reader {
    /// The client asked for usage at the end.
    pub(crate) fn wants_usage(&self) -> bool {
        self.include_usage
    }
}
