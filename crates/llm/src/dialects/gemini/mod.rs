//! Gemini's `generateContent`, read into and written from the form between dialects.
//!
//! Sources: the API's reference (<https://ai.google.dev/api/generate-content>) and its definition
//! (<https://github.com/googleapis/googleapis/tree/master/google/ai/generativelanguage/v1beta>); the guides to
//! thought signatures (<https://ai.google.dev/gemini-api/docs/thought-signatures>), function calling
//! (<https://ai.google.dev/gemini-api/docs/function-calling>) and thinking
//! (<https://ai.google.dev/gemini-api/docs/thinking>); the official SDK's types
//! (<https://github.com/googleapis/python-genai>).

mod answer;
mod calls;
mod config;
mod error;
mod finish;
mod logprobs;
mod model;
mod parts;
mod read;
mod schema;
mod signature;
mod stream;
mod wire;
mod write;

use std::time::Duration;

use bytes::Bytes;

use crate::dialect::{Egress, Ingress, StreamReader, StreamWriter};
use crate::form::{Answer, ErrorClass, Frame, Losses, Prompt};
use crate::openai::{ProviderError, Refusal};

/// The dialect.
pub struct Gemini;

impl Ingress for Gemini {
    fn read_prompt(&self, body: &[u8], path: Option<(&str, bool)>) -> Result<Prompt, Refusal> {
        read::prompt(body, path)
    }

    fn write_answer(&self, answer: &Answer, frame: &Frame) -> Bytes {
        answer::write(answer, frame)
    }

    fn writer(&self, frame: Frame) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::new(frame))
    }

    fn error_body(&self, class: ErrorClass, message: &str, param: Option<&str>, code: &str) -> Bytes {
        error::body(class, message, param, code)
    }

    fn error_event(&self, class: ErrorClass, message: &str, code: &str) -> Bytes {
        error::event(class, message, code)
    }
}

impl Egress for Gemini {
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
        error::read(body)
    }

    fn retry_after(&self, body: &[u8]) -> Option<Duration> {
        error::retry_after(body)
    }
}

#[cfg(test)]
mod tests;
