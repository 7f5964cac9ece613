//! What the dialects of Claude's models, Messages and Converse, need alike.

pub(super) mod claude;
pub(super) mod fields;
pub(super) mod ids;
pub(super) mod schema;
pub(super) mod turns;

use crate::openai::Refusal;

/// A refusal of what a converted request asks for.
pub(super) fn refuse(param: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), param: Some(param) }
}
