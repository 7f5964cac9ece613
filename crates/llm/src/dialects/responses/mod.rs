//! OpenAI's responses.
//!
//! Sources: OpenAI API reference, responses and their streaming events
//! (<https://platform.openai.com/docs/api-reference/responses>,
//! <https://platform.openai.com/docs/api-reference/responses-streaming>), and the types and the accumulator of the
//! official client (<https://github.com/openai/openai-python/tree/main/src/openai/types/responses>).
//!
//! Where the reference leaves room: an `error` event carries its words twice, flat as documented and in an object
//! `error` as OpenAI sends it, since its clients raise only for the latter.

mod answer;
mod custom;
mod fields;
mod items;
mod prompt;
mod reader;
mod request;
mod write;
mod writer;

use base::Usage;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::dialect::{Egress, Ingress, StreamReader, StreamWriter};
use crate::dialects::chat::class_name;
use crate::form::{Answer, ErrorClass, Frame, Losses, Prompt};
use crate::openai::{self, ErrorBody, ProviderError, Refusal};

/// The dialect.
pub struct Responses;

impl Ingress for Responses {
    fn read_prompt(&self, body: &[u8], _: Option<(&str, bool)>) -> Result<Prompt, Refusal> {
        request::read(body)
    }

    fn write_answer(&self, answer: &Answer, frame: &Frame) -> Bytes {
        answer::write(answer, frame)
    }

    fn writer(&self, frame: Frame) -> Box<dyn StreamWriter> {
        Box::new(writer::Writer::new(frame))
    }

    fn error_body(&self, class: ErrorClass, message: &str, param: Option<&str>, code: &str) -> Bytes {
        let class = class_name(class);
        openai::error_body(&ErrorBody { message: message.into(), class, param, code: Some(code) })
    }

    fn error_event(&self, class: ErrorClass, message: &str, code: &str) -> Bytes {
        error_event(class, message, code, 0)
    }
}

impl Egress for Responses {
    fn write_prompt(&self, prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
        prompt::write(prompt, model, losses)
    }

    fn read_answer(&self, body: &[u8]) -> Result<Answer, String> {
        answer::read(body)
    }

    fn reader(&self) -> Box<dyn StreamReader> {
        Box::new(reader::Reader::default())
    }

    fn read_error(&self, body: &[u8]) -> Option<ProviderError> {
        openai::read_error(body)
    }
}

fn error_event(class: ErrorClass, message: &str, code: &str, sequence_number: u64) -> Bytes {
    let event = json!({
        "type": "error",
        "code": code,
        "message": message,
        "param": null,
        "error": {"type": class_name(class), "code": code, "message": message, "param": null},
        "sequence_number": sequence_number,
    });
    format!("event: error\ndata: {event}\n\n").into()
}

/// Usage as it is written here. Cached and reasoning tokens are counted inside, which is also how [`Usage`] has
/// it.
fn write_usage(usage: &Usage) -> Value {
    let mut written = json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached_input, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    });
    if usage.estimated {
        written["estimated"] = true.into();
    }
    written
}

fn read_usage(usage: &Value) -> Option<Usage> {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let (input, output) = (count("/input_tokens"), count("/output_tokens"));
    usage.is_object().then(|| Usage {
        input,
        cached_input: count("/input_tokens_details/cached_tokens").min(input),
        cache_write: count("/input_tokens_details/cache_write_tokens").min(input),
        output,
        reasoning: count("/output_tokens_details/reasoning_tokens").min(output),
        ..Usage::default()
    })
}

/// The words of an error object, or of what stands in its place.
fn error_words(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).filter(|text| !text.is_empty());
    message.map_or_else(|| error.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
