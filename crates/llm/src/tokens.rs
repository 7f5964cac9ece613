//! Counting tokens here, for providers that report no usage.
//!
//! The tables of OpenAI's encodings are part of the binary and are loaded by the first count that needs them,
//! which takes a good part of a second and up to 45 MiB; who never counts never pays. A count itself may take
//! tens of milliseconds. **Call these functions from blocking threads only**
//! (`tokio::task::spawn_blocking`), never from a thread that serves connections.
//!
//! For other makers' models the counts are estimates, as is everything beyond text.

use std::borrow::Cow;

use serde_json::Value;
use tiktoken_rs::CoreBPE;
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};

#[cfg(test)]
mod tests;

/// Texts up to this size are counted exactly, longer ones from samples.
const EXACT: usize = 256 * 1024;

/// The samples of a longer text: so many, spread evenly, each this large.
const SAMPLES: usize = 16;
const SAMPLE: usize = 8 * 1024;

/// Texts are given to the encoder in slices of this size: its regular expression gives up, and with it the
/// library, on very long runs of one kind of character.
const SLICE: usize = 8 * 1024;

/// Tokens that each message of a chat costs beside its texts, and that the answer's beginning costs
/// (<https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_chat>).
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
const PER_ANSWER: u64 = 3;

/// What an image is taken for: one of 1024 × 1024 pixels at GPT-4o's high detail (85 and 170 for each of four
/// tiles), or any at low detail. Sound and files are taken for a large image.
const PER_IMAGE: u64 = 765;
const PER_LOW_IMAGE: u64 = 85;

/// How many tokens `text` has for `model` (with or without a `provider/` before it). A model that is not
/// known to have another encoding is counted with `o200k_base`. Exact up to 256 KiB, an estimate from samples
/// beyond. Blocks: see the module.
pub fn count(model: &str, text: &str) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let encoding = encoding(model);
    if text.len() <= EXACT { exactly(encoding, text) } else { by_samples(encoding, text) }
}

/// An estimate of the input tokens of an OpenAI request body, chat or embeddings: the texts of the messages
/// with what each message costs beside, tools and schemas as the JSON they are, and a flat number for each
/// image (765, at low detail 85), sound or file (765). A body that is not JSON counts a token for each four
/// bytes. Blocks: see the module.
pub fn count_chat_input(model: &str, body: &[u8]) -> u64 {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return (body.len() as u64).div_ceil(4) };
    let mut input = Input::default();
    input.read(&body);
    let size: usize = input.texts.iter().map(|text| text.len()).sum();
    let texts = if size <= EXACT {
        input.texts.iter().map(|text| count(model, text)).sum()
    } else {
        count(model, &input.texts.concat())
    };
    input.flat + texts
}

fn encoding(model: &str) -> &'static CoreBPE {
    match get_tokenizer(model.rsplit('/').next().unwrap_or(model)) {
        Some(Tokenizer::Cl100kBase) => tiktoken_rs::cl100k_base_singleton(),
        _ => tiktoken_rs::o200k_base_singleton(),
    }
}

fn exactly(encoding: &CoreBPE, text: &str) -> u64 {
    slices(text).map(|slice| encoding.encode_ordinary(slice).len() as u64).sum()
}

fn by_samples(encoding: &CoreBPE, text: &str) -> u64 {
    let (mut tokens, mut bytes) = (0, 0);
    for sample in 0..SAMPLES {
        let start = boundary(text, text.len() / SAMPLES * sample);
        let part = &text[start..boundary(text, start + SAMPLE)];
        tokens += u128::from(exactly(encoding, part));
        bytes += part.len() as u128;
    }
    let estimate = (tokens * text.len() as u128).div_ceil(bytes.max(1));
    u64::try_from(estimate).unwrap_or(u64::MAX)
}

/// The text in slices, cut where no token can reach across (before a space after a letter or digit) when
/// there is such a place.
fn slices(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = boundary(rest, SLICE);
        if end < rest.len() {
            let mut pairs = rest.as_bytes()[..end].windows(2);
            let last = pairs.rposition(|pair| pair[0].is_ascii_alphanumeric() && pair[1] == b' ');
            end = last.map_or(end, |at| at + 1);
        }
        let (slice, tail) = rest.split_at(end);
        rest = tail;
        (!slice.is_empty()).then_some(slice)
    })
}

/// The last character boundary at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What of a request counts as input.
#[derive(Default)]
struct Input<'a> {
    texts: Vec<Cow<'a, str>>,
    /// Tokens that are not text.
    flat: u64,
}

impl<'a> Input<'a> {
    fn read(&mut self, body: &'a Value) {
        if let Some(messages) = body.get("messages").and_then(Value::as_array) {
            messages.iter().for_each(|message| self.message(message));
            self.flat += PER_ANSWER;
        }
        for tools in [body.get("tools"), body.get("functions")] {
            let tools = tools.and_then(Value::as_array).into_iter().flatten();
            self.texts.extend(tools.map(|tool| Cow::Owned(tool.to_string())));
        }
        if let Some(schema) = body.pointer("/response_format/json_schema") {
            self.texts.push(Cow::Owned(schema.to_string()));
        }
        match body.get("input") {
            Some(Value::Array(inputs)) => inputs.iter().for_each(|input| self.embedded(input)),
            Some(input) => self.embedded(input),
            None => {}
        }
    }

    fn message(&mut self, message: &'a Value) {
        self.flat += PER_MESSAGE;
        self.text(message.get("role"));
        self.text(message.get("refusal"));
        if message.get("name").is_some_and(Value::is_string) {
            self.flat += PER_NAME;
            self.text(message.get("name"));
        }
        match message.get("content") {
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.part(part)),
            content => self.text(content),
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            for field in ["/function/name", "/function/arguments", "/custom/name", "/custom/input"] {
                self.text(call.pointer(field));
            }
        }
    }

    fn part(&mut self, part: &'a Value) {
        match part.get("type").and_then(Value::as_str) {
            Some("text") => self.text(part.get("text")),
            Some("refusal") => self.text(part.get("refusal")),
            Some("image_url") => {
                let low = part.pointer("/image_url/detail").and_then(Value::as_str) == Some("low");
                self.flat += if low { PER_LOW_IMAGE } else { PER_IMAGE };
            }
            _ => self.flat += PER_IMAGE,
        }
    }

    /// A text to embed, or tokens.
    fn embedded(&mut self, input: &'a Value) {
        match input {
            Value::Array(tokens) => self.flat += tokens.len() as u64,
            Value::Number(_) => self.flat += 1,
            other => self.text(Some(other)),
        }
    }

    fn text(&mut self, value: Option<&'a Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.texts.push(Cow::Borrowed(text));
        }
    }
}
