//! What of a call is forwarded as it is, and what is converted on the way to a provider of another dialect.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base::RequestId;
use bytes::Bytes;
use http::StatusCode;
use llm::dialects::{egress, ingress};
use llm::form::{ErrorClass, Frame, Losses, Prompt};
use llm::openai::Refusal;
use llm::{Dialect, Operation, Provider};
use memchr::memmem;

use crate::failure::ErrorAnswer;
use crate::meter::Record;

/// How one attempt's bytes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Client and provider speak the same.
    Forward,
    /// The provider speaks this.
    Convert(Dialect),
}

/// What reading an answer needs to know.
pub(crate) struct Translation {
    /// What the client speaks.
    pub(crate) client: Dialect,
    /// What the provider speaks.
    pub(crate) provider: Dialect,
    /// What the answer is written from, when it is converted.
    pub(crate) frame: Option<Frame>,
}

/// Converts a call, for as many targets as it is tried at. The request is read once.
pub(crate) struct Converter {
    operation: Operation,
    client: Dialect,
    /// The conversation holds reasoning that another provider signed: who speaks the client's dialect would refuse
    /// it, so that it is written anew without.
    sealed: bool,
    prompt: Option<Arc<Prompt>>,
}

impl Converter {
    pub(crate) fn new(operation: Operation, client: Dialect, body: &[u8]) -> Self {
        let marks: [&[u8]; 2] = [b"\"tl:", b"\"tl-call:"];
        let sealed = matches!(client, Dialect::Messages | Dialect::Responses)
            && marks.iter().any(|mark| memmem::find(body, mark).is_some());
        Converter { operation, client, sealed, prompt: None }
    }

    /// How a provider is spoken to.
    pub(crate) fn codec(&self, provider: &dyn Provider, record: &Record) -> Codec {
        let spoken = provider.dialects();
        // What was kept here may hold what another provider made, which this one would refuse.
        let kept_here = record.earlier.as_ref().is_some_and(|earlier| earlier.provider.is_none());
        let sealed = self.sealed && self.operation == Operation::Chat;
        if (sealed || kept_here) && spoken.contains(&self.client) {
            return Codec::Convert(self.client);
        }
        match spoken.first() {
            Some(first) if self.operation == Operation::Chat && !spoken.contains(&self.client) => {
                Codec::Convert(*first)
            }
            _ => Codec::Forward,
        }
    }

    /// The dialect that a provider hears.
    pub(crate) fn spoken(&self, codec: Codec) -> Dialect {
        match codec {
            Codec::Forward => self.client,
            Codec::Convert(dialect) => dialect,
        }
    }

    /// The body for a provider of another dialect. What it cannot carry goes to `losses`.
    pub(crate) fn write(
        &mut self,
        dialect: Dialect,
        record: &Record,
        model: &str,
        losses: &mut Losses,
    ) -> Result<Bytes, Refusal> {
        let (Some(reader), Some(writer)) = (ingress(self.client), egress(dialect)) else {
            let text = format!(
                "`{model}` is at a provider that speaks another dialect ({}), which a request in this one ({}) cannot be converted to.",
                dialect.as_str(),
                self.client.as_str()
            );
            return Err(Refusal { message: text, param: Some("model") });
        };
        if self.prompt.is_none() {
            let path = record.path.as_ref().map(|(model, stream)| (model.as_str(), *stream));
            let mut prompt = reader.read_prompt(&record.body, path)?;
            if let Some(earlier) = &record.earlier {
                prompt.echo.insert("previous_response_id".into(), earlier.id.as_str().into());
            }
            self.prompt = Some(Arc::new(prompt));
        }
        match &self.prompt {
            Some(prompt) => writer.write_prompt(prompt, model, losses),
            None => Ok(Bytes::new()),
        }
    }

    /// What reading the answer needs to know.
    pub(crate) fn translation(&self, codec: Codec, record: &Record) -> Translation {
        let provider = self.spoken(codec);
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let frame = match (codec, &self.prompt) {
            (Codec::Convert(origin), Some(prompt)) => Some(Frame {
                id: self.id(record),
                model: record.model.clone(),
                origin,
                created,
                prompt: Arc::clone(prompt),
            }),
            _ => None,
        };
        Translation { client: self.client, provider, frame }
    }

    /// The id of an answer. A response can be asked for by it, so it is never the caller's to choose.
    fn id(&self, record: &Record) -> String {
        if self.client != Dialect::Responses {
            return record.request_id.as_str().to_owned();
        }
        let [first, second] = [RequestId::generate(), RequestId::generate()];
        format!("{}{}", first.as_str().trim_start_matches("req_"), second.as_str().trim_start_matches("req_"))
    }

    /// A provider's refusal in the client's dialect; `None` when it is in that already.
    pub(crate) fn refusal(&self, answer: &ErrorAnswer) -> Option<Bytes> {
        if answer.dialect == self.client {
            return None;
        }
        let error = answer.read()?;
        // A client may know what to do about it by OpenAI's code only.
        let code = match error.is_context_overflow() {
            true => "context_length_exceeded",
            false => error.code.as_deref().unwrap_or("invalid_request"),
        };
        Some(ingress(self.client)?.error_body(class(answer.status), &error.message, None, code))
    }
}

/// The class of a provider's refusal.
fn class(status: StatusCode) -> ErrorClass {
    match status.as_u16() {
        404 => ErrorClass::NotFound,
        413 => ErrorClass::TooLarge,
        _ => ErrorClass::Invalid,
    }
}
