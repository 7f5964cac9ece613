//! How many tokens a request has, without making it: Anthropic's `count_tokens`.

use std::sync::Arc;
use std::time::Instant;

use access::Caller;
use access::limits::Subjects;
use base::{RequestId, TraceContext};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use llm::dialects::{egress, messages};
use llm::openai::{Refusal, read_request};
use llm::{Dialect, Operation, Outbound};
use tokio::time::timeout;

use crate::error::Error;
use crate::gateway::Gateway;
use crate::snapshot::Target;

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// A request to count.
pub struct Count {
    /// Its body, in Anthropic's dialect.
    pub body: Bytes,
    /// The client's headers that belong to the dialect.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its id.
    pub request_id: RequestId,
    /// Its place in a trace.
    pub trace: TraceContext,
}

impl Gateway {
    /// Counts, at the first target whose provider has the question, else here, which is an estimate. Costs nothing;
    /// limits of requests apply. Gives the answer's status and body.
    pub async fn count_tokens(
        &self,
        caller: &Arc<Caller>,
        count: Count,
    ) -> Result<(StatusCode, Bytes), Error> {
        if !caller.may(Caller::CALL_MODELS) {
            return Err(Error::NotPermitted);
        }
        let Some(_place) = self.place() else {
            self.shared.metrics.shed.inc();
            return Err(Error::Overloaded);
        };
        let prompt = messages::count_tokens(&count.body)?;
        if !caller.may_call(&prompt.model) {
            return Err(Error::ModelNotAllowed { model: prompt.model });
        }
        let route = self.shared.snapshot.load_full().route(&prompt.model, &self.shared.metrics)?;
        let subjects = Subjects {
            key: caller.key_id,
            key_limits: caller.limits.as_ref(),
            user: caller.user.as_deref(),
            group: caller.account.as_ref().map(|account| account.group_id),
            group_limits: caller.group_limits.as_ref(),
            ip: None,
            global: true,
            admin: false,
        };
        let limiter = self.shared.access.door().limiter();
        let _permit = limiter.admit(&subjects, 0).await.map_err(Error::Limited)?;
        for target in &route.targets {
            if let Some(answer) = self.ask_count(target, &count).await {
                return Ok(answer);
            }
        }
        let model = route.targets.first().map_or_else(|| "".into(), |target| Arc::clone(&target.model));
        let counted = tokio::task::spawn_blocking(move || messages::tokens_body(prompt, &model)).await;
        let failed = |_| Refusal { message: "The tokens could not be counted.".into(), param: None };
        Ok((StatusCode::OK, counted.map_err(failed)?))
    }

    /// What a provider says; `None` when it has not the question, or no answer in time.
    async fn ask_count(&self, target: &Target, count: &Count) -> Option<(StatusCode, Bytes)> {
        let keys = &target.provider.keys;
        let provider = keys.at(keys.next(Instant::now()));
        let _slot = target.provider.slot(&target.health)?;
        let envelope = read_request(Operation::Chat, Dialect::Messages, None, &count.body).ok()?;
        let outbound = Outbound {
            operation: Operation::Chat,
            dialect: Dialect::Messages,
            model: Arc::clone(&target.model),
            stream: false,
            body: envelope.splice(&count.body, &target.model),
            headers: count.headers.clone(),
            trace: count.trace.child(),
            request_id: count.request_id.clone(),
            connect_timeout: target.resilience.connect_timeout.0,
        };
        let asked = async {
            let inbound = provider.count_tokens(&self.client, outbound)?.await.ok()?;
            let status = inbound.status;
            let body = inbound.body.collect(MAX_ANSWER).await.ok()?;
            Some((status, body))
        };
        let (status, body) = timeout(target.resilience.first_token_timeout.0, asked).await.ok()??;
        let refused = || egress(Dialect::Messages)?.read_error(&body);
        match status {
            StatusCode::OK => Some((status, body)),
            // What is wrong with the request is the caller's to know.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE if refused().is_some() => {
                Some((status, target.provider.redact_body(body)))
            }
            _ => {
                tracing::debug!(target = &*target.id, %status, "tokens are counted here: the provider did not");
                None
            }
        }
    }
}
