//! The dialects of chat: what is spoken with a client, and with a provider.
//!
//! Where both speak the same, bytes are forwarded and read on the side. Where they differ, the request is read
//! into a [`Prompt`] by the client's dialect and written by the provider's; the answer goes the other way.

use std::time::Duration;

use bytes::Bytes;

use crate::form::{Answer, ErrorClass, Frame, Losses, Piece, Prompt};
use crate::openai::{ProviderError, Refusal};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's older completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Gemini's `generateContent`.
    Gemini,
    /// Bedrock's Converse; spoken with providers only.
    Converse,
}

impl Dialect {
    /// Every one.
    pub const ALL: [Dialect; 6] = [
        Dialect::Chat,
        Dialect::Completions,
        Dialect::Responses,
        Dialect::Messages,
        Dialect::Gemini,
        Dialect::Converse,
    ];

    /// A stable lower-case name, for logs, metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Chat => "chat",
            Dialect::Completions => "completions",
            Dialect::Responses => "responses",
            Dialect::Messages => "messages",
            Dialect::Gemini => "gemini",
            Dialect::Converse => "converse",
        }
    }

    /// The dialect of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == name)
    }
}

/// The side that speaks with a client.
pub trait Ingress: Send + Sync {
    /// Reads a request. `model` and `stream` come from the path where the body does not say them (Gemini).
    fn read_prompt(&self, body: &[u8], path: Option<(&str, bool)>) -> Result<Prompt, Refusal>;

    /// A whole answer.
    fn write_answer(&self, answer: &Answer, frame: &Frame) -> Bytes;

    /// What writes a streamed answer.
    fn writer(&self, frame: Frame) -> Box<dyn StreamWriter>;

    /// The body of an error answer. `param` is the field it is about, `code` what a program may act on.
    fn error_body(&self, class: ErrorClass, message: &str, param: Option<&str>, code: &str) -> Bytes;

    /// The event that tells a client, within a stream, that it failed. Nothing follows it.
    fn error_event(&self, class: ErrorClass, message: &str, code: &str) -> Bytes;

    /// What ends a stream that a provider left without its last event although it was whole. Empty where the
    /// dialect has none.
    fn terminator(&self) -> &'static [u8] {
        b""
    }
}

/// The side that speaks with a provider.
pub trait Egress: Send + Sync {
    /// Writes a request. What the dialect cannot carry goes to `losses`; where leaving it out would change what
    /// the caller gets (a picture to a dialect without pictures, a tool that only another provider runs), the
    /// request is refused instead.
    fn write_prompt(&self, prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal>;

    /// Reads a whole 200 answer. `Err` says why it is none, for the log.
    fn read_answer(&self, body: &[u8]) -> Result<Answer, String>;

    /// What reads a streamed answer.
    fn reader(&self) -> Box<dyn StreamReader>;

    /// Reads an error body; `None` when it is not in this dialect's form.
    fn read_error(&self, body: &[u8]) -> Option<ProviderError>;

    /// How long an error body asks to wait, in the dialects that say so there and not in `Retry-After`.
    fn retry_after(&self, body: &[u8]) -> Option<Duration> {
        let _ = body;
        None
    }
}

/// Reads the events of a stream, in order. Also used to watch a stream that is forwarded as it is.
pub trait StreamReader: Send {
    /// The pieces that one event brings. `event` is the name (`event:`), empty when there is none; `data` is what
    /// its `data:` lines hold. `Err` when it is malformed, for the log.
    fn read(&mut self, event: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String>;

    /// The body is over without [`Piece::End`]. Whether what came is whole all the same: every choice gave its
    /// reason to end. Then the missing end is ours to add.
    fn is_whole(&self) -> bool;
}

/// Writes the events of a stream.
pub trait StreamWriter: Send {
    /// Appends the events for one piece to `out`, framing included. Usage that arrives before the end is held
    /// for where the dialect tells it. [`Piece::Error`] is never given here.
    fn write(&mut self, piece: &Piece, out: &mut Vec<u8>);

    /// Appends the events that tell the client that the answer failed, where the dialect tells with them what came
    /// until then (Responses: `response.failed`). Nothing follows. `false`: [`Ingress::error_event`] says it.
    fn fail(&mut self, class: ErrorClass, message: &str, code: &str, out: &mut Vec<u8>) -> bool {
        let _ = (class, message, code, out);
        false
    }
}
