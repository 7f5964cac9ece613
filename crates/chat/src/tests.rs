use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

/// Reads `value` as `T` from text, and writes it back.
fn round_trip<T: Serialize + DeserializeOwned>(value: &Value) -> Value {
    let text = value.to_string();
    let typed: T = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    serde_json::to_value(&typed).unwrap()
}

fn full_request() -> Value {
    json!({
        "model": "smart", "stream": true, "stream_options": {"include_usage": true}, "n": 2,
        "max_tokens": 5, "max_completion_tokens": 6, "temperature": 0.5, "top_p": 0.25, "stop": ["a", "b"],
        "seed": -7, "frequency_penalty": -1.5, "presence_penalty": 1.5, "logprobs": true, "top_logprobs": 3,
        "user": "u", "parallel_tool_calls": false, "reasoning_effort": "low", "modalities": ["text"],
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "developer", "content": [{"type": "text", "text": "d"}]},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f"}},
                {"type": "hologram", "hologram": {"depth": 3}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "oracle", "content": "hm"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
            {"type": "custom", "custom": {"name": "g"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
    })
}

#[test]
fn a_full_request_reads_into_its_types_and_back() {
    let value = full_request();
    assert_eq!(round_trip::<ChatRequest>(&value), value);

    let request: ChatRequest = serde_json::from_value(value).unwrap();
    assert!(request.extra.is_empty(), "a known field fell into extra: {:?}", request.extra);
    let roles: Vec<&Role> = request.messages.iter().map(|m| &m.role).collect();
    let other = Role::Other("oracle".into());
    assert_eq!(roles, [&Role::System, &Role::Developer, &Role::User, &Role::Assistant, &Role::Tool, &other]);
    assert!(matches!(&request.tools.unwrap()[..], [Tool::Function(_), Tool::Other(_)]));
    assert!(matches!(request.tool_choice, Some(ToolChoice::Named(choice)) if choice.function.name == "f"));
    assert!(matches!(request.response_format, Some(ResponseFormat::JsonSchema { .. })));
}

#[test]
fn content_parts_have_their_types() {
    let request: ChatRequest = serde_json::from_value(full_request()).unwrap();
    let Some(Content::Parts(parts)) = &request.messages[2].content else { panic!("parts") };
    assert!(matches!(&parts[0], ContentPart::Text(part) if part.text == "look"));
    assert!(
        matches!(&parts[1], ContentPart::ImageUrl(part) if part.image_url.detail.as_deref() == Some("low"))
    );
    assert!(matches!(&parts[2], ContentPart::InputAudio(part) if part.input_audio.format == "wav"));
    assert!(matches!(&parts[3], ContentPart::File(part) if part.file["file_id"] == "f"));
    assert!(matches!(&parts[4], ContentPart::Other(_)));
    assert_eq!(request.messages[2].plain_text(), "look");
}

#[test]
fn the_other_forms_of_tool_choice_format_and_stop() {
    let body = |extra: Value| {
        let mut body = json!({"model": "m", "messages": []});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert_eq!(round_trip::<ChatRequest>(&body), body);
        serde_json::from_value::<ChatRequest>(body).unwrap()
    };
    let mode = |name| body(json!({"tool_choice": name})).tool_choice;
    assert_eq!(mode("none"), Some(ToolChoice::Mode(ToolChoiceMode::None)));
    assert_eq!(mode("auto"), Some(ToolChoice::Mode(ToolChoiceMode::Auto)));
    assert_eq!(mode("required"), Some(ToolChoice::Mode(ToolChoiceMode::Required)));
    assert_eq!(mode("sometimes"), Some(ToolChoice::Other(json!("sometimes"))));
    let format = |kind| body(json!({"response_format": {"type": kind, "x": 1}})).response_format;
    assert!(matches!(format("text"), Some(ResponseFormat::Text { extra }) if extra["x"] == 1));
    assert!(matches!(format("json_object"), Some(ResponseFormat::JsonObject { extra }) if extra["x"] == 1));
    assert!(matches!(format("grammar"), Some(ResponseFormat::Other(_))));
    assert_eq!(body(json!({"stop": "x"})).stop.unwrap().as_slice(), ["x"]);
}

#[test]
fn embedding_inputs_have_four_forms() {
    let input = |input: Value| {
        let body = json!({"model": "m", "input": input, "encoding_format": "base64", "dimensions": 8});
        assert_eq!(round_trip::<EmbeddingRequest>(&body), body);
        serde_json::from_value::<EmbeddingRequest>(body).unwrap().input
    };
    assert_eq!(input(json!("a")), EmbeddingInput::Text("a".into()));
    assert_eq!(input(json!(["a", "b"])), EmbeddingInput::Texts(vec!["a".into(), "b".into()]));
    assert_eq!(input(json!([])), EmbeddingInput::Texts(vec![]));
    assert_eq!(input(json!([1, 2])), EmbeddingInput::Tokens(vec![1, 2]));
    assert_eq!(input(json!([[1], [2]])), EmbeddingInput::TokenArrays(vec![vec![1], vec![2]]));
    let error = serde_json::from_value::<EmbeddingRequest>(json!({"model": "m", "input": 1.5})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected a string, an array of strings, an array of tokens, or an array of token arrays"
    );
}

#[test]
fn a_bare_chunk_of_a_compatible_server_reads() {
    let chunk: ChatChunk = serde_json::from_str(
        r#"{"choices":[{"delta":{"content":"a","reasoning_content":"b"},"finish_reason":null}],"usage":null}"#,
    )
    .unwrap();
    assert_eq!(chunk.choices[0].delta.content.as_deref(), Some("a"));
    assert_eq!(chunk.choices[0].delta.extra["reasoning_content"], "b");
    assert_eq!(chunk.usage, None);
    let odd: ChatChunk = serde_json::from_str(r#"{"choices":[{"finish_reason":"end_turn"}]}"#).unwrap();
    assert_eq!(odd.choices[0].finish_reason, Some(FinishReason::Other("end_turn".into())));
}

#[test]
fn an_error_body_keeps_its_nulls() {
    let body = json!({"error": {"message": "m", "type": null, "param": null, "code": null}});
    assert_eq!(round_trip::<ErrorBody>(&body), body);
}

/// Puts `extra` into every object of `value`. The maps whose keys are data, not fields, are no exception:
/// they keep what they hold.
fn sprinkle(value: &mut Value, extra: &Extra) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(|value| sprinkle(value, extra));
            map.extend(extra.clone());
        }
        Value::Array(items) => items.iter_mut().for_each(|value| sprinkle(value, extra)),
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 64.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_extra() -> impl Strategy<Value = Extra> {
    prop::collection::btree_map("x_.{0,6}", any_json(), 0..4).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn unknown_fields_survive_at_every_level(extra in any_extra()) {
        let mut request = full_request();
        sprinkle(&mut request, &extra);
        prop_assert_eq!(round_trip::<ChatRequest>(&request), request);

        let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}});
        let mut response = json!({"id": "i", "object": "chat.completion", "created": 1, "model": "m",
            "system_fingerprint": "f", "usage": usage, "choices": [
                {"index": 0, "finish_reason": "tool_calls", "logprobs": {"content": []}, "message": {
                    "role": "assistant", "content": null, "refusal": "r", "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}]});
        sprinkle(&mut response, &extra);
        prop_assert_eq!(round_trip::<ChatResponse>(&response), response);

        let mut chunk = json!({"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "system_fingerprint": "f", "usage": usage, "choices": [
                {"index": 0, "finish_reason": null, "delta": {"role": "assistant", "content": "c", "refusal": "r",
                    "tool_calls": [{"index": 0, "id": "c", "type": "function",
                        "function": {"name": "f", "arguments": "{}"}}]}}]});
        sprinkle(&mut chunk, &extra);
        prop_assert_eq!(round_trip::<ChatChunk>(&chunk), chunk);

        let mut embedding = json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1},
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
                {"object": "embedding", "index": 1, "embedding": "AAAAPw=="}]});
        sprinkle(&mut embedding, &extra);
        prop_assert_eq!(round_trip::<EmbeddingResponse>(&embedding), embedding);

        let mut error = json!({"error": {"message": "m", "type": "t", "param": "p", "code": 7}});
        sprinkle(&mut error, &extra);
        prop_assert_eq!(round_trip::<ErrorBody>(&error), error);
    }

    #[test]
    fn no_json_makes_reading_panic(value in any_json()) {
        let text = value.to_string();
        let _ = serde_json::from_str::<ChatRequest>(&text);
        let _ = serde_json::from_str::<ChatChunk>(&text);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [value.clone()]}, value.clone()],
            "tools": [value.clone()], "tool_choice": value.clone(), "response_format": value});
        let _ = serde_json::from_value::<ChatRequest>(body);
    }
}
