//! Gemini's `generateContent` with any bytes. The first byte says what they are taken for: a request, a whole answer or
//! the events of a stream. Nothing panics; what is read and written is read again; a stream that is written anew is
//! whole.

#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use llm::dialects::gemini::Gemini;
use llm::form::{Frame, Losses, Piece, Prompt};
use llm::sse::Decoder;
use llm::{Dialect, Egress as _, Ingress as _};

/// One model of each generation that wants its requests in a way of its own.
const MODELS: [&str; 3] = ["gemini-2.0-flash", "gemini-2.5-pro", "gemini-3-pro"];

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((kind, data)) = input.split_first() else { return Corpus::Reject };
    match kind % 3 {
        0 => request(data),
        1 => answer(data),
        _ => stream(data),
    }
});

fn frame(origin: Dialect) -> Frame {
    let prompt = Arc::new(Prompt::default());
    Frame { id: "1".into(), model: "m".into(), origin, created: 0, prompt }
}

fn request(data: &[u8]) -> Corpus {
    let path = Some(("m", false));
    let Ok(prompt) = Gemini.read_prompt(data, path) else { return Corpus::Keep };
    for model in MODELS {
        let Ok(written) = Gemini.write_prompt(&prompt, model, &mut Losses::default()) else { continue };
        let again = Gemini.read_prompt(&written, path);
        assert!(again.is_ok(), "what was written cannot be read: {again:?}");
    }
    Corpus::Keep
}

fn answer(data: &[u8]) -> Corpus {
    let Ok(answer) = Gemini.read_answer(data) else { return Corpus::Keep };
    for origin in [Dialect::Gemini, Dialect::Messages] {
        let written = Gemini.write_answer(&answer, &frame(origin));
        let again = Gemini.read_answer(&written);
        assert!(again.is_ok() || answer.choices.is_empty(), "what was written cannot be read: {again:?}");
    }
    Corpus::Keep
}

/// The pieces of a stream; `None` when it is malformed or tells an error.
fn pieces(data: &[u8]) -> Option<(Vec<Piece>, bool)> {
    let (mut reader, mut decoder) = (Gemini.reader(), Decoder::new(1 << 20));
    decoder.push(Bytes::copy_from_slice(data));
    let mut pieces = Vec::new();
    while let Ok(Some(event)) = decoder.next_event() {
        reader.read("", &event.data().unwrap_or_default(), &mut pieces).ok()?;
    }
    let failed = pieces.iter().any(|piece| matches!(piece, Piece::Error { .. }));
    (!failed).then(|| (pieces, reader.is_whole()))
}

fn stream(data: &[u8]) -> Corpus {
    let Some((read, true)) = pieces(data) else { return Corpus::Keep };
    let mut writer = Gemini.writer(frame(Dialect::Gemini));
    let mut out = Vec::new();
    read.iter().chain([&Piece::End]).for_each(|piece| writer.write(piece, &mut out));
    let (_, whole) = pieces(&out).expect("what was written can be read");
    assert!(whole, "a whole stream is written cut off");
    Corpus::Keep
}
