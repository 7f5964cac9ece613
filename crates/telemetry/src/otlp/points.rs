//! The registry in OTLP's form.

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

/// The body of one export, and how many points it holds.
pub(super) fn request(metrics: &Metrics, resource: &Resource) -> (ExportMetricsServiceRequest, u64) {
    let times = Times { start: nanos(metrics.started()), now: nanos(SystemTime::now()) };
    let families = metrics.gather();
    let points = families.iter().map(|family| family.get_metric().len() as u64).sum();
    let scope_metrics = ScopeMetrics {
        scope: Some(resource.scope()),
        metrics: families.iter().map(|family| convert(family, metrics, times)).collect(),
        ..Default::default()
    };
    let resource_metrics = ResourceMetrics {
        resource: Some(resource.proto()),
        scope_metrics: vec![scope_metrics],
        ..Default::default()
    };
    (ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }, points)
}

/// The interval of cumulative points.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

fn convert(family: &MetricFamily, metrics: &Metrics, times: Times) -> Metric {
    let said = metrics.otlp(family.name());
    let known = names::metric(family.name());
    let name = said.name.clone().or(known.map(|(name, _)| name.to_owned()));
    // Labels get their dots where the family has them: the two vocabularies are not mixed.
    let dotted = name.is_some();
    let unit = if said.unit.is_empty() { known.map_or("", |(_, unit)| unit) } else { &said.unit };
    let points = family.get_metric().iter();
    let cumulative = AggregationTemporality::Cumulative as i32;
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: points.map(|m| number(m, m.get_counter().get_value(), dotted, times)).collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: points.map(|m| histogram(m, dotted, times)).collect(),
            aggregation_temporality: cumulative,
        }),
        // Nothing else is ever declared here.
        _ => Data::Gauge(Gauge {
            data_points: points
                .map(|m| number(m, m.get_gauge().get_value(), dotted, Times { start: 0, ..times }))
                .collect(),
        }),
    };
    Metric {
        name: name.unwrap_or_else(|| family.name().to_owned()),
        description: family.help().to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Default::default()
    }
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

/// Prometheus counts in a bucket all that is below its bound; OTLP what is between two bounds, with one
/// bucket more for what is above the last.
fn histogram(metric: &proto::Metric, dotted: bool, times: Times) -> HistogramDataPoint {
    let histogram = metric.get_histogram();
    let buckets = histogram.get_bucket();
    let totals = buckets.iter().map(proto::Bucket::cumulative_count).chain([histogram.get_sample_count()]);
    let mut below = 0;
    let counts = totals.map(|total| {
        let count = total.saturating_sub(below);
        below = total;
        count
    });
    HistogramDataPoint {
        bucket_counts: counts.collect(),
        explicit_bounds: buckets.iter().map(proto::Bucket::upper_bound).collect(),
        attributes: attributes(metric, dotted),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        count: histogram.get_sample_count(),
        sum: Some(histogram.get_sample_sum()),
        ..Default::default()
    }
}

fn attributes(metric: &proto::Metric, dotted: bool) -> Vec<KeyValue> {
    let attribute = |label: &proto::LabelPair| {
        let name = if dotted { names::label(label.name()) } else { None };
        key_value(name.unwrap_or(label.name()).to_owned(), label.value().to_owned().into())
    };
    metric.get_label().iter().map(attribute).collect()
}
