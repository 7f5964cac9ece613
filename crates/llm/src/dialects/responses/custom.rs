//! Custom tools: called with free text in place of JSON.
//!
//! Other dialects have functions only, so a custom tool travels as a function whose one argument is the text. It
//! is known again by its schema, which no caller would write by chance.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::form::{Prompt, Tool, ToolFunction};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": {"input": {"type": "string", "description": "The whole input of the tool, as free text."}},
        "required": ["input"],
        "additionalProperties": false,
    })
});

/// The function that stands for a custom tool.
pub(super) fn function(name: String, description: Option<String>) -> ToolFunction {
    ToolFunction { name, description, parameters: Some(SCHEMA.clone()), ..ToolFunction::default() }
}

/// Whether a function stands for a custom tool.
pub(super) fn is(function: &ToolFunction) -> bool {
    function.parameters.as_ref() == Some(&SCHEMA)
}

/// Whether calls of this name are calls of a custom tool.
pub(super) fn is_called(prompt: &Prompt, name: &str) -> bool {
    prompt.tools.iter().any(|tool| matches!(tool, Tool::Function(f) if f.name == name && is(f)))
}

/// Arguments that hold the free text.
pub(super) fn arguments(input: &str) -> String {
    json!({"input": input}).to_string()
}

/// The free text that arguments hold. A model that wrote something else meant that.
pub(super) fn input(arguments: &str) -> String {
    let wrapped = serde_json::from_str::<Value>(arguments).ok();
    let text = wrapped.as_ref().and_then(|value| value.get("input")).and_then(Value::as_str);
    text.unwrap_or(arguments).to_owned()
}
