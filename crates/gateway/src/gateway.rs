//! The gateway: one function through which every model call goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use access::limits::Subjects;
use access::prices::Bound;
use access::{Access, Caller, Desk};
use arc_swap::ArcSwap;
use base::{Kind, Money, Outcome, RequestId, TraceContext};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use llm::form::Losses;
use llm::openai::{Envelope, Refusal, read_form, read_request, reads_form};
use llm::{Client, Dialect, Operation, Outbound};
use memchr::memmem;
use telemetry::{Metrics, Tracer};

use crate::attempt::{Success, attempt};
use crate::breaker::{BreakerState, Pass};
use crate::control::Control;
use crate::convert::{Codec, Converter};
use crate::error::Error;
use crate::failure::{ErrorAnswer, Failure, Verdict};
use crate::kept::pinned;
use crate::meter::{Meter, Running};
use crate::metrics::GatewayMetrics;
use crate::relay::Relay;
use crate::snapshot::{GatewaySettings, Route, Slot, Snapshot, Target};
use crate::spans;
use crate::strategy::complexity;

/// The way to models. One belongs to each worker, with connections of its own; all share the rest.
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
    pub(crate) client: Client,
    desk: Desk,
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) access: Arc<Access>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) metrics: GatewayMetrics,
    pub(crate) tracer: Tracer,
    in_flight: AtomicU32,
    pub(crate) max_in_flight: AtomicU32,
}

/// A model call as it came in, before its body.
pub struct Call {
    /// What is asked.
    pub operation: Operation,
    /// What the client speaks.
    pub dialect: Dialect,
    /// The model and whether to stream, where the path says it and not the body.
    pub path: Option<(String, bool)>,
    /// Headers of the client's that belong to its dialect: they go along where the call is forwarded as it is.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its id.
    pub request_id: RequestId,
    /// Its place in a trace.
    pub trace: TraceContext,
    /// When it arrived.
    pub arrived: Instant,
}

/// An answer for the client. Its meter is closed when it is dropped, so a whole answer's is kept until its
/// head was sent.
pub enum Reply {
    /// The whole answer at once. Also a provider's refusal (4xx), handed on as it came.
    Whole {
        /// 200, or the provider's refusal.
        status: StatusCode,
        /// Of the body.
        content_type: HeaderValue,
        /// The provider's very bytes.
        body: Bytes,
        /// The account.
        meter: Meter,
    },
    /// A stream, whose first content is here.
    Stream(Relay),
}

/// No answer, and why.
pub struct CallError {
    /// What to tell the client.
    pub error: Error,
    /// The account, to be told the status.
    pub meter: Meter,
}

/// How one target stands, for readiness.
#[derive(Clone, Debug)]
pub struct TargetState {
    /// `provider/model`.
    pub target: Arc<str>,
    /// Its breaker.
    pub breaker: BreakerState,
    /// It asked to be left alone for a while.
    pub cooling: bool,
}

/// A place among the replica's calls, given back when dropped.
pub(crate) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gateway {
    /// Makes the settings ready. The error names the setting that is wrong.
    pub fn new(
        settings: &GatewaySettings,
        access: &Arc<Access>,
        metrics: &Metrics,
        tracer: Tracer,
    ) -> Result<Self, String> {
        let metrics = GatewayMetrics::new(metrics).map_err(|e| e.to_string())?;
        let snapshot = Snapshot::build(settings, None, &metrics)?;
        let shared = Shared {
            access: Arc::clone(access),
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            tracer,
            in_flight: AtomicU32::new(0),
            max_in_flight: AtomicU32::new(settings.max_concurrent_requests),
        };
        let desk = access.desk().map_err(|e| e.to_string())?;
        Ok(Gateway { shared: Arc::new(shared), client: Client::default(), desk })
    }

    /// The same gateway for another worker: with connections and a usage journal of its own.
    pub fn for_worker(&self) -> std::io::Result<Self> {
        let desk = self.shared.access.desk()?;
        Ok(Gateway { shared: Arc::clone(&self.shared), client: Client::default(), desk })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What changes its settings, from anywhere.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.shared))
    }

    /// The models a client can name without knowing more, each with its owner.
    pub fn models(&self) -> Vec<(String, String)> {
        self.shared.snapshot.load().model_names()
    }

    /// The owner of a model that can be called, `None` when nobody knows it.
    pub fn model_owner(&self, model: &str) -> Option<String> {
        let snapshot = self.shared.snapshot.load();
        if let Some((_, owner)) = snapshot.model_names().into_iter().find(|(name, _)| name == model) {
            return Some(owner);
        }
        let route = snapshot.route(model, &self.shared.metrics).ok()?;
        let entry = &route.targets.first()?.provider;
        // A provider whose models are known has no others.
        entry.keys.any().models().is_empty().then(|| entry.name.to_string())
    }

    /// How each declared target stands. Also refreshes the metric.
    pub fn target_states(&self) -> Vec<TargetState> {
        let now = Instant::now();
        let states = self.shared.snapshot.load().targets().into_iter().map(|target| {
            let breaker = target.health.state(now);
            let value = match breaker {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            };
            self.shared.metrics.breaker(&target.id, value);
            TargetState { target: Arc::clone(&target.id), breaker, cooling: target.health.is_cooling(now) }
        });
        states.collect()
    }

    /// Calls in progress.
    pub fn in_flight(&self) -> u32 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Opens a call's account and takes its place among the replica's calls: before its body is read, so that
    /// bodies are bounded in number as well as in size.
    #[expect(clippy::result_large_err, reason = "both ways out hold the call's account, which is the size")]
    pub fn begin(&self, caller: &Arc<Caller>, call: Call) -> Result<Meter, CallError> {
        let mut meter = Meter::new(Arc::clone(&self.shared), Arc::clone(caller), call);
        if !caller.may(Caller::CALL_MODELS) {
            return Err(refuse(meter, Error::NotPermitted));
        }
        match self.place() {
            Some(place) => meter.hold(place),
            None => {
                self.shared.metrics.shed.inc();
                return Err(refuse(meter, Error::Overloaded));
            }
        }
        Ok(meter)
    }

    /// One model call, from its body to an answer. Dropping the future, or the stream it gave, cancels what
    /// the provider is doing.
    pub async fn call(&self, mut meter: Meter, body: Bytes) -> Result<Reply, CallError> {
        let record = meter.record();
        let (operation, dialect, arrived) = (record.operation, record.dialect, record.arrived);
        let path = record.path.as_ref().map(|(model, stream)| (model.as_str(), *stream));
        let media = record.headers.iter().find(|(name, _)| *name == CONTENT_TYPE);
        let media = media.and_then(|(_, value)| value.to_str().ok());
        let read = match media.filter(|media| reads_form(operation, Some(media))) {
            Some(media) => read_form(operation, media, &body),
            None => read_request(operation, dialect, path, &body),
        };
        let envelope = match read {
            Ok(envelope) => envelope,
            Err(refusal) => return Err(refuse(meter, refusal.into())),
        };
        let record = meter.record();
        record.model.clone_from(&envelope.model);
        record.stream = envelope.stream;
        record.image = (envelope.asked.quality.clone(), envelope.asked.size.clone());
        record.body = body;
        // Before the model is looked for: who may not call it learns nothing about it.
        if !record.caller.may_call(&envelope.model) {
            return Err(refuse(meter, Error::ModelNotAllowed { model: envelope.model }));
        }
        let snapshot = self.shared.snapshot.load_full();
        let route = match snapshot.route(&envelope.model, &self.shared.metrics) {
            Ok(route) => route,
            Err(error) => return Err(refuse(meter, error)),
        };
        let route = match pinned(&route, meter.record().earlier.as_ref()) {
            Ok(pinned) => pinned.unwrap_or(route),
            Err(refusal) => return Err(refuse(meter, refusal.into())),
        };
        let larger = route.context_fallback.as_deref();
        let larger = larger.and_then(|larger| snapshot.route(larger, &self.shared.metrics).ok());
        if let Err(error) = self.admit(&mut meter).await {
            return Err(refuse(meter, error));
        }
        if let Err(error) = self.pay(&mut meter, &envelope, &route, larger.as_deref()).await {
            meter.cancel_permit();
            return Err(refuse(meter, error));
        }
        let converter = Converter::new(operation, dialect, &meter.record().body);
        let mut tour = Tour { gateway: self, envelope, converter, arrived, meter, last: None };
        let mut done = tour.visit(&route).await;
        if done.is_none()
            && tour.overflowed()
            && let Some(larger) = larger
        {
            let refusal = tour.last.take();
            done = tour.visit(&larger).await;
            // Should the larger model fail as well, the caller needs to know why it was needed.
            tour.last = refusal;
        }
        match done {
            Some(arrival) => Ok(tour.reply(arrival).await),
            None => tour.give_up(),
        }
    }

    /// Counts the request and what its tokens are thought to be, within the limits of whoever asks.
    async fn admit(&self, meter: &mut Meter) -> Result<(), Error> {
        let record = meter.record();
        let caller = Arc::clone(&record.caller);
        let subjects = Subjects {
            key: caller.key_id,
            key_limits: caller.limits.as_ref(),
            user: caller.user.as_deref(),
            group: caller.account.as_ref().map(|account| account.group_id),
            group_limits: caller.group_limits.as_ref(),
            ip: None,
            global: true,
            admin: false,
        };
        let estimate = record.body.len() as u64 / BYTES_OF_A_TOKEN;
        let limiter = self.shared.access.door().limiter();
        let permit = limiter.admit(&subjects, estimate).await.map_err(Error::Limited)?;
        meter.hold_permit(permit);
        Ok(())
    }

    /// Sets aside what the call can cost at the dearest of the targets it may come to.
    async fn pay(
        &self,
        meter: &mut Meter,
        envelope: &Envelope,
        route: &Route,
        larger: Option<&Route>,
    ) -> Result<(), Error> {
        let record = meter.record();
        let (prompts, max_output) = match record.operation {
            Operation::Chat => (Some(1), envelope.max_output),
            // Pictures, and what was heard, may be counted in tokens of the answer.
            _ if record.operation.makes_images() || record.operation.listens() => (None, envelope.max_output),
            _ => (None, Some(0)),
        };
        // One a picture at least, in every dialect.
        let mentions: [&[u8]; 3] = [b"\"image_url\"", b"\"image\"", b"ileData\""];
        let images: usize =
            mentions.iter().map(|mention| memmem::find_iter(&record.body, mention).count()).sum();
        let bound = Bound {
            body_bytes: record.body.len() as u64,
            extra_input: images as u64 * TOKENS_OF_AN_IMAGE,
            prompts,
            max_output,
            choices: u64::from(envelope.choices),
            images: envelope.asked.images,
            milliseconds: envelope.asked.milliseconds,
            characters: envelope.asked.characters,
            searches: u64::from(record.operation == Operation::Rerank),
            image_quality: envelope.asked.quality.as_deref(),
            image_size: envelope.asked.size.as_deref(),
            ..Bound::default()
        };
        let targets = route.targets.iter().chain(larger.into_iter().flat_map(|larger| &larger.targets));
        let mut most = Money::ZERO;
        for target in targets {
            match &target.price {
                Some(price) => most = most.max(price.bound(&bound)),
                None => target.alarm_unpriced(),
            }
        }
        let opening = record.opening();
        let charge = self.desk.begin(record.caller.account.as_ref(), most, &opening).await?;
        meter.pay_with(charge);
        Ok(())
    }

    pub(crate) fn place(&self) -> Option<Place> {
        let before = self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.shared));
        (before < self.shared.max_in_flight.load(Ordering::Relaxed)).then_some(place)
    }
}

fn refuse(mut meter: Meter, error: Error) -> CallError {
    let outcome = match error.kind() {
        Kind::Invalid | Kind::NotFound | Kind::Forbidden | Kind::Unpaid | Kind::RateLimited => {
            Outcome::Refused
        }
        _ => Outcome::Failed,
    };
    meter.failed(outcome, error.code(), None);
    CallError { error, meter }
}

/// One call's way round the targets.
struct Tour<'a> {
    gateway: &'a Gateway,
    envelope: Envelope,
    converter: Converter,
    arrived: Instant,
    meter: Meter,
    last: Option<Last>,
}

/// What came of the last target that was asked, or why none was.
enum Last {
    Failed { target: Arc<Target>, failure: Failure },
    AllOpen(Duration),
    AllBusy,
    NoTime,
}

/// An answer, with the leave and the place that go with it.
struct Arrival {
    success: Success,
    target: Arc<Target>,
    pass: Pass,
    slot: Slot,
}

/// What follows a failed attempt.
enum Next {
    Wait(Duration),
    Leave,
    Stop,
}

impl Tour<'_> {
    /// Asks the targets one after the other until one answers. `None`: see `last`.
    async fn visit(&mut self, route: &Route) -> Option<Arrival> {
        let now = Instant::now();
        let body = self.meter.record().body.clone();
        let mut order = route.chooser.order(&route.targets, || complexity(&body));
        if order.len() > 1 {
            // Who asked to be left alone comes last, and is asked all the same when nobody else answers. Looked
            // at once each: another thread may change it while we sort.
            order.sort_by_cached_key(|target| target.health.is_cooling(now));
        }
        let (mut asked, mut open) = (false, None::<Duration>);
        for (i, target) in order.iter().enumerate() {
            let others = i + 1 < order.len();
            if Instant::now() >= self.deadline(target) {
                // Nobody is asked who has no time to answer, nor blamed for it.
                self.last.get_or_insert(Last::NoTime);
                continue;
            }
            let Some(slot) = target.provider.slot(&target.health) else { continue };
            match target.health.admit(&target.resilience.breaker, Instant::now()) {
                Err(wait) => open = Some(open.map_or(wait, |o| o.min(wait))),
                Ok(pass) => {
                    asked = true;
                    match self.ask(target, pass, slot, others).await {
                        Ok(arrival) => return Some(arrival),
                        Err(Next::Stop) => return None,
                        Err(_) => {}
                    }
                }
            }
        }
        if !asked && self.last.is_none() {
            self.last = Some(open.map_or(Last::AllBusy, Last::AllOpen));
        }
        None
    }

    /// Asks one target, again after mishaps as often as its settings say.
    async fn ask(
        &mut self,
        target: &Arc<Target>,
        pass: Pass,
        slot: Slot,
        others: bool,
    ) -> Result<Arrival, Next> {
        let mut pass = Some(pass);
        let (mut retry, mut switches) = (0, 0);
        loop {
            let leave = match pass.take() {
                Some(pass) => pass,
                None => match target.health.admit(&target.resilience.breaker, Instant::now()) {
                    Ok(pass) => pass,
                    // It opened while we waited; what is known of the last attempt still stands.
                    Err(_) => return Err(Next::Leave),
                },
            };
            let key = target.provider.keys.next(Instant::now());
            let failure = match self.attempt(target, key, others).await {
                Ok(success) => {
                    return Ok(Arrival { success, target: Arc::clone(target), pass: leave, slot });
                }
                Err(failure) => failure,
            };
            let now = Instant::now();
            if target.provider.keys.failed(key, &failure, now) && switches < MAX_SWITCHES {
                // The fault is the key's, and another one is at hand.
                drop(leave);
                switches += 1;
                self.last = Some(Last::Failed { target: Arc::clone(target), failure });
                continue;
            }
            if matches!(failure, Failure::Unfit(_)) {
                // It was not asked, so nothing is known of it.
                drop(leave);
            } else if failure.is_ill_health() {
                leave.failed(now);
            } else {
                leave.succeeded();
            }
            let next = self.next(target, &failure, retry, others, now);
            self.last = Some(Last::Failed { target: Arc::clone(target), failure });
            let Next::Wait(wait) = next else { return Err(next) };
            tokio::time::sleep(wait).await;
            self.meter.record().waited += wait;
            retry += 1;
        }
    }

    /// When an answer of this target would come too late.
    fn deadline(&self, target: &Target) -> Instant {
        self.arrived + target.resilience.request_timeout.0
    }

    async fn attempt(&mut self, target: &Arc<Target>, key: usize, others: bool) -> Result<Success, Failure> {
        let began = Instant::now();
        let record = self.meter.record();
        record.target = Some(Arc::clone(target));
        record.answering = false;
        let trace = record.trace.child();
        if !target.provider.keys.any().serves(record.operation) {
            let text = format!(
                "`{}` is at a provider that has no such service ({}): choose another model.",
                target.id,
                record.operation.as_str()
            );
            return Err(Failure::Unfit(Refusal { message: text, param: Some("model") }));
        }
        let (codec, body, headers) = match self.converter.codec(target.provider.keys.any(), record) {
            Codec::Forward => {
                let body = self.envelope.splice(&record.body, &target.model);
                (Codec::Forward, body, record.headers.clone())
            }
            Codec::Convert(dialect) => {
                let mut losses = Losses::default();
                let body = self.converter.write(dialect, record, &target.model, &mut losses);
                record.losses = losses;
                (Codec::Convert(dialect), body.map_err(Failure::Unfit)?, Vec::new())
            }
        };
        record.attempts += 1;
        record.converted = codec != Codec::Forward;
        let dialect = self.converter.spoken(codec);
        let outbound = Outbound {
            operation: record.operation,
            dialect,
            model: Arc::clone(&target.model),
            stream: self.envelope.stream,
            body,
            headers,
            trace,
            request_id: record.request_id.clone(),
            connect_timeout: target.resilience.connect_timeout.0,
        };
        let translation = self.converter.translation(codec, record);
        let left = self.deadline(target).saturating_duration_since(began);
        // Without streaming there is no first token to wait for: the bound on it then only decides when to
        // turn to another target, where there is one.
        let limit = if self.envelope.stream || others {
            left.min(target.resilience.first_token_timeout.0)
        } else {
            left
        };
        // Were the client to go away now, the provider has the prompt and may be working on it.
        let running = Running { trace, began };
        let record = self.meter.record();
        record.answering = true;
        record.running = Some(running);
        let result =
            attempt(&self.gateway.client, target, outbound, &self.envelope, translation, key, limit).await;
        let record = self.meter.record();
        let took = began.elapsed();
        record.waited += took;
        record.answering = result.is_ok();
        if result.is_ok() {
            target.health.answered(took);
        }
        target.metrics.attempt(result.as_ref().err().map(Failure::class));
        if let Err(failure) = &result {
            record.running = None;
            spans::failed_attempt(&self.gateway.shared.tracer, record, target, &running, failure);
            tracing::warn!(
                request_id = record.request_id.as_str(),
                routed_to = &*target.id,
                attempt = record.attempts,
                error_type = failure.class(),
                error = failure.detail(),
                "attempt failed"
            );
        }
        result
    }

    fn next(&self, target: &Target, failure: &Failure, retry: u32, others: bool, now: Instant) -> Next {
        let settings = &target.resilience;
        let asked = match failure.verdict() {
            Verdict::Final | Verdict::Overflow => return Next::Stop,
            Verdict::Leave => return Next::Leave,
            Verdict::Limited(asked) => {
                if let Some(wait) = asked {
                    target.health.cool_for(wait.min(MAX_COOLING), now);
                }
                if others {
                    return Next::Leave;
                }
                asked
            }
            Verdict::Again(asked) => asked,
        };
        if retry >= settings.retries {
            return Next::Leave;
        }
        let doubled = settings.backoff.0.saturating_mul(1 << retry.min(16));
        let backoff = doubled.min(settings.max_backoff.0).mul_f64(jitter());
        let wait = asked.map_or(backoff, |asked| asked.max(backoff.min(Duration::from_millis(10))));
        // A wait that is longer than we may, or than there is time, is the client's to make.
        if wait > settings.max_backoff.0 || now + wait >= self.deadline(target) {
            Next::Leave
        } else {
            Next::Wait(wait)
        }
    }

    /// The request was too long for the target asked last.
    fn overflowed(&self) -> bool {
        matches!(&self.last, Some(Last::Failed { failure, .. }) if failure.verdict() == Verdict::Overflow)
    }

    async fn reply(mut self, arrival: Arrival) -> Reply {
        let Arrival { success, target, mut pass, slot } = arrival;
        match success {
            Success::Whole { content_type, body, answer } => {
                pass.succeeded();
                let record = self.meter.record();
                record.outcome = Outcome::Ok;
                record.status = StatusCode::OK.as_u16();
                record.usage = answer.usage;
                record.response_model = answer.model;
                record.finish_reason = answer.finish_reason;
                record.text = answer.text;
                if let Some(uncounted) = self.meter.uncounted() {
                    // What it cost is written down before the answer leaves.
                    let usage = tokio::task::spawn_blocking(move || uncounted.count()).await;
                    self.meter.record().usage = Some(usage.unwrap_or_default());
                }
                if let Some(settling) = self.meter.settle() {
                    settling.await;
                }
                let content_type = content_type.unwrap_or(JSON);
                Reply::Whole { status: StatusCode::OK, content_type, body, meter: self.meter }
            }
            Success::Stream(reader) => {
                pass.first_token();
                self.meter.note_first_token();
                // Kept for counting, in a buffer of its own size: as it came it would hold the connection's
                // whole read buffer for as long as the stream lasts.
                let record = self.meter.record();
                record.body = Bytes::copy_from_slice(&record.body);
                Reply::Stream(Relay::new(reader, self.meter, pass, slot, &target.resilience))
            }
        }
    }

    #[expect(clippy::result_large_err, reason = "both ways out hold the call's account, which is the size")]
    fn give_up(mut self) -> Result<Reply, CallError> {
        let model = self.envelope.model.clone();
        let (target, failure) = match self.last {
            Some(Last::Failed { target, failure }) => (target, failure),
            Some(Last::AllOpen(retry_after)) => {
                return Err(refuse(self.meter, Error::AllOpen { model, retry_after }));
            }
            Some(Last::NoTime) => return Err(refuse(self.meter, Error::TooSlow { target: model })),
            Some(Last::AllBusy) | None => return Err(refuse(self.meter, Error::AllBusy { model })),
        };
        self.meter.record().target = Some(Arc::clone(&target));
        match failure {
            Failure::Unfit(refusal) => Err(refuse(self.meter, refusal.into())),
            Failure::Status(answer) if hands_on(&answer) => {
                let detail = Failure::Status(answer);
                let text = detail.detail();
                let Failure::Status(answer) = detail else { unreachable!("made one line above") };
                self.meter.failed(Outcome::Refused, "refused", Some(text));
                let translated = self.converter.refusal(&answer);
                Ok(Reply::Whole {
                    status: answer.status,
                    content_type: match translated {
                        Some(_) => JSON,
                        None => answer.content_type.unwrap_or(JSON),
                    },
                    body: translated.unwrap_or(answer.body),
                    meter: self.meter,
                })
            }
            failure => {
                let (class, detail) = (failure.class(), failure.detail());
                let error = failure.into_error(&target.id);
                self.meter.failed(Outcome::Failed, class, Some(detail));
                Err(CallError { error, meter: self.meter })
            }
        }
    }
}

/// Of English text and JSON, on average.
const BYTES_OF_A_TOKEN: u64 = 4;
/// The most that a picture named by its URL adds to a prompt, at the providers we know.
const TOKENS_OF_AN_IMAGE: u64 = 3_000;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// So many keys of one provider are tried for one call at most.
const MAX_SWITCHES: u32 = 16;
/// The longest that one `Retry-After` keeps a target at the end of the line.
const MAX_COOLING: Duration = Duration::from_secs(600);

/// A refusal that speaks to the caller, in the dialect the caller speaks: it is handed on as it is.
fn hands_on(answer: &ErrorAnswer) -> bool {
    answer.status.is_client_error()
        && !matches!(answer.status.as_u16(), 401..=403 | 408 | 425 | 429)
        && answer.read().is_some()
}

/// Between a half and one, so that those who failed together do not come back together.
fn jitter() -> f64 {
    let random =
        u32::from_be_bytes(*TraceContext::from_header(None).span_id.first_chunk().unwrap_or(&[0; 4]));
    0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0
}
