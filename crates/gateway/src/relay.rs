//! The body that streams to the client once the first content is here.
//!
//! From here on there is no switching to another target: what breaks is told to the client by an error
//! event and no `[DONE]`, and is accounted as a failure with what was spent until then.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use access::Settling;
use base::{Outcome, Usage};
use bytes::Bytes;
use llm::dialects::ingress;
use llm::form::ErrorClass;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::breaker::Pass;
use crate::failure::clipped;
use crate::meter::Meter;
use crate::reader::{End, Reader};
use crate::settings::ResilienceSettings;
use crate::snapshot::Slot;

/// How long we wait, after the end, for the provider to finish its body too.
const DRAIN: Duration = Duration::from_millis(50);
/// What a stream says that has nothing to say: a comment, which every reader of server-sent events passes over
/// (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
/// Longer than any stream.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A stream on its way to the client, as a sequence of byte pieces. Dropping it early cancels the provider's
/// work and accounts for what was used.
pub struct Relay {
    reader: Box<Reader>,
    state: State,
    /// Fires when the stream may have been silent for too long; pushed forward lazily, since moving a timer
    /// for every piece costs more than the piece.
    timer: Pin<Box<Sleep>>,
    last_data: Instant,
    /// When the client was last sent a comment, or something else.
    last_sent: Instant,
    keep_alive: Duration,
    /// The latest moment at which the stream may still be running.
    until: Instant,
    meter: Meter,
    pass: Option<Pass>,
    _slot: Slot,
}

enum State {
    Reading,
    /// The answer is whole, its usage is being counted here: the provider did not say.
    Counting(JoinHandle<Usage>),
    /// What it came to is on its way to the journal: the end of the stream waits for it. With what was counted here.
    Settling(Settling, Option<Usage>),
    /// Everything is sent; the provider's body is read to its end.
    Draining,
    Over,
}

impl Relay {
    pub(crate) fn new(
        reader: Box<Reader>,
        meter: Meter,
        pass: Pass,
        slot: Slot,
        settings: &ResilienceSettings,
    ) -> Self {
        let now = Instant::now();
        let until = now + settings.stream_timeout.0;
        let keep_alive = match settings.keep_alive.0 {
            Duration::ZERO => FOREVER,
            often => often,
        };
        let first = (now + reader.idle_timeout.min(keep_alive)).min(until);
        Relay {
            reader,
            state: State::Reading,
            timer: Box::pin(tokio::time::sleep_until(first.into())),
            last_data: now,
            last_sent: now,
            keep_alive,
            until,
            meter,
            pass: Some(pass),
            _slot: slot,
        }
    }

    /// For the server, to tell the status and read the facts before the head is sent.
    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// The next piece for the client, `None` at the end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(piece) = self.reader.ready.pop_front() {
                return Poll::Ready(Some(piece));
            }
            match &mut self.state {
                State::Reading => match &self.reader.end {
                    End::Open => ready!(self.poll_read(cx)),
                    End::Clean => self.finish_clean(),
                    End::Broken(what) => {
                        let what = what.clone();
                        self.fail("stream_broken", "The provider's answer broke off.", &what);
                    }
                },
                State::Counting(counting) => {
                    let usage = ready!(Pin::new(counting).poll(cx)).unwrap_or_default();
                    self.meter.record().usage = Some(usage);
                    if self.reader.wants_usage() {
                        let chunk = self.usage_chunk(&usage);
                        self.reader.ready.push_back(chunk);
                    }
                    self.close(Some(usage));
                }
                State::Settling(settling, counted) => {
                    let counted = *counted;
                    ready!(Pin::new(settling).poll(cx));
                    self.conclude(counted);
                }
                State::Draining => {
                    if self.reader.poll_drain(cx).is_pending() {
                        ready!(self.timer.as_mut().poll(cx));
                    }
                    self.state = State::Over;
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }

    /// Reads on, or finds that the time is over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reader.poll_advance(cx).is_ready() {
            self.last_data = Instant::now();
            self.last_sent = self.last_data;
            return Poll::Ready(());
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let silent_until = self.last_data + self.reader.idle_timeout;
            let comment_at = self.last_sent + self.keep_alive;
            let now = Instant::now();
            if now >= self.until {
                self.fail("stream_timeout", "The stream took longer than it may.", "over the whole limit");
                return Poll::Ready(());
            }
            if now >= silent_until {
                self.fail("stream_stalled", "The provider fell silent.", "silent for too long");
                return Poll::Ready(());
            }
            if now >= comment_at {
                // Pieces are whole events, so a comment between two of them is in nobody's way.
                self.last_sent = now;
                self.reader.ready.push_back(Bytes::from_static(KEEP_ALIVE));
                self.timer.as_mut().reset(silent_until.min(now + self.keep_alive).min(self.until).into());
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(silent_until.min(comment_at).min(self.until).into());
        }
    }

    /// The provider did its part. Usage that it did not send is counted.
    fn finish_clean(&mut self) {
        if let Some(pass) = self.pass.take() {
            pass.succeeded();
        }
        self.note_seen();
        if let Some(uncounted) = self.meter.uncounted() {
            self.state = State::Counting(tokio::task::spawn_blocking(move || uncounted.count()));
            return;
        }
        self.close(None);
    }

    /// Writes down what it came to. `counted` is what was counted here.
    fn close(&mut self, counted: Option<Usage>) {
        self.meter.record().outcome = Outcome::Ok;
        match self.meter.settle() {
            Some(settling) => self.state = State::Settling(settling, counted),
            None => self.conclude(counted),
        }
    }

    /// Sends the terminator and reads the provider's body to its end.
    fn conclude(&mut self, counted: Option<Usage>) {
        self.reader.conclude(counted);
        self.timer.as_mut().reset((Instant::now() + DRAIN).into());
        self.state = State::Draining;
    }

    fn fail(&mut self, code: &'static str, message: &'static str, detail: &str) {
        if let Some(pass) = self.pass.take() {
            pass.failed(Instant::now());
        }
        self.note_seen();
        let target = self.meter.record().target.as_ref();
        let detail = target.map_or_else(|| detail.to_owned(), |target| target.provider.redact(detail));
        self.meter.failed(Outcome::Failed, code, Some(clipped(&detail)));
        if !self.reader.tell_failure(message, code) {
            let dialect = ingress(self.meter.record().dialect);
            let event = dialect.map(|dialect| dialect.error_event(ErrorClass::Server, message, code));
            self.reader.ready.extend(event);
        }
        self.state = State::Over;
    }

    fn note_seen(&mut self) {
        let seen = std::mem::take(&mut self.reader.seen);
        let record = self.meter.record();
        record.usage = seen.usage;
        record.finish_reason = seen.finish_reason;
        record.response_model = seen.model;
        record.text = seen.text;
    }

    fn usage_chunk(&mut self, usage: &Usage) -> Bytes {
        let record = self.meter.record();
        let model = record.response_model.clone().unwrap_or_else(|| record.model.clone());
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let chunk = serde_json::json!({
            "id": format!("chatcmpl-{}", record.request_id),
            "object": "chat.completion.chunk",
            "created": created.map_or(0, |d| d.as_secs()),
            "model": model,
            "choices": [],
            "usage": {
                "prompt_tokens": usage.input,
                "completion_tokens": usage.output,
                "total_tokens": usage.input + usage.output,
                "estimated": usage.estimated,
            },
        });
        format!("data: {chunk}\n\n").into()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The client went away in the middle: the meter's outcome stays what it was at first, cancelled.
        if matches!(self.state, State::Reading) {
            self.note_seen();
        }
    }
}
