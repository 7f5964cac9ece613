//! Reading a request.

use serde_json::error::Category;
use serde_json::{Map, Value};

use super::fields::{Fields, refuse};
use super::{custom, items};
use crate::Dialect;
use crate::form::{Format, Part, Prompt, ReasoningAsk, Role, Tool, ToolChoice, ToolFunction, Turn};
use crate::openai::Refusal;

/// What an answer repeats of its request, when it was there.
const ECHOED: &[&str] = &[
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

pub(super) fn read(body: &[u8]) -> Result<Prompt, Refusal> {
    let map: Map<String, Value> = serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => refuse(None, "The request body must be a JSON object, as {\"model\": …}."),
        _ => refuse(None, format!("The request body is not valid JSON: {error}.")),
    })?;
    let echo = ECHOED.iter().filter_map(|name| map.get_key_value(*name));
    let echo = echo.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut fields = Fields::new(map, String::new(), None);
    refuse_what_only_openai_keeps(&mut fields)?;
    let mut lost = Map::new();
    let mut prompt = Prompt { model: fields.needed("model")?, choices: 1, echo, ..Prompt::default() };
    if let Some(text) = fields.string("instructions")? {
        prompt.turns.push(Turn { role: Role::System, name: None, parts: vec![Part::text(text)] });
    }
    match fields.take("input") {
        Some(Value::String(text)) => {
            prompt.turns.push(Turn { role: Role::User, name: None, parts: vec![Part::text(text)] });
        }
        Some(Value::Array(list)) if !list.is_empty() => items::read(list, &mut prompt.turns, &mut lost)?,
        Some(Value::Array(_)) => return Err(refuse(Some("input"), "`input` needs at least one item.")),
        Some(_) => return Err(refuse(Some("input"), "`input` must be a string or a list of items.")),
        None => return Err(refuse(Some("input"), "You must provide `input`: a string or a list of items.")),
    }
    if let Some(tools) = fields.list("tools")? {
        let tools = tools.into_iter().enumerate();
        prompt.tools = tools.map(|(at, value)| tool(value, at, &mut lost)).collect::<Result<_, _>>()?;
    }
    choose(&mut fields, &mut prompt)?;
    prompt.parallel_tools = fields.boolean("parallel_tool_calls")?;
    if let Some(text) = fields.object("text")? {
        prompt.format = format(text, &mut lost)?;
    }
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let show = reasoning.string("summary")?.or(reasoning.string("generate_summary")?);
        let ask = ReasoningAsk { effort: reasoning.string("effort")?, budget: None, show };
        prompt.reasoning = (ask != ReasoningAsk::default()).then_some(ask);
        reasoning.leave("reasoning", &mut lost);
    }
    include(&mut fields, &mut prompt, &mut lost)?;
    prompt.max_output = fields.whole("max_output_tokens")?;
    prompt.temperature = fields.number("temperature")?;
    prompt.top_p = fields.number("top_p")?;
    prompt.top_logprobs = fields.whole("top_logprobs")?.filter(|n| *n > 0);
    let user = fields.string("user")?;
    prompt.user = fields.string("safety_identifier")?.or(user);
    prompt.metadata = fields.object("metadata")?.map(Fields::rest);
    prompt.service_tier = fields.string("service_tier")?;
    prompt.stream = fields.boolean("stream")?.unwrap_or(false);
    if let Some(mut options) = fields.object("stream_options")? {
        // Nothing is ever padded here, which is what `false` asks for.
        if options.peek("include_obfuscation") == Some(&Value::Bool(false)) {
            options.take("include_obfuscation");
        }
        options.leave("stream_options", &mut lost);
    }
    if fields.string("truncation")?.is_some_and(|how| how != "disabled") {
        lost.insert("truncation".into(), Value::Null);
    }
    // Kept here, not at the provider.
    fields.boolean("store")?;
    fields.leave_all(&mut lost);
    prompt.rest = lost;
    Ok(prompt)
}

/// What names something that only OpenAI has, or would have to be waited for.
fn refuse_what_only_openai_keeps(fields: &mut Fields) -> Result<(), Refusal> {
    if fields.boolean("background")? == Some(true) {
        let text = "The provider of this model answers at once only: leave `background` out.";
        return Err(refuse(Some("background"), text));
    }
    for (name, what) in [
        (
            "previous_response_id",
            "names no response that is kept here: send the whole conversation as `input`",
        ),
        ("conversation", "names a conversation at OpenAI: send the whole conversation as `input`"),
        ("prompt", "names a template at OpenAI: send its text as `instructions` and `input`"),
    ] {
        if fields.take(name).is_some() {
            return Err(refuse(Some(name), format!("`{name}` {what}.")));
        }
    }
    Ok(())
}

fn tool(value: Value, at: usize, lost: &mut Map<String, Value>) -> Result<Tool, Refusal> {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let native = value.clone();
    let mut fields = Fields::of(value, format!("tools[{at}]"), "tools")?;
    fields.take("type");
    match kind.as_str() {
        "function" => {
            let function = ToolFunction {
                name: fields.needed("name")?,
                description: fields.string("description")?,
                parameters: fields.object("parameters")?.map(|schema| Value::Object(schema.rest())),
                strict: fields.boolean("strict")?,
                cache: None,
            };
            fields.leave("tools", lost);
            Ok(Tool::Function(function))
        }
        "custom" => {
            let function = custom::function(fields.needed("name")?, fields.string("description")?);
            // Free text is all there is elsewhere; a grammar is not.
            let format = fields.object("format")?;
            if format.is_some_and(|format| format.peek("type").is_some_and(|kind| kind != "text")) {
                lost.insert("tools.format".into(), Value::Null);
            }
            fields.leave("tools", lost);
            Ok(Tool::Function(function))
        }
        "" => Err(fields.wrong("type", "is missing: it must be `function`, `custom` or a tool of OpenAI's")),
        _ => Ok(Tool::Native { dialect: Dialect::Responses, value: native }),
    }
}

/// `tool_choice`; a list of allowed tools leaves only those.
fn choose(fields: &mut Fields, prompt: &mut Prompt) -> Result<(), Refusal> {
    let wrong = "must be `none`, `auto`, `required`, a function or `allowed_tools`";
    let mode = |mode: &str| match mode {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        "required" => Some(ToolChoice::Required),
        _ => None,
    };
    match fields.take("tool_choice") {
        None => {}
        Some(Value::String(word)) => {
            prompt.tool_choice = Some(mode(&word).ok_or_else(|| fields.wrong("tool_choice", wrong))?);
        }
        Some(value) => {
            let mut choice = Fields::of(value, "tool_choice".into(), "tool_choice")?;
            match choice.needed("type")?.as_str() {
                "function" | "custom" => prompt.tool_choice = Some(ToolChoice::Named(choice.needed("name")?)),
                "allowed_tools" => {
                    let word = choice.string("mode")?.unwrap_or_else(|| "auto".into());
                    prompt.tool_choice = Some(mode(&word).ok_or_else(|| choice.wrong("mode", wrong))?);
                    allow(&choice.list("tools")?.unwrap_or_default(), &mut prompt.tools);
                }
                kind => {
                    let text = format!(
                        "The provider of this model does not run the tool `{kind}`: `tool_choice` {wrong}."
                    );
                    return Err(refuse(Some("tool_choice"), text));
                }
            }
        }
    }
    Ok(())
}

fn allow(allowed: &[Value], tools: &mut Vec<Tool>) {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let names: std::collections::HashSet<String> =
        allowed.iter().filter_map(|tool| text(tool, "name")).collect();
    let kinds: std::collections::HashSet<String> =
        allowed.iter().filter_map(|tool| text(tool, "type")).collect();
    tools.retain(|tool| match tool {
        Tool::Function(function) => names.contains(&function.name),
        Tool::Native { value, .. } => text(value, "type").is_some_and(|kind| kinds.contains(&kind)),
    });
}

fn format(mut text: Fields, lost: &mut Map<String, Value>) -> Result<Format, Refusal> {
    let format = match text.object("format")? {
        None => Format::Text,
        Some(mut wire) => {
            let format = match wire.needed("type")?.as_str() {
                "text" => Format::Text,
                "json_object" => Format::Json,
                "json_schema" => Format::Schema {
                    name: wire.string("name")?,
                    description: wire.string("description")?,
                    schema: match wire.object("schema")? {
                        Some(schema) => Value::Object(schema.rest()),
                        None => return Err(wire.wrong("schema", "is missing: it must be a JSON Schema")),
                    },
                    strict: wire.boolean("strict")?,
                },
                _ => return Err(wire.wrong("type", "must be `text`, `json_object` or `json_schema`")),
            };
            wire.leave("text.format", lost);
            format
        }
    };
    text.leave("text", lost);
    Ok(format)
}

/// `include`: what is always there is left out of the losses.
fn include(fields: &mut Fields, prompt: &mut Prompt, lost: &mut Map<String, Value>) -> Result<(), Refusal> {
    for wanted in fields.list("include")?.unwrap_or_default() {
        match wanted.as_str() {
            // Whatever proves reasoning to its maker is always in the answer.
            Some("reasoning.encrypted_content") => {}
            Some("message.output_text.logprobs") => prompt.logprobs = true,
            Some(other) => drop(lost.insert(format!("include.{other}"), Value::Null)),
            None => return Err(refuse(Some("include"), "`include` must be a list of strings.")),
        }
    }
    Ok(())
}
