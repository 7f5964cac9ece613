//! Whole chat answers.

use ::chat::{
    ChatResponse, Choice as WireChoice, CompletionTokensDetails, Content, ContentPart, Extra, FinishReason,
    Message, PromptTokensDetails, Role, WireUsage,
};
use base::Usage;
use bytes::Bytes;

use super::{reasoning, write};
use crate::Dialect;
use crate::form::{Answer, Choice, Finish, Frame, Part, Reasoning, ToolCall};
use crate::openai;

pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    // What is no answer, and the count as providers differ in writing it, are known there.
    let seen = openai::read_answer(body)?;
    let wire: ChatResponse =
        serde_json::from_slice(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    Ok(Answer {
        id: Some(wire.id).filter(|id| !id.is_empty()),
        model: Some(wire.model).filter(|model| !model.is_empty()),
        choices: wire.choices.into_iter().map(read_choice).collect(),
        usage: seen.usage,
    })
}

fn read_choice(wire: WireChoice) -> Choice {
    let Message { content, refusal, tool_calls, mut extra, .. } = wire.message;
    let mut parts: Vec<Part> = Vec::new();
    for mut thought in reasoning::take(&mut extra) {
        thought.origin = thought.origin.or(Some(Dialect::Chat));
        parts.push(Part::Reasoning(thought));
    }
    match content {
        Some(Content::Text(text)) if !text.is_empty() => parts.push(Part::text(text)),
        Some(Content::Parts(wire)) => parts.extend(wire.into_iter().map(|part| match part {
            ContentPart::Text(text) => Part::text(text.text),
            ContentPart::Refusal(refusal) => Part::Refusal(refusal.refusal),
            other => Part::Native {
                dialect: Dialect::Chat,
                value: serde_json::to_value(other).unwrap_or_default(),
            },
        })),
        _ => {}
    }
    let refused = refusal.as_ref().is_some_and(|text| !text.is_empty());
    parts.extend(refusal.filter(|text| !text.is_empty()).map(Part::Refusal));
    for wire in tool_calls.unwrap_or_default() {
        let signature = wire.extra.get("extra_content");
        let signature = signature.and_then(|extra| extra.pointer("/google/thought_signature"));
        let signature = signature.and_then(|value| value.as_str()).map(str::to_owned);
        let function = wire.function.unwrap_or_default();
        let (name, arguments) = (function.name, function.arguments);
        parts.push(Part::ToolCall(ToolCall { id: wire.id, name, arguments, signature }));
    }
    let finish = match wire.finish_reason {
        Some(FinishReason::Stop) | None if refused => Finish::Refusal,
        Some(reason) => read_finish(&reason),
        None => Finish::Stop,
    };
    Choice { parts, finish, logprobs: wire.logprobs.filter(|logprobs| !logprobs.is_null()) }
}

pub(super) fn read_finish(reason: &FinishReason) -> Finish {
    match reason {
        FinishReason::Stop => Finish::Stop,
        FinishReason::Length => Finish::Length,
        FinishReason::ToolCalls => Finish::ToolCalls,
        FinishReason::ContentFilter => Finish::ContentFilter,
        FinishReason::Other(word) if word == "function_call" => Finish::ToolCalls,
        FinishReason::Other(word) => Finish::Other(word.clone()),
    }
}

pub(super) fn write_finish(finish: &Finish) -> FinishReason {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause => FinishReason::Stop,
        Finish::Length => FinishReason::Length,
        Finish::ToolCalls => FinishReason::ToolCalls,
        Finish::ContentFilter | Finish::Refusal => FinishReason::ContentFilter,
        Finish::Other(_) => FinishReason::Stop,
    }
}

pub(super) fn write(answer: &Answer, frame: &Frame) -> Bytes {
    let choices = answer.choices.iter().zip(0..).map(|(choice, index)| write_choice(choice, index, frame));
    let response = ChatResponse {
        id: format!("chatcmpl-{}", frame.id),
        object: "chat.completion".into(),
        created: frame.created,
        model: answer.model.clone().unwrap_or_else(|| frame.model.clone()),
        choices: choices.collect(),
        usage: answer.usage.as_ref().map(write_usage),
        ..ChatResponse::default()
    };
    serde_json::to_vec(&response).unwrap_or_default().into()
}

fn write_choice(choice: &Choice, index: u64, frame: &Frame) -> WireChoice {
    let (mut text, mut refusal, mut calls) = (None::<String>, None::<String>, Vec::new());
    let mut thoughts: Vec<&Reasoning> = Vec::new();
    for part in &choice.parts {
        match part {
            Part::Text { text: more, .. } => text.get_or_insert_default().push_str(more),
            Part::Refusal(more) => refusal.get_or_insert_default().push_str(more),
            Part::Reasoning(thought) => thoughts.push(thought),
            Part::ToolCall(call) => calls.push(write::write_call(call)),
            // A citation or a step of the provider's own tool: chat has no place for it, and its text stands beside.
            Part::Native { .. } | Part::Image(_) | Part::Audio(_) | Part::File(_) | Part::ToolResult(_) => {}
        }
    }
    let mut extra = Extra::new();
    reasoning::put(&mut extra, &thoughts, frame.origin);
    let message = Message {
        role: Role::Assistant,
        content: text.map(Content::Text),
        refusal,
        tool_calls: (!calls.is_empty()).then_some(calls),
        extra,
        ..Message::default()
    };
    let finish_reason = Some(write_finish(&choice.finish));
    WireChoice { index, message, finish_reason, logprobs: choice.logprobs.clone(), extra: Extra::new() }
}

pub(crate) fn write_usage(usage: &Usage) -> WireUsage {
    let mut extra = Extra::new();
    if usage.estimated {
        extra.insert("estimated".into(), true.into());
    }
    let mut details = Extra::new();
    if usage.cache_write > 0 {
        details.insert("cache_write_tokens".into(), usage.cache_write.into());
    }
    WireUsage {
        prompt_tokens: usage.input,
        completion_tokens: usage.output,
        total_tokens: usage.input + usage.output,
        prompt_tokens_details: Some(PromptTokensDetails {
            cached_tokens: Some(usage.cached_input),
            audio_tokens: None,
            extra: details,
        }),
        completion_tokens_details: Some(CompletionTokensDetails {
            reasoning_tokens: Some(usage.reasoning),
            ..CompletionTokensDetails::default()
        }),
        extra,
    }
}
