//! Datadog, New Relic and Honeycomb: their variables are all that is set.

use testkit::{Client, Collector, attribute};
use trunkline::settings::{self, Env, Flags, Settings};
use trunkline::wire::App;

use super::hello;

/// The settings that an environment makes by itself, on free ports and in this folder.
fn settings(dir: &std::path::Path, vars: &[(&str, &str)]) -> Settings {
    let flags = Flags {
        listen: Some("127.0.0.1:0".into()),
        metrics: Some("127.0.0.1:0".into()),
        data_dir: Some(dir.join("data").display().to_string()),
        roles: None,
    };
    let quick = [("TRUNKLINE_SERVER__DRAIN_DELAY", "0s"), ("TRUNKLINE_SERVER__THREADS", "1")];
    let env: Env = quick.into_iter().chain(vars.iter().copied()).collect();
    settings::load(None, &env, &flags).unwrap_or_else(|problems| panic!("{problems:#?}")).settings
}

/// What a vendor would have got: the settings as the variables make them, with the vendor's address alone
/// exchanged for a collector's.
async fn sent(vars: &[(&str, &str)]) -> (String, Collector) {
    let (dir, collector) = (tempfile::tempdir().unwrap(), Collector::start());
    let mut settings = settings(dir.path(), vars);
    let address = settings.telemetry.otlp.endpoint.replace(collector.base_url()).unwrap();
    let app = App::start(settings, None).await.unwrap();
    let key = format!("Bearer {}", app.first_run.as_ref().unwrap().key.expose());
    let body = hello(false).replace("\"m\"", "\"demo/chat\"");
    let client = Client::new(app.server.url());
    let answer = client.post_json("/v1/chat/completions", &[("authorization", &key)], body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    app.shutdown().await;
    (address, collector)
}

/// Every export of traces and metrics had this header.
fn assert_header(collector: &Collector, name: &str, value: &str) {
    let exports = collector.headers();
    assert!(exports.len() >= 2, "{exports:?}");
    for headers in exports {
        let found: Vec<_> = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).collect();
        assert_eq!(found.len(), 1, "{name} in {headers:?}");
        assert_eq!(found[0].1, value);
    }
    assert_eq!(collector.refused(), Vec::<String>::new());
    assert!(!collector.spans().is_empty() && !collector.metrics().is_empty());
}

fn resource(collector: &Collector, key: &str) -> String {
    attribute(&collector.resources()[0].attributes, key).unwrap_or_default()
}

/// Whether the points of counters are counted from the last export, as OTLP numbers it.
fn in_deltas(collector: &Collector) -> bool {
    let metrics = collector.metrics();
    let counter = metrics.iter().rfind(|metric| metric.name == "http_requests_total").unwrap();
    format!("{counter:?}").contains("aggregation_temporality: Delta")
}

/// Fails when a vendor's row leaves `settings::legacy::TABLE`, or its endpoint, header or temporality changes.
#[tokio::test]
async fn promise_r14_datadog_by_its_variables_alone() {
    let (address, collector) =
        sent(&[("DATADOG_API_KEY", "dd-key-1"), ("DD_SERVICE", "rodger-ai-app"), ("DD_ENV", "production")])
            .await;
    assert_eq!(address, "https://otlp.datadoghq.com");
    assert_header(&collector, "dd-api-key", "dd-key-1");
    assert_eq!(resource(&collector, "service.name"), "rodger-ai-app");
    assert_eq!(resource(&collector, "deployment.environment.name"), "production");
    // Its intake takes no other.
    assert!(in_deltas(&collector), "{:?}", collector.metrics());

    let (address, _) = sent(&[("DATADOG_API_KEY", "dd-key-1"), ("DD_SITE", "datadoghq.eu")]).await;
    assert_eq!(address, "https://otlp.datadoghq.eu");
}

/// As above.
#[tokio::test]
async fn promise_r14_new_relic_by_its_variables_alone() {
    let (address, collector) = sent(&[
        ("NEW_RELIC_LICENSE_KEY", "nr-key-1"),
        ("OTEL_SERVICE_NAME", "rodger-ai-app"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=production,team=support"),
    ])
    .await;
    assert_eq!(address, "https://otlp.nr-data.net");
    assert_header(&collector, "api-key", "nr-key-1");
    assert_eq!(resource(&collector, "service.name"), "rodger-ai-app");
    assert_eq!(resource(&collector, "deployment.environment.name"), "production");
    assert_eq!(resource(&collector, "team"), "support");
    let (address, _) = sent(&[("NEW_RELIC_LICENSE_KEY", "eu01xx-key")]).await;
    assert_eq!(address, "https://otlp.eu01.nr-data.net");
}

/// As above.
#[tokio::test]
async fn promise_r14_honeycomb_by_its_variables_alone() {
    let (address, collector) =
        sent(&[("HONEYCOMB_API_KEY", "hc-key-1"), ("HONEYCOMB_DATASET", "rodger")]).await;
    assert_eq!(address, "https://api.honeycomb.io");
    assert_header(&collector, "x-honeycomb-team", "hc-key-1");
    assert_header(&collector, "x-honeycomb-dataset", "rodger");
    assert!(!in_deltas(&collector));
}

/// A vendor's key must not go to somebody else: an endpoint that is set wins, and the key stays here.
#[tokio::test]
async fn an_endpoint_that_is_set_gets_no_vendors_key() {
    let (dir, collector) = (tempfile::tempdir().unwrap(), Collector::start());
    let url = collector.base_url();
    let vars = [
        ("DATADOG_API_KEY", "dd-key-2"),
        ("NEW_RELIC_LICENSE_KEY", "nr-key-2"),
        ("HONEYCOMB_API_KEY", "hc-key-2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=one"),
    ];
    let app = App::start(settings(dir.path(), &vars), None).await.unwrap();
    app.shutdown().await;
    let exports = collector.headers();
    assert!(!exports.is_empty());
    let all = format!("{exports:?}");
    assert!(all.contains("(\"x-tenant\", \"one\")") && !all.contains("-key-2"), "{all}");
}
