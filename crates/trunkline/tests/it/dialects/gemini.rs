//! Gemini: its surface in front of every kind of provider, its providers behind the other surfaces.

use serde_json::{Value, json};
use testkit::{Ask, Behaviour, Reply, Upstream, chat};

use super::{data, said, settings};
use crate::app::{PATIENCE, TestApp};

const CHAT: &str = "/v1/chat/completions";
const GENERATE: &str = "/v1beta/models/m:generateContent";
const STREAM: &str = "/v1beta/models/m:streamGenerateContent";
const MODEL: &str = "gemini-3-pro";
const HI: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;

/// Says it in Google's way: the key in its header.
async fn ask(app: &TestApp, path: &str, body: impl AsRef<[u8]>) -> testkit::Response {
    app.client().post_json(path, &[("x-goog-api-key", app.key.as_str())], body).await
}

/// Mutations: the model left in the body; the key sent as a bearer.
#[tokio::test]
async fn a_chat_client_is_answered_by_a_gemini_provider() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("gemini", &upstream, MODEL)).await;
    let body = r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}],"max_tokens":50,"stop":"END","user":"u"}"#;
    let answer = app.post(CHAT, "whole", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = &upstream.requests()[0];
    assert_eq!(received.path, "/v1/models/gemini-3-pro:generateContent");
    assert_eq!(
        received.text(),
        r#"{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{"stopSequences":["END"],"maxOutputTokens":50}}"#
    );
    let headers = ["x-goog-api-key", "authorization"].map(|name| received.header(name));
    assert_eq!(headers, [Some("sk-upstream-secret"), None]);
    assert_eq!(answer.header("x-trunkline-dropped"), Some("user"));
    let answer = answer.json();
    assert_eq!(answer["choices"][0]["message"]["content"], chat::CONTENT);
    let usage = &answer["usage"];
    let counts = [
        &usage["prompt_tokens"],
        &usage["completion_tokens"],
        &usage["prompt_tokens_details"]["cached_tokens"],
        &usage["completion_tokens_details"]["reasoning_tokens"],
    ];
    let expected =
        [chat::PROMPT_TOKENS, chat::COMPLETION_TOKENS, chat::CACHED_TOKENS, chat::REASONING_TOKENS];
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn a_chat_client_streams_from_a_gemini_provider() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("gemini", &upstream, MODEL)).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    for behaviour in [Behaviour::ok(), Behaviour::split_bytes([3, 1, 7], Behaviour::ok())] {
        upstream.script([behaviour]);
        let mut stream = app.stream(CHAT, "stream", body).await;
        let chunks = data(&mut stream).await;
        assert!(String::from_utf8_lossy(stream.received()).ends_with("data: [DONE]\n\n"));
        assert_eq!(said(&chunks), (chat::CONTENT.to_owned(), "stop".to_owned()));
        let usage = &chunks.last().unwrap()["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(11), &json!(7)));
    }
    assert_eq!(upstream.requests()[0].path, "/v1/models/gemini-3-pro:streamGenerateContent?alt=sse");
}

/// The signature that came with a call goes back with it.
#[tokio::test]
async fn a_call_keeps_its_signature_through_a_chat_client() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::ok_tool_call());
    let app = TestApp::start(&settings("gemini", &upstream, MODEL)).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let answer = app.post(CHAT, "call", body.to_string()).await.json();
    let message = &answer["choices"][0]["message"];
    let call = &message["tool_calls"][0];
    assert_eq!(
        (&call["id"], &call["function"]["name"]),
        (&json!(chat::TOOL_CALL_ID), &json!(chat::TOOL_NAME))
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "Sunny."});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}, message, result]});
    app.post(CHAT, "result", body.to_string()).await;
    let sent = upstream.requests()[1].json();
    let args: Value = serde_json::from_str(chat::TOOL_ARGUMENTS).unwrap();
    let call = json!({"functionCall": {"id": chat::TOOL_CALL_ID, "name": chat::TOOL_NAME, "args": args},
        "thoughtSignature": "c2lnbmF0dXJl"});
    assert_eq!(sent["contents"][1]["parts"], json!([call]));
    let response =
        json!({"id": chat::TOOL_CALL_ID, "name": chat::TOOL_NAME, "response": {"output": "Sunny."}});
    assert_eq!(sent["contents"][2]["parts"], json!([{"functionResponse": response}]));
}

/// The same on both sides: bytes, but for the model in the path.
#[tokio::test]
async fn a_gemini_client_of_a_gemini_provider_is_forwarded() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("gemini", &upstream, MODEL)).await;
    let body = r#"{ "contents" : [{"parts":[{"text":"hi"}]}], "safetySettings": [], "new_field": 1.50 }"#;
    let answer = ask(&app, GENERATE, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.requests()[0].text(), body);
    let good = Behaviour::ok().reply(&Ask::of(GENERATE, b"{}")).body();
    assert_eq!(answer.body, good);
    let events = Behaviour::ok().reply(&Ask::of(STREAM, b"{}")).body();
    let key = [("x-goog-api-key", app.key.as_str())];
    let mut stream = app.client().stream(&format!("{STREAM}?alt=sse"), &key, body).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let seen = data(&mut stream).await;
    let sent = String::from_utf8(events).unwrap();
    let sent = sent.split_terminator("\r\n\r\n").map(|event| event.strip_prefix("data: ").unwrap());
    let sent: Vec<Value> = sent.map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(seen, sent);
    // What Gemini counts, recorded as everybody's.
    let mut stream = app.stream(&format!("{STREAM}?alt=sse"), "counted", body).await;
    stream.collect(PATIENCE).await;
    let record = app.record("counted").await;
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&json!(11), &json!(7)));
}

/// Mutation: the array's last bracket left out.
#[tokio::test]
async fn a_gemini_client_is_answered_by_every_other_provider() {
    for kind in ["openai-compatible", "anthropic", "bedrock"] {
        let upstream = Upstream::start();
        let app = TestApp::start(&settings(kind, &upstream, "claude-sonnet-4-5")).await;
        let answer = ask(&app, GENERATE, HI).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        let answer = answer.json();
        let candidate = &answer["candidates"][0];
        assert_eq!(
            candidate["content"],
            json!({"role": "model", "parts": [{"text": chat::CONTENT}]}),
            "{kind}"
        );
        assert_eq!((&candidate["finishReason"], &candidate["index"]), (&json!("STOP"), &json!(0)));
        let usage = &answer["usageMetadata"];
        assert_eq!(
            (&usage["promptTokenCount"], &usage["totalTokenCount"]),
            (&json!(11), &json!(18)),
            "{kind}"
        );
        // Without `alt=sse` one array, with it events; the key in the query as well.
        let path = format!("{STREAM}?key={}", app.key);
        let id = format!("array-{kind}");
        let array = app.client().post_json(&path, &[("x-request-id", id.as_str())], HI).await;
        assert_eq!(array.header("content-type"), Some("application/json"), "{kind}");
        let array = array.json();
        let mut stream = app.client().stream(&format!("{path}&alt=sse"), &[], HI).await;
        let events = data(&mut stream).await;
        for chunks in [array.as_array().unwrap(), &events] {
            let parts = chunks.iter().map(|chunk| &chunk["candidates"][0]["content"]["parts"][0]["text"]);
            let text: String = parts.filter_map(Value::as_str).collect();
            assert_eq!(text, chat::CONTENT, "{kind}");
            let last = chunks.last().unwrap();
            assert_eq!(last["candidates"][0]["finishReason"], "STOP", "{kind}");
            assert_eq!(last["usageMetadata"]["totalTokenCount"], 18, "{kind}");
        }
        app.record(&id).await;
        assert!(app.lines(&id).iter().all(|line| !line.contains(&app.key)), "a key in the log");
        assert!(upstream.requests().iter().all(|request| !request.path.contains("key=")));
    }
}

/// The status, and the name and reason of an error.
fn error(answer: &testkit::Response) -> (u16, String, String) {
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", answer.text());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (answer.status, text(&error["status"]), text(&error["details"][0]["reason"]))
}

#[tokio::test]
async fn errors_are_google_s_everywhere() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai-compatible", &upstream, "up")).await;
    let good = [("x-goog-api-key", app.key.as_str())];
    for (headers, path, body, expected) in [
        (&[][..], GENERATE, HI, (401, "UNAUTHENTICATED", "MISSING_API_KEY")),
        (&[("x-goog-api-key", "wrong")][..], GENERATE, HI, (401, "UNAUTHENTICATED", "INVALID_API_KEY")),
        (&good[..], GENERATE, "{}", (400, "INVALID_ARGUMENT", "INVALID_REQUEST")),
        (&good[..], GENERATE, "{", (400, "INVALID_ARGUMENT", "INVALID_REQUEST")),
        (&good[..], "/v1beta/models/nobody:generateContent", HI, (404, "NOT_FOUND", "MODEL_NOT_FOUND")),
        (&good[..], "/v1beta/models/m:bogus", HI, (404, "NOT_FOUND", "NOT_FOUND")),
        (&good[..], "/v1beta/files", HI, (404, "NOT_FOUND", "NOT_FOUND")),
        (&good[..], "/v1beta/models/nobody:countTokens", HI, (404, "NOT_FOUND", "MODEL_NOT_FOUND")),
    ] {
        let answer = app.client().post_json(path, headers, body).await;
        let (status, name, reason) = error(&answer);
        assert_eq!((status, name.as_str(), reason.as_str()), expected, "{path} {body}");
    }
    let answer = app.client().post_json("/v1beta/models", &good, HI).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert!(upstream.requests().is_empty());
    upstream.script([Behaviour::error(429, Some("7"))]);
    let answer = ask(&app, GENERATE, HI).await;
    assert_eq!(error(&answer).1, "RESOURCE_EXHAUSTED");
    assert_eq!(answer.header("retry-after"), Some("7"));
    // A stream that breaks: an error and nothing after it, in either form.
    for path in [format!("{STREAM}?alt=sse"), STREAM.to_owned()] {
        upstream.script([Behaviour::cut_late()]);
        let answer = ask(&app, &path, HI).await;
        let text = answer.text().to_owned();
        let last: Value = match path.contains("alt") {
            true => {
                let last = text.trim_end().rsplit("data: ").next().unwrap();
                serde_json::from_str(last).unwrap()
            }
            false => answer.json().as_array().unwrap().last().unwrap().clone(),
        };
        assert_eq!(last["error"]["status"], "INTERNAL", "{text}");
        assert!(text.contains("Hello") && !text.contains("finishReason"), "{text}");
    }
}

#[tokio::test]
async fn what_a_gemini_provider_says_in_its_own_way_is_understood() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("gemini", &upstream, MODEL)).await;
    // A key that is refused is a 400 to Google, and no business of the caller's.
    upstream.script([Behaviour::error(401, None)]);
    let answer = ask(&app, GENERATE, HI).await;
    assert_eq!(error(&answer), (502, "INTERNAL".into(), "UPSTREAM_CREDENTIAL_REFUSED".into()));
    assert!(!answer.text().contains("API key") && !answer.text().contains("sk-upstream-secret"));
    // How long to wait stands in the body.
    let quota = json!({"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.2s"}]}});
    upstream.script([Behaviour::custom("quota", move |_| {
        Reply::whole(429, "application/json", quota.to_string())
    })]);
    let answer = ask(&app, GENERATE, HI).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("13")));
    // What is wrong with the request is the caller's to know, in the caller's form.
    upstream.script([Behaviour::context_overflow()]);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = app.post(CHAT, "overflow", body).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (400, Some("context_length_exceeded"))
    );
}

#[tokio::test]
async fn models_and_counts() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("openai-compatible", &upstream, "up")).await;
    let key = [("x-goog-api-key", app.key.as_str())];
    let list = app.client().get("/v1beta/models?pageSize=1", &key).await.json();
    assert_eq!(list["models"][0]["name"], "models/m");
    let model = app.client().get("/v1beta/models/m", &key).await.json();
    assert_eq!(model, list["models"][0]);
    assert_eq!(app.client().get("/v1beta/models/nobody", &key).await.status, 404);
    let path = "/v1beta/models/m:countTokens";
    let few = ask(&app, path, HI).await.json()["totalTokens"].as_u64().unwrap();
    let held = format!(r#"{{"generateContentRequest":{HI}}}"#);
    assert_eq!(ask(&app, path, held).await.json()["totalTokens"], few);
    let many = HI.replace("hi", &"hi ".repeat(100));
    assert!(ask(&app, path, many).await.json()["totalTokens"].as_u64().unwrap() > few + 50);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn embeddings_come_from_gemini() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings("gemini", &upstream, "gemini-embedding-001")).await;
    let came = json!({"embeddings": [{"values": [0.5, -0.5]}, {"values": [1.0, 0.0]}]}).to_string();
    upstream
        .script([Behaviour::custom("vectors", move |_| Reply::whole(200, "application/json", came.clone()))]);
    let answer = app.post("/v1/embeddings", "embed", r#"{"model":"m","input":["a","b"]}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = &upstream.requests()[0];
    assert_eq!(received.path, "/v1/models/gemini-embedding-001:batchEmbedContents");
    let one =
        |text: &str| json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}});
    assert_eq!(received.json(), json!({"requests": [one("a"), one("b")]}));
    assert_eq!(answer.json()["data"][1], json!({"object": "embedding", "index": 1, "embedding": [1.0, 0.0]}));
    let tokens = app.post("/v1/embeddings", "tokens", r#"{"model":"m","input":[1,2]}"#).await;
    assert_eq!((tokens.status, tokens.json()["error"]["param"].as_str()), (400, Some("input")));
}
