//! The fake provider in dialects other than OpenAI's: the same answers and faults as [`crate::chat`], in Anthropic's
//! messages, Bedrock's Converse and Gemini's `generateContent`. Texts follow the documentation of each.
//!
//! The pieces of a stream stand for the same steps in every dialect: the beginning, parts of content, the reason to
//! end, the end. So a fault that comes after so many pieces comes at the same place of the answer.
//!
//! Sources: <https://platform.claude.com/docs/en/build-with-claude/streaming>,
//! <https://platform.claude.com/docs/en/api/errors>,
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html>,
//! <https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html> (framing).

mod gemini;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::ask::{Ask, Surface};
use crate::chat::{self, CONTENT, ERROR_EVENT_MESSAGE, TOOL_ARGUMENTS, TOOL_CALL_ID, TOOL_NAME, pieces};
use crate::reply::{Ending, Framing, Piece, Reply};

/// What an answer of the fake says.
#[derive(Debug, Clone)]
pub(crate) enum Said<'a> {
    /// This text, and why it ends, in Anthropic's word.
    Text(&'a str, &'a str),
    /// A call of [`TOOL_NAME`].
    Call,
}

/// The usage of every answer: of what OpenAI counts as [`chat::PROMPT_TOKENS`] the cached part stands apart.
pub fn messages_usage() -> Value {
    json!({
        "input_tokens": chat::PROMPT_TOKENS - chat::CACHED_TOKENS,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": chat::CACHED_TOKENS,
        "output_tokens": chat::COMPLETION_TOKENS,
        "output_tokens_details": {"thinking_tokens": chat::REASONING_TOKENS},
    })
}

fn converse_usage() -> Value {
    json!({
        "inputTokens": chat::PROMPT_TOKENS - chat::CACHED_TOKENS,
        "outputTokens": chat::COMPLETION_TOKENS,
        "totalTokens": chat::PROMPT_TOKENS + chat::COMPLETION_TOKENS,
        "cacheReadInputTokens": chat::CACHED_TOKENS,
        "cacheWriteInputTokens": 0,
    })
}

/// A good answer in the dialect of the request.
pub(crate) fn answer(ask: &Ask, said: &Said<'_>) -> Reply {
    match (ask.surface, ask.stream) {
        (Surface::CountTokens, _) => json_reply(200, &json!({"input_tokens": chat::PROMPT_TOKENS})),
        (Surface::Messages, false) => json_reply(200, &message(said)),
        (Surface::Messages, true) => stream("text/event-stream; charset=utf-8", message_events(said)),
        (Surface::Gemini, false) => json_reply(200, &gemini::whole(said)),
        (Surface::Gemini, true) => stream("text/event-stream", gemini::events(said)),
        (_, false) => json_reply(200, &converse(said)),
        (_, true) => stream("application/vnd.amazon.eventstream", converse_events(said)),
    }
}

/// The usual good answer.
pub(crate) fn good(ask: &Ask) -> Reply {
    answer(ask, &Said::Text(CONTENT, "end_turn"))
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::whole(status, "application/json", body.to_string())
}

fn stream(media: &str, pieces: Vec<Vec<u8>>) -> Reply {
    let pieces = pieces.into_iter().map(Piece::now).collect();
    let reply = Reply::whole(200, media, Bytes::new());
    Reply { framing: Framing::Chunked, pieces, ending: Ending::Complete, ..reply }
}

/// A whole message.
fn message(said: &Said<'_>) -> Value {
    let (content, reason) = match said {
        Said::Text(text, reason) => (json!([{"type": "text", "text": text}]), *reason),
        Said::Call => {
            let input: Value = serde_json::from_str(TOOL_ARGUMENTS).expect("the arguments are JSON");
            (json!([{"type": "tool_use", "id": TOOL_CALL_ID, "name": TOOL_NAME, "input": input}]), "tool_use")
        }
    };
    json!({
        "id": "msg_fake_1", "type": "message", "role": "assistant", "model": chat::MODEL, "content": content,
        "stop_reason": reason, "stop_sequence": null, "usage": messages_usage(),
    })
}

fn message_events(said: &Said<'_>) -> Vec<Vec<u8>> {
    let (block, deltas, reason) = match said {
        Said::Text(text, reason) => {
            let deltas = pieces(text).into_iter().map(|text| json!({"type": "text_delta", "text": text}));
            (json!({"type": "text", "text": ""}), deltas.collect::<Vec<_>>(), *reason)
        }
        Said::Call => {
            let parts = [&TOOL_ARGUMENTS[..2], &TOOL_ARGUMENTS[2..8], &TOOL_ARGUMENTS[8..]];
            let deltas = parts.map(|part| json!({"type": "input_json_delta", "partial_json": part}));
            let block = json!({"type": "tool_use", "id": TOOL_CALL_ID, "name": TOOL_NAME, "input": {}});
            (block, deltas.to_vec(), "tool_use")
        }
    };
    let mut usage = messages_usage();
    usage["output_tokens"] = 1.into();
    let begin = json!({
        "id": "msg_fake_1", "type": "message", "role": "assistant", "model": chat::MODEL, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    let mut steps = vec![
        [
            event("message_start", &json!({"type": "message_start", "message": begin})),
            event(
                "content_block_start",
                &json!({"type": "content_block_start", "index": 0, "content_block": block}),
            ),
            event("ping", &json!({"type": "ping"})),
        ]
        .concat(),
    ];
    let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
    steps.extend(deltas.into_iter().map(|part| event("content_block_delta", &delta(part))));
    let end = json!({"stop_reason": reason, "stop_sequence": null});
    let end = json!({"type": "message_delta", "delta": end, "usage": messages_usage()});
    let closed = json!({"type": "content_block_stop", "index": 0});
    steps.push([event("content_block_stop", &closed), event("message_delta", &end)].concat());
    steps.push(event("message_stop", &json!({"type": "message_stop"})));
    steps
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// A whole answer of Converse.
fn converse(said: &Said<'_>) -> Value {
    let (content, reason) = match said {
        Said::Text(text, reason) => (json!([{"text": text}]), *reason),
        Said::Call => {
            let input: Value = serde_json::from_str(TOOL_ARGUMENTS).expect("the arguments are JSON");
            (json!([{"toolUse": {"toolUseId": TOOL_CALL_ID, "name": TOOL_NAME, "input": input}}]), "tool_use")
        }
    };
    json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason, "usage": converse_usage(), "metrics": {"latencyMs": 5},
    })
}

fn converse_events(said: &Said<'_>) -> Vec<Vec<u8>> {
    let mut begin = frame("event", "messageStart", &json!({"role": "assistant", "p": "abc"}));
    let (deltas, reason): (Vec<Value>, &str) = match said {
        Said::Text(text, reason) => {
            (pieces(text).into_iter().map(|text| json!({"text": text})).collect(), *reason)
        }
        Said::Call => {
            let start = json!({"toolUse": {"toolUseId": TOOL_CALL_ID, "name": TOOL_NAME}});
            begin.extend(frame(
                "event",
                "contentBlockStart",
                &json!({"contentBlockIndex": 0, "start": start}),
            ));
            let parts = [&TOOL_ARGUMENTS[..2], &TOOL_ARGUMENTS[2..8], &TOOL_ARGUMENTS[8..]];
            (parts.map(|part| json!({"toolUse": {"input": part}})).to_vec(), "tool_use")
        }
    };
    let mut steps = vec![begin];
    steps.extend(deltas.into_iter().map(|delta| {
        frame("event", "contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": delta, "p": "abcdef"}))
    }));
    steps.push(
        [
            frame("event", "contentBlockStop", &json!({"contentBlockIndex": 0})),
            frame("event", "messageStop", &json!({"stopReason": reason})),
        ]
        .concat(),
    );
    let metadata = json!({"usage": converse_usage(), "metrics": {"latencyMs": 5}});
    steps.push(frame("event", "metadata", &metadata));
    steps
}

/// One message of AWS's event stream, of kind `event` or `exception`.
pub fn frame(kind: &str, name: &str, payload: &Value) -> Vec<u8> {
    let named = if kind == "event" { ":event-type" } else { ":exception-type" };
    let mut headers = Vec::new();
    for (key, value) in [(named, name), (":content-type", "application/json"), (":message-type", kind)] {
        headers.push(u8::try_from(key.len()).expect("a short name"));
        headers.extend_from_slice(key.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).expect("a short value").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let length = |n: usize| u32::try_from(n).expect("a short message").to_be_bytes();
    let mut out = [length(16 + headers.len() + payload.len()), length(headers.len())].concat();
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

/// An error body in the dialect of the request.
pub(crate) fn error(ask: &Ask, status: u16, message: &str) -> Reply {
    if matches!(ask.surface, Surface::Messages | Surface::CountTokens) {
        let kind = match status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        let error = json!({"type": kind, "message": message});
        return json_reply(status, &json!({"type": "error", "error": error, "request_id": chat::REQUEST_ID}));
    }
    if ask.surface == Surface::Gemini {
        return gemini::error(status, message);
    }
    let kind = match status {
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    };
    let mut reply = json_reply(status, &json!({"message": message}));
    reply.set_header("x-amzn-errortype", kind);
    reply
}

/// The error that arrives within a stream.
pub(crate) fn error_event(surface: Surface) -> Vec<u8> {
    match surface {
        Surface::Messages => {
            let error = json!({"type": "overloaded_error", "message": ERROR_EVENT_MESSAGE});
            event("error", &json!({"type": "error", "error": error}))
        }
        Surface::Gemini => gemini::error_event(),
        _ => frame("exception", "modelStreamErrorException", &json!({"message": ERROR_EVENT_MESSAGE})),
    }
}

/// A piece of a stream that cannot be read: JSON that breaks off, a checksum that is wrong.
pub(crate) fn malformed_event(surface: Surface) -> Vec<u8> {
    match surface {
        Surface::Messages => {
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"in\n\n".to_vec()
        }
        Surface::Gemini => b"data: {\"candidates\": [{\"con\n\n".to_vec(),
        _ => {
            let delta = json!({"contentBlockIndex": 0, "delta": {"text": "x"}});
            let mut bytes = frame("event", "contentBlockDelta", &delta);
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            bytes
        }
    }
}
