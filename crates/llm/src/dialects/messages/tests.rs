//! The fixtures follow the examples of the documentation that the module names.

mod answers;
mod requests;
mod round;
mod streams;

use std::sync::Arc;

use serde_json::Value;

use super::Messages;
use crate::Dialect;
use crate::dialect::{Egress as _, Ingress as _};
use crate::form::{Frame, Losses, Prompt};

fn read(body: &Value) -> Prompt {
    Messages.read_prompt(body.to_string().as_bytes(), None).unwrap()
}

fn write(prompt: &Prompt, model: &str) -> (Value, Losses) {
    let mut losses = Losses::default();
    let out = Messages.write_prompt(prompt, model, &mut losses).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses)
}

/// A chat request, written for a model.
fn converted(body: &Value, model: &str) -> (Value, Losses) {
    let chat = crate::dialects::chat::Chat;
    let prompt = chat.read_prompt(body.to_string().as_bytes(), None).unwrap();
    write(&prompt, model)
}

fn frame(origin: Dialect) -> Frame {
    let prompt = Arc::new(Prompt::default());
    Frame { id: "1".into(), model: "alias".into(), origin, created: 5, prompt }
}
