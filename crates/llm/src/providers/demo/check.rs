//! What a request must satisfy beyond its types, so that a mistake is told and not guessed at.

use chat::{
    ChatRequest, Content, ContentPart, FunctionDefinition, Message, ResponseFormat, Role, Tool, ToolChoice,
    ToolChoiceMode,
};
use serde_json::Value;

use super::{DemoOperation, MODELS, MOST_CHOICES, Refusal};

/// The most tools of a request.
const MOST_TOOLS: usize = 128;

/// The model must be the one that does this.
pub(super) fn model(operation: DemoOperation, model: &str) -> Result<(), Refusal> {
    if model == operation.model() {
        return Ok(());
    }
    let message = match MODELS.iter().find(|(name, _)| *name == model) {
        Some((name, what)) => {
            format!("The demo model `{name}` is for {what}. For this call use `{}`.", operation.model())
        }
        None => {
            let names: Vec<String> = MODELS.iter().map(|(name, _)| format!("`{name}`")).collect();
            let asked = super::text::beginning(model, 200);
            format!("The demo provider has no model `{asked}`. It has {}.", names.join(" and "))
        }
    };
    Err(Refusal { status: 404, message, param: Some("model".to_owned()), code: Some("model_not_found") })
}

/// Everything a chat request must satisfy.
pub(super) fn chat(request: &ChatRequest) -> Result<(), Refusal> {
    numbers(request)?;
    abilities(request)?;
    if request.messages.is_empty() {
        let message = "Invalid 'messages': expected at least one message, got an empty array.";
        return Err(Refusal::invalid("messages", "empty_array", message));
    }
    for (index, message) in request.messages.iter().enumerate() {
        self::message(message, &format!("messages[{index}]"))?;
    }
    tools(request)?;
    response_format(request)
}

fn numbers(request: &ChatRequest) -> Result<(), Refusal> {
    between("temperature", request.temperature, 0.0, 2.0)?;
    between("top_p", request.top_p, 0.0, 1.0)?;
    between("frequency_penalty", request.frequency_penalty, -2.0, 2.0)?;
    between("presence_penalty", request.presence_penalty, -2.0, 2.0)?;
    within("n", request.n, 1, MOST_CHOICES)?;
    within("max_tokens", request.max_tokens, 1, u64::MAX)?;
    within("max_completion_tokens", request.max_completion_tokens, 1, u64::MAX)?;
    within("top_logprobs", request.top_logprobs, 0, 20)?;
    let stops = request.stop.as_ref().map_or(0, |stop| stop.as_slice().len());
    if stops > 4 {
        let message = format!("Invalid 'stop': expected at most 4 texts, got {stops}.");
        return Err(Refusal::invalid("stop", "array_above_max_length", message));
    }
    Ok(())
}

fn between(param: &str, value: Option<f64>, low: f64, high: f64) -> Result<(), Refusal> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            let message = format!("Invalid '{param}': expected a number from {low} to {high}, got {value}.");
            Err(Refusal::invalid(param, "out_of_range", message))
        }
        _ => Ok(()),
    }
}

/// Whole numbers in a range; `u64::MAX` stands for no upper end.
pub(super) fn within(param: &str, value: Option<u64>, low: u64, high: u64) -> Result<(), Refusal> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            let range =
                if high == u64::MAX { format!("of at least {low}") } else { format!("from {low} to {high}") };
            let message = format!("Invalid '{param}': expected a whole number {range}, got {value}.");
            Err(Refusal::invalid(param, "out_of_range", message))
        }
        _ => Ok(()),
    }
}

/// Refuses what would change the answer and cannot be done. What only advises a model (`seed`, `user`,
/// `reasoning_effort`, `logit_bias` …) is fine.
fn abilities(request: &ChatRequest) -> Result<(), Refusal> {
    let modalities = request.modalities.iter().flatten();
    if let Some(other) = modalities.into_iter().find(|modality| *modality != "text") {
        let other = super::text::beginning(other, 60);
        return Err(Refusal::unsupported("modalities", &format!("answers in text only, not in `{other}`")));
    }
    if request.logprobs == Some(true) {
        return Err(Refusal::unsupported("logprobs", "has no probabilities to report"));
    }
    if request.stream_options.is_some() && request.stream != Some(true) {
        let message = "'stream_options' is only allowed when 'stream' is true.";
        return Err(Refusal::invalid("stream_options", "invalid_value", message));
    }
    let refused = [
        ("audio", "answers in text only"),
        ("functions", "takes `tools`, not the older `functions`"),
        ("function_call", "takes `tool_choice`, not the older `function_call`"),
        ("web_search_options", "runs offline and cannot search the web"),
    ];
    for (param, what) in refused {
        if request.extra.get(param).is_some_and(|value| !value.is_null()) {
            return Err(Refusal::unsupported(param, what));
        }
    }
    Ok(())
}

fn message(message: &Message, path: &str) -> Result<(), Refusal> {
    if let Role::Other(role) = &message.role {
        let role = super::text::beginning(role, 60);
        let text = format!(
            "Invalid value for '{path}.role': '{role}'. Supported are 'system', 'developer', 'user', 'assistant' and 'tool'."
        );
        return Err(Refusal::invalid(format!("{path}.role"), "invalid_value", text));
    }
    let missing = |field: &str| {
        let param = format!("{path}.{field}");
        let text = format!("Missing required parameter: '{param}'.");
        Err(Refusal::invalid(param, "missing_required_parameter", text))
    };
    if message.role == Role::Tool && message.tool_call_id.is_none() {
        return missing("tool_call_id");
    }
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    let may_be_empty = message.role == Role::Assistant && (!calls.is_empty() || message.refusal.is_some());
    match &message.content {
        None if may_be_empty => Ok(()),
        None => missing("content"),
        Some(Content::Text(_)) => Ok(()),
        Some(Content::Parts(parts)) => parts.iter().enumerate().try_for_each(|(index, part)| {
            self::part(&message.role, part, &format!("{path}.content[{index}]"))
        }),
    }
}

fn part(role: &Role, part: &ContentPart, path: &str) -> Result<(), Refusal> {
    match part {
        ContentPart::Text(_) => Ok(()),
        ContentPart::ImageUrl(_) if *role == Role::User => Ok(()),
        ContentPart::Refusal(_) if *role == Role::Assistant => Ok(()),
        ContentPart::InputAudio(_) => Err(Refusal::unsupported(path, "cannot hear sound")),
        ContentPart::File(_) => Err(Refusal::unsupported(path, "cannot read files")),
        ContentPart::ImageUrl(_) | ContentPart::Refusal(_) | ContentPart::Other(_) => {
            let text = format!(
                "Invalid value for '{path}': not a well-formed content part that a message of this role may have. Use {{\"type\": \"text\", \"text\": …}}, or in a user's message {{\"type\": \"image_url\", \"image_url\": {{\"url\": …}}}}."
            );
            Err(Refusal::invalid(path, "invalid_value", text))
        }
    }
}

fn tools(request: &ChatRequest) -> Result<(), Refusal> {
    let tools = request.tools.as_deref().unwrap_or_default();
    if tools.len() > MOST_TOOLS {
        let text = format!("Invalid 'tools': expected at most {MOST_TOOLS}, got {}.", tools.len());
        return Err(Refusal::invalid("tools", "array_above_max_length", text));
    }
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("tools[{index}]");
        let Tool::Function(tool) = tool else {
            let text = format!(
                "Invalid value for '{path}': Trunkline's demo model takes {{\"type\": \"function\", \"function\": {{\"name\": …}}}} only."
            );
            return Err(Refusal::invalid(path, "invalid_value", text));
        };
        function(&tool.function, &format!("{path}.function"))?;
    }
    let Some(choice) = &request.tool_choice else { return Ok(()) };
    let refuse = |text: String| Err(Refusal::invalid("tool_choice", "invalid_value", text));
    match choice {
        ToolChoice::Mode(ToolChoiceMode::None) => Ok(()),
        _ if tools.is_empty() => refuse("'tool_choice' is only allowed when 'tools' are given.".to_owned()),
        ToolChoice::Mode(_) => Ok(()),
        ToolChoice::Named(named) if named.kind == "function" => {
            if functions(request).any(|(_, function)| function.name == named.function.name) {
                return Ok(());
            }
            let name = super::text::beginning(&named.function.name, 64);
            refuse(format!("Invalid 'tool_choice': 'tools' has no function '{name}'."))
        }
        ToolChoice::Named(_) | ToolChoice::Other(_) => refuse(
            "Invalid 'tool_choice': expected 'none', 'auto', 'required' or {\"type\": \"function\", \"function\": {\"name\": …}}."
                .to_owned(),
        ),
    }
}

/// The request's functions, each with its place among the tools.
pub(super) fn functions(request: &ChatRequest) -> impl Iterator<Item = (usize, &FunctionDefinition)> {
    request.tools.iter().flatten().enumerate().filter_map(|(index, tool)| match tool {
        Tool::Function(tool) => Some((index, &tool.function)),
        Tool::Other(_) => None,
    })
}

fn function(function: &FunctionDefinition, path: &str) -> Result<(), Refusal> {
    name(&function.name, &format!("{path}.name"))?;
    let Some(parameters) = &function.parameters else { return Ok(()) };
    let kind = parameters.get("type").and_then(Value::as_str);
    if parameters.is_object() && kind.is_none_or(|kind| kind == "object") {
        return Ok(());
    }
    let param = format!("{path}.parameters");
    let text = format!("Invalid value for '{param}': expected a JSON Schema of type 'object'.");
    Err(Refusal::invalid(param, "invalid_function_parameters", text))
}

fn name(name: &str, path: &str) -> Result<(), Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let text = format!("Invalid '{path}': expected 1 to 64 letters, digits, '_' or '-'.");
    Err(Refusal::invalid(path, "invalid_value", text))
}

fn response_format(request: &ChatRequest) -> Result<(), Refusal> {
    match &request.response_format {
        None | Some(ResponseFormat::Text { .. } | ResponseFormat::JsonObject { .. }) => Ok(()),
        Some(ResponseFormat::JsonSchema { json_schema, .. }) => {
            name(&json_schema.name, "response_format.json_schema.name")?;
            if json_schema.schema.is_some() {
                return Ok(());
            }
            let param = "response_format.json_schema.schema";
            let text = format!("Missing required parameter: '{param}'.");
            Err(Refusal::invalid(param, "missing_required_parameter", text))
        }
        Some(ResponseFormat::Other(_)) => {
            let text = "Invalid value for 'response_format': expected {\"type\": \"text\"}, {\"type\": \"json_object\"} or {\"type\": \"json_schema\", \"json_schema\": {\"name\": …, \"schema\": …}}.";
            Err(Refusal::invalid("response_format", "invalid_value", text))
        }
    }
}
