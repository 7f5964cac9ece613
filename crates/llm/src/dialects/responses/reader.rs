//! Reading streamed answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{self, read_reasoning};
use super::{custom, error_words, read_usage};
use crate::Dialect;
use crate::dialect::StreamReader;
use crate::form::{Finish, Part, Piece};

/// How many items of one stream are told apart; more are an attack.
const MANY: usize = 4096;

/// Reads events.
#[derive(Default)]
pub(super) struct Reader {
    started: bool,
    /// The items that began, by their place.
    items: BTreeMap<u64, Item>,
    calls: u32,
    refused: bool,
    whole: bool,
}

/// What is known of an item.
#[derive(Default)]
struct Item {
    /// Its number among the calls.
    call: Option<u32>,
    /// Its arguments are free text.
    custom: bool,
    /// How much of it came by deltas.
    said: bool,
    /// Which of its summaries came last.
    summary: Option<u64>,
}

impl StreamReader for Reader {
    fn read(&mut self, event: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String> {
        if data == crate::openai::DONE {
            // Some hosts send it, after the event that ends the answer.
            return Ok(());
        }
        let wire: Value = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        let kind = wire.get("type").and_then(Value::as_str).unwrap_or(event);
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(wire.get("response"), pieces);
            }
            "response.output_item.added" => self.added(&wire, pieces)?,
            "response.output_item.done" => self.done(&wire, pieces)?,
            "response.output_text.delta" => {
                let text = self.delta(&wire)?;
                pieces.push(Piece::Text { choice: 0, text });
            }
            "response.refusal.delta" => {
                self.refused = true;
                let text = self.delta(&wire)?;
                pieces.push(Piece::Refusal { choice: 0, text });
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                let text = self.delta(&wire)?;
                self.paragraph(&wire, pieces)?;
                pieces.push(Piece::Reasoning { choice: 0, text });
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let delta = self.delta(&wire)?;
                let item = self.item(&wire)?;
                if let (Some(index), false) = (item.call, item.custom) {
                    pieces.push(Piece::Arguments { choice: 0, index, json: delta });
                } else if item.custom {
                    // Free text is packed into JSON when it is whole.
                    item.said = false;
                }
            }
            "response.completed" | "response.incomplete" => self.ended(&wire, pieces),
            "response.failed" => {
                let error = wire.pointer("/response/error").filter(|error| !error.is_null());
                let message = error.map_or_else(|| "the response failed".to_owned(), error_words);
                pieces.push(Piece::Error { message });
            }
            "error" => {
                let nested = wire.get("error").filter(|error| error.is_object());
                pieces.push(Piece::Error { message: error_words(nested.unwrap_or(&wire)) });
            }
            // A body in the form of other endpoints' errors, without a type.
            "" if wire.get("error").is_some() => {
                pieces.push(Piece::Error { message: error_words(&wire["error"]) });
            }
            _ => {}
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.whole
    }
}

impl Reader {
    fn start(&mut self, response: Option<&Value>, pieces: &mut Vec<Piece>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let text = |name: &str| {
            let text = response.and_then(|response| response.get(name)).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        pieces.push(Piece::Start { id: text("id"), model: text("model") });
    }

    /// The item that an event is about.
    fn item(&mut self, wire: &Value) -> Result<&mut Item, String> {
        let at = wire.get("output_index").and_then(Value::as_u64).ok_or("an event has no `output_index`")?;
        if self.items.len() >= MANY && !self.items.contains_key(&at) {
            return Err("the stream has too many items".into());
        }
        Ok(self.items.entry(at).or_default())
    }

    fn delta(&mut self, wire: &Value) -> Result<String, String> {
        let delta = wire.get("delta").and_then(Value::as_str).ok_or("a delta has no `delta`")?.to_owned();
        self.item(wire)?.said |= !delta.is_empty();
        Ok(delta)
    }

    /// Summaries are paragraphs of one piece of reasoning.
    fn paragraph(&mut self, wire: &Value, pieces: &mut Vec<Piece>) -> Result<(), String> {
        let index = wire.get("summary_index").or(wire.get("content_index")).and_then(Value::as_u64);
        let before = std::mem::replace(&mut self.item(wire)?.summary, index);
        if before.is_some() && before != index {
            pieces.push(Piece::Reasoning { choice: 0, text: "\n\n".into() });
        }
        Ok(())
    }

    fn added(&mut self, wire: &Value, pieces: &mut Vec<Piece>) -> Result<(), String> {
        let Some(item) = wire.get("item").filter(|item| item.is_object()) else { return Ok(()) };
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = text("type");
        let custom = kind == "custom_tool_call";
        if !custom && kind != "function_call" {
            self.item(wire)?;
            return Ok(());
        }
        let index = self.calls;
        let known = self.item(wire)?;
        if known.call.is_some() {
            return Ok(());
        }
        (known.call, known.custom) = (Some(index), custom);
        self.calls += 1;
        let (id, name) = (text("call_id"), text("name"));
        pieces.push(Piece::ToolCall { choice: 0, index, id, name, signature: None });
        // Some hosts tell a whole call at once.
        let arguments = text("arguments");
        if !arguments.is_empty() {
            self.item(wire)?.said = true;
            pieces.push(Piece::Arguments { choice: 0, index, json: arguments });
        }
        Ok(())
    }

    /// What of a whole item has not come yet.
    fn done(&mut self, wire: &Value, pieces: &mut Vec<Piece>) -> Result<(), String> {
        self.added(wire, pieces)?;
        let Some(item) = wire.get("item").filter(|item| item.is_object()) else { return Ok(()) };
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let known = self.item(wire)?;
        let said = std::mem::replace(&mut known.said, true);
        let call = known.call;
        match text("type") {
            "function_call" if !said && !text("arguments").is_empty() => {
                let json = text("arguments").to_owned();
                pieces.extend(call.map(|index| Piece::Arguments { choice: 0, index, json }));
            }
            "custom_tool_call" if !said => {
                let json = custom::arguments(text("input"));
                pieces.extend(call.map(|index| Piece::Arguments { choice: 0, index, json }));
            }
            "message" => self.message_done(item, said, pieces),
            "reasoning" => {
                let thought = read_reasoning(item);
                if !said && !thought.text.is_empty() {
                    pieces.push(Piece::Reasoning { choice: 0, text: thought.text });
                }
                // As its maker wrote it, which is this provider.
                let signature = text("encrypted_content").to_owned();
                if !signature.is_empty() {
                    pieces.push(Piece::Signature { choice: 0, signature, redacted: thought.redacted });
                }
            }
            "function_call" => {}
            _ => pieces.push(Piece::Native { choice: 0, dialect: Dialect::Responses, value: item.clone() }),
        }
        Ok(())
    }

    fn message_done(&mut self, item: &Value, said: bool, pieces: &mut Vec<Piece>) {
        for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| part.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            match text("type").as_str() {
                "output_text" if !said => pieces.push(Piece::Text { choice: 0, text: text("text") }),
                "refusal" => {
                    self.refused = true;
                    if !said {
                        pieces.push(Piece::Refusal { choice: 0, text: text("refusal") });
                    }
                }
                _ => {}
            }
            for value in part.get("annotations").and_then(Value::as_array).into_iter().flatten() {
                pieces.push(Piece::Native { choice: 0, dialect: Dialect::Responses, value: value.clone() });
            }
        }
    }

    fn ended(&mut self, wire: &Value, pieces: &mut Vec<Piece>) {
        let null = json!(null);
        let response = wire.get("response").unwrap_or(&null);
        self.start(Some(response), pieces);
        let status = response.get("status").and_then(Value::as_str).unwrap_or("completed");
        let mut parts = Vec::new();
        if self.calls > 0 {
            parts.push(Part::ToolCall(crate::form::ToolCall::default()));
        }
        if self.refused {
            parts.push(Part::Refusal(String::new()));
        }
        let reason: Finish = answer::finish(status, response.get("incomplete_details"), &parts);
        self.whole = true;
        pieces.push(Piece::Finish { choice: 0, reason });
        pieces.extend(response.get("usage").and_then(read_usage).map(Piece::Usage));
        pieces.push(Piece::End);
    }
}
