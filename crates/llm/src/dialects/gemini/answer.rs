//! Whole answers.

use bytes::Bytes;

use super::wire::{
    Blob, Candidate, Content, FileData, FunctionCall, Part as Wire, Response, Rest, UsageMetadata,
};
use super::{finish, logprobs, parts, signature, write};
use crate::Dialect;
use crate::form::{Answer, Choice, Finish, Frame, Part, Reasoning, Source, ToolCall};

/// Makes ids for calls without one: the same for the same answer, and others for another.
pub(super) struct Ids {
    seed: u64,
    made: u32,
}

impl Ids {
    /// From the answer's own id, or from its bytes.
    pub fn new(id: Option<&str>, bytes: &[u8]) -> Self {
        let seed = id.filter(|id| !id.is_empty()).map_or(bytes, str::as_bytes);
        // FNV-1a, so that it does not depend on the process.
        let seed = seed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Ids { seed, made: 0 }
    }

    pub fn next(&mut self) -> String {
        let id = format!("call_{:016x}_{}", self.seed, self.made);
        self.made += 1;
        id
    }
}

pub(super) fn read(body: &[u8]) -> Result<Answer, String> {
    let wire: Response =
        serde_json::from_slice(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    if let Some(error) = wire.error {
        return Err(format!("the answer is an error: {error}"));
    }
    let mut ids = Ids::new(wire.response_id.as_deref(), body);
    let mut choices = Vec::with_capacity(wire.candidates.len());
    for candidate in wire.candidates {
        choices.push(read_candidate(candidate, &mut ids)?);
    }
    if choices.is_empty() {
        let blocked = wire.prompt_feedback.and_then(|feedback| feedback.block_reason);
        if blocked.is_none() {
            return Err("the answer has no candidates, and no reason why".into());
        }
        choices.push(Choice { finish: Finish::ContentFilter, ..Choice::default() });
    }
    Ok(Answer {
        id: wire.response_id.filter(|id| !id.is_empty()),
        model: wire.model_version.filter(|model| !model.is_empty()),
        choices,
        usage: wire.usage_metadata.map(|usage| usage.read()),
    })
}

fn read_candidate(wire: Candidate, ids: &mut Ids) -> Result<Choice, String> {
    let Some(reason) = wire.finish_reason.filter(|reason| !reason.is_empty()) else {
        return Err("a candidate has no reason to end".into());
    };
    let mut read = Vec::new();
    for part in wire.content.map(|content| content.parts).unwrap_or_default() {
        parts::answered(part, &mut read, || ids.next())?;
    }
    let has_calls = read.iter().any(|part| matches!(part, Part::ToolCall(_)));
    let finish = finish::read(&reason, has_calls);
    Ok(Choice { parts: read, finish, logprobs: wire.logprobs_result.and_then(|all| logprobs::read(&all)) })
}

pub(super) fn write(answer: &Answer, frame: &Frame) -> Bytes {
    let candidates = answer.choices.iter().zip(0..);
    let response = Response {
        candidates: candidates.map(|(choice, index)| write_candidate(choice, index, frame)).collect(),
        usage_metadata: answer.usage.as_ref().map(UsageMetadata::written),
        model_version: Some(answer.model.clone().unwrap_or_else(|| frame.model.clone())),
        response_id: Some(frame.id.clone()),
        ..Response::default()
    };
    serde_json::to_vec(&response).unwrap_or_default().into()
}

fn write_candidate(choice: &Choice, index: u32, frame: &Frame) -> Candidate {
    let (reason, message) = finish::write(&choice.finish);
    let (mut reason, mut message) = (reason.to_owned(), message.map(str::to_owned));
    let mut written = Vec::with_capacity(choice.parts.len());
    for part in &choice.parts {
        match write_part(part, frame.origin) {
            Ok(part) => written.extend(part),
            Err(name) => {
                // A cut answer's last call is cut too, and its reason says so already.
                if choice.finish != Finish::Length {
                    reason = MALFORMED.0.into();
                    message = Some(format!("{} `{name}`", MALFORMED.1));
                }
            }
        }
    }
    let is_withheld = written.is_empty() && choice.finish == Finish::ContentFilter;
    Candidate {
        content: (!is_withheld).then(|| content(written)),
        finish_reason: Some(reason),
        finish_message: message,
        index: Some(index),
        logprobs_result: choice.logprobs.as_ref().and_then(logprobs::write),
    }
}

/// The reason to end of an answer whose call cannot be read, and what is said about it.
pub(super) const MALFORMED: (&str, &str) =
    ("MALFORMED_FUNCTION_CALL", "The model wrote arguments that are no JSON object for the call of");

pub(super) fn content(parts: Vec<Wire>) -> Content {
    Content { role: Some("model".into()), parts, rest: Rest::new() }
}

/// One part of its own as it stands in an answer.
pub(super) fn write_part_value(part: &Part) -> Option<serde_json::Value> {
    write_part(part, Dialect::Gemini).ok().flatten().and_then(|part| serde_json::to_value(part).ok())
}

/// One part for a client; `Err` names the function whose call cannot be told.
fn write_part(part: &Part, origin: Dialect) -> Result<Option<Wire>, &str> {
    Ok(match part {
        Part::Text { text, .. } | Part::Refusal(text) => Some(Wire::text(text.clone())),
        Part::Reasoning(thought) => Some(write_thought(thought, origin)),
        Part::ToolCall(call) => Some(write_call(call, origin).ok_or(call.name.as_str())?),
        Part::Image(image) => write_media(&image.source),
        Part::Audio(media) | Part::File(media) => write_media(&media.source),
        Part::Native { dialect: Dialect::Gemini, value } => serde_json::from_value(value.clone()).ok(),
        // A citation or a step of another provider's tool: there is no place for it, and its text stands beside.
        Part::Native { .. } | Part::ToolResult(_) => None,
    })
}

pub(super) fn write_thought(thought: &Reasoning, origin: Dialect) -> Wire {
    let origin = thought.origin.unwrap_or(origin);
    // Of its own kind: what the API gives beside text that is no thought.
    let is_own = thought.redacted && origin == Dialect::Gemini;
    Wire {
        thought: (!is_own).then_some(true),
        thought_signature: thought.signature.as_deref().map(|text| signature::sealed(origin, text)),
        ..Wire::text(thought.text.clone())
    }
}

/// `None`: the arguments are no object, so that there is no call to be told.
pub(super) fn write_call(call: &ToolCall, origin: Dialect) -> Option<Wire> {
    let args = write::object(&call.arguments)?;
    let id = Some(call.id.clone()).filter(|id| !id.is_empty());
    Some(Wire {
        function_call: Some(FunctionCall { id, name: Some(call.name.clone()), args: Some(args) }),
        thought_signature: call.signature.as_deref().map(|text| signature::sealed(origin, text)),
        ..Wire::default()
    })
}

fn write_media(source: &Source) -> Option<Wire> {
    match source {
        Source::Base64 { media, data } => {
            let (mime_type, data) = (Some(media.clone()), Some(data.clone()));
            Some(Wire { inline_data: Some(Blob { mime_type, data, display_name: None }), ..Wire::default() })
        }
        Source::Url(uri) | Source::Uploaded(Dialect::Gemini, uri) => {
            let mime_type = parts::guessed(uri).map(str::to_owned);
            let file = FileData { mime_type, file_uri: Some(uri.clone()), display_name: None };
            Some(Wire { file_data: Some(file), ..Wire::default() })
        }
        Source::Uploaded(..) => None,
    }
}
