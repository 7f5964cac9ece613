//! E-mail addresses, as people write them: the common part of RFC 5322, not its quoted forms.

use std::ops::Range;

/// The longest local part and the longest domain, in bytes (RFC 5321 §4.5.3.1).
const LONGEST: (usize, usize) = (64, 255);

/// Addresses.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.match_indices('@') {
        let free = found.last().map_or(0, |last| last.end);
        if at < free {
            continue;
        }
        let Some(start) = local(&text[free..at]).map(|start| free + start) else { continue };
        let Some(length) = domain(&text[at + 1..]) else { continue };
        found.push(start..at + 1 + length);
    }
    found
}

/// Where the local part at the end of this text begins.
fn local(text: &str) -> Option<usize> {
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        if text.len() - at > LONGEST.0 || !(c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c)) {
            break;
        }
        start = at;
    }
    // A quotation mark or a bracket in front of it is not part of it.
    let part = &text[start..];
    let trimmed = part.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_' && c != '+');
    (!trimmed.is_empty()).then(|| text.len() - trimmed.len())
}

/// How long the domain at the beginning of this text is: labels joined by dots, the last one of letters.
fn domain(text: &str) -> Option<usize> {
    let end = text
        .char_indices()
        .find(|(at, c)| *at >= LONGEST.1 || !(c.is_alphanumeric() || *c == '-' || *c == '.'))
        .map_or(text.len(), |(at, _)| at);
    let mut whole = text[..end].trim_end_matches(['.', '-']);
    // A sentence that goes on without a space: the longest part that is a domain.
    loop {
        let mut labels = whole.split('.');
        let top = labels.next_back()?;
        let fine = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
        let is_top =
            top.chars().count() >= 2 && (top.chars().all(char::is_alphabetic) || top.starts_with("xn--"));
        let mut rest = labels.peekable();
        rest.peek()?;
        if is_top && rest.all(fine) {
            return Some(whole.len());
        }
        whole = &whole[..whole.rfind('.')?];
    }
}
