//! What the demo model says to a checked chat request.

use std::collections::HashMap;

use chat::{
    ChatRequest, ChatResponse, Choice, CompletionTokensDetails, Content, ContentPart, FinishReason,
    FunctionCall, FunctionDefinition, Message, PromptTokensDetails, ResponseFormat, Role, ToolCall,
    ToolChoice, ToolChoiceMode, WireUsage,
};
use serde_json::{Value, json};

use super::text::{self, Words};
use super::{Refusal, check, schema};

/// What marks each answer as the demo model's.
pub(super) const FINGERPRINT: &str = "trunkline-demo";

/// How much of a message is quoted, in bytes.
const QUOTED: usize = 600;

/// Tool results that are quoted at most, the newest ones.
const QUOTED_RESULTS: usize = 8;

/// Tokens that a message costs beside its text, and an image.
const PER_MESSAGE: u64 = 4;
const PER_IMAGE: u64 = 85;

/// What all parts of an answer have in common.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// The request's hash, which the ids are made of.
    pub hash: u64,
    /// Unix seconds.
    pub created: u64,
    pub model: &'a str,
}

impl Head<'_> {
    pub(super) fn id(&self) -> String {
        format!("chatcmpl-demo-{:016x}", self.hash)
    }
}

/// One answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub said: Said,
    pub finish: FinishReason,
    pub tokens: u64,
}

/// A text, or a call.
#[derive(Debug)]
pub(super) enum Said {
    Text(String),
    Call { id: String, name: String, arguments: String },
}

/// The `n` answers to a request.
pub(super) fn replies(request: &ChatRequest, hash: u64) -> Result<Vec<Reply>, Refusal> {
    let most = request.max_completion_tokens.or(request.max_tokens);
    let user = request.messages.iter().rev().find(|message| message.role == Role::User);
    let asked = user.map(Message::plain_text).unwrap_or_default();
    let call = tool_call(request, &asked)?;
    let count = request.n.unwrap_or(1);
    let mut replies = Vec::new();
    for index in 0..count {
        replies.push(match &call {
            Some((name, arguments)) => {
                let (arguments, cut, tokens) = shorten(arguments.clone(), most);
                let finish = if cut { FinishReason::Length } else { FinishReason::ToolCalls };
                let id = format!("call_demo_{hash:016x}_{index}");
                Reply { said: Said::Call { id, name: name.clone(), arguments }, finish, tokens }
            }
            None => {
                let text = until_stop(text_answer(request, &asked, index, count)?, request);
                let (text, cut, tokens) = shorten(text, most);
                let finish = if cut { FinishReason::Length } else { FinishReason::Stop };
                Reply { said: Said::Text(text), finish, tokens }
            }
        });
    }
    Ok(replies)
}

/// The first `most` tokens of a text; whether that left something out; how many tokens it has now.
fn shorten(mut text: String, most: Option<u64>) -> (String, bool, u64) {
    let most = most.unwrap_or(u64::MAX);
    let (mut end, mut count) = (0, 0);
    for token in text::tokens(&text) {
        if count == most {
            break;
        }
        end += token.len();
        count += 1;
    }
    let cut = end < text.len();
    text.truncate(end);
    (text, cut, count)
}

/// The text before the first stop text in it. An empty stop text stops nothing.
fn until_stop(mut text: String, request: &ChatRequest) -> String {
    let stops = request.stop.iter().flat_map(chat::Stop::as_slice).filter(|stop| !stop.is_empty());
    if let Some(end) = stops.filter_map(|stop| text.find(stop.as_str())).min() {
        text.truncate(end);
    }
    text
}

/// The function to call, if one is, and its arguments as JSON text. Only a user's message is answered by a
/// call: after a tool's result the model must come to an end.
fn tool_call(request: &ChatRequest, asked: &str) -> Result<Option<(String, String)>, Refusal> {
    if request.messages.last().is_none_or(|last| last.role != Role::User) {
        return Ok(None);
    }
    let Some((index, function)) = chosen_function(request, asked) else { return Ok(None) };
    let arguments = match &function.parameters {
        None => json!({}),
        Some(parameters) => schema::fill(parameters, &Words::of(asked)).map_err(|why| {
            let param = format!("tools[{index}].function.parameters");
            let message = format!("Trunkline's demo model cannot fill '{param}': {why}.");
            Refusal::invalid(param, "invalid_function_parameters", message)
        })?,
    };
    Ok(Some((function.name.clone(), arguments.to_string())))
}

fn chosen_function<'a>(request: &'a ChatRequest, asked: &str) -> Option<(usize, &'a FunctionDefinition)> {
    let asked = text::telling_words(asked);
    let related = |function: &FunctionDefinition| {
        let about = format!("{} {}", function.name, function.description.as_deref().unwrap_or_default());
        !text::telling_words(&about).is_disjoint(&asked)
    };
    let mut functions = check::functions(request);
    match &request.tool_choice {
        Some(ToolChoice::Mode(ToolChoiceMode::None)) => None,
        Some(ToolChoice::Named(named)) => {
            functions.find(|(_, function)| function.name == named.function.name)
        }
        Some(ToolChoice::Mode(ToolChoiceMode::Required)) => {
            functions.find(|(_, function)| related(function)).or_else(|| check::functions(request).next())
        }
        Some(ToolChoice::Mode(ToolChoiceMode::Auto) | ToolChoice::Other(_)) | None => {
            functions.find(|(_, function)| related(function))
        }
    }
}

/// What is said when no tool is called, in the form that was asked for.
fn text_answer(request: &ChatRequest, asked: &str, index: u64, count: u64) -> Result<String, Refusal> {
    match &request.response_format {
        Some(ResponseFormat::JsonObject { .. }) => {
            Ok(json!({"demo": true, "answer": sentences(request, asked, index, count)}).to_string())
        }
        Some(ResponseFormat::JsonSchema { json_schema, .. }) => {
            let schema = json_schema.schema.as_ref().unwrap_or(&Value::Bool(true));
            let filled = schema::fill(schema, &Words::of(asked)).map_err(|why| {
                let param = "response_format.json_schema.schema";
                let message = format!("Trunkline's demo model cannot fill '{param}': {why}.");
                Refusal::invalid(param, "invalid_json_schema", message)
            })?;
            Ok(filled.to_string())
        }
        _ => Ok(sentences(request, asked, index, count)),
    }
}

fn sentences(request: &ChatRequest, asked: &str, index: u64, count: u64) -> String {
    let results = tool_results(request);
    let mut text = "[demo]".to_owned();
    if results.is_empty() {
        if asked.trim().is_empty() {
            text.push_str(" You said nothing.");
        } else {
            text.push_str(&format!(" You said: \"{}\".", quote(asked)));
        }
    }
    for (name, result) in &results {
        text.push_str(&format!(" The tool {} answered: \"{}\".", quote(name), quote(result)));
    }
    match images(request) {
        0 => {}
        1 => text.push_str(" I received 1 image, which I cannot see."),
        many => text.push_str(&format!(" I received {many} images, which I cannot see.")),
    }
    if count > 1 {
        text.push_str(&format!(" This is answer {} of {count}.", index + 1));
    }
    text.push_str(" I am Trunkline's built-in demo model: I run offline and answer by fixed rules.");
    text
}

/// The results of tools that the conversation ends with: the tool's name, and what it said.
fn tool_results(request: &ChatRequest) -> Vec<(String, String)> {
    let calls = request.messages.iter().flat_map(|message| message.tool_calls.iter().flatten());
    let names: HashMap<&str, &str> =
        calls.filter_map(|call| Some((call.id.as_str(), call.function.as_ref()?.name.as_str()))).collect();
    let last = request.messages.iter().rev().take_while(|message| message.role == Role::Tool);
    let mut results: Vec<_> = last
        .take(QUOTED_RESULTS)
        .map(|message| {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            (names.get(id).copied().unwrap_or(id).to_owned(), message.plain_text())
        })
        .collect();
    results.reverse();
    results
}

/// A text, or its beginning when it is long.
fn quote(text: &str) -> String {
    let beginning = text::beginning(text, QUOTED);
    if beginning.len() < text.len() { format!("{beginning}…") } else { text.to_owned() }
}

fn images(request: &ChatRequest) -> u64 {
    let images = request.messages.iter().map(|message| match &message.content {
        Some(Content::Parts(parts)) => {
            parts.iter().filter(|part| matches!(part, ContentPart::ImageUrl(_))).count() as u64
        }
        _ => 0,
    });
    images.sum()
}

/// What the call used, by the demo model's own tokens.
pub(super) fn usage(request: &ChatRequest, replies: &[Reply]) -> WireUsage {
    let messages = request.messages.iter().map(|message| {
        let calls = message.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref());
        let called: u64 = calls.map(|call| text::count(&call.name) + text::count(&call.arguments)).sum();
        PER_MESSAGE + called + text::count(&message.plain_text())
    });
    let tools = check::functions(request).map(|(_, function)| {
        let parameters = function.parameters.as_ref().map(Value::to_string).unwrap_or_default();
        let description = function.description.as_deref().unwrap_or_default();
        text::count(&function.name) + text::count(description) + text::count(&parameters)
    });
    let prompt_tokens = messages.sum::<u64>() + tools.sum::<u64>() + PER_IMAGE * images(request);
    let completion_tokens = replies.iter().map(|reply| reply.tokens).sum();
    WireUsage {
        prompt_tokens,
        completion_tokens,
        total_tokens: prompt_tokens + completion_tokens,
        prompt_tokens_details: Some(PromptTokensDetails { cached_tokens: Some(0), ..Default::default() }),
        completion_tokens_details: Some(CompletionTokensDetails {
            reasoning_tokens: Some(0),
            ..Default::default()
        }),
        ..WireUsage::default()
    }
}

/// The answer in one piece.
pub(super) fn whole(head: &Head<'_>, replies: Vec<Reply>, usage: WireUsage) -> ChatResponse {
    let choices = (0..).zip(replies).map(|(index, reply)| {
        let message = match reply.said {
            Said::Text(text) => Message::text(Role::Assistant, text),
            Said::Call { id, name, arguments } => Message {
                role: Role::Assistant,
                tool_calls: Some(vec![ToolCall {
                    id,
                    kind: "function".to_owned(),
                    function: Some(FunctionCall { name, arguments, ..FunctionCall::default() }),
                    ..ToolCall::default()
                }]),
                ..Message::default()
            },
        };
        Choice { index, message, finish_reason: Some(reply.finish), ..Choice::default() }
    });
    ChatResponse {
        id: head.id(),
        object: "chat.completion".to_owned(),
        created: head.created,
        model: head.model.to_owned(),
        choices: choices.collect(),
        usage: Some(usage),
        system_fingerprint: Some(FINGERPRINT.to_owned()),
        ..ChatResponse::default()
    }
}
