//! A chat answer as server-sent events: one token of the demo model in each.

use chat::{ChatChunk, ChatRequest, ChunkChoice, Delta, FunctionCallDelta, Role, ToolCallDelta, WireUsage};

use super::reply::{FINGERPRINT, Head, Reply, Said};
use super::{json, text};

/// The events, `[DONE]` included. The usage has a chunk of its own when the request asks for it.
pub(super) fn events(
    request: &ChatRequest,
    head: &Head<'_>,
    replies: &[Reply],
    usage: WireUsage,
) -> Vec<Vec<u8>> {
    let template = ChatChunk {
        id: head.id(),
        object: "chat.completion.chunk".to_owned(),
        created: head.created,
        model: head.model.to_owned(),
        system_fingerprint: Some(FINGERPRINT.to_owned()),
        ..ChatChunk::default()
    };
    let mut events = Vec::new();
    for (index, reply) in (0..).zip(replies) {
        let choices =
            deltas(&reply.said).into_iter().map(|delta| ChunkChoice { index, delta, ..Default::default() });
        let finish = ChunkChoice { index, finish_reason: Some(reply.finish.clone()), ..Default::default() };
        for choice in choices.chain([finish]) {
            events.push(event(&json(&ChatChunk { choices: vec![choice], ..template.clone() })));
        }
    }
    if request.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true)) {
        events.push(event(&json(&ChatChunk { usage: Some(usage), ..template })));
    }
    events.push(event(b"[DONE]"));
    events
}

/// The role, then the text token by token; or the call's id and name, then its arguments token by token.
fn deltas(said: &Said) -> Vec<Delta> {
    let role = Some(Role::Assistant);
    match said {
        Said::Text(text) => {
            let first = Delta { role, content: Some(String::new()), ..Delta::default() };
            let rest =
                text::tokens(text).map(|token| Delta { content: Some(token.to_owned()), ..Delta::default() });
            std::iter::once(first).chain(rest).collect()
        }
        Said::Call { id, name, arguments } => {
            let call = FunctionCallDelta {
                name: Some(name.clone()),
                arguments: Some(String::new()),
                ..Default::default()
            };
            let call = ToolCallDelta {
                id: Some(id.clone()),
                kind: Some("function".to_owned()),
                function: Some(call),
                ..Default::default()
            };
            let first = Delta { role, tool_calls: Some(vec![call]), ..Delta::default() };
            let rest = text::tokens(arguments).map(|token| {
                let call = FunctionCallDelta { arguments: Some(token.to_owned()), ..Default::default() };
                let call = ToolCallDelta { function: Some(call), ..Default::default() };
                Delta { tool_calls: Some(vec![call]), ..Delta::default() }
            });
            std::iter::once(first).chain(rest).collect()
        }
    }
}

fn event(data: &[u8]) -> Vec<u8> {
    [b"data: ", data, b"\n\n"].concat()
}
