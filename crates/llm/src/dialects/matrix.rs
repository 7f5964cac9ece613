//! The golden matrix: every dialect that clients speak with every dialect that providers speak.
//!
//! `golden/requests/<dialect>/` holds what clients send, one file for each case; `golden/answers/<dialect>/` what
//! providers answer, whole and as a stream. For each pair of different dialects `golden/pairs/<client>-<provider>.txt`
//! holds the exact bytes that the provider gets for each request and the client for each answer. After a change,
//! `TRUNKLINE_BLESS=1 cargo test -p llm matrix` writes them anew; read the difference before it is committed.
//! A dialect that is registered without fixtures fails here.

mod kept;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::{egress, ingress};
use crate::Dialect;
use crate::form::{Frame, Losses, Piece, Prompt};
use crate::openai::Refusal;
use crate::sse::Decoder;

/// What is asked, a file each.
const CASES: [&str; 10] = [
    "plain",
    "system",
    "tools",
    "results",
    "image_url",
    "image_base64",
    "structured",
    "reasoning",
    "stop",
    "choices",
];
/// What is answered, a `.json` and a `.sse` each.
const ANSWERS: [&str; 2] = ["text", "tools"];

/// What a dialect has no way to say.
fn cannot_say(dialect: Dialect, case: &str) -> bool {
    match dialect {
        Dialect::Completions => !["plain", "stop", "choices", "text"].contains(&case),
        Dialect::Responses | Dialect::Messages | Dialect::Converse => case == "choices",
        Dialect::Chat | Dialect::Gemini => false,
    }
}

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialects/golden").join(path)
}

fn fixture(path: &str) -> String {
    fs::read_to_string(golden(path)).unwrap_or_else(|error| panic!("golden/{path}: {error}"))
}

fn clients() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter().filter(|dialect| ingress(*dialect).is_some())
}

fn providers() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter().filter(|dialect| egress(*dialect).is_some())
}

/// A model that each provider could have.
fn model(provider: Dialect) -> &'static str {
    match provider {
        Dialect::Gemini => "gemini-3-pro",
        Dialect::Messages => "claude-sonnet-4-5",
        Dialect::Converse => "anthropic.claude-sonnet-4-5-20250929-v1:0",
        Dialect::Chat | Dialect::Completions | Dialect::Responses => "gpt-5",
    }
}

fn request(client: Dialect, case: &str, stream: bool) -> String {
    let text = fixture(&format!("requests/{}/{case}.json", client.as_str()));
    if !stream || client == Dialect::Gemini {
        return text;
    }
    let mut body: Value = serde_json::from_str(&text).unwrap();
    body["stream"] = true.into();
    body.to_string()
}

fn prompt(client: Dialect, case: &str, stream: bool) -> Result<Prompt, Refusal> {
    let path = (client == Dialect::Gemini).then_some(("golden", stream));
    ingress(client).unwrap().read_prompt(request(client, case, stream).as_bytes(), path)
}

fn frame(client: Dialect, origin: Dialect, answer: &str, stream: bool) -> Frame {
    let case = if answer == "tools" { "tools" } else { "plain" };
    let case = if cannot_say(client, case) { "plain" } else { case };
    Frame {
        id: "golden-1".into(),
        model: "golden".into(),
        origin,
        created: 1_700_000_000,
        prompt: Arc::new(prompt(client, case, stream).unwrap()),
    }
}

/// What the provider gets, or why it gets nothing.
fn upstream(
    client: Dialect,
    provider: Dialect,
    case: &str,
    stream: bool,
) -> Result<(String, Losses), Refusal> {
    let prompt = prompt(client, case, stream)?;
    let mut losses = Losses::default();
    let bytes = egress(provider).unwrap().write_prompt(&prompt, model(provider), &mut losses)?;
    Ok((String::from_utf8(bytes.to_vec()).unwrap(), losses))
}

/// What the client gets for a whole answer.
fn whole(client: Dialect, provider: Dialect, answer: &str) -> String {
    let body = fixture(&format!("answers/{}/{answer}.json", provider.as_str()));
    let read = egress(provider).unwrap().read_answer(body.as_bytes()).unwrap();
    let written = ingress(client).unwrap().write_answer(&read, &frame(client, provider, answer, false));
    String::from_utf8(written.to_vec()).unwrap()
}

/// The pieces of a provider's stream.
fn pieces(provider: Dialect, answer: &str) -> Vec<Piece> {
    let events = fixture(&format!("answers/{}/{answer}.sse", provider.as_str()));
    let (mut decoder, mut reader) = (Decoder::new(1 << 20), egress(provider).unwrap().reader());
    decoder.push(events.into());
    let mut pieces = Vec::new();
    while let Some(event) = decoder.next_event().unwrap() {
        let name = event.name().unwrap_or_default();
        let name = std::str::from_utf8(&name).unwrap();
        reader.read(name, &event.data().unwrap(), &mut pieces).unwrap();
    }
    if !pieces.contains(&Piece::End) {
        assert!(reader.is_whole(), "{}/{answer}.sse is cut off", provider.as_str());
        pieces.push(Piece::End);
    }
    pieces
}

/// What the client gets for a stream.
fn streamed(client: Dialect, provider: Dialect, answer: &str) -> String {
    let mut writer = ingress(client).unwrap().writer(frame(client, provider, answer, true));
    let mut out = Vec::new();
    pieces(provider, answer).iter().for_each(|piece| writer.write(piece, &mut out));
    String::from_utf8(out).unwrap()
}

/// Everything about a pair, as its file holds it.
fn page(client: Dialect, provider: Dialect) -> String {
    let mut page = String::new();
    for case in CASES.iter().filter(|case| !cannot_say(client, case)) {
        for stream in [false, true] {
            let how = if stream { " (stream)" } else { "" };
            match upstream(client, provider, case, stream) {
                Ok((body, losses)) => {
                    let lost = losses.names().join(", ");
                    let lost = if lost.is_empty() { lost } else { format!("\nlost: {lost}") };
                    writeln!(page, "== {case}{how}{lost}\n{body}").unwrap();
                }
                Err(refusal) => writeln!(page, "== {case}{how}\nrefused: {refusal}").unwrap(),
            }
        }
    }
    for answer in ANSWERS.iter().filter(|answer| !cannot_say(provider, answer)) {
        writeln!(page, "== answer {answer}\n{}", whole(client, provider, answer)).unwrap();
        writeln!(page, "== answer {answer} (stream)\n{}", streamed(client, provider, answer)).unwrap();
    }
    page
}

fn pairs() -> impl Iterator<Item = (Dialect, Dialect)> {
    clients().flat_map(|client| {
        providers().filter(move |provider| *provider != client).map(move |provider| (client, provider))
    })
}

#[test]
fn each_pair_is_as_it_was_reviewed() {
    let bless = std::env::var_os("TRUNKLINE_BLESS").is_some();
    let mut wrong = Vec::new();
    for (client, provider) in pairs() {
        let name = format!("pairs/{}-{}.txt", client.as_str(), provider.as_str());
        let page = page(client, provider);
        if bless {
            fs::write(golden(&name), &page).unwrap();
            continue;
        }
        let reviewed = fs::read_to_string(golden(&name)).unwrap_or_default();
        if let Some((at, (now, then))) = page
            .lines()
            .zip(reviewed.lines().chain(std::iter::repeat("(nothing)")))
            .enumerate()
            .find(|(_, (a, b))| a != b)
        {
            wrong.push(format!("{name}:{}\n   now {now}\n  then {then}", at + 1));
        } else if page.len() != reviewed.len() {
            wrong.push(format!("{name}: what was reviewed is longer"));
        }
    }
    assert!(wrong.is_empty(), "TRUNKLINE_BLESS=1 writes them anew:\n{}", wrong.join("\n"));
}

#[test]
fn a_registered_dialect_has_its_fixtures() {
    let mut missing = Vec::new();
    let mut need = |path: String| {
        if !golden(&path).is_file() {
            missing.push(path);
        }
    };
    for client in clients() {
        for case in CASES.iter().filter(|case| !cannot_say(client, case)) {
            need(format!("requests/{}/{case}.json", client.as_str()));
        }
    }
    for provider in providers() {
        for answer in ANSWERS.iter().filter(|answer| !cannot_say(provider, answer)) {
            need(format!("answers/{}/{answer}.json", provider.as_str()));
            need(format!("answers/{}/{answer}.sse", provider.as_str()));
        }
    }
    assert!(missing.is_empty(), "golden/ has no {missing:#?}");
}

/// The dialect that a request body can only be of.
fn spoken_by_request(body: &Value) -> Dialect {
    let has = |name: &str| body.get(name).is_some();
    match () {
        () if has("contents") => Dialect::Gemini,
        () if has("prompt") => Dialect::Completions,
        () if has("input") => Dialect::Responses,
        () if !has("model") => Dialect::Converse,
        () if has("max_tokens") => Dialect::Messages,
        () => Dialect::Chat,
    }
}

/// The dialect that an answer, or the first event of a stream, can only be of.
fn spoken_by_answer(body: &Value) -> Dialect {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("object"), text("type")) {
        ("chat.completion" | "chat.completion.chunk", _) => Dialect::Chat,
        ("text_completion", _) => Dialect::Completions,
        ("response", _) => Dialect::Responses,
        (_, "message" | "message_start") => Dialect::Messages,
        (_, kind) if kind.starts_with("response.") => Dialect::Responses,
        _ if body.get("candidates").is_some() => Dialect::Gemini,
        _ => Dialect::Converse,
    }
}

/// A body that passes untranslated, or is the same whatever was asked, cannot hide in a snapshot.
#[test]
fn nothing_passes_untranslated_or_is_canned() {
    for (client, provider) in pairs() {
        let pair = format!("{} to {}", client.as_str(), provider.as_str());
        for case in CASES.iter().filter(|case| !cannot_say(client, case)) {
            let asked: Value = serde_json::from_str(&request(client, case, false)).unwrap();
            assert_eq!(spoken_by_request(&asked), client, "the fixture {case}");
            let Ok((body, _)) = upstream(client, provider, case, false) else { continue };
            let told: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(spoken_by_request(&told), provider, "{pair}, {case}: {body}");
            let marker = format!("golden {}", case.split('_').next().unwrap());
            assert!(body.contains(&marker), "{pair}, {case}: `{marker}` is not in {body}");
        }
        for answer in ANSWERS.iter().filter(|answer| !cannot_say(provider, answer)) {
            let body = whole(client, provider, answer);
            let value: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(spoken_by_answer(&value), client, "{pair}, {answer}: {body}");
            assert!(body.contains("golden answer"), "{pair}, {answer}: {body}");
            let events = streamed(client, provider, answer);
            let first = events.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            assert_eq!(spoken_by_answer(&serde_json::from_str(first).unwrap()), client, "{pair}: {first}");
            for said in ["golden", "answer"] {
                assert!(events.contains(said), "{pair}, {answer}: `{said}` is not in {events}");
            }
        }
    }
}
