//! Model calls of conversations, flows and agents: through the gateway, under the name of a key.

use std::sync::Arc;
use std::time::Instant;

use access::Access;
use async_trait::async_trait;
use base::{Kind, ModelCaller, ModelError, Models, RequestId, TraceContext, Transcription};
use bytes::Bytes;
use gateway::{Call, CallError, Gateway, Reply};
use llm::{Dialect, Operation};

/// The key that calls run under where none is named: the one that is made at the first run.
const DEFAULT_KEY: &str = "default";

/// The gateway, for those who may not know it.
pub struct GatewayModels {
    gateway: Gateway,
    access: Arc<Access>,
}

impl GatewayModels {
    /// Calls through this gateway, for the keys of this directory.
    pub fn new(gateway: Gateway, access: Arc<Access>) -> Self {
        GatewayModels { gateway, access }
    }

    async fn call(
        &self,
        operation: Operation,
        caller: &ModelCaller,
        body: Bytes,
    ) -> Result<Bytes, ModelError> {
        let name = caller.principal.as_deref().unwrap_or(DEFAULT_KEY);
        let principal = self.access.named(name).map_err(|bad| {
            let message = format!("the key `{name}` that this runs under cannot be used: {bad}");
            error(Kind::Forbidden, bad.code(), message)
        })?;
        let call = Call {
            operation,
            dialect: Dialect::Chat,
            path: None,
            headers: Vec::new(),
            request_id: RequestId::generate(),
            trace: caller.trace.map_or_else(|| TraceContext::from_header(None), |trace| trace.child()),
            arrived: Instant::now(),
        };
        let replied = match self.gateway.begin(&principal, call) {
            Ok(meter) => self.gateway.call(meter, body).await,
            Err(refused) => Err(refused),
        };
        match replied {
            Ok(Reply::Whole { status, body, mut meter, .. }) => {
                meter.head(status.as_u16());
                if status.is_success() {
                    return Ok(body);
                }
                let kind = if status.as_u16() == 429 { Kind::RateLimited } else { Kind::Invalid };
                let message = format!("the provider answered {status}");
                Err(error(kind, "provider_refused", message))
            }
            Ok(Reply::Stream(mut relay)) => {
                relay.meter().head(400);
                Err(error(Kind::Invalid, "stream_not_wanted", "ask without `stream`".to_owned()))
            }
            Err(CallError { error: failure, mut meter }) => {
                meter.head(500);
                Err(ModelError {
                    retry_after: failure.retry_after(),
                    ..error(failure.kind(), failure.code(), failure.to_string())
                })
            }
        }
    }
}

fn error(kind: Kind, code: &str, message: String) -> ModelError {
    ModelError { kind, code: code.to_owned(), message, retry_after: None }
}

#[async_trait]
impl Models for GatewayModels {
    async fn chat(&self, caller: &ModelCaller, body: Bytes) -> Result<Bytes, ModelError> {
        self.call(Operation::Chat, caller, body).await
    }

    async fn embeddings(&self, caller: &ModelCaller, body: Bytes) -> Result<Bytes, ModelError> {
        self.call(Operation::Embeddings, caller, body).await
    }

    async fn transcribe(&self, _: &ModelCaller, _: Transcription) -> Result<Bytes, ModelError> {
        let message = "the gateway has no transcription yet: give the link a vendor's key of its own";
        Err(error(Kind::NotFound, "operation_not_supported", message.to_owned()))
    }
}
