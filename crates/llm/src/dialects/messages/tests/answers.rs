use base::Usage;
use serde_json::{Value, json};

use super::frame;
use crate::Dialect;
use crate::dialect::{Egress as _, Ingress as _};
use crate::dialects::messages::Messages;
use crate::form::{Answer, Choice, ErrorClass, Finish, Part, Reasoning, ToolCall};

fn message(content: &Value, reason: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-8", "content": content,
           "stop_reason": reason, "stop_sequence": null,
           "usage": {"input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30,
                     "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}}})
}

fn read(body: &Value) -> Answer {
    Messages.read_answer(body.to_string().as_bytes()).unwrap()
}

/// Mutations: cached tokens not added to the input; the order of parts changed.
#[test]
fn an_answer_comes_back_whole() {
    let body = message(
        &json!([
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, 2.5, "x"]}}]),
        "tool_use",
    );
    let answer = read(&body);
    let usage =
        Usage { input: 60, cached_input: 30, cache_write: 20, output: 7, reasoning: 3, ..Usage::default() };
    assert_eq!(answer.usage, Some(usage));
    assert_eq!(answer.choices[0].finish, Finish::ToolCalls);
    let out: Value =
        serde_json::from_slice(&Messages.write_answer(&answer, &frame(Dialect::Messages))).unwrap();
    assert_eq!(out, body);
}

#[test]
fn every_reason_to_end_has_its_word() {
    for (reason, finish, back) in [
        ("end_turn", Finish::Stop, "end_turn"),
        ("stop_sequence", Finish::StopSequence(Some("END".into())), "stop_sequence"),
        ("max_tokens", Finish::Length, "max_tokens"),
        ("model_context_window_exceeded", Finish::Length, "max_tokens"),
        ("refusal", Finish::Refusal, "refusal"),
        ("pause_turn", Finish::Pause, "pause_turn"),
        ("new_reason", Finish::Other("new_reason".into()), "end_turn"),
    ] {
        let mut body = message(&json!([{"type": "text", "text": "x"}]), reason);
        if reason == "stop_sequence" {
            body["stop_sequence"] = "END".into();
        }
        let answer = read(&body);
        assert_eq!(answer.choices[0].finish, finish);
        let out: Value =
            serde_json::from_slice(&Messages.write_answer(&answer, &frame(Dialect::Messages))).unwrap();
        assert_eq!((&out["stop_reason"], &out["stop_sequence"]), (&back.into(), &body["stop_sequence"]));
    }
}

#[test]
fn a_refusal_brings_its_explanation() {
    let mut body = message(&json!([]), "refusal");
    body["stop_details"] = json!({"type": "refusal", "category": "cyber", "explanation": "No."});
    let answer = read(&body);
    assert_eq!(answer.choices[0].parts, [Part::Refusal("No.".into())]);
    let out: Value = serde_json::from_slice(&Messages.write_answer(&answer, &frame(Dialect::Chat))).unwrap();
    assert_eq!(out["content"], json!([{"type": "text", "text": "No."}]));
    assert_eq!(out["stop_details"], json!({"type": "refusal", "category": null, "explanation": "No."}));
}

#[test]
fn the_structured_answer_of_an_older_model_is_its_text() {
    let call =
        json!({"type": "tool_use", "id": "1", "name": "trunkline_structured_answer", "input": {"n": 1}});
    let answer = read(&message(&json!([call]), "tool_use"));
    assert_eq!(answer.choices[0].parts, [Part::text(r#"{"n":1}"#)]);
    assert_eq!(answer.choices[0].finish, Finish::Stop);
}

#[test]
fn foreign_reasoning_is_sealed() {
    let thought = Reasoning { text: "hm".into(), signature: Some("g".into()), ..Reasoning::default() };
    let call = ToolCall {
        id: "c.1".into(),
        name: "f".into(),
        arguments: "{oops".into(),
        signature: Some("t".into()),
    };
    let parts = vec![Part::Reasoning(thought), Part::ToolCall(call)];
    let choice = Choice { parts, finish: Finish::Stop, logprobs: None };
    let answer = Answer { choices: vec![choice], ..Answer::default() };
    let out: Value =
        serde_json::from_slice(&Messages.write_answer(&answer, &frame(Dialect::Gemini))).unwrap();
    assert_eq!(out["content"][0], json!({"type": "thinking", "thinking": "hm", "signature": "tl:gemini:g"}));
    assert_eq!(out["content"][1], json!({"type": "redacted_thinking", "data": "tl-call:t"}));
    assert_eq!(out["content"][2]["input"], json!({"__unparsed": "{oops"}));
    assert_eq!(
        (&out["stop_reason"], &out["id"], &out["model"]),
        (&json!("tool_use"), &json!("msg_1"), &json!("alias"))
    );
}

#[test]
fn what_is_no_answer_says_so() {
    for body in ["", "{}", r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#, "[]"] {
        assert!(Messages.read_answer(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn errors_have_their_own_form() {
    let body = Messages.error_body(ErrorClass::Unpaid, "No money.", None, "insufficient_quota");
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({"type": "error", "error": {"type": "billing_error", "message": "No money.",
               "details": {"error_code": "insufficient_quota"}}})
    );
    assert!(Messages.error_event(ErrorClass::Overloaded, "x", "y").starts_with(b"event: error\ndata: {"));
    for (message, overflow) in [
        ("prompt is too long: 209353 tokens > 199999 maximum", true),
        (
            "input length and `max_tokens` exceed context limit: 189136 + 20000 > 204648, decrease input length",
            true,
        ),
        ("messages.0.role: Input should be 'user' or 'assistant'", false),
    ] {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
        let error = Messages.read_error(body.to_string().as_bytes()).unwrap();
        assert_eq!(error.is_context_overflow(), overflow, "{message}");
        assert_eq!(error.code.as_deref(), Some("invalid_request_error"));
    }
    assert_eq!(Messages.read_error(b"<html>"), None);
}
