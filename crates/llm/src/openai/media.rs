//! Requests and answers beyond chat and embeddings: moderation, rerank, pictures, sound.
//!
//! Source: OpenAI API reference, images, audio, moderations (<https://platform.openai.com/docs/api-reference>); rerank
//! as Cohere, Jina and vLLM agree on it (<https://docs.cohere.com/reference/rerank>).

use std::borrow::Cow;

use base::Usage;
use serde::Deserialize;
use serde_json::Value;

use super::form::fields;
use super::request::{MAX_CHOICES, model_name};
use super::{Answer, Envelope, Refusal, is_form, parse};
use crate::Operation;
use crate::dialect::StreamReader;
use crate::form::Piece;

/// What a request says that its price depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Pictures to be made.
    pub images: u64,
    /// Their quality.
    pub quality: Option<String>,
    /// Their size.
    pub size: Option<String>,
    /// Characters to be spoken.
    pub characters: u64,
    /// The most that the sound can last, in milliseconds, by its size.
    pub milliseconds: u64,
}

/// Sound is hardly ever sent with less: eight kilobits a second.
const BYTES_OF_A_SECOND: u64 = 1_000;

/// Reads what only some operations have, from a JSON body that was checked.
pub(super) fn asked(operation: Operation, body: &[u8], choices: u32) -> Asked {
    #[derive(Default, Deserialize)]
    struct Wire<'a> {
        #[serde(borrow, default)]
        input: Option<Cow<'a, str>>,
        #[serde(default)]
        quality: Option<String>,
        #[serde(default)]
        size: Option<String>,
    }
    let wire = || serde_json::from_slice::<Wire>(body).unwrap_or_default();
    match operation {
        Operation::Speech => {
            let characters = wire().input.map_or(0, |input| input.chars().count() as u64);
            Asked { characters, ..Asked::default() }
        }
        _ if operation.makes_images() => {
            let wire = wire();
            Asked { images: choices.into(), quality: wire.quality, size: wire.size, ..Asked::default() }
        }
        _ => Asked::default(),
    }
}

/// Reads a form.
pub fn read_form(operation: Operation, content_type: &str, body: &[u8]) -> Result<Envelope, Refusal> {
    let fields = fields(content_type, body)?;
    let refuse = |param: &'static str, message: &str| Refusal { message: message.into(), param: Some(param) };
    let text = |name: &'static str| -> Result<Option<(&str, std::ops::Range<usize>)>, Refusal> {
        let mut found = fields.iter().filter(|field| field.name == name);
        let Some(field) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(refuse(name, &format!("The form names `{name}` twice: keep one.")));
        }
        let value = std::str::from_utf8(&body[field.at.clone()])
            .map_err(|_| refuse(name, &format!("`{name}` must be text in UTF-8.")))?;
        Ok(Some((value, field.at.clone())))
    };
    let (model, at) = text("model")?
        .ok_or_else(|| refuse("model", "You must provide a `model`: an alias, or `provider/model`."))?;
    let file = if operation.listens() { "file" } else { "image" };
    let named =
        |field: &&super::form::Field| field.name == file || field.name.strip_suffix("[]") == Some(file);
    let size: usize = fields.iter().filter(named).map(|field| field.at.len()).sum();
    if size == 0 {
        return Err(refuse(file, &format!("`{file}` must be a file that is not empty.")));
    }
    let stream = match text("stream")?.map(|(value, _)| value) {
        None | Some("" | "false" | "False" | "0") => false,
        Some("true" | "True" | "1") if operation.streams() => true,
        Some("true" | "True" | "1") => {
            return Err(refuse("stream", "This cannot be streamed: leave `stream` out."));
        }
        Some(_) => return Err(refuse("stream", "`stream` must be `true` or `false`.")),
    };
    let choices = match text("n")? {
        None => 1,
        Some((value, _)) => match value.parse::<u64>() {
            Ok(n) if (1..=MAX_CHOICES).contains(&n) => n,
            _ => return Err(refuse("n", &format!("`n` must be a whole number from 1 to {MAX_CHOICES}."))),
        },
    };
    let word = |name| Ok::<_, Refusal>(text(name)?.map(|(value, _)| value.to_owned()));
    let asked = match operation.listens() {
        true => Asked { milliseconds: size as u64 * 1_000 / BYTES_OF_A_SECOND, ..Asked::default() },
        false => {
            Asked { images: choices, quality: word("quality")?, size: word("size")?, ..Asked::default() }
        }
    };
    Ok(Envelope::of_form(
        model_name(model.to_owned())?,
        at,
        stream,
        u32::try_from(choices).unwrap_or(1),
        asked,
    ))
}

/// Reads a whole 200 answer. `Err` says why it is none.
pub fn read_media(
    operation: Operation,
    content_type: &str,
    body: &[u8],
    envelope: &Envelope,
) -> Result<Answer, String> {
    let json =
        content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
    let asked = &envelope.asked;
    let mut usage = Usage { characters: asked.characters, images: asked.images, ..Usage::default() };
    if operation == Operation::Speech {
        return match (json || content_type.starts_with("text/"), body.is_empty()) {
            (true, _) | (_, true) => Err("the answer is no sound".into()),
            (false, false) => Ok(Answer { usage: Some(usage), ..Answer::default() }),
        };
    }
    if !json && operation.listens() {
        // Plain text or subtitles: what it lasted is not said, so that it is charged by its size.
        usage.milliseconds = asked.milliseconds;
        usage.estimated = true;
        return Ok(Answer { usage: Some(usage), ..Answer::default() });
    }
    let wire: Value = parse(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    if wire.get("error").is_some_and(|error| !error.is_null()) {
        return Err(format!("the answer is an error: {}", wire["error"]));
    }
    let expected = match operation {
        Operation::Moderations | Operation::Rerank => wire.get("results").is_some_and(Value::is_array),
        _ if operation.makes_images() => wire.get("data").is_some_and(Value::is_array),
        _ => wire.get("text").is_some_and(Value::is_string),
    };
    if !expected {
        return Err("the answer has not what was asked for".into());
    }
    if operation.makes_images() {
        usage.images = wire["data"].as_array().map_or(asked.images, |data| data.len() as u64);
    }
    count(operation, &wire, asked, &mut usage);
    Ok(Answer { usage: Some(usage), model: wire["model"].as_str().map(str::to_owned), ..Answer::default() })
}

/// What an answer says of its use.
fn count(operation: Operation, wire: &Value, asked: &Asked, usage: &mut Usage) {
    let number = |at: &str| wire.pointer(at).and_then(Value::as_u64);
    let first = |places: &[&str]| places.iter().find_map(|at| number(at));
    usage.input = first(&["/usage/input_tokens", "/usage/prompt_tokens", "/usage/total_tokens"]).unwrap_or(0);
    usage.output = first(&["/usage/output_tokens", "/usage/completion_tokens"]).unwrap_or(0);
    if operation == Operation::Rerank {
        usage.searches = number("/meta/billed_units/search_units").unwrap_or(1);
    }
    if operation.listens() {
        let seconds = ["/usage/seconds", "/duration"].iter().find_map(|at| {
            let value = wire.pointer(at)?;
            value.as_f64().or_else(|| value.as_str()?.parse().ok())
        });
        match seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
            Some(seconds) => usage.milliseconds = (seconds * 1_000.0).ceil() as u64,
            // With tokens it is not the time that is charged.
            None if usage.input > 0 => {}
            None => {
                usage.milliseconds = asked.milliseconds;
                usage.estimated = true;
            }
        }
    }
}

/// Watches a stream of pictures, sound or text that is being recognised: the event whose type ends in `.completed` or
/// `.done` is the last.
pub struct MediaReader {
    operation: Operation,
    asked: Asked,
    ended: bool,
}

impl MediaReader {
    /// For one answer.
    pub fn new(operation: Operation, asked: Asked) -> Self {
        MediaReader { operation, asked, ended: false }
    }
}

impl StreamReader for MediaReader {
    fn read(&mut self, event: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String> {
        if data == super::DONE {
            pieces.push(Piece::End);
            return Ok(());
        }
        let wire: Value = parse(data)?;
        if let Some(error) = wire.get("error").filter(|error| !error.is_null()) {
            pieces.push(Piece::Error { message: error["message"].as_str().unwrap_or("an error").to_owned() });
            return Ok(());
        }
        let kind = wire["type"].as_str().unwrap_or(event);
        // Whatever it brings, from here on the client has something of the answer.
        pieces.push(Piece::Native { choice: 0, dialect: crate::Dialect::Chat, value: Value::Null });
        let last =
            [".completed", ".done"].iter().any(|end| kind.ends_with(end)) && !kind.contains(".segment");
        if last {
            let mut usage =
                Usage { characters: self.asked.characters, images: self.asked.images, ..Usage::default() };
            count(self.operation, &wire, &self.asked, &mut usage);
            pieces.push(Piece::Usage(usage));
            pieces.push(Piece::Finish { choice: 0, reason: crate::form::Finish::Stop });
            self.ended = true;
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.ended
    }
}

/// Whether the body is read as a form.
pub fn reads_form(operation: Operation, content_type: Option<&str>) -> bool {
    operation.takes_files() && content_type.is_some_and(is_form)
}
