//! Writing a request.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::fields::refuse;
use super::{custom, write};
use crate::Dialect;
use crate::form::{Format, Losses, Part, Prompt, Role, Tool, ToolChoice, ToolFunction};
use crate::openai::Refusal;

pub(super) fn write(prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
    losses.note_rest(prompt);
    if prompt.choices > 1 {
        let text = "The provider of this model gives one answer for each request: leave `n` out.";
        return Err(refuse(Some("n"), text));
    }
    for (name, said) in [
        ("top_k", prompt.top_k.is_some()),
        ("frequency_penalty", prompt.frequency_penalty.is_some()),
        ("presence_penalty", prompt.presence_penalty.is_some()),
        ("stop", !prompt.stop.is_empty()),
        ("seed", prompt.seed.is_some()),
        // A stream brings them with the words, where the form between has no place for them.
        ("logprobs", prompt.logprobs && prompt.stream),
    ] {
        if said {
            losses.note(name);
        }
    }
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let (instructions, turns) = write::instructions(&prompt.turns, losses);
    put("model", Some(model.into()));
    put("instructions", instructions.map(Value::String));
    put("input", Some(Value::Array(write::items(turns, prompt, losses)?)));
    let tools = prompt.tools.iter().map(|tool| write_tool(tool, losses)).collect::<Result<Vec<_>, _>>()?;
    put("tools", (!tools.is_empty()).then_some(Value::Array(tools)));
    put("tool_choice", prompt.tool_choice.as_ref().map(|choice| write_choice(choice, prompt)));
    put("parallel_tool_calls", prompt.parallel_tools.filter(|_| !prompt.tools.is_empty()).map(Value::Bool));
    put("text", write_format(&prompt.format));
    put("reasoning", write_reasoning(prompt));
    let include = include(prompt);
    put("include", (!include.is_empty()).then(|| json!(include)));
    put("top_logprobs", prompt.top_logprobs.filter(|_| prompt.logprobs && !prompt.stream).map(Value::from));
    put("max_output_tokens", prompt.max_output.map(Value::from));
    put("temperature", prompt.temperature.map(Value::from));
    put("top_p", prompt.top_p.map(Value::from));
    put("user", prompt.user.clone().map(Value::String));
    put("metadata", prompt.metadata.clone().map(Value::Object));
    put("service_tier", prompt.service_tier.clone().map(Value::String));
    put("stream", prompt.stream.then_some(Value::Bool(true)));
    // Nothing stays behind that nobody asked to keep.
    put("store", Some(Value::Bool(false)));
    serde_json::to_vec(&body).map(Bytes::from).map_err(|e| refuse(None, e.to_string()))
}

fn write_tool(tool: &Tool, losses: &mut Losses) -> Result<Value, Refusal> {
    match tool {
        Tool::Function(function) => {
            if function.cache.is_some() {
                losses.note("cache_control");
            }
            Ok(write_function(function))
        }
        Tool::Native { dialect: Dialect::Responses, value } => Ok(value.clone()),
        Tool::Native { value, .. } => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("of that type");
            let text =
                format!("The provider of this model does not run the tool `{kind}`: offer functions only.");
            Err(refuse(Some("tools"), text))
        }
    }
}

pub(super) fn write_function(function: &ToolFunction) -> Value {
    let mut tool = match custom::is(function) {
        true => json!({"type": "custom", "name": function.name}),
        // Unless it is said, the provider would hold every schema to be strict.
        false => json!({
            "type": "function",
            "name": function.name,
            "parameters": function.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}})),
            "strict": function.strict.unwrap_or(false),
        }),
    };
    if let Some(description) = &function.description {
        tool["description"] = description.as_str().into();
    }
    tool
}

pub(super) fn write_choice(choice: &ToolChoice, prompt: &Prompt) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => {
            let kind = if custom::is_called(prompt, name) { "custom" } else { "function" };
            json!({"type": kind, "name": name})
        }
    }
}

pub(super) fn write_format(format: &Format) -> Option<Value> {
    Some(match format {
        Format::Text => return None,
        Format::Json => json!({"format": {"type": "json_object"}}),
        Format::Schema { name, description, schema, strict } => {
            let mut format = json!({
                "type": "json_schema",
                "name": name.as_deref().unwrap_or("answer"),
                "schema": schema,
            });
            if let Some(description) = description {
                format["description"] = description.as_str().into();
            }
            if let Some(strict) = strict {
                format["strict"] = (*strict).into();
            }
            json!({"format": format})
        }
    })
}

fn write_reasoning(prompt: &Prompt) -> Option<Value> {
    let ask = prompt.reasoning.as_ref()?;
    let mut reasoning = Map::new();
    if let Some(effort) = ask.words() {
        reasoning.insert("effort".into(), effort.into());
    }
    if let Some(show) = &ask.show {
        let known = ["auto", "concise", "detailed"].contains(&show.as_str());
        reasoning.insert("summary".into(), if known { show.as_str() } else { "auto" }.into());
    }
    Some(Value::Object(reasoning))
}

/// What the answer should bring beside itself: reasoning that can be given back, which models that do not reason
/// would refuse to give.
fn include(prompt: &Prompt) -> Vec<&'static str> {
    let mut include = Vec::new();
    let asked = prompt.reasoning.as_ref().is_some_and(|ask| ask.words() != Some("none"));
    let ours = |part: &Part| matches!(part, Part::Reasoning(r) if r.origin == Some(Dialect::Responses));
    if asked || prompt.turns.iter().any(|turn| turn.role == Role::Assistant && turn.parts.iter().any(ours)) {
        include.push("reasoning.encrypted_content");
    }
    if prompt.logprobs && !prompt.stream {
        include.push("message.output_text.logprobs");
    }
    include
}
