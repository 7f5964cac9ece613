//! Metrics: counters, gauges and histograms in a registry that belongs to the application, not to the
//! process, read by Prometheus and sent over OTLP.
//!
//! Memory is bounded. A family keeps a limited number of label sets; whatever comes after them is counted
//! under the label value `other`, so that a caller who invents model names can neither fill the memory nor
//! the monitoring system behind us.

mod bounded;
mod process;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, Opts, TextEncoder};

use crate::Error;
use bounded::Bounded;
pub use process::memory_bytes;

/// A value that goes up and down. Cheap to clone.
pub use prometheus::Gauge;
/// Counts observations by size. Cheap to clone.
pub use prometheus::Histogram;
/// Counts upwards, in whole numbers. Cheap to clone; cache one where a series is known.
pub use prometheus::IntCounter as Counter;

/// Counters by label values.
pub type BoundedCounterVec = Bounded<Counter>;
/// Gauges by label values.
pub type BoundedGaugeVec = Bounded<Gauge>;
/// Histograms by label values.
pub type BoundedHistogramVec = Bounded<Histogram>;

/// Buckets for what a request takes as a whole, in seconds: 5 ms to 5 min.
pub const DURATION_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Buckets for what we add ourselves, in seconds: 10 µs to 1 s.
pub const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0,
];

/// The most label sets of a family, unless it says otherwise.
const MAX_SERIES: usize = 2_000;

/// A metric's declaration.
#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    name: &'a str,
    help: &'a str,
    labels: &'a [&'a str],
    unit: &'a str,
    otlp_name: Option<&'a str>,
    max_series: usize,
}

impl<'a> Family<'a> {
    /// A family without labels. `name` and `help` are as Prometheus shows them.
    pub fn new(name: &'a str, help: &'a str) -> Self {
        Family { name, help, labels: &[], unit: "", otlp_name: None, max_series: MAX_SERIES }
    }

    /// The names of its labels, at most 16.
    pub fn labels(self, labels: &'a [&'a str]) -> Self {
        Family { labels, ..self }
    }

    /// The unit over OTLP, in UCUM: `s`, `By`, `{token}`. Known names bring their own.
    pub fn unit(self, unit: &'a str) -> Self {
        Family { unit, ..self }
    }

    /// The name over OTLP, when it is not the one for Prometheus and not a known one (see
    /// [`crate::otlp`]).
    pub fn otlp_name(self, name: &'a str) -> Self {
        Family { otlp_name: Some(name), ..self }
    }

    /// How many label sets are kept apart. The default is 2 000.
    pub fn max_series(self, count: usize) -> Self {
        Family { max_series: count, ..self }
    }
}

/// How a family is called over OTLP, where it was said at its declaration.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtlpNames {
    pub(crate) name: Option<String>,
    pub(crate) unit: String,
}

/// The metrics of one application. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: prometheus::Registry,
    otlp: RwLock<HashMap<String, OtlpNames>>,
    started: SystemTime,
    dropped: BoundedCounterVec,
}

impl Metrics {
    /// An empty registry, but for the metrics of the process and our own losses
    /// (`trunkline_telemetry_dropped_total`).
    pub fn new() -> Result<Self, Error> {
        let registry = prometheus::Registry::new();
        let process = process::Process::new().map_err(|error| wrong("process", &error))?;
        registry.register(Box::new(process)).map_err(|error| wrong("process", &error))?;
        let family = Family::new(
            "trunkline_telemetry_dropped_total",
            "Spans and metric points lost because a queue was full or a collector refused them.",
        )
        .labels(&["signal"]);
        let dropped = bounded_counter(&family)?;
        registry.register(Box::new(dropped.clone())).map_err(|error| wrong(family.name, &error))?;
        let inner = Inner { registry, otlp: RwLock::default(), started: SystemTime::now(), dropped };
        Ok(Metrics { inner: Arc::new(inner) })
    }

    /// Declares a counter; its name ends in `_total`. Fails when the name is taken or not valid.
    pub fn counter(&self, family: &Family<'_>) -> Result<BoundedCounterVec, Error> {
        let counter = bounded_counter(family)?;
        self.register(family, counter)
    }

    /// Declares a gauge. Fails when the name is taken or not valid.
    pub fn gauge(&self, family: &Family<'_>) -> Result<BoundedGaugeVec, Error> {
        let (name, help) = (family.name.to_owned(), family.help.to_owned());
        let gauge = Bounded::new(family, move || Gauge::with_opts(Opts::new(&name, &help)));
        self.register(family, gauge.map_err(|error| wrong(family.name, &error))?)
    }

    /// Declares a histogram with these upper bounds, ascending; `+Inf` is implied. Fails when the name is
    /// taken or not valid.
    pub fn histogram(&self, family: &Family<'_>, buckets: &[f64]) -> Result<BoundedHistogramVec, Error> {
        let options = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
        let histogram = Bounded::new(family, move || Histogram::with_opts(options.clone()));
        self.register(family, histogram.map_err(|error| wrong(family.name, &error))?)
    }

    /// All families in Prometheus' text format, version 0.0.4
    /// (`Content-Type: text/plain; version=0.0.4; charset=utf-8`).
    pub fn render(&self) -> String {
        let mut text = String::new();
        for family in self.gather() {
            let before = text.len();
            if let Err(error) = TextEncoder::new().encode_utf8(std::slice::from_ref(&family), &mut text) {
                // One broken family must not hide the others.
                text.truncate(before);
                tracing::error!(family = family.name(), %error, "cannot render a metric");
            }
        }
        text
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.inner.registry.gather()
    }

    /// What was said about a family's name over OTLP.
    pub(crate) fn otlp(&self, name: &str) -> OtlpNames {
        let names = self.inner.otlp.read().unwrap_or_else(PoisonError::into_inner);
        names.get(name).cloned().unwrap_or_default()
    }

    /// When the counters were zero.
    pub(crate) fn started(&self) -> SystemTime {
        self.inner.started
    }

    /// What was lost of a signal: `traces` or `metrics`.
    pub(crate) fn dropped(&self, signal: &str) -> Counter {
        self.inner.dropped.with(&[signal])
    }

    fn register<M>(&self, family: &Family<'_>, metric: Bounded<M>) -> Result<Bounded<M>, Error>
    where
        M: prometheus::core::Metric + bounded::Kind + 'static,
    {
        let registered = self.inner.registry.register(Box::new(metric.clone()));
        registered.map_err(|error| wrong(family.name, &error))?;
        if family.otlp_name.is_some() || !family.unit.is_empty() {
            let names = OtlpNames { name: family.otlp_name.map(str::to_owned), unit: family.unit.to_owned() };
            let mut otlp = self.inner.otlp.write().unwrap_or_else(PoisonError::into_inner);
            otlp.insert(family.name.to_owned(), names);
        }
        Ok(metric)
    }
}

fn bounded_counter(family: &Family<'_>) -> Result<BoundedCounterVec, Error> {
    let (name, help) = (family.name.to_owned(), family.help.to_owned());
    let counter = Bounded::new(family, move || Counter::with_opts(Opts::new(&name, &help)));
    counter.map_err(|error| wrong(family.name, &error))
}

fn wrong(name: &str, error: &prometheus::Error) -> Error {
    Error::Metric { name: name.to_owned(), reason: error.to_string() }
}
