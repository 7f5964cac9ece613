//! Streamed answers.

use std::collections::BTreeMap;

use base::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{read_finish, write_finish};
use crate::dialect::{StreamReader, StreamWriter};
use crate::dialects::chat::write_usage;
use crate::form::{Frame, Piece};
use crate::openai;

/// How many choices of one stream are told apart; more are an attack.
const MANY: usize = 1024;

/// Reads chunks.
#[derive(Default)]
pub(super) struct Reader {
    started: bool,
    /// The choices that began, each with whether it ended.
    choices: BTreeMap<u32, bool>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<ChunkChoice>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finish_reason: Option<String>,
}

impl StreamReader for Reader {
    fn read(&mut self, _: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String> {
        if data == openai::DONE {
            pieces.push(Piece::End);
            return Ok(());
        }
        let seen = openai::read_chunk(data, &mut String::new(), 0)?;
        if let Some(error) = seen.error {
            let said = openai::read_error(data).map(|error| error.message);
            pieces.push(Piece::Error { message: said.unwrap_or(error) });
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        if !std::mem::replace(&mut self.started, true) {
            pieces.push(Piece::Start { id: chunk.id, model: chunk.model });
        }
        for wire in chunk.choices {
            if self.choices.len() >= MANY && !self.choices.contains_key(&wire.index) {
                return Err("the stream has too many choices".into());
            }
            let ended = self.choices.entry(wire.index).or_default();
            let choice = wire.index;
            let text = wire.text.filter(|text| !text.is_empty());
            pieces.extend(text.map(|text| Piece::Text { choice, text }));
            if let Some(word) = wire.finish_reason {
                *ended = true;
                pieces.push(Piece::Finish { choice, reason: read_finish(&word) });
            }
        }
        pieces.extend(seen.usage.map(Piece::Usage));
        Ok(())
    }

    fn is_whole(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|ended| *ended)
    }
}

/// Writes chunks.
pub(super) struct Writer {
    frame: Frame,
    model: String,
    echoed: bool,
    usage: Option<Usage>,
}

impl Writer {
    pub(super) fn new(frame: Frame) -> Self {
        Writer { model: frame.model.clone(), frame, echoed: false, usage: None }
    }

    fn chunk(&self, choices: &Value, out: &mut Vec<u8>) {
        let mut chunk = json!({
            "id": format!("cmpl-{}", self.frame.id),
            "object": "text_completion",
            "created": self.frame.created,
            "model": self.model,
            "choices": choices,
        });
        if choices.as_array().is_some_and(Vec::is_empty) {
            chunk["usage"] = json!(write_usage(&self.usage.unwrap_or_default()));
        }
        out.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
    }

    fn text(&self, choice: u32, text: &str, finish: Option<&str>, out: &mut Vec<u8>) {
        let choice = json!([{"text": text, "index": choice, "logprobs": null, "finish_reason": finish}]);
        self.chunk(&choice, out);
    }

    /// What was asked comes first, where the client wants it repeated.
    fn echo(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.echoed, true) {
            return;
        }
        if let Some(text) = self.frame.prompt.echo.get("echo").and_then(Value::as_str) {
            for choice in 0..self.frame.prompt.choices.max(1) {
                self.text(choice, text, None, out);
            }
        }
    }
}

impl StreamWriter for Writer {
    fn write(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Start { model, .. } => self.model.clone_from(model.as_ref().unwrap_or(&self.frame.model)),
            Piece::Text { choice, text } | Piece::Refusal { choice, text } => {
                self.echo(out);
                self.text(*choice, text, None, out);
            }
            Piece::Finish { choice, reason } => {
                self.echo(out);
                self.text(*choice, "", Some(write_finish(reason)), out);
            }
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => {
                if self.frame.prompt.include_usage {
                    self.chunk(&json!([]), out);
                }
                out.extend_from_slice(openai::DONE_EVENT);
            }
            // Text is all there is here.
            _ => {}
        }
    }
}
