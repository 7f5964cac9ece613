//! OpenAI's older completions: text in, its continuation out.
//!
//! A chat model is asked as if the text were what its user said.
//!
//! Source: OpenAI API reference, completions (<https://platform.openai.com/docs/api-reference/completions>), and the
//! types of the official client
//! (<https://github.com/openai/openai-python/blob/main/src/openai/types/completion_create_params.py>).

mod answer;
mod request;
mod stream;

use bytes::Bytes;

use crate::dialect::{Egress, Ingress, StreamReader, StreamWriter};
use crate::dialects::chat::class_name;
use crate::form::{Answer, ErrorClass, Finish, Frame, Losses, Prompt};
use crate::openai::{self, ErrorBody, ProviderError, Refusal};

/// The dialect.
pub struct Completions;

impl Ingress for Completions {
    fn read_prompt(&self, body: &[u8], _: Option<(&str, bool)>) -> Result<Prompt, Refusal> {
        request::read(body)
    }

    fn write_answer(&self, answer: &Answer, frame: &Frame) -> Bytes {
        answer::write(answer, frame)
    }

    fn writer(&self, frame: Frame) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::new(frame))
    }

    fn error_body(&self, class: ErrorClass, message: &str, param: Option<&str>, code: &str) -> Bytes {
        let class = class_name(class);
        openai::error_body(&ErrorBody { message: message.into(), class, param, code: Some(code) })
    }

    fn error_event(&self, class: ErrorClass, message: &str, code: &str) -> Bytes {
        let class = class_name(class);
        openai::error_event(&ErrorBody { message: message.into(), class, param: None, code: Some(code) })
    }

    fn terminator(&self) -> &'static [u8] {
        openai::DONE_EVENT
    }
}

impl Egress for Completions {
    fn write_prompt(&self, prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
        request::write(prompt, model, losses)
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

fn read_finish(word: &str) -> Finish {
    match word {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "content_filter" => Finish::ContentFilter,
        other => Finish::Other(other.to_owned()),
    }
}

fn write_finish(finish: &Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::ContentFilter | Finish::Refusal => "content_filter",
        _ => "stop",
    }
}

#[cfg(test)]
mod tests;
