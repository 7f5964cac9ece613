//! The dialects, one folder each, and where to find them.

pub mod chat;
pub mod gemini;

use crate::dialect::{Dialect, Egress, Ingress};

/// What speaks a dialect with clients; `None` for those that only providers speak.
pub fn ingress(dialect: Dialect) -> Option<&'static dyn Ingress> {
    match dialect {
        Dialect::Chat => Some(&chat::Chat),
        Dialect::Gemini => Some(&gemini::Gemini),
        Dialect::Completions | Dialect::Responses | Dialect::Messages | Dialect::Converse => None,
    }
}

/// What speaks a dialect with providers.
pub fn egress(dialect: Dialect) -> Option<&'static dyn Egress> {
    match dialect {
        Dialect::Chat => Some(&chat::Chat),
        Dialect::Gemini => Some(&gemini::Gemini),
        Dialect::Completions | Dialect::Responses | Dialect::Messages | Dialect::Converse => None,
    }
}
