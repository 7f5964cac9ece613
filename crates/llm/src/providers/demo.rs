//! The built-in `demo` provider: offline, deterministic, and labelled as what it is in each answer. It lets a
//! fresh installation show every part of a call (stream, tools, structured output, embeddings) without a key
//! or a network.
//!
//! The same request always gets the same answer; only `created` follows the clock, which the caller passes
//! in. It is as strict about requests as the API it imitates, and what it cannot do (sound, files, log
//! probabilities …) it refuses rather than leaves out.

mod check;
mod embed;
mod reply;
mod schema;
mod stream;
mod text;

#[cfg(test)]
mod tests;

use chat::{ChatRequest, ErrorBody, ErrorDetail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The provider's models: name, and what it does.
pub const MODELS: &[(&str, &str)] = &[
    (CHAT, "chat: repeats what it was told, calls tools, fills JSON schemas"),
    (EMBEDDING, "embeddings: hashed words and letters, up to 2048 dimensions"),
];

const CHAT: &str = "chat";
const EMBEDDING: &str = "embedding";

/// The largest `n` of a chat request.
const MOST_CHOICES: u64 = 16;

/// What is asked of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoOperation {
    /// `POST /chat/completions`
    Chat,
    /// `POST /embeddings`
    Embeddings,
}

impl DemoOperation {
    fn model(self) -> &'static str {
        match self {
            DemoOperation::Chat => CHAT,
            DemoOperation::Embeddings => EMBEDDING,
        }
    }
}

/// What the provider answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DemoAnswer {
    /// A status and a JSON body.
    Whole {
        /// The HTTP status.
        status: u16,
        /// The JSON body.
        body: Vec<u8>,
    },
    /// A stream of status 200.
    Stream {
        /// The server-sent events in order, each whole: `data: …` and an empty line.
        events: Vec<Vec<u8>>,
    },
}

/// Answers one request. Never fails: what cannot be answered gets an error body of the API's form.
/// `now_unix` is the current time in Unix seconds.
pub fn answer(operation: DemoOperation, body: &[u8], now_unix: u64) -> DemoAnswer {
    let answered = match operation {
        DemoOperation::Chat => chat_answer(body, now_unix),
        DemoOperation::Embeddings => embed::answer(body).map(|answer| whole(200, &answer)),
    };
    answered.unwrap_or_else(Refusal::into_answer)
}

fn chat_answer(body: &[u8], now_unix: u64) -> Result<DemoAnswer, Refusal> {
    let request: ChatRequest = read(body)?;
    check::model(DemoOperation::Chat, &request.model)?;
    check::chat(&request)?;
    let head = reply::Head { hash: text::hash(body), created: now_unix, model: &request.model };
    let replies = reply::replies(&request, head.hash)?;
    let usage = reply::usage(&request, &replies);
    if request.stream == Some(true) {
        return Ok(DemoAnswer::Stream { events: stream::events(&request, &head, &replies, usage) });
    }
    Ok(whole(200, &reply::whole(&head, replies, usage)))
}

/// Reads a request body. A field that does not fit is named in the refusal.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        Refusal::unreadable(&error.into_inner(), &path)
    })?;
    reader.end().map_err(|error| Refusal::unreadable(&error, "."))?;
    Ok(request)
}

fn whole<T: Serialize>(status: u16, body: &T) -> DemoAnswer {
    DemoAnswer::Whole { status, body: json(body) }
}

/// The bytes of one of our own forms, which are maps with text keys and always serialise.
fn json<T: Serialize>(form: &T) -> Vec<u8> {
    serde_json::to_vec(form).unwrap_or_else(|_| b"{}".to_vec())
}

/// Why a request is not answered.
#[derive(Debug)]
struct Refusal {
    status: u16,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Refusal {
    /// A 400 about one field.
    fn invalid(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Refusal { status: 400, message: message.into(), param: Some(param.into()), code: Some(code) }
    }

    /// A 400 about something that this model cannot do.
    fn unsupported(param: impl Into<String>, what: &str) -> Self {
        Refusal::invalid(param, "unsupported_parameter", format!("Trunkline's demo model {what}."))
    }

    /// A body that is not JSON, or not the JSON of a request. `path` is where, `.` for the whole.
    fn unreadable(error: &serde_json::Error, path: &str) -> Self {
        let text = error.to_string();
        if !error.is_data() {
            let message = format!("The request body is not valid JSON: {text}.");
            return Refusal { status: 400, message, param: None, code: None };
        }
        let said = text.rsplit_once(" at line ").map_or(text.as_str(), |(said, _)| said);
        let path = path.trim_start_matches('.');
        if let Some(field) = said.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            let param = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
            let message = format!("Missing required parameter: '{param}'.");
            return Refusal::invalid(param, "missing_required_parameter", message);
        }
        let plain = in_words(said);
        if path.is_empty() {
            let message = format!("The request body is not a request: {plain}.");
            return Refusal { status: 400, message, param: None, code: Some("invalid_type") };
        }
        Refusal::invalid(path, "invalid_type", format!("Invalid value for '{path}': {plain}."))
    }

    fn into_answer(self) -> DemoAnswer {
        let detail = ErrorDetail {
            message: self.message,
            kind: Some("invalid_request_error".to_owned()),
            param: self.param,
            code: self.code.map(Into::into),
            ..ErrorDetail::default()
        };
        whole(self.status, &ErrorBody { error: detail, ..ErrorBody::default() })
    }
}

/// What serde says about a value, in the words of JSON and not of Rust. It quotes the value, which may be long.
fn in_words(said: &str) -> String {
    let (found, expected) = said.rsplit_once(", expected ").unwrap_or((said, ""));
    let found = text::beginning(found, 200);
    match expected {
        "" => found.to_owned(),
        "f64" => format!("{found}, expected a number"),
        "u32" | "u64" => format!("{found}, expected a whole number, 0 or more"),
        "i64" => format!("{found}, expected a whole number"),
        "a sequence" => format!("{found}, expected an array"),
        form if form.starts_with("struct ") => format!("{found}, expected an object"),
        other => format!("{found}, expected {other}"),
    }
}
