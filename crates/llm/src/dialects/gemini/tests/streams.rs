use super::*;
use crate::sse::Decoder;

fn pieces(events: &[Value]) -> (Vec<Piece>, bool) {
    let (mut reader, mut pieces) = (Gemini.reader(), Vec::new());
    for event in events {
        reader.read("", event.to_string().as_bytes(), &mut pieces).unwrap();
    }
    (pieces, reader.is_whole())
}

fn events(pieces: &[Piece], origin: Dialect) -> Vec<Value> {
    let mut writer = Gemini.writer(frame(origin));
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| writer.write(piece, &mut out));
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(out.into());
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event().unwrap() {
        events.push(serde_json::from_slice(&event.data().unwrap()).unwrap());
    }
    events
}

fn part(part: &Value) -> Value {
    json!({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]})
}

#[test]
fn a_stream_is_read_piece_by_piece() {
    let mut first = part(&json!({"text": "hm", "thought": true}));
    first["responseId"] = "r".into();
    first["modelVersion"] = "gemini-3-pro".into();
    let call =
        json!({"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}, "thoughtSignature": "cw=="});
    let mut last = part(&json!({"text": "", "thoughtSignature": "dA=="}));
    last["candidates"][0]["finishReason"] = "STOP".into();
    last["usageMetadata"] =
        json!({"promptTokenCount": 4, "candidatesTokenCount": 2, "thoughtsTokenCount": 3});
    let unknown = json!({"somethingNew": true});
    let (read, whole) = pieces(&[first.clone(), part(&json!({"text": "hi"})), unknown, part(&call), last]);
    assert!(whole);
    let usage = Usage { input: 4, output: 5, reasoning: 3, ..Usage::default() };
    let (id, name) = ("c".to_owned(), "f".to_owned());
    assert_eq!(
        read,
        [
            Piece::Start { id: Some("r".into()), model: Some("gemini-3-pro".into()) },
            Piece::Reasoning { choice: 0, text: "hm".into() },
            Piece::Text { choice: 0, text: "hi".into() },
            Piece::ToolCall { choice: 0, index: 0, id, name, signature: Some("cw==".into()) },
            Piece::Arguments { choice: 0, index: 0, json: "{\"a\":1}".into() },
            Piece::Signature { choice: 0, signature: "dA==".into(), redacted: true },
            Piece::Finish { choice: 0, reason: Finish::ToolCalls },
            Piece::Usage(usage),
        ]
    );
    assert!(!pieces(&[first]).1, "cut off");
    assert!(!pieces(&[]).1, "nothing came");
}

#[test]
fn a_stream_that_is_blocked_or_fails_says_so() {
    let (read, whole) = pieces(&[json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})]);
    assert_eq!(read[1..], [Piece::Finish { choice: 0, reason: Finish::ContentFilter }]);
    assert!(whole);
    let (read, _) =
        pieces(&[json!({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}})]);
    assert_eq!(read, [Piece::Error { message: "overloaded".into() }]);
    assert!(Gemini.reader().read("", b"{\"candidates\":", &mut Vec::new()).is_err());
    let many = json!({"candidates": [{"index": 5000}]}).to_string();
    assert!(Gemini.reader().read("", many.as_bytes(), &mut Vec::new()).is_err());
}

#[test]
fn a_stream_is_written_as_the_sdks_take_it() {
    let text = |text: &str| Piece::Text { choice: 0, text: text.into() };
    let call = |index, id: &str| Piece::ToolCall {
        choice: 0,
        index,
        id: id.into(),
        name: "f".into(),
        signature: None,
    };
    let more = |index, json: &str| Piece::Arguments { choice: 0, index, json: json.into() };
    let usage = Usage { input: 9, output: 5, reasoning: 2, ..Usage::default() };
    let written = events(
        &[
            Piece::Start { id: Some("msg_1".into()), model: Some("claude".into()) },
            Piece::Usage(Usage { input: 9, ..Usage::default() }),
            Piece::Reasoning { choice: 0, text: "hm".into() },
            Piece::Signature { choice: 0, signature: "sig".into(), redacted: false },
            text("Hel"),
            text("lo"),
            call(0, "a"),
            more(0, "{\"x\":"),
            call(1, "b"),
            more(1, ""),
            more(0, "1}"),
            Piece::Finish { choice: 0, reason: Finish::ToolCalls },
            Piece::Usage(usage),
            Piece::End,
        ],
        Dialect::Messages,
    );
    let chunk = |part: Value| {
        json!({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}],
        "modelVersion": "claude", "responseId": "r1"})
    };
    let sealed = "dGw6bWVzc2FnZXM6c2ln";
    let mut last = chunk(json!({"text": ""}));
    last["candidates"][0]["finishReason"] = "STOP".into();
    last["usageMetadata"] = json!({"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2,
        "totalTokenCount": 14});
    assert_eq!(
        written,
        [
            chunk(json!({"text": "hm", "thought": true})),
            chunk(json!({"text": "", "thought": true, "thoughtSignature": sealed})),
            chunk(json!({"text": "Hel"})),
            chunk(json!({"text": "lo"})),
            chunk(json!({"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}})),
            chunk(json!({"functionCall": {"id": "b", "name": "f", "args": {}}})),
            last,
        ]
    );
    // Sent back as the chunks came, it is the turn it was.
    let contents: Vec<&Value> = written.iter().map(|chunk| &chunk["candidates"][0]["content"]).collect();
    let turns = read(&json!({"contents": contents})).unwrap().turns;
    let [turn] = turns.as_slice() else { panic!("one turn") };
    let origin = Some(Dialect::Messages);
    let thought =
        Reasoning { text: "hm".into(), signature: Some("sig".into()), origin, ..Default::default() };
    assert_eq!(turn.parts[..2], [Part::Reasoning(thought), Part::text("Hello")]);
}

#[test]
fn arguments_that_are_none_end_the_stream_so() {
    let call = Piece::ToolCall { choice: 1, index: 0, id: "a".into(), name: "f".into(), signature: None };
    let more = Piece::Arguments { choice: 1, index: 0, json: "{\"x\":".into() };
    let finish = Piece::Finish { choice: 1, reason: Finish::ToolCalls };
    let written = events(&[call, more, finish, Piece::End], Dialect::Chat);
    let [last] = written.as_slice() else { panic!("one event") };
    assert_eq!(last["candidates"][0]["finishReason"], "MALFORMED_FUNCTION_CALL");
    assert_eq!(last["candidates"][0]["index"], 1);
}
