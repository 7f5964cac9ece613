//! International bank account numbers, <https://www.swift.com/resource/iban-registry-pdf>.

use std::ops::Range;

use super::{after, before, in_word};

/// How long the numbers of a country are, in the registry's order.
const LENGTHS: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HN", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];

/// Whether letters and digits, without spaces, are an account number: a country's length and the right remainder
/// (ISO 7064, MOD 97-10).
pub fn is_iban(number: &str) -> bool {
    let bytes = number.as_bytes();
    length_of(bytes) == Some(bytes.len()) && remainder(bytes) == Some(1)
}

/// How long a number that begins so is.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let [a, b, c, d] = bytes.first_chunk::<4>()?;
    if !c.is_ascii_digit() || !d.is_ascii_digit() {
        return None;
    }
    let country = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
    LENGTHS.iter().find(|(name, _)| name.as_bytes() == country).map(|(_, length)| *length)
}

/// The remainder by 97 of the number with its first four characters at the end, letters as 10 to 35.
fn remainder(bytes: &[u8]) -> Option<u32> {
    let (head, tail) = bytes.split_at_checked(4)?;
    tail.iter().chain(head).try_fold(0, |sum, byte| {
        let value = char::from(*byte).to_digit(36)?;
        Some(if value < 10 { (sum * 10 + value) % 97 } else { (sum * 100 + value) % 97 })
    })
}

/// Account numbers, written together or with single spaces or hyphens.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut from = 0;
    for start in 0..bytes.len() {
        if start < from || !bytes[start].is_ascii_alphabetic() || in_word(before(text, start)) {
            continue;
        }
        let Some(length) = length_of(&bytes[start..]) else { continue };
        let Some((number, end)) = take(bytes, start, length) else { continue };
        if !in_word(after(text, end)) && remainder(&number) == Some(1) {
            found.push(start..end);
            from = end;
        }
    }
    found
}

/// So many letters and digits from here on, and where they end.
fn take(bytes: &[u8], start: usize, length: usize) -> Option<(Vec<u8>, usize)> {
    let mut number = Vec::with_capacity(length);
    let mut at = start;
    while number.len() < length {
        match *bytes.get(at)? {
            byte if byte.is_ascii_alphanumeric() => number.push(byte),
            b' ' | b'-' if bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) => {}
            _ => return None,
        }
        at += 1;
    }
    Some((number, at))
}
