//! What Trunkline tells about itself: a log, metrics for Prometheus, and traces and metrics over OTLP.
//!
//! A request must not wait for any of it. A log line is formatted into a buffer of the thread and copied
//! to one that a single background thread writes; a metric is an atomic once its series is known; a span
//! is a push into a bounded queue. When a buffer is full we drop, count what was dropped, and say so.

mod error;
pub mod gen_ai;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod settings;

pub use error::Error;
pub use log::{Capture, LogHandle, capture, check_level, init};
pub use metrics::{BoundedCounterVec, BoundedGaugeVec, BoundedHistogramVec, Family, Metrics, memory_bytes};
pub use otlp::{AttributeValue, Otlp, Resource, SpanEvent, SpanKind, SpanRecord, SpanStatus, Tracer};
pub use settings::{LogFormat, LogSettings, OtlpSettings, TelemetrySettings, Temporality};
