//! The account of one model call: begun when the call begins, closed exactly once, whatever happens.
//!
//! A [`Meter`] travels with the call, first in the handler, then in the body that streams to the client.
//! Closing it is dropping it: so a client that goes away, at any moment, is accounted for by the same code
//! as a call that ends well. It writes the log line, the metrics and the spans.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::limits::{Permit, Quota};
use access::prices::Units;
use access::{Caller, Charge, Settling, UsageCall};
use base::{Money, Outcome, RequestId, TraceContext, Usage};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use llm::dialects::{egress, ingress};
use llm::form::Losses;
use llm::{Dialect, Operation, tokens};

use crate::gateway::{Call, Place, Shared};
use crate::kept::Earlier;
use crate::snapshot::Target;
use crate::spans;

/// One model call's account.
pub struct Meter {
    shared: Arc<Shared>,
    record: Option<Box<Record>>,
    /// What was set aside for it, until it is settled.
    charge: Option<Charge>,
    /// The leave that limits gave, held for as long as the call lasts.
    permit: Option<Permit>,
    place: Option<Place>,
}

/// What is known of the call so far.
pub(crate) struct Record {
    pub(crate) request_id: RequestId,
    pub(crate) trace: TraceContext,
    pub(crate) caller: Arc<Caller>,
    pub(crate) operation: Operation,
    /// What the client speaks.
    pub(crate) dialect: Dialect,
    /// See [`Call::path`].
    pub(crate) path: Option<(String, bool)>,
    /// See [`Call::headers`].
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Quality and size of the pictures asked for.
    pub(crate) image: (Option<String>, Option<String>),
    /// What the call goes on from.
    pub(crate) earlier: Option<Earlier>,
    /// What the conversion for the last target could not carry.
    pub(crate) losses: Losses,
    /// Whether it was converted for the last target.
    pub(crate) converted: bool,
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
    /// What it cost, once that is settled; none while it is not, and where no price is known.
    pub(crate) cost: Option<Money>,
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
    /// The name of the target's provider.
    pub provider: Option<Arc<str>>,
    /// The target was sent another request than the client's: one in its own dialect.
    pub converted: bool,
    /// Attempts made.
    pub attempts: u32,
    /// Our own time until now: everything but waiting for providers.
    pub overhead: Duration,
    /// What the call cost, if that is known by now.
    pub cost: Option<Money>,
    /// A target answered whose price nobody knows.
    pub unpriced: bool,
    /// What is left of the budget, as far as this replica knows.
    pub left: Option<Money>,
    /// How the limits stand.
    pub limits: Quota,
    /// Fields of the request that its conversion for the target could not carry.
    pub dropped: Vec<String>,
}

impl Meter {
    pub(crate) fn new(shared: Arc<Shared>, caller: Arc<Caller>, call: Call) -> Self {
        let Call { operation, dialect, path, headers, request_id, trace, arrived } = call;
        let record = Record {
            request_id,
            trace,
            caller,
            operation,
            dialect,
            path,
            headers,
            earlier: None,
            losses: Losses::default(),
            image: (None, None),
            converted: false,
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
            cost: None,
            body: Bytes::new(),
            text: String::new(),
        };
        shared.metrics.in_flight.inc();
        Meter { shared, record: Some(Box::new(record)), charge: None, permit: None, place: None }
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
        let limits = self.permit.as_ref().map(|permit| *permit.quota()).unwrap_or_default();
        let record = self.record();
        shared.metrics.overhead.observe(overhead.as_secs_f64());
        Facts {
            target: record.target.as_ref().map(|t| Arc::clone(&t.id)),
            provider: record.target.as_ref().map(|t| Arc::clone(&t.provider.name)),
            converted: record.converted,
            attempts: record.attempts,
            overhead,
            cost: record.cost,
            unpriced: record.target.as_ref().is_some_and(|target| target.price.is_none()),
            left: record.caller.account.as_ref().and_then(|account| account.left()),
            limits,
            dropped: record.losses.names().to_vec(),
        }
    }

    /// The call goes on from an earlier one.
    pub fn goes_on_from(&mut self, earlier: Earlier) {
        self.record().earlier = Some(earlier);
    }

    /// The limits let it pass.
    pub(crate) fn hold_permit(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// It comes to nothing for another reason, so that the limits do not count it.
    pub(crate) fn cancel_permit(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.cancel();
        }
    }

    /// The call is paid for with this.
    pub(crate) fn pay_with(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }

    /// Writes down what the call came to, as far as it has come: before the last of its answer leaves.
    /// Ready at once where nothing is returned.
    pub(crate) fn settle(&mut self) -> Option<Settling> {
        let (charge, record) = (self.charge.take()?, self.record.as_mut()?);
        record.settle(charge, self.permit.as_mut())
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
        let (charge, permit) = (self.charge.take(), self.permit.take());
        match record.uncounted() {
            None => record.close(&shared, charge, permit),
            Some(uncounted) => {
                let count = move || {
                    record.usage = Some(uncounted.count());
                    record.close(&shared, charge, permit);
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
    dialect: Dialect,
    path: Option<(String, bool)>,
    body: Bytes,
    text: String,
}

impl Uncounted {
    /// Counts; for threads that may block.
    pub(crate) fn count(&self) -> Usage {
        let output = match self.operation {
            Operation::Chat => tokens::count(&self.model, &self.text),
            _ => 0,
        };
        let input = match self.as_chat() {
            Some(body) => tokens::count_chat_input(&self.model, &body),
            None => tokens::count_chat_input(&self.model, &self.body),
        };
        Usage { input, output, estimated: true, ..Usage::default() }
    }

    /// The request in the dialect that is counted; `None` when it is in that already, or cannot be read.
    fn as_chat(&self) -> Option<Bytes> {
        if self.dialect == Dialect::Chat || self.operation != Operation::Chat {
            return None;
        }
        let path = self.path.as_ref().map(|(model, stream)| (model.as_str(), *stream));
        let prompt = ingress(self.dialect)?.read_prompt(&self.body, path).ok()?;
        egress(Dialect::Chat)?.write_prompt(&prompt, &self.model, &mut Losses::default()).ok()
    }
}

impl Record {
    /// Copies, so that a client that leaves during one count is counted by the next.
    fn uncounted(&self) -> Option<Uncounted> {
        let target = self.target.as_ref().filter(|_| self.usage.is_none() && self.answering)?;
        Some(Uncounted {
            model: Arc::clone(&target.model),
            operation: self.operation,
            dialect: self.dialect,
            path: self.path.clone(),
            body: self.body.clone(),
            text: self.text.clone(),
        })
    }

    /// What is known of the call before it is sent.
    pub(crate) fn opening(&self) -> UsageCall<'_> {
        UsageCall {
            at: access::now_ms(),
            request_id: self.request_id.as_str(),
            key_id: self.caller.key_id,
            group_id: self.caller.account.as_ref().map(|account| account.group_id),
            user: self.caller.user.as_deref(),
            operation: self.operation.as_str(),
            model: &self.model,
            stream: self.stream,
            tags: self.caller.tags.iter().map(String::as_str).collect(),
            ..UsageCall::default()
        }
    }

    /// Once: a charge is there until this has been done with it.
    fn settle(&mut self, charge: Charge, permit: Option<&mut Permit>) -> Option<Settling> {
        // A call that used nothing keeps what it was thought to use.
        if let (Some(permit), Some(usage)) = (permit, self.usage) {
            permit.correct(usage.input.saturating_add(usage.output));
        }
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let usage = self.usage.unwrap_or_default();
        let target = self.target.as_deref();
        // Nothing is charged for a call that nobody answered.
        let answered = self.usage.is_some() || self.answering;
        let cost = match target.and_then(|target| target.price.as_ref()) {
            Some(price) if answered => Some(price.cost(&Units {
                image_quality: self.image.0.as_deref(),
                image_size: self.image.1.as_deref(),
                ..Units::from(&usage)
            })),
            Some(_) => Some(Money::ZERO),
            None => (!answered).then_some(Money::ZERO),
        };
        self.cost = cost;
        charge.settle(&UsageCall {
            provider: target.map(|target| &*target.provider.name).unwrap_or_default(),
            provider_model: target.map(|target| &*target.model).unwrap_or_default(),
            status: self.status,
            outcome: self.outcome.as_str(),
            attempts: self.attempts,
            duration_us: micros(self.arrived.elapsed()),
            first_token_us: self.first_token.map(micros),
            input: usage.input,
            cached_input: usage.cached_input,
            output: usage.output,
            reasoning: usage.reasoning,
            estimated: usage.estimated,
            priced: cost.is_some(),
            cost: cost.unwrap_or_default().as_nanos(),
            ..self.opening()
        })
    }

    fn close(mut self, shared: &Shared, charge: Option<Charge>, mut permit: Option<Permit>) {
        if let Some(charge) = charge {
            // Whoever would wait for it is gone.
            drop(self.settle(charge, permit.as_mut()));
        }
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
            dialect = (self.dialect != Dialect::Chat).then(|| self.dialect.as_str()),
            dropped = (!self.losses.is_empty()).then(|| self.losses.names().join(", ")),
            status = self.status,
            outcome = self.outcome.as_str(),
            model = self.model.as_str(),
            routed_to = self.target.as_ref().map(|t| &*t.id),
            key = &*self.caller.label,
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
            cost_usd = self.cost.map(|cost| cost.to_string()),
            finish_reason = self.finish_reason.as_deref(),
            error_type = self.error,
            error = self.detail.as_deref(),
            "request"
        );
    }
}
