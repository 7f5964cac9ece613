//! Reading and splicing a request body.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::media::asked;
use super::{Asked, Text, utf8};
use crate::{Dialect, Operation};

/// The longest model name we take.
const MAX_MODEL: usize = 256;
/// The most answers of one request.
pub(super) const MAX_CHOICES: u64 = 1024;
/// The most tokens anybody may ask for: far above every model, far below overflow.
const MAX_TOKENS: u64 = 100_000_000;

/// What we read of a request, and where in the body it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The model asked for: an alias or `provider/model`.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the client itself asked for usage at the end of a stream.
    pub include_usage: bool,
    /// The client's bound on the answer's tokens.
    pub max_output: Option<u64>,
    /// How many answers are asked for.
    pub choices: u32,
    /// Where the model is named; not in the body where the path names it.
    model_at: Option<Range<usize>>,
    /// What the price of a picture or of sound depends on.
    pub asked: Asked,
    /// The model's name stands in the body as it is, not as JSON.
    is_form: bool,
    /// Whether usage must be asked for, which only OpenAI's older dialects need.
    asks_usage: bool,
    stream_options_at: Option<Range<usize>>,
}

/// Why a body is refused: a sentence that says what to change, and the field it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For the person who wrote the request.
    pub message: String,
    /// The field, where there is one.
    pub param: Option<&'static str>,
}

/// Reads a request body, checking that the whole of it is JSON of bounded depth. `path` is what the path says of
/// the model and of streaming, in the dialect whose bodies say neither (Gemini).
pub fn read_request(
    operation: Operation,
    dialect: Dialect,
    path: Option<(&str, bool)>,
    body: &[u8],
) -> Result<Envelope, Refusal> {
    if body.is_empty() {
        let what = if path.is_some() { "contents" } else { "model" };
        return Err(refuse(None, format!("The request body is empty: send a JSON object with `{what}`.")));
    }
    let text = utf8(body).map_err(|at| {
        refuse(None, format!("The request body is not valid JSON: it is not UTF-8 at byte {at}."))
    })?;
    let fields: Fields = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
    let span = |raw: &RawValue| {
        let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
        start..start + raw.get().len()
    };
    if let Some((name, stream)) = path {
        require_content(operation, dialect, &fields)?;
        let generation = generation(fields.generation)?;
        return Ok(Envelope {
            model: model_name(name.to_owned())?,
            stream,
            include_usage: false,
            max_output: generation.max_output,
            choices: generation.choices.unwrap_or(1).clamp(1, 1024),
            model_at: None,
            asked: Asked::default(),
            is_form: false,
            asks_usage: false,
            stream_options_at: None,
        });
    }
    let Some(raw_model) = fields.model else {
        return Err(refuse(Some("model"), "You must provide a `model`: an alias, or `provider/model`."));
    };
    let stream = boolean(fields.stream, "stream")?.unwrap_or(false);
    let asks_usage = matches!(dialect, Dialect::Chat | Dialect::Completions);
    let (stream_options, include_usage) = match asks_usage {
        true => stream_options(fields.stream_options)?,
        false => (None, false),
    };
    require_content(operation, dialect, &fields)?;
    // Speech says with its format whether its answer is a stream of events; we hand on whichever comes.
    let stream = stream && operation != Operation::Speech;
    if stream && !operation.streams() {
        let text = format!("This ({}) cannot be streamed: leave `stream` out.", operation.as_str());
        return Err(refuse(Some("stream"), text));
    }
    let choices = whole(fields.n, "n", 1..=MAX_CHOICES)?.unwrap_or(1) as u32;
    Ok(Envelope {
        model: model(raw_model)?,
        stream,
        include_usage,
        max_output: max_output(&fields)?,
        choices,
        model_at: Some(span(raw_model)),
        asked: asked(operation, body, choices),
        is_form: false,
        asks_usage,
        stream_options_at: stream_options.map(span),
    })
}

impl Envelope {
    /// Of a form, in which the model is named at this place.
    pub(super) fn of_form(model: String, at: Range<usize>, stream: bool, choices: u32, asked: Asked) -> Self {
        Envelope {
            model,
            stream,
            include_usage: false,
            max_output: None,
            choices,
            model_at: Some(at),
            asked,
            is_form: true,
            asks_usage: false,
            stream_options_at: None,
        }
    }

    /// The body for a provider: its own name for the model, and usage asked for at the end of a stream.
    /// When neither changes anything, the client's very bytes.
    pub fn splice(&self, body: &Bytes, model: &str) -> Bytes {
        let ask_usage = self.asks_usage && self.stream && !self.include_usage;
        let Some(model_at) = self.model_at.clone().filter(|_| ask_usage || model != self.model) else {
            return body.clone();
        };
        let mut out = Vec::with_capacity(body.len() + model.len() + 48);
        let model_json = match self.is_form {
            true => model.to_owned(),
            false => serde_json::to_string(model).unwrap_or_default(),
        };
        match &self.stream_options_at {
            Some(options) if ask_usage => {
                let mut edits =
                    [(model_at, model_json), (options.clone(), with_usage(&body[options.clone()]))];
                edits.sort_by_key(|(at, _)| at.start);
                let mut from = 0;
                for (at, text) in edits {
                    out.extend_from_slice(&body[from..at.start]);
                    out.extend_from_slice(text.as_bytes());
                    from = at.end;
                }
                out.extend_from_slice(&body[from..]);
            }
            _ => {
                out.extend_from_slice(&body[..model_at.start]);
                out.extend_from_slice(model_json.as_bytes());
                if ask_usage {
                    out.extend_from_slice(br#","stream_options":{"include_usage":true}"#);
                }
                out.extend_from_slice(&body[model_at.end..]);
            }
        }
        out.into()
    }
}

/// The client's `stream_options` with `include_usage` true and every other value kept as it is written.
fn with_usage(options: &[u8]) -> String {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(options).unwrap_or_default();
    members.insert("include_usage".into(), RawValue::TRUE);
    serde_json::to_string(&members).unwrap_or_default()
}

/// Says what is wrong with a body without quoting it: it may be long, and it is the caller's.
fn unreadable(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    if let Some(name) = text.strip_prefix("repeated field ").and_then(|rest| rest.split(' ').next()) {
        return refuse(None, format!("The request names {name} twice: keep one."));
    }
    if text.starts_with("recursion limit exceeded") {
        return refuse(None, "The request body is nested deeper than 127 levels: flatten it.");
    }
    match error.classify() {
        Category::Data => refuse(None, "The request body must be a JSON object, as {\"model\": …}."),
        _ => refuse(None, format!("The request body is not valid JSON: {text}.")),
    }
}

fn refuse(param: Option<&'static str>, message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), param }
}

fn model(raw: &RawValue) -> Result<String, Refusal> {
    let name: String = serde_json::from_str(raw.get())
        .map_err(|_| refuse(Some("model"), "`model` must be a string: an alias, or `provider/model`."))?;
    model_name(name)
}

pub(super) fn model_name(name: String) -> Result<String, Refusal> {
    if name.is_empty() {
        return Err(refuse(Some("model"), "`model` is empty: name an alias, or `provider/model`."));
    }
    if name.len() > MAX_MODEL || name.chars().any(char::is_control) {
        return Err(refuse(
            Some("model"),
            format!("`model` must have at most {MAX_MODEL} bytes and no control characters."),
        ));
    }
    Ok(name)
}

fn boolean(raw: Option<&RawValue>, name: &'static str) -> Result<Option<bool>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map_err(|_| refuse(Some(name), format!("`{name}` must be true or false, without quotes.")))
}

fn whole(
    raw: Option<&RawValue>,
    name: &'static str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, Refusal> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    match serde_json::from_str::<u64>(raw.get()) {
        Ok(value) if range.contains(&value) => Ok(Some(value)),
        _ => Err(refuse(
            Some(name),
            format!("`{name}` must be a whole number from {} to {}.", range.start(), range.end()),
        )),
    }
}

/// What of Gemini's `generationConfig` bounds the answer.
#[derive(Default, serde::Deserialize)]
struct Generation {
    #[serde(default, rename = "maxOutputTokens", alias = "max_output_tokens")]
    max_output: Option<u64>,
    #[serde(default, rename = "candidateCount", alias = "candidate_count")]
    choices: Option<u32>,
}

fn generation(raw: Option<&RawValue>) -> Result<Generation, Refusal> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(Generation::default()) };
    // Depth is checked here because a raw value is taken without looking inside.
    let checked = serde_json::from_str::<Checked>(raw.get()).is_ok();
    serde_json::from_str(raw.get()).ok().filter(|_| checked).ok_or_else(|| {
        let text = "`generationConfig` must be an object whose `maxOutputTokens` and `candidateCount` are whole numbers.";
        refuse(Some("generationConfig"), text)
    })
}

fn max_output(fields: &Fields) -> Result<Option<u64>, Refusal> {
    if let Some(newest) = whole(fields.max_output_tokens, "max_output_tokens", 1..=MAX_TOKENS)? {
        return Ok(Some(newest));
    }
    let newer = whole(fields.max_completion_tokens, "max_completion_tokens", 1..=MAX_TOKENS)?;
    let older = whole(fields.max_tokens, "max_tokens", 1..=MAX_TOKENS)?;
    Ok(newer.or(older))
}

/// The place of `stream_options` when it stands there (also as null), and whether usage is asked for.
fn stream_options(raw: Option<&RawValue>) -> Result<(Option<&RawValue>, bool), Refusal> {
    #[derive(serde::Deserialize)]
    struct Options {
        #[serde(default)]
        include_usage: Option<bool>,
    }
    let Some(raw) = raw else { return Ok((None, false)) };
    let wrong = |()| {
        let text = "`stream_options` must be an object, as {\"include_usage\": true}.";
        refuse(Some("stream_options"), text)
    };
    if !raw.get().starts_with('{') && raw.get() != "null" {
        return Err(wrong(()));
    }
    // Depth is checked here because a raw value is taken without looking inside.
    serde_json::from_str::<Checked>(raw.get()).map_err(|_| wrong(()))?;
    let options: Option<Options> = serde_json::from_str(raw.get()).map_err(|_| wrong(()))?;
    Ok((Some(raw), options.and_then(|o| o.include_usage).unwrap_or(false)))
}

fn require_text(name: &'static str, shape: Shape) -> Result<(), Refusal> {
    let right = shape == Shape::Text;
    if right { Ok(()) } else { Err(refuse(Some(name), format!("`{name}` must be a text."))) }
}

fn require_content(operation: Operation, dialect: Dialect, fields: &Fields) -> Result<(), Refusal> {
    let (name, shape, what, text_too) = match (operation, dialect) {
        (Operation::Embeddings, _) => ("input", fields.input, "a text, or a list of texts or tokens", true),
        (Operation::Moderations, _) => ("input", fields.input, "a text, or a list of inputs", true),
        (Operation::Speech, _) => return require_text("input", fields.input),
        (Operation::ImageGeneration | Operation::ImageEdit, _) => {
            return require_text("prompt", fields.prompt);
        }
        (Operation::Rerank, _) => {
            require_text("query", fields.query)?;
            ("documents", fields.documents, "a list with at least one document", false)
        }
        (Operation::ImageVariation | Operation::Transcription | Operation::Translation, _) => {
            let text = "Send a form with the file, with `Content-Type: multipart/form-data`.";
            return Err(refuse(Some("file"), text));
        }
        (Operation::Chat, Dialect::Gemini) => {
            ("contents", fields.contents, "a list with at least one content", false)
        }
        (Operation::Chat, Dialect::Completions) => {
            ("prompt", fields.prompt, "a text, or a list of them", true)
        }
        // What is asked may also stand in a stored prompt or an earlier response.
        (Operation::Chat, Dialect::Responses) => return Ok(()),
        (Operation::Chat, Dialect::Chat | Dialect::Messages | Dialect::Converse) => {
            ("messages", fields.messages, "a list with at least one message", false)
        }
    };
    let right = shape == Shape::FilledList || text_too && shape == Shape::Text;
    if right { Ok(()) } else { Err(refuse(Some(name), format!("`{name}` must be {what}."))) }
}

/// The members of the body that we act on, as they stand in it.
#[derive(Default)]
struct Fields<'a> {
    model: Option<&'a RawValue>,
    stream: Option<&'a RawValue>,
    stream_options: Option<&'a RawValue>,
    max_tokens: Option<&'a RawValue>,
    max_completion_tokens: Option<&'a RawValue>,
    max_output_tokens: Option<&'a RawValue>,
    n: Option<&'a RawValue>,
    generation: Option<&'a RawValue>,
    messages: Shape,
    input: Shape,
    prompt: Shape,
    contents: Shape,
    query: Shape,
    documents: Shape,
}

/// What kind of value stands in a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Missing,
    Text,
    EmptyList,
    FilledList,
    Other,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let slot = match &*key.0 {
                "model" => &mut fields.model,
                "stream" => &mut fields.stream,
                "stream_options" => &mut fields.stream_options,
                "max_tokens" => &mut fields.max_tokens,
                "max_completion_tokens" => &mut fields.max_completion_tokens,
                "max_output_tokens" => &mut fields.max_output_tokens,
                "n" => &mut fields.n,
                "generationConfig" | "generation_config" => &mut fields.generation,
                name @ ("messages" | "input" | "prompt" | "contents" | "query" | "documents") => {
                    let shape = match name {
                        "messages" => &mut fields.messages,
                        "input" => &mut fields.input,
                        "prompt" => &mut fields.prompt,
                        "query" => &mut fields.query,
                        "documents" => &mut fields.documents,
                        _ => &mut fields.contents,
                    };
                    if *shape != Shape::Missing {
                        return Err(de::Error::custom(format_args!("repeated field `{}`", key.0)));
                    }
                    *shape = map.next_value::<Checked>()?.0;
                    continue;
                }
                _ => {
                    map.next_value::<Checked>()?;
                    continue;
                }
            };
            // Parsers differ in which of two they take: what we checked must be what the provider sees.
            if slot.is_some() {
                return Err(de::Error::custom(format_args!("repeated field `{}`", key.0)));
            }
            *slot = Some(map.next_value()?);
        }
        Ok(fields)
    }
}

/// Any value, looked through to its end: UTF-8, numbers and depth (serde_json stops at 128 levels) are
/// checked, which `IgnoredAny` would not do; nothing is kept but its shape.
struct Checked(Shape);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckedVisitor)
    }
}

struct CheckedVisitor;

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked(Shape::Other))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked(Shape::Other))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked(Shape::Other))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked(Shape::Other))
    }
    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked(Shape::Other))
    }
    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked(Shape::Text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Checked, A::Error> {
        let mut shape = Shape::EmptyList;
        while seq.next_element::<Checked>()?.is_some() {
            shape = Shape::FilledList;
        }
        Ok(Checked(shape))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Checked, A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value::<Checked>()?;
        }
        Ok(Checked(Shape::Other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"model": "a", "messages":[{"role":"user","content":"hi"}]"#;

    fn chat(rest: &str) -> Result<Envelope, Refusal> {
        read_request(Operation::Chat, Dialect::Chat, None, format!("{CHAT}{rest}}}").as_bytes())
    }

    fn spliced(rest: &str, model: &str) -> String {
        let body = Bytes::from(format!("{CHAT}{rest}}}"));
        let out = read_request(Operation::Chat, Dialect::Chat, None, &body).unwrap().splice(&body, model);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn only_model_and_stream_options_are_spliced() {
        assert_eq!(spliced(r#", "x" : 1.50"#, "a"), format!("{CHAT}, \"x\" : 1.50}}"));
        assert_eq!(
            spliced(r#","x":"é""#, "b\"").replace(r#""b\"""#, r#""a""#),
            format!("{CHAT},\"x\":\"é\"}}")
        );
        let asked = CHAT.replace(r#""a","#, r#""m","stream_options":{"include_usage":true},"#);
        assert_eq!(spliced(r#","stream":true"#, "m"), format!("{asked},\"stream\":true}}"));
        let own = r#","stream":true,"stream_options":{"include_usage":false,"z":[1]}"#;
        let kept = r#","stream":true,"stream_options":{"include_usage":true,"z":[1]}"#;
        assert_eq!(spliced(own, "a"), format!("{CHAT}{kept}}}"));
        assert_eq!(spliced(kept, "a"), format!("{CHAT}{kept}}}"));
        let exact = r#","stream":true,"stream_options":{"z":123456789012345678901,"y": 1.50}"#;
        let kept = r#""stream_options":{"include_usage":true,"y":1.50,"z":123456789012345678901}"#;
        assert!(spliced(exact, "a").ends_with(&format!("{kept}}}")));
        let null = r#","stream":true,"stream_options":null"#;
        assert!(spliced(null, "a").ends_with(r#""stream_options":{"include_usage":true}}"#));
    }

    #[test]
    fn reads_what_it_acts_on() {
        let read =
            chat(r#","stream":true,"stream_options":{"include_usage":true},"max_tokens":7,"n":2"#).unwrap();
        assert_eq!((read.model.as_str(), read.stream, read.include_usage), ("a", true, true));
        assert_eq!((read.max_output, read.choices), (Some(7), 2));
    }

    #[test]
    fn refuses_with_what_to_change() {
        let deep = format!(r#","x":{}1{}"#, "[".repeat(200), "]".repeat(200));
        for (rest, param, says) in [
            (r#","stream":"yes""#, Some("stream"), "true or false"),
            (r#","max_tokens":-1"#, Some("max_tokens"), "whole number"),
            (r#","max_tokens":1e99"#, Some("max_tokens"), "whole number"),
            (r#","n":0"#, Some("n"), "from 1"),
            (r#","stream_options":[]"#, Some("stream_options"), "object"),
            (r#","model":"b""#, None, "`model` twice"),
            (r#","\u006dodel":"b""#, None, "`model` twice"),
            (r#","x":1e999"#, None, "number out of range"),
            (r#","x":"\ud800""#, None, "not valid JSON"),
            (r#","x":"#, None, "not valid JSON"),
            (deep.as_str(), None, "nested deeper than 127"),
            (r#","messages":[1]"#, None, "`messages` twice"),
        ] {
            let refusal = chat(rest).unwrap_err();
            assert_eq!(refusal.param, param, "{rest}");
            assert!(refusal.message.contains(says), "{rest}: {}", refusal.message);
        }
        for (body, says) in [
            (&b""[..], "empty"),
            (b"[]", "JSON object"),
            (b"\"text\"", "JSON object"),
            (b"\xff", "not valid JSON"),
            (b"{\"model\":\"a\",\"messages\":[{\"role\":\"\xff\"}]}", "not valid JSON"),
            (b"{}", "must provide a `model`"),
            (b"{\"model\":1,\"messages\":[1]}", "must be a string"),
            (b"{\"model\":\"\",\"messages\":[1]}", "empty"),
            (b"{\"model\":\"a\"}", "`messages` must be a list"),
            (b"{\"model\":\"a\",\"messages\":[]}", "at least one"),
            (b"{\"model\":\"a\",\"messages\":[1]} x", "trailing"),
        ] {
            let refusal = read_request(Operation::Chat, Dialect::Chat, None, body).unwrap_err();
            assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
        }
    }
}
