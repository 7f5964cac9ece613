//! Whole answers.

use base::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::blocks::is_base64;
use crate::Dialect;
use crate::form::{Answer, Choice, Finish, Part, Reasoning, ToolCall};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    output: Option<Output>,
    stop_reason: Option<String>,
    usage: Option<WireUsage>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    content: Vec<Value>,
}

/// What was read from and written to the cache is counted beside the input.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
}

impl WireUsage {
    pub(super) fn normal(self) -> Usage {
        let cached_input = self.cache_read_input_tokens.unwrap_or(0);
        let cache_write = self.cache_write_input_tokens.unwrap_or(0);
        Usage {
            input: self.input_tokens.saturating_add(cached_input).saturating_add(cache_write),
            cached_input,
            cache_write,
            output: self.output_tokens,
            ..Usage::default()
        }
    }
}

pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    let wire: Wire =
        serde_json::from_slice(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    let Some(message) = wire.output.and_then(|output| output.message) else {
        return Err(format!("the answer has no message: {}", wire.message.unwrap_or_default()));
    };
    let parts = message.content.into_iter().map(read_block).collect::<Result<Vec<_>, _>>()?;
    let finish = read_finish(wire.stop_reason.as_deref().unwrap_or("end_turn"));
    Ok(Answer {
        id: None,
        model: None,
        choices: vec![Choice { parts: parts.concat(), finish, logprobs: None }],
        usage: wire.usage.map(WireUsage::normal),
    })
}

fn read_block(block: Value) -> Result<Vec<Part>, String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(said) = block.get("text") {
        let said = said.as_str().ok_or("a text that is none")?;
        return Ok(if said.is_empty() { Vec::new() } else { vec![Part::text(said)] });
    }
    if let Some(call) = block.get("toolUse") {
        let (Some(id), Some(name)) = (text(call, "toolUseId"), text(call, "name")) else {
            return Err("a tool call without its id or name".into());
        };
        let input = call.get("input").filter(|input| input.is_object()).cloned();
        let arguments = input.unwrap_or_else(|| json!({})).to_string();
        return Ok(vec![Part::ToolCall(ToolCall { id, name, arguments, signature: None })]);
    }
    if let Some(thought) = block.get("reasoningContent") {
        let origin = Some(Dialect::Converse);
        if let Some(data) = text(thought, "redactedContent").filter(|data| is_base64(data)) {
            let signature = Some(data);
            let withheld = Reasoning { signature, redacted: true, origin, ..Reasoning::default() };
            return Ok(vec![Part::Reasoning(withheld)]);
        }
        let said = thought.get("reasoningText").ok_or("reasoning without its text")?;
        let (text, signature) = (text(said, "text").unwrap_or_default(), text(said, "signature"));
        return Ok(vec![Part::Reasoning(Reasoning { text, signature, origin, ..Reasoning::default() })]);
    }
    if let Some(cited) = block.get("citationsContent") {
        let said = cited.get("content").and_then(Value::as_array).into_iter().flatten();
        let said: String = said.filter_map(|piece| text(piece, "text")).collect();
        let native = Part::Native { dialect: Dialect::Converse, value: block };
        return Ok(vec![Part::text(said), native]);
    }
    Ok(vec![Part::Native { dialect: Dialect::Converse, value: block }])
}

pub(super) fn read_finish(reason: &str) -> Finish {
    match reason {
        "end_turn" => Finish::Stop,
        "tool_use" => Finish::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "stop_sequence" => Finish::StopSequence(None),
        "guardrail_intervened" | "content_filtered" => Finish::ContentFilter,
        other => Finish::Other(other.to_owned()),
    }
}
