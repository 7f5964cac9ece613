//! Runs of digits, and payment cards among them.

use std::ops::Range;

use super::{after, before, in_word};

/// The fewest and the most digits of a card.
const CARD: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether the last digit is the one that Luhn's sum asks for (ISO/IEC 7812-1, annex B). Anything but digits is
/// passed over.
pub fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => *digit,
            _ if *digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// Whether digits are the number of a payment card: the length and the first digit of a network that issues them,
/// and Luhn's sum.
pub fn is_card(digits: &str) -> bool {
    let known = match digits.len() {
        13 => digits.starts_with('4'),
        14 => {
            digits.starts_with("30")
                || digits.starts_with("36")
                || digits.starts_with("38")
                || digits.starts_with("39")
        }
        15 => {
            digits.starts_with("34")
                || digits.starts_with("37")
                || digits.starts_with("2131")
                || digits.starts_with("1800")
        }
        len if CARD.contains(&len) => digits.starts_with(['2', '3', '4', '5', '6', '8', '9']),
        _ => false,
    };
    known && digits.bytes().all(|byte| byte.is_ascii_digit()) && luhn(digits)
}

/// Cards: digits with at most one space or hyphen between two of them.
pub(super) fn find_cards(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for run in runs(text) {
        let places: Vec<usize> = run.clone().filter(|at| text.as_bytes()[*at].is_ascii_digit()).collect();
        // Groups that stand beside a card, as a date, make the run longer than it: each group may begin it.
        let mut from = 0;
        while from + CARD.start() <= places.len() {
            let group = from == 0 || places[from] > places[from - 1] + 1;
            let longest = CARD.rev().filter(|_| group).find(|len| {
                let Some(last) = places.get(from + len - 1) else { return false };
                let whole = places.get(from + len).is_none_or(|next| *next > last + 1);
                let digits: String =
                    places[from..from + len].iter().map(|at| char::from(text.as_bytes()[*at])).collect();
                whole && is_card(&digits)
            });
            match longest {
                Some(len) => {
                    found.push(places[from]..places[from + len - 1] + 1);
                    from += len;
                }
                None => from += 1,
            }
        }
    }
    found
}

/// Digits with single separators between them, that no word touches.
fn runs(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() {
            let next_is_digit = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
            match bytes[at] {
                byte if byte.is_ascii_digit() => at += 1,
                b' ' | b'-' if next_is_digit => at += 1,
                _ => break,
            }
        }
        if !in_word(before(text, start)) && !in_word(after(text, at)) {
            found.push(start..at);
        }
    }
    found
}
