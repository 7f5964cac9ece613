//! Phone numbers. Nothing in a number says that it is one, so only the forms count that people use for little
//! else: `+49 30 1234567`, `0049 …`, `(415) 555-0123`, `030 / 12 34 567`.

use std::ops::Range;

use super::{after, before, in_word};

/// The most digits of an international number (ITU-T E.164).
const MOST: usize = 15;

/// Numbers.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begins = matches!(bytes[at], b'+' | b'(' | b'0'..=b'9');
        if !begins || touches(before(text, at), bytes[at]) {
            at += 1;
            continue;
        }
        match number(text, at) {
            Some(end) => {
                found.push(at..end);
                at = end;
            }
            // The rest of these digits is no number of its own.
            None => at += bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count().max(1),
        }
    }
    found
}

/// Whether what stands before makes this the middle of something else: a word, a longer number, an amount.
fn touches(before: Option<char>, first: u8) -> bool {
    match before {
        Some('+') => first != b'+',
        Some('-' | '.' | '/' | ':' | ',' | '#' | '$' | '€' | '£') => first != b'+' && before != Some(':'),
        other => in_word(other),
    }
}

/// Where the number that begins here ends.
fn number(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut digits = Vec::with_capacity(MOST + 2);
    // Where each digit ends, so that a number can be cut at one.
    let mut ends = Vec::with_capacity(MOST + 2);
    let mut open = false;
    let mut separators = 0;
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                if digits.len() > MOST + 1 {
                    return None;
                }
                digits.push(*byte);
                ends.push(at + 1);
                separators = 0;
            }
            b'+' if at == start => {}
            b'(' if !open && separators < 3 => open = true,
            b')' if open => open = false,
            b' ' | b'-' | b'.' | b'/' if separators < 3 => separators += 1,
            _ => break,
        }
        at += 1;
    }
    let is_international = bytes[start] == b'+';
    let length = if is_international {
        international(&digits)
    } else {
        national(&digits, &text[start..at], &ends, start)
    }?;
    let end = *ends.get(length - 1)?;
    let goes_on = in_word(after(text, end)) || time_follows(&text[end..]);
    (!goes_on).then_some(end)
}

/// `+` and 7 to 15 digits, the first not 0.
fn international(digits: &[u8]) -> Option<usize> {
    ((7..=MOST).contains(&digits.len()) && digits[0] != b'0').then_some(digits.len())
}

/// `00` and an international number; a leading 0 and 8 to 11 more; ten digits of North America, or eleven with
/// their 1.
fn national(digits: &[u8], written: &str, ends: &[usize], start: usize) -> Option<usize> {
    if is_date(written) {
        return None;
    }
    let north_america = |digits: &[u8]| {
        digits.len() == 10 && (b'2'..=b'9').contains(&digits[0]) && (b'2'..=b'9').contains(&digits[3])
    };
    match digits {
        [b'0', b'0', rest @ ..] => international(rest).map(|length| length + 2),
        [b'0', ..] if (9..=12).contains(&digits.len()) => Some(digits.len()),
        [b'1', rest @ ..] if north_america(rest) && grouped(written) => Some(11),
        _ if north_america(digits) && (grouped(written) || ends.last() == Some(&(start + 10))) => Some(10),
        _ => None,
    }
}

/// Whether the last four digits of a North American number, and the three before, stand apart or in brackets.
fn grouped(written: &str) -> bool {
    let groups: Vec<usize> = written
        .split(|c: char| !c.is_ascii_digit())
        .filter(|group| !group.is_empty())
        .map(str::len)
        .collect();
    matches!(groups.as_slice(), [3, 3, 4] | [1, 3, 3, 4] | [3, 7] | [1, 3, 7] | [11])
}

/// `21.11.2026`, `11/21/2026`, `2026-11-21`, also with a time after it.
fn is_date(written: &str) -> bool {
    let mut groups = written.split(['.', '/', '-', ' ']).map(str::len);
    let three = (groups.next(), groups.next(), groups.next());
    matches!(three, (Some(1..=2), Some(1..=2), Some(4)) | (Some(4), Some(1..=2), Some(1..=2)))
}

/// Whether `:30` comes next, as after the hours of a time.
fn time_follows(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some(':') && chars.next().is_some_and(|c| c.is_ascii_digit())
}
