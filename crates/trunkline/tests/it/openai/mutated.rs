//! Whatever is posted: an answer, or OpenAI's error of the 4xx kind. Never a 5xx, a panic, or silence.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use testkit::Response;

use super::refusal::assert_openai_error;
use crate::app::TestApp;

const CASES: u32 = 1000;

/// A request that uses every part of the API, to be damaged.
fn valid() -> Value {
    json!({
        "model": "demo/chat",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "héllo"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"}
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "number"}, "minItems": 2}, "y": {"enum": ["p", "q"]}}}}},
        "stream": false, "stream_options": null, "n": 1, "temperature": 0.5, "top_p": 1, "stop": ["x"],
        "max_tokens": 20, "seed": 7, "user": "u", "logit_bias": {"50256": -100}, "metadata": {"k": "v"}
    })
}

fn valid_embedding() -> Value {
    json!({"model": "demo/embedding", "input": ["a", "b"], "encoding_format": "float", "dimensions": 8, "user": "u"})
}

/// Values that programs trip over.
fn trap() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!([[[[[]]]]])),
        Just(json!({"type": {"type": "object"}})),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        proptest::sample::select(vec![
            "function",
            "demo/chat",
            "demo/embedding",
            "object",
            "array",
            "required",
            "json_schema",
            "base64",
            "tool",
            "\u{0}",
            "🦀"
        ])
        .prop_map(Value::from),
        proptest::collection::vec(any::<u16>(), 0..40).prop_map(Value::from),
        Just(Value::from("x".repeat(70_000))),
    ]
}

/// Replaces or removes the `at`th value of a tree, counted depth first.
fn change(value: &mut Value, at: &mut usize, with: Option<&Value>) -> bool {
    let members: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(map) => {
            if *at < map.len() && with.is_none() {
                let key = map.keys().nth(*at).cloned();
                return key.is_some_and(|key| map.remove(&key).is_some());
            }
            map.values_mut().collect()
        }
        _ => Vec::new(),
    };
    for member in members {
        if *at == 0 {
            *member = with.cloned().unwrap_or_default();
            return true;
        }
        *at -= 1;
        if change(member, at, with) {
            return true;
        }
    }
    false
}

/// What is done to a valid request.
#[derive(Clone, Debug)]
enum Damage {
    Replace(usize, Value),
    Remove(usize),
    /// Of the text: this byte becomes another.
    Byte(prop::sample::Index, u8),
    /// Of the text: cut here.
    Cut(prop::sample::Index),
    /// Of the text: a piece is said twice.
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        5 => (0..60usize, trap()).prop_map(|(at, value)| Damage::Replace(at, value)),
        2 => (0..60usize).prop_map(Damage::Remove),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(a, b)| Damage::Repeat(a, b)),
    ]
}

fn damaged(mut value: Value, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        match damage {
            Damage::Replace(at, with) => change(&mut value, &mut at.clone(), Some(with)),
            Damage::Remove(at) => change(&mut value, &mut at.clone(), None),
            _ => continue,
        };
    }
    let mut text = value.to_string().into_bytes();
    for damage in damages {
        if text.is_empty() {
            break;
        }
        match damage {
            Damage::Byte(at, byte) => {
                let at = at.index(text.len());
                text[at] = *byte;
            }
            Damage::Cut(at) => text.truncate(at.index(text.len())),
            Damage::Repeat(a, b) => {
                let (a, b) = (a.index(text.len()), b.index(text.len()));
                let piece = text[a.min(b)..a.max(b)].to_vec();
                text.splice(a..a, piece);
            }
            Damage::Replace(..) | Damage::Remove(_) => {}
        }
    }
    text
}

fn body() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let of = |value: fn() -> Value| {
        prop_oneof![
            8 => proptest::collection::vec(damage(), 0..4).prop_map(move |damages| damaged(value(), &damages)),
            1 => proptest::collection::vec(any::<u8>(), 0..2000),
            1 => "[\\[\\]{}\",:0-9eE+.a-z\\\\-]{0,200}".prop_map(String::into_bytes),
        ]
    };
    prop_oneof![
        3 => of(valid).prop_map(|body| (true, body)),
        1 => of(valid_embedding).prop_map(|body| (false, body)),
    ]
}

/// A good answer is what was asked for: JSON, or a stream that ends as it should.
fn assert_answered(response: &Response, body: &str) {
    if response.status != 200 {
        assert!(response.status < 500, "{}: {} for {body}", response.status, response.text());
        assert_openai_error(body, response);
    } else if response.header("content-type") == Some("application/json") {
        assert!(response.json()["data"].is_array() || response.json()["choices"].is_array(), "{body}");
    } else {
        assert_eq!(response.header("content-type"), Some("text/event-stream"), "{body}");
        assert!(response.complete && response.text().ends_with("data: [DONE]\n\n"), "{body}");
    }
}

#[test]
fn whatever_is_posted_is_answered_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::start(""));
    let (mut served, mut refused) = (0, 0);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let counts = std::cell::RefCell::new((&mut served, &mut refused));
    TestRunner::new(config)
        .run(&body(), |(chat, body)| {
            let path = if chat { "/v1/chat/completions" } else { "/v1/embeddings" };
            let response = runtime.block_on(app.post(path, "", &body));
            assert_answered(&response, &String::from_utf8_lossy(&body));
            let mut counts = counts.borrow_mut();
            match response.status {
                200 => *counts.0 += 1,
                _ => *counts.1 += 1,
            }
            Ok(())
        })
        .unwrap();
    // The mixture is worth something only while it has both.
    assert!(served > CASES / 20 && refused > CASES / 4, "{served} served, {refused} refused");
}
