//! Content blocks, both ways.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::CALL_SIGNATURE;
use crate::Dialect;
use crate::dialects::shared::fields::Fields;
use crate::dialects::shared::{ids, refuse};
use crate::form::{Image, Losses, Media, Part, Reasoning, Source, ToolCall, ToolResult, unseal};
use crate::openai::Refusal;

/// The pictures that are taken.
const IMAGES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];

/// Reads the blocks of a message, of the instructions or of a tool's result. A mark of the cache on something that
/// is no text becomes an empty text after it.
pub(super) fn read_all(
    list: Vec<Value>,
    place: &str,
    param: &'static str,
    lost: &mut Map<String, Value>,
) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::with_capacity(list.len());
    let mut call_signature = None;
    for (at, value) in list.into_iter().enumerate() {
        let mut fields = Fields::of(value, format!("{place}[{at}]"), param)?;
        let kind = fields.need("type")?;
        let cache = fields.take("cache_control");
        if kind == "redacted_thinking" {
            let data = fields.need("data")?;
            match data.strip_prefix(CALL_SIGNATURE) {
                Some(signature) => call_signature = Some(signature.to_owned()),
                None => parts.push(Part::Reasoning(redacted(&data))),
            }
            continue;
        }
        let part = match read(&kind, &mut fields, lost)? {
            Some(Part::Text { text, .. }) => {
                parts.push(Part::Text { text, cache });
                note(fields, lost);
                continue;
            }
            Some(Part::ToolCall(mut call)) => {
                call.signature = call_signature.take();
                Part::ToolCall(call)
            }
            Some(part) => part,
            None => {
                // Not ours to understand: kept as it stands.
                let mut value: Map<String, Value> = fields.rest().collect();
                value.insert("type".into(), kind.into());
                value.extend(cache.map(|cache| ("cache_control".into(), cache)));
                parts.push(Part::Native { dialect: Dialect::Messages, value: Value::Object(value) });
                continue;
            }
        };
        note(fields, lost);
        parts.push(part);
        parts.extend(cache.map(|cache| Part::Text { text: String::new(), cache: Some(cache) }));
    }
    Ok(parts)
}

/// What no other dialect has is told as lost, by its name.
fn note(fields: Fields, lost: &mut Map<String, Value>) {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let rest = fields.rest().filter(|(_, value)| !empty(value));
    lost.extend(rest.map(|(name, value)| (format!("messages.content.{name}"), value)));
}

fn read(kind: &str, fields: &mut Fields, lost: &mut Map<String, Value>) -> Result<Option<Part>, Refusal> {
    Ok(Some(match kind {
        "text" => Part::text(fields.need("text")?),
        "image" => Part::Image(Image { source: source(fields)?, detail: None }),
        "document" => match document(fields)? {
            Some(media) => Part::File(media),
            None => return Ok(None),
        },
        "thinking" => {
            let text = fields.need("thinking")?;
            let signed = fields.string("signature")?.unwrap_or_default();
            let (origin, signature) = unseal(Dialect::Messages, &signed);
            let signature = Some(signature.to_owned()).filter(|signature| !signature.is_empty());
            Part::Reasoning(Reasoning { text, signature, redacted: false, origin: Some(origin), id: None })
        }
        "tool_use" => {
            let input = fields.take("input").unwrap_or_else(|| json!({}));
            if !input.is_object() {
                return Err(fields.refuse(format!("`{}` must be an object.", fields.at("input"))));
            }
            let (id, name) = (fields.need("id")?, fields.need("name")?);
            // Who called it is said for the provider's own tools only.
            fields.take("caller");
            Part::ToolCall(ToolCall { id, name, arguments: input.to_string(), signature: None })
        }
        "tool_result" => {
            let call_id = fields.need("tool_use_id")?;
            let parts = match fields.take("content") {
                None => Vec::new(),
                Some(Value::String(text)) => vec![Part::text(text)],
                Some(Value::Array(list)) => read_all(list, &fields.at("content"), "messages", lost)?,
                Some(_) => {
                    let place = fields.at("content");
                    return Err(fields.refuse(format!("`{place}` must be a string or a list of blocks.")));
                }
            };
            let is_error = fields.boolean("is_error")?.unwrap_or(false);
            Part::ToolResult(ToolResult { call_id, name: None, parts, is_error })
        }
        _ => return Ok(None),
    }))
}

fn redacted(data: &str) -> Reasoning {
    let (origin, signature) = unseal(Dialect::Messages, data);
    let (signature, origin) = (Some(signature.to_owned()), Some(origin));
    Reasoning { text: String::new(), signature, redacted: true, origin, id: None }
}

/// The source of an image, or of a document that is not text.
fn source(fields: &mut Fields) -> Result<Source, Refusal> {
    let Some(mut source) = fields.object("source")? else {
        return Err(fields.refuse(format!("`{}` is missing.", fields.at("source"))));
    };
    Ok(match source.need("type")?.as_str() {
        "base64" => Source::Base64 { media: source.need("media_type")?, data: source.need("data")? },
        "url" => Source::Url(source.need("url")?),
        "file" => Source::Uploaded(Dialect::Messages, source.need("file_id")?),
        other => {
            let place = source.at("type");
            return Err(source.refuse(format!("`{place}` is `{other}`: use `base64`, `url` or `file`.")));
        }
    })
}

/// A document; `None` for one that is made of blocks, which only this dialect has.
fn document(fields: &mut Fields) -> Result<Option<Media>, Refusal> {
    let Some(whole) = fields.take("source") else {
        return Err(fields.refuse(format!("`{}` is missing.", fields.at("source"))));
    };
    let text = match whole.get("type").and_then(Value::as_str) {
        Some("text") => whole.get("data").and_then(Value::as_str),
        Some("content") => match whole.get("content").and_then(Value::as_str) {
            None => {
                fields.put("source", whole);
                return Ok(None);
            }
            text => text,
        },
        _ => None,
    };
    let source = match text {
        Some(text) => Source::Base64 { media: "text/plain".into(), data: STANDARD.encode(text) },
        None => {
            fields.put("source", whole);
            source(fields)?
        }
    };
    Ok(Some(Media { source, name: fields.string("title")? }))
}

/// Writes the parts of a turn. `signed` says whose signatures the provider takes.
pub(super) fn write_all(
    parts: &[&Part],
    signed: impl Fn(&Reasoning) -> bool + Copy,
    losses: &mut Losses,
) -> Result<Vec<Value>, Refusal> {
    let mut blocks: Vec<Value> = Vec::with_capacity(parts.len());
    for part in parts {
        if let Part::Text { text, cache } = part
            && text.is_empty()
        {
            let last = blocks.last_mut().and_then(Value::as_object_mut);
            if let (Some(cache), Some(last)) = (cache, last) {
                last.insert("cache_control".into(), cache.clone());
            }
            continue;
        }
        blocks.extend(write(part, signed, losses)?);
    }
    Ok(blocks)
}

fn write(
    part: &Part,
    signed: impl Fn(&Reasoning) -> bool + Copy,
    losses: &mut Losses,
) -> Result<Option<Value>, Refusal> {
    Ok(Some(match part {
        Part::Text { text, cache } => text_block(text, cache.as_ref()),
        Part::Refusal(text) => text_block(text, None),
        Part::Image(image) => write_image(image, losses)?,
        Part::File(media) => write_document(media)?,
        Part::Audio(_) => {
            return Err(refuse("messages", "This model's provider takes no sound: send its text instead."));
        }
        Part::Reasoning(thought) => match (&thought.signature, thought.redacted) {
            (Some(data), true) if signed(thought) => json!({"type": "redacted_thinking", "data": data}),
            (Some(signature), false) if signed(thought) => {
                json!({"type": "thinking", "thinking": thought.text, "signature": signature})
            }
            // Without its maker's signature the provider refuses it.
            _ => {
                losses.note("reasoning of another provider");
                return Ok(None);
            }
        },
        Part::ToolCall(call) => {
            if call.signature.is_some() {
                losses.note("reasoning of another provider");
            }
            let input = arguments(call)?;
            json!({"type": "tool_use", "id": ids::plain(&call.id), "name": call.name, "input": input})
        }
        Part::ToolResult(result) => write_result(result, signed, losses)?,
        Part::Native { dialect: Dialect::Messages, value } => value.clone(),
        Part::Native { value, .. } => return Err(foreign(value)),
    }))
}

fn text_block(text: &str, cache: Option<&Value>) -> Value {
    match cache {
        Some(cache) => json!({"type": "text", "text": text, "cache_control": cache}),
        None => json!({"type": "text", "text": text}),
    }
}

/// A part of another dialect's own.
pub(in crate::dialects) fn foreign(value: &Value) -> Refusal {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("this part");
    refuse(
        "messages",
        format!("The provider of this model has no place for `{kind}` in a message: leave it out."),
    )
}

/// The arguments of a call as the object they must be.
pub(in crate::dialects) fn arguments(call: &ToolCall) -> Result<Value, Refusal> {
    if call.arguments.trim().is_empty() {
        return Ok(json!({}));
    }
    let parsed = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
    parsed.ok_or_else(|| {
        let text = format!("The arguments of the tool call `{}` must be a JSON object.", call.id);
        refuse("messages", text)
    })
}

fn write_image(image: &Image, losses: &mut Losses) -> Result<Value, Refusal> {
    if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.note("image_url.detail");
    }
    let source = match &image.source {
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::Base64 { media, data } => {
            let media = image_type(media)?;
            json!({"type": "base64", "media_type": media, "data": data})
        }
        Source::Uploaded(Dialect::Messages, id) => json!({"type": "file", "file_id": id}),
        Source::Uploaded(..) => return Err(uploaded("image")),
    };
    Ok(json!({"type": "image", "source": source}))
}

/// The name under which a kind of picture is taken.
pub(in crate::dialects) fn image_type(media: &str) -> Result<&'static str, Refusal> {
    let media = if media.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { media };
    let known = IMAGES.iter().find(|known| known.eq_ignore_ascii_case(media));
    known.copied().ok_or_else(|| {
        let text = format!(
            "This model's provider takes no `{}` images: send JPEG, PNG, GIF or WebP.",
            media.chars().take(60).collect::<String>()
        );
        refuse("messages", text)
    })
}

/// Something that was uploaded to another provider.
pub(in crate::dialects) fn uploaded(what: &str) -> Refusal {
    refuse("messages", format!("The {what} is known to another provider only: send it inline or by URL."))
}

fn write_document(media: &Media) -> Result<Value, Refusal> {
    let source = match &media.source {
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::Uploaded(Dialect::Messages, id) => json!({"type": "file", "file_id": id}),
        Source::Uploaded(..) => return Err(uploaded("document")),
        Source::Base64 { media, data } if media == "application/pdf" => {
            json!({"type": "base64", "media_type": media, "data": data})
        }
        Source::Base64 { media, data } if is_text(media) => {
            json!({"type": "text", "media_type": "text/plain", "data": plain_text(data)?})
        }
        Source::Base64 { media, .. } => {
            let media: String = media.chars().take(60).collect();
            let text = format!("This model's provider takes no `{media}` documents: send PDF or text.");
            return Err(refuse("messages", text));
        }
    };
    let mut block = json!({"type": "document", "source": source});
    if let (Some(name), Some(block)) = (&media.name, block.as_object_mut()) {
        block.insert("title".into(), name.as_str().into());
    }
    Ok(block)
}

fn is_text(media: &str) -> bool {
    let bare = media.split(';').next().unwrap_or_default().trim();
    bare.starts_with("text/") || matches!(bare, "application/json" | "application/xml")
}

fn plain_text(data: &str) -> Result<String, Refusal> {
    let bytes = STANDARD.decode(data).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| refuse("messages", "A text document must be UTF-8 in Base64.".to_owned()))
}

fn write_result(
    result: &ToolResult,
    signed: impl Fn(&Reasoning) -> bool + Copy,
    losses: &mut Losses,
) -> Result<Value, Refusal> {
    let parts: Vec<&Part> = result.parts.iter().collect();
    if parts.iter().any(|part| {
        matches!(part, Part::ToolCall(_) | Part::ToolResult(_) | Part::Reasoning(_) | Part::Audio(_))
    }) {
        return Err(refuse("messages", "A tool's result may hold text, images and documents only."));
    }
    let mut block = json!({"type": "tool_result", "tool_use_id": ids::plain(&result.call_id)});
    let mut content = write_all(&parts, signed, losses)?;
    if let Some(block) = block.as_object_mut() {
        // One plain text is written as a string, which is how most clients know it.
        let only = match content.as_mut_slice() {
            [Value::Object(only)] if only.len() == 2 => only.remove("text").filter(Value::is_string),
            _ => None,
        };
        match only {
            Some(text) => drop(block.insert("content".into(), text)),
            None if content.is_empty() => {}
            None => drop(block.insert("content".into(), content.into())),
        }
        if result.is_error {
            block.insert("is_error".into(), true.into());
        }
    }
    Ok(block)
}

/// The text of a document, empty when it is none.
pub(super) fn text_of(media: &Media) -> String {
    match &media.source {
        Source::Base64 { media, data } if is_text(media) => plain_text(data).unwrap_or_default(),
        _ => String::new(),
    }
}
