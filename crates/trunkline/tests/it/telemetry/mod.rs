//! What the application tells about itself: metrics for Prometheus, traces and metrics over OTLP.

mod alerts;
mod exported;
mod prometheus;
mod spans;
mod text_format;
mod vendors;

use testkit::Collector;

/// Settings that send everything to this collector, soon.
fn to(collector: &Collector) -> String {
    format!("telemetry: {{otlp: {{endpoint: '{}', metrics_interval: 50ms}}}}\n", collector.base_url())
}

/// A chat with `m`.
fn hello(stream: bool) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"stream":{stream}}}"#)
}
