//! The messages of the protocol, as far as they are read or written here.
//!
//! They are protocol buffers in their JSON mapping (<https://protobuf.dev/programming-guides/json/>): a field
//! is known by its lowerCamelCase name and by its own name with underscores, null is as good as absent, a
//! number may stand in quotes, and Google's servers take a lone value for a list of one.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Fields without a place of their own.
pub(super) type Rest = Map<String, Value>;

/// `GenerateContentRequest`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    #[serde(skip_serializing)]
    pub model: Option<String>,
    #[serde(alias = "system_instruction", skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<Content>,
    #[serde(deserialize_with = "list")]
    pub contents: Vec<Content>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    #[serde(alias = "tool_config", skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<ToolConfig>,
    #[serde(alias = "generation_config", skip_serializing_if = "Option::is_none")]
    pub generation_config: Option<GenerationConfig>,
    #[serde(alias = "cached_content", skip_serializing_if = "Option::is_none")]
    pub cached_content: Option<String>,
    #[serde(alias = "service_tier", skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `Content`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(deserialize_with = "list")]
    pub parts: Vec<Part>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `Part`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Part {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thought: Option<bool>,
    #[serde(alias = "inline_data", skip_serializing_if = "Option::is_none")]
    pub inline_data: Option<Blob>,
    #[serde(alias = "file_data", skip_serializing_if = "Option::is_none")]
    pub file_data: Option<FileData>,
    #[serde(alias = "function_call", skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionCall>,
    #[serde(alias = "function_response", skip_serializing_if = "Option::is_none")]
    pub function_response: Option<FunctionResponse>,
    #[serde(alias = "media_resolution", skip_serializing_if = "Option::is_none")]
    pub media_resolution: Option<MediaResolution>,
    #[serde(alias = "thought_signature", skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<String>,
    #[serde(flatten)]
    pub rest: Rest,
}

impl Part {
    pub fn text(text: impl Into<String>) -> Self {
        Part { text: Some(text.into()), ..Part::default() }
    }
}

/// `Blob`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Blob {
    #[serde(alias = "mime_type")]
    pub mime_type: Option<String>,
    pub data: Option<String>,
    #[serde(alias = "display_name", skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// `FileData`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileData {
    #[serde(alias = "mime_type", skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    #[serde(alias = "file_uri")]
    pub file_uri: Option<String>,
    #[serde(alias = "display_name", skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// `PartMediaResolution`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct MediaResolution {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `FunctionCall`. The arguments stay as they are written: a number in them may be too long for any type.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FunctionCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Box<RawValue>>,
}

/// `FunctionResponse`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FunctionResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub name: Option<String>,
    pub response: Option<Map<String, Value>>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `Tool`: functions, and under other names what the provider itself runs.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Tool {
    #[serde(
        alias = "function_declarations",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub function_declarations: Vec<FunctionDeclaration>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `FunctionDeclaration`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FunctionDeclaration {
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    #[serde(alias = "parameters_json_schema", skip_serializing_if = "Option::is_none")]
    pub parameters_json_schema: Option<Value>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `ToolConfig`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ToolConfig {
    #[serde(alias = "function_calling_config", skip_serializing_if = "Option::is_none")]
    pub function_calling_config: Option<FunctionCallingConfig>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `FunctionCallingConfig`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FunctionCallingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(
        alias = "allowed_function_names",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub allowed_function_names: Vec<String>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `GenerationConfig`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct GenerationConfig {
    #[serde(alias = "candidate_count", deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub candidate_count: Option<i64>,
    #[serde(alias = "stop_sequences", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub stop_sequences: Vec<String>,
    #[serde(
        alias = "max_output_tokens",
        deserialize_with = "whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_output_tokens: Option<i64>,
    #[serde(deserialize_with = "real", skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(alias = "top_p", deserialize_with = "real", skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(alias = "top_k", deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    #[serde(deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    #[serde(alias = "presence_penalty", deserialize_with = "real", skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    #[serde(alias = "frequency_penalty", deserialize_with = "real", skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    #[serde(alias = "response_logprobs", skip_serializing_if = "Option::is_none")]
    pub response_logprobs: Option<bool>,
    #[serde(deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<i64>,
    #[serde(alias = "response_mime_type", skip_serializing_if = "Option::is_none")]
    pub response_mime_type: Option<String>,
    #[serde(alias = "response_schema", skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
    // The underscore is the field's JSON name in the definition; the other name is what the guides use.
    #[serde(
        alias = "response_json_schema",
        alias = "_responseJsonSchema",
        skip_serializing_if = "Option::is_none"
    )]
    pub response_json_schema: Option<Value>,
    #[serde(alias = "response_modalities", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub response_modalities: Vec<String>,
    #[serde(alias = "thinking_config", skip_serializing_if = "Option::is_none")]
    pub thinking_config: Option<ThinkingConfig>,
    #[serde(flatten)]
    pub rest: Rest,
}

/// `ThinkingConfig`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ThinkingConfig {
    #[serde(alias = "include_thoughts", skip_serializing_if = "Option::is_none")]
    pub include_thoughts: Option<bool>,
    #[serde(alias = "thinking_budget", deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<i64>,
    #[serde(alias = "thinking_level", skip_serializing_if = "Option::is_none")]
    pub thinking_level: Option<String>,
}

/// `GenerateContentResponse`, whole or one chunk of a stream.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Response {
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    #[serde(alias = "prompt_feedback", skip_serializing_if = "Option::is_none")]
    pub prompt_feedback: Option<PromptFeedback>,
    #[serde(alias = "usage_metadata", skip_serializing_if = "Option::is_none")]
    pub usage_metadata: Option<UsageMetadata>,
    #[serde(alias = "model_version", skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    #[serde(alias = "response_id", skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    #[serde(skip_serializing)]
    pub error: Option<Value>,
}

/// `Candidate`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Candidate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(alias = "finish_reason", skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    #[serde(alias = "finish_message", skip_serializing_if = "Option::is_none")]
    pub finish_message: Option<String>,
    pub index: Option<u32>,
    #[serde(alias = "logprobs_result", skip_serializing_if = "Option::is_none")]
    pub logprobs_result: Option<Value>,
}

/// `PromptFeedback`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PromptFeedback {
    #[serde(alias = "block_reason")]
    pub block_reason: Option<String>,
}

/// `UsageMetadata`.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UsageMetadata {
    #[serde(alias = "prompt_token_count", deserialize_with = "count")]
    pub prompt_token_count: u64,
    #[serde(alias = "cached_content_token_count", deserialize_with = "count", skip_serializing_if = "none")]
    pub cached_content_token_count: u64,
    #[serde(alias = "candidates_token_count", deserialize_with = "count")]
    pub candidates_token_count: u64,
    #[serde(alias = "tool_use_prompt_token_count", deserialize_with = "count", skip_serializing_if = "none")]
    pub tool_use_prompt_token_count: u64,
    #[serde(alias = "thoughts_token_count", deserialize_with = "count", skip_serializing_if = "none")]
    pub thoughts_token_count: u64,
    #[serde(alias = "total_token_count", deserialize_with = "count")]
    pub total_token_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn none(count: &u64) -> bool {
    *count == 0
}

/// A list, null, or one element without its brackets.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct ListVisitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(de::value::StrDeserializer::new(text)).map(|one| vec![one])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
    }
    deserializer.deserialize_any(ListVisitor(PhantomData))
}

/// A number, or one in quotes.
fn real<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(Value::String(text)) if text.parse::<f64>().is_ok_and(f64::is_finite) => Ok(text.parse().ok()),
        Some(_) => Err(de::Error::custom("expected a number")),
    }
}

/// A whole number: also as `40.0`, which the Python SDK sends for `topK`, or in quotes.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let wrong = || de::Error::custom("expected a whole number");
    let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    let found = match &value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT)?;
            Some(float as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    found.map(Some).ok_or_else(wrong)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let count = whole(deserializer)?.unwrap_or_default();
    u64::try_from(count).map_err(|_| de::Error::custom("expected a count"))
}
