//! What goes through a foreign client or provider and back is the same.

use base::Usage;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{frame, write};
use crate::Dialect;
use crate::dialect::{Egress as _, Ingress as _};
use crate::dialects::messages::Messages;
use crate::form::{
    Answer, Choice, Finish, Part, Prompt, Reasoning, Role, Tool, ToolCall, ToolChoice, ToolFunction,
    ToolResult, Turn,
};

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(
        "[a-z]{1,4}",
        prop_oneof![any::<i32>().prop_map(Value::from), ".{0,6}".prop_map(Value::from)],
        0..4,
    )
    .prop_map(|map| json!(map))
}

fn call() -> impl Strategy<Value = ToolCall> {
    ("[a-zA-Z0-9_-]{1,20}", "[a-z]{1,8}", object()).prop_map(|(id, name, arguments)| ToolCall {
        id,
        name,
        arguments: arguments.to_string(),
        signature: None,
    })
}

fn thought() -> impl Strategy<Value = Reasoning> {
    ("[a-z ]{0,9}", "[a-zA-Z0-9+/=]{1,20}", any::<bool>()).prop_map(|(text, signature, redacted)| Reasoning {
        text: if redacted { String::new() } else { text },
        signature: Some(signature),
        redacted,
        origin: Some(Dialect::Messages),
        id: None,
    })
}

fn prompt() -> impl Strategy<Value = Prompt> {
    let tool = ("[a-z]{1,8}", any::<bool>(), object()).prop_map(|(name, strict, properties)| {
        Tool::Function(ToolFunction {
            name,
            description: Some("d".into()),
            parameters: Some(
                json!({"type": "object", "title": properties.to_string(), "additionalProperties": false}),
            ),
            strict: strict.then_some(true),
            cache: strict.then(|| json!({"type": "ephemeral"})),
        })
    });
    (
        prop::collection::vec(thought(), 0..3),
        prop::collection::vec(call(), 1..4),
        prop::collection::vec(tool, 1..4),
        prop::option::of(prop_oneof![
            Just(ToolChoice::Auto),
            Just(ToolChoice::None),
            Just(ToolChoice::Required)
        ]),
        any::<bool>(),
    )
        .prop_map(|(thoughts, calls, tools, tool_choice, is_error)| {
            let results = calls.iter().map(|call| {
                let parts = vec![Part::text("r")];
                Part::ToolResult(ToolResult { call_id: call.id.clone(), name: None, parts, is_error })
            });
            let results: Vec<Part> = results.collect();
            let said = thoughts.into_iter().map(Part::Reasoning).chain(calls.into_iter().map(Part::ToolCall));
            let turn = |role, parts| Turn { role, name: None, parts };
            Prompt {
                model: "claude-opus-4-5".into(),
                turns: vec![
                    turn(Role::User, vec![Part::text("x")]),
                    turn(Role::Assistant, said.collect()),
                    turn(Role::User, results),
                ],
                tools,
                tool_choice,
                max_output: Some(9),
                choices: 1,
                include_usage: true,
                ..Prompt::default()
            }
        })
}

proptest! {
    #[test]
    fn a_request_keeps_tools_and_signatures(prompt in prompt()) {
        let (wire, losses) = write(&prompt, &prompt.model);
        prop_assert!(losses.is_empty(), "{:?}", losses);
        prop_assert_eq!(super::read(&wire), prompt);
    }

    #[test]
    fn an_answer_keeps_tools_signatures_and_usage(
        thoughts in prop::collection::vec(thought(), 0..3),
        calls in prop::collection::vec(call(), 0..4),
        counts in (0u64..1 << 40, 0u64..1 << 40, 0u64..1 << 40, 0u64..1 << 40, 0u64..1 << 40),
    ) {
        let (fresh, cached_input, cache_write, said, reasoning) = counts;
        let finish = if calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
        let parts = thoughts.into_iter().map(Part::Reasoning).chain(calls.into_iter().map(Part::ToolCall)).collect();
        let usage = Usage {
            input: fresh + cached_input + cache_write, cached_input, cache_write,
            output: said + reasoning, reasoning,
                        ..Usage::default()
        };
        let answer = Answer {
            id: Some("msg_1".into()), model: Some("m".into()), usage: Some(usage),
            choices: vec![Choice { parts, finish, logprobs: None }],
        };
        for origin in [Dialect::Messages, Dialect::Gemini] {
            let wire = Messages.write_answer(&answer, &frame(origin));
            prop_assert_eq!(Messages.read_answer(&wire).unwrap(), answer.clone());
        }
    }

    #[test]
    fn ids_of_any_kind_stay_together(ids in prop::collection::hash_set(".{0,80}", 1..6)) {
        let calls = ids.iter().map(|id| Part::ToolCall(ToolCall { id: id.clone(), name: "f".into(), ..ToolCall::default() }));
        let results = ids.iter().map(|id| Part::ToolResult(ToolResult { call_id: id.clone(), ..ToolResult::default() }));
        let turn = |role, parts| Turn { role, name: None, parts };
        let prompt = Prompt {
            turns: vec![turn(Role::Assistant, calls.collect()), turn(Role::User, results.collect())],
            ..Prompt::default()
        };
        let (wire, _) = write(&prompt, "m");
        let of = |turn: usize, name: &str| -> Vec<String> {
            let blocks = wire["messages"][turn]["content"].as_array().unwrap();
            blocks.iter().map(|block| block[name].as_str().unwrap().to_owned()).collect()
        };
        let calls = of(1, "id");
        prop_assert_eq!(&calls, &of(2, "tool_use_id"));
        let apart: std::collections::HashSet<_> = calls.iter().collect();
        prop_assert_eq!(apart.len(), ids.len());
    }
}

#[test]
fn a_prompt_reads_as_json_of_any_shape_without_a_panic() {
    for body in
        ["null", "0", "{}", r#"{"messages":[[]]}"#, r#"{"messages":[{"role":"user","content":[null]}]}"#]
    {
        assert!(Messages.read_prompt(body.as_bytes(), None).is_err());
    }
}
