//! One attempt: send to one target, and read as far as is needed to know whether it worked.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use llm::dialects::{egress, ingress};
use llm::form::{self, Part};
use llm::openai::{Answer, Envelope, read_answer, read_media};
use llm::{Client, Dialect, Inbound, Operation, Outbound};
use tokio::time::timeout;

use crate::convert::Translation;
use crate::failure::{ErrorAnswer, Failure};
use crate::reader::Reader;
use crate::snapshot::Target;

/// The largest whole answer we hold. Embeddings of 2048 texts as JSON stay below it.
const MAX_ANSWER: usize = 128 << 20;
/// The largest error body we read.
const MAX_ERROR: usize = 256 << 10;

/// What an attempt brought.
#[expect(clippy::large_enum_variant, reason = "the larger one is the one that most calls have")]
pub(crate) enum Success {
    /// A whole answer, read and checked, in the client's dialect.
    Whole { content_type: Option<HeaderValue>, body: Bytes, answer: Answer },
    /// A stream whose first content is here.
    Stream(Box<Reader>),
}

/// Sends `outbound` and reads the answer: the whole of it, or a stream's until its first content. `key` is
/// the provider's key to use, `limit` the time for that.
pub(crate) async fn attempt(
    client: &Client,
    target: &Target,
    outbound: Outbound,
    envelope: &Envelope,
    translation: Translation,
    key: usize,
    limit: Duration,
) -> Result<Success, Failure> {
    let operation = outbound.operation;
    let work = async {
        let inbound = target.provider.keys.at(key).send(client, outbound).await.map_err(Failure::Send)?;
        if inbound.status != StatusCode::OK {
            return Err(Failure::Status(error_answer(inbound, translation.provider).await));
        }
        if envelope.stream {
            stream(inbound, operation, envelope, target, translation).await
        } else {
            whole(inbound, operation, envelope, &translation).await
        }
    };
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|failure| failure.redacted(&target.provider)),
        Err(_) => Err(Failure::Slow),
    }
}

async fn whole(
    inbound: Inbound,
    operation: Operation,
    envelope: &Envelope,
    translation: &Translation,
) -> Result<Success, Failure> {
    let content_type = inbound.headers.get(CONTENT_TYPE).cloned();
    let body = inbound.body.collect(MAX_ANSWER).await.map_err(|e| Failure::Protocol(e.to_string()))?;
    let plain = matches!(translation.provider, Dialect::Chat | Dialect::Completions);
    if !matches!(operation, Operation::Chat | Operation::Embeddings) {
        let media = content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let answer = read_media(operation, media, &body, envelope).map_err(Failure::Protocol)?;
        return Ok(Success::Whole { content_type, body, answer });
    }
    let content_type = None;
    if translation.frame.is_none() && (plain || operation != Operation::Chat) {
        let answer = read_answer(&body).map_err(Failure::Protocol)?;
        return Ok(Success::Whole { content_type, body, answer });
    }
    let unknown = || Failure::Protocol(format!("nothing reads {}", translation.provider.as_str()));
    let read = egress(translation.provider).ok_or_else(unknown)?;
    let read = read.read_answer(&body).map_err(Failure::Protocol)?;
    let body = match (&translation.frame, ingress(translation.client)) {
        (Some(frame), Some(writer)) => writer.write_answer(&read, frame),
        _ => body,
    };
    Ok(Success::Whole { content_type, answer: facts(read), body })
}

/// What the record needs of an answer.
fn facts(answer: form::Answer) -> Answer {
    let text = match answer.usage {
        Some(_) => String::new(),
        None => answer.choices.iter().flat_map(|choice| &choice.parts).map(text_of).collect(),
    };
    let finish_reason = answer.choices.first().map(|choice| choice.finish.as_str().to_owned());
    Answer { usage: answer.usage, model: answer.model, finish_reason, text }
}

/// What a part counts as, when it must be counted here.
fn text_of(part: &Part) -> String {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => text.clone(),
        Part::Reasoning(reasoning) => reasoning.text.clone(),
        Part::ToolCall(call) => format!("{}{}", call.name, call.arguments),
        _ => String::new(),
    }
}

async fn stream(
    inbound: Inbound,
    operation: Operation,
    envelope: &Envelope,
    target: &Target,
    translation: Translation,
) -> Result<Success, Failure> {
    let media = inbound.headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    if !media.to_ascii_lowercase().starts_with(b"text/event-stream") {
        return Err(Failure::Protocol("a stream was asked for and the answer is none".into()));
    }
    let mut reader = Box::new(Reader::new(
        inbound.body,
        operation,
        envelope,
        translation,
        target.resilience.idle_timeout.0,
    ));
    reader.prime().await?;
    Ok(Success::Stream(reader))
}

async fn error_answer(inbound: Inbound, dialect: Dialect) -> ErrorAnswer {
    let Inbound { status, headers, body } = inbound;
    // An error whose body cannot be read is still that error.
    let body = body.collect(MAX_ERROR).await.unwrap_or_default();
    let told = || egress(dialect).and_then(|dialect| dialect.retry_after(&body));
    let retry_after = llm::retry_after::parse(&headers, SystemTime::now()).or_else(told);
    let content_type = headers.get(CONTENT_TYPE).cloned();
    let mut answer = ErrorAnswer { status, dialect, content_type, retry_after, body };
    // Not the caller's mistake, and not the caller's to read.
    if status == StatusCode::BAD_REQUEST && answer.read().is_some_and(|e| e.is_about_the_credential()) {
        answer.status = StatusCode::UNAUTHORIZED;
    }
    answer
}
