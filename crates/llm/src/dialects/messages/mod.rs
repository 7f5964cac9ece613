//! Anthropic's messages, read into and written from the form between dialects.
//!
//! Where client and provider both speak it, a request is forwarded as it came and none of the writers here are used.
//!
//! Sources: the Messages API reference (<https://platform.claude.com/docs/en/api/messages/create>), streaming
//! (<https://platform.claude.com/docs/en/build-with-claude/streaming>), errors
//! (<https://platform.claude.com/docs/en/api/errors>), versions
//! (<https://platform.claude.com/docs/en/api/versioning>), and the types and the accumulator of the official SDK
//! (<https://github.com/anthropics/anthropic-sdk-python>, 2.11).

mod answer;
mod blocks;
mod count;
mod error;
mod events;
mod read;
mod reader;
mod write;
mod writer;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::dialect::{Egress, Ingress, StreamReader, StreamWriter};
use crate::form::{Answer, ErrorClass, Frame, Losses, Prompt};
use crate::openai::{ProviderError, Refusal};

pub(in crate::dialects) use blocks::{arguments, foreign, image_type, uploaded};
pub use count::{count_tokens, tokens_body};

pub(in crate::dialects) use write::{JSON_ONLY, LEAST_BUDGET, effort, foreign_tool, note_unknown};

/// The version of the API that a request made here is written in. The next one, 2026-10-21, has no sampling
/// parameters, which many models still take; nothing else differs in what is written here.
pub const VERSION: &str = "2023-06-01";

/// Before the signature of a tool call that has no place of its own here, in `redacted_thinking` before the call.
const CALL_SIGNATURE: &str = "tl-call:";

/// The tool by which a model without structured output is made to answer in a schema.
const ANSWER_TOOL: &str = "trunkline_structured_answer";

/// The dialect.
pub struct Messages;

impl Ingress for Messages {
    fn read_prompt(&self, body: &[u8], _: Option<(&str, bool)>) -> Result<Prompt, Refusal> {
        read::prompt(body, true)
    }

    fn write_answer(&self, answer: &Answer, frame: &Frame) -> Bytes {
        answer::write(answer, frame)
    }

    fn writer(&self, frame: Frame) -> Box<dyn StreamWriter> {
        Box::new(writer::Writer::new(frame))
    }

    fn error_body(&self, class: ErrorClass, message: &str, _: Option<&str>, code: &str) -> Bytes {
        error::body(class, message, code)
    }

    fn error_event(&self, class: ErrorClass, message: &str, code: &str) -> Bytes {
        error::event(class, message, code)
    }

    fn terminator(&self) -> &'static [u8] {
        b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    }
}

impl Egress for Messages {
    fn write_prompt(&self, prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
        write::prompt(prompt, model, losses)
    }

    fn read_answer(&self, body: &[u8]) -> Result<Answer, String> {
        answer::read(body)
    }

    fn reader(&self) -> Box<dyn StreamReader> {
        Box::new(reader::Reader::default())
    }

    fn read_error(&self, body: &[u8]) -> Option<ProviderError> {
        error::read(body)
    }
}
