//! The items that a response was made from, as they are kept.

use serde_json::{Value, json};

/// The items of an `input`, each with an id and in its full form. `response` makes the ids unique.
pub(super) fn items(input: Value, response: &str) -> Vec<Value> {
    let stem = response.trim_start_matches("resp_");
    let list = match input {
        Value::String(text) => vec![json!({"type": "message", "role": "user", "content": text})],
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    list.into_iter().enumerate().map(|(at, item)| whole(item, stem, at)).collect()
}

fn whole(mut item: Value, stem: &str, at: usize) -> Value {
    if !item.is_object() {
        return item;
    }
    if item.get("type").is_none_or(Value::is_null) {
        item["type"] = "message".into();
    }
    let kind = item["type"].as_str().unwrap_or_default().to_owned();
    let prefix = match kind.as_str() {
        "message" => "msg",
        "function_call" => "fc",
        "custom_tool_call" => "ctc",
        "reasoning" => "rs",
        "function_call_output" => "fco",
        _ => "item",
    };
    if item.get("id").is_none_or(Value::is_null) {
        item["id"] = format!("{prefix}_{stem}-in{at}").into();
    }
    if kind == "message"
        && let Some(text) = item["content"].as_str()
    {
        let part = match item["role"].as_str() {
            Some("assistant") => json!({"type": "output_text", "text": text, "annotations": []}),
            _ => json!({"type": "input_text", "text": text}),
        };
        item["content"] = json!([part]);
    }
    if ["message", "function_call", "function_call_output"].contains(&kind.as_str())
        && item.get("status").is_none_or(Value::is_null)
    {
        item["status"] = "completed".into();
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_whole() {
        let text = |id: &str, role: &str, kind: &str| {
            let mut part = json!({"type": kind, "text": "x"});
            if role == "assistant" {
                part["annotations"] = json!([]);
            }
            json!({"type": "message", "id": id, "role": role, "status": "completed", "content": [part]})
        };
        assert_eq!(items(json!("x"), "resp_1"), [text("msg_1-in0", "user", "input_text")]);
        let given = json!([
            {"role": "assistant", "content": "x"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "web_search_call", "id": "ws"}]);
        assert_eq!(
            items(given, "resp_1"),
            [
                text("msg_1-in0", "assistant", "output_text"),
                json!({"type": "function_call", "id": "fc_1-in1", "call_id": "c", "name": "f", "arguments": "{}",
                    "status": "completed"}),
                json!({"type": "web_search_call", "id": "ws"})
            ]
        );
    }
}
