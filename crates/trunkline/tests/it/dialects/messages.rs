//! Anthropic's messages: its surface in front of every kind of provider, its providers behind the other surfaces.

use serde_json::{Value, json};
use testkit::{Behaviour, Upstream, chat};

use super::{data, said, settings};
use crate::app::{PATIENCE, TestApp};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const CLAUDE: &str = "claude-sonnet-4-5";

/// Says it in Anthropic's way: the key in `x-api-key`, a version.
async fn ask(app: &TestApp, path: &str, body: impl AsRef<[u8]>) -> testkit::Response {
    let headers = [("x-api-key", app.key.as_str()), ("anthropic-version", "2026-10-21")];
    app.client().post_json(path, &headers, body).await
}

/// Mutations: `max_tokens` not written; the answer handed on as it came.
#[tokio::test]
async fn a_chat_client_is_answered_by_an_anthropic_provider() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("anthropic", &upstream, CLAUDE)).await;
    let body = r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}],"max_tokens":50,"temperature":0.5,"stop":"END","seed":7}"#;
    let answer = app.post(CHAT, "claude-whole", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = &upstream.requests()[0];
    assert_eq!(received.path, "/v1/messages");
    assert_eq!(
        received.text(),
        r#"{"model":"claude-sonnet-4-5","max_tokens":50,"system":"Be brief.","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"stop_sequences":["END"]}"#
    );
    let headers = ["x-api-key", "anthropic-version", "authorization"].map(|name| received.header(name));
    assert_eq!(headers, [Some("sk-upstream-secret"), Some("2023-06-01"), None]);
    assert_eq!(answer.header("x-trunkline-dropped"), Some("seed"));
    let answer = answer.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"]["content"], chat::CONTENT);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let usage = &answer["usage"];
    let counts = [
        &usage["prompt_tokens"],
        &usage["completion_tokens"],
        &usage["prompt_tokens_details"]["cached_tokens"],
    ];
    assert_eq!(counts, [chat::PROMPT_TOKENS, chat::COMPLETION_TOKENS, chat::CACHED_TOKENS]);
    let record = app.record("claude-whole").await;
    assert_eq!((&record["outcome"], &record["dropped"]), (&json!("ok"), &json!("seed")));
}

#[tokio::test]
async fn a_chat_client_streams_from_an_anthropic_provider() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("anthropic", &upstream, CLAUDE)).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    for behaviour in [Behaviour::ok(), Behaviour::split_bytes([3, 1, 7], Behaviour::ok())] {
        upstream.script([behaviour]);
        let mut stream = app.stream(CHAT, "claude-stream", body).await;
        assert_eq!(stream.header("content-type"), Some("text/event-stream"));
        let chunks = data(&mut stream).await;
        assert!(String::from_utf8_lossy(stream.received()).ends_with("data: [DONE]\n\n"));
        assert_eq!(said(&chunks), (chat::CONTENT.to_owned(), "stop".to_owned()));
        let usage = &chunks.last().unwrap()["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(11), &json!(7)));
    }
    assert_eq!(
        upstream.requests()[0].text(),
        r#"{"model":"claude-sonnet-4-5","max_tokens":32000,"messages":[{"role":"user","content":"hi"}],"stream":true}"#
    );
}

#[tokio::test]
async fn tools_go_both_ways() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::ok_tool_call());
    let app = TestApp::start(&settings("anthropic", &upstream, CLAUDE)).await;
    let tools = json!([{"type": "function", "function": {"name": chat::TOOL_NAME, "parameters": {"type": "object"}}}]);
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools, "tool_choice": "required"});
    let answer = app.post(CHAT, "claude-tools", body.to_string()).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(
        (&call["id"], &call["function"]["name"]),
        (&json!(chat::TOOL_CALL_ID), &json!(chat::TOOL_NAME))
    );
    assert_eq!(call["function"]["arguments"], chat::TOOL_ARGUMENTS);
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let sent = upstream.requests()[0].json();
    assert_eq!(sent["tools"], json!([{"name": chat::TOOL_NAME, "input_schema": {"type": "object"}}]));
    assert_eq!(sent["tool_choice"], json!({"type": "any"}));

    body["stream"] = true.into();
    let chunks = data(&mut app.stream(CHAT, "claude-tools-stream", body.to_string()).await).await;
    let calls = || chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0));
    assert_eq!(calls().find_map(|call| call["id"].as_str()), Some(chat::TOOL_CALL_ID));
    let arguments: String = calls().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!((arguments.as_str(), said(&chunks).1.as_str()), (chat::TOOL_ARGUMENTS, "tool_calls"));
}

#[tokio::test]
async fn an_anthropic_client_is_answered_by_an_openai_provider() {
    let upstream = Upstream::start();
    upstream.script([Behaviour::ok(), Behaviour::ok_tool_call()]);
    let app = TestApp::start(&settings("openai-compatible", &upstream, "gpt")).await;
    let body = json!({"model": "m", "max_tokens": 20, "system": "Be brief.", "top_k": 5, "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}});
    let answer = ask(&app, MESSAGES, body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        upstream.requests()[0].json(),
        json!({"model": "gpt", "max_completion_tokens": 20, "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "content": "ok", "tool_call_id": "toolu_1"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": "auto", "parallel_tool_calls": false})
    );
    // Anthropic's own headers say nothing to anyone else.
    assert_eq!(upstream.requests()[0].header("anthropic-version"), None);
    assert_eq!(answer.header("x-trunkline-dropped"), Some("top_k"));
    assert!(answer.header("request-id").is_some());
    let answer = answer.json();
    assert_eq!((&answer["type"], &answer["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(answer["content"], json!([{"type": "text", "text": chat::CONTENT}]));
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("end_turn"), &Value::Null));
    assert_eq!(answer["usage"], testkit::native::messages_usage());
    let call = ask(&app, MESSAGES, body.to_string()).await.json();
    let input: Value = serde_json::from_str(chat::TOOL_ARGUMENTS).unwrap();
    let block =
        json!({"type": "tool_use", "id": chat::TOOL_CALL_ID, "name": chat::TOOL_NAME, "input": input});
    assert_eq!((&call["content"], &call["stop_reason"]), (&json!([block]), &json!("tool_use")));
}

#[tokio::test]
async fn an_anthropic_client_streams_from_an_openai_provider() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai-compatible", &upstream, "gpt")).await;
    let body = r#"{"model":"m","max_tokens":20,"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let mut stream = app.stream(MESSAGES, "messages-stream", body).await;
    let events = data(&mut stream).await;
    assert_eq!(
        upstream.requests()[0].json(),
        json!({"model": "gpt", "max_completion_tokens": 20, "messages": [{"role": "user", "content": "hi"}],
               "stream": true, "stream_options": {"include_usage": true}})
    );
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let mut expected = vec!["message_start", "content_block_start"];
    expected.extend(["content_block_delta"; 5]);
    expected.extend(["content_block_stop", "message_delta", "message_stop"]);
    assert_eq!(kinds, expected);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, chat::CONTENT);
    let end = &events[events.len() - 2];
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]),
        (&json!("end_turn"), &testkit::native::messages_usage())
    );
    let wire = String::from_utf8_lossy(stream.received()).into_owned();
    assert!(wire.starts_with("event: message_start\ndata: {") && !wire.contains("[DONE]"), "{wire}");
}

/// Mutations: the body written anew; `anthropic-beta` not sent on.
#[tokio::test]
async fn the_same_on_both_sides_is_forwarded_byte_for_byte() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("anthropic", &upstream, "up")).await;
    let sent = "{ \"max_tokens\":1e1 ,\"model\" : \"m\", \"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9\"}],\"new_field\":[1.50],\"cache_control\":{\"type\":\"ephemeral\"}}";
    let sent = sent.replace("1e1", "10");
    let headers = [
        ("authorization", app.auth().1),
        ("anthropic-version", "2026-10-21".to_owned()),
        ("anthropic-beta", "one-2026,two-2026".to_owned()),
        ("x-other", "stays".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = app.client().post_json(MESSAGES, &headers, &sent).await;
    let received = &upstream.requests()[0];
    assert_eq!(received.text(), sent.replace("\"model\" : \"m\"", "\"model\" : \"up\""));
    let seen =
        ["anthropic-version", "anthropic-beta", "x-api-key", "x-other"].map(|name| received.header(name));
    assert_eq!(seen, [Some("2026-10-21"), Some("one-2026,two-2026"), Some("sk-upstream-secret"), None]);
    assert_eq!(answer.body, Behaviour::ok().reply(&testkit::Ask::of("/v1/messages", sent.as_bytes())).body());
    assert_eq!(answer.header("x-trunkline-dropped"), None);

    let streamed = sent.replacen('{', "{\"stream\":true,", 1);
    let mut stream = app.stream(MESSAGES, "pass-stream", &streamed).await;
    stream.collect(PATIENCE).await;
    let wire = Behaviour::ok().reply(&testkit::Ask::of("/v1/messages", streamed.as_bytes())).body();
    assert_eq!(String::from_utf8_lossy(stream.received()), String::from_utf8_lossy(&wire));
    let record = app.record("pass-stream").await;
    let counted = [&record["input_tokens"], &record["cached_tokens"], &record["output_tokens"]];
    assert_eq!(counted, [&json!(11), &json!(3), &json!(7)], "{record}");
}

/// What another provider signed would be refused by Anthropic: the request is written anew without it.
#[tokio::test]
async fn reasoning_signed_elsewhere_does_not_reach_anthropic() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("anthropic", &upstream, CLAUDE)).await;
    let body = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "tl:gemini:xyz"},
            {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"}]});
    let answer = ask(&app, MESSAGES, body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-trunkline-dropped"), Some("reasoning of another provider"));
    assert_eq!(upstream.requests()[0].json()["messages"][1], json!({"role": "assistant", "content": "b"}));
}

#[tokio::test]
async fn tokens_are_counted_at_the_provider_or_here() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hello world"}]}"#;
    let path = "/v1/messages/count_tokens";
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("anthropic", &upstream, CLAUDE)).await;
    let answer = ask(&app, path, body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"input_tokens": chat::PROMPT_TOKENS})));
    assert_eq!(upstream.requests()[0].path, path);
    assert_eq!(upstream.requests()[0].text(), body.replace("\"m\"", "\"claude-sonnet-4-5\""));
    // A provider that cannot say does not keep us from saying.
    upstream.script([Behaviour::error(529, None)]);
    let answer = ask(&app, path, body).await;
    assert!(answer.json()["input_tokens"].as_u64().unwrap() > 2, "{}", answer.text());

    let other = Upstream::start();
    let app = TestApp::start(&settings("openai-compatible", &other, "gpt-4o")).await;
    let answer = ask(&app, path, body).await;
    assert!((3..20).contains(&answer.json()["input_tokens"].as_u64().unwrap()), "{}", answer.text());
    assert!(other.requests().is_empty());
    let wrong = ask(&app, path, r#"{"model":"m"}"#).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["type"]), (400, &json!("invalid_request_error")));
}
