//! Content blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Dialect;
use crate::dialects::messages::{arguments, foreign, image_type, uploaded};
use crate::dialects::shared::{ids, refuse};
use crate::form::{Image, Losses, Media, Part, Reasoning, Source, ToolResult};
use crate::openai::Refusal;

/// The longest name of a document.
const MAX_NAME: usize = 200;

/// Writes parts. `claude`: the model is one of Anthropic's, which takes Anthropic's signatures.
pub(super) fn write_all(parts: &[&Part], claude: bool, losses: &mut Losses) -> Result<Vec<Value>, Refusal> {
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        if let Part::Text { text, cache } = part {
            if !text.is_empty() {
                blocks.push(json!({"text": text}));
            }
            if let Some(cache) = cache
                && !blocks.is_empty()
            {
                blocks.push(cache_point(cache));
            }
            continue;
        }
        blocks.extend(write(part, claude, losses)?);
    }
    Ok(blocks)
}

/// Where the cache may be cut: a block of its own here.
pub(super) fn cache_point(cache: &Value) -> Value {
    match cache.get("ttl").and_then(Value::as_str) {
        Some(ttl @ ("5m" | "1h")) => json!({"cachePoint": {"type": "default", "ttl": ttl}}),
        _ => json!({"cachePoint": {"type": "default"}}),
    }
}

fn write(part: &Part, claude: bool, losses: &mut Losses) -> Result<Option<Value>, Refusal> {
    Ok(Some(match part {
        Part::Text { text, .. } | Part::Refusal(text) => json!({"text": text}),
        Part::Image(image) => write_image(image, losses)?,
        Part::File(media) => write_document(media)?,
        Part::Audio(media) => write_audio(media)?,
        Part::Reasoning(thought) => match write_reasoning(thought, claude) {
            Some(block) => block,
            None => {
                losses.note("reasoning of another provider");
                return Ok(None);
            }
        },
        Part::ToolCall(call) => {
            if call.signature.is_some() {
                losses.note("reasoning of another provider");
            }
            let (id, input) = (ids::plain(&call.id), arguments(call)?);
            json!({"toolUse": {"toolUseId": id, "name": call.name, "input": input}})
        }
        Part::ToolResult(result) => write_result(result, claude, losses)?,
        Part::Native { dialect: Dialect::Converse, value } => value.clone(),
        Part::Native { value, .. } => return Err(foreign(value)),
    }))
}

fn write_reasoning(thought: &Reasoning, claude: bool) -> Option<Value> {
    let signature = thought.signature.as_deref()?;
    let own = thought.origin == Some(Dialect::Converse);
    match thought.redacted {
        true if own => Some(json!({"reasoningContent": {"redactedContent": signature}})),
        false if own || (claude && thought.origin == Some(Dialect::Messages)) => {
            let text = json!({"text": thought.text, "signature": signature});
            Some(json!({"reasoningContent": {"reasoningText": text}}))
        }
        _ => None,
    }
}

fn write_image(image: &Image, losses: &mut Losses) -> Result<Value, Refusal> {
    if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.note("image_url.detail");
    }
    let (format, source) = match &image.source {
        Source::Base64 { media, data } => {
            let media = image_type(media)?;
            (media.trim_start_matches("image/"), json!({"bytes": data}))
        }
        Source::Url(url) => {
            let place = s3(url).ok_or_else(|| by_url("image"))?;
            let end = url.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
            let format = match end.as_str() {
                "jpg" | "jpeg" => "jpeg",
                "gif" => "gif",
                "webp" => "webp",
                _ => "png",
            };
            (format, place)
        }
        Source::Uploaded(..) => return Err(uploaded("image")),
    };
    Ok(json!({"image": {"format": format, "source": source}}))
}

/// The only address that is fetched.
fn s3(url: &str) -> Option<Value> {
    url.starts_with("s3://").then(|| json!({"s3Location": {"uri": url}}))
}

fn by_url(what: &str) -> Refusal {
    let text = format!("Bedrock fetches no {what}s from the web: send it inline in Base64, or as `s3://…`.");
    refuse("messages", text)
}

fn write_document(media: &Media) -> Result<Value, Refusal> {
    let name = media.name.as_deref().unwrap_or_default();
    let (kind, source) = match &media.source {
        Source::Base64 { media, data } => (media.as_str(), json!({"bytes": data})),
        Source::Url(url) => ("", s3(url).ok_or_else(|| by_url("document"))?),
        Source::Uploaded(..) => return Err(uploaded("document")),
    };
    let end = |text: &str| text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let from_url = match &media.source {
        Source::Url(url) => end(url),
        _ => end(name),
    };
    let format = match kind.split(';').next().unwrap_or_default() {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/markdown" => "md",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        other if other.starts_with("text/") || other == "application/json" => "txt",
        other => ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"]
            .into_iter()
            .find(|format| *format == from_url)
            .ok_or_else(|| {
                let other: String = other.chars().take(60).collect();
                let text = format!("Bedrock takes no `{other}` documents: send PDF, Office, HTML or text.");
                refuse("messages", text)
            })?,
    };
    Ok(json!({"document": {"format": format, "name": document_name(name), "source": source}}))
}

/// A name as it may be: letters, digits, single spaces, hyphens, parentheses and square brackets.
fn document_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len().min(MAX_NAME));
    for c in name.chars() {
        let fits = c.is_ascii_alphanumeric() || "-()[]".contains(c);
        match fits {
            true => out.push(c),
            false if !out.ends_with(' ') && !out.is_empty() => out.push(' '),
            false => {}
        }
        if out.len() >= MAX_NAME {
            break;
        }
    }
    let out = out.trim_end();
    if out.is_empty() { "document".to_owned() } else { out.to_owned() }
}

fn write_audio(media: &Media) -> Result<Value, Refusal> {
    let Source::Base64 { media, data } = &media.source else { return Err(by_url("sound")) };
    let format = match media.rsplit('/').next().unwrap_or_default() {
        "mpeg" => "mp3",
        "x-wav" | "wave" => "wav",
        other => other,
    };
    Ok(json!({"audio": {"format": format, "source": {"bytes": data}}}))
}

fn write_result(result: &ToolResult, claude: bool, losses: &mut Losses) -> Result<Value, Refusal> {
    let parts: Vec<&Part> = result.parts.iter().collect();
    let kept = |part: &&Part| matches!(part, Part::Text { .. } | Part::Image(_) | Part::File(_));
    if !parts.iter().all(kept) {
        return Err(refuse("messages", "A tool's result may hold text, images and documents only."));
    }
    let mut content = write_all(&parts, claude, losses)?;
    // Within a result there is no place for a mark.
    let marked = content.len();
    content.retain(|block| block.get("cachePoint").is_none());
    if content.len() < marked {
        losses.note("cache_control");
    }
    let mut block = json!({"toolUseId": ids::plain(&result.call_id), "content": content});
    if let (Some(block), true) = (block.as_object_mut(), result.is_error) {
        block.insert("status".into(), "error".into());
    }
    Ok(json!({"toolResult": block}))
}

/// Whether a text is Base64, as what was withheld must be.
pub(super) fn is_base64(text: &str) -> bool {
    STANDARD.decode(text).is_ok()
}
