use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

use super::*;
use crate::client::Client;

const SOON: Duration = Duration::from_secs(10);
const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf"), ("X-Tenant", "a")];

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn traces(names: &[&str]) -> Vec<u8> {
    let span = |name: &&str| Span {
        name: (*name).to_owned(),
        attributes: vec![
            key_value("n", Value::IntValue(7)),
            key_value("s", Value::StringValue("x".to_owned())),
        ],
        ..Span::default()
    };
    let scope = ScopeSpans { spans: names.iter().map(span).collect(), ..ScopeSpans::default() };
    let resource = Resource {
        attributes: vec![key_value("service.name", Value::StringValue("t".to_owned()))],
        ..Resource::default()
    };
    let group =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec()
}

#[tokio::test]
async fn spans_are_kept_with_their_resource_and_headers() {
    let collector = Collector::start();
    let client = Client::new(collector.base_url());
    for names in [&["a", "b"][..], &["c"]] {
        let answer = client.try_send("POST", "/v1/traces", PROTOBUF, &traces(names)).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }
    let spans = collector.wait_for_spans(3, SOON).await;
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(attribute(&spans[0].attributes, "n").as_deref(), Some("7"));
    assert_eq!(attribute(&spans[0].attributes, "s").as_deref(), Some("x"));
    assert_eq!(attribute(&spans[0].attributes, "none"), None);
    assert_eq!(attribute(&collector.resources()[0].attributes, "service.name").as_deref(), Some("t"));
    assert_eq!(wire::header(&collector.headers()[1], "x-tenant"), Some("a"));
}

#[tokio::test]
async fn metrics_are_kept() {
    let metric = Metric { name: "gen_ai.client.token.usage".to_owned(), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric.clone()], ..ScopeMetrics::default() };
    let group = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    let export = ExportMetricsServiceRequest { resource_metrics: vec![group] }.encode_to_vec();
    let collector = Collector::start();
    let client = Client::new(collector.base_url());
    client.try_send("POST", "/v1/metrics", PROTOBUF, &export).await.unwrap();
    assert_eq!(collector.wait_for_metric("gen_ai.client.token.usage", SOON).await, metric);
    assert_eq!(collector.metrics(), [metric]);
}

#[tokio::test]
async fn a_failing_collector_keeps_nothing_and_recovers() {
    let collector = Collector::start();
    let client = Client::new(collector.base_url());
    collector.set_status(503);
    let answer = client.try_send("POST", "/v1/traces", PROTOBUF, &traces(&["lost"])).await.unwrap();
    assert_eq!(answer.status, 503);
    collector.wait_for_exports(1, SOON).await;
    collector.set_status(200);
    collector.stop_listening();
    assert!(client.connect().await.is_err());
    collector.resume_listening();
    client.try_send("POST", "/v1/traces", PROTOBUF, &traces(&["kept"])).await.unwrap();
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["kept"]);
}

#[tokio::test]
async fn wrong_exports_are_refused_with_the_reason() {
    let collector = Collector::start();
    let client = Client::new(collector.base_url());
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    for (path, headers, body) in
        [("/v1/traces", json, &b"{}"[..]), ("/v1/traces", PROTOBUF, b"\xff\xff"), ("/v1/logs", PROTOBUF, b"")]
    {
        assert_eq!(client.try_send("POST", path, headers, body).await.unwrap().status, 400);
    }
    let refused = collector.refused();
    assert_eq!(refused.len(), 3);
    assert!(refused[0].contains("application/json") && refused[2].contains("/v1/logs"), "{refused:?}");
}
