//! The parts of a message, as they are read from requests and answers.

use serde_json::{Map, Value};

use super::calls::Calls;
use super::read::{Lost, refuse};
use super::signature;
use super::wire::{Blob, FileData, FunctionCall, FunctionResponse, Part as Wire};
use crate::Dialect;
use crate::form::{Image, Media, Part, Reasoning, Role, Source, ToolCall, ToolResult};
use crate::openai::Refusal;

/// Where the provider's own files are.
const FILES: [&str; 2] = ["https://generativelanguage.googleapis.com/", "gs://"];

/// Appends one part of a request.
pub(super) fn read(
    wire: Wire,
    role: Role,
    into: &mut Vec<Part>,
    calls: &mut Calls,
    lost: &mut Lost,
) -> Result<(), Refusal> {
    if let Some(call) = wire.function_call {
        lost.add("contents.parts", wire.rest);
        let call = read_call(call, wire.thought_signature.as_deref(), into, calls)?;
        into.push(Part::ToolCall(call));
        return Ok(());
    }
    if let Some(response) = wire.function_response {
        lost.add("contents.parts", wire.rest);
        into.push(Part::ToolResult(read_response(response, calls, lost)?));
        return Ok(());
    }
    if wire.inline_data.is_some() || wire.file_data.is_some() {
        lost.add("contents.parts", wire.rest);
        let detail = wire.media_resolution.and_then(|resolution| detail(resolution.level.as_deref(), lost));
        let part = media(wire.inline_data, wire.file_data, detail)?;
        into.push(part);
        return Ok(());
    }
    let is_bare = wire.text.is_none() && wire.thought_signature.is_none();
    if is_bare && wire.rest.values().any(|value| !value.is_null()) {
        let value = serde_json::to_value(wire).unwrap_or_default();
        into.push(Part::Native { dialect: Dialect::Gemini, value });
        return Ok(());
    }
    if is_bare {
        let text =
            "A part in `contents` holds nothing: give it `text`, `inlineData` or another kind of data.";
        return Err(refuse("contents", text));
    }
    lost.add("contents.parts", wire.rest);
    let signature = wire.thought_signature.as_deref().map(signature::unsealed);
    let text = wire.text.unwrap_or_default();
    if wire.thought == Some(true) {
        thought(text, signature, into);
        return Ok(());
    }
    said(text, role, into);
    if let Some((origin, signature)) = signature {
        into.push(withheld(origin, signature));
    }
    Ok(())
}

/// Text. A model's comes in as many parts as its stream had chunks, and means the same in one.
fn said(text: String, role: Role, into: &mut Vec<Part>) {
    match into.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text { text: before, .. }) if role == Role::Assistant => before.push_str(&text),
        _ => into.push(Part::text(text)),
    }
}

/// Reasoning, which continues a piece of it that has no signature yet.
fn thought(text: String, signature: Option<(Dialect, String)>, into: &mut Vec<Part>) {
    let (origin, signature) = signature.unzip();
    match into.last_mut() {
        Some(Part::Reasoning(before)) if before.signature.is_none() => {
            before.text.push_str(&text);
            before.signature = signature;
            before.origin = origin.or(before.origin);
        }
        _ => {
            let redacted = text.is_empty() && signature.is_some();
            if redacted || !text.is_empty() {
                let origin = Some(origin.unwrap_or(Dialect::Gemini));
                into.push(Part::Reasoning(Reasoning { text, signature, redacted, origin, id: None }));
            }
        }
    }
}

/// A signature that stands for reasoning we are not shown.
fn withheld(origin: Dialect, signature: String) -> Part {
    let origin = Some(origin);
    Part::Reasoning(Reasoning { signature: Some(signature), redacted: true, origin, ..Reasoning::default() })
}

fn read_call(
    wire: FunctionCall,
    signature: Option<&str>,
    into: &mut Vec<Part>,
    calls: &mut Calls,
) -> Result<ToolCall, Refusal> {
    let Some(name) = wire.name.filter(|name| !name.is_empty()) else {
        return Err(refuse("contents", "A `functionCall` in `contents` has no `name`: give it one."));
    };
    let arguments = match wire.args {
        None => "{}".to_owned(),
        Some(raw) if raw.get() == "null" => "{}".to_owned(),
        // A raw value may be nested as deep as it likes; this is where its depth is bounded.
        Some(raw) if serde_json::from_str::<Map<String, Value>>(raw.get()).is_ok() => compact(raw.get()),
        Some(_) => {
            let text = format!("The `args` of the call of `{name}` must be an object of bounded depth.");
            return Err(refuse("contents", text));
        }
    };
    let id = calls.call(wire.id, &name);
    let signature = match signature.map(signature::unsealed) {
        Some((Dialect::Gemini, signature)) => Some(signature),
        Some((origin, signature)) => {
            into.push(withheld(origin, signature));
            None
        }
        None => None,
    };
    Ok(ToolCall { id, name, arguments, signature })
}

fn read_response(wire: FunctionResponse, calls: &mut Calls, lost: &mut Lost) -> Result<ToolResult, Refusal> {
    let name = wire.name.unwrap_or_default();
    let Some(call_id) = calls.response(wire.id.as_deref(), &name) else {
        let text = format!(
            "A `functionResponse` of `{name}` answers no `functionCall` before it: send the model's content with \
             the call first, and one response for each call."
        );
        return Err(refuse("contents", text));
    };
    lost.add("contents.parts.functionResponse", wire.rest);
    let (text, is_error) = output(wire.response.unwrap_or_default());
    let mut parts: Vec<Part> = text.map(Part::text).into_iter().collect();
    for part in wire.parts {
        lost.add("contents.parts.functionResponse.parts", part.rest);
        let detail = part.media_resolution.and_then(|resolution| detail(resolution.level.as_deref(), lost));
        parts.push(media(part.inline_data, part.file_data, detail)?);
    }
    Ok(ToolResult { call_id, name: Some(name).filter(|name| !name.is_empty()), parts, is_error })
}

/// What a function gave: under `output`, or `error` when it failed, else the whole object.
fn output(mut response: Map<String, Value>) -> (Option<String>, bool) {
    let plain = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    if response.len() == 1 {
        if let Some(value) = response.remove("output") {
            return (Some(plain(value)), false);
        }
        if let Some(value) = response.remove("error") {
            return (Some(plain(value)), true);
        }
    }
    (Some(Value::Object(response)).filter(|all| all != &Value::Object(Map::new())).map(plain), false)
}

/// The part's resolution in OpenAI's words.
fn detail(level: Option<&str>, lost: &mut Lost) -> Option<String> {
    match level {
        Some("MEDIA_RESOLUTION_LOW") => Some("low".into()),
        Some("MEDIA_RESOLUTION_HIGH") => Some("high".into()),
        None | Some("MEDIA_RESOLUTION_UNSPECIFIED") => None,
        Some(other) => {
            lost.0.insert("contents.parts.mediaResolution".into(), other.into());
            None
        }
    }
}

fn media(blob: Option<Blob>, file: Option<FileData>, detail: Option<String>) -> Result<Part, Refusal> {
    let (kind, source, name) = match (blob, file) {
        (Some(blob), _) => {
            let Some(kind) = blob.mime_type.filter(|kind| !kind.is_empty()) else {
                return Err(refuse(
                    "contents",
                    "An `inlineData` in `contents` has no `mimeType`: give it one.",
                ));
            };
            let Some(data) = blob.data.and_then(signature::standard) else {
                return Err(refuse(
                    "contents",
                    "The `data` of an `inlineData` in `contents` must be Base64.",
                ));
            };
            (kind.clone(), Source::Base64 { media: kind, data }, blob.display_name)
        }
        (None, Some(file)) => {
            let Some(uri) = file.file_uri.filter(|uri| !uri.is_empty()) else {
                return Err(refuse("contents", "A `fileData` in `contents` has no `fileUri`: give it one."));
            };
            let known = file.mime_type.filter(|kind| !kind.is_empty());
            let kind = known.or_else(|| guessed(&uri).map(str::to_owned)).unwrap_or_default();
            let source = match FILES.iter().any(|place| uri.starts_with(place)) {
                true => Source::Uploaded(Dialect::Gemini, uri),
                false => Source::Url(uri),
            };
            (kind, source, file.display_name)
        }
        (None, None) => {
            let text = "The `parts` of a `functionResponse` may hold `inlineData` and `fileData` only.";
            return Err(refuse("contents", text));
        }
    };
    Ok(match kind.split('/').next() {
        Some("image") => Part::Image(Image { source, detail }),
        Some("audio") => Part::Audio(Media { source, name }),
        _ => Part::File(Media { source, name }),
    })
}

/// The type of what is at a URL, by how it ends.
pub(super) fn guessed(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "md" => "text/markdown",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "json" => "application/json",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "aac" => "audio/aac",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        _ => return None,
    })
}

/// JSON without the white space between its tokens: providers indent their answers.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        match (in_string, *c) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (_, '"') => in_string = !in_string,
            (false, ' ' | '\n' | '\r' | '\t') => return false,
            _ => {}
        }
        true
    };
    json.chars().filter(keep).collect()
}

/// One part of an answer. `id` makes an id for a call that has none; `None`: nothing is in it.
pub(super) fn answered(
    wire: Wire,
    into: &mut Vec<Part>,
    mut id: impl FnMut() -> String,
) -> Result<(), String> {
    let signature = wire.thought_signature.filter(|signature| !signature.is_empty());
    if let Some(call) = wire.function_call {
        let arguments = match call.args {
            Some(raw) if raw.get() != "null" => {
                serde_json::from_str::<Map<String, Value>>(raw.get())
                    .map_err(|e| format!("the arguments of a call are no object: {e}"))?;
                compact(raw.get())
            }
            _ => "{}".to_owned(),
        };
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(&mut id);
        let name = call.name.unwrap_or_default();
        into.push(Part::ToolCall(ToolCall { id, name, arguments, signature }));
        return Ok(());
    }
    if let Some(Blob { mime_type: Some(kind), data: Some(data), .. }) = wire.inline_data {
        let data = signature::standard(data).ok_or("inline data is not Base64")?;
        let source = Source::Base64 { media: kind.clone(), data };
        into.push(match kind.split('/').next() {
            Some("image") => Part::Image(Image { source, detail: None }),
            Some("audio") => Part::Audio(Media { source, name: None }),
            _ => Part::File(Media { source, name: None }),
        });
        return Ok(());
    }
    if wire.text.is_none() && signature.is_none() {
        if wire.rest.values().any(|value| !value.is_null()) || wire.file_data.is_some() {
            let wire = Wire { inline_data: None, function_call: None, thought_signature: None, ..wire };
            let value = serde_json::to_value(wire).unwrap_or_default();
            into.push(Part::Native { dialect: Dialect::Gemini, value });
        }
        return Ok(());
    }
    let text = wire.text.unwrap_or_default();
    if wire.thought == Some(true) {
        thought(text, signature.map(|signature| (Dialect::Gemini, signature)), into);
    } else {
        said(text, Role::Assistant, into);
        into.extend(signature.map(|signature| withheld(Dialect::Gemini, signature)));
    }
    Ok(())
}
