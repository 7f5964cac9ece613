//! Reading a chat request.

use ::chat::{
    ChatRequest, Content, ContentPart, Extra, Message, Role as WireRole, Tool as WireTool,
    ToolCall as WireCall, ToolChoice as WireChoice, ToolChoiceMode,
};
use serde_json::{Map, Value};

use super::reasoning;
use crate::Dialect;
use crate::form::{
    Format, Image, Media, Part, Prompt, ReasoningAsk, Role, Source, Tool, ToolCall, ToolChoice, ToolFunction,
    ToolResult, Turn,
};
use crate::openai::Refusal;

pub(super) fn prompt(body: &[u8]) -> Result<Prompt, Refusal> {
    let json = &mut serde_json::Deserializer::from_slice(body);
    let wire: ChatRequest = serde_path_to_error::deserialize(json).map_err(|e| {
        refuse(None, format!("The request is not a chat request at `{}`: {}.", e.path(), e.inner()))
    })?;
    let mut rest = wire.extra;
    for (old, new) in [("functions", "tools"), ("function_call", "tool_choice")] {
        if rest.contains_key(old) {
            return Err(refuse(None, format!("This model's provider does not know `{old}`: use `{new}`.")));
        }
    }
    let mut lost = Map::new();
    let mut turns = Vec::with_capacity(wire.messages.len());
    for message in wire.messages {
        turns.push(turn(message, &mut lost)?);
    }
    let mut prompt = Prompt {
        model: wire.model,
        turns,
        tools: wire.tools.unwrap_or_default().into_iter().map(tool).collect(),
        tool_choice: wire.tool_choice.map(choice).transpose()?,
        parallel_tools: wire.parallel_tool_calls,
        format: wire.response_format.map(format).transpose()?.unwrap_or_default(),
        max_output: wire.max_completion_tokens.or(wire.max_tokens),
        temperature: wire.temperature,
        top_p: wire.top_p,
        top_k: take(&mut rest, "top_k", Value::as_u64),
        frequency_penalty: wire.frequency_penalty,
        presence_penalty: wire.presence_penalty,
        stop: wire.stop.map(|stop| stop.as_slice().to_vec()).unwrap_or_default(),
        seed: wire.seed,
        choices: u32::try_from(wire.n.unwrap_or(1)).unwrap_or(u32::MAX),
        logprobs: wire.logprobs.unwrap_or(false),
        top_logprobs: wire.top_logprobs,
        reasoning: ask(wire.reasoning_effort, &mut rest),
        user: wire.user,
        metadata: take(&mut rest, "metadata", |value| value.as_object().cloned()),
        service_tier: take(&mut rest, "service_tier", |value| value.as_str().map(str::to_owned)),
        stream: wire.stream.unwrap_or(false),
        include_usage: wire.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
        rest,
        echo: Map::new(),
    };
    match wire.modalities {
        Some(modalities) if modalities.iter().any(|modality| modality != "text") => {
            let text = "This model's provider answers in text only: leave `modalities` out.";
            return Err(refuse(Some("modalities"), text.into()));
        }
        _ => {}
    }
    // Nothing is stored unless it is asked for.
    if prompt.rest.get("store") == Some(&Value::Bool(false)) {
        prompt.rest.remove("store");
    }
    prompt.rest.extend(lost);
    prompt.rest.retain(|_, value| !value.is_null());
    Ok(prompt)
}

fn refuse(param: Option<&'static str>, message: String) -> Refusal {
    Refusal { message, param }
}

/// Takes a field whose value has the right form; another form is left where it is, to be told as lost.
fn take<T>(rest: &mut Extra, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let value = rest.get(name).and_then(read);
    if value.is_some() {
        rest.remove(name);
    }
    value
}

/// `reasoning_effort`; or `reasoning` and `thinking` as hosts of several models take them.
fn ask(effort: Option<String>, rest: &mut Extra) -> Option<ReasoningAsk> {
    let word = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let tokens = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
    let wide = take(rest, "reasoning", |value| value.as_object().map(|_| value.clone()));
    let thinking = take(rest, "thinking", |value| value.as_object().map(|_| value.clone()));
    let off = thinking.as_ref().and_then(|t| word(t, "type")).filter(|kind| kind == "disabled");
    let budget = thinking.as_ref().and_then(|t| tokens(t, "budget_tokens"));
    let ask = ReasoningAsk {
        effort: effort.or(wide.as_ref().and_then(|w| word(w, "effort"))).or(off.map(|_| "none".into())),
        budget: wide.as_ref().and_then(|w| tokens(w, "max_tokens")).or(budget),
        show: wide.as_ref().and_then(|w| word(w, "summary")),
    };
    (ask != ReasoningAsk::default()).then_some(ask)
}

fn turn(message: Message, lost: &mut Map<String, Value>) -> Result<Turn, Refusal> {
    let mut extra = message.extra;
    let thoughts = reasoning::take(&mut extra);
    lost.extend(extra.into_iter().map(|(name, value)| (format!("messages.{name}"), value)));
    let mut said = message.content.map(|content| parts(content, lost)).unwrap_or_default();
    let role = match message.role {
        WireRole::System | WireRole::Developer => Role::System,
        WireRole::User => Role::User,
        WireRole::Assistant => {
            let mut all: Vec<Part> = thoughts.into_iter().map(Part::Reasoning).collect();
            all.append(&mut said);
            all.extend(message.refusal.map(Part::Refusal));
            for wire in message.tool_calls.unwrap_or_default() {
                all.push(Part::ToolCall(call(wire)?));
            }
            said = all;
            Role::Assistant
        }
        WireRole::Tool => {
            let call_id = message.tool_call_id.ok_or_else(|| {
                refuse(Some("messages"), "A message of role `tool` needs `tool_call_id`.".into())
            })?;
            let result = ToolResult { call_id, name: message.name, parts: said, is_error: false };
            return Ok(Turn { role: Role::User, name: None, parts: vec![Part::ToolResult(result)] });
        }
        WireRole::Other(role) => {
            let known = "`system`, `developer`, `user`, `assistant` or `tool`";
            let text = format!("This model's provider does not know the role `{role}`: use {known}.");
            return Err(refuse(Some("messages"), text));
        }
    };
    Ok(Turn { role, name: message.name, parts: said })
}

fn parts(content: Content, lost: &mut Map<String, Value>) -> Vec<Part> {
    match content {
        Content::Text(text) => vec![Part::text(text)],
        Content::Parts(parts) => parts.into_iter().map(|wire| part(wire, lost)).collect(),
    }
}

fn part(wire: ContentPart, lost: &mut Map<String, Value>) -> Part {
    let mut note = |extra: Extra| {
        lost.extend(extra.into_iter().map(|(name, value)| (format!("messages.content.{name}"), value)));
    };
    match wire {
        ContentPart::Text(mut text) => {
            let cache = text.extra.remove("cache_control");
            note(text.extra);
            Part::Text { text: text.text, cache }
        }
        ContentPart::ImageUrl(image) => {
            note(image.extra);
            Part::Image(Image { source: source(image.image_url.url), detail: image.image_url.detail })
        }
        ContentPart::InputAudio(audio) => {
            note(audio.extra);
            let media = format!("audio/{}", audio.input_audio.format);
            let source = Source::Base64 { media, data: audio.input_audio.data };
            Part::Audio(Media { source, name: None })
        }
        ContentPart::File(file) => match read_file(&file.file) {
            Some(media) => Part::File(media),
            None => Part::Native {
                dialect: Dialect::Chat,
                value: serde_json::json!({"type": "file", "file": file.file}),
            },
        },
        ContentPart::Refusal(refusal) => Part::Refusal(refusal.refusal),
        ContentPart::Other(value) => Part::Native { dialect: Dialect::Chat, value },
    }
}

fn read_file(file: &Extra) -> Option<Media> {
    let text = |name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
    let name = text("filename");
    let source = match (text("file_data"), text("file_id")) {
        (Some(data), _) => match source(data) {
            Source::Url(data) => Source::Base64 { media: "application/pdf".into(), data },
            inline => inline,
        },
        (None, Some(id)) => Source::Uploaded(Dialect::Chat, id),
        (None, None) => return None,
    };
    Some(Media { source, name })
}

/// A URL, or what a `data:` URL holds (RFC 2397, with Base64).
pub(crate) fn source(url: String) -> Source {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media, data)) => Source::Base64 { media: media.to_owned(), data: data.to_owned() },
        None => Source::Url(url),
    }
}

fn call(mut wire: WireCall) -> Result<ToolCall, Refusal> {
    let signature = wire.extra.remove("extra_content");
    let signature = signature.as_ref().and_then(|extra| extra.pointer("/google/thought_signature"));
    let Some(function) = wire.function else {
        let text =
            format!("This model's provider knows no tool calls of type `{}`, only functions.", wire.kind);
        return Err(refuse(Some("messages"), text));
    };
    Ok(ToolCall {
        id: wire.id,
        name: function.name,
        arguments: function.arguments,
        signature: signature.and_then(Value::as_str).map(str::to_owned),
    })
}

fn tool(wire: WireTool) -> Tool {
    match wire {
        WireTool::Function(mut tool) => Tool::Function(ToolFunction {
            name: tool.function.name,
            description: tool.function.description,
            parameters: tool.function.parameters,
            strict: tool.function.strict,
            cache: tool.extra.remove("cache_control"),
        }),
        WireTool::Other(value) => Tool::Native { dialect: Dialect::Chat, value },
    }
}

fn choice(wire: WireChoice) -> Result<ToolChoice, Refusal> {
    Ok(match wire {
        WireChoice::Mode(ToolChoiceMode::None) => ToolChoice::None,
        WireChoice::Mode(ToolChoiceMode::Auto) => ToolChoice::Auto,
        WireChoice::Mode(ToolChoiceMode::Required) => ToolChoice::Required,
        WireChoice::Named(named) if named.kind == "function" => ToolChoice::Named(named.function.name),
        WireChoice::Named(_) | WireChoice::Other(_) => {
            let text =
                "`tool_choice` must be `none`, `auto`, `required` or one function for this model's provider.";
            return Err(refuse(Some("tool_choice"), text.into()));
        }
    })
}

fn format(wire: chat::ResponseFormat) -> Result<Format, Refusal> {
    Ok(match wire {
        chat::ResponseFormat::Text { .. } => Format::Text,
        chat::ResponseFormat::JsonObject { .. } => Format::Json,
        chat::ResponseFormat::JsonSchema { json_schema, .. } => Format::Schema {
            name: Some(json_schema.name),
            description: json_schema.description,
            schema: json_schema.schema.unwrap_or_else(|| Value::Object(Map::new())),
            strict: json_schema.strict,
        },
        chat::ResponseFormat::Other(_) => {
            let text = "`response_format.type` must be `text`, `json_object` or `json_schema`.";
            return Err(refuse(Some("response_format"), text.into()));
        }
    })
}
