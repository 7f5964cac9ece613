//! What every dialect with two sides gives back as it took it: tools, calls, results, signatures, usage.

use base::Usage;
use proptest::prelude::*;
use serde_json::json;

use super::{clients, egress, ingress, model};
use crate::Dialect;
use crate::form::{
    Answer, Choice, Finish, Frame, Losses, Part, Prompt, Reasoning, Role, Tool, ToolCall, ToolFunction,
    ToolResult, Turn,
};

/// The dialects that are read and written on both sides, and know tools.
fn both() -> impl Iterator<Item = Dialect> {
    clients().filter(|dialect| *dialect != Dialect::Completions && egress(*dialect).is_some())
}

/// A conversation with tools, as any client might have it.
fn conversation() -> impl Strategy<Value = Prompt> {
    let call = ("[a-c]", 0u32..99, "[a-z ]{1,9}");
    let step = prop::collection::vec(call, 1..4);
    let names = prop::collection::btree_set("[a-d]{1,6}", 1..4);
    (names, prop::collection::vec(step, 1..4)).prop_map(|(names, steps)| {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let tools = names.into_iter().map(|name| {
            let description = Some(format!("does {name}"));
            Tool::Function(ToolFunction {
                name,
                description,
                parameters: Some(schema.clone()),
                ..ToolFunction::default()
            })
        });
        let turn = |role, parts| Turn { role, name: None, parts };
        let mut turns = vec![turn(Role::User, vec![Part::text("go")])];
        let mut made = 0;
        for step in steps {
            let (mut calls, mut results) = (Vec::new(), Vec::new());
            for (name, number, text) in step {
                made += 1;
                let (id, arguments) = (format!("call_{made}"), json!({"n": number}).to_string());
                calls.push(Part::ToolCall(ToolCall { id: id.clone(), name, arguments, signature: None }));
                let parts = vec![Part::text(text)];
                results.push(Part::ToolResult(ToolResult { call_id: id, parts, ..ToolResult::default() }));
            }
            turns.push(turn(Role::Assistant, calls));
            turns.push(turn(Role::User, results));
        }
        Prompt { turns, tools: tools.collect(), choices: 1, ..Prompt::default() }
    })
}

/// The calls and results of a conversation, each with its id.
fn exchanged(prompt: &Prompt) -> Vec<(String, String)> {
    let parts = prompt.turns.iter().flat_map(|turn| &turn.parts);
    let told = parts.filter_map(|part| match part {
        Part::ToolCall(call) => {
            let arguments: serde_json::Value = serde_json::from_str(&call.arguments).unwrap();
            Some((call.id.clone(), format!("{}({arguments})", call.name)))
        }
        Part::ToolResult(result) => {
            let texts = result.parts.iter().map(|part| match part {
                Part::Text { text, .. } => text.as_str(),
                _ => "?",
            });
            Some((result.call_id.clone(), texts.collect()))
        }
        _ => None,
    });
    told.collect()
}

fn names_and_schemas(prompt: &Prompt) -> Vec<(String, Option<String>, Option<serde_json::Value>)> {
    let functions = prompt.tools.iter().map(|tool| match tool {
        Tool::Function(one) => (one.name.clone(), one.description.clone(), one.parameters.clone()),
        Tool::Native { value, .. } => (value.to_string(), None, None),
    });
    functions.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tools_calls_and_results(prompt in conversation()) {
        for dialect in both() {
            let body = egress(dialect).unwrap().write_prompt(&prompt, model(dialect), &mut Losses::default()).unwrap();
            let again = ingress(dialect).unwrap().read_prompt(&body, Some(("m", false))).unwrap();
            prop_assert_eq!(exchanged(&again), exchanged(&prompt), "{:?}", dialect);
            prop_assert_eq!(names_and_schemas(&again), names_and_schemas(&prompt), "{:?}", dialect);
        }
    }

    /// A signature comes back to its maker as it was.
    #[test]
    fn signatures(signature in "[A-Za-z0-9+/]{4,20}", redacted in any::<bool>()) {
        for dialect in both() {
            let thought = Reasoning {
                text: if redacted { String::new() } else { "hm".to_owned() },
                signature: Some(signature.clone()),
                redacted,
                origin: Some(dialect),
                id: None,
            };
            let turn = |role, parts| Turn { role, name: None, parts };
            let ask = turn(Role::User, vec![Part::text("q")]);
            let told = turn(Role::Assistant, vec![Part::Reasoning(thought), Part::text("so")]);
            let prompt = Prompt { turns: vec![ask.clone(), told, ask], choices: 1, ..Prompt::default() };
            let mut losses = Losses::default();
            let body = egress(dialect).unwrap().write_prompt(&prompt, model(dialect), &mut losses).unwrap();
            let again = ingress(dialect).unwrap().read_prompt(&body, Some(("m", false))).unwrap();
            let found = again.turns.iter().flat_map(|turn| &turn.parts).find_map(|part| match part {
                Part::Reasoning(found) => Some((found.origin, found.signature.as_deref())),
                _ => None,
            });
            prop_assert_eq!(found, Some((Some(dialect), Some(signature.as_str()))), "{:?}", dialect);
        }
    }

    #[test]
    fn usage(input in 0u64..1000, cached in 0u64..1000, output in 0u64..1000, reasoning in 0u64..1000) {
        let reasoning = reasoning.min(output);
        let usage = Usage { input, cached_input: cached.min(input), output, reasoning, ..Usage::default() };
        for dialect in both() {
            let choice = Choice { parts: vec![Part::text("a")], finish: Finish::Stop, logprobs: None };
            let answer = Answer { choices: vec![choice], usage: Some(usage), ..Answer::default() };
            let frame = Frame {
                id: "1".into(),
                model: "m".into(),
                origin: dialect,
                created: 1,
                prompt: std::sync::Arc::default(),
            };
            let body = ingress(dialect).unwrap().write_answer(&answer, &frame);
            let read = egress(dialect).unwrap().read_answer(&body).unwrap().usage.unwrap();
            // Anthropic does not tell what of the answer was reasoning.
            let told = if dialect == Dialect::Messages { Usage { reasoning: read.reasoning, ..usage } } else { usage };
            prop_assert_eq!(read, told, "{:?}", dialect);
        }
    }
}
