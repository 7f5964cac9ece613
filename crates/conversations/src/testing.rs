//! For the tests of links and storages: an environment without anything outside, and a vCon.

use std::sync::Arc;

use async_trait::async_trait;
use base::{Kind, ModelCaller, ModelError, Models, TraceContext, Transcription};
use bus::cache::MemoryCache;
use bus::queue::MemoryQueue;
use bytes::Bytes;
use telemetry::Metrics;

use crate::environment::{Environment, Variables};
use crate::fetch::{Fetcher, UrlPolicy};
use crate::link::LinkContext;
use crate::meters::Meters;
use crate::storage::StorageContext;
use crate::vcon::Vcon;

/// Models that are not there.
struct NoModels;

#[async_trait]
impl Models for NoModels {
    async fn chat(&self, _: &ModelCaller, _: Bytes) -> Result<Bytes, ModelError> {
        Err(none())
    }

    async fn embeddings(&self, _: &ModelCaller, _: Bytes) -> Result<Bytes, ModelError> {
        Err(none())
    }

    async fn transcribe(&self, _: &ModelCaller, _: Transcription) -> Result<Bytes, ModelError> {
        Err(none())
    }
}

fn none() -> ModelError {
    ModelError {
        kind: Kind::NotFound,
        code: "model_not_found".into(),
        message: "there are no models here".into(),
        retry_after: None,
    }
}

/// Everything in memory. Set another `models` for a link that asks some.
pub(crate) fn environment() -> Environment {
    // The second to install finds the first one's there.
    drop(rustls::crypto::ring::default_provider().install_default());
    Environment {
        variables: Variables::none(),
        http: reqwest::Client::new(),
        fetch: Fetcher::new(UrlPolicy { allow_private_urls: true, ..UrlPolicy::default() }).unwrap(),
        models: Arc::new(NoModels),
        cache: Arc::new(MemoryCache::new(&bus::settings::CacheSettings::default())),
        queue: Arc::new(MemoryQueue::default()),
        meters: Meters::new(Metrics::new().unwrap()),
        legacy_format: false,
        data_dir: std::env::temp_dir(),
    }
}

/// A place in a chain.
pub(crate) fn context() -> LinkContext {
    context_in(environment())
}

/// A place in a chain, in this environment.
pub(crate) fn context_in(environment: Environment) -> LinkContext {
    let caller = ModelCaller::default();
    LinkContext::new("a_chain".into(), "a_link".into(), "incoming_calls".into(), caller, environment)
}

/// A save.
pub(crate) fn storage_context() -> StorageContext {
    StorageContext { trace: TraceContext::from_header(None), name: "a_storage".into() }
}

/// A small vCon of 20 November 2026.
pub(crate) fn vcon() -> Vcon {
    Vcon::parse(
        r#"{"vcon":"0.4.0","uuid":"018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11","created_at":"2026-11-20T10:00:00+00:00",
        "subject":"A call","parties":[{"tel":"+15551234567","name":"Ann","role":"customer"},{"mailto":"bob@example.com","name":"Bob","role":"agent"}],
        "dialog":[{"type":"text","start":"2026-11-20T10:00:00+00:00","parties":[0,1],"mediatype":"text/plain","body":"Good morning.","encoding":"none"}],
        "analysis":[],"attachments":[]}"#,
    )
    .unwrap()
}
