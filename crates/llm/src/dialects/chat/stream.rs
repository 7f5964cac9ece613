//! Streamed chat answers.

use std::collections::{BTreeMap, BTreeSet};

use ::chat::{ChatChunk, ChunkChoice, Delta, Extra, FinishReason, FunctionCallDelta, Role, ToolCallDelta};
use base::Usage;
use serde_json::json;

use super::answer::{read_finish, write_finish, write_usage};
use super::reasoning;
use crate::dialect::{StreamReader, StreamWriter};
use crate::form::{Frame, Piece, Reasoning};
use crate::openai;

/// How many choices and calls of tools of one stream are told apart; more are an attack.
const MANY: usize = 1024;

/// Reads chunks.
#[derive(Default)]
pub(super) struct Reader {
    started: bool,
    /// The choices that began, each with whether it ended.
    choices: BTreeMap<u32, bool>,
    /// The calls that began, by choice and number.
    calls: BTreeSet<(u32, u32)>,
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
        let chunk: ChatChunk = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        if !self.started {
            self.started = true;
            let text = |text: String| Some(text).filter(|text| !text.is_empty());
            pieces.push(Piece::Start { id: text(chunk.id), model: text(chunk.model) });
        }
        for choice in chunk.choices {
            self.take(choice, pieces)?;
        }
        pieces.extend(seen.usage.map(Piece::Usage));
        Ok(())
    }

    fn is_whole(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|ended| *ended)
    }
}

impl Reader {
    fn take(&mut self, wire: ChunkChoice, pieces: &mut Vec<Piece>) -> Result<(), String> {
        let number = |n: u64| u32::try_from(n).map_err(|_| "an index is absurd".to_owned());
        let choice = number(wire.index)?;
        if self.choices.len() >= MANY || self.calls.len() >= MANY {
            return Err("the stream has too many choices or tool calls".into());
        }
        self.choices.entry(choice).or_insert(false);
        let Delta { content, tool_calls, refusal, mut extra, .. } = wire.delta;
        for thought in reasoning::take(&mut extra) {
            let Reasoning { text, signature, redacted, .. } = thought;
            if !text.is_empty() {
                pieces.push(Piece::Reasoning { choice, text });
            }
            pieces.extend(signature.map(|signature| Piece::Signature { choice, signature, redacted }));
        }
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        pieces.extend(filled(content).map(|text| Piece::Text { choice, text }));
        pieces.extend(filled(refusal).map(|text| Piece::Refusal { choice, text }));
        for call in tool_calls.unwrap_or_default() {
            let index = number(call.index)?;
            let function = call.function.unwrap_or_default();
            if self.calls.insert((choice, index)) {
                let signature = call.extra.get("extra_content");
                let signature = signature.and_then(|e| e.pointer("/google/thought_signature"));
                pieces.push(Piece::ToolCall {
                    choice,
                    index,
                    id: call.id.unwrap_or_else(|| format!("call_{choice}_{index}")),
                    name: function.name.unwrap_or_default(),
                    signature: signature.and_then(|s| s.as_str()).map(str::to_owned),
                });
            }
            pieces.extend(filled(function.arguments).map(|json| Piece::Arguments { choice, index, json }));
        }
        if let Some(reason) = &wire.finish_reason {
            self.choices.insert(choice, true);
            pieces.push(Piece::Finish { choice, reason: read_finish(reason) });
        }
        Ok(())
    }
}

/// Writes chunks.
pub(super) struct Writer {
    frame: Frame,
    model: String,
    begun: BTreeSet<u32>,
    usage: Option<Usage>,
}

impl Writer {
    pub(super) fn new(frame: Frame) -> Self {
        let model = frame.model.clone();
        Writer { frame, model, begun: BTreeSet::new(), usage: None }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<&Usage>, out: &mut Vec<u8>) {
        let chunk = ChatChunk {
            id: format!("chatcmpl-{}", self.frame.id),
            object: "chat.completion.chunk".into(),
            created: self.frame.created,
            model: self.model.clone(),
            choices,
            usage: usage.map(write_usage),
            ..ChatChunk::default()
        };
        out.extend_from_slice(b"data: ");
        // Writing plain data to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, &chunk);
        out.extend_from_slice(b"\n\n");
    }

    fn delta(&mut self, choice: u32, mut delta: Delta, finish: Option<FinishReason>, out: &mut Vec<u8>) {
        if self.begun.insert(choice) {
            delta.role = Some(Role::Assistant);
        }
        let index = u64::from(choice);
        let choice = ChunkChoice { index, delta, finish_reason: finish, ..ChunkChoice::default() };
        self.chunk(vec![choice], None, out);
    }

    fn extra(&mut self, choice: u32, name: &str, value: serde_json::Value, out: &mut Vec<u8>) {
        let extra = Extra::from_iter([(name.to_owned(), value)]);
        self.delta(choice, Delta { extra, ..Delta::default() }, None, out);
    }
}

impl StreamWriter for Writer {
    fn write(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Start { model, .. } => {
                self.model.clone_from(model.as_ref().unwrap_or(&self.frame.model));
            }
            Piece::Text { choice, text } => {
                self.delta(*choice, Delta { content: Some(text.clone()), ..Delta::default() }, None, out);
            }
            Piece::Refusal { choice, text } => {
                self.delta(*choice, Delta { refusal: Some(text.clone()), ..Delta::default() }, None, out);
            }
            Piece::Reasoning { choice, text } => {
                self.extra(*choice, "reasoning_content", text.as_str().into(), out);
            }
            Piece::Signature { choice, signature, redacted } => {
                let signature = Some(signature.clone());
                let thought = Reasoning { signature, redacted: *redacted, ..Reasoning::default() };
                if let Some(detail) = reasoning::detail_of(&thought, self.frame.origin) {
                    self.extra(*choice, "reasoning_details", json!([detail]), out);
                }
            }
            Piece::ToolCall { choice, index, id, name, signature } => {
                let mut extra = Extra::new();
                if let Some(signature) = signature {
                    extra.insert("extra_content".into(), json!({"google": {"thought_signature": signature}}));
                }
                let function = FunctionCallDelta {
                    name: Some(name.clone()),
                    arguments: Some(String::new()),
                    extra: Extra::new(),
                };
                let call = ToolCallDelta {
                    index: u64::from(*index),
                    id: Some(id.clone()),
                    kind: Some("function".into()),
                    function: Some(function),
                    extra,
                };
                self.delta(*choice, Delta { tool_calls: Some(vec![call]), ..Delta::default() }, None, out);
            }
            Piece::Arguments { choice, index, json } => {
                let function =
                    FunctionCallDelta { arguments: Some(json.clone()), ..FunctionCallDelta::default() };
                let index = u64::from(*index);
                let call = ToolCallDelta { index, function: Some(function), ..ToolCallDelta::default() };
                self.delta(*choice, Delta { tool_calls: Some(vec![call]), ..Delta::default() }, None, out);
            }
            Piece::Finish { choice, reason } => {
                self.delta(*choice, Delta::default(), Some(write_finish(reason)), out);
            }
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => {
                if self.frame.prompt.include_usage {
                    let usage = self.usage.unwrap_or_default();
                    self.chunk(Vec::new(), Some(&usage), out);
                }
                out.extend_from_slice(openai::DONE_EVENT);
            }
            Piece::Native { .. } | Piece::Error { .. } => {}
        }
    }
}
