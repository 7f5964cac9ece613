//! Writing a streamed answer: the sequence of events that the official clients put together.
//!
//! Blocks stand one after another. A signature is told once, whole, at the end of its block: the clients keep
//! the last one they are told. Usage and the reason to end come in `message_delta`, before the end.

use base::Usage;
use serde_json::{Value, json};

use super::answer::stop_details;
use super::{CALL_SIGNATURE, events};
use crate::Dialect;
use crate::dialect::StreamWriter;
use crate::dialects::shared::ids;
use crate::form::{Finish, Frame, Piece, seal};

/// The block that is open.
enum Open {
    None,
    Text,
    /// With what its signature is so far.
    Thinking(String),
    Call,
}

/// Writes events.
pub(super) struct Writer {
    frame: Frame,
    started: bool,
    open: Open,
    /// The number of the next block.
    next: u64,
    /// The block of each call, by the call's number.
    calls: Vec<(u32, u64)>,
    usage: Usage,
    finish: Finish,
    refused: Option<String>,
}

impl Writer {
    pub(super) fn new(frame: Frame) -> Self {
        Writer {
            frame,
            started: false,
            open: Open::None,
            next: 0,
            calls: Vec::new(),
            usage: Usage::default(),
            finish: Finish::Stop,
            refused: None,
        }
    }

    fn start(&mut self, model: Option<&str>, out: &mut Vec<u8>) {
        if self.started {
            return;
        }
        self.started = true;
        let message = json!({
            "id": format!("msg_{}", self.frame.id),
            "type": "message",
            "role": "assistant",
            "model": model.unwrap_or(&self.frame.model),
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": events::write_usage(&self.usage),
        });
        event("message_start", json!({"message": message}), out);
    }

    fn begin(&mut self, block: &Value, open: Open, out: &mut Vec<u8>) {
        self.close(out);
        event("content_block_start", json!({"index": self.next, "content_block": block}), out);
        self.next += 1;
        self.open = open;
    }

    fn delta(&self, block: u64, delta: &Value, out: &mut Vec<u8>) {
        event("content_block_delta", json!({"index": block, "delta": delta}), out);
    }

    /// The block that is open, which is always the last that began.
    fn current(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let block = self.current();
        match std::mem::replace(&mut self.open, Open::None) {
            Open::None => return,
            Open::Thinking(signature) => {
                let signature = seal(self.frame.origin, Dialect::Messages, &signature);
                self.delta(block, &json!({"type": "signature_delta", "signature": signature}), out);
            }
            Open::Text | Open::Call => {}
        }
        event("content_block_stop", json!({"index": block}), out);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if !matches!(self.open, Open::Text) {
            self.begin(&json!({"type": "text", "text": ""}), Open::Text, out);
        }
        self.delta(self.current(), &json!({"type": "text_delta", "text": text}), out);
    }

    fn think(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.open, Open::Thinking(_)) {
            let block = json!({"type": "thinking", "thinking": "", "signature": ""});
            self.begin(&block, Open::Thinking(String::new()), out);
        }
    }

    fn redacted(&mut self, data: &str, out: &mut Vec<u8>) {
        self.begin(&json!({"type": "redacted_thinking", "data": data}), Open::Text, out);
        self.close(out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        let finish = match (&self.finish, &self.refused) {
            (Finish::Stop, Some(_)) => &Finish::Refusal,
            (finish, _) => finish,
        };
        let (reason, sequence) = events::write_finish(finish, !self.calls.is_empty());
        let mut delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        if let (Some(delta), "refusal") = (delta.as_object_mut(), reason) {
            delta.insert("stop_details".into(), stop_details(self.refused.as_deref()));
        }
        let usage = events::write_usage(&self.usage);
        event("message_delta", json!({"delta": delta, "usage": usage}), out);
        event("message_stop", json!({}), out);
    }
}

impl StreamWriter for Writer {
    fn write(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Usage(usage) => {
                self.usage = *usage;
                return;
            }
            Piece::Start { model, .. } => return self.start(model.as_deref(), out),
            // A request in this dialect asks for one answer.
            _ if !is_of_first(piece) => return,
            Piece::Error { .. } | Piece::Native { .. } => return,
            _ => self.start(None, out),
        }
        match piece {
            Piece::Text { text, .. } => self.text(text, out),
            Piece::Refusal { text, .. } => {
                self.refused.get_or_insert_default().push_str(text);
                self.text(text, out);
            }
            Piece::Reasoning { text, .. } => {
                self.think(out);
                self.delta(self.current(), &json!({"type": "thinking_delta", "thinking": text}), out);
            }
            Piece::Signature { signature, redacted: true, .. } => {
                self.redacted(&seal(self.frame.origin, Dialect::Messages, signature), out);
            }
            Piece::Signature { signature, .. } => {
                self.think(out);
                if let Open::Thinking(so_far) = &mut self.open {
                    so_far.push_str(signature);
                }
            }
            Piece::ToolCall { index, id, name, signature, .. } => {
                if let Some(signature) = signature {
                    self.redacted(&format!("{CALL_SIGNATURE}{signature}"), out);
                }
                let block = json!({"type": "tool_use", "id": ids::plain(id), "name": name, "input": {}});
                self.begin(&block, Open::Call, out);
                self.calls.push((*index, self.current()));
            }
            Piece::Arguments { index, json, .. } => {
                // Arguments of a call that another followed go to its own block, which the clients keep open.
                let block = self.calls.iter().rev().find(|(call, _)| call == index).map(|(_, block)| *block);
                if let Some(block) = block {
                    self.delta(block, &json!({"type": "input_json_delta", "partial_json": json}), out);
                }
            }
            Piece::Finish { reason, .. } => {
                self.close(out);
                self.finish = reason.clone();
            }
            Piece::End => self.end(out),
            Piece::Start { .. } | Piece::Usage(_) | Piece::Error { .. } | Piece::Native { .. } => {}
        }
    }
}

/// Whether a piece belongs to the first answer, or to all of them.
fn is_of_first(piece: &Piece) -> bool {
    match piece {
        Piece::Text { choice, .. }
        | Piece::Reasoning { choice, .. }
        | Piece::Signature { choice, .. }
        | Piece::Refusal { choice, .. }
        | Piece::ToolCall { choice, .. }
        | Piece::Arguments { choice, .. }
        | Piece::Native { choice, .. }
        | Piece::Finish { choice, .. } => *choice == 0,
        Piece::Start { .. } | Piece::Usage(_) | Piece::End | Piece::Error { .. } => true,
    }
}

/// One event; its name is the `type` of its data as well.
fn event(name: &'static str, mut data: Value, out: &mut Vec<u8>) {
    if let Some(members) = data.as_object_mut() {
        members.insert("type".into(), name.into());
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing plain data to memory does not fail.
    let _ = serde_json::to_writer(&mut *out, &data);
    out.extend_from_slice(b"\n\n");
}
