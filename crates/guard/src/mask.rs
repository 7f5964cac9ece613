//! Personal data in free text: e-mail addresses, phone numbers, payment cards, bank accounts.
//!
//! A number is only called a card or an account when its check digits say so, so that order numbers and times
//! stay readable. Where two readings overlap the more certain one wins: account, card, address, phone.

mod digits;
mod email;
mod iban;
mod phone;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use digits::{is_card, luhn};
pub use iban::is_iban;

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An international bank account number whose check digits are right (ISO 13616).
    Iban,
    /// The number of a payment card whose last digit is right (Luhn, ISO/IEC 7812-1).
    Card,
    /// An e-mail address.
    Email,
    /// A phone number: international, North American, or national with its leading 0.
    Phone,
}

impl Kind {
    /// Every kind, the most certain one first.
    pub const ALL: [Kind; 4] = [Kind::Iban, Kind::Card, Kind::Email, Kind::Phone];

    /// What stands in its place.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Iban => "[IBAN]",
            Kind::Card => "[CARD]",
            Kind::Email => "[EMAIL]",
            Kind::Phone => "[PHONE]",
        }
    }
}

/// What is put in the place of personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// The kind in brackets, as `[EMAIL]`.
    #[default]
    Label,
    /// A star for each character, so that what comes after it stays where it was.
    Stars,
}

/// Personal data that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Where it is, in bytes; always at the bounds of characters.
    pub range: Range<usize>,
}

/// The personal data of these kinds in a text, in its order, without overlaps.
pub fn find(text: &str, kinds: &[Kind]) -> Vec<Finding> {
    let mut found = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        let ranges = match kind {
            Kind::Iban => iban::find(text),
            Kind::Card => digits::find_cards(text),
            Kind::Email => email::find(text),
            Kind::Phone => phone::find(text),
        };
        found.extend(ranges.into_iter().map(|range| Finding { kind, range }));
    }
    // Of two that overlap, the one whose kind is more certain; `ALL` is in that order.
    found.sort_by_key(|finding: &Finding| (finding.range.start, finding.kind));
    let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match kept.last() {
            Some(last) if last.range.end > finding.range.start => {
                if finding.kind < last.kind {
                    kept.pop();
                    kept.push(finding);
                }
            }
            _ => kept.push(finding),
        }
    }
    kept
}

/// The text with the personal data of these kinds masked; borrowed when there is none.
pub fn mask<'a>(text: &'a str, kinds: &[Kind], style: Style) -> Cow<'a, str> {
    let found = find(text, kinds);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for Finding { kind, range } in found {
        masked.push_str(&text[done..range.start]);
        match style {
            Style::Label => masked.push_str(kind.label()),
            Style::Stars => masked.extend(text[range.clone()].chars().map(|_| '*')),
        }
        done = range.end;
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}

/// The character before a place.
fn before(text: &str, at: usize) -> Option<char> {
    text[..at].chars().next_back()
}

/// The character at a place.
fn after(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

/// Whether a word goes on here.
fn in_word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}
