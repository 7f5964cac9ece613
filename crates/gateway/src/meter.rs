//! The account of one model call: begun when the call begins, closed exactly once, whatever happens.
//!
//! A [`Meter`] travels with the call, first in the handler, then in the body that streams to the client.
//! Closing it is dropping it: so a client that goes away, at any moment, is accounted for by the same code
//! as a call that ends well. It writes the log line, the metrics and the spans.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Outcome, Principal, RequestId, TraceContext, Usage};
use bytes::Bytes;
use llm::{Operation, tokens};

use crate::gateway::{Call, Place, Shared};
use crate::snapshot::Target;
use crate::spans;

/// One model call's account.
pub struct Meter {
    shared: Arc<Shared>,
    record: Option<Box<Record>>,
    place: Option<Place>,
}

/// What is known of the call so far.
pub(crate) struct Record {
    pub(crate) request_id: RequestId,
    pub(crate) trace: TraceContext,
    principal: Principal,
    pub(crate) operation: Operation,
    /// The model asked for; empty until the body was read.
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) target: Option<Arc<Target>>,
    pub(crate) attempts: u32,
    pub(crate) outcome: Outcome,
    /// A name with few values for what went wrong.
    pub(crate) error: Option<&'static str>,
    /// The whole of what went wrong, for the log.
    pub(crate) detail: Option<String>,
    pub(crate) status: u16,
    /// The attempt that is answering, or was when the client went away.
    pub(crate) running: Option<Running>,
    pub(crate) arrived: Instant,
    /// Spent waiting for providers and between attempts, until the head of our answer.
    pub(crate) waited: Duration,
    pub(crate) first_token: Option<Duration>,
    head: Option<Duration>,
    pub(crate) response_model: Option<String>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// A provider was answering, so that something was spent even if it did not say how much.
    pub(crate) answering: bool,
    /// What is counted when the provider sent no usage: the request, and what was written.
    pub(crate) body: Bytes,
    pub(crate) text: String,
}

/// An attempt that has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) trace: TraceContext,
    pub(crate) began: Instant,
}

/// What the head of an answer tells about the call.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `provider/model` of the target that answered, or was tried last.
    pub target: Option<Arc<str>>,
    /// Attempts made.
    pub attempts: u32,
    /// Our own time until now: everything but waiting for providers.
    pub overhead: Duration,
}

impl Meter {
    pub(crate) fn new(shared: Arc<Shared>, principal: &Principal, call: Call) -> Self {
        let Call { operation, request_id, trace, arrived } = call;
        let record = Record {
            request_id,
            trace,
            principal: principal.clone(),
            operation,
            model: String::new(),
            stream: false,
            target: None,
            attempts: 0,
            outcome: Outcome::Cancelled,
            error: None,
            detail: None,
            status: 499,
            running: None,
            arrived,
            waited: Duration::ZERO,
            first_token: None,
            head: None,
            response_model: None,
            finish_reason: None,
            usage: None,
            answering: false,
            body: Bytes::new(),
            text: String::new(),
        };
        shared.metrics.in_flight.inc();
        Meter { shared, record: Some(Box::new(record)), place: None }
    }

    /// The record, which is there until the meter is dropped.
    pub(crate) fn record(&mut self) -> &mut Record {
        // `record` is only taken by `drop`; a fresh one cannot be made without the call's facts.
        self.record.as_mut().unwrap_or_else(|| unreachable!("a meter is used after it was dropped"))
    }

    /// Called by the server when it sends the head of the answer. Gives what its headers tell.
    pub fn head(&mut self, status: u16) -> Facts {
        let shared = Arc::clone(&self.shared);
        let record = self.record();
        record.status = status;
        let elapsed = record.arrived.elapsed();
        record.head = Some(elapsed);
        let overhead = elapsed.saturating_sub(record.waited);
        shared.metrics.overhead.observe(overhead.as_secs_f64());
        Facts {
            target: record.target.as_ref().map(|t| Arc::clone(&t.id)),
            attempts: record.attempts,
            overhead,
        }
    }

    /// Keeps the replica's place for as long as the call lasts.
    pub(crate) fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// The first content is here.
    pub(crate) fn note_first_token(&mut self) {
        let record = self.record();
        record.first_token = Some(record.arrived.elapsed());
    }

    /// The request was refused before the gateway saw its body. `error` is a name with few values.
    pub fn refused(&mut self, error: &'static str) {
        self.failed(Outcome::Refused, error, None);
    }

    pub(crate) fn failed(&mut self, outcome: Outcome, error: &'static str, detail: Option<String>) {
        let record = self.record();
        record.outcome = outcome;
        record.error = Some(error);
        record.detail = detail;
    }

    /// The part of the record that is still to be counted, when the provider did not say.
    pub(crate) fn uncounted(&mut self) -> Option<Uncounted> {
        self.record().uncounted()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        self.shared.metrics.in_flight.dec();
        let shared = Arc::clone(&self.shared);
        match record.uncounted() {
            None => record.close(&shared),
            Some(uncounted) => {
                let count = move || {
                    record.usage = Some(uncounted.count());
                    record.close(&shared);
                };
                // Counting tokens may take milliseconds, which the worker's other requests do not have.
                match tokio::runtime::Handle::try_current() {
                    Ok(runtime) => drop(runtime.spawn_blocking(count)),
                    Err(_) => count(),
                }
            }
        }
    }
}

/// What must be counted here.
pub(crate) struct Uncounted {
    model: Arc<str>,
    operation: Operation,
    body: Bytes,
    text: String,
}

impl Uncounted {
    /// Counts; for threads that may block.
    pub(crate) fn count(&self) -> Usage {
        let output = match self.operation {
            Operation::Chat => tokens::count(&self.model, &self.text),
            Operation::Embeddings => 0,
        };
        let input = tokens::count_chat_input(&self.model, &self.body);
        Usage { input, output, estimated: true, ..Usage::default() }
    }
}

impl Record {
    /// Copies, so that a client that leaves during one count is counted by the next.
    fn uncounted(&self) -> Option<Uncounted> {
        let target = self.target.as_ref().filter(|_| self.usage.is_none() && self.answering)?;
        Some(Uncounted {
            model: Arc::clone(&target.model),
            operation: self.operation,
            body: self.body.clone(),
            text: self.text.clone(),
        })
    }

    fn close(self, shared: &Shared) {
        let duration = self.arrived.elapsed();
        self.count(shared, duration);
        self.log(duration);
        spans::call(&shared.tracer, &self);
    }

    fn count(&self, shared: &Shared, duration: Duration) {
        shared.metrics.call(self.operation, self.outcome, self.target.as_deref());
        let Some(target) = &self.target else { return };
        let metrics = &target.metrics;
        metrics.duration(self.operation, self.error.unwrap_or_default()).observe(duration.as_secs_f64());
        metrics.llm_duration.observe(duration.as_secs_f64());
        if let Some(first) = self.first_token {
            metrics.first_token.observe(first.as_secs_f64());
        }
        if let Some(usage) = self.usage {
            metrics.usage(self.operation, &usage);
        }
    }

    fn log(&self, duration: Duration) {
        let usage = self.usage.unwrap_or_default();
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "access",
            request_id = self.request_id.as_str(),
            operation = self.operation.as_str(),
            status = self.status,
            outcome = self.outcome.as_str(),
            model = self.model.as_str(),
            routed_to = self.target.as_ref().map(|t| &*t.id),
            key = &*self.principal.key_id,
            stream = self.stream,
            attempts = self.attempts,
            duration_us = micros(duration),
            overhead_us = self.head.map(|head| micros(head.saturating_sub(self.waited))),
            first_token_us = self.first_token.map(micros),
            input_tokens = usage.input,
            cached_tokens = usage.cached_input,
            output_tokens = usage.output,
            reasoning_tokens = usage.reasoning,
            usage_estimated = usage.estimated,
            finish_reason = self.finish_reason.as_deref(),
            error_type = self.error,
            error = self.detail.as_deref(),
            "request"
        );
    }
}
