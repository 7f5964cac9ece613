//! What a provider of OpenAI's older completions sends.
//!
//! Source: OpenAI API reference, completions (<https://platform.openai.com/docs/api-reference/completions>).

use serde_json::{Value, json};

use crate::chat::{CONTENT, DONE, MODEL, USAGE};

/// The events of the usual answer, without the blank line that ends each.
pub fn events(include_usage: bool) -> Vec<String> {
    let choice = |text: &str, finish: &Value| json!([{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]);
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = head();
        chunk["choices"] = choices;
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}")
    };
    let mut all: Vec<String> =
        CONTENT.split_inclusive(' ').map(|text| chunk(choice(text, &Value::Null), None)).collect();
    all.push(chunk(choice("", &json!("stop")), None));
    if include_usage {
        all.push(chunk(json!([]), Some(usage())));
    }
    all.push(DONE.to_owned());
    all
}

/// The usual whole answer.
pub fn body() -> String {
    let mut body = head();
    body["choices"] = json!([{"text": CONTENT, "index": 0, "logprobs": null, "finish_reason": "stop"}]);
    body["usage"] = usage();
    body.to_string()
}

fn head() -> Value {
    json!({"id": "cmpl-fake-1", "object": "text_completion", "created": 1_700_000_000, "model": MODEL})
}

fn usage() -> Value {
    serde_json::from_str(USAGE).expect("usage is JSON")
}
