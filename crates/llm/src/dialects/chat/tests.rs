use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::Dialect;
use crate::form::{Choice, Finish, Part, Piece, Reasoning};

fn through(body: &Value) -> (Value, Losses) {
    let prompt = Chat.read_prompt(body.to_string().as_bytes(), None).unwrap();
    let mut losses = Losses::default();
    let out = Chat.write_prompt(&prompt, "m", &mut losses).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses)
}

/// Mutations: tool results left out of `write_turn`; the name of a message dropped.
#[test]
fn what_is_read_is_written() {
    let body = json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"},
                 "extra_content": {"google": {"thought_signature": "sig"}}}]},
            {"role": "tool", "content": "one", "tool_call_id": "c1"},
            {"role": "tool", "content": "two", "tool_call_id": "c2"},
            {"role": "assistant", "content": "Done.", "reasoning_content": "hm",
             "reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "s"},
                                   {"type": "reasoning.encrypted", "data": "xyz"}]}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "strict": true,
                   "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
        "max_completion_tokens": 7, "reasoning_effort": "low", "temperature": 0.7, "top_p": 0.9,
        "frequency_penalty": 0.1, "presence_penalty": 0.2, "stop": ["a", "b"], "seed": 4, "n": 2,
        "logprobs": true, "top_logprobs": 3, "user": "u", "service_tier": "flex"
    });
    let (out, losses) = through(&body);
    assert_eq!(out, body);
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn what_is_lost_is_told() {
    let body = json!({
        "model": "m", "logit_bias": {"1": 2}, "store": false, "top_k": 3, "verbosity": null,
        "messages": [{"role": "user", "content": "x", "weight": 1},
                     {"role": "assistant", "content": "y", "reasoning_details": [
                        {"type": "reasoning.text", "text": "t", "signature": "tl:messages:abc"}]}]
    });
    let (out, losses) = through(&body);
    assert_eq!(losses.names(), ["logit_bias", "messages.weight", "reasoning of another provider", "top_k"]);
    assert_eq!(out["messages"][1], json!({"role": "assistant", "content": "y"}));
}

#[test]
fn a_request_that_cannot_be_read_says_what_to_change() {
    for (body, says) in [
        (json!({"model": "m", "messages": [{"role": "function", "content": "x"}]}), "role `function`"),
        (json!({"model": "m", "messages": [{"role": "tool", "content": "x"}]}), "tool_call_id"),
        (json!({"model": "m", "messages": [{"role": "user", "content": 3}]}), "messages[0]"),
        (json!({"model": "m", "messages": [], "functions": []}), "use `tools`"),
        (
            json!({"model": "m", "messages": [], "tool_choice": {"type": "allowed_tools"}}),
            "`tool_choice` must be",
        ),
        (json!({"model": "m", "messages": [], "modalities": ["audio"]}), "`modalities`"),
    ] {
        let refusal = Chat.read_prompt(body.to_string().as_bytes(), None).unwrap_err();
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
    }
}

fn frame(origin: Dialect, include_usage: bool) -> Frame {
    let prompt = Arc::new(Prompt { include_usage, ..Prompt::default() });
    Frame { id: "1".into(), model: "alias".into(), origin, created: 5, prompt }
}

#[test]
fn an_answer_comes_back_whole() {
    let thought = Reasoning { text: "hm".into(), signature: Some("s".into()), ..Reasoning::default() };
    let thought = Reasoning { origin: Some(Dialect::Messages), ..thought };
    let usage = base::Usage { input: 9, cached_input: 4, output: 3, reasoning: 1, ..base::Usage::default() };
    let answer = Answer {
        id: Some("chatcmpl-1".into()),
        model: Some("claude".into()),
        choices: vec![Choice {
            parts: vec![Part::Reasoning(thought), Part::text("hi")],
            finish: Finish::Length,
            logprobs: None,
        }],
        usage: Some(usage),
    };
    let wire = Chat.write_answer(&answer, &frame(Dialect::Messages, false));
    assert!(String::from_utf8_lossy(&wire).contains("tl:messages:s"));
    assert_eq!(Chat.read_answer(&wire).unwrap(), answer);
}

/// What a stream's writer writes, its reader reads.
#[test]
fn a_stream_comes_back_piece_by_piece() {
    let usage = base::Usage { input: 9, output: 3, ..base::Usage::default() };
    let id = "c".to_owned();
    let pieces = vec![
        Piece::Start { id: Some("chatcmpl-1".into()), model: Some("alias".into()) },
        Piece::Reasoning { choice: 0, text: "hm".into() },
        Piece::Signature { choice: 0, signature: "s".into(), redacted: false },
        Piece::Text { choice: 0, text: "a".into() },
        Piece::ToolCall { choice: 0, index: 0, id, name: "f".into(), signature: Some("g".into()) },
        Piece::Arguments { choice: 0, index: 0, json: "{}".into() },
        Piece::Finish { choice: 0, reason: Finish::ToolCalls },
        Piece::Usage(usage),
        Piece::End,
    ];
    let mut writer = Chat.writer(frame(Dialect::Chat, true));
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| writer.write(piece, &mut out));
    let mut decoder = crate::sse::Decoder::new(1 << 20);
    decoder.push(out.into());
    let (mut reader, mut read) = (Chat.reader(), Vec::new());
    while let Some(event) = decoder.next_event().unwrap() {
        reader.read("", &event.data().unwrap(), &mut read).unwrap();
    }
    assert_eq!(read, pieces);
    assert!(reader.is_whole());
}
