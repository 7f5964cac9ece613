//! Writing a request.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::blocks;
use crate::Dialect;
use crate::dialects::messages::{JSON_ONLY, LEAST_BUDGET, effort, foreign_tool, note_unknown};
use crate::dialects::shared::claude::Claude;
use crate::dialects::shared::turns::{self, OPENING, Talk};
use crate::dialects::shared::{refuse, schema};
use crate::form::{Format, Losses, Part, Prompt, ReasoningAsk, Role, Tool, ToolChoice};
use crate::openai::Refusal;

/// Fields of Converse that a client of another dialect may write among its own; they are taken as they stand.
const OWN: &[&str] = &[
    "guardrailConfig",
    "performanceConfig",
    "requestMetadata",
    "additionalModelRequestFields",
    "promptVariables",
];

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Value>,
    messages: Vec<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    inference_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    additional_model_request_fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    output_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Value>,
    #[serde(flatten)]
    own: Map<String, Value>,
}

pub(super) fn prompt(prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
    note_unknown(prompt, losses)?;
    let claude = Claude::of(model);
    let talk = turns::order(prompt, claude.is_some_and(Claude::takes_system_turns), losses)?;
    let mut wire = Wire::default();
    own(prompt, &mut wire, losses);
    wire.messages = messages(&talk, claude.is_some(), losses)?;
    wire.system = system(&talk.system, losses)?;
    wire.tool_config = tools(prompt, losses)?;
    format(prompt, &mut wire, losses);
    if let Some(ask) = &prompt.reasoning {
        think(ask, prompt, &talk, model, &mut wire, losses);
    }
    infer(prompt, claude, &mut wire, losses);
    tier(prompt, &mut wire, losses);
    for (given, name) in [(prompt.user.is_some(), "user"), (prompt.metadata.is_some(), "metadata")] {
        if given {
            losses.note(name);
        }
    }
    serde_json::to_vec(&wire).map(Bytes::from).map_err(|e| refuse("messages", e.to_string()))
}

fn own(prompt: &Prompt, wire: &mut Wire, losses: &mut Losses) {
    for (name, value) in &prompt.rest {
        match (name.as_str(), value) {
            ("additionalModelRequestFields", Value::Object(fields)) => {
                wire.additional_model_request_fields.clone_from(fields);
            }
            (own, Value::Object(_)) if OWN.contains(&own) => {
                wire.own.insert(name.clone(), value.clone());
            }
            _ => losses.note(name.clone()),
        }
    }
}

fn messages(talk: &Talk, claude: bool, losses: &mut Losses) -> Result<Vec<Value>, Refusal> {
    let mut messages: Vec<Value> = Vec::with_capacity(talk.turns.len() + 1);
    for (role, parts) in &talk.turns {
        let content = blocks::write_all(parts, claude, losses)?;
        if content.is_empty() {
            continue;
        }
        let has = |name: &str| content.iter().any(|block| block.get(name).is_some());
        if has("document") && !has("text") {
            let text =
                "Bedrock wants a text beside a document: say in the same message what is to be done with it.";
            return Err(refuse("messages", text));
        }
        if messages.is_empty() && *role == Role::Assistant {
            losses.note("beginning with the user");
            messages.push(json!({"role": "user", "content": [{"text": OPENING}]}));
        }
        let name = match role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        };
        messages.push(json!({"role": name, "content": content}));
    }
    if messages.is_empty() {
        return Err(refuse("messages", "The messages say nothing: give a text at least."));
    }
    Ok(messages)
}

fn system(parts: &[&Part], losses: &mut Losses) -> Result<Vec<Value>, Refusal> {
    let text =
        |part: &&Part| matches!(part, Part::Text { .. } | Part::Native { dialect: Dialect::Converse, .. });
    if !parts.iter().all(text) {
        return Err(refuse("messages", "A system message may hold text only for this model's provider."));
    }
    blocks::write_all(parts, false, losses)
}

fn tools(prompt: &Prompt, losses: &mut Losses) -> Result<Option<Value>, Refusal> {
    let mut tools = Vec::with_capacity(prompt.tools.len());
    let called = turns::called(prompt);
    // There is no way to forbid calls but to offer nothing; what was called before must stay known.
    let forbidden = prompt.tool_choice == Some(ToolChoice::None);
    if forbidden && !called.is_empty() {
        losses.note("tool_choice");
    }
    if !forbidden || !called.is_empty() {
        for tool in &prompt.tools {
            match tool {
                Tool::Function(function) => {
                    let schema = schema::parameters(function.parameters.as_ref());
                    let mut spec = json!({"name": function.name, "inputSchema": {"json": schema}});
                    if let Some(spec) = spec.as_object_mut() {
                        let description = function.description.as_deref().filter(|text| !text.is_empty());
                        spec.extend(description.map(|text| ("description".into(), text.into())));
                        spec.extend((function.strict == Some(true)).then(|| ("strict".into(), true.into())));
                    }
                    tools.push(json!({"toolSpec": spec}));
                    tools.extend(function.cache.as_ref().map(blocks::cache_point));
                }
                Tool::Native { dialect: Dialect::Converse, value } => tools.push(value.clone()),
                Tool::Native { value, .. } => return Err(foreign_tool(value)),
            }
        }
    }
    if tools.is_empty() {
        let stub = |name: &str| json!({"toolSpec": {"name": name, "inputSchema": {"json": schema::parameters(None)}}});
        tools.extend(called.into_iter().map(stub));
    }
    if tools.is_empty() {
        return Ok(None);
    }
    if prompt.parallel_tools == Some(false) {
        losses.note("parallel_tool_calls");
    }
    let mut config = json!({"tools": tools});
    let choice = match &prompt.tool_choice {
        None | Some(ToolChoice::None) => None,
        _ if prompt.tools.is_empty() => None,
        Some(ToolChoice::Auto) => Some(json!({"auto": {}})),
        Some(ToolChoice::Required) => Some(json!({"any": {}})),
        Some(ToolChoice::Named(name)) => Some(json!({"tool": {"name": name}})),
    };
    if let Some(config) = config.as_object_mut() {
        config.extend(choice.map(|choice| ("toolChoice".into(), choice)));
    }
    Ok(Some(config))
}

fn format(prompt: &Prompt, wire: &mut Wire, losses: &mut Losses) {
    match &prompt.format {
        Format::Text => {}
        Format::Json => {
            losses.note("response_format");
            wire.system.push(json!({"text": JSON_ONLY}));
        }
        Format::Schema { name, description, schema, .. } => {
            // The schema is a text here.
            let mut definition = json!({"schema": schema::enforceable(schema, losses).to_string()});
            if let Some(definition) = definition.as_object_mut() {
                definition.extend(name.as_ref().map(|name| ("name".into(), name.as_str().into())));
                definition
                    .extend(description.as_ref().map(|text| ("description".into(), text.as_str().into())));
            }
            let format = json!({"type": "json_schema", "structure": {"jsonSchema": definition}});
            wire.output_config.insert("textFormat".into(), format);
        }
    }
}

/// Reasoning is asked for in the words of each model's maker.
fn think(
    ask: &ReasoningAsk,
    prompt: &Prompt,
    talk: &Talk,
    model: &str,
    wire: &mut Wire,
    losses: &mut Losses,
) {
    let none = ask.effort.as_deref() == Some("none") || ask.budget == Some(0);
    let fields = &mut wire.additional_model_request_fields;
    match Claude::of(model) {
        Some(claude) if claude.adapts() => {
            if none && claude.can_stop_thinking() {
                fields.insert("thinking".into(), json!({"type": "disabled"}));
            } else if none {
                losses.note("reasoning_effort");
            } else {
                fields.insert("thinking".into(), json!({"type": "adaptive"}));
                let word = ask.words().and_then(|word| effort(word, Some(claude), losses));
                wire.output_config.extend(word.map(|word| ("effort".into(), word.into())));
            }
        }
        Some(_) if none => {}
        Some(_) => {
            let wanted = ask.tokens().unwrap_or(8_192).max(LEAST_BUDGET);
            let (room, budget) = match prompt.max_output {
                Some(room) => (room, wanted.min(room / 2)),
                None => (Claude::max_tokens(model).saturating_add(wanted), wanted),
            };
            let forced = matches!(prompt.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
            if budget < LEAST_BUDGET || forced || answers_unthought(talk) {
                losses.note("reasoning_effort");
                return;
            }
            fields.insert("thinking".into(), json!({"type": "enabled", "budget_tokens": budget}));
            wire.inference_config.insert("maxTokens".into(), room.into());
        }
        None if model.contains("openai.") => {
            let word = ask.words().filter(|word| matches!(*word, "low" | "medium" | "high"));
            match word {
                Some(word) => drop(fields.insert("reasoning_effort".into(), word.into())),
                None => losses.note("reasoning_effort"),
            }
        }
        None if model.contains("amazon.nova-2") => {
            let word = match ask.words() {
                Some("minimal" | "low") => "low",
                Some("medium") | None => "medium",
                Some(_) => "high",
            };
            let config = match none {
                true => json!({"type": "disabled"}),
                false => json!({"type": "enabled", "maxReasoningEffort": word}),
            };
            fields.insert("reasoningConfig".into(), config);
        }
        None if none => {}
        None => losses.note("reasoning_effort"),
    }
}

/// The conversation's last answer called tools and its thoughts are not there.
fn answers_unthought(talk: &Talk) -> bool {
    let last = talk.turns.iter().rev().find(|(role, _)| *role == Role::Assistant);
    last.is_some_and(|(_, parts)| {
        let called = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        let thought = |part: &&Part| {
            let Part::Reasoning(thought) = part else { return false };
            matches!(thought.origin, Some(Dialect::Converse | Dialect::Messages))
                && thought.signature.is_some()
        };
        called && !parts.iter().any(thought)
    })
}

fn infer(prompt: &Prompt, claude: Option<Claude>, wire: &mut Wire, losses: &mut Losses) {
    let thinks =
        wire.additional_model_request_fields.get("thinking").and_then(|thinking| thinking.get("type"));
    let thinks = thinks.is_some_and(|kind| kind != "disabled");
    let refused = thinks || claude.is_some_and(Claude::refuses_sampling);
    let config = &mut wire.inference_config;
    config.extend(prompt.max_output.map(|most| ("maxTokens".into(), most.into())));
    let mut sampled = false;
    match prompt.temperature {
        Some(1.0) if refused => {}
        Some(_) if refused => losses.note("temperature"),
        Some(temperature) => {
            if temperature > 1.0 {
                losses.note("temperature");
            }
            sampled = true;
            config.insert("temperature".into(), temperature.clamp(0.0, 1.0).into());
        }
        None => {}
    }
    let excluded = sampled && claude.is_some_and(Claude::samples_one_way);
    match prompt.top_p {
        Some(1.0) if refused || excluded => {}
        Some(_) if refused || excluded => losses.note("top_p"),
        Some(top_p) => drop(config.insert("topP".into(), top_p.into())),
        None => {}
    }
    match prompt.top_k {
        Some(top_k) if claude.is_some() && !refused => {
            wire.additional_model_request_fields.insert("top_k".into(), top_k.into());
        }
        Some(_) => losses.note("top_k"),
        None => {}
    }
    let stops = prompt.stop.iter().filter(|text| !text.trim().is_empty()).cloned();
    let stops: Vec<Value> = stops.map(Value::from).collect();
    if stops.len() < prompt.stop.len() {
        losses.note("stop");
    }
    if !stops.is_empty() {
        config.insert("stopSequences".into(), stops.into());
    }
}

fn tier(prompt: &Prompt, wire: &mut Wire, losses: &mut Losses) {
    match prompt.service_tier.as_deref() {
        None | Some("auto") => {}
        Some(tier @ ("default" | "flex" | "priority")) => wire.service_tier = Some(json!({"type": tier})),
        Some(_) => losses.note("service_tier"),
    }
}
