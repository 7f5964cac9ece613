//! Reading a request.

use serde_json::{Map, Value};

use super::blocks;
use crate::Dialect;
use crate::dialects::shared::fields::Fields;
use crate::form::{Format, Part, Prompt, ReasoningAsk, Role, Tool, ToolChoice, ToolFunction, Turn};
use crate::openai::Refusal;

/// The most messages that a request may have, which is Anthropic's own limit.
const MAX_MESSAGES: usize = 100_000;

/// Reads a request to answer (`answers`) or one to count tokens, which needs no `max_tokens`.
pub(super) fn prompt(body: &[u8], answers: bool) -> Result<Prompt, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let text = format!("The request body is not valid JSON: {error}.");
        Refusal { message: text, param: None }
    })?;
    if !value.is_object() {
        let text = "The request body must be a JSON object, as {\"model\": …}.";
        return Err(Refusal { message: text.into(), param: None });
    }
    let mut fields = Fields::of(value, "", "messages")?;
    let mut lost = Map::new();
    let mut turns = system(&mut fields, &mut lost)?;
    let messages = fields.list("messages")?;
    if messages.is_empty() {
        return Err(fields.refuse("`messages` must be a list with at least one message."));
    }
    if messages.len() > MAX_MESSAGES {
        return Err(fields.refuse(format!("`messages` may have at most {MAX_MESSAGES} messages.")));
    }
    for (at, message) in messages.into_iter().enumerate() {
        turns.push(turn(message, at, &mut lost)?);
    }
    let max_output = max_tokens(&mut fields, answers)?;
    let tools = fields.list("tools")?.into_iter().enumerate();
    let tools = tools.map(|(at, tool)| read_tool(tool, at, &mut lost)).collect::<Result<_, _>>()?;
    let (tool_choice, parallel_tools) = choice(&mut fields)?;
    let (effort, format) = output(&mut fields, &mut lost)?;
    let mut prompt = Prompt {
        model: fields.need("model")?,
        turns,
        tools,
        tool_choice,
        parallel_tools,
        format,
        max_output,
        temperature: fields.number("temperature", 0.0, 1.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        top_k: fields.whole("top_k")?,
        stop: stop(&mut fields)?,
        choices: 1,
        reasoning: thinking(&mut fields, effort, &mut lost)?,
        user: user(&mut fields, &mut lost)?,
        service_tier: fields.string("service_tier")?.map(|tier| match tier.as_str() {
            "standard_only" => "default".to_owned(),
            _ => tier,
        }),
        stream: fields.boolean("stream")?.unwrap_or(false),
        include_usage: true,
        ..Prompt::default()
    };
    prompt.rest = fields.rest().collect();
    prompt.rest.extend(lost);
    Ok(prompt)
}

fn max_tokens(fields: &mut Fields, answers: bool) -> Result<Option<u64>, Refusal> {
    let wrong = |text: &str| Refusal { message: text.to_owned(), param: Some("max_tokens") };
    match fields.whole("max_tokens") {
        Ok(Some(0)) => {
            Err(wrong("`max_tokens` must be 1 at least: this model's provider has no cache to warm."))
        }
        Ok(None) if answers => {
            Err(wrong("`max_tokens` is missing: give the most tokens the answer may have."))
        }
        Ok(most) => Ok(most),
        Err(refusal) => Err(wrong(&refusal.message)),
    }
}

/// The instructions, as a turn of their own.
fn system(fields: &mut Fields, lost: &mut Map<String, Value>) -> Result<Vec<Turn>, Refusal> {
    let parts = match fields.take("system") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![Part::text(text)],
        Some(Value::Array(list)) => blocks::read_all(list, "system", "system", lost)?,
        Some(_) => {
            let text = "`system` must be a string or a list of text blocks.";
            return Err(Refusal { message: text.into(), param: Some("system") });
        }
    };
    if parts.iter().any(|part| !matches!(part, Part::Text { .. })) {
        let text = "`system` may hold blocks of type `text` only.";
        return Err(Refusal { message: text.into(), param: Some("system") });
    }
    Ok(vec![Turn { role: Role::System, name: None, parts }])
}

fn turn(message: Value, at: usize, lost: &mut Map<String, Value>) -> Result<Turn, Refusal> {
    let place = format!("messages[{at}]");
    let mut fields = Fields::of(message, place.as_str(), "messages")?;
    let role = match fields.need("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => {
            let known = "`user`, `assistant` or `system`";
            return Err(fields.refuse(format!("`{place}.role` is `{other}`: use {known}.")));
        }
    };
    let parts = match fields.take("content") {
        Some(Value::String(text)) => vec![Part::text(text)],
        Some(Value::Array(list)) => blocks::read_all(list, &format!("{place}.content"), "messages", lost)?,
        _ => {
            let text = format!("`{place}.content` must be a string or a list of content blocks.");
            return Err(fields.refuse(text));
        }
    };
    lost.extend(fields.rest().map(|(name, value)| (format!("messages.{name}"), value)));
    Ok(Turn { role, name: None, parts })
}

fn read_tool(tool: Value, at: usize, lost: &mut Map<String, Value>) -> Result<Tool, Refusal> {
    let kind = tool.get("type").and_then(Value::as_str);
    if kind.is_some_and(|kind| kind != "custom") {
        return Ok(Tool::Native { dialect: Dialect::Messages, value: tool });
    }
    let mut fields = Fields::of(tool, format!("tools[{at}]"), "tools")?;
    // It says what no type says, too.
    fields.take("type");
    let function = ToolFunction {
        name: fields.need("name")?,
        description: fields.string("description")?,
        parameters: fields.take("input_schema"),
        strict: fields.boolean("strict")?,
        cache: fields.take("cache_control"),
    };
    lost.extend(fields.rest().map(|(name, value)| (format!("tools.{name}"), value)));
    Ok(Tool::Function(function))
}

/// `tool_choice`, and whether one answer may hold several calls.
fn choice(fields: &mut Fields) -> Result<(Option<ToolChoice>, Option<bool>), Refusal> {
    let wrong = || {
        let text = "`tool_choice.type` must be `auto`, `any`, `tool` (with `name`) or `none`.";
        Refusal { message: text.into(), param: Some("tool_choice") }
    };
    let Some(mut choice) = fields.object("tool_choice").map_err(|_| wrong())? else {
        return Ok((None, None));
    };
    let parallel = choice.boolean("disable_parallel_tool_use")?.map(|disabled| !disabled);
    let read = match choice.string("type").map_err(|_| wrong())?.as_deref() {
        Some("auto") => ToolChoice::Auto,
        Some("any") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some("tool") => ToolChoice::Named(choice.need("name").map_err(|_| wrong())?),
        _ => return Err(wrong()),
    };
    Ok((Some(read), parallel))
}

/// `output_config`, and `output_format`, its older form.
fn output(fields: &mut Fields, lost: &mut Map<String, Value>) -> Result<(Option<String>, Format), Refusal> {
    let (mut effort, mut format) = (None, fields.object("output_format")?);
    if let Some(mut config) = fields.object("output_config")? {
        effort = config.string("effort")?;
        format = config.object("format")?.or(format);
        lost.extend(config.rest().map(|(name, value)| (format!("output_config.{name}"), value)));
    }
    let Some(mut wire) = format else { return Ok((effort, Format::Text)) };
    let kind = wire.need("type")?;
    let schema = wire.take("schema").filter(Value::is_object);
    match (kind.as_str(), schema) {
        ("json_schema", Some(schema)) => {
            let format = Format::Schema { name: None, description: None, schema, strict: Some(true) };
            Ok((effort, format))
        }
        _ => {
            let text = "`output_config.format` must be {\"type\": \"json_schema\", \"schema\": {…}}.";
            Err(Refusal { message: text.into(), param: Some("output_config") })
        }
    }
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let list = fields.list("stop_sequences")?.into_iter();
    list.map(|value| match value {
        Value::String(text) => Ok(text),
        _ => {
            let text = "`stop_sequences` must be a list of strings.";
            Err(Refusal { message: text.into(), param: Some("stop_sequences") })
        }
    })
    .collect()
}

fn thinking(
    fields: &mut Fields,
    effort: Option<String>,
    lost: &mut Map<String, Value>,
) -> Result<Option<ReasoningAsk>, Refusal> {
    // `max` is more than the other dialects have.
    let effort = effort.map(|word| if word == "max" { "xhigh".to_owned() } else { word });
    let only_effort =
        effort.clone().map(|word| ReasoningAsk { effort: Some(word), ..ReasoningAsk::default() });
    let Some(mut thinking) = fields.object("thinking")? else { return Ok(only_effort) };
    let shown = thinking.string("display")?.is_none_or(|display| display != "omitted");
    let show = shown.then(|| "auto".to_owned());
    match thinking.need("type")?.as_str() {
        "enabled" => {
            let budget = thinking.whole("budget_tokens")?.ok_or_else(|| {
                let text = "`thinking.budget_tokens` is missing: give a whole number of 1024 at least.";
                Refusal { message: text.into(), param: Some("thinking") }
            })?;
            Ok(Some(ReasoningAsk { effort, budget: Some(budget), show }))
        }
        "adaptive" => Ok(Some(ReasoningAsk { effort, budget: None, show })),
        "disabled" => Ok(Some(ReasoningAsk { effort: Some("none".into()), ..ReasoningAsk::default() })),
        other => {
            lost.insert("thinking".into(), other.into());
            Ok(only_effort)
        }
    }
}

fn user(fields: &mut Fields, lost: &mut Map<String, Value>) -> Result<Option<String>, Refusal> {
    let Some(mut metadata) = fields.object("metadata")? else { return Ok(None) };
    let user = metadata.string("user_id")?;
    lost.extend(metadata.rest().map(|(name, value)| (format!("metadata.{name}"), value)));
    Ok(user)
}
