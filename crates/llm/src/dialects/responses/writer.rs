//! Writing streamed answers.
//!
//! An answer is a list of items, each of which begins, grows and ends by events of its own; the last event brings
//! the whole of it. Text and reasoning come one after the other, while calls of tools may grow side by side: they
//! stay open until the answer ends.

use std::collections::BTreeMap;

use base::Usage;
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{Status, response};
use super::custom;
use crate::Dialect;
use crate::dialect::StreamWriter;
use crate::dialects::chat::class_name;
use crate::form::{Choice, ErrorClass, Finish, Frame, Part, Piece, Reasoning, seal};

/// Writes events.
pub(super) struct Writer {
    frame: Frame,
    model: String,
    /// Only the whole answer is wanted.
    quiet: bool,
    sequence: u64,
    started: bool,
    /// The items, in their places; null while they are open.
    output: Vec<Value>,
    open: Open,
    /// The calls that have not ended, by their number.
    calls: BTreeMap<u32, Call>,
    refused: bool,
    finish: Finish,
    usage: Option<Usage>,
}

enum Open {
    Nothing,
    Message(Message),
    Thought(Thought),
}

struct Message {
    at: usize,
    id: String,
    done: Vec<Value>,
    /// Whether the part that is open is a refusal, and what it says.
    part: Option<(bool, String)>,
}

struct Thought {
    at: usize,
    id: String,
    /// `None` when the text is withheld.
    text: Option<String>,
    sealed: Option<String>,
}

struct Call {
    at: usize,
    id: String,
    call_id: String,
    name: String,
    arguments: String,
    custom: bool,
}

#[derive(Serialize)]
struct Delta<'a> {
    r#type: &'a str,
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    delta: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
    sequence_number: u64,
}

impl Writer {
    pub(super) fn new(frame: Frame) -> Self {
        Writer {
            model: frame.model.clone(),
            frame,
            quiet: false,
            sequence: 0,
            started: false,
            output: Vec::new(),
            open: Open::Nothing,
            calls: BTreeMap::new(),
            refused: false,
            finish: Finish::Stop,
            usage: None,
        }
    }

    /// One that makes the whole answer and no events.
    pub(super) fn quiet(frame: Frame) -> Self {
        Writer { quiet: true, started: true, ..Writer::new(frame) }
    }

    pub(super) fn model(&mut self, model: Option<&str>) {
        if let Some(model) = model {
            model.clone_into(&mut self.model);
        }
    }

    /// Takes a whole answer.
    pub(super) fn parts(&mut self, choice: &Choice) {
        let out = &mut Vec::new();
        let mut calls = 0;
        for part in &choice.parts {
            match part {
                Part::Text { text, .. } => self.say(false, text, out),
                Part::Refusal(text) => self.say(true, text, out),
                Part::Reasoning(thought) => self.thought(thought, out),
                Part::ToolCall(call) => {
                    self.call(calls, &call.id, &call.name, call.signature.as_deref(), out);
                    self.arguments(calls, &call.arguments, out);
                    calls += 1;
                }
                Part::Native { dialect: Dialect::Responses, value } => self.native(value, out),
                // A citation, or a step of a tool that another provider runs: its text stands beside it.
                Part::Native { .. }
                | Part::Image(_)
                | Part::Audio(_)
                | Part::File(_)
                | Part::ToolResult(_) => {}
            }
        }
        self.finish.clone_from(&choice.finish);
        self.close_all(out);
        let logprobs = choice.logprobs.as_ref().and_then(|logprobs| logprobs.get("content"));
        let first = self.output.iter_mut().find(|item| item["type"] == "message");
        let part = first
            .and_then(|item| item.pointer_mut("/content/0"))
            .filter(|part| part["type"] == "output_text");
        if let (Some(logprobs), Some(part)) = (logprobs, part) {
            part["logprobs"] = logprobs.clone();
        }
    }

    /// The whole answer.
    pub(super) fn complete(&mut self, usage: Option<&Usage>) -> Value {
        let status = match &self.finish {
            Finish::Length => Status::Incomplete("max_output_tokens"),
            Finish::ContentFilter => Status::Incomplete("content_filter"),
            // A refusal without words would look like an empty answer.
            Finish::Refusal if !self.refused => Status::Incomplete("content_filter"),
            _ => Status::Completed,
        };
        response(&self.frame, &self.model, status, &self.output, usage)
    }

    fn emit(&mut self, kind: &str, mut event: Value, out: &mut Vec<u8>) {
        if self.quiet {
            return;
        }
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.put(kind, &event, out);
    }

    fn put(&mut self, kind: &str, event: &impl Serialize, out: &mut Vec<u8>) {
        self.sequence += 1;
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        // Writing plain data to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, event);
        out.extend_from_slice(b"\n\n");
    }

    fn delta(&mut self, kind: &str, item: (&str, usize, usize), delta: &str, out: &mut Vec<u8>) {
        if self.quiet {
            return;
        }
        let (item_id, output_index, content_index) = item;
        let logprobs = (kind == "response.output_text.delta").then_some([]);
        let sequence_number = self.sequence;
        let event =
            Delta { r#type: kind, item_id, output_index, content_index, delta, logprobs, sequence_number };
        self.put(kind, &event, out);
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let begun = response(&self.frame, &self.model, Status::InProgress, &[], None);
        self.emit("response.created", json!({"response": begun}), out);
        self.emit("response.in_progress", json!({"response": begun}), out);
    }

    /// Gives an item its place and tells that it begins.
    fn add(&mut self, prefix: &str, make: impl FnOnce(&str) -> Value, out: &mut Vec<u8>) -> (usize, String) {
        self.start(out);
        let at = self.output.len();
        let id = format!("{prefix}_{}-{at}", self.frame.id);
        self.output.push(Value::Null);
        if !self.quiet {
            let item = make(&id);
            self.emit("response.output_item.added", json!({"output_index": at, "item": item}), out);
        }
        (at, id)
    }

    /// Tells that an item is done, and keeps it.
    fn done(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        if !self.quiet {
            self.emit("response.output_item.done", json!({"output_index": at, "item": item}), out);
        }
        self.output[at] = item;
    }

    /// Text or a refusal.
    fn say(&mut self, refusal: bool, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.refused |= refusal;
        let mut message = match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Message(message) => message,
            other => {
                self.open = other;
                self.close(out);
                let make = |id: &str| json!({"type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": []});
                let (at, id) = self.add("msg", make, out);
                Message { at, id, done: Vec::new(), part: None }
            }
        };
        if message.part.as_ref().is_some_and(|(open, _)| *open != refusal) {
            self.close_part(&mut message, out);
        }
        let index = message.done.len();
        if message.part.is_none() {
            let part = content(refusal, "");
            let event = json!({"item_id": message.id, "output_index": message.at, "content_index": index, "part": part});
            self.emit("response.content_part.added", event, out);
        }
        let kind = if refusal { "response.refusal.delta" } else { "response.output_text.delta" };
        self.delta(kind, (&message.id, message.at, index), text, out);
        message.part.get_or_insert((refusal, String::new())).1.push_str(text);
        self.open = Open::Message(message);
    }

    fn close_part(&mut self, message: &mut Message, out: &mut Vec<u8>) {
        let Some((refusal, text)) = message.part.take() else { return };
        let index = message.done.len();
        let part = content(refusal, &text);
        if !self.quiet {
            let place = |more: Value| {
                let mut event =
                    json!({"item_id": message.id, "output_index": message.at, "content_index": index});
                if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
                    event.extend(more);
                }
                event
            };
            match refusal {
                true => self.emit("response.refusal.done", place(json!({"refusal": text})), out),
                false => {
                    let event = place(json!({"text": text, "logprobs": []}));
                    self.emit("response.output_text.done", event, out);
                }
            }
            self.emit("response.content_part.done", place(json!({"part": part})), out);
        }
        message.done.push(part);
    }

    /// Reasoning, as a summary: where clients look for it.
    fn think(&mut self, text: &str, out: &mut Vec<u8>) {
        // What follows a signature is other reasoning.
        if matches!(&self.open, Open::Thought(thought) if thought.sealed.is_some() || thought.text.is_none())
        {
            self.close(out);
        }
        let mut thought = match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Thought(thought) => thought,
            other => {
                self.open = other;
                self.close(out);
                let (at, id) =
                    self.add("rs", |id| json!({"type": "reasoning", "id": id, "summary": []}), out);
                let part = json!({"type": "summary_text", "text": ""});
                let event = json!({"item_id": id, "output_index": at, "summary_index": 0, "part": part});
                self.emit("response.reasoning_summary_part.added", event, out);
                Thought { at, id, text: Some(String::new()), sealed: None }
            }
        };
        if !text.is_empty() {
            let event =
                json!({"item_id": thought.id, "output_index": thought.at, "summary_index": 0, "delta": text});
            self.emit("response.reasoning_summary_text.delta", event, out);
            thought.text.get_or_insert_default().push_str(text);
        }
        self.open = Open::Thought(thought);
    }

    /// The proof of the reasoning that is open, or of some whose text is withheld.
    fn prove(&mut self, sealed: &str, redacted: bool, out: &mut Vec<u8>) {
        if redacted {
            self.close(out);
            let (at, id) = self.add("rs", |id| json!({"type": "reasoning", "id": id, "summary": []}), out);
            self.open = Open::Thought(Thought { at, id, text: None, sealed: Some(sealed.to_owned()) });
            return self.close(out);
        }
        if !matches!(self.open, Open::Thought(_)) {
            self.think("", out);
        }
        if let Open::Thought(thought) = &mut self.open {
            thought.sealed.get_or_insert_default().push_str(sealed);
        }
    }

    fn thought(&mut self, thought: &Reasoning, out: &mut Vec<u8>) {
        // Each part is a piece of its own.
        if matches!(self.open, Open::Thought(_)) {
            self.close(out);
        }
        if !thought.redacted {
            self.think(&thought.text, out);
        }
        if let Some(signature) = &thought.signature {
            let origin = thought.origin.unwrap_or(self.frame.origin);
            self.prove(&seal(origin, Dialect::Responses, signature), thought.redacted, out);
        }
    }

    fn call(&mut self, index: u32, call_id: &str, name: &str, signature: Option<&str>, out: &mut Vec<u8>) {
        if let Some(signature) = signature {
            self.prove(&seal(self.frame.origin, Dialect::Responses, signature), true, out);
        }
        self.close(out);
        let custom = custom::is_called(&self.frame.prompt, name);
        let (prefix, kind, field) =
            if custom { ("ctc", "custom_tool_call", "input") } else { ("fc", "function_call", "arguments") };
        let make = |id: &str| {
            let mut item =
                json!({"type": kind, "id": id, "call_id": call_id, "name": name, "status": "in_progress"});
            item[field] = "".into();
            item
        };
        let (at, id) = self.add(prefix, make, out);
        let (call_id, name) = (call_id.to_owned(), name.to_owned());
        let begun = Call { at, id, call_id, name, arguments: String::new(), custom };
        if let Some(before) = self.calls.insert(index, begun) {
            self.close_call(before, "completed", out);
        }
    }

    fn arguments(&mut self, index: u32, json: &str, out: &mut Vec<u8>) {
        if json.is_empty() {
            return;
        }
        let Some(mut call) = self.calls.remove(&index) else { return };
        // The text of a custom tool stands within JSON, and is unpacked when it is whole.
        if !call.custom {
            let event = json!({"item_id": call.id, "output_index": call.at, "delta": json});
            self.emit("response.function_call_arguments.delta", event, out);
        }
        call.arguments.push_str(json);
        self.calls.insert(index, call);
    }

    fn close_call(&mut self, call: Call, status: &str, out: &mut Vec<u8>) {
        let Call { at, id, call_id, name, arguments, custom } = call;
        let place = json!({"item_id": id, "output_index": at});
        let item = if custom {
            let input = custom::input(&arguments);
            let with = |field: &str| {
                let mut event = place.clone();
                event[field] = input.as_str().into();
                event
            };
            self.emit("response.custom_tool_call_input.delta", with("delta"), out);
            self.emit("response.custom_tool_call_input.done", with("input"), out);
            json!({"type": "custom_tool_call", "id": id, "call_id": call_id, "name": name, "input": input,
                "status": status})
        } else {
            let arguments = if arguments.is_empty() { "{}".to_owned() } else { arguments };
            let mut event = place;
            event["name"] = name.as_str().into();
            event["arguments"] = arguments.as_str().into();
            self.emit("response.function_call_arguments.done", event, out);
            json!({"type": "function_call", "id": id, "call_id": call_id, "name": name, "arguments": arguments,
                "status": status})
        };
        self.done(at, item, out);
    }

    fn native(&mut self, value: &Value, out: &mut Vec<u8>) {
        // Annotations have no place of their own: they stand in the text that they are about.
        if value.get("id").is_some() {
            self.close(out);
            let at = self.add("item", |_| value.clone(), out).0;
            self.done(at, value.clone(), out);
        }
    }

    /// Ends the text or the reasoning that is open.
    fn close(&mut self, out: &mut Vec<u8>) {
        self.close_as("completed", out);
    }

    fn close_as(&mut self, status: &str, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Message(mut message) => {
                self.close_part(&mut message, out);
                let Message { at, id, done, .. } = message;
                let item = json!({"type": "message", "id": id, "role": "assistant", "status": status, "content": done});
                self.done(at, item, out);
            }
            Open::Thought(Thought { at, id, text, sealed }) => {
                let mut item = json!({"type": "reasoning", "id": id, "summary": []});
                if let Some(text) = text {
                    let part = json!({"type": "summary_text", "text": text});
                    let place = json!({"item_id": id, "output_index": at, "summary_index": 0});
                    let mut said = place.clone();
                    said["text"] = text.into();
                    self.emit("response.reasoning_summary_text.done", said, out);
                    let mut whole = place;
                    whole["part"] = part.clone();
                    self.emit("response.reasoning_summary_part.done", whole, out);
                    item["summary"] = json!([part]);
                }
                if let Some(sealed) = sealed {
                    item["encrypted_content"] = sealed.into();
                }
                self.done(at, item, out);
            }
        }
    }

    /// Ends every item; what was cut off says so.
    fn close_all(&mut self, out: &mut Vec<u8>) {
        let cut = matches!(self.finish, Finish::Length | Finish::ContentFilter);
        self.close_all_as(if cut { "incomplete" } else { "completed" }, out);
    }

    fn close_all_as(&mut self, status: &str, out: &mut Vec<u8>) {
        // Only the last can have been cut off.
        let calls = std::mem::take(&mut self.calls);
        let text_is_last = !matches!(self.open, Open::Nothing);
        let last = calls.len();
        for (number, call) in calls.into_values().enumerate() {
            let is_last = number + 1 == last && !text_is_last;
            self.close_call(call, if is_last { status } else { "completed" }, out);
        }
        self.close_as(status, out);
    }
}

impl StreamWriter for Writer {
    fn write(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Start { model, .. } => {
                self.model(model.as_deref());
                self.start(out);
            }
            Piece::Text { choice: 0, text } => self.say(false, text, out),
            Piece::Refusal { choice: 0, text } => self.say(true, text, out),
            Piece::Reasoning { choice: 0, text } if !text.is_empty() => self.think(text, out),
            Piece::Signature { choice: 0, signature, redacted } => {
                // More of one that has begun goes on where it was.
                let goes_on =
                    matches!(&self.open, Open::Thought(thought) if thought.sealed.is_some() && !redacted);
                match goes_on {
                    true => self.prove(signature, false, out),
                    false => {
                        let sealed = seal(self.frame.origin, Dialect::Responses, signature);
                        self.prove(&sealed, *redacted, out);
                    }
                }
            }
            Piece::ToolCall { choice: 0, index, id, name, signature } => {
                self.call(*index, id, name, signature.as_deref(), out);
            }
            Piece::Arguments { choice: 0, index, json } => self.arguments(*index, json, out),
            Piece::Native { choice: 0, dialect: Dialect::Responses, value } => self.native(value, out),
            Piece::Finish { choice: 0, reason } => {
                self.finish = reason.clone();
                self.close_all(out);
            }
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => {
                self.start(out);
                self.close_all(out);
                let usage = self.usage;
                let response = self.complete(usage.as_ref());
                let kind = if response["status"] == "incomplete" {
                    "response.incomplete"
                } else {
                    "response.completed"
                };
                self.emit(kind, json!({"response": response}), out);
            }
            // One answer is all that was asked for; what other dialects bring beside it has no place here.
            _ => {}
        }
    }

    fn fail(&mut self, class: ErrorClass, message: &str, code: &str, out: &mut Vec<u8>) -> bool {
        self.start(out);
        let error = json!({"type": class_name(class), "code": code, "message": message, "param": null});
        let event = json!({"code": code, "message": message, "param": null, "error": error});
        self.emit("error", event, out);
        self.quiet = true;
        self.close_all_as("incomplete", out);
        self.quiet = false;
        let code = if class == ErrorClass::RateLimited { "rate_limit_exceeded" } else { "server_error" };
        let status = Status::Failed(json!({"code": code, "message": message}));
        let response = response(&self.frame, &self.model, status, &self.output, self.usage.as_ref());
        self.emit("response.failed", json!({"response": response}), out);
        true
    }
}

/// A part of a message.
fn content(refusal: bool, text: &str) -> Value {
    match refusal {
        true => json!({"type": "refusal", "refusal": text}),
        false => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
    }
}
