//! Gemini's `generateContent`.
//!
//! Sources: <https://ai.google.dev/api/generate-content>, <https://ai.google.dev/gemini-api/docs/troubleshooting>.

use serde_json::{Value, json};

use super::{Said, json_reply};
use crate::chat::{self, ERROR_EVENT_MESSAGE, TOOL_ARGUMENTS, TOOL_CALL_ID, TOOL_NAME, pieces};
use crate::reply::Reply;

/// The usage of every answer: of what OpenAI counts as [`chat::COMPLETION_TOKENS`] the thoughts stand apart.
fn usage() -> Value {
    json!({
        "promptTokenCount": chat::PROMPT_TOKENS,
        "cachedContentTokenCount": chat::CACHED_TOKENS,
        "candidatesTokenCount": chat::COMPLETION_TOKENS - chat::REASONING_TOKENS,
        "thoughtsTokenCount": chat::REASONING_TOKENS,
        "totalTokenCount": chat::PROMPT_TOKENS + chat::COMPLETION_TOKENS,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": chat::PROMPT_TOKENS}],
    })
}

/// What the others call so, in Gemini's word.
fn reason(word: &str) -> &'static str {
    match word {
        "end_turn" => "STOP",
        "max_tokens" => "MAX_TOKENS",
        _ => "SAFETY",
    }
}

fn call() -> Value {
    let args: Value = serde_json::from_str(TOOL_ARGUMENTS).expect("the arguments are JSON");
    let call = json!({"id": TOOL_CALL_ID, "name": TOOL_NAME, "args": args});
    json!({"functionCall": call, "thoughtSignature": "c2lnbmF0dXJl"})
}

fn response(parts: &Value, reason: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if let Some(reason) = reason {
        candidate["finishReason"] = reason.into();
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage(),
        "modelVersion": chat::MODEL,
        "responseId": "fake-response-1",
    })
}

/// A whole answer.
pub(super) fn whole(said: &Said<'_>) -> Value {
    match said {
        Said::Text(text, word) => response(&json!([{"text": text}]), Some(reason(word))),
        Said::Call => response(&json!([call()]), Some("STOP")),
    }
}

/// A stream: every event is a response of its own, and nothing follows the one that says why it ends.
pub(super) fn events(said: &Said<'_>) -> Vec<Vec<u8>> {
    let event = |parts: &Value, reason: Option<&str>| {
        format!("data: {}\r\n\r\n", response(parts, reason)).into_bytes()
    };
    let mut steps = vec![event(&json!([{"text": ""}]), None)];
    let last = match said {
        Said::Text(text, word) => {
            steps.extend(pieces(text).into_iter().map(|text| event(&json!([{"text": text}]), None)));
            reason(word)
        }
        Said::Call => {
            steps.push(event(&json!([call()]), None));
            "STOP"
        }
    };
    steps.push(event(&json!([{"text": ""}]), Some(last)));
    // The end, which is the end of the body.
    steps.push(Vec::new());
    steps
}

/// An error body. A key that is refused is a wrong argument to Google.
pub(super) fn error(status: u16, message: &str) -> Reply {
    let (code, name) = match status {
        400 | 401 => (400, "INVALID_ARGUMENT"),
        403 => (403, "PERMISSION_DENIED"),
        404 => (404, "NOT_FOUND"),
        429 => (429, "RESOURCE_EXHAUSTED"),
        503 => (503, "UNAVAILABLE"),
        504 => (504, "DEADLINE_EXCEEDED"),
        _ => (status, "INTERNAL"),
    };
    let details = match status {
        401 => json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
            "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}}]),
        _ => json!([]),
    };
    json_reply(
        code,
        &json!({"error": {"code": code, "message": message, "status": name, "details": details}}),
    )
}

/// The error that arrives within a stream.
pub(super) fn error_event() -> Vec<u8> {
    let error = json!({"code": 503, "message": ERROR_EVENT_MESSAGE, "status": "UNAVAILABLE"});
    format!("data: {}\r\n\r\n", json!({"error": error})).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::CONTENT;

    #[test]
    fn a_stream_says_what_a_whole_answer_says() {
        let steps = events(&Said::Text(CONTENT, "end_turn"));
        let data = steps.iter().filter(|step| !step.is_empty()).map(|step| {
            let text = std::str::from_utf8(step).unwrap();
            serde_json::from_str::<Value>(text.strip_prefix("data: ").unwrap().trim_end()).unwrap()
        });
        let data: Vec<Value> = data.collect();
        let texts = data.iter().map(|event| &event["candidates"][0]["content"]["parts"][0]["text"]);
        let text: String = texts.filter_map(Value::as_str).collect();
        let whole = whole(&Said::Text(CONTENT, "end_turn"));
        assert_eq!(whole["candidates"][0]["content"]["parts"][0]["text"], text);
        assert_eq!(data.last().unwrap()["usageMetadata"], whole["usageMetadata"]);
        assert_eq!(data.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    }
}
