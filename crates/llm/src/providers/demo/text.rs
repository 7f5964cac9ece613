//! How the demo model sees text: its tokens, its hash, and the words it picks.

use std::collections::BTreeSet;

/// The longest token, in characters.
const LONGEST: usize = 12;

/// How much of a text is looked at for words, in bytes; more would not make a better demo.
const LOOKED_AT: usize = 16 * 1024;

/// Words that say nothing about which tool is meant.
const COMMON: &[&str] = &[
    "about", "all", "and", "any", "are", "can", "did", "does", "for", "from", "get", "give", "has", "have",
    "how", "into", "its", "not", "one", "our", "please", "some", "tell", "that", "the", "them", "then",
    "there", "they", "this", "use", "was", "what", "when", "where", "which", "who", "will", "with", "would",
    "you", "your",
];

/// The tokens of a text: words, each with the space before it; a long word makes several. Together they are
/// the text.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (token, tail) = rest.split_at(token_end(rest)?);
        rest = tail;
        Some(token)
    })
}

fn token_end(text: &str) -> Option<usize> {
    let mut in_word = false;
    for (count, (at, c)) in text.char_indices().enumerate() {
        if count == LONGEST || (in_word && c.is_whitespace()) {
            return Some(at);
        }
        in_word |= !c.is_whitespace();
    }
    (!text.is_empty()).then_some(text.len())
}

/// How many tokens a text has.
pub(super) fn count(text: &str) -> u64 {
    tokens(text).count() as u64
}

/// A hash that stays the same from release to release, which the standard library's does not promise:
/// FNV-1a, its bits mixed once more since the upper ones of short inputs are weak.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The beginning of a text, at most `bytes` long.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a user's text offers for filling in a form.
#[derive(Debug)]
pub(super) struct Words {
    /// Capitalised words within a sentence, neighbours joined: `New York`.
    names: Vec<String>,
    /// The last word, which stands in when there is no name left.
    last: String,
    numbers: Vec<f64>,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let mut words = Words { names: Vec::new(), last: "demo".to_owned(), numbers: Vec::new() };
        let (mut sentence_start, mut in_name) = (true, false);
        for token in beginning(text, LOOKED_AT).split_whitespace() {
            let word = token.trim_matches(|c: char| !c.is_alphanumeric());
            let ends_phrase = token.ends_with(|c: char| c.is_ascii_punctuation());
            let is_name = word.starts_with(char::is_uppercase) && !sentence_start && word != "I";
            match words.names.last_mut() {
                Some(name) if is_name && in_name => {
                    name.push(' ');
                    name.push_str(word);
                }
                _ if is_name => words.names.push(word.to_owned()),
                _ => {}
            }
            if let Some(number) = number(token, word) {
                words.numbers.push(number);
            }
            if !word.is_empty() {
                word.clone_into(&mut words.last);
            }
            in_name = is_name && !ends_phrase;
            sentence_start = token.ends_with(['.', '!', '?', ':']);
        }
        words
    }

    /// The name at `turn`, else the last word.
    pub(super) fn name(&self, turn: usize) -> &str {
        self.names.get(turn).unwrap_or(&self.last)
    }

    /// The number at `turn`, else 1.
    pub(super) fn number(&self, turn: usize) -> f64 {
        self.numbers.get(turn).copied().unwrap_or(1.0)
    }
}

/// The number a token spells: `3`, `-4`, `2.5`, `$10`, `20%`.
fn number(token: &str, word: &str) -> Option<f64> {
    let signed = token.starts_with('-');
    let digits = word.starts_with(|c: char| c.is_ascii_digit());
    let number: f64 = digits.then(|| word.parse().ok()).flatten()?;
    number.is_finite().then_some(if signed { -number } else { number })
}

/// The words of a text or an identifier (`get_weather`, `getWeather`) that carry meaning, in lower case.
pub(super) fn telling_words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut word = String::new();
    let mut after_lower = false;
    for c in beginning(text, LOOKED_AT).chars().chain(std::iter::once(' ')) {
        if !c.is_alphanumeric() || (after_lower && c.is_uppercase()) {
            let done = std::mem::take(&mut word);
            if done.chars().count() > 2 && !COMMON.contains(&done.as_str()) {
                words.insert(done);
            }
        }
        after_lower = c.is_lowercase();
        word.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
    }
    words
}
