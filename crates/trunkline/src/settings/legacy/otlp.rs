//! Legacy names that say where telemetry goes.

use super::super::convert;
use super::super::problem::{Origin, Path};
use super::super::tree::{Node, Value};
use super::super::vars::Found;
use super::Work;

/// The collector.
pub fn endpoint(work: &mut Work<'_>, url: &Found) -> Result<(), String> {
    work.set("telemetry.otlp.endpoint", &url.value, url)?;
    work.note(format!("{} sets telemetry.otlp.endpoint", url.name));
    if url.value.trim_end_matches('/').ends_with(":4317") {
        let note = format!(
            "{}: port 4317 is usually OTLP over gRPC; Trunkline speaks OTLP over HTTP, usually 4318",
            url.name
        );
        work.note(note);
    }
    Ok(())
}

/// Headers of every export.
pub fn headers(work: &mut Work<'_>, headers: &Found) -> Result<(), String> {
    for (name, value) in convert::pairs(&headers.value)? {
        let path = Path::of("telemetry.otlp.headers").key(&name.to_lowercase());
        work.put(&path, text_node(&value, &headers.name))?;
    }
    work.note(format!("{} sets telemetry.otlp.headers", headers.name));
    Ok(())
}

/// A text that is a string even when it looks like nothing.
fn text_node(value: &str, name: &str) -> Node {
    let mut node = Node::hidden(value, Origin::Env(name.to_owned()));
    if let Value::Scalar(scalar) = &mut node.value {
        scalar.plain = false;
    }
    node
}

/// What metrics are counted from. `lowmemory` means deltas for what is counted as it happens, and but for the
/// processor time so is all of ours.
pub fn temporality(value: &str) -> Result<String, String> {
    match value.trim().to_lowercase().as_str() {
        "cumulative" => Ok("cumulative".into()),
        "delta" | "lowmemory" => Ok("delta".into()),
        _ => Err("must be cumulative, delta or lowmemory".into()),
    }
}

/// Attributes of everything we send; three of them have settings of their own.
pub fn resource_attributes(work: &mut Work<'_>, attributes: &Found) -> Result<(), String> {
    for (name, value) in convert::pairs(&attributes.value)? {
        let path = match name.as_str() {
            "service.name" => Path::of("telemetry.service"),
            "deployment.environment.name" | "deployment.environment" => Path::of("telemetry.environment"),
            _ => Path::of("telemetry.attributes").key(&name),
        };
        work.put(&path, text_node(&value, &attributes.name))?;
    }
    work.note(format!("{} sets telemetry.attributes", attributes.name));
    Ok(())
}

/// What a vendor's metrics are counted from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metrics {
    /// As the settings say.
    Either,
    /// From the last export, unless the settings say otherwise.
    Delta,
}

/// Sends telemetry to a vendor, unless an endpoint is set: a vendor's key must not go to somebody else.
fn vendor(
    work: &mut Work<'_>,
    key: &Found,
    endpoint: &str,
    headers: &[(&str, &Found)],
    metrics: Metrics,
) -> Result<(), String> {
    let set = ["endpoint", "traces_endpoint", "metrics_endpoint"]
        .into_iter()
        .find(|name| work.has(&format!("telemetry.otlp.{name}")));
    if let Some(set) = set {
        let origin = work.tree.origin_of(&Path::of("telemetry.otlp").key(set)).short();
        work.note(format!("{} is not used, because telemetry.otlp.{set} is set by {origin}", key.name));
        return Ok(());
    }
    work.set("telemetry.otlp.endpoint", endpoint, key)?;
    for (name, found) in headers {
        work.put(&Path::of("telemetry.otlp.headers").key(name), text_node(&found.value, &found.name))?;
    }
    work.note(format!("{} sends telemetry to {endpoint}", key.name));
    if metrics == Metrics::Delta && !work.has("telemetry.otlp.temporality") {
        work.set("telemetry.otlp.temporality", "delta", key)?;
        work.note(format!("{} sets telemetry.otlp.temporality to delta", key.name));
    }
    Ok(())
}

/// `https://otlp.<site>`: Datadog's OTLP intake, protobuf over HTTP. It takes no cumulative metrics.
pub fn datadog(work: &mut Work<'_>, key: &Found) -> Result<(), String> {
    let site = work.env.get("DD_SITE")?.map_or_else(|| "datadoghq.com".to_owned(), |site| site.value);
    if !site.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) {
        return Err("DD_SITE is not a site, as `datadoghq.com` or `datadoghq.eu`".into());
    }
    vendor(work, key, &format!("https://otlp.{site}"), &[("dd-api-key", key)], Metrics::Delta)
}

/// License keys that begin with `eu01` belong to the European data centre. Deltas are what it recommends.
pub fn new_relic(work: &mut Work<'_>, key: &Found) -> Result<(), String> {
    let endpoint = match key.value.starts_with("eu01") {
        true => "https://otlp.eu01.nr-data.net",
        false => "https://otlp.nr-data.net",
    };
    vendor(work, key, endpoint, &[("api-key", key)], Metrics::Delta)
}

/// The data set is needed for metrics and by old keys.
pub fn honeycomb(work: &mut Work<'_>, key: &Found) -> Result<(), String> {
    let dataset = work.env.get("HONEYCOMB_DATASET")?;
    let mut headers = vec![("x-honeycomb-team", key)];
    headers.extend(dataset.iter().map(|dataset| ("x-honeycomb-dataset", dataset)));
    vendor(work, key, "https://api.honeycomb.io", &headers, Metrics::Either)
}
