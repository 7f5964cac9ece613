//! Responses and completions: forwarded byte for byte to who speaks them, converted and kept for the others.

use serde_json::{Value, json};
use testkit::{Behaviour, Upstream, chat, completions, responses};

use crate::app::{PATIENCE, TestApp};

const RESPONSES: &str = "/v1/responses";

/// One provider of this kind, and the alias `m` that leads to it.
fn settings(kind: &str, upstream: &Upstream) -> String {
    let url = upstream.base_url();
    format!(
        "providers:\n  lab: {{kind: {kind}, base_url: \"{url}\"}}\nmodels:\n  m: {{targets: [{{provider: lab, model: up}}]}}\n\
         resilience: {{retries: 0, idle_timeout: 2s}}\n"
    )
}

async fn send(app: &TestApp, method: &str, path: &str) -> testkit::Response {
    let (name, value) = app.auth();
    app.client().try_send(method, path, &[(name, value.as_str())], b"").await.unwrap()
}

/// Mutations: `stream_options` added to a stream; the answer read and written again.
#[tokio::test]
async fn every_byte_passes_to_who_speaks_responses() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai", &upstream)).await;
    let sent = "{ \"zz\" :1.50,\"model\" : \"m\",\"input\":\"hi\\u0021\", \"truncation\":\"auto\" }";
    let answer = app.post(RESPONSES, "whole", sent).await;
    assert_eq!((answer.status, answer.text()), (200, responses::body().as_str()));
    let received = upstream.requests().last().unwrap().clone();
    assert_eq!((received.path.as_str(), received.text()), ("/v1/responses", sent.replace("\"m\"", "\"up\"")));

    let sent = sent.replace("\"zz\"", "\"stream\":true,\"zz\"");
    let mut stream = app.stream(RESPONSES, "responses-streamed", &sent).await;
    stream.collect(PATIENCE).await;
    let wanted: String = responses::events().into_iter().map(|event| event + "\n\n").collect();
    assert_eq!(String::from_utf8_lossy(stream.received()), wanted);
    assert_eq!(upstream.requests().last().unwrap().text(), sent.replace("\"m\"", "\"up\""));
    let record = app.record("responses-streamed").await;
    let tokens = [&record["input_tokens"], &record["output_tokens"], &record["cached_tokens"]];
    assert_eq!(
        tokens,
        [&json!(chat::PROMPT_TOKENS), &json!(chat::COMPLETION_TOKENS), &json!(chat::CACHED_TOKENS)]
    );
}

/// Mutations: the owner not asked; a response not forgotten when the provider has deleted it.
#[tokio::test]
async fn what_a_provider_keeps_is_asked_for_there() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai", &upstream)).await;
    let path = format!("{RESPONSES}/{}", responses::ID);
    assert_eq!(send(&app, "GET", &path).await.status, 404, "nobody knows whose it is");
    let earlier = json!({"model": "m", "input": "x", "previous_response_id": responses::ID}).to_string();
    let refused = app.post(RESPONSES, "early", &earlier).await;
    assert_eq!(refused.json()["error"]["code"], "previous_response_not_found");
    assert!(upstream.requests().is_empty());

    assert_eq!(app.post(RESPONSES, "made", r#"{"model":"m","input":"x"}"#).await.status, 200);
    let got = send(&app, "GET", &format!("{path}?include[]=x")).await;
    assert_eq!((got.status, got.text()), (200, responses::body().as_str()));
    assert_eq!(upstream.requests().last().unwrap().path, format!("{path}?include[]=x"));
    assert_eq!(send(&app, "GET", &format!("{path}/input_items")).await.text(), responses::input_items_body());
    assert_eq!(app.post(RESPONSES, "later", &earlier).await.status, 200);
    assert_eq!(upstream.requests().last().unwrap().json()["previous_response_id"], responses::ID);

    // Another response cannot be gone on from where it is not.
    let twice = earlier.replace("\"input\"", "\"previous_response_id\":\"resp_of_another\",\"input\"");
    assert_eq!(app.post(RESPONSES, "twice", &twice).await.status, 400);
    let elsewhere = earlier.replace("\"m\"", "\"demo/chat\"");
    let refused = app.post(RESPONSES, "elsewhere", &elsewhere).await;
    assert_eq!(refused.status, 404, "there is no such provider here: {}", refused.text());

    assert_eq!(send(&app, "DELETE", &path).await.text(), responses::deleted_body());
    let before = upstream.requests().len();
    assert_eq!(send(&app, "GET", &path).await.status, 404);
    assert_eq!(upstream.requests().len(), before);
}

/// Mutations: the response saved after the client has it; the items without what came before.
#[tokio::test]
async fn what_a_chat_provider_answers_is_kept_here() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai-compatible", &upstream)).await;
    let first = app.post(RESPONSES, "first", r#"{"model":"m","input":"one"}"#).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let first = first.json();
    assert_eq!(first["output"][0]["content"][0]["text"], chat::CONTENT);
    assert_eq!(upstream.requests()[0].path, "/v1/chat/completions");
    let id = first["id"].as_str().unwrap();
    assert_eq!(send(&app, "GET", &format!("{RESPONSES}/{id}")).await.json(), first);

    let body = json!({"model": "m", "input": "two", "previous_response_id": id, "stream": true}).to_string();
    let mut stream = app.stream(RESPONSES, "second", &body).await;
    let events = stream.collect(PATIENCE).await;
    let last = events.last().unwrap();
    assert!(last.starts_with("event: response.completed\n"), "{last}");
    let asked = upstream.requests().last().unwrap().json();
    let said: Vec<_> =
        asked["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["one", chat::CONTENT, "two"]);
    let data: Value = serde_json::from_str(last.split_once("data: ").unwrap().1).unwrap();
    assert_eq!(data["response"]["previous_response_id"], id);
    let second = data["response"]["id"].as_str().unwrap();
    let items = send(&app, "GET", &format!("{RESPONSES}/{second}/input_items?order=asc")).await.json();
    assert_eq!(items["data"].as_array().unwrap().len(), 3);
    assert_eq!(send(&app, "POST", &format!("{RESPONSES}/{second}/cancel")).await.status, 400);

    let body = r#"{"model":"m","input":"one","store":false}"#;
    let gone = app.post(RESPONSES, "unkept", body).await.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(send(&app, "GET", &format!("{RESPONSES}/{gone}")).await.status, 404);
}

/// What fails after its first content is told by the dialect's own events, converted or not.
#[tokio::test]
async fn a_stream_that_breaks_says_so() {
    for (kind, last) in [("openai", "event: error\n"), ("openai-compatible", "event: response.failed\n")] {
        let upstream = Upstream::start();
        let app = TestApp::start(&settings(kind, &upstream)).await;
        for (i, fault) in
            [Behaviour::cut_after_events(6, testkit::Cut::Clean), Behaviour::error_event_after(6)]
                .into_iter()
                .enumerate()
        {
            // Chat has fewer events before its first content.
            upstream.script([fault]);
            let body = r#"{"model":"m","input":"x","stream":true}"#;
            let mut stream = app.stream(RESPONSES, &format!("broken-{i}"), body).await;
            let events = stream.collect(PATIENCE).await;
            assert!(events.last().unwrap().starts_with(last), "{kind} {i}: {events:#?}");
            let error = events.iter().find(|event| event.starts_with("event: error\n")).unwrap();
            let error: Value = serde_json::from_str(error.split_once("data: ").unwrap().1).unwrap();
            assert_eq!(
                (&error["type"], &error["code"], &error["error"]["code"]),
                (&json!("error"), &json!("stream_broken"), &json!("stream_broken"))
            );
            assert!(!events.iter().any(|event| event.contains("response.completed")));
        }
    }
}

#[tokio::test]
async fn completions_pass_as_they_are() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai-compatible", &upstream)).await;
    let sent = "{\"model\": \"m\",\"prompt\":[1,2], \"suffix\":\"z\"}";
    let answer = app.post("/v1/completions", "whole", sent).await;
    assert_eq!((answer.status, answer.text()), (200, completions::body().as_str()));
    let received = upstream.requests()[0].clone();
    assert_eq!(
        (received.path.as_str(), received.text()),
        ("/v1/completions", sent.replace("\"m\"", "\"up\""))
    );
    let sent =
        "{\"model\":\"m\",\"prompt\":\"x\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
    let mut stream = app.stream("/v1/completions", "completions-streamed", sent).await;
    stream.collect(PATIENCE).await;
    let wanted: String = completions::events(true).into_iter().map(|event| event + "\n\n").collect();
    assert_eq!(String::from_utf8_lossy(stream.received()), wanted);
}
