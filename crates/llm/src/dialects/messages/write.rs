//! Writing a request.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::{ANSWER_TOOL, blocks};
use crate::Dialect;
use crate::dialects::shared::claude::Claude;
use crate::dialects::shared::turns::{self, OPENING, Talk};
use crate::dialects::shared::{refuse, schema};
use crate::form::{Format, Losses, Part, Prompt, Reasoning, Role, Tool, ToolChoice, ToolFunction};
use crate::openai::Refusal;

/// The least that a model may be told to think.
pub(in crate::dialects) const LEAST_BUDGET: u64 = 1_024;

/// The most tools of one request that may be strict.
const MOST_STRICT: usize = 20;

/// Said to a model that knows no free JSON mode.
pub(in crate::dialects) const JSON_ONLY: &str =
    "Answer with one JSON object and nothing else: no other text, no code fence.";

#[derive(Default, Serialize)]
struct Wire<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Value>,
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: Value,
}

pub(super) fn prompt(prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
    losses.note_rest(prompt);
    note_unknown(prompt, losses)?;
    let claude = Claude::of(model);
    let keeps_place = claude.is_some_and(Claude::takes_system_turns);
    let talk = turns::order(prompt, keeps_place, losses)?;
    let mut wire = Wire {
        model,
        messages: messages(&talk, losses)?,
        stop_sequences: stop(prompt, losses),
        metadata: prompt.user.as_ref().map(|user| json!({"user_id": user})),
        service_tier: tier(prompt, losses),
        stream: prompt.stream,
        ..Wire::default()
    };
    wire.tools = tools(prompt, claude, losses)?;
    wire.tool_choice = choice(prompt, &wire.tools, losses);
    let mut words = format(prompt, claude, &mut wire, losses);
    wire.system = system(&talk.system, words.take(), losses)?;
    let thinks = think(prompt, &talk, model, claude, &mut wire, losses);
    sample(prompt, claude, thinks, &mut wire, losses);
    serde_json::to_vec(&wire).map(Bytes::from).map_err(|e| refuse("messages", e.to_string()))
}

/// What the dialect has no place for.
pub(in crate::dialects) fn note_unknown(prompt: &Prompt, losses: &mut Losses) -> Result<(), Refusal> {
    if prompt.choices > 1 {
        let text =
            "This model's provider makes one answer to a request: leave `n` out and ask several times.";
        return Err(refuse("n", text));
    }
    let zero = |number: Option<f64>| number.is_none_or(|number| number == 0.0);
    for (absent, name) in [
        (zero(prompt.frequency_penalty), "frequency_penalty"),
        (zero(prompt.presence_penalty), "presence_penalty"),
        (prompt.seed.is_none(), "seed"),
        (!prompt.logprobs, "logprobs"),
        (prompt.top_logprobs.is_none(), "top_logprobs"),
    ] {
        if !absent {
            losses.note(name);
        }
    }
    Ok(())
}

fn stop<'a>(prompt: &'a Prompt, losses: &mut Losses) -> Vec<&'a str> {
    // White space alone is refused.
    let (kept, dropped): (Vec<_>, Vec<_>) =
        prompt.stop.iter().map(String::as_str).partition(|text| !text.trim().is_empty());
    if !dropped.is_empty() {
        losses.note("stop");
    }
    kept
}

fn tier(prompt: &Prompt, losses: &mut Losses) -> Option<&'static str> {
    if prompt.metadata.is_some() {
        losses.note("metadata");
    }
    match prompt.service_tier.as_deref()? {
        "auto" | "priority" => Some("auto"),
        "default" => Some("standard_only"),
        _ => {
            losses.note("service_tier");
            None
        }
    }
}

/// Whose signatures are taken: Claude's, wherever it was served.
fn signed(thought: &Reasoning) -> bool {
    match thought.origin {
        Some(Dialect::Messages) => true,
        // What Bedrock withholds is encoded in its own way.
        Some(Dialect::Converse) => !thought.redacted,
        _ => false,
    }
}

fn messages(talk: &Talk, losses: &mut Losses) -> Result<Vec<Message>, Refusal> {
    let mut messages = Vec::with_capacity(talk.turns.len() + 1);
    for (role, parts) in &talk.turns {
        let name = match role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        };
        let content = blocks::write_all(parts, signed, losses)?;
        if content.is_empty() {
            continue;
        }
        if messages.is_empty() && *role == Role::Assistant {
            losses.note("beginning with the user");
            messages.push(Message { role: "user", content: OPENING.into() });
        }
        messages.push(Message { role: name, content: plain(content) });
    }
    if let Some(last) = messages.last_mut().filter(|last| last.role == "assistant") {
        trim(&mut last.content);
    }
    if messages.is_empty() {
        return Err(refuse("messages", "The messages say nothing: give a text at least."));
    }
    Ok(messages)
}

/// One plain text is written as a string.
fn plain(mut content: Vec<Value>) -> Value {
    if let [Value::Object(only)] = content.as_mut_slice()
        && only.len() == 2
        && let Some(text) = only.remove("text")
    {
        return text;
    }
    content.into()
}

/// An answer to be continued may not end in white space.
fn trim(content: &mut Value) {
    let text = match content {
        Value::Array(blocks) => blocks.last_mut().and_then(|block| block.get_mut("text")),
        text => Some(text),
    };
    if let Some(Value::String(text)) = text {
        text.truncate(text.trim_end().len());
    }
}

fn system(parts: &[&Part], words: Option<String>, losses: &mut Losses) -> Result<Option<Value>, Refusal> {
    let mut blocks = blocks::write_all(parts, signed, losses)?;
    if blocks.iter().any(|block| block.get("type") != Some(&json!("text"))) {
        return Err(refuse("messages", "A system message may hold text only for this model's provider."));
    }
    blocks.extend(words.map(|words| json!({"type": "text", "text": words})));
    Ok((!blocks.is_empty()).then(|| plain(blocks)))
}

fn tools(prompt: &Prompt, claude: Option<Claude>, losses: &mut Losses) -> Result<Vec<Value>, Refusal> {
    let strict =
        prompt.tools.iter().filter(|tool| matches!(tool, Tool::Function(f) if f.strict == Some(true)));
    let keeps_strict = strict.count() <= MOST_STRICT && claude.is_some_and(Claude::keeps_schemas);
    let mut tools = Vec::with_capacity(prompt.tools.len());
    for tool in &prompt.tools {
        match tool {
            Tool::Function(function) => tools.push(write_tool(function, keeps_strict, losses)),
            Tool::Native { dialect: Dialect::Messages, value } => tools.push(value.clone()),
            Tool::Native { value, .. } => return Err(foreign_tool(value)),
        }
    }
    // Calls are only read of tools that are known.
    if tools.is_empty() {
        let stub = |name: &str| json!({"name": name, "input_schema": schema::parameters(None)});
        tools.extend(turns::called(prompt).into_iter().map(stub));
    }
    Ok(tools)
}

/// A tool of another dialect's own.
pub(in crate::dialects) fn foreign_tool(value: &Value) -> Refusal {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("of that type");
    refuse(
        "tools",
        format!("The provider of this model does not run the tool `{kind}`: offer functions only."),
    )
}

fn write_tool(function: &ToolFunction, keeps_strict: bool, losses: &mut Losses) -> Value {
    let strict = function.strict == Some(true);
    let parameters = schema::parameters(function.parameters.as_ref());
    let mut tool = json!({"name": function.name});
    if let Some(tool) = tool.as_object_mut() {
        if let Some(description) = &function.description {
            tool.insert("description".into(), description.as_str().into());
        }
        if strict && keeps_strict {
            tool.insert("input_schema".into(), schema::enforceable(&parameters, losses));
            tool.insert("strict".into(), true.into());
        } else {
            if strict {
                losses.note("tools.strict");
            }
            tool.insert("input_schema".into(), parameters);
        }
        if let Some(cache) = &function.cache {
            tool.insert("cache_control".into(), cache.clone());
        }
    }
    tool
}

fn choice(prompt: &Prompt, tools: &[Value], losses: &mut Losses) -> Option<Value> {
    if tools.is_empty() {
        return None;
    }
    if prompt.tools.is_empty() {
        return Some(json!({"type": "none"}));
    }
    let mut choice = match &prompt.tool_choice {
        None if prompt.parallel_tools == Some(false) => json!({"type": "auto"}),
        None => return None,
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => {
            if !tools.iter().any(|tool| tool.get("name").and_then(Value::as_str) == Some(name)) {
                losses.note("tool_choice");
                return None;
            }
            json!({"type": "tool", "name": name})
        }
    };
    if prompt.parallel_tools == Some(false)
        && let Some(choice) = choice.as_object_mut()
    {
        choice.insert("disable_parallel_tool_use".into(), true.into());
    }
    Some(choice)
}

/// The form of the answer. Gives what must be said in words for it.
fn format(prompt: &Prompt, claude: Option<Claude>, wire: &mut Wire, losses: &mut Losses) -> Option<String> {
    let schema = match &prompt.format {
        Format::Text => return None,
        Format::Json => {
            // There is no mode for any object: a schema without members would allow none.
            losses.note("response_format");
            return Some(JSON_ONLY.to_owned());
        }
        Format::Schema { schema, .. } => schema,
    };
    if claude.is_some_and(Claude::keeps_schemas) {
        let schema = schema::enforceable(schema, losses);
        wire.output_config = Some(json!({"format": {"type": "json_schema", "schema": schema}}));
        return None;
    }
    // Before there was structured output, a tool that must be called did for it.
    let is_object = schema.get("type").is_none_or(|kind| kind == "object");
    let free = !matches!(prompt.tool_choice, Some(ToolChoice::Named(_))) && !thinks(prompt);
    if is_object && free && wire.tools.iter().all(|tool| tool.get("input_schema").is_some()) {
        let offered = !prompt.tools.is_empty() && prompt.tool_choice != Some(ToolChoice::None);
        wire.tools.push(json!({
            "name": ANSWER_TOOL,
            "description": "Gives the answer. Call it with the whole answer.",
            "input_schema": schema::parameters(Some(schema)),
        }));
        wire.tool_choice = Some(match offered {
            true => json!({"type": "any"}),
            false => json!({"type": "tool", "name": ANSWER_TOOL}),
        });
        return None;
    }
    losses.note("response_format");
    Some(format!("{JSON_ONLY} It must follow this JSON Schema: {schema}"))
}

fn thinks(prompt: &Prompt) -> bool {
    prompt
        .reasoning
        .as_ref()
        .is_some_and(|ask| ask.effort.as_deref() != Some("none") && ask.budget != Some(0))
}

/// Thinking and the room for the answer. Gives whether the model is told to think.
fn think(
    prompt: &Prompt,
    talk: &Talk,
    model: &str,
    claude: Option<Claude>,
    wire: &mut Wire,
    losses: &mut Losses,
) -> bool {
    let room = prompt.max_output;
    wire.max_tokens = room.unwrap_or_else(|| Claude::max_tokens(model));
    let Some(ask) = &prompt.reasoning else { return false };
    let adapts = claude.is_some_and(Claude::adapts);
    if !thinks(prompt) {
        if claude.is_some_and(Claude::can_stop_thinking) && adapts {
            wire.thinking = Some(json!({"type": "disabled"}));
        } else if adapts {
            losses.note("reasoning_effort");
        }
        return false;
    }
    if adapts {
        let mut thinking = json!({"type": "adaptive"});
        if let (Some(_), Some(thinking)) = (&ask.show, thinking.as_object_mut()) {
            thinking.insert("display".into(), "summarized".into());
        }
        wire.thinking = Some(thinking);
        if let Some(effort) = ask.words().and_then(|word| effort(word, claude, losses)) {
            let config = wire.output_config.get_or_insert_with(|| json!({}));
            config.as_object_mut().and_then(|config| config.insert("effort".into(), effort.into()));
        }
        return true;
    }
    let wanted = ask.tokens().unwrap_or(8_192).max(LEAST_BUDGET);
    let budget = match room {
        // It counts towards the room for the answer, some of which the answer needs.
        Some(room) => wanted.min(if ask.budget.is_some() { room.saturating_sub(1) } else { room / 2 }),
        None => {
            wire.max_tokens = wire.max_tokens.saturating_add(wanted);
            wanted
        }
    };
    // Excluded with thinking, as is an answer to a tool whose call came without the thoughts before it.
    let forced = wire.tool_choice.as_ref().and_then(|choice| choice.get("type")).and_then(Value::as_str);
    if budget < LEAST_BUDGET || matches!(forced, Some("any" | "tool")) || answers_unthought(talk) {
        losses.note("reasoning_effort");
        return false;
    }
    wire.thinking = Some(json!({"type": "enabled", "budget_tokens": budget}));
    true
}

/// OpenAI's effort in Anthropic's words.
pub(in crate::dialects) fn effort(
    word: &str,
    claude: Option<Claude>,
    losses: &mut Losses,
) -> Option<&'static str> {
    match word {
        "minimal" | "low" => Some("low"),
        "medium" => Some("medium"),
        "high" => Some("high"),
        "xhigh" if claude.is_some_and(Claude::knows_xhigh) => Some("xhigh"),
        "xhigh" => Some("high"),
        "max" => Some("max"),
        _ => {
            losses.note("reasoning_effort");
            None
        }
    }
}

/// The conversation's last answer called tools, and its thoughts are not there: a model that is told to think
/// refuses to go on from there.
fn answers_unthought(talk: &Talk) -> bool {
    let Some((_, parts)) = talk.turns.iter().rev().find(|(role, _)| *role == Role::Assistant) else {
        return false;
    };
    let called = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    let thought = |part: &&Part| matches!(part, Part::Reasoning(thought) if signed(thought));
    called && !parts.iter().any(thought)
}

fn sample(prompt: &Prompt, claude: Option<Claude>, thinks: bool, wire: &mut Wire, losses: &mut Losses) {
    let refused = claude.is_some_and(Claude::refuses_sampling);
    if let Some(temperature) = prompt.temperature {
        // Thinking goes with 1 only, which is what is taken for none.
        if temperature == 1.0 && (refused || thinks) {
        } else if refused || thinks {
            losses.note("temperature");
        } else {
            if temperature > 1.0 {
                losses.note("temperature");
            }
            wire.temperature = Some(temperature.clamp(0.0, 1.0));
        }
    }
    if let Some(top_p) = prompt.top_p {
        let excluded = wire.temperature.is_some() && claude.is_some_and(Claude::samples_one_way);
        if top_p == 1.0 && (refused || thinks || excluded) {
        } else if refused || excluded || (thinks && top_p < 0.95) {
            losses.note("top_p");
        } else {
            wire.top_p = Some(top_p);
        }
    }
    match prompt.top_k {
        Some(_) if refused || thinks => losses.note("top_k"),
        top_k => wire.top_k = top_k,
    }
}
