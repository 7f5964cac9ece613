//! OpenAI's dialect: what we read of a request and of an answer, and the few bytes we change.
//!
//! A body is never rebuilt. It is checked whole, the fields that we act on are read, and `model` and
//! `stream_options` are spliced at the place where they stand, so that every other field, known or not,
//! reaches the provider as the client wrote it.
//!
//! Source: OpenAI API reference, chat completions, embeddings and streaming
//! (<https://platform.openai.com/docs/api-reference/chat>).

mod answer;
mod chunk;
mod error;
mod request;

pub use answer::{Answer, read_answer};
pub use chunk::{Chunk, DONE, DONE_EVENT, read_chunk};
pub use error::{ErrorBody, ProviderError, error_body, error_event, read_error};
pub use request::{Envelope, Refusal, read_request};
