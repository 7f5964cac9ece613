//! OpenAI's chat completions, read into and written from the form between dialects.
//!
//! Where client and provider both speak it, nothing here is used: [`crate::openai`] splices and watches the
//! bytes.
//!
//! Sources: OpenAI API reference, chat (<https://platform.openai.com/docs/api-reference/chat>). For reasoning,
//! which that has no place for: `reasoning_content`, as DeepSeek and vLLM write it
//! (<https://api-docs.deepseek.com/guides/reasoning_model>), and `reasoning_details` with signatures, as
//! OpenRouter does (<https://openrouter.ai/docs/use-cases/reasoning-tokens>); for the signature of a call, Google's
//! `extra_content` (<https://ai.google.dev/gemini-api/docs/thought-signatures>).

mod answer;
mod read;
mod reasoning;
mod stream;
mod write;

pub(crate) use answer::write_usage;
use bytes::Bytes;
pub(crate) use read::source;

use crate::dialect::{Egress, Ingress, StreamReader, StreamWriter};
use crate::form::{Answer, ErrorClass, Frame, Losses, Prompt};
use crate::openai::{self, ErrorBody, ProviderError, Refusal};

/// The dialect.
pub struct Chat;

impl Ingress for Chat {
    fn read_prompt(&self, body: &[u8], _: Option<(&str, bool)>) -> Result<Prompt, Refusal> {
        read::prompt(body)
    }

    fn write_answer(&self, answer: &Answer, frame: &Frame) -> Bytes {
        answer::write(answer, frame)
    }

    fn writer(&self, frame: Frame) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::new(frame))
    }

    fn error_body(&self, class: ErrorClass, message: &str, param: Option<&str>, code: &str) -> Bytes {
        openai::error_body(&error(class, message, param, code))
    }

    fn error_event(&self, class: ErrorClass, message: &str, code: &str) -> Bytes {
        openai::error_event(&error(class, message, None, code))
    }

    fn terminator(&self) -> &'static [u8] {
        openai::DONE_EVENT
    }
}

impl Egress for Chat {
    fn write_prompt(&self, prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
        write::prompt(prompt, model, losses)
    }

    fn read_answer(&self, body: &[u8]) -> Result<Answer, String> {
        answer::read(body)
    }

    fn reader(&self) -> Box<dyn StreamReader> {
        Box::new(stream::Reader::default())
    }

    fn read_error(&self, body: &[u8]) -> Option<ProviderError> {
        openai::read_error(body)
    }
}

fn error<'a>(class: ErrorClass, message: &'a str, param: Option<&'a str>, code: &'a str) -> ErrorBody<'a> {
    ErrorBody { message: message.into(), class: class_name(class), param, code: Some(code) }
}

/// OpenAI's `type` of an error.
pub(crate) fn class_name(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Invalid | ErrorClass::NotFound | ErrorClass::TooLarge => "invalid_request_error",
        ErrorClass::Authentication => "authentication_error",
        ErrorClass::Permission => "permission_error",
        ErrorClass::Unpaid => "insufficient_quota",
        ErrorClass::RateLimited => "rate_limit_error",
        ErrorClass::Overloaded => "overloaded_error",
        ErrorClass::Timeout | ErrorClass::Server => "server_error",
    }
}

#[cfg(test)]
mod tests;
