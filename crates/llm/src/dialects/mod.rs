//! The dialects, one folder each, and where to find them.

pub mod chat;
pub mod completions;
pub mod converse;
pub mod gemini;
pub mod messages;
pub mod responses;
mod shared;

use crate::dialect::{Dialect, Egress, Ingress};

/// What speaks a dialect with clients; `None` for those that only providers speak.
pub fn ingress(dialect: Dialect) -> Option<&'static dyn Ingress> {
    match dialect {
        Dialect::Chat => Some(&chat::Chat),
        Dialect::Completions => Some(&completions::Completions),
        Dialect::Responses => Some(&responses::Responses),
        Dialect::Gemini => Some(&gemini::Gemini),
        Dialect::Messages => Some(&messages::Messages),
        Dialect::Converse => None,
    }
}

/// What speaks a dialect with providers.
pub fn egress(dialect: Dialect) -> Option<&'static dyn Egress> {
    match dialect {
        Dialect::Chat => Some(&chat::Chat),
        Dialect::Completions => Some(&completions::Completions),
        Dialect::Responses => Some(&responses::Responses),
        Dialect::Gemini => Some(&gemini::Gemini),
        Dialect::Messages => Some(&messages::Messages),
        Dialect::Converse => Some(&converse::Converse),
    }
}

#[cfg(test)]
mod matrix;
