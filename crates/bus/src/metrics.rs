//! What the clients of Redis, RabbitMQ and object stores count.

use telemetry::Metrics;
use telemetry::metrics::{BoundedCounterVec, BoundedGaugeVec, Family};

/// The metrics of all backends; made once, shared by all. Cheap to clone.
#[derive(Clone)]
pub struct BusMetrics {
    redis: BoundedCounterVec,
    objects: BoundedCounterVec,
    rabbitmq: BoundedGaugeVec,
}

impl BusMetrics {
    /// Declares them. Fails when it was done before in the same registry.
    pub fn new(metrics: &Metrics) -> Result<Self, telemetry::Error> {
        let operations = ["operation", "status"];
        Ok(BusMetrics {
            redis: metrics.counter(
                &Family::new("redis_operations_total", "Commands and scripts sent to Redis.")
                    .labels(&operations),
            )?,
            objects: metrics.counter(
                &Family::new("minio_operations_total", "Requests to the object store.").labels(&operations),
            )?,
            rabbitmq: metrics.gauge(
                &Family::new("rabbitmq_queue_messages", "Messages that are ready in a queue of RabbitMQ.")
                    .labels(&["queue"])
                    .max_series(200),
            )?,
        })
    }

    pub(crate) fn redis(&self, operation: &str, ok: bool) {
        self.redis.with(&[operation, status(ok)]).inc();
    }

    pub(crate) fn object(&self, operation: &str, ok: bool) {
        self.objects.with(&[operation, status(ok)]).inc();
    }

    pub(crate) fn rabbitmq_messages(&self, queue: &str, count: u32) {
        self.rabbitmq.with(&[queue]).set(f64::from(count));
    }
}

fn status(ok: bool) -> &'static str {
    if ok { "ok" } else { "error" }
}
