//! Bedrock's Converse with any bytes. The first byte says what they are taken for: a chat request to be written, a
//! whole answer, or a stream in AWS's framing. Nothing panics, and an event that is read is never longer than a
//! message may be.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use llm::dialects::{chat::Chat, converse::Converse};
use llm::eventstream;
use llm::form::Losses;
use llm::sse::Decoder;
use llm::{Egress as _, Ingress as _};

const MODELS: [&str; 4] = [
    "anthropic.claude-sonnet-4-5-v1:0",
    "anthropic.claude-opus-4-6-v1",
    "amazon.nova-2-lite-v1:0",
    "openai.gpt-oss-20b",
];

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((kind, data)) = input.split_first() else { return Corpus::Reject };
    match kind % 3 {
        0 => request(data),
        1 => drop(Converse.read_answer(data)),
        _ => stream(data),
    }
    Corpus::Keep
});

fn request(data: &[u8]) {
    let Ok(prompt) = Chat.read_prompt(data, None) else { return };
    for model in MODELS {
        drop(Converse.write_prompt(&prompt, model, &mut Losses::default()));
    }
}

fn stream(data: &[u8]) {
    let mut framing = eventstream::Decoder::default();
    let mut events = Decoder::new(64 << 20);
    let mut reader = Converse.reader();
    for chunk in data.chunks(7) {
        framing.push(chunk);
        while let Ok(Some(event)) = framing.next_event() {
            events.push(event);
            let event = events.next_event().expect("within the limit").expect("one whole event");
            assert_eq!(events.next_event(), Ok(None), "a message became several events");
            let name = event.name().expect("a name");
            let name = std::str::from_utf8(&name).expect("a plain name").to_owned();
            drop(reader.read(&name, &event.data().unwrap_or_default(), &mut Vec::new()));
        }
    }
}
