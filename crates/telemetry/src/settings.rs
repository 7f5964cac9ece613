//! The section `telemetry:`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::{Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `telemetry:`, logs, traces and metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// Logs.
    pub log: LogSettings,
    /// Traces and metrics over OTLP; nothing is sent without an endpoint.
    pub otlp: OtlpSettings,
    /// `service.name` of everything we send. Default: `trunkline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `deployment.environment.name`, for example `production`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Further resource attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Logs: text for people on stderr, JSON for programs on stdout, or either in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// A level, or directives as in `info,gateway=debug`.
    pub level: String,
    /// `text` (to stderr) or `json` (to stdout).
    pub format: LogFormat,
    /// Write to this file instead (appended).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: "info".into(), format: LogFormat::Text, file: None }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where traces and metrics go: OTLP over HTTP, protobuf bodies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpSettings {
    /// The collector's base URL, for example `http://127.0.0.1:4318`; `/v1/traces` and `/v1/metrics` are
    /// appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A full URL for traces, when it is not under `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_endpoint: Option<String>,
    /// A full URL for metrics, when it is not under `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_endpoint: Option<String>,
    /// Headers sent with each export, for example an API key. Values are secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
    /// What counters and histograms are counted from: `cumulative` or `delta`. Datadog and New Relic want
    /// `delta`.
    pub temporality: Temporality,
    /// The share of traces recorded when the caller did not decide, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        OtlpSettings {
            endpoint: None,
            traces_endpoint: None,
            metrics_endpoint: None,
            headers: BTreeMap::new(),
            metrics_interval: Duration::from_secs(30),
            temporality: Temporality::default(),
            sample_ratio: 1.0,
        }
    }
}

/// What the points of counters and histograms are counted from
/// (<https://opentelemetry.io/docs/specs/otel/metrics/data-model/#temporality>). Gauges have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Temporality {
    /// From the start of the process, as Prometheus counts.
    #[default]
    Cumulative,
    /// From the last export that the collector took. What has not changed since is not sent.
    Delta,
}
