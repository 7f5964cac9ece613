//! The metrics of the pipeline, under the Conserver's names.

use telemetry::{BoundedCounterVec, BoundedGaugeVec, BoundedHistogramVec, Error, Family, Metrics};

use crate::meters::BUCKETS;

/// What the pipeline counts.
pub(crate) struct PipelineMetrics {
    /// vCons put into ingress lists, by list and source.
    pub(crate) enqueued: BoundedCounterVec,
    /// vCons taken from ingress lists.
    pub(crate) received: BoundedCounterVec,
    /// vCons that a chain is done with.
    pub(crate) processed: BoundedCounterVec,
    /// From taking to the end of the chain.
    pub(crate) time: BoundedHistogramVec,
    /// vCons in work.
    pub(crate) inflight: BoundedGaugeVec,
    /// Runs of links, by outcome.
    pub(crate) links: BoundedCounterVec,
    /// How long links take.
    pub(crate) link_time: BoundedHistogramVec,
    /// Saves to storages, by outcome.
    pub(crate) storages: BoundedCounterVec,
    /// How long saves take.
    pub(crate) storage_time: BoundedHistogramVec,
    /// Dead letters made.
    pub(crate) dead: BoundedCounterVec,
    /// How long lists are.
    pub(crate) lengths: BoundedGaugeVec,
    /// Where vCons were found that were not here.
    pub(crate) lookups: BoundedCounterVec,
}

impl PipelineMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Result<Self, Error> {
        let counter = |name: &str, help: &str, labels: &[&str], otlp: &str| {
            metrics.counter(&Family::new(name, help).labels(labels).otlp_name(otlp))
        };
        let histogram = |name: &str, help: &str, labels: &[&str], otlp: &str| {
            metrics.histogram(&Family::new(name, help).labels(labels).unit("s").otlp_name(otlp), BUCKETS)
        };
        let gauge = |name: &str, help: &str, labels: &[&str], otlp: &str| {
            metrics.gauge(&Family::new(name, help).labels(labels).otlp_name(otlp))
        };
        Ok(PipelineMetrics {
            enqueued: counter(
                "conserver_api_count_vcons_enqueued_total",
                "vCons put into lists, by list and source.",
                &["ingress_list", "source"],
                "conserver.api.count_vcons_enqueued",
            )?,
            received: counter(
                "conserver_main_loop_count_vcons_received_total",
                "vCons taken from lists.",
                &["ingress_list"],
                "conserver.main_loop.count_vcons_received",
            )?,
            processed: counter(
                "conserver_main_loop_count_vcons_processed_total",
                "vCons that a chain is done with.",
                &["chain_name"],
                "conserver.main_loop.count_vcons_processed",
            )?,
            time: histogram(
                "conserver_main_loop_vcon_processing_time_seconds",
                "How long a chain takes for a vCon.",
                &["chain_name"],
                "conserver.main_loop.vcon_processing_time",
            )?,
            inflight: gauge(
                "conserver_vcons_inflight",
                "vCons in work.",
                &["chain_name"],
                "conserver.vcons.inflight",
            )?,
            links: counter(
                "conserver_link_count_total",
                "Runs of links, by outcome and status (ok, error, skipped).",
                &["link_name", "outcome", "status"],
                "conserver.link.count",
            )?,
            link_time: histogram(
                "conserver_link_execution_time_seconds",
                "How long a link takes.",
                &["link_name", "chain_name"],
                "conserver.link.execution_time",
            )?,
            storages: counter(
                "conserver_storage_count_total",
                "Saves to storages, by outcome.",
                &["backend", "outcome"],
                "conserver.storage.count",
            )?,
            storage_time: histogram(
                "conserver_storage_duration_seconds",
                "How long a save to a storage takes.",
                &["backend", "outcome"],
                "conserver.storage.duration",
            )?,
            dead: counter(
                "conserver_dlq_count_total",
                "Dead letters made, by queue.",
                &["queue_name"],
                "conserver.dlq.count",
            )?,
            lengths: gauge(
                "conserver_ingress_list_length",
                "How many vCons wait in a list, and how many dead letters it has.",
                &["ingress_list", "kind"],
                "conserver.ingress_list.length",
            )?,
            lookups: counter(
                "conserver_vcon_lookups_total",
                "Looks for vCons that were not here: storage_hit, not_found.",
                &["outcome"],
                "conserver.lib.vcon_redis.get_vcon",
            )?,
        })
    }
}
