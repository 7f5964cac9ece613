use std::sync::Arc;

use base::Usage;
use serde_json::{Value, json};

use super::*;
use crate::Dialect;
use crate::form::{
    Choice, Finish, Format, Image, Media, Part, Piece, Reasoning, Role, Source, Tool, ToolCall, ToolChoice,
    ToolFunction, ToolResult, Turn,
};

mod proptests;
mod streams;

fn read(body: &Value) -> Result<Prompt, Refusal> {
    Gemini.read_prompt(body.to_string().as_bytes(), Some(("models/m", false)))
}

fn written(prompt: &Prompt, model: &str) -> (Value, Losses) {
    let mut losses = Losses::default();
    let bytes = Gemini.write_prompt(prompt, model, &mut losses).unwrap();
    (serde_json::from_slice(&bytes).unwrap(), losses)
}

fn says(text: &str) -> Turn {
    Turn { role: Role::User, name: None, parts: vec![Part::text(text)] }
}

fn frame(origin: Dialect) -> Frame {
    Frame { id: "r1".into(), model: "alias".into(), origin, created: 5, prompt: Arc::default() }
}

#[test]
fn a_request_is_read_whole() {
    let body = include_bytes!("fixtures/request.json");
    let prompt = Gemini.read_prompt(body, Some(("models/gemini-3-pro", true))).unwrap();
    assert_eq!((prompt.model.as_str(), prompt.stream), ("gemini-3-pro", true));
    let gemini = Some(Dialect::Gemini);
    let roles: Vec<Role> = prompt.turns.iter().map(|turn| turn.role).collect();
    use Role::{Assistant, System, User};
    assert_eq!(roles, [System, User, Assistant, User, Assistant, User]);
    let parts = |at: usize| prompt.turns[at].parts.as_slice();
    assert_eq!(parts(0), [Part::text("Be brief.")]);
    let image = Source::Base64 { media: "image/png".into(), data: "+/8=".into() };
    let url = Source::Url("https://example.com/a.jpg?x=1".into());
    let file = "https://generativelanguage.googleapis.com/v1beta/files/abc".to_owned();
    assert_eq!(
        parts(1),
        [
            Part::text("What is the weather?"),
            Part::Image(Image { source: image, detail: None }),
            Part::Image(Image { source: url, detail: Some("low".into()) }),
            Part::File(Media { source: Source::Uploaded(Dialect::Gemini, file), name: None }),
        ]
    );
    let call = |id: &str, name: &str, arguments: &str, signature: Option<&str>| {
        let (id, name, arguments) = (id.into(), name.into(), arguments.into());
        Part::ToolCall(ToolCall { id, name, arguments, signature: signature.map(str::to_owned) })
    };
    let thought = Reasoning { text: "I think".into(), signature: Some("c2ln".into()), ..Default::default() };
    assert_eq!(
        parts(2),
        [
            Part::Reasoning(Reasoning { origin: gemini, ..thought }),
            Part::text("Let me see."),
            call("call_0", "weather", r#"{"place":"Oslo","n":12345678901234567890123}"#, Some("Y2FsbA==")),
            call("call_1", "weather", r#"{"place":"Rome"}"#, None),
            call("own", "now", "{}", None),
        ]
    );
    let result = |id: &str, name: &str, parts: Vec<Part>, is_error| {
        Part::ToolResult(ToolResult { call_id: id.into(), name: Some(name.into()), parts, is_error })
    };
    let hi = Source::Base64 { media: "image/png".into(), data: "aGk=".into() };
    assert_eq!(
        parts(3),
        [
            result("own", "now", vec![Part::text("no clock")], true),
            result("call_0", "weather", vec![Part::text("cold")], false),
            result(
                "call_1",
                "weather",
                vec![Part::text(r#"{"degrees":30}"#), Part::Image(Image { source: hi, detail: None })],
                false
            ),
        ]
    );
    let code = json!({"executableCode": {"language": "PYTHON", "code": "1"}});
    let last = Reasoning { signature: Some("bGFzdA==".into()), redacted: true, ..Default::default() };
    assert_eq!(
        parts(4),
        [
            Part::Native { dialect: Dialect::Gemini, value: code },
            Part::Reasoning(Reasoning { origin: gemini, ..last }),
        ]
    );
    assert_eq!(parts(5), [Part::text("Go on.")]);
    let schema = json!({"type": "object", "properties": {"place": {"type": "string"}}});
    let function = |name: &str, description: Option<&str>, schema: Value| {
        Tool::Function(ToolFunction {
            name: name.into(),
            description: description.map(str::to_owned),
            parameters: Some(schema),
            ..ToolFunction::default()
        })
    };
    let native = |value: Value| Tool::Native { dialect: Dialect::Gemini, value };
    assert_eq!(
        prompt.tools,
        [
            function("weather", Some("of a place"), schema),
            function("now", None, json!({"type": "object"})),
            native(json!({"codeExecution": {}})),
            native(json!({"googleSearch": {}})),
        ]
    );
    assert_eq!(prompt.tool_choice, Some(ToolChoice::Named("weather".into())));
    assert_eq!(
        (prompt.choices, prompt.max_output, prompt.top_k, prompt.seed),
        (2, Some(64), Some(40), Some(7))
    );
    assert_eq!((prompt.temperature, prompt.top_p), (Some(0.5), Some(0.9)));
    assert_eq!((prompt.presence_penalty, prompt.frequency_penalty), (Some(0.1), Some(0.2)));
    assert_eq!((prompt.logprobs, prompt.top_logprobs), (true, Some(3)));
    assert_eq!(prompt.stop, ["END"]);
    let ask = prompt.reasoning.as_ref().unwrap();
    assert_eq!((ask.budget, ask.effort.as_deref(), ask.show.as_deref()), (Some(1024), None, Some("auto")));
    let schema = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}});
    assert_eq!(prompt.format, Format::Schema { name: None, description: None, schema, strict: None });
    assert_eq!(prompt.service_tier.as_deref(), Some("flex"));
    let lost: Vec<&String> = prompt.rest.keys().collect();
    assert_eq!(lost, ["generationConfig.speechConfig", "safetySettings"]);
}

/// What is read is written again in the form that the API documents, and read as the same.
#[test]
fn a_request_comes_back() {
    let body = include_bytes!("fixtures/request.json");
    let mut prompt = Gemini.read_prompt(body, Some(("gemini-3-pro", false))).unwrap();
    prompt.rest.clear();
    let (wire, losses) = written(&prompt, "gemini-3-pro");
    assert!(losses.is_empty(), "{losses:?}");
    assert_eq!(wire["systemInstruction"], json!({"parts": [{"text": "Be brief."}]}));
    assert_eq!(wire["contents"][1]["parts"][2]["thoughtSignature"], "Y2FsbA==");
    assert_eq!(
        wire["tools"][0]["functionDeclarations"][1]["parametersJsonSchema"],
        json!({"type": "object"})
    );
    let again = Gemini.read_prompt(wire.to_string().as_bytes(), Some(("gemini-3-pro", false))).unwrap();
    assert_eq!(again.tools, prompt.tools);
    assert_eq!(again.turns.len(), prompt.turns.len());
    for (again, first) in
        again.turns.iter().zip(&prompt.turns).filter(|(turn, _)| turn.role != Role::Assistant)
    {
        assert_eq!(again, first);
    }
    let bare = |prompt: &Prompt| Prompt { turns: Vec::new(), ..prompt.clone() };
    assert_eq!(bare(&again), bare(&prompt));
}

/// A part of the conversation that only Google has: no other provider could answer it.
#[test]
fn cached_content_stays_with_its_provider() {
    let body = json!({"cachedContent": "cachedContents/1", "contents": [{"parts": [{"text": "hi"}]}]});
    let prompt = read(&body).unwrap();
    assert_eq!(written(&prompt, "gemini-2.5-pro").0["cachedContent"], "cachedContents/1");
    let chat = crate::dialects::egress(Dialect::Chat).unwrap();
    let refusal = chat.write_prompt(&prompt, "m", &mut Losses::default()).unwrap_err();
    assert!(refusal.message.contains("cachedContent"), "{}", refusal.message);
}

#[test]
fn what_another_provider_left_is_made_fit() {
    let origin = Some(Dialect::Messages);
    let foreign = Reasoning { text: "hm".into(), signature: Some("s".into()), origin, ..Default::default() };
    let call = |id: &str| ToolCall { id: id.into(), name: "f".into(), ..ToolCall::default() };
    let image = Image { source: Source::Url("https://x.org/a".into()), detail: Some("low".into()) };
    let result = ToolResult {
        call_id: "a".into(),
        parts: vec![Part::text("{\"output\":1}"), Part::Image(image)],
        ..ToolResult::default()
    };
    let prompt = Prompt {
        turns: vec![
            says("hi"),
            Turn {
                role: Role::Assistant,
                name: None,
                parts: vec![Part::Reasoning(foreign), Part::ToolCall(call("a")), Part::ToolCall(call("b"))],
            },
            Turn { role: Role::User, name: None, parts: vec![Part::ToolResult(result)] },
            Turn { role: Role::System, name: None, parts: vec![Part::text("late")] },
            says("go"),
        ],
        user: Some("u".into()),
        ..Prompt::default()
    };
    let skip = "skip_thought_signature_validator";
    let (wire, losses) = written(&prompt, "gemini-3-pro");
    let calls = &wire["contents"][1]["parts"];
    assert_eq!(
        calls[0],
        json!({"functionCall": {"id": "a", "name": "f", "args": {}}, "thoughtSignature": skip})
    );
    assert_eq!(calls[1], json!({"functionCall": {"id": "b", "name": "f", "args": {}}}));
    assert_eq!(
        wire["contents"][2],
        json!({"role": "user", "parts": [
            {"functionResponse": {"id": "a", "name": "f", "response": {"output": "{\"output\":1}"}, "parts": [
                {"fileData": {"fileUri": "https://x.org/a"}, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}
            ]}},
            {"text": "go"},
        ]})
    );
    assert_eq!(wire["systemInstruction"], json!({"parts": [{"text": "late"}]}));
    let told = ["user", "reasoning of another provider", "the place of a later system message"];
    assert_eq!(losses.names(), told);
    // Older models: no signature is asked for, and pictures stand beside the result.
    let (wire, _) = written(&prompt, "gemini-2.5-flash");
    assert_eq!(wire["contents"][1]["parts"][0].get("thoughtSignature"), None);
    assert_eq!(wire["contents"][2]["parts"][1], json!({"fileData": {"fileUri": "https://x.org/a"}}));
}

/// A signature that a client without a place for it sent back before its call.
#[test]
fn a_signature_finds_its_call() {
    let origin = Some(Dialect::Gemini);
    let sealed = Reasoning { signature: Some("Y2E=".into()), redacted: true, origin, ..Default::default() };
    let call = ToolCall { id: "a".into(), name: "f".into(), ..ToolCall::default() };
    let mut parts = vec![Part::Reasoning(sealed.clone()), Part::ToolCall(call)];
    let with = |parts: Vec<Part>| Prompt {
        turns: vec![says("hi"), Turn { role: Role::Assistant, name: None, parts }],
        ..Prompt::default()
    };
    let (wire, _) = written(&with(parts.clone()), "gemini-3-pro");
    let call = json!({"functionCall": {"id": "a", "name": "f", "args": {}}, "thoughtSignature": "Y2E="});
    assert_eq!(wire["contents"][1]["parts"], json!([call]));
    parts.pop();
    let (wire, _) = written(&with(parts), "gemini-3-pro");
    assert_eq!(wire["contents"][1]["parts"], json!([{"text": "", "thoughtSignature": "Y2E="}]));
}

#[test]
fn reasoning_is_asked_for_as_each_generation_takes_it() {
    let ask = |effort: Option<&str>, budget| crate::form::ReasoningAsk {
        effort: effort.map(str::to_owned),
        budget,
        show: None,
    };
    for (model, ask, config, lost) in [
        ("gemini-3-pro", ask(Some("low"), None), json!({"thinkingLevel": "LOW"}), false),
        ("gemini-3-pro", ask(Some("none"), None), json!({"thinkingLevel": "MINIMAL"}), true),
        ("gemini-3-pro", ask(Some("xhigh"), None), json!({"thinkingLevel": "HIGH"}), true),
        ("gemini-3-pro", ask(None, Some(512)), json!({"thinkingBudget": 512}), false),
        ("gemini-2.5-pro", ask(Some("low"), None), json!({"thinkingBudget": 2048}), false),
        ("gemini-2.5-pro", ask(Some("none"), None), json!({"thinkingBudget": 0}), false),
        ("gemini-2.5-pro", ask(None, None), json!({}), false),
    ] {
        let prompt = Prompt { turns: vec![says("hi")], reasoning: Some(ask), ..Prompt::default() };
        let (wire, losses) = written(&prompt, model);
        assert_eq!(wire["generationConfig"]["thinkingConfig"], config);
        assert_eq!(!losses.is_empty(), lost, "{config}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_to_change() {
    let deep = format!(r#"{{"safetySettings":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for (body, says) in [
        ("", "empty"),
        ("[]", "not a generateContent request"),
        ("{", "not valid JSON"),
        ("{}", "`contents`"),
        (deep.as_str(), "nested deeper"),
        (r#"{"contents":[{"parts":[{"text":"a"}]}]} x"#, "not valid JSON"),
        (r#"{"contents":[{"role":"system","parts":[{"text":"a"}]}]}"#, "systemInstruction"),
        (r#"{"contents":[{"parts":[{}]}]}"#, "holds nothing"),
        (r#"{"contents":[{"parts":[{"inlineData":{"data":"aGk="}}]}]}"#, "mimeType"),
        (r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"?"}}]}]}"#, "Base64"),
        (r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{}}}]}]}"#, "answers no"),
        (r#"{"contents":[{"parts":[{"functionCall":{"name":"f","args":[1]}}]}]}"#, "not a generate|object"),
        (
            r#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"topK":1.5}}"#,
            "generationConfig.topK",
        ),
        (
            r#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"candidateCount":-1}}"#,
            "candidateCount",
        ),
        (
            r#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"responseSchema":{}}}"#,
            "responseMimeType",
        ),
        (
            r#"{"contents":[{"parts":[{"text":"a"}]}],"toolConfig":{"functionCallingConfig":{"mode":"X"}}}"#,
            "AUTO",
        ),
        (r#"{"contents":[{"parts":[{"text":"a"}]}],"tools":[{"functionDeclarations":[{}]}]}"#, "`name`"),
        (
            r#"{"contents":[{"parts":[{"text":"a"}]}],"systemInstruction":{"parts":[{"inlineData":{}}]}}"#,
            "`text` only",
        ),
    ] {
        let refusal = Gemini.read_prompt(body.as_bytes(), Some(("m", false))).unwrap_err();
        assert!(says.split('|').any(|says| refusal.message.contains(says)), "{body}: {}", refusal.message);
    }
    let with = |part: Part| Prompt {
        turns: vec![Turn { role: Role::User, name: None, parts: vec![part] }],
        ..Prompt::default()
    };
    let native = Part::Native { dialect: Dialect::Messages, value: json!({"type": "search_result"}) };
    let call = ToolCall { id: "a".into(), name: "f".into(), arguments: "[1".into(), signature: None };
    let tool = Tool::Native { dialect: Dialect::Messages, value: json!({"type": "bash_20250124"}) };
    for (prompt, says) in [
        (with(native), "search_result"),
        (with(Part::ToolCall(call)), "not a JSON object"),
        (with(Part::ToolResult(ToolResult { call_id: "q".into(), ..ToolResult::default() })), "`q`"),
        (Prompt { tools: vec![tool], ..with(Part::text("a")) }, "bash_20250124"),
        (Prompt { stop: vec![String::new(); 6], ..with(Part::text("a")) }, "at most 5"),
        (Prompt::default(), "No message"),
    ] {
        let refusal = Gemini.write_prompt(&prompt, "m", &mut Losses::default()).unwrap_err();
        assert!(refusal.message.contains(says), "{says}: {}", refusal.message);
    }
}

#[test]
fn an_answer_is_read_whole() {
    let body = include_bytes!("fixtures/answer.json");
    let answer = Gemini.read_answer(body).unwrap();
    assert_eq!(answer.id.as_deref(), Some("Il0taoSYJ5Cez7IP"));
    assert_eq!(answer.model.as_deref(), Some("gemini-3-pro-preview"));
    let usage = Usage { input: 23, cached_input: 8, output: 12, reasoning: 7, ..Usage::default() };
    assert_eq!(answer.usage, Some(usage));
    let [choice] = answer.choices.as_slice() else { panic!("one choice") };
    assert_eq!(choice.finish, Finish::ToolCalls);
    let Part::ToolCall(call) = &choice.parts[2] else { panic!("a call") };
    assert!(call.id.starts_with("call_") && call.id.len() <= 40, "{}", call.id);
    assert_eq!(call.signature.as_deref(), Some("Y2FsbA=="));
    let Part::ToolCall(call) = &choice.parts[3] else { panic!("a call") };
    assert_eq!((call.id.as_str(), call.arguments.as_str()), ("x1", r#"{"place":"Rome"}"#));
    // The same answer, the same ids.
    assert_eq!(Gemini.read_answer(body).unwrap(), answer);
}

#[test]
fn every_reason_to_end_is_known() {
    let with = |candidate: Value| json!({"candidates": [candidate]}).to_string();
    for (reason, finish) in [
        ("STOP", Finish::Stop),
        ("MAX_TOKENS", Finish::Length),
        ("SAFETY", Finish::ContentFilter),
        ("RECITATION", Finish::ContentFilter),
        ("PROHIBITED_CONTENT", Finish::ContentFilter),
        ("SPII", Finish::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", Finish::Other("MALFORMED_FUNCTION_CALL".into())),
        ("NEW_REASON", Finish::Other("NEW_REASON".into())),
    ] {
        let answer = Gemini.read_answer(with(json!({"finishReason": reason})).as_bytes()).unwrap();
        assert_eq!(answer.choices[0].finish, finish);
    }
    let blocked = Gemini.read_answer(br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#).unwrap();
    assert_eq!(blocked.choices[0].finish, Finish::ContentFilter);
    for none in ["{}", "[]", "{", r#"{"candidates":[{}]}"#, r#"{"error":{"message":"m"}}"#] {
        assert!(Gemini.read_answer(none.as_bytes()).is_err(), "{none}");
    }
}

#[test]
fn an_answer_comes_back_whole() {
    let thought = |text: &str, signature: Option<&str>, redacted| {
        let (text, signature) = (text.to_owned(), signature.map(str::to_owned));
        Part::Reasoning(Reasoning { text, signature, redacted, origin: Some(Dialect::Messages), id: None })
    };
    let call =
        ToolCall { id: "toolu_1".into(), name: "f".into(), arguments: r#"{"a":1}"#.into(), signature: None };
    let parts = vec![
        thought("hm", Some("EqoB"), false),
        thought("", Some("hidden"), true),
        Part::text("hi"),
        Part::ToolCall(call),
    ];
    let usage = Usage { input: 9, cached_input: 4, output: 5, reasoning: 2, ..Usage::default() };
    let choice = Choice { parts, finish: Finish::ToolCalls, logprobs: None };
    let answer = Answer { choices: vec![choice], usage: Some(usage), ..Answer::default() };
    let wire = Gemini.write_answer(&answer, &frame(Dialect::Messages));
    let value: Value = serde_json::from_slice(&wire).unwrap();
    assert_eq!(value["usageMetadata"]["candidatesTokenCount"], 3);
    assert_eq!(value["usageMetadata"]["totalTokenCount"], 14);
    assert_eq!(Gemini.read_answer(&wire).unwrap().usage, Some(usage));
    // The client sends the answer back, as the API has it do.
    let again =
        read(&json!({"contents": [{"parts": [{"text": "q"}]}, value["candidates"][0]["content"]]})).unwrap();
    assert_eq!(again.turns[1].parts, answer.choices[0].parts);
}

#[test]
fn a_call_that_is_none_is_told() {
    let call = ToolCall { id: "a".into(), name: "f".into(), arguments: "{\"a\":".into(), signature: None };
    let with = |finish| Answer {
        choices: vec![Choice { parts: vec![Part::ToolCall(call.clone())], finish, logprobs: None }],
        ..Answer::default()
    };
    for (finish, reason) in [(Finish::ToolCalls, "MALFORMED_FUNCTION_CALL"), (Finish::Length, "MAX_TOKENS")] {
        let wire = Gemini.write_answer(&with(finish), &frame(Dialect::Chat));
        let value: Value = serde_json::from_slice(&wire).unwrap();
        assert_eq!(value["candidates"][0]["finishReason"], reason);
    }
}
