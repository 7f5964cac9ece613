//! Bedrock's Converse behind the other surfaces.

use serde_json::json;
use testkit::{Behaviour, Upstream, chat};

use super::{data, said, settings};
use crate::app::TestApp;

const CHAT: &str = "/v1/chat/completions";
const NOVA: &str = "eu.amazon.nova-pro-v1:0";

/// Mutations: the model not encoded in the path; `inferenceConfig` not written.
#[tokio::test]
async fn a_chat_client_is_answered_by_bedrock() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("bedrock", &upstream, NOVA)).await;
    let body = r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}],"max_tokens":50,"user":"u"}"#;
    let answer = app.post(CHAT, "bedrock-whole", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = &upstream.requests()[0];
    assert_eq!(received.path, "/v1/model/eu.amazon.nova-pro-v1%3A0/converse");
    assert_eq!(
        received.text(),
        r#"{"system":[{"text":"Be brief."}],"messages":[{"content":[{"text":"hi"}],"role":"user"}],"inferenceConfig":{"maxTokens":50}}"#
    );
    let authorization = received.header("authorization").unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
    assert!(
        authorization
            .contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date,")
    );
    assert!(received.header("x-amz-date").is_some());
    assert_eq!(answer.header("x-trunkline-dropped"), Some("user"));
    let answer = answer.json();
    assert_eq!(answer["choices"][0]["message"]["content"], chat::CONTENT);
    let usage = &answer["usage"];
    let counts = [
        &usage["prompt_tokens"],
        &usage["completion_tokens"],
        &usage["prompt_tokens_details"]["cached_tokens"],
    ];
    assert_eq!(counts, [chat::PROMPT_TOKENS, chat::COMPLETION_TOKENS, chat::CACHED_TOKENS]);
}

#[tokio::test]
async fn clients_of_both_dialects_stream_from_bedrock() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("bedrock", &upstream, NOVA)).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"stream":true,"stream_options":{"include_usage":true}}"#;
    for behaviour in [Behaviour::ok(), Behaviour::split_bytes([5, 1, 30], Behaviour::ok())] {
        upstream.script([behaviour]);
        let mut stream = app.stream(CHAT, "bedrock-stream", body).await;
        assert_eq!(stream.header("content-type"), Some("text/event-stream"));
        let chunks = data(&mut stream).await;
        assert_eq!(said(&chunks), (chat::CONTENT.to_owned(), "stop".to_owned()));
        assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 18);
    }
    let received = &upstream.requests()[0];
    assert_eq!(received.path, "/v1/model/eu.amazon.nova-pro-v1%3A0/converse-stream");
    assert_eq!(received.header("accept"), Some("application/vnd.amazon.eventstream"));

    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let events = data(&mut app.stream("/v1/messages", "bedrock-messages", body).await).await;
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, chat::CONTENT);
    assert_eq!(events[events.len() - 2]["usage"]["cache_read_input_tokens"], chat::CACHED_TOKENS);
}

#[tokio::test]
async fn tools_and_filters_come_back() {
    let upstream = Upstream::start();
    upstream.script([
        Behaviour::ok_tool_call(),
        Behaviour::ok_tool_call(),
        Behaviour::content_filter_finish(),
    ]);
    let app = TestApp::start(&settings("bedrock", &upstream, NOVA)).await;
    let tools = json!([{"type": "function", "function": {"name": chat::TOOL_NAME}}]);
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools});
    let answer = app.post(CHAT, "bedrock-tools", body.to_string()).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(
        (&call["id"], &call["function"]["arguments"]),
        (&json!(chat::TOOL_CALL_ID), &json!(chat::TOOL_ARGUMENTS))
    );
    body["stream"] = true.into();
    let chunks = data(&mut app.stream(CHAT, "bedrock-tools-stream", body.to_string()).await).await;
    let calls = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0));
    let arguments: String = calls.filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!((arguments.as_str(), said(&chunks).1.as_str()), (chat::TOOL_ARGUMENTS, "tool_calls"));
    let filtered = app
        .post(CHAT, "bedrock-filtered", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#)
        .await;
    assert_eq!(filtered.json()["choices"][0]["finish_reason"], "content_filter");
}

/// The model failed: another try may do better, so the caller never sees it.
#[tokio::test]
async fn a_failed_model_is_tried_again() {
    let upstream = Upstream::start();
    let yaml = settings("bedrock", &upstream, NOVA).replace("retries: 0", "retries: 1, backoff: 5ms");
    let app = TestApp::start(&yaml).await;
    upstream.script([Behaviour::error(424, None)]);
    let answer =
        app.post(CHAT, "bedrock-424", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#).await;
    assert_eq!((answer.status, answer.header("x-trunkline-attempts")), (200, Some("2")));
    // An exception before the first content is hidden as well.
    upstream.script([Behaviour::error_event_after(1)]);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let chunks = data(&mut app.stream(CHAT, "bedrock-early", body).await).await;
    assert_eq!(said(&chunks).0, chat::CONTENT);
}
