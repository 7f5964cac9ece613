//! What is refused, and what it is told.

use super::*;

/// Status, message, param and code of the refusal of `body`.
fn refusal(operation: DemoOperation, body: &Value) -> (u16, String, Value, Value) {
    let (status, answer) = ask(operation, body);
    let error = &answer["error"];
    assert_eq!(error["type"], "invalid_request_error", "{answer}");
    let message = error["message"].as_str().unwrap().to_owned();
    (status, message, error["param"].clone(), error["code"].clone())
}

#[test]
fn unknown_models_are_told_which_there_are() {
    for (operation, model, said) in [
        (DemoOperation::Chat, "gpt-4", "It has `chat` and `embedding`."),
        (DemoOperation::Chat, "embedding", "For this call use `chat`."),
        (DemoOperation::Embeddings, "chat", "For this call use `embedding`."),
    ] {
        let body = json!({"model": model, "messages": [], "input": "a"});
        let (status, message, param, code) = refusal(operation, &body);
        assert_eq!((status, param, code), (404, json!("model"), json!("model_not_found")));
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn mistakes_in_fields_name_the_field() {
    let messages = |message: Value| json!({"messages": [{"role": "user", "content": "a"}, message]});
    let tool = |name: &str| json!({"tools": [{"type": "function", "function": {"name": name}}]});
    let part = |part: Value| messages(json!({"role": "user", "content": [part]}));
    let cases = [
        (json!({"temperature": "hot"}), "temperature", "expected a number"),
        (json!({"temperature": 2.1}), "temperature", "from 0 to 2, got 2.1"),
        (json!({"top_p": -0.1}), "top_p", "from 0 to 1"),
        (json!({"presence_penalty": 3}), "presence_penalty", "from -2 to 2"),
        (json!({"frequency_penalty": -3}), "frequency_penalty", "from -2 to 2"),
        (json!({"n": 0}), "n", "from 1 to 16, got 0"),
        (json!({"n": 17}), "n", "from 1 to 16, got 17"),
        (json!({"n": -1}), "n", "expected a whole number"),
        (json!({"n": 1.5}), "n", "expected a whole number"),
        (json!({"max_tokens": 0}), "max_tokens", "of at least 1"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens", "of at least 1"),
        (json!({"top_logprobs": 21}), "top_logprobs", "from 0 to 20"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop", "at most 4"),
        (json!({"stop": 7}), "stop", "a string or an array of strings"),
        (json!({"messages": []}), "messages", "at least one message"),
        (json!({"messages": "hi"}), "messages", "expected an array"),
        (json!({"messages": null}), "messages", "null"),
        (messages(json!(5)), "messages[1]", "expected an object"),
        (json!({"seed": 1.5}), "seed", "expected a whole number"),
        (json!({"temperature": "x".repeat(9_000)}), "temperature", "xxx, expected a number"),
        (messages(json!({"content": "a"})), "messages[1].role", "Missing"),
        (messages(json!({"role": "oracle", "content": "a"})), "messages[1].role", "'oracle'"),
        (messages(json!({"role": "user"})), "messages[1].content", "Missing"),
        (messages(json!({"role": "assistant", "content": null})), "messages[1].content", "Missing"),
        (messages(json!({"role": "user", "content": 5})), "messages[1].content", "a string or an array"),
        (messages(json!({"role": "tool", "content": "a"})), "messages[1].tool_call_id", "Missing"),
        (part(json!({"type": "text"})), "messages[1].content[0]", "content part"),
        (part(json!({"type": "hologram"})), "messages[1].content[0]", "content part"),
        (part(json!({"type": "file", "file": {}})), "messages[1].content[0]", "files"),
        (
            part(json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})),
            "messages[1].content[0]",
            "sound",
        ),
        (tool("bad name"), "tools[0].function.name", "64 letters"),
        (tool(""), "tools[0].function.name", "64 letters"),
        (json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]}), "tools[0]", "function"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]}),
            "tools[0].function.parameters",
            "type 'object'",
        ),
        (json!({"tool_choice": "auto"}), "tool_choice", "'tools' are given"),
        (json!({"modalities": ["text", "audio"]}), "modalities", "text only"),
        (json!({"audio": {"voice": "a"}}), "audio", "text only"),
        (json!({"logprobs": true}), "logprobs", "no probabilities"),
        (json!({"functions": []}), "functions", "`tools`"),
        (json!({"function_call": "auto"}), "function_call", "`tool_choice`"),
        (json!({"web_search_options": {}}), "web_search_options", "offline"),
        (json!({"stream_options": {}}), "stream_options", "'stream' is true"),
        (json!({"response_format": {"type": "grammar"}}), "response_format", "json_object"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
            "response_format.json_schema.schema",
            "Missing",
        ),
    ];
    for (fields, at, said) in cases {
        let (status, message, param, code) = refusal(DemoOperation::Chat, &request("Hi", fields.clone()));
        assert_eq!((status, param), (400, json!(at)), "{fields}: {message}");
        assert!(message.contains(said), "{fields}: {message}");
        assert!(code.is_string(), "{fields}: {code}");
    }
}

#[test]
fn a_choice_of_no_tool_is_refused() {
    for choice in
        [json!({"type": "function", "function": {"name": "g"}}), json!("sometimes"), json!({"type": "x"})]
    {
        let body = request("Hi", json!({"tools": [weather_tool()], "tool_choice": choice}));
        let (status, message, param, _) = refusal(DemoOperation::Chat, &body);
        assert_eq!((status, param), (400, json!("tool_choice")), "{message}");
    }
}

#[test]
fn schemas_that_cannot_be_filled_are_refused_where_they_stand() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "pattern": "^x"}}});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": schema}});
    let body = request("Hi", json!({"tools": [tool], "tool_choice": "required"}));
    let (_, message, param, _) = refusal(DemoOperation::Chat, &body);
    assert_eq!(param, "tools[0].function.parameters", "{message}");
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let (_, message, param, _) =
        refusal(DemoOperation::Chat, &request("Hi", json!({"response_format": format})));
    assert_eq!(param, "response_format.json_schema.schema", "{message}");
}

#[test]
fn what_is_not_a_request_is_told_so() {
    let broken = |body: &str| match answer(DemoOperation::Chat, body.as_bytes(), NOW) {
        DemoAnswer::Whole { status: 400, body } => {
            let body: Value = serde_json::from_slice(&body).unwrap();
            (body["error"]["message"].as_str().unwrap().to_owned(), body["error"]["param"].clone())
        }
        other => panic!("{other:?}"),
    };
    let not_json = ["", "[]", "5", "{", "nope", "\u{0}", &"[".repeat(100_000), &"{\"a\":".repeat(100_000)];
    for body in not_json {
        let (message, param) = broken(body);
        assert_eq!(param, Value::Null, "{message}");
        assert!(message.starts_with("The request body is not"), "{message}");
    }
    assert_eq!(broken("{}").1, "model");
    assert_eq!(
        broken(r#"{"model": "chat"}"#),
        ("Missing required parameter: 'messages'.".into(), "messages".into())
    );
    let valid = request("Hi", json!({})).to_string();
    assert!(broken(&format!("{valid} x")).0.starts_with("The request body is not valid JSON"));
}

#[test]
fn what_is_harmless_is_accepted() {
    let more = json!({"seed": 7, "user": "u", "logit_bias": {"50256": -100}, "store": true, "metadata": {"a": "b"},
        "reasoning_effort": "low", "parallel_tool_calls": true, "logprobs": false, "modalities": ["text"],
        "service_tier": "auto", "audio": null, "temperature": 0, "tool_choice": "none"});
    let plain = text(&request("Hi", json!({})));
    assert_eq!(text(&request("Hi", more)), plain);
}
