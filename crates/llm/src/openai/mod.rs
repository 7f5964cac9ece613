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
mod form;
mod media;
mod request;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};

pub use answer::{Answer, read_answer};
pub use chunk::{Chunk, DONE, DONE_EVENT, read_chunk};
pub use error::{ErrorBody, ProviderError, error_body, error_event, read_error};
pub use form::is_form;
pub use media::{Asked, MediaReader, read_form, read_media, reads_form};
pub use request::{Envelope, Refusal, read_request};

/// A text, borrowed from the body unless it is written with escapes. (`Cow` itself is always deserialized
/// owned, except as a direct field.)
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Checks UTF-8 once for a whole body, which is faster than for each string within, as serde_json would. The
/// error is where it is wrong.
fn utf8(json: &[u8]) -> Result<&str, usize> {
    simdutf8::compat::from_utf8(json).map_err(|e| e.valid_up_to())
}

/// Parses JSON from a provider.
fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    let text = utf8(json).map_err(|at| format!("it is not UTF-8 at byte {at}"))?;
    serde_json::from_str(text).map_err(|e| e.to_string())
}
