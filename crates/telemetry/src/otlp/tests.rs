use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::TraceContext;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::{Span, span, status};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::metrics::Family;
use crate::settings::{TelemetrySettings, Temporality};

/// What a collector was sent.
struct Received {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A collector that gives these answers in turn, and after them only success.
struct Collector {
    url: String,
    requests: mpsc::UnboundedReceiver<Received>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

impl Collector {
    async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let mut answers: Vec<String> = answers.iter().rev().map(ToString::to_string).collect();
        tokio::spawn(async move {
            // One request a connection keeps the order of the answers certain.
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(received) = read_request(&mut stream).await else { continue };
                let answer = answers.pop().unwrap_or_else(|| OK.into());
                let _ = sender.send(received);
                let answer = answer.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Collector { url, requests }
    }

    async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(Duration::from_secs(20), self.requests.recv());
        next.await.expect("the collector was sent nothing").unwrap()
    }

    fn settings(&self, signals: &str) -> OtlpSettings {
        let full = |path: &str| Some(format!("{}{path}", self.url));
        OtlpSettings {
            endpoint: (signals == "both").then(|| self.url.clone()),
            traces_endpoint: if signals == "traces" { full("/v1/traces") } else { None },
            metrics_endpoint: if signals == "metrics" { full("/v1/metrics") } else { None },
            ..Default::default()
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut lines = head.lines();
            let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
            let headers: BTreeMap<String, String> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers["content-length"].parse().unwrap();
            while bytes.len() < end + 4 + length {
                stream.read_buf(&mut bytes).await.ok().filter(|&count| count > 0)?;
            }
            return Some(Received { path, headers, body: bytes[end + 4..].to_vec() });
        }
        stream.read_buf(&mut bytes).await.ok().filter(|&count| count > 0)?;
    }
}

fn resource() -> Resource {
    let attributes = [("team".to_owned(), "lab".to_owned()), ("host.name".to_owned(), "h1".to_owned())];
    let settings = TelemetrySettings {
        environment: Some("production".into()),
        attributes: attributes.into(),
        ..Default::default()
    };
    Resource::new(&settings, "1.2.3")
}

fn text(value: &KeyValue) -> String {
    match value.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    attributes.iter().map(|pair| (pair.key.as_str(), text(pair))).collect()
}

fn spans(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
}

fn metric_list(body: &[u8]) -> Vec<Metric> {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics).collect()
}

fn record() -> SpanRecord {
    SpanRecord::new(&TraceContext::from_header(None), "span", SpanKind::Internal, SystemTime::now())
}

#[tokio::test]
async fn spans_arrive_with_their_ids_parents_and_values() {
    let mut collector = Collector::start(&[]).await;
    let (tracer, otlp) =
        Otlp::start(&collector.settings("traces"), &Metrics::new().unwrap(), &resource()).unwrap();
    assert!(tracer.enabled() && tracer.sample([7; 16], None));

    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let server = TraceContext::from_header(Some(header.as_bytes()));
    let client = server.child();
    let at = |millis: u64| UNIX_EPOCH + Duration::from_millis(1_795_201_200_000 + millis);
    let mut call = SpanRecord::new(&client, "chat gpt-4.1", SpanKind::Client, at(1));
    call.end = at(5);
    call.attribute(crate::gen_ai::REQUEST_MODEL, "gpt-4.1")
        .attribute(crate::gen_ai::USAGE_INPUT_TOKENS, 12u64)
        .attribute(crate::gen_ai::REQUEST_TEMPERATURE, 0.5)
        .attribute(crate::gen_ai::REQUEST_STREAM, true)
        .attribute(crate::gen_ai::RESPONSE_FINISH_REASONS, vec!["stop".to_owned()]);
    call.events.push(SpanEvent {
        name: "retry".into(),
        time: at(3),
        attributes: vec![("error.type".into(), "429".into())],
    });
    call.status = SpanStatus::Error("broke off".into());
    tracer.record(call);
    tracer.record(SpanRecord::new(&server, "POST /v1/chat/completions", SpanKind::Server, at(0)));
    tracer.record(record());
    otlp.shutdown(Duration::from_secs(20)).await;

    let received = collector.next().await;
    assert_eq!(received.path, "/v1/traces");
    assert_eq!(received.headers["content-type"], "application/x-protobuf");
    assert_eq!(received.headers["user-agent"], "trunkline/1.2.3");
    let request = ExportTraceServiceRequest::decode(received.body.as_slice()).unwrap();
    let of = texts(&request.resource_spans[0].resource.as_ref().unwrap().attributes)
        .into_iter()
        .collect::<Vec<_>>();
    let shown: Vec<(&str, &str)> = of.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let instance = shown.iter().find(|(key, _)| *key == "service.instance.id").unwrap();
    assert_eq!(
        shown,
        [
            ("deployment.environment.name", "production"),
            ("host.name", "h1"),
            *instance,
            ("service.name", "trunkline"),
            ("service.version", "1.2.3"),
            ("team", "lab"),
        ]
    );
    assert_eq!(request.resource_spans[0].scope_spans[0].scope.as_ref().unwrap().name, "trunkline");

    let spans = spans(&received.body);
    assert_eq!(spans.len(), 3);
    let (call, handled, lone) = (&spans[0], &spans[1], &spans[2]);
    assert_eq!(call.trace_id, server.trace_id);
    assert_eq!(handled.trace_id, server.trace_id);
    assert_eq!(
        (call.span_id.as_slice(), handled.span_id.as_slice()),
        (&client.span_id[..], &server.span_id[..])
    );
    assert_eq!(call.parent_span_id, handled.span_id);
    assert_eq!(handled.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert!(lone.parent_span_id.is_empty());
    // Sampled; and only the server's parent is another process'.
    assert_eq!((call.flags, handled.flags, lone.flags), (0x101, 0x301, 0x101));
    let kinds = [span::SpanKind::Client, span::SpanKind::Server, span::SpanKind::Internal];
    assert_eq!(spans.iter().map(Span::kind).collect::<Vec<_>>(), kinds);
    assert_eq!(call.name, "chat gpt-4.1");
    assert_eq!(call.start_time_unix_nano, 1_795_201_200_001_000_000);
    assert_eq!(call.end_time_unix_nano - call.start_time_unix_nano, 4_000_000);
    let values: Vec<Value> =
        call.attributes.iter().map(|pair| pair.value.clone().unwrap().value.unwrap()).collect();
    let stop = AnyValue { value: Some(Value::StringValue("stop".into())) };
    assert_eq!(
        values,
        [
            Value::StringValue("gpt-4.1".into()),
            Value::IntValue(12),
            Value::DoubleValue(0.5),
            Value::BoolValue(true),
            Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values: vec![stop] }),
        ]
    );
    assert_eq!(
        (call.events[0].name.as_str(), call.events[0].time_unix_nano),
        ("retry", 1_795_201_200_003_000_000)
    );
    assert_eq!(texts(&call.events[0].attributes)["error.type"], "429");
    let ended = call.status.as_ref().unwrap();
    assert_eq!((ended.code(), ended.message.as_str()), (status::StatusCode::Error, "broke off"));
    assert_eq!(handled.status, None);
}

#[tokio::test]
async fn full_batches_are_sent_at_once_and_the_rest_at_the_end() {
    let mut collector = Collector::start(&[]).await;
    let metrics = Metrics::new().unwrap();
    let (tracer, otlp) = Otlp::start(&collector.settings("traces"), &metrics, &resource()).unwrap();
    for _ in 0..BATCH + 10 {
        tracer.record(record());
    }
    otlp.shutdown(Duration::from_secs(20)).await;
    assert_eq!(spans(&collector.next().await.body).len(), BATCH);
    assert_eq!(spans(&collector.next().await.body).len(), 10);
    assert_eq!(metrics.dropped("traces").get(), 0);
}

#[tokio::test]
async fn the_registry_arrives_with_its_types_and_otel_names() {
    let mut collector = Collector::start(&[]).await;
    let metrics = Metrics::new().unwrap();
    let calls = metrics.counter(&Family::new("calls_total", "Calls.").labels(&["error_type"])).unwrap();
    calls.with(&["timeout"]).inc_by(3);
    metrics.gauge(&Family::new("open", "Open.").unit("{breaker}")).unwrap().with(&[]).set(-1.5);
    let family = Family::new("gen_ai_client_token_usage", "Tokens.").labels(&[
        "gen_ai_request_model",
        "gen_ai_token_type",
        "key",
    ]);
    let tokens = metrics.histogram(&family, &[1.0, 4.0, 16.0]).unwrap();
    for size in [1.0, 3.0, 4.0, 100.0] {
        tokens.with(&["smart", "input", "k1"]).observe(size);
    }
    let named = Family::new("trunkline_cost", "Cost.").otlp_name("trunkline.cost").unit("USD");
    metrics.gauge(&named).unwrap().with(&[]).set(1.0);

    let settings = collector.settings("metrics");
    let (tracer, otlp) = Otlp::start(&settings, &metrics, &resource()).unwrap();
    assert!(!tracer.enabled());
    otlp.shutdown(Duration::from_secs(20)).await;
    let received = collector.next().await;
    assert_eq!(received.path, "/v1/metrics");
    let list = metric_list(&received.body);
    let find =
        |name: &str| list.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"));

    let cumulative = AggregationTemporality::Cumulative as i32;
    let Some(Data::Sum(sum)) = &find("calls_total").data else { panic!("not a sum") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == cumulative);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsDouble(3.0)));
    assert_eq!(texts(&sum.data_points[0].attributes)["error_type"], "timeout");
    assert!(sum.data_points[0].start_time_unix_nano <= sum.data_points[0].time_unix_nano);
    let Some(Data::Gauge(gauge)) = &find("open").data else { panic!("not a gauge") };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(-1.5)));
    assert_eq!(find("open").unit, "{breaker}");
    let usage = find("gen_ai.client.token.usage");
    assert_eq!((usage.unit.as_str(), usage.description.as_str()), ("{token}", "Tokens."));
    let Some(Data::Histogram(histogram)) = &usage.data else { panic!("not a histogram") };
    assert_eq!(histogram.aggregation_temporality, cumulative);
    let point = &histogram.data_points[0];
    assert_eq!(
        (&point.explicit_bounds[..], &point.bucket_counts[..]),
        (&[1.0, 4.0, 16.0][..], &[1, 2, 0, 1][..])
    );
    assert_eq!((point.count, point.sum), (4, Some(108.0)));
    let labels = texts(&point.attributes);
    let keys: Vec<&str> = labels.keys().copied().collect();
    assert_eq!(keys, ["gen_ai.request.model", "gen_ai.token.type", "key"]);
    assert_eq!(labels["gen_ai.request.model"], "smart");
    assert_eq!(find("trunkline.cost").unit, "USD");
    assert!(matches!(find("process_cpu_seconds_total").data, Some(Data::Sum(_))));
    assert!(list.iter().all(|metric| metric.name != "gen_ai_client_token_usage"));
}

#[tokio::test]
async fn metrics_are_sent_at_the_interval() {
    let mut collector = Collector::start(&[]).await;
    let interval = base::Duration::from_millis(5);
    let settings = OtlpSettings { metrics_interval: interval, ..collector.settings("both") };
    let (_tracer, otlp) = Otlp::start(&settings, &Metrics::new().unwrap(), &resource()).unwrap();
    for _ in 0..3 {
        assert_eq!(collector.next().await.path, "/v1/metrics");
    }
    otlp.shutdown(Duration::from_secs(20)).await;
}

/// The one point of `calls_total`: value, start and end.
fn calls(body: &[u8]) -> Option<(f64, u64, u64)> {
    let metric = metric_list(body).into_iter().find(|metric| metric.name == "calls_total")?;
    let Some(Data::Sum(sum)) = metric.data else { panic!("not a sum") };
    assert_eq!(sum.aggregation_temporality, AggregationTemporality::Delta as i32);
    let point = &sum.data_points[0];
    let Some(number_data_point::Value::AsDouble(value)) = point.value else { panic!("not a double") };
    Some((value, point.start_time_unix_nano, point.time_unix_nano))
}

#[tokio::test]
async fn deltas_add_up_to_the_total_whatever_fails_between() {
    let refused = "HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n";
    let busy = "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
    // One export is refused; the next is given up after its attempts.
    let answers = [refused, busy, busy, busy, busy, busy];
    let mut collector = Collector::start(&answers).await;
    let interval = base::Duration::from_millis(5);
    let temporality = Temporality::Delta;
    let settings = OtlpSettings { metrics_interval: interval, temporality, ..collector.settings("metrics") };
    let metrics = Metrics::new().unwrap();
    let counter = metrics.counter(&Family::new("calls_total", "Calls.")).unwrap().with(&[]);
    counter.inc_by(100);
    let (_tracer, otlp) = Otlp::start(&settings, &metrics, &resource()).unwrap();
    let mut bodies = Vec::new();
    for _ in 0..answers.len() + 4 {
        bodies.push(collector.next().await.body);
        counter.inc();
    }
    otlp.shutdown(Duration::from_secs(20)).await;
    while let Ok(received) = collector.requests.try_recv() {
        bodies.push(received.body);
    }

    let (refused, taken) = bodies.split_at(answers.len());
    let (value, start, _) = calls(&refused[0]).unwrap();
    assert_eq!(value, 100.0);
    let taken: Vec<_> = taken.iter().filter_map(|body| calls(body)).collect();
    assert_eq!(taken.iter().map(|(value, ..)| value).sum::<f64>(), counter.get() as f64);
    assert_eq!(taken[0].1, start);
    assert!(taken[0].0 > 100.0 && taken.iter().all(|(value, start, end)| *value > 0.0 && start < end));
    assert!(taken.windows(2).all(|pair| pair[0].2 <= pair[1].1), "{taken:?}");
}

/// The variable that rustls-native-certs reads, and what it is where there is no such file.
const NO_STORE: (&str, &str) = ("SSL_CERT_FILE", "/nowhere/trunkline-test.pem");

/// As in an image `FROM scratch`. Variables belong to the process, so the test runs itself in another one.
#[tokio::test]
async fn https_needs_no_certificates_of_the_machine() {
    if std::env::var(NO_STORE.0).is_ok_and(|file| file == NO_STORE.1) {
        assert!(rustls_native_certs::load_native_certs().certs.is_empty());
        let endpoint = Some("https://127.0.0.1:1".to_owned());
        let settings = OtlpSettings { endpoint, ..Default::default() };
        let (tracer, otlp) = Otlp::start(&settings, &Metrics::new().unwrap(), &resource()).unwrap();
        assert!(tracer.enabled() && otlp.tasks.len() == 2);
        return;
    }
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "otlp::tests::https_needs_no_certificates_of_the_machine"]);
    let output = test.env(NO_STORE.0, NO_STORE.1).env_remove("SSL_CERT_DIR").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_busy_collector_is_asked_again_with_the_same_spans() {
    let busy = |status: &str| format!("HTTP/1.1 {status}\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n");
    let answers = [busy("503 Busy"), busy("429 Slow"), busy("502 Bad"), busy("504 Late")];
    let mut collector = Collector::start(&answers.each_ref().map(String::as_str)).await;
    let metrics = Metrics::new().unwrap();
    let (tracer, otlp) = Otlp::start(&collector.settings("traces"), &metrics, &resource()).unwrap();
    tracer.record(record());
    let first = collector.next().await.body;
    for _ in 0..4 {
        assert_eq!(collector.next().await.body, first);
    }
    otlp.shutdown(Duration::from_secs(20)).await;
    assert_eq!(metrics.dropped("traces").get(), 0);
}

#[tokio::test]
async fn what_is_refused_is_counted_and_told_once_without_the_secret() {
    let log = crate::capture();
    let body = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess { rejected_spans: 1, ..Default::default() }),
    };
    let body = String::from_utf8(body.encode_to_vec()).unwrap();
    let partial = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let refuse = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 12\r\n\r\nkey-s3cret-9";
    let mut collector = Collector::start(&[refuse, &partial]).await;
    let mut settings = collector.settings("traces");
    settings.traces_endpoint.as_mut().unwrap().push_str("?key=key-s3cret-9");
    settings.headers = [("x-api-key".to_owned(), "key-s3cret-9".to_owned().into())].into();
    let metrics = Metrics::new().unwrap();
    let (tracer, otlp) = Otlp::start(&settings, &metrics, &resource()).unwrap();
    (0..BATCH).for_each(|_| tracer.record(record()));
    let received = collector.next().await;
    assert_eq!(received.headers["x-api-key"], "key-s3cret-9");
    (0..2).for_each(|_| tracer.record(record()));
    collector.next().await;
    otlp.shutdown(Duration::from_secs(20)).await;
    assert_eq!(metrics.dropped("traces").get(), BATCH as u64 + 1);
    let text = log.lines().join("\n");
    assert_eq!(text.matches("\"error\":\"status 401\"").count(), 1, "{text}");
    assert_eq!(text.matches("rejected some of them").count(), 0, "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_collector_that_is_down_neither_leaks_nor_holds_up_the_end() {
    let log = crate::capture();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = OtlpSettings {
        endpoint: Some(format!("http://user-s3cret:pass-s3cret@{address}/path-s3cret")),
        ..Default::default()
    };
    let metrics = Metrics::new().unwrap();
    let (tracer, otlp) = Otlp::start(&settings, &metrics, &resource()).unwrap();
    tracer.record(record());
    otlp.shutdown(Duration::from_secs(20)).await;
    assert_eq!(metrics.dropped("traces").get(), 1);
    assert!(metrics.dropped("metrics").get() > 1);
    let text = log.lines().join("\n");
    assert!(text.contains("Connection refused") && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_collector_that_hangs_is_given_up_at_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = OtlpSettings { endpoint: Some(url), ..Default::default() };
    let (tracer, otlp) = Otlp::start(&settings, &Metrics::new().unwrap(), &resource()).unwrap();
    tracer.record(record());
    let started = std::time::Instant::now();
    otlp.shutdown(Duration::from_millis(50)).await;
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_started() {
    let (tracer, otlp) =
        Otlp::start(&OtlpSettings::default(), &Metrics::new().unwrap(), &resource()).unwrap();
    assert!(!tracer.enabled() && otlp.tasks.is_empty());
    tracer.record(record());
    otlp.shutdown(Duration::ZERO).await;
}
