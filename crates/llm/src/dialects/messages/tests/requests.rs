use serde_json::{Value, json};

use super::{converted, read, write};
use crate::dialect::{Egress as _, Ingress as _};
use crate::dialects::messages::Messages;
use crate::form::{Losses, Part};

const SONNET: &str = "claude-sonnet-4-5";

/// Mutations: `is_error` left out; the mark of a result lost; `disable_parallel_tool_use` not written.
#[test]
fn what_is_read_is_written() {
    let ephemeral = json!({"type": "ephemeral", "ttl": "1h"});
    let body = json!({
        "model": SONNET,
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": ephemeral}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                 "cache_control": ephemeral},
                {"type": "image", "source": {"type": "url", "url": "https://x.test/a.jpg"}},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "document", "title": "a", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
                {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "secret"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "cache_control": ephemeral,
                 "content": [
                    {"type": "text", "text": "two"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAAA"}}]},
                {"type": "text", "text": "And?"}]}],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
             "cache_control": ephemeral},
            {"name": "g", "input_schema": {"type": "object", "properties": {}, "additionalProperties": false}, "strict": true},
            {"type": "web_search_20260318", "name": "web_search", "max_uses": 2}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
        "service_tier": "standard_only",
        "stream": true
    });
    let (out, losses) = write(&read(&body), SONNET);
    assert_eq!(out, body);
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn structured_output_is_read_in_both_forms_and_written_in_the_current_one() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
                        "additionalProperties": false});
    let asked = json!({"type": "json_schema", "schema": schema});
    for (field, value) in [("output_config", json!({"format": asked})), ("output_format", asked.clone())] {
        let mut body =
            json!({"model": SONNET, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
        body[field] = value;
        let (out, losses) = write(&read(&body), SONNET);
        assert_eq!(out["output_config"], json!({"format": asked}), "{field}");
        assert!(losses.is_empty(), "{losses:?}");
    }
}

#[test]
fn what_has_no_place_is_told_by_its_name() {
    let body = json!({
        "model": "m", "max_tokens": 9, "container": "c", "mcp_servers": [{"name": "x"}], "speed": null,
        "cache_control": {"type": "ephemeral"}, "thinking": {"type": "between_tools"},
        "metadata": {"user_id": "u", "team": "t"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "citations": [{"type": "y"}]}]}],
        "tools": [{"type": "custom", "name": "f", "input_schema": {"type": "object"}, "defer_loading": true}]
    });
    let (_, losses) = write(&read(&body), "m");
    assert_eq!(
        losses.names(),
        [
            "cache_control",
            "container",
            "mcp_servers",
            "messages.content.citations",
            "metadata.team",
            "thinking",
            "tools.defer_loading"
        ]
    );
}

#[test]
fn a_wrong_request_says_what_to_change() {
    let with = |change: Value| {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let message = |message: Value| with(json!({"messages": [message]}));
    for (body, param, says) in [
        (json!([]), None, "JSON object"),
        (with(json!({"max_tokens": null})), Some("max_tokens"), "`max_tokens` is missing"),
        (with(json!({"max_tokens": "9"})), Some("max_tokens"), "whole number"),
        (with(json!({"max_tokens": 0})), Some("max_tokens"), "1 at least"),
        (with(json!({"messages": []})), Some("messages"), "at least one"),
        (
            with(json!({"temperature": 1.5})),
            Some("temperature"),
            "`temperature` must be a number from 0 to 1",
        ),
        (
            with(json!({"system": [{"type": "image", "source": {"type": "url", "url": "u"}}]})),
            Some("system"),
            "`text` only",
        ),
        (with(json!({"tool_choice": "any"})), Some("tool_choice"), "`tool_choice.type`"),
        (with(json!({"thinking": {"type": "enabled"}})), Some("thinking"), "budget_tokens"),
        (with(json!({"output_config": {"format": {"type": "xml"}}})), Some("output_config"), "json_schema"),
        (with(json!({"stop_sequences": [1]})), Some("stop_sequences"), "strings"),
        (with(json!({"tools": [{"input_schema": {}}]})), Some("tools"), "`tools[0].name` is missing"),
        (message(json!({"role": "tool", "content": "x"})), Some("messages"), "`messages[0].role` is `tool`"),
        (message(json!({"role": "user"})), Some("messages"), "`messages[0].content` must be"),
        (
            message(json!({"role": "user", "content": [{"text": "x"}]})),
            Some("messages"),
            "content[0].type` is missing",
        ),
        (
            message(json!({"role": "user", "content": [{"type": "text"}]})),
            Some("messages"),
            "content[0].text` is missing",
        ),
        (
            message(json!({"role": "user", "content": [{"type": "image", "source": {"type": "ftp"}}]})),
            Some("messages"),
            "use `base64`",
        ),
        (
            message(
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": "x"}]}),
            ),
            Some("messages"),
            "must be an object",
        ),
    ] {
        let refusal = Messages.read_prompt(body.to_string().as_bytes(), None).unwrap_err();
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
        assert_eq!(refusal.param, param, "{says}");
    }
    let deep = format!(r#"{{"model":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    assert!(Messages.read_prompt(deep.as_bytes(), None).unwrap_err().message.contains("recursion limit"));
}

/// A whole chat request as an Anthropic provider gets it.
#[test]
fn a_chat_request_becomes_one() {
    let body = json!({
        "model": "alias",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "And kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "Weather?"},
                {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA", "detail": "high"}}]},
            {"role": "user", "content": "Quick!"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call.1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
                {"id": "call_2", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call.1", "content": "sun"},
            {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
            {"role": "user", "content": "Well?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d"}}],
        "tool_choice": "required", "parallel_tool_calls": false,
        "temperature": 1.5, "top_p": 0.5, "stop": ["\n", "END"], "user": "u", "seed": 1, "logit_bias": {"1": 1},
        "frequency_penalty": 0, "presence_penalty": 0.5
    });
    let (out, losses) = converted(&body, SONNET);
    let id = out["messages"][1]["content"][0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("call_1_"), "{id}");
    assert_eq!(
        out,
        json!({
            "model": SONNET,
            "max_tokens": 32000,
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "And kind."}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "Weather?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
                    {"type": "text", "text": "Quick!"}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": id, "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "call_2", "name": "f", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": id, "content": "sun"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "rain"},
                    {"type": "text", "text": "Well?"}]}],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "temperature": 1.0,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u"}
        })
    );
    assert_eq!(
        losses.names(),
        ["logit_bias", "presence_penalty", "seed", "image_url.detail", "stop", "temperature", "top_p"]
    );
}

#[test]
fn each_generation_is_asked_to_think_in_its_own_way() {
    let ask = |effort: &str, more: Value, model: &str| {
        let mut body =
            json!({"model": "a", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": effort});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let (out, losses) = converted(&body, model);
        let part = json!([out["thinking"], out["output_config"], out["max_tokens"], out["temperature"]]);
        (part, losses.names().to_vec())
    };
    let none: Vec<String> = Vec::new();
    let told = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (effort, more, model, expected, losses) in [
        (
            "low",
            json!({}),
            SONNET,
            json!([{"type": "enabled", "budget_tokens": 2048}, null, 34048, null]),
            none.clone(),
        ),
        (
            "high",
            json!({"max_tokens": 8000}),
            SONNET,
            json!([{"type": "enabled", "budget_tokens": 4000}, null, 8000, null]),
            none.clone(),
        ),
        (
            "high",
            json!({"max_tokens": 100}),
            SONNET,
            json!([null, null, 100, null]),
            told(&["reasoning_effort"]),
        ),
        (
            "low",
            json!({"temperature": 0.5}),
            SONNET,
            json!([{"type": "enabled", "budget_tokens": 2048}, null, 34048, null]),
            told(&["temperature"]),
        ),
        ("none", json!({}), SONNET, json!([null, null, 32000, null]), none.clone()),
        (
            "medium",
            json!({}),
            "claude-opus-4-6",
            json!([{"type": "adaptive"}, {"effort": "medium"}, 32000, null]),
            none.clone(),
        ),
        (
            "xhigh",
            json!({}),
            "claude-opus-4-6",
            json!([{"type": "adaptive"}, {"effort": "high"}, 32000, null]),
            none.clone(),
        ),
        (
            "xhigh",
            json!({"temperature": 1}),
            "claude-opus-5",
            json!([{"type": "adaptive"}, {"effort": "xhigh"}, 32000, null]),
            none.clone(),
        ),
        (
            "minimal",
            json!({"temperature": 0}),
            "claude-sonnet-5-5",
            json!([{"type": "adaptive"}, {"effort": "low"}, 32000, null]),
            told(&["temperature"]),
        ),
        ("none", json!({}), "claude-opus-5", json!([{"type": "disabled"}, null, 32000, null]), none.clone()),
        ("none", json!({}), "claude-fable-5", json!([null, null, 32000, null]), told(&["reasoning_effort"])),
        (
            "low",
            json!({}),
            "other",
            json!([{"type": "enabled", "budget_tokens": 2048}, null, 10240, null]),
            none.clone(),
        ),
    ] {
        assert_eq!(ask(effort, more, model), (expected, losses), "{effort} {model}");
    }
}

#[test]
fn thinking_is_left_out_where_it_would_be_refused() {
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    let called = json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "y"}]);
    let forced = json!({"model": "a", "messages": [{"role": "user", "content": "x"}], "tools": tool,
                        "tool_choice": "required", "reasoning_effort": "low"});
    let unthought = json!({"model": "a", "messages": called, "tools": tool, "reasoning_effort": "low"});
    for body in [forced, unthought] {
        let (out, losses) = converted(&body, SONNET);
        assert_eq!((&out["thinking"], losses.names()), (&Value::Null, &["reasoning_effort".to_owned()][..]));
    }
}

#[test]
fn structured_output_finds_a_way_on_every_model() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}});
    let ask = |format: Value, more: Value, model: &str| {
        let mut body =
            json!({"model": "a", "messages": [{"role": "user", "content": "x"}], "response_format": format});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        converted(&body, model)
    };
    let asked =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
    let (out, losses) = ask(asked.clone(), json!({}), SONNET);
    let closed =
        json!({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false});
    assert_eq!(out["output_config"], json!({"format": {"type": "json_schema", "schema": closed}}));
    assert_eq!(losses.names(), ["schema.minimum"]);

    let (out, losses) = ask(asked.clone(), json!({}), "claude-3-7-sonnet-20250219");
    assert_eq!(out["tool_choice"], json!({"type": "tool", "name": "trunkline_structured_answer"}));
    assert_eq!(out["tools"][0]["input_schema"], schema);
    assert!(losses.is_empty(), "{losses:?}");

    let (out, losses) = ask(asked, json!({"reasoning_effort": "low"}), "some-model");
    assert!(out["system"].as_str().unwrap().contains(r#""minimum":1"#));
    assert_eq!(losses.names(), ["response_format"]);

    let (out, losses) = ask(json!({"type": "json_object"}), json!({}), SONNET);
    assert!(out["system"].as_str().unwrap().starts_with("Answer with one JSON object"));
    assert_eq!(losses.names(), ["response_format"]);
}

#[test]
fn turns_come_in_the_order_they_must() {
    let body = json!({"model": "a", "messages": [
        {"role": "assistant", "content": "Hello! "},
        {"role": "user", "content": "a"},
        {"role": "system", "content": "Now in French."},
        {"role": "assistant", "content": "b \n"}]});
    let (out, losses) = converted(&body, SONNET);
    assert_eq!(out["system"], "Now in French.");
    assert_eq!(
        out["messages"],
        json!([{"role": "user", "content": "…"}, {"role": "assistant", "content": "Hello! "},
               {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    );
    assert_eq!(losses.names(), ["place of a system message", "beginning with the user"]);
    let (out, losses) = converted(&body, "claude-opus-4-8");
    assert_eq!(out["messages"][3], json!({"role": "system", "content": "Now in French."}));
    assert_eq!(losses.names(), ["beginning with the user"]);
    let alone = json!({"model": "a", "messages": [{"role": "system", "content": "x"}]});
    let prompt = crate::dialects::chat::Chat.read_prompt(alone.to_string().as_bytes(), None).unwrap();
    let refusal = Messages.write_prompt(&prompt, SONNET, &mut Losses::default()).unwrap_err();
    assert!(refusal.message.contains("role `user`"));
}

#[test]
fn what_would_change_the_answer_is_refused() {
    for (change, param, says) in [
        (json!({"n": 2}), "n", "one answer"),
        (json!({"tools": [{"type": "web_search"}]}), "tools", "web_search"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]}]}),
            "messages",
            "no sound",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}]}]}),
            "messages",
            "image/tiff",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}),
            "messages",
            "another provider",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "[]"}}]}]}),
            "messages",
            "must be a JSON object",
        ),
    ] {
        let mut body = json!({"model": "a", "messages": [{"role": "user", "content": "x"}]});
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let prompt = crate::dialects::chat::Chat.read_prompt(body.to_string().as_bytes(), None).unwrap();
        let refusal = Messages.write_prompt(&prompt, SONNET, &mut Losses::default()).unwrap_err();
        assert_eq!(refusal.param, Some(param), "{says}");
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
    }
}

#[test]
fn a_foreign_signature_comes_back_to_whose_it_is() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "a", "signature": "tl:gemini:g"},
        {"type": "redacted_thinking", "data": "tl:responses:r"},
        {"type": "redacted_thinking", "data": "tl-call:c"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}}]}]});
    let prompt = read(&body);
    let parts = &prompt.turns[0].parts;
    let origins: Vec<_> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Reasoning(thought) => {
                Some((thought.origin.unwrap().as_str(), thought.signature.clone().unwrap()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(origins, [("gemini", "g".to_owned()), ("responses", "r".to_owned())]);
    assert!(matches!(&parts[2], Part::ToolCall(call) if call.signature.as_deref() == Some("c")));
    let (out, losses) = write(&prompt, "m");
    assert_eq!(out["messages"][1]["content"].as_array().unwrap().len(), 1);
    assert!(losses.names().contains(&"reasoning of another provider".to_owned()));
}

#[test]
fn calls_of_tools_no_longer_offered_are_still_read() {
    let body = json!({"model": "a", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "y"}]});
    let (out, _) = converted(&body, SONNET);
    assert_eq!(out["tools"], json!([{"name": "f", "input_schema": {"type": "object", "properties": {}}}]));
    assert_eq!(out["tool_choice"], json!({"type": "none"}));
}

#[test]
fn tokens_are_counted_of_everything() {
    let count = |body: Value| {
        let prompt = crate::dialects::messages::count_tokens(body.to_string().as_bytes()).unwrap();
        let body = crate::dialects::messages::tokens_body(prompt, "claude-opus-5");
        serde_json::from_slice::<Value>(&body).unwrap()["input_tokens"].as_u64().unwrap()
    };
    let plain = json!({"model": "m", "messages": [{"role": "user", "content": "hello world"}]});
    let few = count(plain.clone());
    assert!((3..20).contains(&few), "{few}");
    let mut more = plain.clone();
    more["tools"] = json!([{"type": "web_search_20260318", "name": "web_search"}, {"name": "f", "input_schema": {"type": "object"}}]);
    assert!(count(more) > few);
    let mut more = plain;
    more["messages"][0]["content"] = json!([{"type": "text", "text": "hello world"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a long text indeed"}}]);
    assert!(count(more) > few);
}
