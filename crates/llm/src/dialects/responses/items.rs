//! Reading the items of a conversation.

use serde_json::{Map, Value};

use super::custom;
use super::fields::{Fields, refuse};
use crate::Dialect;
use crate::dialects::chat::source;
use crate::form::{Image, Media, Part, Reasoning, Role, Source, ToolCall, ToolResult, Turn, unseal};
use crate::openai::Refusal;

/// Reads items into turns. What has no place goes to `lost`.
pub(super) fn read(
    list: Vec<Value>,
    turns: &mut Vec<Turn>,
    lost: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    for (at, value) in list.into_iter().enumerate() {
        let native = Native::of(&value);
        let item = Fields::of(value, format!("input[{at}]"), "input")?;
        read_item(item, native, turns, lost)?;
    }
    Ok(())
}

/// An item of a kind that only OpenAI knows, kept as it stands.
struct Native(Option<Value>);

/// The kinds that are read; the others are kept whole.
const KNOWN: &[&str] = &[
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "item_reference",
];

impl Native {
    fn of(value: &Value) -> Self {
        let kind = value.get("type").and_then(Value::as_str);
        Native(kind.filter(|kind| !KNOWN.contains(kind)).map(|_| value.clone()))
    }
}

fn read_item(
    mut item: Fields,
    native: Native,
    turns: &mut Vec<Turn>,
    lost: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    if let Some(value) = native.0 {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let role = if kind.ends_with("_output") || kind.ends_with("_response") {
            Role::User
        } else {
            Role::Assistant
        };
        say(turns, role, Part::Native { dialect: Dialect::Responses, value });
        return Ok(());
    }
    let kind = match item.string("type")? {
        Some(kind) => kind,
        None if item.peek("role").is_some() => "message".into(),
        None if item.peek("id").is_some() => "item_reference".into(),
        None => return Err(item.wrong("type", "is missing: a message needs `role` and `content`")),
    };
    match kind.as_str() {
        "message" => return message(item, turns, lost),
        "function_call" => {
            let (id, name) = (item.needed("call_id")?, item.needed("name")?);
            let arguments = item.string("arguments")?.unwrap_or_default();
            say(turns, Role::Assistant, Part::ToolCall(ToolCall { id, name, arguments, signature: None }));
        }
        "custom_tool_call" => {
            let (id, name) = (item.needed("call_id")?, item.needed("name")?);
            let arguments = custom::arguments(&item.string("input")?.unwrap_or_default());
            say(turns, Role::Assistant, Part::ToolCall(ToolCall { id, name, arguments, signature: None }));
        }
        "function_call_output" | "custom_tool_call_output" => {
            let call_id = item.needed("call_id")?;
            let parts = match item.take("output") {
                Some(Value::String(text)) => vec![Part::text(text)],
                Some(Value::Array(list)) => content(list, &item.at("output"), lost)?,
                _ => return Err(item.wrong("output", "must be a string or a list of content")),
            };
            let result = ToolResult { call_id, name: item.string("name")?, parts, is_error: false };
            say(turns, Role::User, Part::ToolResult(result));
        }
        "reasoning" => say(turns, Role::Assistant, Part::Reasoning(reasoning(&mut item)?)),
        _ => {
            let text =
                format!("`{}` refers to an item that is not kept here: send the item itself.", item.at("id"));
            return Err(refuse(Some("input"), text));
        }
    }
    for known in ["id", "status", "caller"] {
        item.take(known);
    }
    item.leave("input", lost);
    Ok(())
}

/// Adds a part to the turn that is being said, or begins one.
fn say(turns: &mut Vec<Turn>, role: Role, part: Part) {
    let joins = |turn: &Turn| match role {
        Role::Assistant => turn.role == Role::Assistant,
        _ => turn.role == role && turn.parts.iter().all(|part| matches!(part, Part::ToolResult(_))),
    };
    match turns.last_mut().filter(|turn| joins(turn)) {
        Some(turn) => turn.parts.push(part),
        None => turns.push(Turn { role, name: None, parts: vec![part] }),
    }
}

fn message(mut item: Fields, turns: &mut Vec<Turn>, lost: &mut Map<String, Value>) -> Result<(), Refusal> {
    let role = match item.needed("role")?.as_str() {
        "user" => Role::User,
        "system" | "developer" => Role::System,
        "assistant" => Role::Assistant,
        _ => return Err(item.wrong("role", "must be `user`, `assistant`, `system` or `developer`")),
    };
    let parts = match item.take("content") {
        Some(Value::String(text)) => vec![Part::text(text)],
        Some(Value::Array(list)) => content(list, &item.at("content"), lost)?,
        _ => return Err(item.wrong("content", "must be a string or a list of content")),
    };
    for known in ["id", "status"] {
        item.take(known);
    }
    item.leave("input", lost);
    match role {
        Role::Assistant => parts.into_iter().for_each(|part| say(turns, role, part)),
        _ => turns.push(Turn { role, name: None, parts }),
    }
    Ok(())
}

fn content(list: Vec<Value>, path: &str, lost: &mut Map<String, Value>) -> Result<Vec<Part>, Refusal> {
    let list = list.into_iter().enumerate();
    list.map(|(at, value)| read_part(value, format!("{path}[{at}]"), lost)).collect()
}

fn read_part(value: Value, path: String, lost: &mut Map<String, Value>) -> Result<Part, Refusal> {
    let native = value.clone();
    let mut part = Fields::of(value, path, "input")?;
    let kind = part.needed("type")?;
    let mark = part.object("prompt_cache_breakpoint")?;
    let read = match kind.as_str() {
        "input_text" | "output_text" | "text" => {
            // What was said about the words is for people, not for the model.
            for about in ["annotations", "logprobs"] {
                if part.peek(about).and_then(Value::as_array).is_some_and(Vec::is_empty) {
                    part.take(about);
                }
            }
            Part::Text { text: part.needed("text")?, cache: mark.as_ref().map(cache) }
        }
        "refusal" => Part::Refusal(part.needed("refusal")?),
        "input_image" => {
            let image = match (part.string("image_url")?, part.string("file_id")?) {
                (Some(url), _) => source(url),
                (None, Some(id)) => Source::Uploaded(Dialect::Responses, id),
                (None, None) => return Err(part.wrong("image_url", "is missing: it must be a URL")),
            };
            Part::Image(Image { source: image, detail: part.string("detail")? })
        }
        "input_file" => file(&mut part)?,
        "input_audio" => {
            let Some(mut audio) = part.object("input_audio")? else {
                return Err(part.wrong("input_audio", "is missing: it must have `data` and `format`"));
            };
            let media = format!("audio/{}", audio.needed("format")?);
            Part::Audio(Media { source: Source::Base64 { media, data: audio.needed("data")? }, name: None })
        }
        _ => return Ok(Part::Native { dialect: Dialect::Responses, value: native }),
    };
    part.leave("input.content", lost);
    Ok(read)
}

/// A mark for the cache, in the words that the form keeps it in.
fn cache(mark: &Fields) -> Value {
    let longer = mark.peek("ttl").is_some_and(|ttl| ttl == "12h");
    match longer {
        true => serde_json::json!({"type": "ephemeral", "ttl": "1h"}),
        false => serde_json::json!({"type": "ephemeral"}),
    }
}

fn file(part: &mut Fields) -> Result<Part, Refusal> {
    let name = part.string("filename")?;
    let (data, id, url) = (part.string("file_data")?, part.string("file_id")?, part.string("file_url")?);
    let found = match (data, id, url) {
        (Some(data), _, _) => match source(data) {
            Source::Url(data) => {
                let media = match name.as_deref().and_then(|name| name.rsplit_once('.')) {
                    Some((_, "txt" | "md")) => "text/plain",
                    _ => "application/pdf",
                };
                Source::Base64 { media: media.into(), data }
            }
            inline => inline,
        },
        (None, Some(id), _) => Source::Uploaded(Dialect::Responses, id),
        (None, None, Some(url)) => Source::Url(url),
        (None, None, None) => {
            return Err(part.wrong("file_data", "is missing: send `file_data`, `file_url` or `file_id`"));
        }
    };
    Ok(Part::File(Media { source: found, name }))
}

/// An item of reasoning: all its summaries, or else its text, as one.
fn reasoning(item: &mut Fields) -> Result<Reasoning, Refusal> {
    let mut texts = Vec::new();
    let (mut summaries, mut said) = (item.list("summary")?, item.list("content")?);
    // A summary without words still says that the text is not withheld.
    let redacted = summaries.as_ref().is_none_or(Vec::is_empty) && said.as_ref().is_none_or(Vec::is_empty);
    let chosen =
        if summaries.as_ref().is_some_and(|list| !list.is_empty()) { &mut summaries } else { &mut said };
    for (at, value) in chosen.take().unwrap_or_default().into_iter().enumerate() {
        let mut part = Fields::of(value, format!("{}[{at}]", item.at("summary")), "input")?;
        texts.push(part.needed("text")?);
    }
    let sealed = item.string("encrypted_content")?;
    let (origin, signature) = match sealed.as_deref().map(|sealed| unseal(Dialect::Responses, sealed)) {
        Some((origin, signature)) => (Some(origin), Some(signature.to_owned())),
        None => (None, None),
    };
    let redacted = redacted && signature.is_some();
    Ok(Reasoning { text: texts.join("\n\n"), signature, redacted, origin, id: item.string("id")? })
}
