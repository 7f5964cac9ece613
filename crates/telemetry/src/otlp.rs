//! Traces and metrics over OTLP/HTTP with protobuf bodies
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! Spans are recorded whole, when they end, into a bounded queue; one task sends them in batches, another
//! sends the registry at an interval. A collector that is slow, down or refusing costs spans, which are
//! counted in `trunkline_telemetry_dropped_total`, and never a request. Metric points that could not be sent
//! are counted there as well, though what they counted is in those of the next export.
//!
//! Metrics keep their Prometheus names, but for those whose names the semantic conventions (or the guides)
//! give with dots: `gen_ai_client_token_usage` is sent as `gen_ai.client.token.usage`, and its label
//! `gen_ai_request_model` as `gen_ai.request.model`. [`crate::gen_ai`] has the table;
//! [`crate::Family::otlp_name`] adds to it.

mod export;
mod names;
mod points;
mod resource;
mod span;
mod tracer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Error;
use crate::metrics::Metrics;
use crate::settings::OtlpSettings;
use export::{Endpoints, Exporter};
use points::Reader;
pub use resource::Resource;
pub use span::{AttributeValue, SpanEvent, SpanKind, SpanRecord, SpanStatus};
pub use tracer::Tracer;

use tracer::{BATCH, Queue};

/// How long a span waits for company.
const TRACES_INTERVAL: Duration = Duration::from_secs(1);

/// The tasks that export. Dropping it lets them send what they have once, without waiting for them.
pub struct Otlp {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Otlp {
    /// Starts exporting on the current tokio runtime. Without an endpoint nothing is started and the
    /// tracer is disabled. Fails when an endpoint, a header, the ratio or the interval cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime, if there is an endpoint.
    pub fn start(
        settings: &OtlpSettings,
        metrics: &Metrics,
        resource: &Resource,
    ) -> Result<(Tracer, Otlp), Error> {
        let (stop, stopped) = watch::channel(false);
        let mut otlp = Otlp { stop, tasks: Vec::new() };
        let endpoints = Endpoints::new(settings)?;
        if endpoints.is_empty() {
            return Ok((Tracer::disabled(), otlp));
        }
        let client = export::client(settings, &endpoints, resource)?;
        let exporter = |signal, url| {
            Exporter::new(client.clone(), url, signal, metrics.dropped(signal), stopped.clone())
        };
        let tracer = match endpoints.traces {
            Some(url) => {
                let queue = Arc::new(Queue::new(settings.sample_ratio, metrics.dropped("traces")));
                let task = send_traces(Arc::clone(&queue), exporter("traces", url), resource.clone());
                otlp.tasks.push(tokio::spawn(task));
                Tracer::new(queue)
            }
            None => Tracer::disabled(),
        };
        if let Some(url) = endpoints.metrics {
            let reader = Reader::new(metrics.clone(), resource.clone(), settings.temporality);
            let task = send_metrics(reader, exporter("metrics", url), settings.metrics_interval.0);
            otlp.tasks.push(tokio::spawn(task));
        }
        Ok((tracer, otlp))
    }

    /// Sends what is queued and the metrics a last time, each once, and ends. What is not sent `within`
    /// this time is given up.
    pub async fn shutdown(mut self, within: Duration) {
        // Without a receiver the tasks have ended already.
        let _ = self.stop.send(true);
        let all = async {
            for task in &mut self.tasks {
                // A task that panicked has nothing left to send.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            self.tasks.iter().for_each(JoinHandle::abort);
            tracing::warn!("gave up sending the last traces and metrics");
        }
    }
}

/// Sends what is queued once a second, and whenever there is a full batch.
async fn send_traces(queue: Arc<Queue>, mut exporter: Exporter, resource: Resource) {
    loop {
        let stopping = exporter.pause(TRACES_INTERVAL, Some(queue.full())).await;
        loop {
            let spans = queue.take(BATCH);
            if spans.is_empty() {
                break;
            }
            let count = spans.len() as u64;
            exporter.send(&span::request(spans, &resource), count).await;
        }
        if stopping {
            return;
        }
    }
}

/// Sends the registry at each interval and at the end.
async fn send_metrics(mut reader: Reader, mut exporter: Exporter, interval: Duration) {
    loop {
        let stopping = exporter.pause(interval, None).await;
        let export = reader.read();
        if exporter.send(&export.request, export.points).await {
            reader.delivered(export);
        }
        if stopping {
            return;
        }
    }
}
