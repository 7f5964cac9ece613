mod answers;
mod requests;
mod streams;

use std::sync::Arc;

use base::Usage;
use serde_json::{Value, json};

use super::*;
use crate::Dialect;
use crate::form::{Choice, Finish, Part, Piece, Reasoning, ToolCall};

fn frame(prompt: Prompt) -> Frame {
    let prompt = Arc::new(prompt);
    Frame {
        id: "r1".into(),
        model: "alias".into(),
        origin: Dialect::Messages,
        created: 1_700_000_000,
        prompt,
    }
}

fn prompt(body: &Value) -> Prompt {
    Responses.read_prompt(body.to_string().as_bytes(), None).unwrap()
}

fn asked() -> Prompt {
    prompt(&json!({"model": "alias", "input": "hi"}))
}

fn usage() -> Usage {
    Usage { input: 20, cached_input: 8, cache_write: 4, output: 9, reasoning: 3, ..Usage::default() }
}
