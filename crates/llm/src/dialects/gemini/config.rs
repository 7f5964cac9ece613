//! Tools and settings of a request, as they are written.

use serde_json::Value;

use super::read::refuse;
use super::wire::{
    FunctionCallingConfig, FunctionDeclaration, GenerationConfig, Rest, ThinkingConfig, Tool as WireTool,
    ToolConfig,
};
use super::{model, schema};
use crate::Dialect;
use crate::form::{Format, Losses, Prompt, ReasoningAsk, Tool, ToolChoice};
use crate::openai::Refusal;

/// The most texts to stop before that the API takes.
const MAX_STOPS: usize = 5;

pub(super) fn tools(prompt: &Prompt, losses: &mut Losses) -> Result<Vec<WireTool>, Refusal> {
    let mut functions = Vec::new();
    let mut own = Vec::new();
    for tool in &prompt.tools {
        match tool {
            Tool::Function(function) => {
                if function.cache.is_some() {
                    losses.note("cache_control");
                }
                functions.push(FunctionDeclaration {
                    name: Some(function.name.clone()),
                    description: function.description.clone(),
                    parameters: None,
                    parameters_json_schema: function.parameters.clone(),
                    rest: Rest::new(),
                });
            }
            Tool::Native { dialect: Dialect::Gemini, value: Value::Object(members) } => {
                own.push(WireTool { function_declarations: Vec::new(), rest: members.clone() });
            }
            Tool::Native { value, .. } => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("of that type");
                let text = format!(
                    "The provider of this model does not run the tool `{kind}`: offer functions only."
                );
                return Err(refuse("tools", text));
            }
        }
    }
    let mut all = Vec::with_capacity(own.len() + 1);
    if !functions.is_empty() {
        all.push(WireTool { function_declarations: functions, rest: Rest::new() });
    }
    all.append(&mut own);
    Ok(all)
}

pub(super) fn tool_config(prompt: &Prompt, model: &str, losses: &mut Losses) -> Option<ToolConfig> {
    let is_strict = |tool: &Tool| matches!(tool, Tool::Function(function) if function.strict == Some(true));
    let strict = prompt.tools.iter().any(is_strict);
    let (mode, allowed) = match &prompt.tool_choice {
        None | Some(ToolChoice::Auto) if strict && model::validates(model) => ("VALIDATED", None),
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(name.clone())),
        None => ("", None),
    };
    if strict && matches!(mode, "AUTO" | "") {
        losses.note("strict");
    }
    if mode.is_empty() || prompt.tools.is_empty() {
        return None;
    }
    let config = FunctionCallingConfig {
        mode: Some(mode.into()),
        allowed_function_names: allowed.into_iter().collect(),
        rest: Rest::new(),
    };
    Some(ToolConfig { function_calling_config: Some(config), rest: Rest::new() })
}

pub(super) fn generation_config(
    prompt: &Prompt,
    model: &str,
    losses: &mut Losses,
) -> Result<GenerationConfig, Refusal> {
    if prompt.stop.len() > MAX_STOPS {
        let text =
            format!("The provider of this model takes at most {MAX_STOPS} texts in `stop`: send fewer.");
        return Err(refuse("stop", text));
    }
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut config = GenerationConfig {
        candidate_count: (prompt.choices > 1).then_some(i64::from(prompt.choices)),
        stop_sequences: prompt.stop.clone(),
        max_output_tokens: prompt.max_output.map(number),
        temperature: prompt.temperature,
        top_p: prompt.top_p,
        top_k: prompt.top_k.map(number),
        presence_penalty: prompt.presence_penalty,
        frequency_penalty: prompt.frequency_penalty,
        thinking_config: prompt.reasoning.as_ref().map(|ask| thinking(ask, model, losses)),
        ..GenerationConfig::default()
    };
    config.seed = prompt.seed.filter(|seed| {
        let fits = i32::try_from(*seed).is_ok();
        if !fits {
            losses.note("seed");
        }
        fits
    });
    match (prompt.logprobs, prompt.stream) {
        (true, false) => {
            config.response_logprobs = Some(true);
            config.logprobs = prompt.top_logprobs.map(number);
        }
        (true, true) => losses.note("logprobs"),
        (false, _) => {}
    }
    match &prompt.format {
        Format::Text => {}
        Format::Json => config.response_mime_type = Some("application/json".into()),
        Format::Schema { schema, description, .. } => {
            config.response_mime_type = Some("application/json".into());
            let mut schema = schema::for_answer(schema, losses);
            if let (Some(text), Some(members)) = (description, schema.as_object_mut()) {
                members.entry("description").or_insert_with(|| text.as_str().into());
            }
            config.response_json_schema = Some(schema);
        }
    }
    Ok(config)
}

fn thinking(ask: &ReasoningAsk, model: &str, losses: &mut Losses) -> ThinkingConfig {
    let mut config =
        ThinkingConfig { include_thoughts: ask.show.is_some().then_some(true), ..Default::default() };
    if ask.budget.is_none() && model::since_3(model) {
        config.thinking_level = ask.effort.as_deref().map(|effort| {
            let level = match effort {
                "none" | "minimal" => "MINIMAL",
                "low" => "LOW",
                "medium" => "MEDIUM",
                _ => "HIGH",
            };
            // It thinks at least a little, and at most so much.
            if !effort.eq_ignore_ascii_case(level) {
                losses.note("reasoning_effort");
            }
            level.into()
        });
    } else {
        config.thinking_budget = ask.tokens().map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX));
    }
    config
}
