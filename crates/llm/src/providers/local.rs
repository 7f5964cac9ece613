//! The built-in demo models behind the provider trait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::demo::{self, DemoAnswer, DemoOperation};
use crate::{Client, Inbound, InboundBody, Operation, Outbound, Provider, SendError};

/// The pause between two pieces of a streamed demo answer: slow enough to see, fast enough for tests.
const PACE: Duration = Duration::from_millis(5);

/// Up to this size a body is answered on the thread that has it.
const SMALL: usize = 64 << 10;

/// Answers from this process, with no network.
pub struct Local {
    models: Vec<&'static str>,
}

impl Local {
    /// The demo models.
    pub fn demo() -> Self {
        Local { models: demo::MODELS.iter().map(|(name, _)| *name).collect() }
    }
}

impl Provider for Local {
    fn send<'a>(&'a self, _: &'a Client, call: Outbound) -> BoxFuture<'a, Result<Inbound, SendError>> {
        let operation = match call.operation {
            Operation::Embeddings => DemoOperation::Embeddings,
            _ => DemoOperation::Chat,
        };
        Box::pin(async move { Ok(respond(answer(operation, call.body).await)) })
    }

    fn serves(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Chat | Operation::Embeddings)
    }

    fn address(&self) -> &str {
        "localhost"
    }

    fn models(&self) -> &[&'static str] {
        &self.models
    }
}

/// A large body takes a while to answer, which the worker's other requests do not have.
async fn answer(operation: DemoOperation, body: Bytes) -> DemoAnswer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let small = body.len() <= SMALL;
    let work = move || demo::answer(operation, &body, now);
    if small {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or(DemoAnswer::Whole { status: 500, body: Vec::new() })
}

fn respond(answer: DemoAnswer) -> Inbound {
    let (status, media, body) = match answer {
        DemoAnswer::Whole { status, body } => {
            let body = InboundBody::Local(Box::pin(stream::iter([Bytes::from(body)])));
            (
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                "application/json",
                body,
            )
        }
        DemoAnswer::Stream { events } => {
            let paced = stream::unfold(events.into_iter(), |mut rest| async move {
                let event = rest.next()?;
                tokio::time::sleep(PACE).await;
                Some((Bytes::from(event), rest))
            });
            (StatusCode::OK, "text/event-stream", InboundBody::Local(Box::pin(paced)))
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Inbound { status, headers, body }
}
