use base::Usage;
use serde_json::{Value, json};

use super::frame;
use crate::Dialect;
use crate::dialect::{Egress as _, Ingress as _, StreamReader};
use crate::dialects::messages::Messages;
use crate::form::{Finish, Piece};
use crate::sse::Decoder;

fn read_all(reader: &mut dyn StreamReader, events: &[Value]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for event in events {
        reader.read("", event.to_string().as_bytes(), &mut pieces).unwrap();
    }
    pieces
}

fn written(pieces: &[Piece], origin: Dialect) -> Vec<(String, Value)> {
    let mut writer = Messages.writer(frame(origin));
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| writer.write(piece, &mut out));
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(out.into());
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event().unwrap() {
        let name = String::from_utf8(event.name().unwrap().to_vec()).unwrap();
        events.push((name, serde_json::from_slice(&event.data().unwrap()).unwrap()));
    }
    events
}

/// The documentation's example of a stream with thinking and a tool.
fn example() -> Vec<Value> {
    vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
               "model": "claude-opus-4-8", "content": [], "stop_reason": null, "stop_sequence": null,
               "usage": {"input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 1}}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "I solve it"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQB"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": " 1}"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}}),
        json!({"type": "content_block_stop", "index": 3}),
        json!({"type": "something_new", "index": 9}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 15}}),
        json!({"type": "message_stop"}),
    ]
}

fn pieces() -> Vec<Piece> {
    let usage = |output| Usage { input: 25, cached_input: 5, output, ..Usage::default() };
    let call = |index, id: &str, name: &str| Piece::ToolCall {
        choice: 0,
        index,
        id: id.into(),
        name: name.into(),
        signature: None,
    };
    let arguments = |index, json: &str| Piece::Arguments { choice: 0, index, json: json.into() };
    vec![
        Piece::Start { id: Some("msg_1".into()), model: Some("claude-opus-4-8".into()) },
        Piece::Usage(usage(1)),
        Piece::Reasoning { choice: 0, text: "I solve it".into() },
        Piece::Signature { choice: 0, signature: "EqQB".into(), redacted: false },
        Piece::Text { choice: 0, text: "Hello".into() },
        call(0, "toolu_1", "f"),
        arguments(0, "{\"a\":"),
        arguments(0, " 1}"),
        call(1, "toolu_2", "g"),
        arguments(1, "{}"),
        Piece::Usage(usage(15)),
        Piece::Finish { choice: 0, reason: Finish::ToolCalls },
        Piece::End,
    ]
}

/// Mutations: `ping` taken for an error; the empty arguments of a call not filled in.
#[test]
fn a_stream_is_read_piece_by_piece() {
    let mut reader = Messages.reader();
    let events = example();
    assert_eq!(read_all(reader.as_mut(), &events[..17]).len(), 10);
    assert!(!reader.is_whole());
    let mut reader = Messages.reader();
    assert_eq!(read_all(reader.as_mut(), &events), pieces());
    assert!(reader.is_whole());
}

/// Mutations: signature told in parts; a block not closed before the next; usage of `message_delta` left out.
#[test]
fn a_stream_is_written_in_the_order_that_clients_expect() {
    let events = written(&pieces(), Dialect::Messages);
    for (name, event) in &events {
        assert_eq!(event["type"], *name);
    }
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let (start, delta, stop) = ("content_block_start", "content_block_delta", "content_block_stop");
    assert_eq!(
        names,
        [
            "message_start",
            start,
            delta,
            delta,
            stop,
            start,
            delta,
            stop,
            start,
            delta,
            delta,
            stop,
            start,
            delta,
            stop,
            "message_delta",
            "message_stop"
        ]
    );
    let indexes: Vec<u64> = events.iter().filter_map(|(_, event)| event["index"].as_u64()).collect();
    assert_eq!(indexes, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]);
    assert_eq!(events[3].1["delta"], json!({"type": "signature_delta", "signature": "EqQB"}));
    assert_eq!(events[15].1["delta"]["stop_reason"], "tool_use");
    assert_eq!(
        events[15].1["usage"],
        json!({"input_tokens": 20, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0, "output_tokens": 15})
    );
    let again: Vec<Value> = events.into_iter().map(|(_, event)| event).collect();
    let mut expected = pieces();
    // What a client is told at first is what was known then.
    expected[1] = Piece::Usage(Usage::default());
    assert_eq!(read_all(Messages.reader().as_mut(), &again), expected);
}

#[test]
fn foreign_reasoning_is_sealed_on_the_way() {
    let pieces = [
        Piece::Start { id: None, model: None },
        Piece::Reasoning { choice: 0, text: "a".into() },
        Piece::Signature { choice: 0, signature: "x".into(), redacted: false },
        Piece::Signature { choice: 0, signature: "y".into(), redacted: false },
        Piece::Signature { choice: 0, signature: "z".into(), redacted: true },
        Piece::Text { choice: 1, text: "another answer".into() },
        Piece::ToolCall {
            choice: 0,
            index: 0,
            id: "a/b".into(),
            name: "f".into(),
            signature: Some("t".into()),
        },
        Piece::Arguments { choice: 0, index: 0, json: "{}".into() },
        Piece::Finish { choice: 0, reason: Finish::Stop },
        Piece::End,
    ];
    let events = written(&pieces, Dialect::Gemini);
    let find = |kind: &str| {
        events.iter().find(|(_, e)| e["delta"]["type"] == kind || e["content_block"]["type"] == kind)
    };
    assert_eq!(find("signature_delta").unwrap().1["delta"]["signature"], "tl:gemini:xy");
    let redacted: Vec<_> = events.iter().filter_map(|(_, e)| e["content_block"]["data"].as_str()).collect();
    assert_eq!(redacted, ["tl:gemini:z", "tl-call:t"]);
    assert_eq!(find("text_delta"), None);
    assert_eq!(events[events.len() - 2].1["delta"]["stop_reason"], "tool_use");
    assert_eq!(events[0].1["message"]["model"], "alias");
}

#[test]
fn errors_and_nonsense_are_told_apart() {
    let mut reader = Messages.reader();
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    assert_eq!(read_all(reader.as_mut(), &[error]), [Piece::Error { message: "Overloaded".into() }]);
    for bad in ["", "[]", "{", r#"{"type":"content_block_start","index":0}"#, r#"{"type":"message_start"}"#] {
        assert!(reader.read("", bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
    }
    let open = |index: u64| json!({"type": "content_block_start", "index": index, "content_block": {"type": "text"}});
    let mut reader = Messages.reader();
    let many = (0..2000)
        .find(|index| reader.read("", open(*index).to_string().as_bytes(), &mut Vec::new()).is_err());
    assert_eq!(many, Some(1024));
}
