//! The metrics of model calls.
//!
//! Names that begin with `gen_ai_` follow the OpenTelemetry GenAI conventions; `dashflow_llm_duration_seconds`
//! is the name that DashFlow's guide promises its dashboards.

use std::borrow::Cow;

use base::{Outcome, Usage};
use llm::Operation;
use telemetry::metrics::{Counter, DURATION_BUCKETS, Gauge, Histogram, OVERHEAD_BUCKETS};
use telemetry::{BoundedCounterVec, BoundedGaugeVec, BoundedHistogramVec, Family, Metrics};

use crate::snapshot::Target;

/// Powers of four, as the GenAI conventions have it.
const TOKEN_BUCKETS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// The GenAI conventions' bounds for a call, in seconds.
const CALL_BUCKETS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// And for the first token.
const FIRST_TOKEN_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

const GEN_AI: [&str; 3] = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"];
const OPERATIONS: [Operation; 2] = [Operation::Chat, Operation::Embeddings];

/// The families, declared once for an application.
pub(crate) struct GatewayMetrics {
    /// Model calls in progress.
    pub(crate) in_flight: Gauge,
    /// Calls refused because the replica is full.
    pub(crate) shed: Counter,
    /// Our own time up to the head of the answer.
    pub(crate) overhead: Histogram,
    calls: BoundedCounterVec,
    attempts: BoundedCounterVec,
    duration: BoundedHistogramVec,
    llm_duration: BoundedHistogramVec,
    first_token: BoundedHistogramVec,
    tokens: BoundedHistogramVec,
    tokens_total: BoundedCounterVec,
    unpriced: BoundedCounterVec,
    breaker: BoundedGaugeVec,
}

/// The series of one target, looked up once.
pub(crate) struct TargetMetrics {
    operations: [OperationMetrics; 2],
    /// For those that are asked less often, whose series are made when they are.
    families: Families,
    pub(crate) llm_duration: Histogram,
    pub(crate) first_token: Histogram,
    tokens_total: [Counter; 2],
    estimated_total: [Counter; 2],
    duration: BoundedHistogramVec,
    attempts: BoundedCounterVec,
    ok_attempts: Counter,
    pub(crate) unpriced: Counter,
    provider: String,
    model: String,
}

#[derive(Clone)]
struct Families {
    calls: BoundedCounterVec,
    duration: BoundedHistogramVec,
    tokens: BoundedHistogramVec,
}

impl Families {
    fn operation(&self, operation: Operation, provider: &str, model: &str) -> OperationMetrics {
        let name = operation.as_str();
        OperationMetrics {
            ok_calls: self.calls.with(&[name, &format!("{provider}/{model}"), Outcome::Ok.as_str()]),
            ok_duration: self.duration.with(&[name, provider, model, ""]),
            input: self.tokens.with(&[name, provider, model, "input"]),
            output: self.tokens.with(&[name, provider, model, "output"]),
        }
    }
}

#[derive(Clone)]
struct OperationMetrics {
    ok_calls: Counter,
    ok_duration: Histogram,
    input: Histogram,
    output: Histogram,
}

impl GatewayMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Result<Self, telemetry::Error> {
        let counter = |name, help, labels| metrics.counter(&Family::new(name, help).labels(labels));
        let error_type: &[&str] = &[GEN_AI[0], GEN_AI[1], GEN_AI[2], "error_type"];
        let token_type: &[&str] = &[GEN_AI[0], GEN_AI[1], GEN_AI[2], "gen_ai_token_type"];
        Ok(GatewayMetrics {
            in_flight: metrics
                .gauge(&Family::new("trunkline_calls_in_flight", "Model calls in progress."))?
                .with(&[]),
            shed: counter(
                "trunkline_calls_shed_total",
                "Model calls refused because the replica is full.",
                &[],
            )?
            .with(&[]),
            overhead: metrics
                .histogram(
                    &Family::new(
                        "trunkline_overhead_seconds",
                        "Our own time up to the head of the answer: everything but waiting for providers.",
                    ),
                    OVERHEAD_BUCKETS,
                )?
                .with(&[]),
            calls: counter(
                "trunkline_calls_total",
                "Model calls by how they ended.",
                &["operation", "target", "outcome"],
            )?,
            attempts: counter(
                "trunkline_attempts_total",
                "Attempts at providers by result: ok, or what went wrong.",
                &["provider", "model", "result"],
            )?,
            duration: metrics.histogram(
                &Family::new("gen_ai_client_operation_duration_seconds", "Duration of model calls.")
                    .labels(error_type),
                CALL_BUCKETS,
            )?,
            llm_duration: metrics.histogram(
                &Family::new("dashflow_llm_duration_seconds", "Duration of model calls.")
                    .labels(&["provider", "model"]),
                DURATION_BUCKETS,
            )?,
            first_token: metrics.histogram(
                &Family::new(
                    "gen_ai_server_time_to_first_token_seconds",
                    "From the request to the first token.",
                )
                .labels(&GEN_AI[1..]),
                FIRST_TOKEN_BUCKETS,
            )?,
            tokens: metrics.histogram(
                &Family::new("gen_ai_client_token_usage", "Tokens of a call.").labels(token_type),
                TOKEN_BUCKETS,
            )?,
            tokens_total: counter(
                "trunkline_tokens_total",
                "Tokens used, by whether the provider counted them or we estimated.",
                &["provider", "model", "type", "source"],
            )?,
            unpriced: counter(
                "trunkline_unpriced_calls_total",
                "Model calls at a target whose price nobody knows.",
                &["provider", "model"],
            )?,
            breaker: metrics.gauge(
                &Family::new("trunkline_breaker_state", "Breakers: 0 closed, 1 half-open, 2 open.")
                    .labels(&["target"]),
            )?,
        })
    }

    /// The series of one target.
    pub(crate) fn target(&self, provider: &str, model: &str) -> TargetMetrics {
        let (calls, tokens) = (self.calls.clone(), self.tokens.clone());
        let families = Families { calls, duration: self.duration.clone(), tokens };
        let total = |kind, source| self.tokens_total.with(&[provider, model, kind, source]);
        TargetMetrics {
            operations: OPERATIONS.map(|operation| families.operation(operation, provider, model)),
            families,
            llm_duration: self.llm_duration.with(&[provider, model]),
            first_token: self.first_token.with(&[provider, model]),
            tokens_total: [total("input", "provider"), total("output", "provider")],
            estimated_total: [total("input", "estimate"), total("output", "estimate")],
            duration: self.duration.clone(),
            attempts: self.attempts.clone(),
            ok_attempts: self.attempts.with(&[provider, model, "ok"]),
            unpriced: self.unpriced.with(&[provider, model]),
            provider: provider.to_owned(),
            model: model.to_owned(),
        }
    }

    /// A call ended.
    pub(crate) fn call(&self, operation: Operation, outcome: Outcome, target: Option<&Target>) {
        if let (Outcome::Ok, Some(target)) = (outcome, target) {
            return target.metrics.of(operation).ok_calls.inc();
        }
        let target = target.map_or("", |target| &*target.id);
        self.calls.with(&[operation.as_str(), target, outcome.as_str()]).inc();
    }

    /// How a breaker stands: 0 closed, 1 half-open, 2 open.
    pub(crate) fn breaker(&self, target: &str, state: f64) {
        self.breaker.with(&[target]).set(state);
    }
}

impl TargetMetrics {
    fn of(&self, operation: Operation) -> Cow<'_, OperationMetrics> {
        match operation {
            Operation::Chat => Cow::Borrowed(&self.operations[0]),
            Operation::Embeddings => Cow::Borrowed(&self.operations[1]),
            _ => Cow::Owned(self.families.operation(operation, &self.provider, &self.model)),
        }
    }

    /// Where the duration of a call that ended with `error` (empty: well) is counted.
    pub(crate) fn duration(&self, operation: Operation, error: &str) -> Histogram {
        match error {
            "" => self.of(operation).ok_duration.clone(),
            _ => self.duration.with(&[operation.as_str(), &self.provider, &self.model, error]),
        }
    }

    /// An attempt ended: well, or with what went wrong.
    pub(crate) fn attempt(&self, error: Option<&str>) {
        match error {
            None => self.ok_attempts.inc(),
            Some(error) => self.attempts.with(&[&self.provider, &self.model, error]).inc(),
        }
    }

    /// What a call used.
    pub(crate) fn usage(&self, operation: Operation, usage: &Usage) {
        self.of(operation).input.observe(usage.input as f64);
        let totals = if usage.estimated { &self.estimated_total } else { &self.tokens_total };
        totals[0].inc_by(usage.input);
        if operation != Operation::Embeddings {
            self.of(operation).output.observe(usage.output as f64);
            totals[1].inc_by(usage.output);
        }
    }
}
