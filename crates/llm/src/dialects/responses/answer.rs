//! Whole answers.

use base::Usage;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::prompt::{write_choice, write_format, write_function};
use super::writer::Writer;
use super::{custom, error_words, read_usage, write_usage};
use crate::Dialect;
use crate::form::{Answer, Choice, Finish, Format, Frame, Part, Reasoning, Tool, ToolCall, unseal};

pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    let wire: Map<String, Value> =
        serde_json::from_slice(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    if let Some(error) = wire.get("error").filter(|error| !error.is_null()) {
        return Err(format!("the answer is an error: {}", error_words(error)));
    }
    let Some(Value::Array(output)) = wire.get("output") else {
        return Err("the answer has no `output`".into());
    };
    let status = wire.get("status").and_then(Value::as_str).unwrap_or("completed");
    if status == "failed" {
        return Err("the answer failed, and does not say why".into());
    }
    let mut parts = Vec::with_capacity(output.len());
    let mut logprobs = Vec::new();
    for item in output {
        read_item(item, &mut parts, &mut logprobs)?;
    }
    let finish = finish(status, wire.get("incomplete_details"), &parts);
    let logprobs = (!logprobs.is_empty()).then(|| json!({"content": logprobs}));
    let text = |name: &str| wire.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Answer {
        id: text("id"),
        model: text("model"),
        choices: vec![Choice { parts, finish, logprobs }],
        usage: wire.get("usage").and_then(read_usage),
    })
}

fn read_item(item: &Value, parts: &mut Vec<Part>, logprobs: &mut Vec<Value>) -> Result<(), String> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |name: &str| item.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match item.get("type").and_then(Value::as_str) {
        Some("message") => {
            for part in list("content") {
                let said = |name: &str| part.get(name).and_then(Value::as_str).unwrap_or_default();
                match said("type") {
                    "output_text" => {
                        parts.push(Part::text(said("text")));
                        logprobs.extend(
                            part.get("logprobs").and_then(Value::as_array).into_iter().flatten().cloned(),
                        );
                        let about = part.get("annotations").and_then(Value::as_array);
                        for value in about.into_iter().flatten().cloned() {
                            parts.push(Part::Native { dialect: Dialect::Responses, value });
                        }
                    }
                    "refusal" => parts.push(Part::Refusal(said("refusal").to_owned())),
                    _ => parts.push(Part::Native { dialect: Dialect::Responses, value: part.clone() }),
                }
            }
        }
        Some("function_call") => parts.push(Part::ToolCall(ToolCall {
            id: text("call_id"),
            name: text("name"),
            arguments: text("arguments"),
            signature: None,
        })),
        Some("custom_tool_call") => parts.push(Part::ToolCall(ToolCall {
            id: text("call_id"),
            name: text("name"),
            arguments: custom::arguments(&text("input")),
            signature: None,
        })),
        Some("reasoning") => parts.push(Part::Reasoning(read_reasoning(item))),
        Some(_) => parts.push(Part::Native { dialect: Dialect::Responses, value: item.clone() }),
        None => return Err("an item of the answer has no `type`".into()),
    }
    Ok(())
}

/// An item of reasoning: its summaries, or else its text.
pub(super) fn read_reasoning(item: &Value) -> Reasoning {
    let texts = |name: &str| {
        let list = item.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>()
    };
    let mut said = texts("summary");
    if said.is_empty() {
        said = texts("content");
    }
    let text = |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let signature = text("encrypted_content").map(|sealed| unseal(Dialect::Responses, sealed));
    Reasoning {
        text: said.join("\n\n"),
        redacted: signature.is_some() && said.is_empty(),
        origin: signature.map(|(origin, _)| origin),
        signature: signature.map(|(_, signature)| signature.to_owned()),
        id: text("id").map(str::to_owned),
    }
}

/// Why an answer ended, from its status and from what it holds.
pub(super) fn finish(status: &str, details: Option<&Value>, parts: &[Part]) -> Finish {
    match status {
        "incomplete" => {
            let reason = details.and_then(|details| details.get("reason")).and_then(Value::as_str);
            match reason {
                Some("max_output_tokens" | "max_tokens") => Finish::Length,
                Some("content_filter") => Finish::ContentFilter,
                other => Finish::Other(other.unwrap_or("incomplete").to_owned()),
            }
        }
        "completed" if parts.iter().any(|part| matches!(part, Part::ToolCall(_))) => Finish::ToolCalls,
        "completed" if parts.iter().any(|part| matches!(part, Part::Refusal(_))) => Finish::Refusal,
        "completed" => Finish::Stop,
        other => Finish::Other(other.to_owned()),
    }
}

/// A whole answer is what a stream of it would have ended with.
pub(super) fn write(answer: &Answer, frame: &Frame) -> Bytes {
    let mut writer = Writer::quiet(frame.clone());
    writer.model(answer.model.as_deref());
    if let Some(choice) = answer.choices.first() {
        writer.parts(choice);
    }
    let response = writer.complete(answer.usage.as_ref());
    serde_json::to_vec(&response).unwrap_or_default().into()
}

/// How far an answer is.
pub(super) enum Status<'a> {
    InProgress,
    Completed,
    /// With the reason.
    Incomplete(&'a str),
    /// With the error.
    Failed(Value),
}

/// The object that a response is, with what it repeats of its request.
pub(super) fn response(
    frame: &Frame,
    model: &str,
    status: Status,
    output: &[Value],
    usage: Option<&Usage>,
) -> Value {
    let (word, incomplete, error) = match status {
        Status::InProgress => ("in_progress", Value::Null, Value::Null),
        Status::Completed => ("completed", Value::Null, Value::Null),
        Status::Incomplete(reason) => ("incomplete", json!({"reason": reason}), Value::Null),
        Status::Failed(error) => ("failed", Value::Null, error),
    };
    let prompt = &frame.prompt;
    let mut text = json!({"format": {"type": "text"}});
    if prompt.format != Format::Text {
        text = write_format(&prompt.format).unwrap_or(text);
    }
    let tools = prompt.tools.iter().map(|tool| match tool {
        Tool::Function(function) => write_function(function),
        Tool::Native { value, .. } => value.clone(),
    });
    let choice = prompt.tool_choice.as_ref();
    let mut response = json!({
        "id": response_id(frame),
        "object": "response",
        "created_at": frame.created,
        "status": word,
        "background": false,
        "error": error,
        "incomplete_details": incomplete,
        "instructions": null,
        "max_output_tokens": prompt.max_output,
        "model": model,
        "output": output,
        "parallel_tool_calls": prompt.parallel_tools.unwrap_or(true),
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "store": true,
        "temperature": prompt.temperature,
        "text": text,
        "tool_choice": choice.map_or_else(|| "auto".into(), |choice| write_choice(choice, prompt)),
        "tools": tools.collect::<Vec<_>>(),
        "top_p": prompt.top_p,
        "truncation": "disabled",
        "usage": usage.map(write_usage),
        "user": null,
        "metadata": prompt.metadata.clone().unwrap_or_default(),
    });
    for (name, value) in prompt.echo.iter().filter(|(_, value)| !value.is_null()) {
        let mut value = value.clone();
        // A part of it may have been left to its default.
        if let ("text" | "reasoning", Some(said), Some(full)) =
            (name.as_str(), value.as_object(), response[name].as_object())
        {
            let mut full = full.clone();
            full.extend(said.clone());
            value = Value::Object(full);
        }
        response[name] = value;
    }
    response
}

/// The id of the response that a frame is for.
pub(super) fn response_id(frame: &Frame) -> String {
    format!("resp_{}", frame.id)
}
