//! `POST /v1/messages/count_tokens`, answered here when the model's provider has no such question.

use bytes::Bytes;
use serde_json::{Value, json};

use super::read;
use crate::dialect::Egress as _;
use crate::dialects::chat::Chat;
use crate::form::{Losses, Part, Prompt, Tool};
use crate::openai::Refusal;
use crate::tokens;

/// Reads a request to count: one to answer, without the fields that only an answer needs.
pub fn count_tokens(body: &[u8]) -> Result<Prompt, Refusal> {
    read::prompt(body, false)
}

/// An estimate of the input tokens of `prompt` for `model`, as the body of the answer. Blocks, as all of
/// [`crate::tokens`] does.
pub fn tokens_body(prompt: Prompt, model: &str) -> Bytes {
    let mut more = String::new();
    let prompt = without_natives(prompt, &mut more);
    let body = Chat.write_prompt(&prompt, model, &mut Losses::default()).unwrap_or_default();
    let counted = tokens::count_chat_input(model, &body) + tokens::count(model, &more);
    json!({"input_tokens": counted}).to_string().into()
}

/// What only this dialect has is counted as the text it is.
fn without_natives(mut prompt: Prompt, more: &mut String) -> Prompt {
    fn strip(parts: &mut Vec<Part>, more: &mut String) {
        parts.retain_mut(|part| match part {
            Part::Native { value, .. } => {
                more.push_str(&value.to_string());
                false
            }
            Part::Reasoning(thought) => {
                more.push_str(&thought.text);
                false
            }
            Part::File(media) => {
                // A document's text; of another document its name, as nothing more is known.
                let text = super::blocks::text_of(media);
                more.push_str(&text);
                false
            }
            Part::ToolResult(result) => {
                strip(&mut result.parts, more);
                true
            }
            _ => true,
        });
    }
    for turn in &mut prompt.turns {
        strip(&mut turn.parts, more);
    }
    prompt.tools.retain(|tool| match tool {
        Tool::Native { value, .. } => {
            more.push_str(&value.to_string());
            false
        }
        Tool::Function(_) => true,
    });
    if let crate::form::Format::Schema { schema, .. } = &prompt.format {
        let schema: &Value = schema;
        more.push_str(&schema.to_string());
    }
    prompt.format = crate::form::Format::Text;
    prompt
}
