//! One attempt: send to one target, and read as far as is needed to know whether it worked.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use llm::openai::{Answer, Envelope, read_answer};
use llm::{Client, Inbound, Outbound};
use tokio::time::timeout;

use crate::failure::{ErrorAnswer, Failure};
use crate::reader::Reader;
use crate::snapshot::Target;

/// The largest whole answer we hold. Embeddings of 2048 texts as JSON stay below it.
const MAX_ANSWER: usize = 128 << 20;
/// The largest error body we read.
const MAX_ERROR: usize = 256 << 10;

/// What an attempt brought.
pub(crate) enum Success {
    /// A whole answer, read and checked.
    Whole { body: Bytes, answer: Answer },
    /// A stream whose first content is here.
    Stream(Box<Reader>),
}

/// Sends `outbound` and reads the answer: the whole of it, or a stream's until its first content. `limit` is
/// the time for that.
pub(crate) async fn attempt(
    client: &Client,
    target: &Target,
    outbound: Outbound,
    envelope: &Envelope,
    limit: Duration,
) -> Result<Success, Failure> {
    let work = async {
        let inbound = target.provider.provider.send(client, outbound).await.map_err(Failure::Send)?;
        if inbound.status != StatusCode::OK {
            return Err(Failure::Status(error_answer(inbound).await));
        }
        if envelope.stream { stream(inbound, envelope, target).await } else { whole(inbound).await }
    };
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|failure| failure.redacted(&target.provider)),
        Err(_) => Err(Failure::Slow),
    }
}

async fn whole(inbound: Inbound) -> Result<Success, Failure> {
    let body = inbound.body.collect(MAX_ANSWER).await.map_err(|e| Failure::Protocol(e.to_string()))?;
    let answer = read_answer(&body).map_err(Failure::Protocol)?;
    Ok(Success::Whole { body, answer })
}

async fn stream(inbound: Inbound, envelope: &Envelope, target: &Target) -> Result<Success, Failure> {
    let media = inbound.headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    if !media.to_ascii_lowercase().starts_with(b"text/event-stream") {
        return Err(Failure::Protocol("a stream was asked for and the answer is none".into()));
    }
    let mut reader = Box::new(Reader::new(inbound.body, envelope, target.resilience.idle_timeout.0));
    reader.prime().await?;
    Ok(Success::Stream(reader))
}

async fn error_answer(inbound: Inbound) -> ErrorAnswer {
    let Inbound { status, headers, body } = inbound;
    ErrorAnswer {
        status,
        content_type: headers.get(CONTENT_TYPE).cloned(),
        retry_after: llm::retry_after::parse(&headers, SystemTime::now()),
        // An error whose body cannot be read is still that error.
        body: body.collect(MAX_ERROR).await.unwrap_or_default(),
    }
}
