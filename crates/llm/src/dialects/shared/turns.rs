//! A conversation in the order that Anthropic and Bedrock want it: instructions apart, user and assistant in turn.

use std::collections::BTreeSet;

use crate::dialects::shared::refuse;
use crate::form::{Losses, Part, Prompt, Role};
use crate::openai::Refusal;

/// Stands in the place of the user's first words, when a conversation begins with the model's.
pub(in crate::dialects) const OPENING: &str = "…";

/// What was said, in order.
pub(in crate::dialects) struct Talk<'a> {
    /// Instructions for all of it.
    pub system: Vec<&'a Part>,
    /// Turns whose roles differ from their neighbours'.
    pub turns: Vec<(Role, Vec<&'a Part>)>,
}

/// Orders a conversation. Where `keeps_place`, instructions right after a user's turn stay there; others move to the
/// front, which is told. The results of tools come first in their turn, as they must.
pub(in crate::dialects) fn order<'a>(
    prompt: &'a Prompt,
    keeps_place: bool,
    losses: &mut Losses,
) -> Result<Talk<'a>, Refusal> {
    let mut talk = Talk { system: Vec::new(), turns: Vec::new() };
    for (at, turn) in prompt.turns.iter().enumerate() {
        if turn.name.is_some() {
            losses.note("messages.name");
        }
        if turn.role == Role::System {
            let after_user = talk.turns.last().is_some_and(|(role, _)| *role != Role::Assistant);
            let following = prompt.turns[at + 1..].iter().find(|turn| turn.role != Role::System);
            let before_answer = following.is_none_or(|turn| turn.role == Role::Assistant);
            if talk.turns.is_empty() || !(keeps_place && after_user && before_answer) {
                if !talk.turns.is_empty() {
                    losses.note("place of a system message");
                }
                talk.system.extend(&turn.parts);
                continue;
            }
        }
        match talk.turns.last_mut() {
            Some((role, parts)) if *role == turn.role => parts.extend(&turn.parts),
            _ => talk.turns.push((turn.role, turn.parts.iter().collect())),
        }
    }
    talk.turns.retain(|(_, parts)| !parts.is_empty());
    for (role, parts) in &mut talk.turns {
        if *role == Role::User {
            results_first(parts);
        }
    }
    if talk.turns.is_empty() {
        let text = "This model's provider needs a message of role `user`: add one to `messages`.";
        return Err(refuse("messages", text));
    }
    Ok(talk)
}

fn results_first(parts: &mut Vec<&Part>) {
    let (mut results, mut others, mut marks) = (Vec::with_capacity(parts.len()), Vec::new(), false);
    for part in parts.drain(..) {
        // An empty text carries the mark of the part before it.
        let mark = marks && matches!(part, Part::Text { text, .. } if text.is_empty());
        marks = mark || matches!(part, Part::ToolResult(_));
        if marks { results.push(part) } else { others.push(part) }
    }
    results.append(&mut others);
    *parts = results;
}

/// The tools that the conversation called and the request no longer offers: a provider wants to know every tool
/// whose calls it reads.
pub(in crate::dialects) fn called(prompt: &Prompt) -> BTreeSet<&str> {
    let parts = prompt.turns.iter().flat_map(|turn| &turn.parts);
    parts
        .filter_map(|part| match part {
            Part::ToolCall(call) => Some(call.name.as_str()),
            _ => None,
        })
        .collect()
}
