//! What a provider of OpenAI's responses sends: whole, streamed, and about a response that it keeps.
//!
//! Sources: OpenAI API reference, responses and their streaming events
//! (<https://platform.openai.com/docs/api-reference/responses>,
//! <https://platform.openai.com/docs/api-reference/responses-streaming>); for the error event, what OpenAI sends,
//! which nests what the reference shows flat (<https://github.com/openai/openai-dotnet/issues/881>).

use serde_json::{Value, json};

use crate::chat::{CACHED_TOKENS, COMPLETION_TOKENS, CONTENT, MODEL, PROMPT_TOKENS, REASONING_TOKENS};

/// The id of the response.
pub const ID: &str = "resp_testkit0001";

/// The events of the usual answer, without the blank line that ends each.
pub fn events() -> Vec<String> {
    let item = |status: &str, content: Value| json!({"id": "msg_testkit", "type": "message", "status": status, "role": "assistant", "content": content});
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let place = || json!({"item_id": "msg_testkit", "output_index": 0, "content_index": 0});
    let with = |mut event: Value, name: &str, value: Value| {
        event[name] = value;
        event
    };
    let begun = response("in_progress", &json!([]), &Value::Null);
    let mut all = vec![
        ("response.created", json!({"response": begun})),
        ("response.in_progress", json!({"response": begun})),
        ("response.output_item.added", json!({"output_index": 0, "item": item("in_progress", json!([]))})),
        ("response.content_part.added", with(place(), "part", part(""))),
    ];
    for text in CONTENT.split_inclusive(' ') {
        let event = with(with(place(), "delta", json!(text)), "logprobs", json!([]));
        all.push(("response.output_text.delta", event));
    }
    all.push((
        "response.output_text.done",
        with(with(place(), "text", json!(CONTENT)), "logprobs", json!([])),
    ));
    all.push(("response.content_part.done", with(place(), "part", part(CONTENT))));
    let done = item("completed", json!([part(CONTENT)]));
    all.push(("response.output_item.done", json!({"output_index": 0, "item": done})));
    all.push(("response.completed", json!({"response": response("completed", &json!([done]), &usage())})));
    let numbered = all.into_iter().enumerate().map(|(number, (name, event))| {
        let event = with(with(event, "type", json!(name)), "sequence_number", json!(number));
        format!("event: {name}\ndata: {event}")
    });
    numbered.collect()
}

/// The usual whole answer.
pub fn body() -> String {
    let text = json!([{"type": "output_text", "text": CONTENT, "annotations": [], "logprobs": []}]);
    let item = json!({"id": "msg_testkit", "type": "message", "status": "completed", "role": "assistant", "content": text});
    response("completed", &json!([item]), &usage()).to_string()
}

/// The answer to `DELETE`.
pub fn deleted_body() -> String {
    json!({"id": ID, "object": "response", "deleted": true}).to_string()
}

/// The items that the response was made from.
pub fn input_items_body() -> String {
    let item = json!({"id": "msg_in", "type": "message", "role": "user", "status": "completed",
        "content": [{"type": "input_text", "text": "hi"}]});
    json!({"object": "list", "data": [item], "first_id": "msg_in", "last_id": "msg_in", "has_more": false})
        .to_string()
}

/// An error within a stream.
pub fn error_event(message: &str) -> String {
    let error = json!({"type": "server_error", "code": "server_error", "message": message, "param": null});
    format!("event: error\ndata: {}", json!({"type": "error", "error": error, "sequence_number": 7}))
}

fn usage() -> Value {
    json!({
        "input_tokens": PROMPT_TOKENS, "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "output_tokens": COMPLETION_TOKENS, "output_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS
    })
}

fn response(status: &str, output: &Value, usage: &Value) -> Value {
    json!({
        "id": ID, "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
        "incomplete_details": null, "instructions": null, "max_output_tokens": null, "model": MODEL,
        "output": output, "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "store": true, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": null, "metadata": {}
    })
}
