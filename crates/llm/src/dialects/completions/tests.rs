use std::sync::Arc;

use base::Usage;
use serde_json::{Value, json};

use super::*;
use crate::Dialect;
use crate::form::{Choice, Part, Piece};

fn prompt(body: &Value) -> Prompt {
    Completions.read_prompt(body.to_string().as_bytes(), None).unwrap()
}

fn frame(prompt: Prompt) -> Frame {
    let prompt = Arc::new(prompt);
    Frame { id: "r1".into(), model: "alias".into(), origin: Dialect::Chat, created: 7, prompt }
}

#[test]
fn what_is_read_is_written() {
    let body = json!({
        "model": "m", "prompt": "Once upon", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9,
        "frequency_penalty": 0.1, "presence_penalty": 0.2, "stop": ["a"], "seed": 3, "n": 2, "logprobs": 2, "user": "u"
    });
    let mut losses = Losses::default();
    let out = Completions.write_prompt(&prompt(&body), "m", &mut losses).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), body);
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn what_is_lost_is_told() {
    let body = json!({"model": "m", "prompt": ["x"], "best_of": 3, "logit_bias": {"1": 1}, "logprobs": 1, "stream": true,
        "suffix": null, "stop": "s", "stream_options": {"include_usage": true}});
    let prompt = prompt(&body);
    assert_eq!((prompt.stop.len(), prompt.include_usage, prompt.logprobs), (1, true, false));
    let mut losses = Losses::default();
    Completions.write_prompt(&prompt, "m", &mut losses).unwrap();
    assert_eq!(losses.names(), ["best_of", "logit_bias", "logprobs"]);
}

#[test]
fn a_request_that_cannot_be_read_says_what_to_change() {
    for (rest, says) in [
        (json!({}), "provide a `prompt`"),
        (json!({"prompt": ""}), "`prompt` is empty"),
        (json!({"prompt": []}), "no token numbers"),
        (json!({"prompt": [1, 2]}), "no token numbers"),
        (json!({"prompt": [[1, 2]]}), "no token numbers"),
        (json!({"prompt": ["a", "b"]}), "one `prompt` for each"),
        (json!({"prompt": "a", "suffix": "b"}), "leave `suffix` out"),
        (json!({"prompt": "a", "n": -1}), "at `n`"),
    ] {
        let mut body = json!({"model": "m"});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let refusal = Completions.read_prompt(body.to_string().as_bytes(), None).unwrap_err();
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
    }
}

/// Only one text can be continued.
#[test]
fn a_conversation_is_refused() {
    let chat = |body: Value| {
        let prompt = crate::dialects::chat::Chat.read_prompt(body.to_string().as_bytes(), None).unwrap();
        Completions.write_prompt(&prompt, "m", &mut Losses::default())
    };
    let user = json!({"role": "user", "content": "x"});
    assert!(chat(json!({"model": "m", "messages": [user]})).is_ok());
    for body in [
        json!({"model": "m", "messages": [{"role": "system", "content": "x"}, user]}),
        json!({"model": "m", "messages": [user, {"role": "assistant", "content": "x"}, user]}),
        json!({"model": "m", "messages": [user], "tools": [{"type": "function", "function": {"name": "f"}}]}),
        json!({"model": "m", "messages": [user], "response_format": {"type": "json_object"}}),
    ] {
        assert!(chat(body.clone()).unwrap_err().message.contains("only continues text"), "{body}");
    }
}

#[test]
fn a_whole_answer_has_the_form_of_the_reference() {
    let asked = prompt(&json!({"model": "alias", "prompt": "Say", "echo": true, "logprobs": 1, "n": 2}));
    let logprobs = json!({"content": [
        {"token": " thé", "logprob": -0.5, "bytes": [], "top_logprobs": [{"token": " the", "logprob": -0.25}]},
        {"token": "!", "logprob": -1.0, "bytes": [], "top_logprobs": []}]});
    let choice = |text: &str, finish, logprobs| Choice { parts: vec![Part::text(text)], finish, logprobs };
    let usage = Usage { input: 3, output: 2, ..Usage::default() };
    let answer = Answer {
        id: None,
        model: Some("real".into()),
        choices: vec![choice(" thé!", Finish::Length, Some(logprobs)), choice("x", Finish::Stop, None)],
        usage: Some(usage),
    };
    let body = Completions.write_answer(&answer, &frame(asked));
    let got: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        got["choices"],
        json!([
            {"text": "Say thé!", "index": 0, "finish_reason": "length", "logprobs": {
                "tokens": [" thé", "!"], "token_logprobs": [-0.5, -1.0],
                "top_logprobs": [{" the": -0.25}, {}], "text_offset": [3, 7]}},
            {"text": "Sayx", "index": 1, "finish_reason": "stop", "logprobs": null}
        ])
    );
    let head = [&got["id"], &got["object"], &got["created"], &got["model"]];
    assert_eq!(head, [&json!("cmpl-r1"), &json!("text_completion"), &json!(7), &json!("real")]);
    assert_eq!(got["usage"]["total_tokens"], 5);
    let read = Completions.read_answer(&body).unwrap();
    assert_eq!((&read.choices[0].finish, read.usage), (&Finish::Length, Some(usage)));
    assert_eq!(read.choices[0].logprobs.as_ref().unwrap()["content"][0]["top_logprobs"][0]["token"], " the");
}

#[test]
fn a_stream_comes_back() {
    let asked = prompt(&json!({"model": "m", "prompt": "Say", "stream": true, "echo": true,
        "stream_options": {"include_usage": true}}));
    let usage = Usage { input: 3, output: 2, ..Usage::default() };
    let mut writer = Completions.writer(frame(asked));
    let mut out = Vec::new();
    for piece in [
        Piece::Start { id: None, model: Some("real".into()) },
        Piece::Text { choice: 0, text: " it".into() },
        Piece::Usage(usage),
        Piece::Finish { choice: 0, reason: Finish::Length },
        Piece::End,
    ] {
        writer.write(&piece, &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let events: Vec<&str> = text.split_terminator("\n\n").map(|event| &event[6..]).collect();
    assert_eq!(events.len(), 5, "{text}");
    assert_eq!(events[4], "[DONE]");
    let mut reader = Completions.reader();
    let mut pieces = Vec::new();
    for event in events {
        reader.read("", event.as_bytes(), &mut pieces).unwrap();
    }
    assert!(reader.is_whole());
    assert_eq!(
        pieces,
        [
            Piece::Start { id: Some("cmpl-r1".into()), model: Some("real".into()) },
            Piece::Text { choice: 0, text: "Say".into() },
            Piece::Text { choice: 0, text: " it".into() },
            Piece::Finish { choice: 0, reason: Finish::Length },
            Piece::Usage(usage),
            Piece::End
        ]
    );
    assert!(Completions.reader().read("", b"{", &mut Vec::new()).is_err());
    let mut pieces = Vec::new();
    Completions.reader().read("", br#"{"error":{"message":"boom"}}"#, &mut pieces).unwrap();
    assert_eq!(pieces, [Piece::Error { message: "boom".into() }]);
}
