//! Reading a streamed answer.
//!
//! Source: <https://platform.claude.com/docs/en/build-with-claude/streaming>. Events and blocks that are not known
//! are passed over, as the documentation asks.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ANSWER_TOOL;
use super::answer::StopDetails;
use super::events::{self, WireUsage};
use crate::Dialect;
use crate::dialect::StreamReader;
use crate::form::{Finish, Piece};

/// How many blocks may be open at once; more are an attack.
const MANY: usize = 1024;

/// What a block that is open holds.
enum Block {
    Text,
    /// A call, by its number, and whether arguments of it came.
    Call {
        index: u32,
        filled: bool,
    },
    /// The whole answer as a call's arguments.
    Answer,
    /// Of no interest.
    Other,
}

/// Reads events.
#[derive(Default)]
pub(super) struct Reader {
    usage: WireUsage,
    open: BTreeMap<u64, Block>,
    calls: u32,
    finished: bool,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    index: Option<u64>,
    message: Option<Start>,
    content_block: Option<Value>,
    delta: Option<Delta>,
    usage: Option<WireUsage>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Start {
    id: Option<String>,
    model: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(rename = "type", default)]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    citation: Option<Value>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    stop_details: Option<StopDetails>,
}

#[derive(Deserialize)]
struct Error {
    message: Option<String>,
}

impl StreamReader for Reader {
    fn read(&mut self, _: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String> {
        let event: Event = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        match event.kind.as_str() {
            "message_start" => {
                let start = event.message.ok_or("message_start without its message")?;
                pieces.push(Piece::Start { id: start.id, model: start.model });
                if let Some(usage) = start.usage {
                    self.count(usage, pieces);
                }
            }
            "content_block_start" => {
                let index = event.index.ok_or("a block without its index")?;
                let block = event.content_block.ok_or("content_block_start without its block")?;
                self.begin(index, &block, pieces)?;
            }
            "content_block_delta" => {
                let index = event.index.ok_or("a delta without its index")?;
                self.delta(index, event.delta.ok_or("content_block_delta without its delta")?, pieces);
            }
            "content_block_stop" => {
                let block = self.open.remove(&event.index.ok_or("a block without its index")?);
                if let Some(Block::Call { index, filled: false }) = block {
                    // Clients parse what they got, and an empty text is no JSON.
                    pieces.push(Piece::Arguments { choice: 0, index, json: "{}".into() });
                }
            }
            "message_delta" => {
                // The count first: the reason to end is the last that a choice says.
                if let Some(usage) = event.usage {
                    self.count(usage, pieces);
                }
                self.end(event.delta, pieces);
            }
            "message_stop" => pieces.push(Piece::End),
            "error" => {
                let message = event.error.and_then(|error| error.message);
                let message = message.unwrap_or_else(|| "an error without a message".into());
                pieces.push(Piece::Error { message });
            }
            _ => {}
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.finished
    }
}

impl Reader {
    fn count(&mut self, usage: WireUsage, pieces: &mut Vec<Piece>) {
        self.usage = self.usage.with(usage);
        pieces.push(Piece::Usage(self.usage.normal()));
    }

    fn begin(&mut self, index: u64, block: &Value, pieces: &mut Vec<Piece>) -> Result<(), String> {
        if self.open.len() >= MANY {
            return Err("the stream has too many open blocks".into());
        }
        let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = match block.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text" => {
                let text = text("text");
                pieces.extend((!text.is_empty()).then_some(Piece::Text { choice: 0, text }));
                Block::Text
            }
            "thinking" => {
                let (text, signature) = (text("thinking"), text("signature"));
                pieces.extend((!text.is_empty()).then_some(Piece::Reasoning { choice: 0, text }));
                if !signature.is_empty() {
                    pieces.push(Piece::Signature { choice: 0, signature, redacted: false });
                }
                Block::Text
            }
            "redacted_thinking" => {
                pieces.push(Piece::Signature { choice: 0, signature: text("data"), redacted: true });
                Block::Other
            }
            "tool_use" if text("name") == ANSWER_TOOL => Block::Answer,
            "tool_use" => {
                let call = self.calls;
                self.calls = self.calls.checked_add(1).ok_or("the stream has too many tool calls")?;
                let (id, name) = (text("id"), text("name"));
                pieces.push(Piece::ToolCall { choice: 0, index: call, id, name, signature: None });
                let whole = block.get("input").and_then(Value::as_object).filter(|input| !input.is_empty());
                if let Some(input) = whole {
                    let json = Value::Object(input.clone()).to_string();
                    pieces.push(Piece::Arguments { choice: 0, index: call, json });
                }
                Block::Call { index: call, filled: whole.is_some() }
            }
            "" => return Err("a block without its type".into()),
            _ => {
                let value = block.clone();
                pieces.push(Piece::Native { choice: 0, dialect: Dialect::Messages, value });
                Block::Other
            }
        };
        self.open.insert(index, kind);
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: Delta, pieces: &mut Vec<Piece>) {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        match delta.kind.as_str() {
            "text_delta" => {
                pieces.extend(filled(delta.text).map(|text| Piece::Text { choice: 0, text }));
            }
            "thinking_delta" => {
                pieces.extend(filled(delta.thinking).map(|text| Piece::Reasoning { choice: 0, text }));
            }
            "signature_delta" => pieces.extend(filled(delta.signature).map(|signature| Piece::Signature {
                choice: 0,
                signature,
                redacted: false,
            })),
            "input_json_delta" => match (self.open.get_mut(&index), filled(delta.partial_json)) {
                (Some(Block::Call { index, filled }), Some(json)) => {
                    *filled = true;
                    pieces.push(Piece::Arguments { choice: 0, index: *index, json });
                }
                (Some(Block::Answer), Some(text)) => pieces.push(Piece::Text { choice: 0, text }),
                _ => {}
            },
            "citations_delta" => pieces.extend(delta.citation.map(|citation| Piece::Native {
                choice: 0,
                dialect: Dialect::Messages,
                value: json!({"type": "citations", "citations": [citation]}),
            })),
            _ => {}
        }
    }

    fn end(&mut self, delta: Option<Delta>, pieces: &mut Vec<Piece>) {
        let Some(delta) = delta else { return };
        let Some(reason) = delta.stop_reason else { return };
        let mut reason = events::read_finish(Some(&reason), delta.stop_sequence);
        if reason == Finish::ToolCalls && self.calls == 0 {
            reason = Finish::Stop;
        }
        let explained = delta.stop_details.and_then(|details| details.explanation);
        if let Some(text) = explained.filter(|text| reason == Finish::Refusal && !text.is_empty()) {
            pieces.push(Piece::Refusal { choice: 0, text });
        }
        if !self.finished {
            self.finished = true;
            pieces.push(Piece::Finish { choice: 0, reason });
        }
    }
}
