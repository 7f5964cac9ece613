use proptest::prelude::*;

use super::*;

fn events(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let events = text.split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    });
    events.collect()
}

fn write(pieces: &[Piece], prompt: Prompt) -> Vec<Value> {
    let mut writer = Responses.writer(frame(prompt));
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| writer.write(piece, &mut out));
    events(&out)
}

fn read(events: &[Value]) -> (Vec<Piece>, bool) {
    let mut reader = Responses.reader();
    let mut pieces = Vec::new();
    for event in events {
        let name = event["type"].as_str().unwrap();
        reader.read(name, event.to_string().as_bytes(), &mut pieces).unwrap();
    }
    (pieces, reader.is_whole())
}

fn text(text: &str) -> Piece {
    Piece::Text { choice: 0, text: text.into() }
}

fn thought(text: &str) -> Piece {
    Piece::Reasoning { choice: 0, text: text.into() }
}

fn signature(signature: &str, redacted: bool) -> Piece {
    Piece::Signature { choice: 0, signature: signature.into(), redacted }
}

fn call(index: u32, id: &str) -> Piece {
    Piece::ToolCall { choice: 0, index, id: id.into(), name: "f".into(), signature: None }
}

fn arguments(index: u32, json: &str) -> Piece {
    Piece::Arguments { choice: 0, index, json: json.into() }
}

fn start() -> Piece {
    Piece::Start { id: Some("up".into()), model: Some("real".into()) }
}

fn finish(reason: Finish) -> [Piece; 3] {
    // Usage comes after the end of the answer with some providers and before it with others.
    [Piece::Finish { choice: 0, reason }, Piece::Usage(usage()), Piece::End]
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}

/// Every event of the API reference for text, in its order and with its members.
#[test]
fn text_is_streamed_as_the_reference_has_it() {
    let mut pieces = vec![start(), text("Hel"), text("lo")];
    pieces.extend(finish(Finish::Stop));
    let got = write(&pieces, asked());
    assert_eq!(
        names(&got),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed"
        ]
    );
    let numbers: Vec<_> = got.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!(got[0]["response"]["status"], "in_progress");
    assert_eq!(
        (&got[0]["response"]["id"], &got[9]["response"]["id"]),
        (&json!("resp_r1"), &json!("resp_r1"))
    );
    assert_eq!(got[0]["response"]["usage"], Value::Null);
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let item = |status: &str, content: Value| json!({"type": "message", "id": "msg_r1-0", "role": "assistant", "status": status, "content": content});
    let place = |at: usize, kind: &str, more: Value| {
        let mut event = json!({"type": format!("response.{kind}"), "sequence_number": at, "output_index": 0});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let within = |at: usize, kind: &str, more: Value| {
        let mut event = place(at, kind, more);
        (event["item_id"], event["content_index"]) = (json!("msg_r1-0"), json!(0));
        event
    };
    assert_eq!(got[2], place(2, "output_item.added", json!({"item": item("in_progress", json!([]))})));
    assert_eq!(got[3], within(3, "content_part.added", json!({"part": part("")})));
    assert_eq!(got[4], within(4, "output_text.delta", json!({"delta": "Hel", "logprobs": []})));
    assert_eq!(got[6], within(6, "output_text.done", json!({"text": "Hello", "logprobs": []})));
    assert_eq!(got[7], within(7, "content_part.done", json!({"part": part("Hello")})));
    assert_eq!(
        got[8],
        place(8, "output_item.done", json!({"item": item("completed", json!([part("Hello")]))}))
    );
    let last = &got[9]["response"];
    assert_eq!((last["status"].as_str(), last["model"].as_str()), (Some("completed"), Some("real")));
    assert_eq!(last["output"], json!([item("completed", json!([part("Hello")]))]));
    assert_eq!(last["usage"]["total_tokens"], 29);
}

/// Two calls whose arguments come side by side, after reasoning that is proved.
#[test]
fn reasoning_and_calls_are_streamed() {
    let mut pieces = vec![
        start(),
        thought("I "),
        thought("think."),
        signature("si", false),
        signature("g", false),
        signature("hidden", true),
        call(0, "c1"),
        call(1, "c2"),
        arguments(0, "{\"a\""),
        arguments(1, "{}"),
        arguments(0, ":1}"),
    ];
    pieces.extend(finish(Finish::ToolCalls));
    let got = write(&pieces, asked());
    assert_eq!(
        names(&got),
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "output_item.done",
            "output_item.added",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "function_call_arguments.done",
            "output_item.done",
            "completed"
        ]
    );
    let output = &got[20]["response"]["output"];
    assert_eq!(
        *output,
        json!([
            {"type": "reasoning", "id": "rs_r1-0", "summary": [{"type": "summary_text", "text": "I think."}],
             "encrypted_content": "tl:messages:sig"},
            {"type": "reasoning", "id": "rs_r1-1", "summary": [], "encrypted_content": "tl:messages:hidden"},
            {"type": "function_call", "id": "fc_r1-2", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}",
             "status": "completed"},
            {"type": "function_call", "id": "fc_r1-3", "call_id": "c2", "name": "f", "arguments": "{}",
             "status": "completed"}
        ])
    );
    assert_eq!(got[15]["item_id"], "fc_r1-2");
    assert_eq!(got[16]["arguments"], "{\"a\":1}");
}

#[test]
fn a_stream_that_is_cut_short_says_so() {
    let mut pieces = vec![start(), text("x"), Piece::Refusal { choice: 0, text: "No.".into() }];
    pieces.extend(finish(Finish::Length));
    let got = write(&pieces, asked());
    let last = got.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
    assert_eq!(last["response"]["output"][0]["content"][1], json!({"type": "refusal", "refusal": "No."}));
    assert!(names(&got).contains(&"refusal.done"));
}

/// OpenAI tells the error first, then what came until then.
#[test]
fn a_failure_ends_the_stream() {
    let mut writer = Responses.writer(frame(asked()));
    let mut out = Vec::new();
    for piece in [start(), text("Hel"), Piece::Usage(usage())] {
        writer.write(&piece, &mut out);
    }
    assert!(writer.fail(ErrorClass::Server, "It broke off.", "stream_broken", &mut out));
    let got = events(&out);
    let [error, failed] = &got[got.len() - 2..] else { panic!() };
    assert_eq!(
        *error,
        json!({"type": "error", "sequence_number": 5, "code": "stream_broken", "message": "It broke off.",
            "param": null, "error": {"type": "server_error", "code": "stream_broken", "message": "It broke off.",
            "param": null}})
    );
    assert_eq!(
        (failed["type"].as_str(), failed["sequence_number"].as_u64()),
        (Some("response.failed"), Some(6))
    );
    let response = &failed["response"];
    assert_eq!(response["id"], "resp_r1");
    assert_eq!(response["error"], json!({"code": "server_error", "message": "It broke off."}));
    assert_eq!(response["output"][0]["content"][0]["text"], "Hel");
    assert_eq!(response["output"][0]["status"], "incomplete");
    let (pieces, whole) = read(&got);
    assert!(!whole);
    assert!(pieces.contains(&Piece::Error { message: "It broke off.".into() }));
}

#[test]
fn a_custom_tool_is_streamed_with_text() {
    let prompt = prompt(&json!({"model": "m", "input": "x", "tools": [{"type": "custom", "name": "f"}]}));
    let mut pieces = vec![start(), call(0, "c1"), arguments(0, "{\"input\""), arguments(0, ": \"ls\"}")];
    pieces.extend(finish(Finish::ToolCalls));
    let got = write(&pieces, prompt);
    assert_eq!(
        names(&got)[2..],
        [
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "completed"
        ]
    );
    assert_eq!((&got[3]["delta"], &got[4]["input"]), (&json!("ls"), &json!("ls")));
    let (pieces, _) = read(&got);
    assert!(pieces.contains(&arguments(0, "{\"input\":\"ls\"}")), "{pieces:?}");
}

/// Hosts differ in what they leave out; errors come in three forms.
#[test]
fn a_reader_takes_what_hosts_send() {
    // Items that are only told when they are done.
    let done =
        |at: u64, item: Value| json!({"type": "response.output_item.done", "output_index": at, "item": item});
    let (pieces, whole) = read(&[
        json!({"type": "response.created", "response": {"id": "r", "model": "m"}}),
        json!({"type": "response.some_new_thing", "x": 1}),
        done(
            0,
            json!({"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}], "encrypted_content": "e"}),
        ),
        done(1, json!({"type": "message", "content": [{"type": "output_text", "text": "hi"}]})),
        done(2, json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"})),
        json!({"type": "response.completed", "response": {"status": "completed", "output": []}}),
    ]);
    assert!(whole);
    assert_eq!(
        pieces,
        [
            Piece::Start { id: Some("r".into()), model: Some("m".into()) },
            thought("a\n\nb"),
            signature("e", false),
            text("hi"),
            call(0, "c"),
            arguments(0, "{}"),
            Piece::Finish { choice: 0, reason: Finish::ToolCalls },
            Piece::End,
        ]
    );
    for error in [
        json!({"type": "error", "code": "x", "message": "boom", "param": null, "sequence_number": 3}),
        json!({"type": "error", "error": {"type": "server_error", "code": null, "message": "boom"}, "sequence_number": 3}),
        json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "boom"}}}),
    ] {
        assert_eq!(read(&[error]).0, [Piece::Error { message: "boom".into() }]);
    }
    let mut reader = Responses.reader();
    for bad in [
        "{",
        "{\"type\":\"response.output_text.delta\"}",
        "{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}",
    ] {
        assert!(reader.read("", bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
    }
    assert!(reader.read("", b"[DONE]", &mut Vec::new()).is_ok());
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let word = || "[a-z \"\\\\é\n]{1,6}";
    let one = prop_oneof![
        word().prop_map(|t| vec![text(&t)]),
        (word(), word()).prop_map(|(t, s)| vec![thought(&t), signature(&s, false)]),
        word().prop_map(|s| vec![signature(&s, true)]),
        word().prop_map(|t| vec![Piece::Refusal { choice: 0, text: t }]),
        word().prop_map(|json| vec![call(0, "id"), arguments(0, &json)]),
    ];
    prop::collection::vec(one, 0..8).prop_map(|list| {
        let mut calls = 0;
        let mut all = vec![start()];
        for mut piece in list.into_iter().flatten() {
            match &mut piece {
                Piece::ToolCall { index, id, .. } => {
                    (*index, *id) = (calls, format!("c{calls}"));
                    calls += 1;
                }
                Piece::Arguments { index, .. } => *index = calls - 1,
                _ => {}
            }
            all.push(piece);
        }
        all
    })
}

/// The pieces of a stream as a whole answer has them.
fn gathered(pieces: &[Piece]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut calls = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text { text, .. } => match parts.last_mut() {
                Some(Part::Text { text: open, .. }) => open.push_str(text),
                _ => parts.push(Part::text(text.clone())),
            },
            Piece::Refusal { text, .. } => match parts.last_mut() {
                Some(Part::Refusal(open)) => open.push_str(text),
                _ => parts.push(Part::Refusal(text.clone())),
            },
            Piece::Reasoning { text, .. } => {
                parts.push(Part::Reasoning(Reasoning { text: text.clone(), ..Reasoning::default() }));
            }
            Piece::Signature { signature, redacted, .. } => {
                let sealed = crate::form::seal(Dialect::Messages, Dialect::Responses, signature);
                match parts.last_mut() {
                    Some(Part::Reasoning(open)) if !redacted => open.signature = Some(sealed),
                    _ => parts.push(Part::Reasoning(Reasoning {
                        signature: Some(sealed),
                        redacted: *redacted,
                        ..Reasoning::default()
                    })),
                }
            }
            Piece::ToolCall { id, .. } => {
                calls.push(parts.len());
                parts.push(Part::ToolCall(ToolCall {
                    id: id.clone(),
                    name: "f".into(),
                    ..ToolCall::default()
                }));
            }
            Piece::Arguments { index, json, .. } => {
                if let Part::ToolCall(call) = &mut parts[calls[*index as usize]] {
                    call.arguments.push_str(json);
                }
            }
            _ => {}
        }
    }
    parts
}

proptest! {
    /// What is written as a stream is read as the same; and its last event is the whole answer.
    #[test]
    fn a_stream_comes_back(body in pieces(), count in any::<[u16; 5]>()) {
        let [input, cached_input, cache_write, output, reasoning] = count.map(u64::from);
        let usage = Usage {
            input: input + cached_input + cache_write, cached_input, cache_write,
            output: output + reasoning, reasoning,
                        ..Usage::default()
        };
        let mut all = body.clone();
        all.extend([Piece::Finish { choice: 0, reason: Finish::Stop }, Piece::Usage(usage), Piece::End]);
        let got = write(&all, asked());
        let (back, whole) = read(&got);
        prop_assert!(whole);
        prop_assert_eq!(back.last(), Some(&Piece::End));
        prop_assert!(back.contains(&Piece::Usage(usage)));
        // What came sealed is the same after it; unsealed here to be compared.
        let parts = gathered(&body);
        let mut read_parts = gathered(&back);
        for part in &mut read_parts {
            if let Part::Reasoning(Reasoning { signature: Some(sealed), .. }) = part {
                *sealed = sealed.trim_start_matches("tl:messages:").to_owned();
                *sealed = crate::form::seal(Dialect::Messages, Dialect::Responses, sealed);
            }
        }
        let order = |parts: &[Part]| {
            // Calls may end after what follows them.
            let mut sorted: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
            sorted.sort();
            sorted
        };
        prop_assert_eq!(order(&read_parts), order(&parts));
        let last = &got.last().unwrap()["response"];
        let kept = Responses.read_answer(last.to_string().as_bytes()).unwrap();
        prop_assert_eq!(kept.usage, Some(usage));
        let calls = |parts: &[Part]| parts.iter().filter(|part| matches!(part, Part::ToolCall(_))).cloned().collect::<Vec<_>>();
        prop_assert_eq!(calls(&kept.choices[0].parts), calls(&parts));
    }
}
