use proptest::prelude::*;

use super::*;
use crate::form::{
    Format, Image, Losses, Media, Role, Source, Tool, ToolChoice, ToolFunction, ToolResult, Turn,
};

fn through(body: &Value) -> (Value, Losses) {
    let mut losses = Losses::default();
    let out = Responses.write_prompt(&prompt(body), "m", &mut losses).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses)
}

/// Mutations: a turn not closed before a call; `summary` written for withheld reasoning; `strict` left out.
#[test]
fn what_is_read_is_written() {
    let body = json!({
        "model": "m",
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                {"type": "input_image", "file_id": "file-1", "detail": "auto"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
                {"type": "input_file", "file_url": "https://x/y.pdf"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
             "encrypted_content": "gAAA"},
            {"type": "reasoning", "summary": [], "encrypted_content": "gBBB"},
            {"type": "message", "role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\": 1}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "function_call_output", "call_id": "c2", "output": [
                {"type": "input_text", "text": "two"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "custom_tool_call", "call_id": "c3", "name": "shell", "input": "ls \"x\""},
            {"type": "custom_tool_call_output", "call_id": "c3", "output": "a\nb"},
            {"type": "message", "role": "system", "content": "Hurry."},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
        "tools": [
            {"type": "function", "name": "f", "description": "d", "strict": true,
             "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
            {"type": "custom", "name": "shell", "description": "Runs."},
            {"type": "web_search", "filters": null}],
        "tool_choice": {"type": "custom", "name": "shell"},
        "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "reasoning": {"effort": "low", "summary": "detailed"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "top_logprobs": 3, "max_output_tokens": 70, "temperature": 0.7, "top_p": 0.9,
        "user": "u", "metadata": {"k": "v"}, "service_tier": "flex", "store": false
    });
    let (out, losses) = through(&body);
    assert_eq!(out, body);
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn a_text_is_a_message_of_the_user() {
    let body = json!({"model": "m", "input": "hi", "instructions": null, "tools": null, "text": null, "reasoning": null});
    let prompt = prompt(&body);
    assert_eq!(prompt.turns, [Turn { role: Role::User, name: None, parts: vec![Part::text("hi")] }]);
    assert!(prompt.rest.is_empty(), "{:?}", prompt.rest);
}

#[test]
fn what_is_lost_is_told() {
    let body = json!({
        "model": "m", "truncation": "auto", "prompt_cache_key": "k", "max_tool_calls": 2,
        "text": {"verbosity": "low"}, "reasoning": {"effort": "low", "mode": "pro"},
        "include": ["file_search_call.results", "reasoning.encrypted_content"],
        "stream": true, "stream_options": {"include_obfuscation": true},
        "safety_identifier": "s", "user": "u",
        "tools": [{"type": "function", "name": "f", "defer_loading": true},
                  {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}],
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "x",
                   "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}]},
                  {"role": "assistant", "content": "y", "phase": "commentary"},
                  {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "tl:gemini:abc"}]
    });
    let read = prompt(&body);
    assert_eq!(read.user.as_deref(), Some("s"));
    let cache = Some(json!({"type": "ephemeral", "ttl": "1h"}));
    assert_eq!(read.turns[0].parts, [Part::Text { text: "x".into(), cache }]);
    let (_, losses) = through(&body);
    let mut names = losses.names().to_vec();
    names.sort();
    assert_eq!(
        names,
        [
            "cache_control",
            "include.file_search_call.results",
            "input.phase",
            "max_tool_calls",
            "prompt_cache_key",
            "reasoning of another provider",
            "reasoning.mode",
            "stream_options.include_obfuscation",
            "text.verbosity",
            "tools.defer_loading",
            "tools.format",
            "truncation",
        ]
    );
}

#[test]
fn only_allowed_tools_are_offered() {
    let body = json!({"model": "m", "input": "x",
        "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}, {"type": "web_search"}],
        "tool_choice": {"type": "allowed_tools", "mode": "required",
                        "tools": [{"type": "function", "name": "g"}, {"type": "web_search"}]}});
    let prompt = prompt(&body);
    assert_eq!(prompt.tool_choice, Some(ToolChoice::Required));
    assert!(matches!(&prompt.tools[..], [Tool::Function(f), Tool::Native { .. }] if f.name == "g"));
}

#[test]
fn a_request_that_cannot_be_read_says_what_to_change() {
    let with = |name: &str, value: Value| {
        let mut body = json!({"model": "m", "input": "x"});
        body[name] = value;
        body.to_string()
    };
    for (body, param, says) in [
        ("[]".to_owned(), None, "JSON object"),
        ("{\"model\":".to_owned(), None, "not valid JSON"),
        (json!({"input": "x"}).to_string(), Some("model"), "`model` is missing"),
        (json!({"model": "m"}).to_string(), Some("input"), "provide `input`"),
        (with("input", json!([])), Some("input"), "at least one"),
        (with("input", json!(3)), Some("input"), "a string or a list"),
        (with("input", json!([3])), Some("input"), "`input[0]` must be an object"),
        (with("input", json!([{"role": "owner", "content": "x"}])), Some("input"), "`input[0].role` must be"),
        (with("input", json!([{"role": "user"}])), Some("input"), "`input[0].content` must be"),
        (
            with("input", json!([{"role": "user", "content": [{"type": "input_image"}]}])),
            Some("input"),
            "image_url",
        ),
        (with("input", json!([{"type": "function_call", "name": "f"}])), Some("input"), "`input[0].call_id`"),
        (
            with("input", json!([{"type": "function_call_output", "call_id": "c"}])),
            Some("input"),
            "[0].output`",
        ),
        (with("input", json!([{"id": "msg_1"}])), Some("input"), "not kept here"),
        (with("input", json!([{}])), Some("input"), "`input[0].type` is missing"),
        (with("tools", json!([{"type": "function"}])), Some("tools"), "`tools[0].name` is missing"),
        (with("tools", json!({})), Some("tools"), "`tools` must be a list"),
        (with("tool_choice", json!("any")), Some("tool_choice"), "`tool_choice` must be"),
        (with("tool_choice", json!({"type": "mcp"})), Some("tool_choice"), "does not run the tool `mcp`"),
        (with("text", json!({"format": {"type": "xml"}})), Some("text"), "`text.format.type` must be"),
        (with("text", json!({"format": {"type": "json_schema"}})), Some("text"), "schema` is missing"),
        (with("max_output_tokens", json!(1.5)), Some("max_output_tokens"), "whole number"),
        (with("temperature", json!("hot")), Some("temperature"), "must be a number"),
        (with("background", json!(true)), Some("background"), "leave `background` out"),
        (with("previous_response_id", json!("resp_1")), Some("previous_response_id"), "whole conversation"),
        (with("conversation", json!({"id": "c"})), Some("conversation"), "whole conversation"),
        (with("prompt", json!({"id": "p"})), Some("prompt"), "`instructions`"),
    ] {
        let refusal = Responses.read_prompt(body.as_bytes(), None).unwrap_err();
        assert_eq!(refusal.param, param, "{body}: {}", refusal.message);
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
    }
}

#[test]
fn what_cannot_be_carried_is_refused() {
    let say = |part: Part| Prompt {
        turns: vec![Turn { role: Role::User, name: None, parts: vec![part] }],
        ..Prompt::default()
    };
    let media = || Media { source: Source::Uploaded(Dialect::Gemini, "f".into()), name: None };
    let sound = Media { source: Source::Base64 { media: "audio/wav".into(), data: "A".into() }, name: None };
    let foreign = json!({"type": "computer_20250124"});
    for (prompt, says) in [
        (say(Part::Audio(sound)), "no sound"),
        (say(Part::File(media())), "another provider"),
        (say(Part::Image(Image { source: media().source, detail: None })), "another provider"),
        (say(Part::Native { dialect: Dialect::Messages, value: json!({"type": "odd"}) }), "`odd`"),
        (Prompt { choices: 2, ..Prompt::default() }, "leave `n` out"),
        (
            Prompt {
                tools: vec![Tool::Native { dialect: Dialect::Messages, value: foreign }],
                ..Prompt::default()
            },
            "`computer_20250124`",
        ),
    ] {
        let refusal = Responses.write_prompt(&prompt, "m", &mut Losses::default()).unwrap_err();
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
    }
}

#[test]
fn ids_that_are_too_long_are_shortened_alike() {
    let long = |c: &str| c.repeat(65);
    let call = |id: String| Part::ToolCall(ToolCall { id, name: "f".into(), ..ToolCall::default() });
    let result = |call_id: String| Part::ToolResult(ToolResult { call_id, ..ToolResult::default() });
    let prompt = Prompt {
        turns: vec![
            Turn {
                role: Role::Assistant,
                name: None,
                parts: vec![call(long("a")), call("call_0".into()), call(long("b"))],
            },
            Turn { role: Role::User, name: None, parts: vec![result(long("b")), result(long("a"))] },
        ],
        ..Prompt::default()
    };
    let out = Responses.write_prompt(&prompt, "m", &mut Losses::default()).unwrap();
    let out: Value = serde_json::from_slice(&out).unwrap();
    let ids: Vec<_> =
        out["input"].as_array().unwrap().iter().map(|item| item["call_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["call_1", "call_0", "call_2", "call_2", "call_1"]);
}

fn texts() -> impl Strategy<Value = String> {
    "[a-z \"\\\\é]{1,12}"
}

fn parts() -> impl Strategy<Value = Part> {
    let signature = || proptest::option::of("[A-Za-z0-9+/=:]{1,20}");
    prop_oneof![
        ("[a-z0-9]{1,8}", "[a-z_]{1,8}", "\\{\"a\": [0-9]{1,3}\\}").prop_map(|(id, name, arguments)| {
            Part::ToolCall(ToolCall { id, name, arguments, signature: None })
        }),
        (texts(), signature(), any::<bool>()).prop_map(|(text, signature, redacted)| {
            let redacted = redacted && signature.is_some();
            let text = if redacted { String::new() } else { text };
            let signature = signature.or(Some("x".into()));
            Part::Reasoning(Reasoning {
                text,
                signature,
                redacted,
                origin: Some(Dialect::Responses),
                id: None,
            })
        }),
        texts().prop_map(Part::text),
    ]
}

fn tools() -> impl Strategy<Value = Tool> {
    ("[a-z_]{1,8}", proptest::option::of(texts()), any::<bool>()).prop_map(|(name, description, strict)| {
        let parameters = Some(json!({"type": "object", "properties": {name.as_str(): {"type": "string"}}}));
        Tool::Function(ToolFunction { name, description, parameters, strict: Some(strict), cache: None })
    })
}

/// Neighbouring texts are one message, so they are not told apart afterwards.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for part in parts {
        match (&part, out.last()) {
            (Part::Text { .. }, Some(Part::Text { .. })) => {}
            _ => out.push(part),
        }
    }
    out
}

proptest! {
    #[test]
    fn tools_calls_and_signatures_come_back(
        said in prop::collection::vec(parts(), 1..8).prop_map(joined),
        results in prop::collection::vec(("[a-z0-9]{1,8}", texts()), 1..4),
        tools in prop::collection::vec(tools(), 0..4),
        choice in prop_oneof![
            Just(None), Just(Some(ToolChoice::Auto)), Just(Some(ToolChoice::None)), Just(Some(ToolChoice::Required)),
            "[a-z]{1,6}".prop_map(|name| Some(ToolChoice::Named(name))),
        ],
        schema in any::<bool>(),
    ) {
        let results = results.into_iter().map(|(call_id, text)| {
            Part::ToolResult(ToolResult { call_id, name: None, parts: vec![Part::text(text)], is_error: false })
        });
        let format = if schema {
            Format::Schema { name: Some("n".into()), description: None, schema: json!({"type": "object"}), strict: Some(true) }
        } else {
            Format::Json
        };
        let asked = Prompt {
            model: "m".into(),
            turns: vec![
                Turn { role: Role::System, name: None, parts: vec![Part::text("s")] },
                Turn { role: Role::User, name: None, parts: vec![Part::text("u")] },
                Turn { role: Role::Assistant, name: None, parts: said },
                Turn { role: Role::User, name: None, parts: results.collect() },
            ],
            tools,
            tool_choice: choice,
            format,
            choices: 1,
            ..Prompt::default()
        };
        let mut losses = Losses::default();
        let out = Responses.write_prompt(&asked, "m", &mut losses).unwrap();
        prop_assert!(losses.is_empty(), "{:?}", losses);
        let read = Responses.read_prompt(&out, None).unwrap();
        prop_assert_eq!(Prompt { echo: Default::default(), ..read }, asked);
    }
}
