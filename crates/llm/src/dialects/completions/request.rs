//! Requests.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::form::{Format, Losses, Part, Prompt, Role, Turn};
use crate::openai::Refusal;

#[derive(Deserialize)]
struct Wire {
    model: String,
    prompt: Option<Value>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    best_of: Option<u64>,
    #[serde(default)]
    logprobs: Option<u64>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    frequency_penalty: Option<f64>,
    #[serde(default)]
    presence_penalty: Option<f64>,
    #[serde(default)]
    stop: Option<Stop>,
    #[serde(default)]
    seed: Option<i64>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

pub(super) fn read(body: &[u8]) -> Result<Prompt, Refusal> {
    let json = &mut serde_json::Deserializer::from_slice(body);
    let wire: Wire = serde_path_to_error::deserialize(json).map_err(|e| {
        refuse(None, format!("The request is not a completions request at `{}`: {}.", e.path(), e.inner()))
    })?;
    let text = text(wire.prompt)?;
    if wire.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(refuse(
            Some("suffix"),
            "The provider of this model cannot insert text: leave `suffix` out.",
        ));
    }
    let mut rest = wire.rest;
    let choices = wire.n.unwrap_or(1);
    if wire.best_of.is_some_and(|best_of| best_of > u64::from(choices)) {
        rest.insert("best_of".into(), Value::Null);
    }
    let stream = wire.stream.unwrap_or(false);
    // Chunks of other dialects bring no probabilities that could be told here.
    let logprobs = wire.logprobs.filter(|_| !stream);
    if wire.logprobs.is_some() && logprobs.is_none() {
        rest.insert("logprobs".into(), Value::Null);
    }
    rest.retain(|name, value| !value.is_null() || matches!(name.as_str(), "best_of" | "logprobs"));
    let mut echo = Map::new();
    if wire.echo == Some(true) {
        echo.insert("echo".into(), text.as_str().into());
    }
    Ok(Prompt {
        model: wire.model,
        turns: vec![Turn { role: Role::User, name: None, parts: vec![Part::text(text)] }],
        max_output: wire.max_tokens,
        temperature: wire.temperature,
        top_p: wire.top_p,
        frequency_penalty: wire.frequency_penalty,
        presence_penalty: wire.presence_penalty,
        stop: match wire.stop {
            None => Vec::new(),
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Many(texts)) => texts,
        },
        seed: wire.seed,
        choices,
        logprobs: logprobs.is_some(),
        top_logprobs: logprobs.filter(|n| *n > 0),
        user: wire.user,
        stream,
        include_usage: wire.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
        rest,
        echo,
        ..Prompt::default()
    })
}

/// The one text that is to be continued.
fn text(prompt: Option<Value>) -> Result<String, Refusal> {
    let text = match prompt {
        Some(Value::String(text)) => text,
        Some(Value::Array(list)) => {
            let mut texts = list.into_iter();
            match (texts.next(), texts.next()) {
                (Some(Value::String(text)), None) => text,
                (Some(Value::String(_)), Some(Value::String(_))) => {
                    let text = "The provider of this model takes one `prompt` for each request: send the others on their own.";
                    return Err(refuse(Some("prompt"), text));
                }
                _ => {
                    let text = "The provider of this model takes no token numbers: send `prompt` as text.";
                    return Err(refuse(Some("prompt"), text));
                }
            }
        }
        _ => return Err(refuse(Some("prompt"), "You must provide a `prompt`: a string.")),
    };
    if text.is_empty() {
        return Err(refuse(Some("prompt"), "`prompt` is empty: write what is to be continued."));
    }
    Ok(text)
}

#[derive(Serialize)]
struct Written<'a> {
    model: &'a str,
    prompt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<Value>,
}

pub(super) fn write(prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
    losses.note_rest(prompt);
    if !prompt.tools.is_empty() {
        return Err(refuse(Some("tools"), "This model only continues text: leave `tools` out."));
    }
    if prompt.format != Format::Text {
        return Err(refuse(
            Some("response_format"),
            "This model only continues text: leave `response_format` out.",
        ));
    }
    for (name, said) in [
        ("top_k", prompt.top_k.is_some()),
        ("reasoning_effort", prompt.reasoning.is_some()),
        ("metadata", prompt.metadata.is_some()),
        ("service_tier", prompt.service_tier.is_some()),
        ("logprobs", prompt.logprobs && prompt.stream),
    ] {
        if said {
            losses.note(name);
        }
    }
    let written = Written {
        model,
        prompt: written_text(&prompt.turns, losses)?,
        max_tokens: prompt.max_output,
        temperature: prompt.temperature,
        top_p: prompt.top_p,
        frequency_penalty: prompt.frequency_penalty,
        presence_penalty: prompt.presence_penalty,
        stop: &prompt.stop,
        seed: prompt.seed,
        n: Some(prompt.choices).filter(|n| *n > 1),
        logprobs: (prompt.logprobs && !prompt.stream).then(|| prompt.top_logprobs.unwrap_or(0)),
        user: prompt.user.as_deref(),
        stream: prompt.stream.then_some(true),
        stream_options: prompt.stream.then(|| serde_json::json!({"include_usage": true})),
    };
    serde_json::to_vec(&written).map(Bytes::from).map_err(|e| refuse(None, e.to_string()))
}

/// A conversation of one text. More would be continued as if it were one person's words.
fn written_text(turns: &[Turn], losses: &mut Losses) -> Result<String, Refusal> {
    let [Turn { role: Role::User, parts, .. }] = turns else {
        let text = "This model only continues text: send one message of the user, without instructions.";
        return Err(refuse(Some("messages"), text));
    };
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        let Part::Text { text, cache } = part else {
            return Err(refuse(Some("messages"), "This model only continues text: send nothing else."));
        };
        if cache.is_some() {
            losses.note("cache_control");
        }
        texts.push(text.as_str());
    }
    Ok(texts.join("\n"))
}

fn refuse(param: Option<&'static str>, message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), param }
}
