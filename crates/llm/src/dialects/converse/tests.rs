//! The fixtures follow the examples of AWS's documentation that the module names.

use base::Usage;
use serde_json::{Value, json};

use super::Converse;
use crate::Dialect;
use crate::dialect::{Egress as _, Ingress as _, StreamReader as _};
use crate::dialects::{chat::Chat, messages::Messages};
use crate::form::{Finish, Losses, Part, Piece, Reasoning, ToolCall};

const SONNET: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "amazon.nova-pro-v1:0";

fn chat(body: &Value, model: &str) -> (Value, Losses) {
    let prompt = Chat.read_prompt(body.to_string().as_bytes(), None).unwrap();
    let mut losses = Losses::default();
    let out = Converse.write_prompt(&prompt, model, &mut losses).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses)
}

fn messages(body: &Value, model: &str) -> (Value, Losses) {
    let prompt = Messages.read_prompt(body.to_string().as_bytes(), None).unwrap();
    let mut losses = Losses::default();
    let out = Converse.write_prompt(&prompt, model, &mut losses).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses)
}

/// Mutations: the model written into the body; `status` left out of a failed result.
#[test]
fn a_chat_request_becomes_one() {
    let body = json!({
        "model": "alias",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Weather?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "file", "file": {"filename": "my file_1.pdf", "file_data": "data:application/pdf;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
            {"role": "user", "content": "Well?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d"}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "max_tokens": 100, "temperature": 0.5, "stop": "END", "user": "u", "service_tier": "flex",
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}, "seed": 1
    });
    let (out, losses) = chat(&body, NOVA);
    assert_eq!(
        out,
        json!({
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [
                    {"text": "Weather?"},
                    {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                    {"document": {"format": "pdf", "name": "my file 1 pdf", "source": {"bytes": "AAAA"}}}]},
                {"role": "assistant", "content": [{"toolUse": {"toolUseId": "call_1", "name": "f", "input": {"a": 1}}}]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "call_1", "content": [{"text": "sun"}]}},
                    {"text": "Well?"}]}],
            "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "stopSequences": ["END"]},
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object", "properties": {}}}}}],
                "toolChoice": {"tool": {"name": "f"}}},
            "serviceTier": {"type": "flex"},
            "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}
        })
    );
    assert_eq!(losses.names(), ["seed", "parallel_tool_calls", "user"]);
}

#[test]
fn a_messages_request_becomes_one() {
    let ephemeral = json!({"type": "ephemeral", "ttl": "1h"});
    let body = json!({
        "model": "alias", "max_tokens": 4096,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": ephemeral}],
        "thinking": {"type": "enabled", "budget_tokens": 2000}, "top_k": 5,
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "secret"},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": true, "content": "no", "cache_control": ephemeral}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}]
    });
    let (out, losses) = messages(&body, SONNET);
    assert_eq!(
        out["system"],
        json!([{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}])
    );
    assert_eq!(
        out["messages"][1]["content"],
        json!([{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
               {"toolUse": {"toolUseId": "toolu_1", "name": "f", "input": {}}}])
    );
    assert_eq!(
        out["messages"][2]["content"],
        json!([{"toolResult": {"toolUseId": "toolu_1", "content": [{"text": "no"}], "status": "error"}},
               {"cachePoint": {"type": "default", "ttl": "1h"}}])
    );
    assert_eq!(out["toolConfig"]["tools"][1], json!({"cachePoint": {"type": "default"}}));
    assert_eq!(
        out["additionalModelRequestFields"],
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}})
    );
    assert_eq!(losses.names(), ["reasoning of another provider", "top_k"]);
    // Another maker's model does not know Anthropic's signatures.
    let (out, losses) = messages(&body, NOVA);
    assert_eq!(out["messages"][1]["content"].as_array().unwrap().len(), 1);
    assert_eq!(losses.names(), ["reasoning of another provider", "reasoning_effort", "top_k"]);
}

#[test]
fn reasoning_is_asked_for_in_each_maker_s_words() {
    let ask = |effort: &str, model: &str| {
        let body =
            json!({"model": "a", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": effort});
        let (out, losses) = chat(&body, model);
        (
            json!([out["additionalModelRequestFields"], out["outputConfig"], out["inferenceConfig"]]),
            losses.is_empty(),
        )
    };
    for (effort, model, expected, carried) in [
        (
            "low",
            SONNET,
            json!([{"thinking": {"type": "enabled", "budget_tokens": 2048}}, null, {"maxTokens": 34048}]),
            true,
        ),
        (
            "high",
            "anthropic.claude-opus-4-6-v1",
            json!([{"thinking": {"type": "adaptive"}}, {"effort": "high"}, null]),
            true,
        ),
        (
            "none",
            "anthropic.claude-opus-4-6-v1",
            json!([{"thinking": {"type": "disabled"}}, null, null]),
            true,
        ),
        ("low", "openai.gpt-oss-120b-1:0", json!([{"reasoning_effort": "low"}, null, null]), true),
        (
            "high",
            "us.amazon.nova-2-lite-v1:0",
            json!([{"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, null, null]),
            true,
        ),
        ("low", NOVA, json!([null, null, null]), false),
        ("none", NOVA, json!([null, null, null]), true),
    ] {
        assert_eq!(ask(effort, model), (expected, carried), "{effort} {model}");
    }
}

#[test]
fn structured_output_and_choices_have_their_places() {
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    let body = json!({"model": "a", "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let (out, losses) = chat(&body, SONNET);
    let definition = &out["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    assert_eq!(definition["name"], "n");
    assert_eq!(serde_json::from_str::<Value>(definition["schema"].as_str().unwrap()).unwrap(), schema);
    assert!(losses.is_empty(), "{losses:?}");

    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let ask = |choice: &str, messages: Value| {
        chat(&json!({"model": "a", "messages": messages, "tools": tools, "tool_choice": choice}), SONNET)
    };
    let plain = json!([{"role": "user", "content": "x"}]);
    assert_eq!(ask("required", plain.clone()).0["toolConfig"]["toolChoice"], json!({"any": {}}));
    assert_eq!(ask("auto", plain.clone()).0["toolConfig"]["toolChoice"], json!({"auto": {}}));
    let (out, losses) = ask("none", plain);
    assert_eq!((&out["toolConfig"], losses.is_empty()), (&Value::Null, true));
    let called = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "y"}]);
    let (out, losses) = ask("none", called);
    assert_eq!(
        (out["toolConfig"]["tools"].as_array().unwrap().len(), losses.names()),
        (1, &["tool_choice".to_owned()][..])
    );
}

#[test]
fn what_cannot_be_said_is_refused() {
    for (content, says) in [
        (json!([{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]), "fetches no images"),
        (
            json!([{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}]),
            "a text beside a document",
        ),
        (
            json!([{"type": "file", "file": {"filename": "a.zip", "file_data": "data:application/zip;base64,AA"}}]),
            "application/zip",
        ),
        (json!([{"type": "file", "file": {"file_id": "file-1"}}]), "another provider"),
    ] {
        let body = json!({"model": "a", "messages": [{"role": "user", "content": content}]});
        let prompt = Chat.read_prompt(body.to_string().as_bytes(), None).unwrap();
        let refusal = Converse.write_prompt(&prompt, NOVA, &mut Losses::default()).unwrap_err();
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
    }
    let s3 = json!({"model": "a", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "s3://b/a.jpg"}}]}]});
    let (out, _) = chat(&s3, NOVA);
    let image = &out["messages"][0]["content"][0]["image"];
    assert_eq!(image, &json!({"format": "jpeg", "source": {"s3Location": {"uri": "s3://b/a.jpg"}}}));
}

#[test]
fn an_answer_is_read() {
    let body = json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
            {"reasoningContent": {"redactedContent": "AAAA"}},
            {"text": "Hi"},
            {"citationsContent": {"content": [{"text": "cited"}], "citations": []}},
            {"toolUse": {"toolUseId": "tooluse_1", "name": "f", "input": {"a": 1}}}]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 65, "cacheReadInputTokens": 30, "cacheWriteInputTokens": 20},
        "metrics": {"latencyMs": 1}
    });
    let answer = Converse.read_answer(body.to_string().as_bytes()).unwrap();
    let origin = Some(Dialect::Converse);
    let usage = Usage { input: 60, cached_input: 30, cache_write: 20, output: 5, ..Usage::default() };
    assert_eq!(answer.usage, Some(usage));
    let choice = &answer.choices[0];
    assert_eq!(choice.finish, Finish::ToolCalls);
    let signed = Reasoning { text: "hm".into(), signature: Some("s".into()), origin, ..Reasoning::default() };
    let withheld =
        Reasoning { signature: Some("AAAA".into()), redacted: true, origin, ..Reasoning::default() };
    let call = ToolCall {
        id: "tooluse_1".into(),
        name: "f".into(),
        arguments: r#"{"a":1}"#.into(),
        signature: None,
    };
    assert_eq!(
        choice.parts[..4],
        [Part::Reasoning(signed), Part::Reasoning(withheld), Part::text("Hi"), Part::text("cited")]
    );
    assert_eq!(choice.parts.last(), Some(&Part::ToolCall(call)));
    for bad in ["", "{}", r#"{"message":"no"}"#] {
        assert!(Converse.read_answer(bad.as_bytes()).is_err(), "{bad}");
    }
    let error = Converse.read_error(br#"{"message":"Input is too long for requested model."}"#).unwrap();
    assert!(error.is_context_overflow());
    assert_eq!(Converse.read_error(b"<html>"), None);
}

#[test]
fn every_reason_to_end_is_known() {
    for (reason, finish) in [
        ("end_turn", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("stop_sequence", Finish::StopSequence(None)),
        ("guardrail_intervened", Finish::ContentFilter),
        ("content_filtered", Finish::ContentFilter),
        ("malformed_tool_use", Finish::Other("malformed_tool_use".into())),
    ] {
        assert_eq!(super::answer::read_finish(reason), finish);
    }
}

#[test]
fn a_stream_is_read_piece_by_piece() {
    let events = [
        ("messageStart", json!({"role": "assistant"})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}})),
        (
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("contentBlockDelta", json!({"contentBlockIndex": 1, "delta": {"text": "Hi"}, "p": "abcd"})),
        ("contentBlockStop", json!({"contentBlockIndex": 1})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
        ),
        ("contentBlockDelta", json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": "{\"a\":1}"}}})),
        ("contentBlockStop", json!({"contentBlockIndex": 2})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "u", "name": "g"}}}),
        ),
        ("contentBlockStop", json!({"contentBlockIndex": 3})),
        ("newEvent", json!({})),
        ("messageStop", json!({"stopReason": "tool_use"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {"latencyMs": 1}}),
        ),
    ];
    let mut reader = super::stream::Reader::default();
    let mut pieces = Vec::new();
    for (at, (name, data)) in events.iter().enumerate() {
        assert_eq!(reader.is_whole(), at > 12, "{name}");
        reader.read(name, data.to_string().as_bytes(), &mut pieces).unwrap();
    }
    let call = |index, id: &str, name: &str| Piece::ToolCall {
        choice: 0,
        index,
        id: id.into(),
        name: name.into(),
        signature: None,
    };
    assert_eq!(
        pieces,
        [
            Piece::Start { id: None, model: None },
            Piece::Reasoning { choice: 0, text: "hm".into() },
            Piece::Signature { choice: 0, signature: "s".into(), redacted: false },
            Piece::Text { choice: 0, text: "Hi".into() },
            call(0, "t", "f"),
            Piece::Arguments { choice: 0, index: 0, json: "{\"a\":1}".into() },
            call(1, "u", "g"),
            Piece::Arguments { choice: 0, index: 1, json: "{}".into() },
            Piece::Finish { choice: 0, reason: Finish::ToolCalls },
            Piece::Usage(Usage { input: 3, output: 4, ..Usage::default() }),
            Piece::End,
        ]
    );
    let mut pieces = Vec::new();
    reader.read("throttlingException", br#"{"message":"slow down"}"#, &mut pieces).unwrap();
    assert_eq!(pieces, [Piece::Error { message: "throttlingException: slow down".into() }]);
    assert!(reader.read("contentBlockDelta", b"{}", &mut Vec::new()).is_err());
    assert!(reader.read("messageStop", b"[", &mut Vec::new()).is_err());
}
