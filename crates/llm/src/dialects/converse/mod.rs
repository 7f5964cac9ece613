//! Bedrock's Converse, spoken with providers only.
//!
//! The model stands in the path, so that a body does not name it. A stream comes in AWS's own framing, which
//! [`crate::eventstream`] turns into server-sent events: their name is the event's or the exception's.
//!
//! Sources: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html> and the service's model
//! in botocore 1.44 (`bedrock-runtime/2023-09-30`).

mod answer;
mod blocks;
mod stream;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::Deserialize;

use crate::dialect::{Egress, StreamReader};
use crate::form::{Answer, Losses, Prompt};
use crate::openai::{ProviderError, Refusal};

/// The dialect.
pub struct Converse;

impl Egress for Converse {
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
        /// The kind of error stands in a header, and in some bodies as well.
        #[derive(Deserialize)]
        struct Wire {
            #[serde(alias = "Message")]
            message: String,
            #[serde(rename = "__type")]
            kind: Option<String>,
        }
        let wire: Wire = serde_json::from_slice(body).ok()?;
        Some(ProviderError { message: wire.message, code: wire.kind })
    }
}
