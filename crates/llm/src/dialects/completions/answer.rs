//! Whole answers.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{read_finish, write_finish};
use crate::dialects::chat::write_usage;
use crate::form::{Answer, Choice, Finish, Frame, Part};
use crate::openai;

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<WireChoice>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    text: String,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    // What is no answer, and the count as providers differ in writing it, are known there.
    let seen = openai::read_answer(body)?;
    let wire: Wire =
        serde_json::from_slice(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    let choices = wire.choices.into_iter().map(|choice| Choice {
        parts: vec![Part::text(choice.text)],
        finish: choice.finish_reason.as_deref().map_or(Finish::Stop, read_finish),
        logprobs: choice.logprobs.as_ref().and_then(read_logprobs),
    });
    Ok(Answer { id: wire.id, model: wire.model, choices: choices.collect(), usage: seen.usage })
}

pub(super) fn write(answer: &Answer, frame: &Frame) -> Bytes {
    let echo = frame.prompt.echo.get("echo").and_then(Value::as_str).unwrap_or_default();
    let choices = answer.choices.iter().enumerate().map(|(index, choice)| {
        let mut text = echo.to_owned();
        for part in &choice.parts {
            if let Part::Text { text: more, .. } | Part::Refusal(more) = part {
                text.push_str(more);
            }
        }
        json!({
            "text": text,
            "index": index,
            "logprobs": choice.logprobs.as_ref().and_then(|logprobs| write_logprobs(logprobs, echo.chars().count())),
            "finish_reason": write_finish(&choice.finish),
        })
    });
    let mut written = json!({
        "id": format!("cmpl-{}", frame.id),
        "object": "text_completion",
        "created": frame.created,
        "model": answer.model.as_deref().unwrap_or(&frame.model),
        "choices": choices.collect::<Vec<_>>(),
    });
    if let Some(usage) = &answer.usage {
        written["usage"] = json!(write_usage(usage));
    }
    serde_json::to_vec(&written).unwrap_or_default().into()
}

/// Log probabilities in chat's form, from lists that stand side by side.
fn read_logprobs(wire: &Value) -> Option<Value> {
    let list = |name: &str| wire.get(name).and_then(Value::as_array);
    let (tokens, values) = (list("tokens")?, list("token_logprobs")?);
    let tops = list("top_logprobs");
    let one =
        |token: &str, logprob: &Value| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let content = tokens.iter().zip(values).enumerate().filter_map(|(at, (token, logprob))| {
        let mut entry = one(token.as_str()?, logprob);
        let top = tops.and_then(|tops| tops.get(at)).and_then(Value::as_object);
        let top = top.into_iter().flatten().map(|(token, logprob)| one(token, logprob));
        entry["top_logprobs"] = top.collect();
        Some(entry)
    });
    Some(json!({"content": content.collect::<Vec<_>>()}))
}

/// The other way; `offset` is where in the text the answer begins.
fn write_logprobs(chat: &Value, mut offset: usize) -> Option<Value> {
    let content = chat.get("content")?.as_array()?;
    let (mut tokens, mut values, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in content {
        let token = entry.get("token")?.as_str()?;
        offsets.push(offset);
        offset += token.chars().count();
        tokens.push(token);
        values.push(entry.get("logprob")?.clone());
        let top = entry.get("top_logprobs").and_then(Value::as_array).into_iter().flatten();
        let top =
            top.filter_map(|top| Some((top.get("token")?.as_str()?.to_owned(), top.get("logprob")?.clone())));
        tops.push(Value::Object(top.collect()));
    }
    Some(json!({"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}))
}
