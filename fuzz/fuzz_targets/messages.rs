//! Anthropic's messages with any bytes. The first byte says what they are taken for: a request, a whole answer or the
//! events of a stream. Nothing panics; what is read and written is read again; a stream that is written anew begins
//! and ends once.

#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use llm::dialects::messages::Messages;
use llm::form::{Frame, Losses, Piece, Prompt};
use llm::sse::Decoder;
use llm::{Dialect, Egress as _, Ingress as _};

/// One model of each generation that wants its requests in a way of its own.
const MODELS: [&str; 4] =
    ["claude-3-7-sonnet-20250219", "claude-sonnet-4-5", "claude-opus-4-8", "claude-fable-5"];

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
    let Ok(prompt) = Messages.read_prompt(data, None) else { return Corpus::Keep };
    for model in MODELS {
        let Ok(written) = Messages.write_prompt(&prompt, model, &mut Losses::default()) else { continue };
        let again = Messages.read_prompt(&written, None);
        assert!(again.is_ok(), "what was written cannot be read: {again:?}");
    }
    Corpus::Keep
}

fn answer(data: &[u8]) -> Corpus {
    let Ok(answer) = Messages.read_answer(data) else { return Corpus::Keep };
    for origin in [Dialect::Messages, Dialect::Gemini] {
        let written = Messages.write_answer(&answer, &frame(origin));
        let again = Messages.read_answer(&written);
        assert!(again.is_ok(), "what was written cannot be read: {again:?}");
    }
    Corpus::Keep
}

fn stream(data: &[u8]) -> Corpus {
    let (mut reader, mut writer) = (Messages.reader(), Messages.writer(frame(Dialect::Gemini)));
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(Bytes::copy_from_slice(data));
    let mut out = Vec::new();
    while let Ok(Some(event)) = decoder.next_event() {
        let mut pieces = Vec::new();
        let data = event.data().unwrap_or_default();
        if reader.read("", &data, &mut pieces).is_err() {
            return Corpus::Keep;
        }
        for piece in &pieces {
            if matches!(piece, Piece::Error { .. }) {
                return Corpus::Keep;
            }
            writer.write(piece, &mut out);
            if *piece == Piece::End {
                let text = String::from_utf8(out).expect("events are text");
                assert_eq!(text.matches("event: message_start\n").count(), 1);
                assert_eq!(text.matches("event: message_stop\n").count(), 1);
                let blocks = text.matches("event: content_block_start\n").count();
                assert_eq!(text.matches("event: content_block_stop\n").count(), blocks);
                return Corpus::Keep;
            }
        }
    }
    Corpus::Keep
}
