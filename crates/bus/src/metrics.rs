//! What the clients of Redis, RabbitMQ and object stores count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use telemetry::Metrics;
use telemetry::metrics::{BoundedCounterVec, BoundedGaugeVec, Family, Gauge};

/// The metrics of all backends; made once, shared by all. Cheap to clone.
#[derive(Clone)]
pub struct BusMetrics {
    redis: BoundedCounterVec,
    objects: BoundedCounterVec,
    rabbitmq: BoundedGaugeVec,
    consumers: Arc<Consumers>,
}

/// How many consumers this process has at RabbitMQ.
struct Consumers {
    count: AtomicUsize,
    shown: Gauge,
}

/// A consumer, counted until it is dropped.
pub(crate) struct Consumer(Arc<Consumers>);

impl Drop for Consumer {
    fn drop(&mut self) {
        let left = self.0.count.fetch_sub(1, Ordering::Relaxed) - 1;
        self.0.shown.set(left as f64);
    }
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
            consumers: Arc::new(Consumers {
                count: AtomicUsize::new(0),
                shown: metrics
                    .gauge(&Family::new("rabbitmq_consumers", "Consumers of this process at RabbitMQ."))?
                    .with(&[]),
            }),
        })
    }

    /// How many consumers this process has at RabbitMQ.
    pub fn consumers(&self) -> usize {
        self.consumers.count.load(Ordering::Relaxed)
    }

    /// Counts one more, for as long as what is returned is kept.
    pub(crate) fn consumer(&self) -> Consumer {
        let count = self.consumers.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.consumers.shown.set(count as f64);
        Consumer(Arc::clone(&self.consumers))
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
