use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\\n]{1,8}"
}

prop_compose! {
    /// Calls with their results, in the order that the dialect demands.
    fn step()(
        calls in prop::collection::vec(("[a-c]", 0u32..9, prop::option::of("[A-Za-z0-9]{4}")), 1..4),
        said in prop::option::of(text()),
        results in prop::collection::vec((text(), any::<bool>()), 4),
    ) -> (Vec<(String, u32, Option<String>)>, Option<String>, Vec<(String, bool)>) {
        (calls, said, results)
    }
}

proptest! {
    /// Calls, their ids and signatures, and results come back whatever the conversation.
    #[test]
    fn tools_and_signatures_come_back(steps in prop::collection::vec(step(), 1..4)) {
        let mut turns = vec![says("go")];
        let mut made = 0;
        for (calls, said, results) in steps {
            let (mut out, mut back) = (Vec::new(), Vec::new());
            out.extend(said.map(Part::text));
            for ((name, number, signature), (text, is_error)) in calls.into_iter().zip(results) {
                made += 1;
                let (id, arguments) = (format!("id_{made}"), json!({"n": number}).to_string());
                out.push(Part::ToolCall(ToolCall { id: id.clone(), name: name.clone(), arguments, signature }));
                let (call_id, name) = (id, Some(name));
                back.push(Part::ToolResult(ToolResult { call_id, name, parts: vec![Part::text(text)], is_error }));
            }
            turns.push(Turn { role: Role::Assistant, name: None, parts: out });
            turns.push(Turn { role: Role::User, name: None, parts: back });
        }
        let prompt = Prompt { turns, ..Prompt::default() };
        let (wire, losses) = written(&prompt, "gemini-2.5-pro");
        prop_assert!(losses.is_empty());
        prop_assert_eq!(read(&wire).unwrap().turns, prompt.turns);
    }

    #[test]
    fn usage_comes_back(input in 0u64..1000, cached in 0u64..1000, output in 0u64..1000, reasoning in 0u64..1000) {
        let usage = Usage {
            input,
            cached_input: cached.min(input),
            cache_write: 0,
            output,
            reasoning: reasoning.min(output),
            ..Usage::default()
        };
        let answer = Answer { choices: vec![Choice::default()], usage: Some(usage), ..Answer::default() };
        let wire = Gemini.write_answer(&answer, &frame(Dialect::Chat));
        prop_assert_eq!(Gemini.read_answer(&wire).unwrap().usage, Some(usage));
    }

    /// Nothing that a client, a provider or a stream may say stops the process.
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>()) {
        let mut body = include_bytes!("../fixtures/request.json").to_vec();
        let at = at.index(body.len());
        let end = (at + bytes.len()).min(body.len());
        body[at..end].copy_from_slice(&bytes[..end - at]);
        for body in [&bytes, &body] {
            if let Ok(prompt) = Gemini.read_prompt(body, Some(("m", true))) {
                let written = Gemini.write_prompt(&prompt, "gemini-3-pro", &mut Losses::default());
                prop_assert!(written.is_err() || read(&serde_json::from_slice(&written.unwrap()).unwrap()).is_ok());
            }
            let _ = Gemini.read_answer(body);
            let _ = Gemini.read_error(body);
            let _ = Gemini.reader().read("", body, &mut Vec::new());
        }
    }
}
