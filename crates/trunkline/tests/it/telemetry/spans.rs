//! Traces over OTLP: a call is one server span, and a client span for each attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::{Behaviour, Collector, Upstream, attribute};

use super::{hello, to};
use crate::app::{PATIENCE, TestApp, alias};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// `SpanKind` and `Status.code` of OTLP.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

/// A span as the tests look at it.
#[derive(Clone, Debug)]
struct Seen {
    name: String,
    kind: i32,
    trace: String,
    id: String,
    parent: String,
    error: bool,
    start: u64,
    end: u64,
    attributes: BTreeMap<String, String>,
}

impl Seen {
    fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    fn lasted(&self) -> Duration {
        Duration::from_nanos(self.end - self.start)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits for so many spans in all; they come in the order in which they ended.
async fn spans(collector: &Collector, count: usize) -> Vec<Seen> {
    let spans = collector.wait_for_spans(count, PATIENCE).await;
    assert_eq!(spans.len(), count, "{spans:#?}");
    let seen = spans.into_iter().map(|span| Seen {
        attributes: span
            .attributes
            .iter()
            .map(|pair| (pair.key.clone(), attribute(&span.attributes, &pair.key).unwrap()))
            .collect(),
        name: span.name,
        kind: span.kind,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        error: span.status.is_some_and(|status| status.code == ERROR),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
    });
    seen.collect()
}

/// The server span, and the client spans in their order.
async fn of_one_call(collector: &Collector, count: usize) -> (Seen, Vec<Seen>) {
    let all = spans(collector, count).await;
    let (mut servers, clients): (Vec<_>, Vec<_>) = all.into_iter().partition(|span| span.kind == SERVER);
    assert_eq!(servers.len(), 1, "{servers:#?}");
    assert!(clients.iter().all(|span| span.kind == CLIENT), "{clients:#?}");
    (servers.remove(0), clients)
}

/// A call in a trace that somebody else has begun.
async fn call(app: &TestApp, request_id: &str, traceparent: &str, stream: bool) -> testkit::StreamResponse {
    let (name, value) = app.auth();
    let headers = [(name, value.as_str()), ("x-request-id", request_id), ("traceparent", traceparent)];
    app.client().stream("/v1/chat/completions", &headers, hello(stream)).await
}

fn sampled() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

#[tokio::test]
async fn a_call_with_fallback_is_one_server_span_over_one_client_span_for_each_attempt() {
    let (collector, a, b) = (Collector::start(), Upstream::start(), Upstream::start());
    a.set_default(Behaviour::error(500, None));
    let settings = alias(&[a.base_url(), b.base_url()], "{retries: 1, backoff: 1ms}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    let answer = call(&app, "span-1", &sampled(), false).await;
    assert_eq!(answer.status, 200);
    let (server, clients) = of_one_call(&collector, 4).await;

    assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, PARENT));
    assert_eq!(answer.header("traceparent"), Some(format!("00-{TRACE}-{}-01", server.id).as_str()));
    assert_eq!(clients.len(), 3);
    let received: Vec<_> = a.requests().into_iter().chain(b.requests()).collect();
    for (client, received) in clients.iter().zip(&received) {
        assert_eq!((&client.trace, &client.parent), (&server.trace, &server.id));
        // What the provider was sent continues the attempt, not the call.
        let sent = format!("00-{TRACE}-{}-01", client.id);
        assert_eq!(received.header("traceparent"), Some(sent.as_str()));
        assert!(server.start <= client.start && client.start <= client.end && client.end <= server.end);
    }
    let told = |span: &Seen| (span.error, span.get("error.type").to_owned(), span.name.clone());
    assert_eq!(told(&clients[0]), (true, "status".into(), "chat up-a".into()));
    assert_eq!(told(&clients[1]), (true, "status".into(), "chat up-a".into()));
    assert_eq!(told(&clients[2]), (false, String::new(), "chat up-b".into()));
    assert_eq!(told(&server), (false, String::new(), "chat m".into()));
}

#[tokio::test]
async fn spans_have_the_attributes_of_the_gen_ai_conventions() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    let settings = alias(&[upstream.base_url()], "{}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    call(&app, "span-2", &sampled(), false).await;
    let (server, clients) = of_one_call(&collector, 2).await;
    let has = |span: &Seen, expected: &[(&str, &str)]| {
        for (key, value) in expected {
            assert_eq!(span.get(key), *value, "{key} of {span:#?}");
        }
    };
    // Dashboards of before ask for `gen_ai.system`, those of now for `gen_ai.provider.name`.
    let both = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai-compatible"),
        ("gen_ai.system", "openai-compatible"),
        ("server.address", "127.0.0.1"),
    ];
    has(&server, &both);
    has(&clients[0], &both);
    has(&clients[0], &[("gen_ai.request.model", "up-a")]);
    has(
        &server,
        &[
            ("gen_ai.request.model", "m"),
            ("gen_ai.request.stream", "false"),
            ("gen_ai.response.model", testkit::chat::MODEL),
            ("gen_ai.response.finish_reasons", "stop"),
            ("gen_ai.usage.input_tokens", "11"),
            ("gen_ai.usage.output_tokens", "7"),
            ("http.response.status_code", "200"),
            ("trunkline.request_id", "span-2"),
            ("trunkline.attempts", "1"),
            ("trunkline.outcome", "ok"),
        ],
    );
    let resources = collector.resources();
    let resource = |key: &str| attribute(&resources[0].attributes, key).unwrap_or_default();
    assert_eq!(resource("service.name"), "trunkline");
    assert_eq!(resource("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(resource("service.instance.id").len(), 36);
}

#[tokio::test]
async fn a_stream_lasts_until_its_end() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    upstream.set_default(Behaviour::slow_body(Duration::from_millis(40)));
    let settings = alias(&[upstream.base_url()], "{}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    let mut stream = call(&app, "span-3", &sampled(), true).await;
    let events = stream.collect(PATIENCE).await;
    let (server, _) = of_one_call(&collector, 2).await;
    // Each event was 40 ms in the making; those of the head were there before.
    let least = Duration::from_millis(40) * u32::try_from(events.len() - 1).unwrap();
    assert!(server.lasted() >= least, "{:?} for {} events", server.lasted(), events.len());
    assert_eq!(
        (server.get("gen_ai.request.stream"), server.get("gen_ai.usage.output_tokens")),
        ("true", "7")
    );
}

#[tokio::test]
async fn failures_are_told_by_type_and_status() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    upstream.script([Behaviour::reset(), Behaviour::cut_late()]);
    let settings = alias(&[upstream.base_url()], "{retries: 0}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    assert_eq!(call(&app, "span-4", &sampled(), false).await.status, 502);
    let (server, clients) = of_one_call(&collector, 2).await;
    let told = |span: &Seen| (span.error, span.get("error.type").to_owned());
    assert_eq!((told(&server), told(&clients[0])), ((true, "broken".into()), (true, "broken".into())));
    assert_eq!((server.get("http.response.status_code"), server.get("trunkline.outcome")), ("502", "failed"));

    // After the head of a good answer there is no other way to tell.
    call(&app, "span-5", &sampled(), true).await.collect(PATIENCE).await;
    let all = spans(&collector, 4).await;
    let server = all[2..].iter().find(|span| span.kind == SERVER).unwrap();
    assert_eq!(told(server), (true, "stream_broken".into()));
    assert_eq!((server.get("http.response.status_code"), server.get("trunkline.outcome")), ("200", "failed"));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_span() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    upstream.set_default(Behaviour::stall_after_events(3));
    let settings = alias(&[upstream.base_url()], "{}");
    let mut app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    let mut stream = call(&app, "span-6", &sampled(), true).await;
    stream.next_event(PATIENCE).await.unwrap();
    stream.abort();
    app.settle().await;
    let (server, _) = of_one_call(&collector, 2).await;
    assert_eq!((server.get("trunkline.outcome"), server.error), ("cancelled", false));
}

#[tokio::test]
async fn the_caller_decides_what_is_recorded() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    let settings = alias(&[upstream.base_url()], "{}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    let other = TRACE.replace('4', "5");
    call(&app, "span-7", &format!("00-{other}-{PARENT}-00"), false).await;
    call(&app, "span-8", &sampled(), false).await;
    // A malformed header begins a trace of its own, as if it were not there.
    call(&app, "span-9", &format!("00-{TRACE}-zz-01"), false).await;
    let all = spans(&collector, 4).await;
    assert!(all.iter().all(|span| span.trace != other), "{all:#?}");
    // The decision goes on to the provider.
    assert!(upstream.requests()[0].header("traceparent").unwrap().ends_with("-00"));
    let own: Vec<_> = all.iter().filter(|span| span.trace != TRACE).collect();
    assert_eq!(own.len(), 2, "{all:#?}");
    assert_eq!(own.iter().find(|span| span.kind == SERVER).unwrap().parent, "");
}

#[tokio::test]
async fn a_collector_that_is_down_costs_spans_and_no_request() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    collector.set_status(400);
    let settings = alias(&[upstream.base_url()], "{}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    assert_eq!(call(&app, "span-10", &sampled(), false).await.status, 200);
    let deadline = std::time::Instant::now() + PATIENCE;
    while app.metric("trunkline_telemetry_dropped_total", &[("signal", "traces")]).await < 2.0 {
        assert!(std::time::Instant::now() < deadline, "the lost spans are not counted");
        tokio::task::yield_now().await;
    }
    assert_eq!(collector.spans().len(), 0);
}

#[tokio::test]
async fn what_is_queued_is_sent_before_it_ends() {
    let (collector, upstream) = (Collector::start(), Upstream::start());
    let settings = alias(&[upstream.base_url()], "{}");
    let app = TestApp::start(&format!("{settings}{}", to(&collector))).await;
    call(&app, "span-11", &sampled(), false).await;
    app.stop().await;
    assert_eq!(collector.spans().len(), 2);
}
