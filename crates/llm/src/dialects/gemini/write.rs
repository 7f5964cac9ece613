//! Writing a request.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::read::refuse;
use super::wire::{
    Blob, Content, FileData, FunctionCall, FunctionResponse, MediaResolution, Part as Wire, Request, Rest,
};
use super::{config, model, parts};
use crate::Dialect;
use crate::form::{Image, Losses, Media, Part, Prompt, Reasoning, Role, Source, ToolCall, ToolResult, Turn};
use crate::openai::Refusal;

/// In place of a signature that another provider's call cannot have: Google's documented way to have a foreign
/// history accepted (<https://ai.google.dev/gemini-api/docs/thought-signatures>).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

pub(super) fn prompt(prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
    losses.note_rest(prompt);
    for (is_lost, name) in [
        (prompt.user.is_some(), "user"),
        (prompt.metadata.is_some(), "metadata"),
        (prompt.parallel_tools == Some(false) && !prompt.tools.is_empty(), "parallel_tool_calls"),
    ] {
        if is_lost {
            losses.note(name);
        }
    }
    let mut request = Request::default();
    let (names, contents, system) = (HashMap::new(), Vec::new(), Vec::new());
    let mut turns = Turns { model, losses, names, contents, system, cached: None };
    for turn in &prompt.turns {
        turns.write(turn)?;
    }
    let Turns { contents, system, losses, cached, .. } = turns;
    request.cached_content = cached;
    request.contents = contents;
    if request.contents.is_empty() {
        // Instructions alone are no conversation for this API.
        request.contents.push(Content { role: Some("user".into()), parts: system, rest: Rest::new() });
    } else if !system.is_empty() {
        request.system_instruction = Some(Content { role: None, parts: system, rest: Rest::new() });
    }
    if request.contents.iter().all(|content| content.parts.is_empty()) {
        return Err(refuse("messages", "No message holds anything: send at least one with content."));
    }
    request.tools = config::tools(prompt, losses)?;
    request.tool_config = config::tool_config(prompt, model, losses);
    let config = config::generation_config(prompt, model, losses)?;
    let says_nothing = serde_json::to_value(&config).is_ok_and(|config| config == Value::Object(Map::new()));
    request.generation_config = (!says_nothing).then_some(config);
    request.service_tier = match prompt.service_tier.as_deref() {
        None | Some("auto") => None,
        Some("default" | "standard") => Some("standard".into()),
        Some(tier @ ("flex" | "priority")) => Some(tier.to_owned()),
        Some(_) => {
            losses.note("service_tier");
            None
        }
    };
    serde_json::to_vec(&request).map(Bytes::from).map_err(|e| refuse("messages", e.to_string()))
}

/// The conversation as it is written.
struct Turns<'a> {
    model: &'a str,
    losses: &'a mut Losses,
    /// The functions called, by the ids of the calls.
    names: HashMap<&'a str, &'a str>,
    contents: Vec<Content>,
    system: Vec<Wire>,
    /// What the provider has cached of the conversation.
    cached: Option<String>,
}

impl<'a> Turns<'a> {
    fn write(&mut self, turn: &'a Turn) -> Result<(), Refusal> {
        if turn.name.is_some() {
            self.losses.note("name");
        }
        if turn.role == Role::System {
            return self.instruct(turn);
        }
        let mut out = Vec::with_capacity(turn.parts.len());
        let mut signature: Option<&str> = None;
        for part in &turn.parts {
            // A call's signature comes right before it when its client has no place for it.
            if let Some(before) = signature.take() {
                match part {
                    Part::ToolCall(call) if call.signature.is_none() => {
                        out.push(self.call(call, Some(before))?);
                        continue;
                    }
                    _ => out.push(signed("", before)),
                }
            }
            match part {
                Part::Text { text, cache } => self.text(text, cache.as_ref(), &mut out),
                Part::Refusal(text) => self.text(text, None, &mut out),
                Part::Reasoning(thought) => signature = self.thought(thought, &mut out),
                Part::ToolCall(call) => out.push(self.call(call, call.signature.as_deref())?),
                Part::ToolResult(result) => self.result(result, &mut out)?,
                Part::Image(image) => out.push(self.image(image)?),
                Part::Audio(media) | Part::File(media) => out.push(self.media(media)?),
                Part::Native { dialect, value } => out.push(native(*dialect, value)?),
            }
        }
        out.extend(signature.map(|before| signed("", before)));
        if turn.role == Role::Assistant && model::since_3(self.model) {
            accept_foreign(&mut out);
        }
        if out.is_empty() {
            return Ok(());
        }
        let role = if turn.role == Role::Assistant { "model" } else { "user" };
        match self.contents.last_mut() {
            Some(last) if last.role.as_deref() == Some(role) => last.parts.append(&mut out),
            _ => self.contents.push(Content { role: Some(role.into()), parts: out, rest: Rest::new() }),
        }
        Ok(())
    }

    /// Instructions stand before the conversation, wherever they stood in it.
    fn instruct(&mut self, turn: &Turn) -> Result<(), Refusal> {
        if !self.contents.is_empty() {
            self.losses.note("the place of a later system message");
        }
        for part in &turn.parts {
            match part {
                Part::Text { text, cache } => {
                    let mut out = Vec::new();
                    self.text(text, cache.as_ref(), &mut out);
                    self.system.append(&mut out);
                }
                Part::Native { dialect: Dialect::Gemini, value } if value.get("cachedContent").is_some() => {
                    self.cached = value["cachedContent"].as_str().map(str::to_owned);
                }
                Part::Native { dialect, value } => self.system.push(native(*dialect, value)?),
                _ => {
                    let text = "Instructions may hold text only: move the rest into a user message.";
                    return Err(refuse("messages", text));
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str, cache: Option<&Value>, out: &mut Vec<Wire>) {
        if cache.is_some() {
            self.losses.note("cache_control");
        }
        if !text.is_empty() {
            out.push(Wire::text(text));
        }
    }

    /// Writes reasoning of its own; gives back a signature that stands alone, for the part that follows.
    fn thought<'b>(&mut self, thought: &'b Reasoning, out: &mut Vec<Wire>) -> Option<&'b str> {
        if !matches!(thought.origin, None | Some(Dialect::Gemini)) {
            self.losses.note("reasoning of another provider");
            return None;
        }
        let signature = thought.signature.as_deref().filter(|signature| !signature.is_empty());
        if thought.text.is_empty() {
            return signature;
        }
        out.push(Wire {
            text: Some(thought.text.clone()),
            thought: Some(true),
            thought_signature: signature.map(str::to_owned),
            ..Wire::default()
        });
        None
    }

    fn call(&mut self, call: &'a ToolCall, signature: Option<&str>) -> Result<Wire, Refusal> {
        self.names.insert(&call.id, &call.name);
        let args = object(&call.arguments).ok_or_else(|| {
            let text = format!("The arguments of the call `{}` are not a JSON object: mend them.", call.id);
            refuse("messages", text)
        })?;
        let id = Some(call.id.clone()).filter(|id| !id.is_empty());
        Ok(Wire {
            function_call: Some(FunctionCall { id, name: Some(call.name.clone()), args: Some(args) }),
            thought_signature: signature.map(str::to_owned),
            ..Wire::default()
        })
    }

    fn result(&mut self, result: &ToolResult, out: &mut Vec<Wire>) -> Result<(), Refusal> {
        let known = self.names.get(result.call_id.as_str()).copied();
        let Some(name) = known.or(result.name.as_deref()) else {
            let text = format!(
                "The tool result `{}` answers no call before it: send the assistant's message with the call first.",
                result.call_id
            );
            return Err(refuse("messages", text));
        };
        let (mut texts, mut nested, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        let nests = model::nests_pictures(self.model);
        for part in &result.parts {
            let media = match part {
                Part::Text { text, cache } => {
                    if cache.is_some() {
                        self.losses.note("cache_control");
                    }
                    texts.push(text.as_str());
                    continue;
                }
                Part::Image(image) => self.image(image)?,
                Part::Audio(media) | Part::File(media) => self.media(media)?,
                _ => {
                    let text = "A tool's result may hold text, images and files only.";
                    return Err(refuse("messages", text));
                }
            };
            if nests { nested.push(media) } else { beside.push(media) }
        }
        out.push(Wire {
            function_response: Some(FunctionResponse {
                id: Some(result.call_id.clone()).filter(|id| !id.is_empty()),
                name: Some(name.to_owned()),
                response: Some(response(&texts.join("\n"), result.is_error)),
                parts: nested,
                rest: Rest::new(),
            }),
            ..Wire::default()
        });
        out.append(&mut beside);
        Ok(())
    }

    fn image(&mut self, image: &Image) -> Result<Wire, Refusal> {
        let level = match image.detail.as_deref() {
            Some("low") => Some("MEDIA_RESOLUTION_LOW"),
            Some("high") => Some("MEDIA_RESOLUTION_HIGH"),
            _ => None,
        };
        let level = level.filter(|_| {
            let known = model::since_3(self.model);
            if !known {
                self.losses.note("image_url.detail");
            }
            known
        });
        let mut wire = source(&image.source, None)?;
        wire.media_resolution =
            level.map(|level| MediaResolution { level: Some(level.into()), rest: Rest::new() });
        Ok(wire)
    }

    /// A document's or sound's name says what it is where nothing else does.
    fn media(&mut self, media: &Media) -> Result<Wire, Refusal> {
        if media.name.is_some() {
            self.losses.note("filename");
        }
        source(&media.source, media.name.as_deref())
    }
}

fn source(source: &Source, name: Option<&str>) -> Result<Wire, Refusal> {
    let mut wire = Wire::default();
    match source {
        Source::Base64 { media, data } => {
            let (mime_type, data) = (Some(media.clone()), Some(data.clone()));
            wire.inline_data = Some(Blob { mime_type, data, display_name: None });
        }
        Source::Url(uri) | Source::Uploaded(Dialect::Gemini, uri) => {
            let kind = parts::guessed(uri).or_else(|| name.and_then(parts::guessed));
            let mime_type = kind.map(str::to_owned);
            wire.file_data = Some(FileData { mime_type, file_uri: Some(uri.clone()), display_name: None });
        }
        Source::Uploaded(..) => {
            let text = "A file in `messages` is known to another provider only: send it inline or by URL.";
            return Err(refuse("messages", text));
        }
    }
    Ok(wire)
}

fn signed(text: &str, signature: &str) -> Wire {
    Wire { thought_signature: Some(signature.to_owned()), ..Wire::text(text) }
}

fn native(dialect: Dialect, value: &Value) -> Result<Wire, Refusal> {
    let own = (dialect == Dialect::Gemini).then(|| serde_json::from_value(value.clone()).ok()).flatten();
    own.ok_or_else(|| {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or("this part");
        let text =
            format!("The provider of this model has no place for `{kind}` in a message: leave it out.");
        refuse("messages", text)
    })
}

/// The first call of a step must have a signature. One that another provider made has none.
fn accept_foreign(parts: &mut [Wire]) {
    let mut calls = parts.iter_mut().filter(|part| part.function_call.is_some());
    if let Some(first) = calls.next().filter(|first| first.thought_signature.is_none()) {
        first.thought_signature = Some(NO_SIGNATURE.into());
    }
}

/// JSON of an object, as it is written. Nothing at all is an empty one.
pub(super) fn object(arguments: &str) -> Option<Box<RawValue>> {
    let text = arguments.trim();
    let text = if text.is_empty() { "{}" } else { text };
    serde_json::from_str::<Map<String, Value>>(text).ok()?;
    RawValue::from_string(text.to_owned()).ok()
}

/// A result as an object: as it is when it is one, else under the names that the API documents.
fn response(text: &str, is_error: bool) -> Map<String, Value> {
    let named = |name: &str, text: &str| Map::from_iter([(name.to_owned(), Value::from(text))]);
    if is_error {
        return named("error", text);
    }
    match serde_json::from_str::<Map<String, Value>>(text) {
        // It would be read as what it is not.
        Ok(all) if all.len() == 1 && (all.contains_key("output") || all.contains_key("error")) => {
            named("output", text)
        }
        Ok(all) => all,
        Err(_) => named("output", text),
    }
}
