//! Whole answers.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::events::{self, WireUsage};
use super::{ANSWER_TOOL, CALL_SIGNATURE, blocks};
use crate::Dialect;
use crate::dialects::shared::ids;
use crate::form::{Answer, Choice, Finish, Frame, Part, Reasoning, seal};

#[derive(Deserialize)]
struct Wire {
    id: Option<String>,
    model: Option<String>,
    content: Option<Vec<Value>>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    stop_details: Option<StopDetails>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct StopDetails {
    /// Why the model would not answer.
    pub(super) explanation: Option<String>,
}

pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    let wire: Wire =
        serde_json::from_slice(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    if let Some(error) = wire.error {
        return Err(format!("the answer is an error: {error}"));
    }
    let content = wire.content.ok_or("the answer has no `content`")?;
    let mut parts = Vec::with_capacity(content.len());
    let mut finish = events::read_finish(wire.stop_reason.as_deref(), wire.stop_sequence);
    let mut only_answer = true;
    for block in content {
        let citations = block.get("citations").filter(|list| list.as_array().is_some_and(|l| !l.is_empty()));
        let citations = citations.map(|list| json!({"type": "citations", "citations": list}));
        let mut lost = Map::new();
        let read = blocks::read_all(vec![block], "content", "content", &mut lost);
        for part in read.map_err(|refusal| refusal.message)? {
            parts.push(match part {
                Part::ToolCall(call) if call.name == ANSWER_TOOL => Part::text(call.arguments),
                Part::ToolCall(call) => {
                    only_answer = false;
                    Part::ToolCall(call)
                }
                Part::Text { text, .. } if text.is_empty() => continue,
                other => other,
            });
        }
        parts.extend(citations.map(|value| Part::Native { dialect: Dialect::Messages, value }));
    }
    if finish == Finish::ToolCalls && only_answer {
        finish = Finish::Stop;
    }
    let explained = wire.stop_details.and_then(|details| details.explanation);
    parts.extend(explained.filter(|_| finish == Finish::Refusal).map(Part::Refusal));
    Ok(Answer {
        id: wire.id,
        model: wire.model,
        choices: vec![Choice { parts, finish, logprobs: None }],
        usage: wire.usage.map(WireUsage::normal),
    })
}

pub(super) fn write(answer: &Answer, frame: &Frame) -> Bytes {
    let empty = Choice::default();
    // One answer is all that a request in this dialect can ask for.
    let choice = answer.choices.first().unwrap_or(&empty);
    let mut content = Vec::with_capacity(choice.parts.len());
    let (mut called, mut refused) = (false, None);
    for part in &choice.parts {
        match part {
            Part::Text { text, .. } if text.is_empty() => {}
            Part::Text { text, .. } => content.push(json!({"type": "text", "text": text})),
            Part::Refusal(text) => {
                content.push(json!({"type": "text", "text": text}));
                refused = Some(text.as_str());
            }
            Part::Reasoning(thought) => content.push(thinking(thought, frame.origin)),
            Part::ToolCall(call) => {
                called = true;
                if let Some(signature) = &call.signature {
                    let data = format!("{CALL_SIGNATURE}{signature}");
                    content.push(json!({"type": "redacted_thinking", "data": data}));
                }
                content.push(json!({
                    "type": "tool_use",
                    "id": ids::plain(&call.id),
                    "name": call.name,
                    "input": lenient(&call.arguments),
                }));
            }
            Part::Native { dialect: Dialect::Messages, value } if value.get("citations").is_none() => {
                content.push(value.clone());
            }
            // What the model shows as a picture or sound has no block here; other dialects' own parts neither.
            Part::Native { .. } | Part::Image(_) | Part::Audio(_) | Part::File(_) | Part::ToolResult(_) => {}
        }
    }
    let finish = match (&choice.finish, refused) {
        (Finish::Stop, Some(_)) => &Finish::Refusal,
        (finish, _) => finish,
    };
    let (reason, sequence) = events::write_finish(finish, called);
    let usage = events::write_usage(&answer.usage.unwrap_or_default());
    let mut message = json!({
        "id": format!("msg_{}", frame.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model.as_deref().unwrap_or(&frame.model),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage,
    });
    if let (Some(message), "refusal") = (message.as_object_mut(), reason) {
        message.insert("stop_details".into(), stop_details(refused));
    }
    serde_json::to_vec(&message).unwrap_or_default().into()
}

pub(super) fn stop_details(explanation: Option<&str>) -> Value {
    json!({"type": "refusal", "category": null, "explanation": explanation})
}

fn thinking(thought: &Reasoning, origin: Dialect) -> Value {
    let signature = thought.signature.as_deref().unwrap_or_default();
    let sealed = seal(thought.origin.unwrap_or(origin), Dialect::Messages, signature);
    match thought.redacted {
        true => json!({"type": "redacted_thinking", "data": sealed}),
        false => json!({"type": "thinking", "thinking": thought.text, "signature": sealed}),
    }
}

/// The arguments as an object. What is none, cut off for example, is kept under a name of its own.
fn lenient(arguments: &str) -> Value {
    match serde_json::from_str::<Value>(arguments) {
        Ok(value @ Value::Object(_)) => value,
        _ if arguments.trim().is_empty() => json!({}),
        _ => json!({"__unparsed": arguments}),
    }
}
