#![expect(clippy::needless_pass_by_value, reason = "`json!` literals read best as arguments")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chat::{ChatChunk, ChatResponse};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod embeddings;
mod refusals;
mod schemas;

const NOW: u64 = 1_700_000_000;

fn ask(operation: DemoOperation, body: &Value) -> (u16, Value) {
    match answer(operation, body.to_string().as_bytes(), NOW) {
        DemoAnswer::Whole { status, body } => (status, serde_json::from_slice(&body).unwrap()),
        DemoAnswer::Stream { .. } => panic!("a stream was not asked for"),
    }
}

/// A chat request of one user message, with `more` fields.
fn request(text: &str, more: Value) -> Value {
    let mut body = json!({"model": "chat", "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn chat(body: &Value) -> ChatResponse {
    let (status, answer) = ask(DemoOperation::Chat, body);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_value(answer).unwrap()
}

fn text(body: &Value) -> String {
    chat(body).choices[0].message.plain_text()
}

/// The chunks of a streamed answer, after checking its framing.
fn stream(body: &Value) -> Vec<ChatChunk> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let DemoAnswer::Stream { events } = answer(DemoOperation::Chat, body.to_string().as_bytes(), NOW) else {
        panic!("{body} has no stream")
    };
    let data = |event: &Vec<u8>| {
        let event = std::str::from_utf8(event).unwrap();
        event.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap().to_owned()
    };
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(data(done), "[DONE]");
    chunks.iter().map(|event| serde_json::from_str(&data(event)).unwrap()).collect()
}

fn weather_tool() -> Value {
    json!({"type": "function", "function": {"name": "get_weather", "description": "Looks outside.",
        "parameters": {"type": "object", "required": ["city", "days"],
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}}}}})
}

#[test]
fn a_chat_answer_is_labelled_and_the_same_each_time() {
    let body = request("Hello there", json!({}));
    let response = chat(&body);
    assert_eq!(
        response.choices[0].message.plain_text(),
        "[demo] You said: \"Hello there\". I am Trunkline's built-in demo model: I run offline and answer by fixed rules."
    );
    assert_eq!(response, chat(&body));
    assert_eq!(response.choices[0].finish_reason, Some(chat::FinishReason::Stop));
    assert_eq!(response.system_fingerprint.as_deref(), Some("trunkline-demo"));
    assert!(response.id.starts_with("chatcmpl-demo-"), "{}", response.id);
    assert_ne!(response.id, chat(&request("Hello again", json!({}))).id);
    assert_eq!((response.created, response.model.as_str()), (NOW, "chat"));
    let usage = response.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (6, 19, 25));
}

#[test]
fn an_answer_ends_where_it_is_told_to() {
    let short = |more| chat(&request("Hello there", more)).choices[0].clone();
    for field in ["max_tokens", "max_completion_tokens"] {
        let cut = short(json!({field: 3}));
        assert_eq!(cut.message.plain_text(), "[demo] You said:");
        assert_eq!(cut.finish_reason, Some(chat::FinishReason::Length));
    }
    let whole = short(json!({"max_tokens": 19}));
    assert_eq!(whole.finish_reason, Some(chat::FinishReason::Stop));
    let stopped = short(json!({"stop": ["rules", " said", ""]}));
    assert_eq!(stopped.message.plain_text(), "[demo] You");
    assert_eq!(stopped.finish_reason, Some(chat::FinishReason::Stop));
    assert_eq!(short(json!({"stop": " You"})).message.plain_text(), "[demo]");
}

#[test]
fn several_answers_are_numbered() {
    let response = chat(&request("Hi", json!({"n": 3})));
    assert_eq!(response.choices.iter().map(|choice| choice.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(response.choices[2].message.plain_text().contains("This is answer 3 of 3."));
}

#[test]
fn long_texts_are_quoted_in_part_and_images_counted() {
    let long = text(&request(&"é".repeat(5_000), json!({})));
    assert!(long.contains('…') && long.len() < 1_000);
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    let looked = text(&json!({"model": "chat", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "Look"}, image, image]}]}));
    assert!(
        looked.starts_with("[demo] You said: \"Look\". I received 2 images, which I cannot see."),
        "{looked}"
    );
}

#[test]
fn a_tool_is_called_when_the_text_is_about_it() {
    let tools = json!([{"type": "function", "function": {"name": "sendMail"}}, weather_tool()]);
    let response = chat(&request("What is the weather in New York for 3 days?", json!({"tools": tools})));
    let choice = &response.choices[0];
    assert_eq!(choice.finish_reason, Some(chat::FinishReason::ToolCalls));
    assert_eq!(choice.message.content, None);
    let call = &choice.message.tool_calls.as_ref().unwrap()[0];
    let function = call.function.as_ref().unwrap();
    assert_eq!(function.name, "get_weather");
    let arguments: Value = serde_json::from_str(&function.arguments).unwrap();
    assert_eq!(arguments, json!({"city": "New York", "days": 3}));

    let called = |text, more: Value| {
        let mut body = request(text, json!({"tools": tools}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let message = chat(&body).choices[0].message.clone();
        message.tool_calls.map(|calls| calls[0].function.clone().unwrap().name)
    };
    assert_eq!(called("Hello you", json!({})), None);
    assert_eq!(called("What is the weather?", json!({"tool_choice": "none"})), None);
    assert_eq!(called("Write a mail", json!({"tool_choice": "auto"})).as_deref(), Some("sendMail"));
    assert_eq!(called("Hello you", json!({"tool_choice": "required"})).as_deref(), Some("sendMail"));
    assert_eq!(called("Any weather?", json!({"tool_choice": "required"})).as_deref(), Some("get_weather"));
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}});
    assert_eq!(called("Write a mail", named).as_deref(), Some("get_weather"));
}

#[test]
fn after_a_tool_has_answered_its_result_is_quoted() {
    let asked = request(
        "What is the weather in Paris?",
        json!({"tools": [weather_tool()], "tool_choice": "required"}),
    );
    let mut body = asked.clone();
    let reply = serde_json::to_value(&chat(&asked).choices[0].message).unwrap();
    let id = reply["tool_calls"][0]["id"].clone();
    let result = json!({"role": "tool", "tool_call_id": id, "content": "18 degrees"});
    body["messages"].as_array_mut().unwrap().extend([reply, result]);
    let said = text(&body);
    assert!(said.starts_with("[demo] The tool get_weather answered: \"18 degrees\"."), "{said}");
}

#[test]
fn a_json_answer_is_json() {
    let object = text(&request("Hi", json!({"response_format": {"type": "json_object"}})));
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(object["demo"], true);
    assert!(object["answer"].as_str().unwrap().contains("You said: \"Hi\"."));
    let schema = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "person", "schema": schema}});
    assert_eq!(text(&request("I met Alice", json!({"response_format": format}))), r#"{"name":"Alice"}"#);
}

#[test]
fn a_stream_has_its_parts_in_order() {
    let chunks = stream(&request("Hello there", json!({"stream_options": {"include_usage": true}})));
    assert_eq!(chunks[0].choices[0].delta.role, Some(chat::Role::Assistant));
    let usage = chunks.last().unwrap();
    assert!(usage.choices.is_empty());
    assert_eq!(usage.usage.as_ref().unwrap().total_tokens, 25);
    let finish = &chunks[chunks.len() - 2].choices[0];
    assert_eq!(finish.finish_reason, Some(chat::FinishReason::Stop));
    assert_eq!(chunks[2].choices[0].delta.content.as_deref(), Some(" You"));
    assert!(chunks.iter().all(|chunk| chunk.id == chunks[0].id && chunk.object == "chat.completion.chunk"));
    let silent = stream(&request("Hello there", json!({})));
    assert!(silent.iter().all(|chunk| chunk.usage.is_none() && chunk.choices.len() == 1));
}

#[test]
fn a_streamed_call_names_itself_first() {
    let chunks = stream(&request("weather in Paris", json!({"tools": [weather_tool()]})));
    let calls: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| chunk.choices[0].delta.tool_calls.as_ref())
        .map(|calls| &calls[0])
        .collect();
    assert!(calls[0].id.as_ref().unwrap().starts_with("call_demo_"));
    assert_eq!(calls[0].function.as_ref().unwrap().name.as_deref(), Some("get_weather"));
    assert!(calls.len() > 2, "the arguments come in pieces");
    assert!(calls[1..].iter().all(|call| call.id.is_none()));
    let last = chunks.last().unwrap();
    assert_eq!(last.choices[0].finish_reason, Some(chat::FinishReason::ToolCalls));
}

/// For each choice: its text, its arguments, its finish reason.
type Outcome = Vec<(String, String, Option<chat::FinishReason>)>;

fn outcome_of_whole(response: ChatResponse) -> Outcome {
    let choices = response.choices.into_iter().map(|choice| {
        let call = choice.message.tool_calls.iter().flatten().next();
        let arguments = call.and_then(|call| call.function.clone()).map(|f| f.arguments).unwrap_or_default();
        (choice.message.plain_text(), arguments, choice.finish_reason)
    });
    choices.collect()
}

fn outcome_of_stream(chunks: &[ChatChunk]) -> Outcome {
    let mut outcome = Outcome::new();
    for choice in chunks.iter().flat_map(|chunk| &chunk.choices) {
        outcome.resize(outcome.len().max(choice.index as usize + 1), Default::default());
        let (text, arguments, finish) = &mut outcome[choice.index as usize];
        text.push_str(choice.delta.content.as_deref().unwrap_or_default());
        for call in choice.delta.tool_calls.iter().flatten() {
            arguments.push_str(call.function.as_ref().unwrap().arguments.as_deref().unwrap());
        }
        finish.clone_from(&choice.finish_reason);
    }
    outcome
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Zé .0-9#/]{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["user", "tool", "object", "array", "integer", "#", "text"])
            .prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "type",
        "properties",
        "required",
        "items",
        "minItems",
        "enum",
        "$ref",
        "anyOf",
        "allOf",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "function",
        "name",
        "text",
        "role",
        "content",
        "x",
    ]);
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), value in any_json(), key in
        prop::sample::select(vec!["messages", "tools", "tool_choice", "response_format", "n", "stop", "input", "stream"]))
    {
        let schema = json!({"type": "function", "function": {"name": "f", "parameters": value.clone()}});
        let bodies = [
            value.clone(),
            request("Hi Ann, 3", json!({key: value.clone()})),
            request("Hi", json!({"tools": [schema], "tool_choice": "required"})),
            request("Hi", json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": value.clone()}}})),
            json!({"model": "embedding", "input": value}),
        ];
        for body in bodies.iter().map(|body| body.to_string().into_bytes()).chain([bytes]) {
            for operation in [DemoOperation::Chat, DemoOperation::Embeddings] {
                match answer(operation, &body, NOW) {
                    DemoAnswer::Whole { status, body } => {
                        prop_assert!([200, 400, 404].contains(&status));
                        let body: Value = serde_json::from_slice(&body).unwrap();
                        prop_assert_eq!(status == 200, body.get("error").is_none());
                    }
                    DemoAnswer::Stream { events } => prop_assert!(events.len() > 2),
                }
            }
        }
    }

    #[test]
    fn the_pieces_of_a_stream_make_the_whole_answer(
        text in "(\\PC|\\s){0,60}|weather in [A-Z][a-z]{2,20} for [0-9]{1,3} days",
        n in 1..4_u64, most in prop::option::of(1..40_u64), tools in any::<bool>(), json_object in any::<bool>(),
    ) {
        let mut body = request(&text, json!({"n": n, "stop": "zz"}));
        if let Some(most) = most {
            body["max_tokens"] = most.into();
        }
        if tools {
            body["tools"] = json!([weather_tool()]);
        }
        if json_object {
            body["response_format"] = json!({"type": "json_object"});
        }
        let whole = outcome_of_whole(chat(&body));
        prop_assert_eq!(outcome_of_stream(&stream(&body)), whole);
    }

    #[test]
    fn tokens_make_up_their_text(text in "(\\PC|\\s){0,80}") {
        prop_assert_eq!(text::tokens(&text).collect::<String>(), text.clone());
        prop_assert!(text::tokens(&text).all(|token| !token.is_empty()));
    }
}
