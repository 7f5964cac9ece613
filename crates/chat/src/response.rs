//! The whole answer of `POST /v1/chat/completions`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Extra, Message, WireUsage};

/// A chat answer. Fields that compatible servers are known to leave out have defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatResponse {
    /// The answer's own id.
    #[serde(default)]
    pub id: String,
    /// `chat.completion`.
    #[serde(default)]
    pub object: String,
    /// When it was made, in Unix seconds.
    #[serde(default)]
    pub created: u64,
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// The answers, `n` of them.
    pub choices: Vec<Choice>,
    /// What the call used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<WireUsage>,
    /// The configuration that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One answer of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Its place among them.
    #[serde(default)]
    pub index: u64,
    /// What is said.
    pub message: Message,
    /// Why it ended.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
    /// Log probabilities, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was complete, or met a stop text.
    Stop,
    /// It reached the most tokens allowed.
    Length,
    /// It calls tools.
    ToolCalls,
    /// A filter of the provider left something out.
    ContentFilter,
    /// A reason that is not of the list.
    #[serde(untagged)]
    Other(String),
}

/// A tool the assistant calls. For a `custom` tool what it says is in `extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the `tool` message with the result refers to.
    pub id: String,
    /// `function` or `custom`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// The function, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionCall>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A function call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Which function.
    pub name: String,
    /// Its arguments: JSON as text, as the model wrote it, which need not be valid.
    pub arguments: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

fn function() -> String {
    "function".to_owned()
}
