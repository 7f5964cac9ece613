//! Streamed answers: a `GenerateContentResponse` for each event, each with what is new, usage so far in all of
//! them, and no last event of its own.

use std::collections::BTreeMap;

use base::Usage;

use super::answer::{self, Ids, MALFORMED};
use super::wire::{Candidate, Part as Wire, Response, UsageMetadata};
use super::{error, finish, parts};
use crate::Dialect;
use crate::dialect::{StreamReader, StreamWriter};
use crate::form::{Finish, Frame, Part, Piece, Reasoning, ToolCall};

/// How many candidates of one stream are told apart; more are an attack.
const MANY: u32 = 1024;
/// The most bytes of arguments that are held for one stream, which has a call come in one piece.
const MAX_HELD: usize = 16 << 20;

/// Reads chunks.
#[derive(Default)]
pub(super) struct Reader {
    ids: Option<Ids>,
    candidates: BTreeMap<u32, Seen>,
}

/// What was seen of a candidate.
#[derive(Default)]
struct Seen {
    calls: u32,
    /// Reasoning came, and no signature since.
    is_open: bool,
    ended: bool,
}

impl StreamReader for Reader {
    fn read(&mut self, _: &str, data: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String> {
        let wire: Response = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        if wire.error.is_some() {
            let said = error::read(data).map(|error| error.message);
            pieces.push(Piece::Error { message: said.unwrap_or_else(|| "an error without words".into()) });
            return Ok(());
        }
        if self.ids.is_none() {
            self.ids = Some(Ids::new(wire.response_id.as_deref(), data));
            let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
            pieces.push(Piece::Start { id: filled(wire.response_id), model: filled(wire.model_version) });
        }
        for candidate in wire.candidates {
            self.take(candidate, pieces)?;
        }
        if wire.prompt_feedback.and_then(|feedback| feedback.block_reason).is_some() {
            let seen = self.candidates.entry(0).or_default();
            if !std::mem::replace(&mut seen.ended, true) {
                pieces.push(Piece::Finish { choice: 0, reason: Finish::ContentFilter });
            }
        }
        pieces.extend(wire.usage_metadata.map(|usage| Piece::Usage(usage.read())));
        Ok(())
    }

    fn is_whole(&self) -> bool {
        !self.candidates.is_empty() && self.candidates.values().all(|seen| seen.ended)
    }
}

impl Reader {
    fn take(&mut self, wire: Candidate, pieces: &mut Vec<Piece>) -> Result<(), String> {
        let choice = wire.index.unwrap_or_default();
        if choice >= MANY {
            return Err("the stream has too many candidates".into());
        }
        let seen = self.candidates.entry(choice).or_default();
        for part in wire.content.map(|content| content.parts).unwrap_or_default() {
            let is_thought = part.thought == Some(true);
            let mut read = Vec::with_capacity(2);
            let ids = &mut self.ids;
            parts::answered(part, &mut read, || ids.as_mut().map(Ids::next).unwrap_or_default())?;
            for part in read {
                seen.tell(choice, part, is_thought, pieces);
            }
        }
        let reason = wire.finish_reason.filter(|reason| !reason.is_empty());
        if let Some(reason) = reason.filter(|_| !seen.ended) {
            seen.ended = true;
            pieces.push(Piece::Finish { choice, reason: finish::read(&reason, seen.calls > 0) });
        }
        Ok(())
    }
}

impl Seen {
    fn tell(&mut self, choice: u32, part: Part, is_thought: bool, pieces: &mut Vec<Piece>) {
        match part {
            Part::Text { text, .. } => pieces.push(Piece::Text { choice, text }),
            Part::Reasoning(Reasoning { text, signature, redacted, .. }) => {
                // A signature that comes after its text stands alone in its part.
                let redacted = redacted && !(is_thought && self.is_open);
                self.is_open = signature.is_none() && (self.is_open || !text.is_empty());
                if !text.is_empty() {
                    pieces.push(Piece::Reasoning { choice, text });
                }
                pieces.extend(signature.map(|signature| Piece::Signature { choice, signature, redacted }));
            }
            Part::ToolCall(ToolCall { id, name, arguments: json, signature }) => {
                let index = self.calls;
                self.calls += 1;
                pieces.push(Piece::ToolCall { choice, index, id, name, signature });
                pieces.push(Piece::Arguments { choice, index, json });
            }
            Part::Native { dialect, value } => pieces.push(Piece::Native { choice, dialect, value }),
            other => {
                // A picture or sound: no other dialect streams them.
                let value = answer::write_part_value(&other);
                pieces.extend(value.map(|value| Piece::Native { choice, dialect: Dialect::Gemini, value }));
            }
        }
    }
}

/// Writes chunks.
pub(super) struct Writer {
    frame: Frame,
    model: String,
    /// Calls whose arguments still come, by choice and number.
    calls: BTreeMap<(u32, u32), ToolCall>,
    held: usize,
    ended: BTreeMap<u32, Ending>,
    usage: Option<Usage>,
}

struct Ending {
    reason: String,
    message: Option<String>,
}

impl Writer {
    pub(super) fn new(frame: Frame) -> Self {
        let model = frame.model.clone();
        Writer { frame, model, calls: BTreeMap::new(), held: 0, ended: BTreeMap::new(), usage: None }
    }

    fn chunk(&self, candidates: Vec<Candidate>, usage: Option<&Usage>, out: &mut Vec<u8>) {
        let response = Response {
            candidates,
            usage_metadata: usage.map(UsageMetadata::written),
            model_version: Some(self.model.clone()),
            response_id: Some(self.frame.id.clone()),
            ..Response::default()
        };
        out.extend_from_slice(b"data: ");
        // Writing plain data to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, &response);
        out.extend_from_slice(b"\n\n");
    }

    fn part(&self, choice: u32, part: Wire, out: &mut Vec<u8>) {
        let content = Some(answer::content(vec![part]));
        let candidate = Candidate { content, index: Some(choice), ..Candidate::default() };
        self.chunk(vec![candidate], None, out);
    }

    fn thought(&self, choice: u32, thought: &Reasoning, out: &mut Vec<u8>) {
        self.part(choice, answer::write_thought(thought, self.frame.origin), out);
    }

    /// Writes the calls of a choice, which are whole now, and notes why it ended.
    fn end(&mut self, choice: u32, reason: &Finish, out: &mut Vec<u8>) {
        let (word, message) = finish::write(reason);
        let mut ending = Ending { reason: word.to_owned(), message: message.map(str::to_owned) };
        let later = self.calls.split_off(&(choice, 0));
        for ((of, index), call) in later {
            if of != choice {
                self.calls.insert((of, index), call);
                continue;
            }
            match answer::write_call(&call, self.frame.origin) {
                Some(part) => self.part(choice, part, out),
                None if *reason == Finish::Length => {}
                None => {
                    ending.reason = MALFORMED.0.into();
                    ending.message = Some(format!("{} `{}`", MALFORMED.1, call.name));
                }
            }
        }
        self.ended.insert(choice, ending);
    }
}

impl StreamWriter for Writer {
    fn write(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Start { model, .. } => {
                self.model.clone_from(model.as_ref().unwrap_or(&self.frame.model));
            }
            Piece::Text { choice, text } | Piece::Refusal { choice, text } => {
                if !text.is_empty() {
                    self.part(*choice, Wire::text(text.clone()), out);
                }
            }
            Piece::Reasoning { choice, text } => {
                self.thought(*choice, &Reasoning { text: text.clone(), ..Reasoning::default() }, out);
            }
            Piece::Signature { choice, signature, redacted } => {
                let signature = Some(signature.clone());
                let thought = Reasoning { signature, redacted: *redacted, ..Reasoning::default() };
                self.thought(*choice, &thought, out);
            }
            Piece::ToolCall { choice, index, id, name, signature } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                let call = ToolCall { id, name, arguments: String::new(), signature };
                self.calls.insert((*choice, *index), call);
            }
            Piece::Arguments { choice, index, json } => {
                self.held = self.held.saturating_add(json.len());
                // What is over the bound is cut, so that the call is told as malformed.
                if let Some(call) = self.calls.get_mut(&(*choice, *index)).filter(|_| self.held <= MAX_HELD) {
                    call.arguments.push_str(json);
                }
            }
            Piece::Native { choice, dialect: Dialect::Gemini, value } => {
                if let Ok(part) = serde_json::from_value(value.clone()) {
                    self.part(*choice, part, out);
                }
            }
            Piece::Finish { choice, reason } => self.end(*choice, reason, out),
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => {
                let ended = std::mem::take(&mut self.ended);
                let candidates = ended.into_iter().map(|(choice, Ending { reason, message })| Candidate {
                    content: Some(answer::content(vec![Wire::text("")])),
                    finish_reason: Some(reason),
                    finish_message: message,
                    index: Some(choice),
                    logprobs_result: None,
                });
                let candidates = candidates.collect();
                self.chunk(candidates, self.usage.as_ref(), out);
            }
            Piece::Native { .. } | Piece::Error { .. } => {}
        }
    }
}
