//! Reading a request.

use serde_json::Value;

use super::calls::Calls;
use super::wire::{
    Content, FunctionDeclaration, GenerationConfig, Request, Rest, ThinkingConfig, ToolConfig,
};
use super::{parts, schema};
use crate::Dialect;
use crate::form::{Format, Part, Prompt, ReasoningAsk, Role, Tool, ToolChoice, ToolFunction, Turn};
use crate::openai::Refusal;

/// The most answers to one request that are told apart.
const MAX_CANDIDATES: i64 = 1_024;

pub(super) fn refuse(param: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), param: Some(param) }
}

pub(super) fn prompt(body: &[u8], path: Option<(&str, bool)>) -> Result<Prompt, Refusal> {
    let wire = request(body)?;
    let model = match path {
        Some((model, _)) => model,
        None => wire.model.as_deref().unwrap_or_default(),
    };
    let mut prompt = Prompt {
        model: model.strip_prefix("models/").unwrap_or(model).to_owned(),
        stream: path.is_some_and(|(_, stream)| stream),
        choices: 1,
        service_tier: wire.service_tier.as_deref().map(tier),
        ..Prompt::default()
    };
    let mut lost = Lost(wire.rest);
    let mut turns = Turns::default();
    if let Some(instruction) = wire.system_instruction {
        turns.instruct(instruction, &mut lost)?;
    }
    if let Some(cached) = wire.cached_content.filter(|name| !name.is_empty()) {
        // A part of the conversation that only its provider has.
        let value = serde_json::json!({"type": "cachedContent", "cachedContent": cached});
        let parts = vec![Part::Native { dialect: Dialect::Gemini, value }];
        turns.all.insert(0, Turn { role: Role::System, name: None, parts });
    }
    if wire.contents.is_empty() {
        return Err(refuse("contents", "`contents` must be a list with at least one message."));
    }
    for content in wire.contents {
        turns.push(content, &mut lost)?;
    }
    prompt.turns = turns.all;
    for tool in wire.tools {
        for function in tool.function_declarations {
            prompt.tools.push(Tool::Function(declared(function, &mut lost)?));
        }
        for (name, value) in tool.rest {
            let value = Value::Object(Rest::from_iter([(name, value)]));
            prompt.tools.push(Tool::Native { dialect: Dialect::Gemini, value });
        }
    }
    if let Some(config) = wire.tool_config {
        choose(&mut prompt, config, &mut lost)?;
    }
    if let Some(config) = wire.generation_config {
        configure(&mut prompt, config, &mut lost)?;
    }
    prompt.rest = lost.0;
    prompt.rest.retain(|_, value| !value.is_null());
    Ok(prompt)
}

/// The body as a request, or a sentence that says where it is none.
pub(super) fn request(body: &[u8]) -> Result<Request, Refusal> {
    if body.is_empty() {
        let message = "The request body is empty: send a JSON object with `contents`.".into();
        return Err(Refusal { message, param: None });
    }
    let json = &mut serde_json::Deserializer::from_slice(body);
    let unreadable = |at: Option<String>, error: &serde_json::Error| {
        let place = at.filter(|at| at != ".").map(|at| format!(" at `{at}`")).unwrap_or_default();
        // The text may quote what the caller wrote.
        let text: String = error.to_string().chars().take(200).collect();
        let message = if text.starts_with("recursion limit exceeded") {
            "The request body is nested deeper than 127 levels: flatten it.".to_owned()
        } else if error.is_data() {
            format!("The request is not a generateContent request{place}: {text}.")
        } else {
            format!("The request body is not valid JSON: {text}.")
        };
        Refusal { message, param: None }
    };
    let wire: Request = serde_path_to_error::deserialize(&mut *json)
        .map_err(|e| unreadable(Some(e.path().to_string()), e.inner()))?;
    json.end().map_err(|e| unreadable(None, &e))?;
    Ok(wire)
}

/// What has no place in the form, by the path it has in the request.
pub(super) struct Lost(pub Rest);

impl Lost {
    pub fn add(&mut self, path: &str, rest: Rest) {
        let rest = rest.into_iter().filter(|(_, value)| !value.is_null());
        self.0.extend(rest.map(|(name, value)| (format!("{path}.{name}"), value)));
    }
}

/// The conversation as it is read.
#[derive(Default)]
struct Turns {
    all: Vec<Turn>,
    calls: Calls,
}

impl Turns {
    fn instruct(&mut self, content: Content, lost: &mut Lost) -> Result<(), Refusal> {
        let mut said = Vec::with_capacity(content.parts.len());
        for part in content.parts {
            let only_text =
                part.text.is_some() && part.thought != Some(true) && part.thought_signature.is_none();
            if !only_text {
                return Err(refuse(
                    "systemInstruction",
                    "`systemInstruction` may hold parts with `text` only.",
                ));
            }
            parts::read(part, Role::System, &mut said, &mut self.calls, lost)?;
        }
        if !said.is_empty() {
            self.all.push(Turn { role: Role::System, name: None, parts: said });
        }
        Ok(())
    }

    fn push(&mut self, content: Content, lost: &mut Lost) -> Result<(), Refusal> {
        let role = match content.role.as_deref() {
            None | Some("" | "user" | "function") => Role::User,
            Some("model") => Role::Assistant,
            Some(other) => {
                let other: String = other.chars().take(40).collect();
                let says = "use `user` or `model`, and `systemInstruction` for instructions";
                return Err(refuse("contents", format!("`{other}` is no role of a content: {says}.")));
            }
        };
        lost.add("contents", content.rest);
        // A streamed answer is kept by the SDKs as a content for each chunk.
        let joins = role == Role::Assistant && self.all.last().is_some_and(|last| last.role == role);
        if !joins {
            self.all.push(Turn { role, name: None, parts: Vec::with_capacity(content.parts.len()) });
        }
        let Some(turn) = self.all.last_mut() else { return Ok(()) };
        for part in content.parts {
            parts::read(part, role, &mut turn.parts, &mut self.calls, lost)?;
        }
        if turn.parts.is_empty() {
            self.all.pop();
        }
        Ok(())
    }
}

fn tier(word: &str) -> String {
    match word.to_ascii_lowercase().as_str() {
        "standard" => "default".into(),
        "unspecified" | "service_tier_unspecified" => "auto".into(),
        other => other.into(),
    }
}

fn declared(wire: FunctionDeclaration, lost: &mut Lost) -> Result<ToolFunction, Refusal> {
    let Some(name) = wire.name.filter(|name| !name.is_empty()) else {
        return Err(refuse("tools", "A function declaration in `tools` has no `name`: give it one."));
    };
    let own = wire.parameters.filter(|schema| !schema.is_null());
    let json = wire.parameters_json_schema.filter(|schema| !schema.is_null());
    if own.is_some() && json.is_some() {
        let text = format!("The function `{name}` has `parameters` and `parametersJsonSchema`: keep one.");
        return Err(refuse("tools", text));
    }
    lost.add("tools.functionDeclarations", wire.rest);
    let parameters = json.or_else(|| own.map(|schema| schema::to_json_schema(&schema)));
    let description = wire.description.filter(|text| !text.is_empty());
    Ok(ToolFunction { name, description, parameters, strict: None, cache: None })
}

fn choose(prompt: &mut Prompt, config: ToolConfig, lost: &mut Lost) -> Result<(), Refusal> {
    lost.add("toolConfig", config.rest);
    let Some(config) = config.function_calling_config else { return Ok(()) };
    lost.add("toolConfig.functionCallingConfig", config.rest);
    let allowed = config.allowed_function_names;
    let mode = config.mode.unwrap_or_default().to_ascii_uppercase();
    let (choice, is_limited) = match mode.as_str() {
        "" | "MODE_UNSPECIFIED" => return Ok(()),
        "AUTO" => (ToolChoice::Auto, false),
        "NONE" => (ToolChoice::None, false),
        "ANY" => match allowed.as_slice() {
            [one] => (ToolChoice::Named(one.clone()), false),
            _ => (ToolChoice::Required, true),
        },
        "VALIDATED" => {
            // `strict` would be near it, but asks more of the schemas themselves.
            lost.0.insert("toolConfig.functionCallingConfig.mode".into(), mode.into());
            (ToolChoice::Auto, true)
        }
        _ => {
            let text = "`functionCallingConfig.mode` must be AUTO, ANY, NONE or VALIDATED.";
            return Err(refuse("toolConfig", text));
        }
    };
    prompt.tool_choice = Some(choice);
    // Other dialects cannot leave out some of what they offer: those that may not be called are not offered.
    if is_limited && !allowed.is_empty() {
        let allowed: std::collections::HashSet<&str> = allowed.iter().map(String::as_str).collect();
        prompt.tools.retain(|tool| match tool {
            Tool::Function(function) => allowed.contains(function.name.as_str()),
            Tool::Native { .. } => true,
        });
    }
    Ok(())
}

fn configure(prompt: &mut Prompt, config: GenerationConfig, lost: &mut Lost) -> Result<(), Refusal> {
    let positive = |value: Option<i64>, says: &str| match value {
        Some(value) if value < 0 => {
            Err(refuse("generationConfig", format!("`{says}` must not be negative.")))
        }
        Some(value) => Ok(Some(value.unsigned_abs())),
        None => Ok(None),
    };
    prompt.choices = match config.candidate_count {
        None | Some(0) => 1,
        Some(count @ 1..=MAX_CANDIDATES) => u32::try_from(count).unwrap_or(1),
        Some(_) => {
            let text = format!("`candidateCount` must be from 1 to {MAX_CANDIDATES}.");
            return Err(refuse("generationConfig", text));
        }
    };
    prompt.max_output = positive(config.max_output_tokens, "maxOutputTokens")?;
    prompt.top_k = positive(config.top_k, "topK")?;
    prompt.top_logprobs = positive(config.logprobs, "logprobs")?;
    prompt.logprobs = config.response_logprobs.unwrap_or(false);
    prompt.temperature = config.temperature;
    prompt.top_p = config.top_p;
    prompt.presence_penalty = config.presence_penalty;
    prompt.frequency_penalty = config.frequency_penalty;
    prompt.seed = config.seed;
    prompt.stop = config.stop_sequences;
    prompt.reasoning = config.thinking_config.map(thinking).transpose()?;
    if config.response_modalities.iter().any(|modality| !modality.eq_ignore_ascii_case("text")) {
        lost.0.insert("generationConfig.responseModalities".into(), config.response_modalities.into());
    }
    lost.add("generationConfig", config.rest);
    let own = config.response_schema.filter(|schema| !schema.is_null());
    let json = config.response_json_schema.filter(|schema| !schema.is_null());
    if own.is_some() && json.is_some() {
        let text = "`generationConfig` has `responseSchema` and `responseJsonSchema`: keep one.";
        return Err(refuse("generationConfig", text));
    }
    let schema = json.or_else(|| own.map(|schema| schema::to_json_schema(&schema)));
    prompt.format = match (config.response_mime_type.as_deref(), schema) {
        (Some("application/json"), Some(schema)) => {
            // Not strict: OpenAI refuses strict schemas that have optional fields.
            Format::Schema { name: None, description: None, schema, strict: None }
        }
        (Some("application/json"), None) => Format::Json,
        (None | Some("" | "text/plain"), None) => Format::Text,
        (None | Some("" | "text/plain"), Some(_)) => {
            let text = "A response schema needs `responseMimeType`: set it to `application/json`.";
            return Err(refuse("generationConfig", text));
        }
        (Some(other), _) => {
            // `text/x.enum`: one word of a list, without quotes, which nobody else can be held to.
            lost.0.insert("generationConfig.responseMimeType".into(), other.into());
            Format::Text
        }
    };
    Ok(())
}

fn thinking(config: ThinkingConfig) -> Result<ReasoningAsk, Refusal> {
    let level = config.thinking_level.unwrap_or_default().to_ascii_lowercase();
    let effort = match level.as_str() {
        "" | "thinking_level_unspecified" => None,
        "minimal" | "low" | "medium" | "high" | "xhigh" => Some(level),
        _ => {
            let text = "`thinkingLevel` must be MINIMAL, LOW, MEDIUM or HIGH.";
            return Err(refuse("generationConfig", text));
        }
    };
    let budget = match config.thinking_budget {
        // As much as the model finds right.
        Some(-1) | None => None,
        Some(budget) => Some(u64::try_from(budget).map_err(|_| {
            refuse("generationConfig", "`thinkingBudget` must be -1, 0 or a number of tokens.")
        })?),
    };
    let show = (config.include_thoughts == Some(true)).then(|| "auto".to_owned());
    Ok(ReasoningAsk { effort, budget, show })
}
