//! What is between `{` and `}` is the caller's: it reaches the provider byte for byte, but for `model` and
//! `stream_options`.

use testkit::{Behaviour, Upstream, chat};

use crate::app::{PATIENCE, TestApp, alias};

const CHAT: &str = "/v1/chat/completions";

/// Members that a program which reads and writes JSON again would change.
const MEMBERS: [&str; 10] = [
    r#""messages":[{"role":"user","content":"hi"}]"#,
    r#""zz" :  1 ,	"aa":2"#,
    "\n  \"lines\": [\n 1,\n\t2 ]\r\n",
    r#""numbers":[1.0, 1.50, 1e3, 1E-7, -0, -0.0, 0.1e1, 123456789012345678901234567890, 3.141592653589793238462643383279]"#,
    r#""escapes":"\u00e9\u0041\/\ud83e\udd80\b\f\u0000","plain":"é🦀""#,
    r#""twice":1,"twice":2"#,
    r#""messages ":"stream","Model":"MODEL","STREAM":true"#,
    r#""nested":{"model":"not this one","stream":true,"stream_options":{"include_usage":false}}"#,
    r#""metadata":{"":"","a":{}},"store":null,"service_tier":"flex","reasoning_effort":"low""#,
    r#""prediction":{"type":"content","content":"x"},"audio":{"voice":"alloy"},"x_vendor":[[],{},null]"#,
];

#[tokio::test]
async fn every_other_byte_is_the_callers() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let content = MEMBERS[0];
    for (i, member) in MEMBERS.iter().enumerate() {
        let messages = if i == 0 { String::new() } else { format!(",{content}") };
        for (before, after) in [("", ""), (" \n", "\n\n"), ("\t", " ")] {
            // Before the model and after it.
            for (left, right) in [
                (format!("{member}{messages},"), String::new()),
                (String::new(), format!(",{member}{messages}")),
            ] {
                let sent = format!("{before}{{{left}\"model\" : \"m\"{right}}}{after}");
                let answer = app.post(CHAT, "exact", &sent).await;
                assert_eq!(answer.status, 200, "{sent}: {}", answer.text());
                let received = upstream.requests().last().unwrap().text();
                assert_eq!(received, sent.replace("\"model\" : \"m\"", "\"model\" : \"up-a\""));
            }
        }
    }
    // The model's own name may be written in any way JSON has.
    app.post(CHAT, "exact", format!(r#"{{"\u006dodel":"\u006d",{content}}}"#)).await;
    assert_eq!(upstream.requests().last().unwrap().text(), format!(r#"{{"\u006dodel":"up-a",{content}}}"#));
}

#[tokio::test]
async fn a_body_whose_model_stays_is_not_touched_at_all() {
    let upstream = Upstream::start();
    let url = upstream.base_url();
    let settings = format!(
        "providers:\n  lab: {{kind: openai-compatible, base_url: \"{url}\"}}\nmodels:\n  same: {{targets: [{{provider: lab, model: same}}]}}\n"
    );
    let app = TestApp::start(&settings).await;
    let body = "{ \"model\":\"s\\u0061me\", \"messages\":[ ] , \"messages2\":1.10}".replace("[ ]", "[ 1 ]");
    app.post(CHAT, "same", &body).await;
    assert_eq!(upstream.requests()[0].text(), body);
}

#[tokio::test]
async fn usage_is_asked_for_on_streams_and_shown_to_those_who_asked() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let content = MEMBERS[0];
    let added = r#""model":"up-a","stream_options":{"include_usage":true}"#;
    let plain = r#""model":"up-a""#;
    // (the rest of the body, what stands for the model, what becomes of the rest, whether usage is shown)
    for (rest, model, spliced, shown) in [
        (r#""stream":true"#, added, r#""stream":true"#, false),
        (
            r#""stream":true,"stream_options":null"#,
            plain,
            r#""stream":true,"stream_options":{"include_usage":true}"#,
            false,
        ),
        (
            r#""stream_options" : { } ,"stream":true"#,
            plain,
            r#""stream_options" : {"include_usage":true} ,"stream":true"#,
            false,
        ),
        (
            r#""stream":true,"stream_options":{"include_usage":false}"#,
            plain,
            r#""stream":true,"stream_options":{"include_usage":true}"#,
            false,
        ),
        (
            r#""stream":true,"stream_options":{"include_usage":null}"#,
            plain,
            r#""stream":true,"stream_options":{"include_usage":true}"#,
            false,
        ),
        (
            r#""stream":true,"stream_options":{"x":123456789012345678901,"include_obfuscation":false}"#,
            plain,
            r#""stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true,"x":123456789012345678901}"#,
            false,
        ),
        (
            r#""stream":true,"stream_options":{ "include_usage" : true, "x":1.0}"#,
            plain,
            r#""stream":true,"stream_options":{ "include_usage" : true, "x":1.0}"#,
            true,
        ),
    ] {
        for model_first in [true, false] {
            let order = |model: &str, rest: &str| match model_first {
                true => format!("{{{model},{content},{rest}}}"),
                false => format!("{{{rest},{content},{model}}}"),
            };
            let mut stream = app.stream(CHAT, "usage", order(r#""model":"m""#, rest)).await;
            assert_eq!(stream.status, 200, "{rest}");
            assert_eq!(stream.collect(PATIENCE).await, chat::events(shown), "{rest}");
            assert_eq!(upstream.requests().last().unwrap().text(), order(model, spliced), "{rest}");
        }
    }
    // Without streaming nothing is added, and what the caller wrote is the provider's to judge.
    let body =
        format!(r#"{{"model":"m",{content},"stream":false,"stream_options":{{"include_usage":false}}}}"#);
    app.post(CHAT, "usage", &body).await;
    assert_eq!(upstream.requests().last().unwrap().text(), body.replace(r#""m""#, r#""up-a""#));
}

#[tokio::test]
async fn tools_images_and_schemas_pass_both_ways() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let image = format!("data:image/png;base64,{}", "iVBORw0KGgo=".repeat(20_000));
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"what?"}},{{"type":"image_url","image_url":{{"url":"{image}","detail":"high"}}}},{{"type":"input_audio","input_audio":{{"data":"AA==","format":"wav"}}}},{{"type":"new_kind","x":[1.0]}}]}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{{\"a\": 1}}"}}}}]}},{{"role":"tool","tool_call_id":"c","content":"2"}}],"tools":[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{{"type":"object"}}}}}},{{"type":"custom","custom":{{"name":"g"}}}}],"tool_choice":{{"type":"function","function":{{"name":"f"}}}},"parallel_tool_calls":false,"response_format":{{"type":"json_schema","json_schema":{{"name":"s","schema":{{}}}}}}}}"#
    );
    upstream.script([Behaviour::ok_tool_call(), Behaviour::ok_tool_call()]);
    let answer = app.post(CHAT, "tools", &body).await;
    assert_eq!(answer.text(), chat::tool_body());
    assert_eq!(upstream.requests()[0].text(), body.replacen(r#""m""#, r#""up-a""#, 1));
    let streamed = body.replacen(r#"{"model""#, r#"{"stream":true,"model""#, 1);
    let mut stream = app.stream(CHAT, "tools-2", streamed).await;
    assert_eq!(stream.collect(PATIENCE).await, chat::tool_events(false));
}

#[tokio::test]
async fn embeddings_pass_both_ways() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    for (rest, inputs, base64) in [
        (r#""input":"hi""#, 1, false),
        (r#""input":["a", "b","c"],"dimensions":2"#, 3, false),
        (r#""input":[15339, 2],"user":"u""#, 1, false),
        (r#""input":[[1],[2, 3]],"encoding_format":"base64","x_new":1.0"#, 2, true),
    ] {
        let answer = app.post("/v1/embeddings", "embed", format!(r#"{{"model":"m",{rest}}}"#)).await;
        assert_eq!((answer.status, answer.text()), (200, chat::embeddings_body(inputs, base64).as_str()));
        let received = upstream.requests().pop().unwrap();
        assert_eq!(
            (received.path.as_str(), received.text()),
            ("/v1/embeddings", format!(r#"{{"model":"up-a",{rest}}}"#))
        );
    }
    assert_eq!(app.metric("trunkline_calls_total", &[("outcome", "ok"), ("target", "a/up-a")]).await, 4.0);
}

#[tokio::test]
async fn only_what_the_provider_needs_is_sent_to_it() {
    let upstream = Upstream::start();
    let app = TestApp::start(&alias(&[upstream.base_url()], "{}")).await;
    let (name, value) = app.auth();
    let headers = [
        (name, value.as_str()),
        ("cookie", "a=b"),
        ("x-api-key", "other"),
        ("openai-organization", "org"),
        ("x-forwarded-for", "1.2.3.4"),
        ("user-agent", "me"),
    ];
    let body = format!(r#"{{"model":"m",{}}}"#, MEMBERS[0]);
    app.client().post_json(CHAT, &headers, &body).await;
    let received = &upstream.requests()[0];
    let mut names: Vec<_> = received.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "user-agent",
            "x-request-id"
        ]
    );
    assert!(!format!("{:?}", received.headers).contains(&app.key), "the virtual key stays here");
    assert!(received.header("user-agent").unwrap().starts_with("trunkline/"));
}
