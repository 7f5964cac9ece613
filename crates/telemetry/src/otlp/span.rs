//! A finished span, and its form on the wire.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use base::TraceContext;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans, SpanFlags};

use super::Resource;

/// A span that has ended. Build it with [`SpanRecord::new`] when it ends, from what was kept on the way.
#[derive(Clone, Debug)]
pub struct SpanRecord {
    /// The trace, never all zero.
    pub trace_id: [u8; 16],
    /// This span, never all zero.
    pub span_id: [u8; 8],
    /// The span it is part of.
    pub parent_span_id: Option<[u8; 8]>,
    /// Of low cardinality: `POST /v1/chat/completions`, `chat gpt-4.1`.
    pub name: Cow<'static, str>,
    /// Which side of a call it is.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What is known about it, each key once.
    pub attributes: Vec<(Cow<'static, str>, AttributeValue)>,
    /// What happened on the way.
    pub events: Vec<SpanEvent>,
    /// How it ended.
    pub status: SpanStatus,
}

impl SpanRecord {
    /// The span that `context` names, from `start` until now.
    pub fn new(
        context: &TraceContext,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        start: SystemTime,
    ) -> Self {
        SpanRecord {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent_span_id: context.parent_span_id,
            name: name.into(),
            kind,
            start,
            end: SystemTime::now(),
            attributes: Vec::new(),
            events: Vec::new(),
            status: SpanStatus::Unset,
        }
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, key: &'static str, value: impl Into<AttributeValue>) -> &mut Self {
        self.attributes.push((Cow::Borrowed(key), value.into()));
        self
    }
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that we answer; its parent, if any, is another process'.
    Server,
    /// A call that we make.
    Client,
    /// Neither.
    Internal,
}

/// How a span ended. The conventions leave it unset unless it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nothing to say, the usual end.
    Unset,
    /// Someone decided that it succeeded.
    Ok,
    /// It failed, and why.
    Error(String),
}

/// Something that happened during a span.
#[derive(Clone, Debug)]
pub struct SpanEvent {
    /// What happened, of low cardinality.
    pub name: Cow<'static, str>,
    /// When.
    pub time: SystemTime,
    /// What is known about it.
    pub attributes: Vec<(Cow<'static, str>, AttributeValue)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// Text.
    Str(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Several texts.
    List(Vec<Cow<'static, str>>),
}

macro_rules! from {
    ($($type:ty => $value:ident, $form:expr;)*) => {
        $(impl From<$type> for AttributeValue {
            fn from($value: $type) -> Self {
                $form
            }
        })*
    };
}

from! {
    &'static str => value, AttributeValue::Str(Cow::Borrowed(value));
    String => value, AttributeValue::Str(Cow::Owned(value));
    Cow<'static, str> => value, AttributeValue::Str(value);
    i64 => value, AttributeValue::Int(value);
    u64 => value, AttributeValue::Int(i64::try_from(value).unwrap_or(i64::MAX));
    u32 => value, AttributeValue::Int(value.into());
    u16 => value, AttributeValue::Int(value.into());
    f64 => value, AttributeValue::Float(value);
    bool => value, AttributeValue::Bool(value);
    Vec<Cow<'static, str>> => value, AttributeValue::List(value);
    Vec<String> => value, AttributeValue::List(value.into_iter().map(Cow::Owned).collect());
}

/// The body of one export.
pub(super) fn request(spans: Vec<SpanRecord>, resource: &Resource) -> ExportTraceServiceRequest {
    let scope_spans = ScopeSpans {
        scope: Some(resource.scope()),
        spans: spans.into_iter().map(span).collect(),
        ..Default::default()
    };
    let resource_spans = ResourceSpans {
        resource: Some(resource.proto()),
        scope_spans: vec![scope_spans],
        ..Default::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn span(record: SpanRecord) -> proto::Span {
    let kind = match record.kind {
        SpanKind::Server => proto::span::SpanKind::Server,
        SpanKind::Client => proto::span::SpanKind::Client,
        SpanKind::Internal => proto::span::SpanKind::Internal,
    };
    // Recorded spans are sampled ones; and a server's parent is the caller's, the others' our own.
    let remote = record.kind == SpanKind::Server && record.parent_span_id.is_some();
    let remote = if remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    proto::Span {
        trace_id: record.trace_id.to_vec(),
        span_id: record.span_id.to_vec(),
        parent_span_id: record.parent_span_id.map(Vec::from).unwrap_or_default(),
        flags: 1 | SpanFlags::ContextHasIsRemoteMask as u32 | remote,
        name: record.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(record.start),
        end_time_unix_nano: nanos(record.end),
        attributes: key_values(record.attributes),
        events: record.events.into_iter().map(event).collect(),
        status: status(record.status),
        ..Default::default()
    }
}

fn event(event: SpanEvent) -> proto::span::Event {
    proto::span::Event {
        time_unix_nano: nanos(event.time),
        name: event.name.into_owned(),
        attributes: key_values(event.attributes),
        ..Default::default()
    }
}

fn status(status: SpanStatus) -> Option<proto::Status> {
    let (code, message) = match status {
        SpanStatus::Unset => return None,
        SpanStatus::Ok => (proto::status::StatusCode::Ok, String::new()),
        SpanStatus::Error(message) => (proto::status::StatusCode::Error, message),
    };
    Some(proto::Status { message, code: code.into() })
}

fn key_values(attributes: Vec<(Cow<'static, str>, AttributeValue)>) -> Vec<KeyValue> {
    attributes.into_iter().map(|(key, value)| key_value(key.into_owned(), value)).collect()
}

/// An attribute on the wire.
pub(super) fn key_value(key: String, value: AttributeValue) -> KeyValue {
    let text = |text: Cow<'static, str>| Value::StringValue(text.into_owned());
    let value = match value {
        AttributeValue::Str(value) => text(value),
        AttributeValue::Int(value) => Value::IntValue(value),
        AttributeValue::Float(value) => Value::DoubleValue(value),
        AttributeValue::Bool(value) => Value::BoolValue(value),
        AttributeValue::List(values) => {
            let values = values.into_iter().map(|value| AnyValue { value: Some(text(value)) });
            Value::ArrayValue(ArrayValue { values: values.collect() })
        }
    };
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

/// Nanoseconds since 1970, as OTLP counts time.
pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
