//! The registry in OTLP's form.

use std::collections::HashMap;
use std::time::SystemTime;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use prometheus::proto::{self, MetricFamily, MetricType};

use super::span::{key_value, nanos};
use super::{Resource, names};
use crate::metrics::Metrics;
use crate::settings::Temporality;

/// Reads the registry for one export after the other.
pub(super) struct Reader {
    metrics: Metrics,
    resource: Resource,
    temporality: Temporality,
    base: Base,
}

/// What points are counted from: nothing at the start, and there it stays for cumulative points. For deltas
/// it is what the last export that was delivered had read, so that a failed one is made good by the next.
/// It holds what the registry holds at most, which is bounded.
struct Base {
    families: HashMap<String, MetricFamily>,
    /// Nanoseconds since 1970.
    at: u64,
}

/// One export.
pub(super) struct Export {
    /// Its body.
    pub(super) request: ExportMetricsServiceRequest,
    /// How many points that holds.
    pub(super) points: u64,
    read: Base,
}

impl Reader {
    pub(super) fn new(metrics: Metrics, resource: Resource, temporality: Temporality) -> Self {
        let base = Base { families: HashMap::new(), at: nanos(metrics.started()) };
        Reader { metrics, resource, temporality, base }
    }

    /// What there is to send now.
    pub(super) fn read(&self) -> Export {
        let now = nanos(SystemTime::now());
        // A clock that was set back must not make an interval that ends before it begins.
        let times = Times { start: self.base.at.min(now), now };
        let families = self.metrics.gather();
        let metrics: Vec<Metric> = families.iter().filter_map(|family| self.metric(family, times)).collect();
        let points = metrics.iter().filter_map(|metric| metric.data.as_ref()).map(count).sum();
        let scope_metrics =
            ScopeMetrics { scope: Some(self.resource.scope()), metrics, ..Default::default() };
        let resource_metrics = ResourceMetrics {
            resource: Some(self.resource.proto()),
            scope_metrics: vec![scope_metrics],
            ..Default::default()
        };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] };
        let counted = families.into_iter().filter(|family| family.get_field_type() != MetricType::GAUGE);
        let families = counted.map(|family| (family.name().to_owned(), family)).collect();
        Export { request, points, read: Base { families, at: now } }
    }

    /// The collector has this export: deltas are counted from it on.
    pub(super) fn delivered(&mut self, export: Export) {
        if self.temporality == Temporality::Delta {
            self.base = export.read;
        }
    }

    /// `None` when there is nothing to say.
    fn metric(&self, family: &MetricFamily, times: Times) -> Option<Metric> {
        let said = self.metrics.otlp(family.name());
        let known = names::metric(family.name());
        let name = said.name.clone().or(known.map(|(name, _)| name.to_owned()));
        let unit = if said.unit.is_empty() {
            known.map_or_else(|| names::unit(family.name()), |(_, unit)| unit)
        } else {
            &said.unit
        };
        // Labels get their dots where the family has them: the two vocabularies are not mixed.
        let data = self.data(family, name.is_some(), times);
        (count(&data) > 0).then(|| Metric {
            name: name.unwrap_or_else(|| family.name().to_owned()),
            description: family.help().to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
            ..Default::default()
        })
    }

    fn data(&self, family: &MetricFamily, dotted: bool, times: Times) -> Data {
        let before = self.base.series(family.name());
        let points = family.get_metric().iter().map(|metric| (metric, before.get(&values(metric)).copied()));
        // A delta of nothing need not be sent
        // (https://opentelemetry.io/docs/specs/otel/metrics/data-model/#resets-and-gaps); a cumulative point
        // that is missing would be a gap.
        let (aggregation_temporality, all) = match self.temporality {
            Temporality::Cumulative => (AggregationTemporality::Cumulative as i32, true),
            Temporality::Delta => (AggregationTemporality::Delta as i32, false),
        };
        match family.get_field_type() {
            MetricType::COUNTER => {
                let points = points.filter_map(|(metric, before)| {
                    let value = |metric: &proto::Metric| metric.get_counter().get_value();
                    let more = value(metric) - before.map_or(0.0, value);
                    (all || more > 0.0).then(|| number(metric, more, dotted, times))
                });
                Data::Sum(Sum { data_points: points.collect(), aggregation_temporality, is_monotonic: true })
            }
            MetricType::HISTOGRAM => {
                let points = points.map(|(metric, before)| histogram(metric, before, dotted, times));
                let points = points.filter(|point| all || point.count > 0);
                Data::Histogram(Histogram { data_points: points.collect(), aggregation_temporality })
            }
            // Nothing else is ever declared here.
            _ => {
                let times = Times { start: 0, ..times };
                let points = points.map(|(m, _)| number(m, m.get_gauge().get_value(), dotted, times));
                Data::Gauge(Gauge { data_points: points.collect() })
            }
        }
    }
}

impl Base {
    /// The series of a family by their label values.
    fn series(&self, family: &str) -> HashMap<Vec<&str>, &proto::Metric> {
        let series = self.families.get(family).map(MetricFamily::get_metric).unwrap_or_default();
        series.iter().map(|metric| (values(metric), metric)).collect()
    }
}

/// A series' label values; the names are the family's.
fn values(metric: &proto::Metric) -> Vec<&str> {
    metric.get_label().iter().map(proto::LabelPair::value).collect()
}

fn count(data: &Data) -> u64 {
    let points = match data {
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::Gauge(gauge) => gauge.data_points.len(),
        // Neither is ever made here.
        Data::ExponentialHistogram(_) | Data::Summary(_) => 0,
    };
    points as u64
}

/// The interval of a point.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

fn number(metric: &proto::Metric, value: f64, dotted: bool, times: Times) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(metric, dotted),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(Value::AsDouble(value)),
        ..Default::default()
    }
}

/// What was observed since `before`.
fn histogram(
    metric: &proto::Metric,
    before: Option<&proto::Metric>,
    dotted: bool,
    times: Times,
) -> HistogramDataPoint {
    let histogram = metric.get_histogram();
    let before = before.map(proto::Metric::get_histogram);
    let mut bucket_counts = bucket_counts(histogram);
    if let Some(before) = before {
        for (count, before) in bucket_counts.iter_mut().zip(self::bucket_counts(before)) {
            *count = count.saturating_sub(before);
        }
    }
    HistogramDataPoint {
        count: bucket_counts.iter().sum(),
        bucket_counts,
        explicit_bounds: histogram.get_bucket().iter().map(proto::Bucket::upper_bound).collect(),
        attributes: attributes(metric, dotted),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        sum: Some(histogram.get_sample_sum() - before.map_or(0.0, proto::Histogram::get_sample_sum)),
        ..Default::default()
    }
}

/// Prometheus counts in a bucket all that is below its bound; OTLP what is between two bounds, with one
/// bucket more for what is above the last.
fn bucket_counts(histogram: &proto::Histogram) -> Vec<u64> {
    let buckets = histogram.get_bucket().iter().map(proto::Bucket::cumulative_count);
    let mut below = 0;
    let counts = buckets.chain([histogram.get_sample_count()]).map(|total| {
        let count = total.saturating_sub(below);
        below = total;
        count
    });
    counts.collect()
}

fn attributes(metric: &proto::Metric, dotted: bool) -> Vec<KeyValue> {
    let attribute = |label: &proto::LabelPair| {
        let name = if dotted { names::label(label.name()) } else { None };
        key_value(name.unwrap_or(label.name()).to_owned(), label.value().to_owned().into())
    };
    metric.get_label().iter().map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Counter, Family};

    struct Setup {
        reader: Reader,
        calls: crate::BoundedCounterVec,
        sizes: crate::BoundedHistogramVec,
    }

    fn setup(temporality: Temporality) -> Setup {
        let metrics = Metrics::new().unwrap();
        let calls = metrics.counter(&Family::new("calls_total", "Calls.").labels(&["a", "b"])).unwrap();
        let sizes = metrics.histogram(&Family::new("sizes", "Sizes."), &[1.0, 4.0]).unwrap();
        metrics.gauge(&Family::new("open", "Open.")).unwrap().with(&[]).set(7.0);
        let resource = Resource::new(&Default::default(), "1");
        Setup { reader: Reader::new(metrics, resource, temporality), calls, sizes }
    }

    fn data(export: &Export, name: &str) -> Option<Data> {
        let metrics = &export.request.resource_metrics[0].scope_metrics[0].metrics;
        metrics.iter().find(|metric| metric.name == name).and_then(|metric| metric.data.clone())
    }

    /// The values of `calls_total`, and the interval they all have.
    fn sums(export: &Export) -> (Vec<f64>, Option<(u64, u64)>) {
        let Some(Data::Sum(sum)) = data(export, "calls_total") else { return Default::default() };
        let times = |point: &NumberDataPoint| (point.start_time_unix_nano, point.time_unix_nano);
        assert!(sum.data_points.iter().all(|point| times(point) == times(&sum.data_points[0])));
        let value = |point: &NumberDataPoint| match point.value {
            Some(Value::AsDouble(value)) => value,
            _ => panic!("not a double"),
        };
        (sum.data_points.iter().map(value).collect(), Some(times(&sum.data_points[0])))
    }

    #[test]
    fn deltas_are_counted_from_the_last_delivered_export() {
        let mut setup = setup(Temporality::Delta);
        let started = nanos(setup.reader.metrics.started());
        setup.calls.with(&["x", "yz"]).inc_by(3);
        setup.calls.with(&["xy", "z"]).inc_by(10);
        let first = setup.reader.read();
        let (values, times) = sums(&first);
        assert_eq!((values, times.unwrap().0), (vec![3.0, 10.0], started));
        let Some(Data::Sum(sum)) = data(&first, "calls_total") else { panic!("not a sum") };
        assert!(sum.is_monotonic && sum.aggregation_temporality == AggregationTemporality::Delta as i32);
        setup.reader.delivered(first);

        // Only what changed, from the end of the last; a new series from zero.
        setup.calls.with(&["xy", "z"]).inc_by(2);
        setup.calls.with(&["z", "z"]).inc();
        let lost = setup.reader.read();
        let (values, second) = sums(&lost);
        assert_eq!((values, second.unwrap().0), (vec![2.0, 1.0], times.unwrap().1));

        // That one got lost: the next holds it, and its time.
        setup.calls.with(&["xy", "z"]).inc_by(5);
        let third = setup.reader.read();
        let (values, third_times) = sums(&third);
        assert_eq!((values, third_times.unwrap().0), (vec![7.0, 1.0], times.unwrap().1));
        setup.reader.delivered(third);
        let (values, _) = sums(&setup.reader.read());
        assert_eq!(values, [0.0; 0]);
    }

    #[test]
    fn a_histograms_delta_is_that_of_each_bucket() {
        let mut setup = setup(Temporality::Delta);
        let sizes = setup.sizes.with(&[]);
        let point = |export: &Export| match data(export, "sizes") {
            Some(Data::Histogram(histogram)) => histogram.data_points.first().cloned(),
            _ => None,
        };
        // A series that never observed anything has nothing to say.
        assert_eq!(point(&setup.reader.read()), None);
        [0.5, 2.0, 8.0].into_iter().for_each(|size| sizes.observe(size));
        let first = setup.reader.read();
        assert_eq!(point(&first).unwrap().bucket_counts, [1, 1, 1]);
        setup.reader.delivered(first);
        [3.0, 16.0].into_iter().for_each(|size| sizes.observe(size));
        let second = setup.reader.read();
        let delta = point(&second).unwrap();
        assert_eq!((&delta.bucket_counts[..], &delta.explicit_bounds[..]), (&[0, 1, 1][..], &[1.0, 4.0][..]));
        assert_eq!((delta.count, delta.sum), (2, Some(19.0)));
        setup.reader.delivered(second);
        assert_eq!(point(&setup.reader.read()), None);
    }

    #[test]
    fn gauges_and_cumulative_points_are_always_sent_whole() {
        for temporality in [Temporality::Cumulative, Temporality::Delta] {
            let mut setup = setup(temporality);
            let started = nanos(setup.reader.metrics.started());
            let call: Counter = setup.calls.with(&["a", "b"]);
            call.inc();
            for _ in 0..2 {
                let export = setup.reader.read();
                let Some(Data::Gauge(gauge)) = data(&export, "open") else { panic!("not a gauge") };
                assert_eq!(gauge.data_points[0].value, Some(Value::AsDouble(7.0)));
                assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
                if temporality == Temporality::Cumulative {
                    let (values, times) = sums(&export);
                    assert_eq!((values, times.unwrap().0), (vec![1.0], started));
                }
                let metrics = &export.request.resource_metrics[0].scope_metrics[0].metrics;
                let points = metrics.iter().filter_map(|metric| metric.data.as_ref()).map(count);
                assert_eq!(export.points, points.sum::<u64>());
                setup.reader.delivered(export);
            }
        }
    }

    #[test]
    fn a_clock_set_back_makes_no_negative_interval() {
        let mut setup = setup(Temporality::Delta);
        setup.reader.base.at = u64::MAX;
        setup.calls.with(&["a", "b"]).inc();
        let (_, times) = sums(&setup.reader.read());
        let (start, now) = times.unwrap();
        assert_eq!(start, now);
    }
}
