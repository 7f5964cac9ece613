//! Counters and durations of links and storages, under the names of the Conserver: `conserver.link.openai.…` over
//! OTLP, `conserver_link_openai_…` for Prometheus.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use telemetry::{BoundedCounterVec, BoundedHistogramVec, Family, Metrics};

/// Upper bounds for links and storages, in seconds: from a tag to a long transcription.
pub const BUCKETS: &[f64] =
    &[0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Counters and durations by name, declared when first used. Cheap to clone.
#[derive(Clone)]
pub struct Meters {
    metrics: Metrics,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    counters: HashMap<&'static str, Option<BoundedCounterVec>>,
    histograms: HashMap<&'static str, Option<BoundedHistogramVec>>,
}

impl Meters {
    /// Meters that end in these metrics.
    pub fn new(metrics: Metrics) -> Self {
        Meters { metrics, known: Arc::default() }
    }

    /// The metrics themselves.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Adds to a counter of a link or storage: `count("link.openai.transcription_failures", "my_link", 1)`.
    pub fn count(&self, name: &'static str, of: &str, by: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = known.counters.entry(name).or_insert_with(|| {
            let (prometheus, otlp) = (format!("{}_total", prometheus(name)), otlp(name));
            let family = Family::new(&prometheus, "Counted by a link or storage of conversations.")
                .labels(&["link_name"])
                .otlp_name(&otlp);
            self.metrics.counter(&family).map_err(|error| warn(name, &error)).ok()
        });
        if let Some(counter) = counter {
            counter.with(&[of]).inc_by(by);
        }
    }

    /// Notes a duration in seconds: `observe("link.openai.transcription_time", "my_link", 1.5)`.
    pub fn observe(&self, name: &'static str, of: &str, seconds: f64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = known.histograms.entry(name).or_insert_with(|| {
            let (prometheus, otlp) = (format!("{}_seconds", prometheus(name)), otlp(name));
            let family = Family::new(&prometheus, "Measured by a link or storage of conversations.")
                .labels(&["link_name"])
                .unit("s")
                .otlp_name(&otlp);
            self.metrics.histogram(&family, BUCKETS).map_err(|error| warn(name, &error)).ok()
        });
        if let Some(histogram) = histogram {
            histogram.with(&[of]).observe(seconds);
        }
    }
}

fn prometheus(name: &str) -> String {
    format!("conserver_{}", name.replace(['.', '-'], "_"))
}

fn otlp(name: &str) -> String {
    format!("conserver.{name}")
}

fn warn(name: &str, error: &telemetry::Error) {
    tracing::error!(name, %error, "a metric cannot be declared");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_conserver() {
        let metrics = Metrics::new().unwrap();
        let meters = Meters::new(metrics.clone());
        meters.count("link.jq.vcon_filtered_out", "keep", 2);
        meters.observe("link.jq.time", "keep", 0.2);
        let text = metrics.render();
        assert!(text.contains("conserver_link_jq_vcon_filtered_out_total{link_name=\"keep\"} 2"), "{text}");
        assert!(text.contains("conserver_link_jq_time_seconds_count{link_name=\"keep\"} 1"), "{text}");
    }
}
