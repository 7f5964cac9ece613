//! The texts that the fake provider answers with, byte for byte.
//!
//! An event is the text of one server-sent event without the blank line that ends it, as
//! [`StreamResponse::next_event`](crate::StreamResponse::next_event) returns it. Whole bodies are indented,
//! as OpenAI's are, so that a gateway that parses and prints them again is found out.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The answer of the fake.
pub const CONTENT: &str = "Hello from the upstream.";
/// The model that answers name, whatever model was asked for.
pub const MODEL: &str = "fake-model-1";
/// The id of every completion.
pub const ID: &str = "chatcmpl-fake-1";
/// The value of the upstream's `x-request-id` header.
pub const REQUEST_ID: &str = "req_upstream_1";
/// `usage.prompt_tokens` of a chat answer.
pub const PROMPT_TOKENS: u64 = 11;
/// `usage.completion_tokens` of a chat answer.
pub const COMPLETION_TOKENS: u64 = 7;
/// `usage.prompt_tokens_details.cached_tokens`: counted inside [`PROMPT_TOKENS`].
pub const CACHED_TOKENS: u64 = 3;
/// `usage.completion_tokens_details.reasoning_tokens`: counted inside [`COMPLETION_TOKENS`].
pub const REASONING_TOKENS: u64 = 2;
/// `usage.prompt_tokens` of one embedding input.
pub const EMBEDDING_TOKENS: u64 = 4;
/// The last event of a stream.
pub const DONE: &str = "data: [DONE]";
/// The id of the tool call.
pub const TOOL_CALL_ID: &str = "call_fake_1";
/// The function that the tool call names.
pub const TOOL_NAME: &str = "get_weather";
/// The arguments of the tool call.
pub const TOOL_ARGUMENTS: &str = r#"{"city":"Paris"}"#;
/// The message of an error that arrives as an event within a stream.
pub const ERROR_EVENT_MESSAGE: &str = "The server had an error while processing your request.";

/// The `usage` object of a chat answer.
pub const USAGE: &str = r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}"#;

/// The events of the usual streamed answer: role, five of content, finish, usage when asked for, `[DONE]`.
pub fn events(include_usage: bool) -> Vec<String> {
    text_events(CONTENT, "stop", include_usage)
}

/// The usual body of an answer that is not streamed.
pub fn body() -> String {
    text_body(CONTENT, "stop")
}

/// A string as a JSON literal.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One `chat.completion.chunk`, with a delta as JSON text and a finish reason.
pub fn chunk(delta: &str, finish: Option<&str>) -> String {
    let finish = finish.map_or_else(|| "null".to_owned(), quote);
    let head = chunk_head();
    format!(
        r#"data: {head},"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]}}"#
    )
}

/// The event that carries only the usage: no choices.
pub fn usage_event() -> String {
    format!(r#"data: {},"choices":[],"usage":{USAGE}}}"#, chunk_head())
}

/// The event of an error within a stream.
pub fn error_event() -> String {
    let message = quote(ERROR_EVENT_MESSAGE);
    format!(r#"data: {{"error":{{"message":{message},"type":"server_error","param":null,"code":null}}}}"#)
}

/// An event whose data is not JSON: a chunk that breaks off.
pub fn malformed_event() -> String {
    format!(r#"data: {},"choices":[{{"index":0,"delta":{{"content":" br"#, chunk_head())
}

/// The events of a text answer with this finish reason.
pub fn text_events(text: &str, finish: &str, include_usage: bool) -> Vec<String> {
    let mut events = vec![chunk(r#"{"role":"assistant","content":"","refusal":null}"#, None)];
    events.extend(
        pieces(text).into_iter().map(|piece| chunk(&format!(r#"{{"content":{}}}"#, quote(piece)), None)),
    );
    finish_events(events, finish, include_usage)
}

/// The events of the tool call: its name, its arguments in three parts, finish reason `tool_calls`.
pub fn tool_events(include_usage: bool) -> Vec<String> {
    let mut events = vec![chunk(
        &format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"{TOOL_CALL_ID}","type":"function","function":{{"name":"{TOOL_NAME}","arguments":""}}}}],"refusal":null}}"#
        ),
        None,
    )];
    for part in [&TOOL_ARGUMENTS[..2], &TOOL_ARGUMENTS[2..8], &TOOL_ARGUMENTS[8..]] {
        let part = quote(part);
        let delta = format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{part}}}}}]}}"#);
        events.push(chunk(&delta, None));
    }
    finish_events(events, "tool_calls", include_usage)
}

/// The body of a text answer with this finish reason.
pub fn text_body(text: &str, finish: &str) -> String {
    let message = format!(
        r#"{{
        "role": "assistant",
        "content": {},
        "refusal": null,
        "annotations": []
      }}"#,
        quote(text)
    );
    message_body(&message, finish)
}

/// The body of the tool call.
pub fn tool_body() -> String {
    let message = format!(
        r#"{{
        "role": "assistant",
        "content": null,
        "tool_calls": [
          {{
            "id": "{TOOL_CALL_ID}",
            "type": "function",
            "function": {{
              "name": "{TOOL_NAME}",
              "arguments": {}
            }}
          }}
        ],
        "refusal": null
      }}"#,
        quote(TOOL_ARGUMENTS)
    );
    message_body(&message, "tool_calls")
}

/// The usual body without its `usage`.
pub fn body_without_usage() -> String {
    let body = body();
    let start = body.find(",\n  \"usage\"").expect("the body has usage");
    let end = body.find(",\n  \"service_tier\"").expect("the body has a service tier");
    format!("{}{}", &body[..start], &body[end..])
}

/// The body of an embedding answer: for input `i` the vector `[(i + 1) / 4, -0.5]`.
pub fn embeddings_body(inputs: usize, base64: bool) -> String {
    let vectors: Vec<String> = (0..inputs)
        .map(|index| {
            let vector = embedding(index);
            let vector = match base64 {
                true => quote(&BASE64_STANDARD.encode(vector.map(f32::to_le_bytes).concat())),
                false => format!("[{:?}, {:?}]", vector[0], vector[1]),
            };
            format!(
                r#"    {{
      "object": "embedding",
      "index": {index},
      "embedding": {vector}
    }}"#
            )
        })
        .collect();
    let tokens = EMBEDDING_TOKENS * inputs as u64;
    format!(
        r#"{{
  "object": "list",
  "data": [
{}
  ],
  "model": "{MODEL}",
  "usage": {{
    "prompt_tokens": {tokens},
    "total_tokens": {tokens}
  }}
}}
"#,
        vectors.join(",\n")
    )
}

/// The vector that answers the input of this index.
pub fn embedding(index: usize) -> [f32; 2] {
    let position = u16::try_from(index + 1).expect("at most 65535 inputs");
    [f32::from(position) / 4.0, -0.5]
}

/// The list of models: [`MODEL`] alone.
pub fn models_body() -> String {
    format!(
        r#"{{
  "object": "list",
  "data": [
    {{
      "id": "{MODEL}",
      "object": "model",
      "created": 1700000000,
      "owned_by": "testkit"
    }}
  ]
}}
"#
    )
}

/// An error body in OpenAI's form. `code` and `param` become JSON `null` when absent.
pub fn error_body(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> String {
    let or_null = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quote);
    format!(
        r#"{{
  "error": {{
    "message": {},
    "type": {},
    "param": {},
    "code": {}
  }}
}}
"#,
        quote(message),
        quote(kind),
        or_null(param),
        or_null(code)
    )
}

/// The same events as a provider sends them that puts `"usage":null` into every chunk when usage was asked for.
pub fn with_null_usage(events: Vec<String>) -> Vec<String> {
    let add = |event: String| match event.strip_suffix("}]}") {
        Some(start) => format!("{start}}}],\"usage\":null}}"),
        None => event,
    };
    events.into_iter().map(add).collect()
}

fn finish_events(mut events: Vec<String>, finish: &str, include_usage: bool) -> Vec<String> {
    events.push(chunk("{}", Some(finish)));
    if include_usage {
        events.push(usage_event());
    }
    events.push(DONE.to_owned());
    events
}

fn chunk_head() -> String {
    format!(
        r#"{{"id":"{ID}","object":"chat.completion.chunk","created":1700000000,"model":"{MODEL}","system_fingerprint":"fp_fake""#
    )
}

fn message_body(message: &str, finish: &str) -> String {
    format!(
        r#"{{
  "id": "{ID}",
  "object": "chat.completion",
  "created": 1700000000,
  "model": "{MODEL}",
  "choices": [
    {{
      "index": 0,
      "message": {message},
      "logprobs": null,
      "finish_reason": "{finish}"
    }}
  ],
  "usage": {{
    "prompt_tokens": {PROMPT_TOKENS},
    "completion_tokens": {COMPLETION_TOKENS},
    "total_tokens": {},
    "prompt_tokens_details": {{
      "cached_tokens": {CACHED_TOKENS}
    }},
    "completion_tokens_details": {{
      "reasoning_tokens": {REASONING_TOKENS}
    }}
  }},
  "service_tier": "default",
  "system_fingerprint": "fp_fake"
}}
"#,
        PROMPT_TOKENS + COMPLETION_TOKENS
    )
}

/// A text in the parts that a model would send: words with the space before them, and a last full stop.
pub(crate) fn pieces(text: &str) -> Vec<&str> {
    let (mut rest, stop) = match text.strip_suffix('.') {
        Some(start) if !start.is_empty() => text.split_at(start.len()),
        _ => (text, ""),
    };
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[first..].find(' ').map_or(rest.len(), |space| space + first);
        let (piece, tail) = rest.split_at(end);
        pieces.push(piece);
        rest = tail;
    }
    pieces.extend((!stop.is_empty()).then_some(stop));
    pieces
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn data(event: &str) -> Value {
        serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()
    }

    #[test]
    fn the_stream_has_the_shape_of_openai() {
        let with = events(true);
        let without = events(false);
        assert_eq!((with.len(), without.len()), (9, 8));
        assert_eq!([&with[..7], &with[8..]].concat(), without);
        assert_eq!(data(&with[0])["choices"][0]["delta"]["content"], "");
        let content: String = with[1..6]
            .iter()
            .map(|event| data(event)["choices"][0]["delta"]["content"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(content, CONTENT);
        assert_eq!(data(&with[6])["choices"][0]["finish_reason"], "stop");
        assert_eq!(data(&with[7])["choices"], json!([]));
        assert_eq!(data(&with[7])["usage"], serde_json::from_str::<Value>(USAGE).unwrap());
        assert_eq!(with[8], DONE);
    }

    #[test]
    fn bodies_agree_with_the_events() {
        let whole: Value = serde_json::from_str(&body()).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], CONTENT);
        assert_eq!(whole["usage"], serde_json::from_str::<Value>(USAGE).unwrap());
        let bare: Value = serde_json::from_str(&body_without_usage()).unwrap();
        assert_eq!(bare.get("usage"), None);
        assert_eq!(bare["choices"], whole["choices"]);
    }

    #[test]
    fn the_tool_call_is_the_same_streamed_and_whole() {
        let events = tool_events(false);
        let arguments: String = events[..4]
            .iter()
            .map(|event| {
                let delta = &data(event)["choices"][0]["delta"]["tool_calls"][0];
                delta["function"]["arguments"].as_str().unwrap().to_owned()
            })
            .collect();
        let whole: Value = serde_json::from_str(&tool_body()).unwrap();
        let call = &whole["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(arguments, TOOL_ARGUMENTS);
        assert_eq!(call["function"]["arguments"], TOOL_ARGUMENTS);
        assert_eq!(data(&events[4])["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn embeddings_are_numbers_or_base64() {
        let numbers: Value = serde_json::from_str(&embeddings_body(2, false)).unwrap();
        assert_eq!(numbers["data"][1]["embedding"], json!([0.5, -0.5]));
        assert_eq!(numbers["usage"]["prompt_tokens"], 8);
        let encoded: Value = serde_json::from_str(&embeddings_body(1, true)).unwrap();
        assert_eq!(encoded["data"][0]["embedding"], "AACAPgAAAL8=");
    }

    #[test]
    fn null_usage_is_in_every_chunk_but_the_last() {
        let events = with_null_usage(events(true));
        assert!(events[..7].iter().all(|event| data(event).get("usage") == Some(&Value::Null)));
        assert_eq!(events[7..], [usage_event(), DONE.to_owned()]);
    }

    #[test]
    fn broken_data_is_broken_and_error_data_is_an_error() {
        assert!(serde_json::from_str::<Value>(&malformed_event()["data: ".len()..]).is_err());
        assert_eq!(data(&error_event())["error"]["message"], ERROR_EVENT_MESSAGE);
    }
}
