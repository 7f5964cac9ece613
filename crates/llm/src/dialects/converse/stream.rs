//! Reading a streamed answer.
//!
//! Source: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html>. After
//! `messageStop` comes `metadata` with the usage, and then nothing more.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::answer::{WireUsage, read_finish};
use crate::Dialect;
use crate::dialect::StreamReader;
use crate::form::Piece;

/// How many calls of tools may be open at once; more are an attack.
const MANY: usize = 1024;

/// Reads events.
#[derive(Default)]
pub(super) struct Reader {
    started: bool,
    finished: bool,
    /// The calls that are open: their number and whether arguments came.
    open: BTreeMap<u64, (u32, bool)>,
    calls: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    content_block_index: Option<u64>,
    start: Option<Start>,
    delta: Option<Delta>,
    stop_reason: Option<String>,
    usage: Option<WireUsage>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse {
    tool_use_id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    text: Option<String>,
    tool_use: Option<Input>,
    reasoning_content: Option<Thought>,
    citation: Option<Value>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    input: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thought {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

impl StreamReader for Reader {
    fn read(&mut self, name: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String> {
        let event: Event = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        if name.ends_with("xception") || name == "error" {
            let message = event.message.unwrap_or_default();
            pieces.push(Piece::Error { message: format!("{name}: {message}") });
            return Ok(());
        }
        if !self.started {
            self.started = true;
            pieces.push(Piece::Start { id: None, model: None });
        }
        let block = || event.content_block_index.ok_or_else(|| format!("{name} without its block"));
        match name {
            "contentBlockStart" => {
                let at = block()?;
                if let Some(ToolUse { tool_use_id: id, name }) = event.start.and_then(|start| start.tool_use)
                {
                    if self.open.len() >= MANY {
                        return Err("the stream has too many open tool calls".into());
                    }
                    let index = self.calls;
                    self.calls = index.checked_add(1).ok_or("the stream has too many tool calls")?;
                    self.open.insert(at, (index, false));
                    pieces.push(Piece::ToolCall { choice: 0, index, id, name, signature: None });
                }
            }
            "contentBlockDelta" => {
                let at = block()?;
                self.delta(at, event.delta.ok_or("contentBlockDelta without its delta")?, pieces);
            }
            "contentBlockStop" => {
                if let Some((index, false)) = self.open.remove(&block()?) {
                    pieces.push(Piece::Arguments { choice: 0, index, json: "{}".into() });
                }
            }
            "messageStop" => {
                let reason = event.stop_reason.ok_or("messageStop without its reason")?;
                if !self.finished {
                    self.finished = true;
                    pieces.push(Piece::Finish { choice: 0, reason: read_finish(&reason) });
                }
            }
            "metadata" => {
                pieces.extend(event.usage.map(|usage| Piece::Usage(usage.normal())));
                pieces.extend(self.finished.then_some(Piece::End));
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
    fn delta(&mut self, at: u64, delta: Delta, pieces: &mut Vec<Piece>) {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        pieces.extend(filled(delta.text).map(|text| Piece::Text { choice: 0, text }));
        if let Some(thought) = delta.reasoning_content {
            pieces.extend(filled(thought.text).map(|text| Piece::Reasoning { choice: 0, text }));
            let signed = |signature, redacted| Piece::Signature { choice: 0, signature, redacted };
            pieces.extend(filled(thought.signature).map(|signature| signed(signature, false)));
            pieces.extend(filled(thought.redacted_content).map(|data| signed(data, true)));
        }
        if let (Some((index, came)), Some(Input { input: json })) = (self.open.get_mut(&at), delta.tool_use)
            && !json.is_empty()
        {
            *came = true;
            pieces.push(Piece::Arguments { choice: 0, index: *index, json });
        }
        pieces.extend(delta.citation.map(|value| Piece::Native {
            choice: 0,
            dialect: Dialect::Converse,
            value,
        }));
    }
}
