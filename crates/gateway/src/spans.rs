//! The spans of a call: one for the call, as a server, and one for each attempt, as a client.
//!
//! Attributes are those of the OpenTelemetry GenAI conventions. An attempt that failed is recorded when it
//! does; the one that answers ends with the call, since only then it is known what it used and how it ended.

use std::time::{Instant, SystemTime};

use base::Outcome;
use telemetry::{SpanKind, SpanRecord, SpanStatus, Tracer, gen_ai};

use crate::failure::Failure;
use crate::meter::{Record, Running};
use crate::snapshot::Target;

/// An attempt failed.
pub(crate) fn failed_attempt(
    tracer: &Tracer,
    record: &Record,
    target: &Target,
    attempt: &Running,
    failure: &Failure,
) {
    if !tracer.enabled() || !record.trace.sampled {
        return;
    }
    let mut span = attempt_span(record, target, attempt);
    span.attribute(gen_ai::ERROR_TYPE, failure.class());
    span.status = SpanStatus::Error(failure.class().into());
    tracer.record(span);
}

/// The call ended, and with it the attempt that answered.
pub(crate) fn call(tracer: &Tracer, record: &Record) {
    if !tracer.enabled() || !record.trace.sampled {
        return;
    }
    let failed = record.outcome == Outcome::Failed;
    if let (Some(target), Some(running)) = (&record.target, &record.running) {
        let mut span = attempt_span(record, target, running);
        add_answer(&mut span, record);
        if failed {
            span.status = SpanStatus::Error(record.error.unwrap_or("failed").into());
        }
        tracer.record(span);
    }
    let name = format!("{} {}", record.operation.as_str(), record.model);
    let mut span = SpanRecord::new(&record.trace, name, SpanKind::Server, at(record.arrived));
    if let Some(target) = &record.target {
        target.describe(&mut span);
    }
    span.attribute(gen_ai::OPERATION_NAME, record.operation.as_str());
    span.attribute(gen_ai::REQUEST_MODEL, record.model.clone());
    span.attribute(gen_ai::REQUEST_STREAM, record.stream);
    span.attribute(gen_ai::HTTP_RESPONSE_STATUS_CODE, i64::from(record.status));
    span.attribute("trunkline.request_id", record.request_id.as_str().to_owned());
    span.attribute("trunkline.attempts", i64::from(record.attempts));
    span.attribute("trunkline.outcome", record.outcome.as_str());
    add_answer(&mut span, record);
    // A refusal (4xx) is the caller's error: the HTTP conventions leave a server's span unset then.
    if failed {
        span.status = SpanStatus::Error(record.error.unwrap_or("failed").into());
    }
    tracer.record(span);
}

fn attempt_span(record: &Record, target: &Target, attempt: &Running) -> SpanRecord {
    let name = format!("{} {}", record.operation.as_str(), target.model);
    let mut span = SpanRecord::new(&attempt.trace, name, SpanKind::Client, at(attempt.began));
    target.describe(&mut span);
    span.attribute(gen_ai::OPERATION_NAME, record.operation.as_str());
    span.attribute(gen_ai::REQUEST_MODEL, target.model.to_string());
    span
}

/// What is known of the answer.
fn add_answer(span: &mut SpanRecord, record: &Record) {
    if let Some(model) = &record.response_model {
        span.attribute(gen_ai::RESPONSE_MODEL, model.clone());
    }
    if let Some(reason) = &record.finish_reason {
        span.attribute(gen_ai::RESPONSE_FINISH_REASONS, vec![reason.clone()]);
    }
    if let Some(usage) = record.usage {
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        span.attribute(gen_ai::USAGE_INPUT_TOKENS, tokens(usage.input));
        span.attribute(gen_ai::USAGE_OUTPUT_TOKENS, tokens(usage.output));
    }
    if let Some(error) = record.error {
        span.attribute(gen_ai::ERROR_TYPE, error);
    }
}

/// The wall-clock time of a moment.
fn at(moment: Instant) -> SystemTime {
    SystemTime::now() - moment.elapsed()
}
