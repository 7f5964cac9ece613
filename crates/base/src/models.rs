//! The seam to model calls, for those who may not know the gateway: conversations, flows, agents. The composition
//! root fills it, so that a call from anywhere is limited, charged, cached and masked like any other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Kind, TraceContext};

/// Who asks, and as part of what.
#[derive(Clone, Debug, Default)]
pub struct ModelCaller {
    /// The name of the virtual key that the call runs under and that pays for it; none for the default key.
    pub principal: Option<Arc<str>>,
    /// The span that the call is part of.
    pub trace: Option<TraceContext>,
}

/// Audio to be written down, `POST /v1/audio/transcriptions` in OpenAI's shape.
#[derive(Clone, Debug)]
pub struct Transcription {
    /// The model, by the name that callers use.
    pub model: String,
    /// The audio itself.
    pub audio: Bytes,
    /// The name of the file; providers tell the format by its ending.
    pub file_name: String,
    /// The media type, as `audio/wav`.
    pub media_type: String,
    /// Further fields of the form: `language`, `prompt`, `response_format`, …
    pub fields: Vec<(String, String)>,
}

/// Why a model did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ModelError {
    /// Its kind.
    pub kind: Kind,
    /// A stable name, as `model_not_found`.
    pub code: String,
    /// What the caller may be told.
    pub message: String,
    /// When it is worth asking again.
    pub retry_after: Option<Duration>,
}

impl ModelError {
    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.kind,
            Kind::RateLimited | Kind::BadGateway | Kind::Unavailable | Kind::Timeout | Kind::Internal
        )
    }
}

/// Calls of models. Bodies are JSON in OpenAI's shape, never streamed.
#[async_trait]
pub trait Models: Send + Sync {
    /// `POST /v1/chat/completions`.
    async fn chat(&self, caller: &ModelCaller, body: Bytes) -> Result<Bytes, ModelError>;

    /// `POST /v1/embeddings`.
    async fn embeddings(&self, caller: &ModelCaller, body: Bytes) -> Result<Bytes, ModelError>;

    /// `POST /v1/audio/transcriptions`. The answer is the provider's, in the `response_format` that was asked for.
    async fn transcribe(&self, caller: &ModelCaller, audio: Transcription) -> Result<Bytes, ModelError>;
}
