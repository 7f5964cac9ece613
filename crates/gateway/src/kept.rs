//! Responses that a provider keeps itself: asking for one, or forgetting it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use llm::openai::Refusal;
use llm::{AskKept, SendError};
use tokio::time::timeout;

use crate::error::Error;
use crate::failure::clipped;
use crate::gateway::{Call, Gateway};
use crate::settings::Strategy;
use crate::snapshot::{ProviderEntry, Route};
use crate::strategy::Chooser;

/// The largest response that is handed on.
const MAX_KEPT: usize = 32 << 20;

/// What a call goes on from.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The id of the earlier response.
    pub id: String,
    /// The provider that keeps it, which alone can go on from it. `None`: all of it is in the request.
    pub provider: Option<String>,
}

/// What a provider says of a response that it keeps.
pub struct Kept {
    /// 200, or why not (404 …).
    pub status: StatusCode,
    /// Of the body.
    pub content_type: HeaderValue,
    /// The provider's very bytes.
    pub body: Bytes,
}

impl Gateway {
    /// Asks a provider about a response that it keeps: `below` is what follows `/responses` in the path. `None` when
    /// there is no such provider any more, or it keeps none.
    pub async fn kept(
        &self,
        provider: &str,
        method: Method,
        below: String,
        call: &Call,
    ) -> Option<Result<Kept, Error>> {
        let snapshot = self.shared().snapshot.load_full();
        let entry = snapshot.provider(provider)?;
        let ask = AskKept {
            method,
            below,
            trace: call.trace.child(),
            request_id: call.request_id.clone(),
            connect_timeout: snapshot.resilience().connect_timeout.0,
        };
        let asking = entry.keys.any().ask_kept(self.client(), ask)?;
        let within = snapshot.resilience().request_timeout.0;
        Some(handed_on(asking, &entry, within).await)
    }
}

async fn handed_on(
    asking: impl Future<Output = Result<llm::Inbound, SendError>>,
    entry: &ProviderEntry,
    within: Duration,
) -> Result<Kept, Error> {
    let target = || entry.name.to_string();
    let failed = |what: &str, detail: &str| {
        let detail = clipped(&entry.redact(detail));
        tracing::warn!(provider = &*entry.name, error = detail, "a kept response cannot be asked for");
        Error::Failed { target: target(), what: what.into() }
    };
    let work = async {
        let inbound = asking.await.map_err(|error| failed("no answer", &error.to_string()))?;
        let (status, headers) = (inbound.status, inbound.headers);
        let wait = llm::retry_after::parse(&headers, std::time::SystemTime::now());
        let body = inbound.body.collect(MAX_KEPT).await;
        let body = body.map_err(|error| failed("the answer broke off", &error.to_string()))?;
        match status.as_u16() {
            401..=403 => Err(Error::Credential { target: target() }),
            429 => Err(Error::RateLimited {
                target: target(),
                retry_after: wait.unwrap_or(Duration::from_secs(1)),
            }),
            200..=499 => {
                let json = HeaderValue::from_static("application/json");
                let content_type = headers.get(CONTENT_TYPE).cloned().unwrap_or(json);
                let body = if status.is_success() { body } else { entry.redact_body(body) };
                Ok(Kept { status, content_type, body })
            }
            _ => Err(failed("an error", &format!("status {status}"))),
        }
    };
    timeout(within, work).await.unwrap_or_else(|_| Err(Error::TooSlow { target: target() }))
}

/// The route's targets at the provider that keeps what the call goes on from.
pub(crate) fn pinned(route: &Route, earlier: Option<&Earlier>) -> Result<Option<Arc<Route>>, Refusal> {
    let Some((id, provider)) = earlier.and_then(|earlier| Some((&earlier.id, earlier.provider.as_ref()?)))
    else {
        return Ok(None);
    };
    let targets: Vec<_> =
        route.targets.iter().filter(|target| *target.provider.name == **provider).cloned().collect();
    if targets.is_empty() {
        let message = format!(
            "The response `{id}` is kept by another provider than those of this model: go on with the model that made it."
        );
        return Err(Refusal { message, param: Some("previous_response_id") });
    }
    // A larger model may be at another provider.
    let chooser = Chooser::new(Strategy::Priority);
    Ok(Some(Arc::new(Route { targets, chooser, context_fallback: None })))
}
