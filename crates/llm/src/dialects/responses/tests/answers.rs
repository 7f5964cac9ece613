use super::*;

fn written(answer: &Answer, prompt: Prompt) -> Value {
    serde_json::from_slice(&Responses.write_answer(answer, &frame(prompt))).unwrap()
}

fn answer(parts: Vec<Part>, finish: Finish) -> Answer {
    let choices = vec![Choice { parts, finish, logprobs: None }];
    Answer { id: Some("up".into()), model: Some("real".into()), choices, usage: Some(usage()) }
}

/// The object of the API reference, field by field.
#[test]
fn a_whole_answer_repeats_its_request() {
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}]);
    let prompt = prompt(&json!({
        "model": "alias", "input": "hi", "instructions": "Be brief.", "max_output_tokens": 50, "temperature": 0.5,
        "metadata": {"k": "v"}, "tools": tools, "tool_choice": "required", "parallel_tool_calls": false,
        "text": {"verbosity": "low"}, "reasoning": {"effort": "low"}, "store": false, "truncation": "auto",
        "prompt_cache_key": "key", "user": null
    }));
    let got = written(&answer(vec![Part::text("Hello."), Part::text(" You.")], Finish::Stop), prompt);
    assert_eq!(
        got,
        json!({
            "id": "resp_r1", "object": "response", "created_at": 1_700_000_000, "status": "completed",
            "background": false, "error": null, "incomplete_details": null, "instructions": "Be brief.",
            "max_output_tokens": 50, "model": "real",
            "output": [{"type": "message", "id": "msg_r1-0", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "Hello. You.", "annotations": [], "logprobs": []}]}],
            "parallel_tool_calls": false, "previous_response_id": null,
            "reasoning": {"effort": "low", "summary": null}, "store": false, "temperature": 0.5,
            "text": {"format": {"type": "text"}, "verbosity": "low"},
            "tool_choice": "required", "tools": tools, "top_p": null, "truncation": "auto",
            "prompt_cache_key": "key",
            "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
                "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 29},
            "user": null, "metadata": {"k": "v"}
        })
    );
}

#[test]
fn every_end_has_its_status() {
    for (finish, parts, status, reason) in [
        (Finish::Stop, vec![Part::text("x")], "completed", None),
        (Finish::ToolCalls, vec![Part::ToolCall(ToolCall::default())], "completed", None),
        (Finish::Length, vec![Part::text("x")], "incomplete", Some("max_output_tokens")),
        (Finish::ContentFilter, vec![Part::text("x")], "incomplete", Some("content_filter")),
        (Finish::Refusal, vec![], "incomplete", Some("content_filter")),
        (Finish::Refusal, vec![Part::Refusal("No.".into())], "completed", None),
        (Finish::Pause, vec![Part::text("x")], "completed", None),
    ] {
        let got = written(&answer(parts, finish.clone()), asked());
        assert_eq!(got["status"], status, "{finish:?}");
        assert_eq!(got["incomplete_details"]["reason"].as_str(), reason, "{finish:?}");
        if let Some(last) = got["output"].as_array().and_then(|output| output.last()) {
            assert_eq!(last["status"], status, "{finish:?}");
        }
    }
}

/// Mutations: signatures not sealed; the signature of a call left out; a call's number mixed up.
#[test]
fn what_is_written_is_read() {
    let reasoning = |text: &str, signature: &str, redacted, origin| {
        let signature = Some(signature.to_owned());
        Part::Reasoning(Reasoning { text: text.into(), signature, redacted, origin: Some(origin), id: None })
    };
    let call = |id: &str, arguments: &str| {
        Part::ToolCall(ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            signature: None,
        })
    };
    let parts = vec![
        reasoning("because", "sig", false, Dialect::Messages),
        reasoning("", "also shown", false, Dialect::Messages),
        reasoning("", "hidden", true, Dialect::Gemini),
        Part::text("Text."),
        Part::Refusal("No.".into()),
        call("c1", "{\"a\":1}"),
        call("c2", "{}"),
    ];
    let asked_answer = answer(parts.clone(), Finish::ToolCalls);
    let body = Responses.write_answer(&asked_answer, &frame(asked()));
    let wire: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(wire["output"][0]["encrypted_content"], "tl:messages:sig");
    assert_eq!(wire["output"][2]["encrypted_content"], "tl:gemini:hidden");
    let mut read = Responses.read_answer(&body).unwrap();
    for part in &mut read.choices[0].parts {
        if let Part::Reasoning(reasoning) = part {
            reasoning.id = None;
        }
    }
    assert_eq!(read.choices[0].parts, parts);
    assert_eq!((&read.choices[0].finish, read.usage), (&Finish::ToolCalls, Some(usage())));
}

#[test]
fn the_signature_of_a_call_stands_before_it() {
    let call =
        ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), signature: Some("s".into()) };
    let got = written(&answer(vec![Part::ToolCall(call)], Finish::ToolCalls), asked());
    assert_eq!(got["output"][0]["type"], "reasoning");
    assert_eq!(got["output"][0]["encrypted_content"], "tl:messages:s");
    assert_eq!(got["output"][1]["type"], "function_call");
}

#[test]
fn a_custom_tool_is_called_with_text() {
    let prompt = prompt(&json!({"model": "m", "input": "x", "tools": [{"type": "custom", "name": "shell"}]}));
    let call = |arguments: &str| {
        let call =
            ToolCall { id: "c".into(), name: "shell".into(), arguments: arguments.into(), signature: None };
        vec![Part::ToolCall(call)]
    };
    for (arguments, input) in
        [("{\"input\": \"ls \\\"x\\\"\"}", "ls \"x\""), ("ls", "ls"), ("{\"x\": 1}", "{\"x\": 1}")]
    {
        let got = written(&answer(call(arguments), Finish::ToolCalls), prompt.clone());
        let wanted = json!({"type": "custom_tool_call", "id": "ctc_r1-0", "call_id": "c", "name": "shell",
            "input": input, "status": "completed"});
        assert_eq!(got["output"][0], wanted);
    }
}

/// From the API reference: a web search before a cited text.
#[test]
fn what_only_openai_knows_is_kept() {
    let body = json!({
        "id": "resp_67", "object": "response", "created_at": 1_741_484_430, "status": "completed", "error": null,
        "model": "gpt-5", "output": [
            {"type": "web_search_call", "id": "ws_67", "status": "completed"},
            {"type": "message", "id": "msg_67", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "As of today.", "annotations": [
                    {"type": "url_citation", "start_index": 0, "end_index": 3, "url": "https://x", "title": "X"}],
                 "logprobs": [{"token": "As", "logprob": -0.5, "bytes": [65], "top_logprobs": []}]}]}],
        "usage": {"input_tokens": 328, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 356,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 684}
    });
    let read = Responses.read_answer(body.to_string().as_bytes()).unwrap();
    let [Part::Native { value: search, .. }, Part::Text { text, .. }, Part::Native { value: cited, .. }] =
        &read.choices[0].parts[..]
    else {
        panic!("{:?}", read.choices[0].parts)
    };
    assert_eq!(
        (search["id"].as_str(), text.as_str(), cited["url"].as_str()),
        (Some("ws_67"), "As of today.", Some("https://x"))
    );
    assert_eq!(read.choices[0].logprobs.as_ref().unwrap()["content"][0]["token"], "As");
    assert_eq!(read.usage.map(|u| (u.input, u.output)), Some((328, 356)));
}

#[test]
fn an_error_or_a_fragment_is_no_answer() {
    for (body, says) in [
        ("", "EOF"),
        ("[]", "invalid type"),
        ("{}", "no `output`"),
        (r#"{"error":{"message":"boom","code":"server_error"},"output":[],"status":"failed"}"#, "boom"),
        (r#"{"error":null,"output":[],"status":"failed"}"#, "does not say why"),
        (r#"{"output":[{}]}"#, "no `type`"),
        (r#"{"output":[3]}"#, "no `type`"),
    ] {
        let error = Responses.read_answer(body.as_bytes()).unwrap_err();
        assert!(error.contains(says), "{body}: {error}");
    }
    let queued = Responses.read_answer(br#"{"output":[],"status":"queued"}"#).unwrap();
    assert_eq!(queued.choices[0].finish, Finish::Other("queued".into()));
}

#[test]
fn errors_have_openais_form() {
    let body = Responses.error_body(ErrorClass::RateLimited, "Slow down.", Some("model"), "rate_limited");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        json!({"error": {"message": "Slow down.", "type": "rate_limit_error", "param": "model", "code": "rate_limited"}})
    );
    let read = Responses.read_error(br#"{"error":{"message":"Your input exceeds the context window of this model.","code":"context_length_exceeded"}}"#);
    assert!(read.unwrap().is_context_overflow());
}
