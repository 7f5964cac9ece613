//! Where embeddings come from: the house's own models, or an account that the options name.

use std::sync::Arc;
use std::time::Duration;

use base::{Kind, ModelCaller, Models, Secret};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::http::{self, Http};
use super::text::cut;
use crate::environment::Environment;
use crate::options::OptionsError;
use crate::storage::{StorageContext, StorageError};

/// How much text is sent first, in bytes: about what models take. One that is still too long is halved.
const FIRST: usize = 32_000;
/// Below this nothing is halved any more.
const LAST: usize = 2_000;

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Options {
    embedding_model: String,
    api_key: Option<Secret>,
    openai_api_key: Option<Secret>,
    organization: Option<String>,
    base_url: Option<String>,
    #[serde(rename = "LITELLM_PROXY_URL")]
    litellm_url: Option<String>,
    #[serde(rename = "LITELLM_MASTER_KEY")]
    litellm_key: Option<Secret>,
    #[serde(rename = "AZURE_OPENAI_ENDPOINT")]
    azure_url: Option<String>,
    #[serde(rename = "AZURE_OPENAI_API_KEY")]
    azure_key: Option<Secret>,
    #[serde(rename = "AZURE_OPENAI_API_VERSION")]
    azure_version: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            embedding_model: "text-embedding-3-small".into(),
            api_key: None,
            openai_api_key: None,
            organization: None,
            base_url: None,
            litellm_url: None,
            litellm_key: None,
            azure_url: None,
            azure_key: None,
            azure_version: "2024-10-21".into(),
        }
    }
}

/// An account at a provider.
struct Account {
    http: Http,
    url: String,
    header: (&'static str, Secret),
    organization: Option<String>,
}

pub(super) struct Embedding {
    model: String,
    models: Arc<dyn Models>,
    account: Option<Account>,
}

enum Failed {
    TooLong(StorageError),
    Other(StorageError),
}

impl Embedding {
    pub(super) fn new(
        options: &Options,
        environment: &Environment,
        timeout: Duration,
    ) -> Result<Self, OptionsError> {
        let model = options.embedding_model.clone();
        let filled = |key: &Option<Secret>| key.clone().filter(|key| !key.expose().is_empty());
        let own = filled(&options.api_key).or_else(|| filled(&options.openai_api_key));
        let bearer = |key: Secret| ("authorization", Secret::from(format!("Bearer {}", key.expose())));
        let account = match (
            (&options.litellm_url, filled(&options.litellm_key)),
            (&options.azure_url, filled(&options.azure_key)),
            own,
        ) {
            ((Some(url), Some(key)), ..) => Some((
                format!("{}/embeddings", http::base_url("LITELLM_PROXY_URL", url)?),
                key.clone(),
                bearer(key),
            )),
            (_, (Some(url), Some(key)), _) => {
                let base = http::base_url("AZURE_OPENAI_ENDPOINT", url)?;
                let version = &options.azure_version;
                let url = format!("{base}/openai/deployments/{model}/embeddings?api-version={version}");
                Some((url, key.clone(), ("api-key", key)))
            }
            (_, _, Some(key)) => {
                let base = options.base_url.as_deref().unwrap_or("https://api.openai.com/v1");
                Some((format!("{}/embeddings", http::base_url("base_url", base)?), key.clone(), bearer(key)))
            }
            _ => None,
        };
        let account = account.map(|(url, key, header)| Account {
            http: Http::new(&environment.http, timeout.min(super::EMBEDDING), vec![key]),
            url,
            header,
            organization: options.organization.clone(),
        });
        Ok(Embedding { model, models: Arc::clone(&environment.models), account })
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// The embedding of a text, as much of it as the model takes.
    pub(super) async fn of(&self, text: &str, context: &StorageContext) -> Result<Vec<f32>, StorageError> {
        let mut most = FIRST;
        loop {
            let text = cut(text, most);
            let body = Bytes::from(json!({"model": self.model, "input": text}).to_string());
            let asked = match &self.account {
                Some(account) => account.ask(body, context).await,
                None => self.ask(body, context).await,
            };
            match asked {
                Ok(answer) => return vector(&answer),
                Err(Failed::TooLong(_)) if text.len() > LAST => most = text.len() / 2,
                Err(Failed::TooLong(error) | Failed::Other(error)) => return Err(error),
            }
        }
    }

    async fn ask(&self, body: Bytes, context: &StorageContext) -> Result<Bytes, Failed> {
        let caller = ModelCaller { trace: Some(context.trace), ..ModelCaller::default() };
        match tokio::time::timeout(super::EMBEDDING, self.models.embeddings(&caller, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let reason = format!("the embedding: {error}");
                match error.kind {
                    Kind::Invalid | Kind::TooLarge => Err(Failed::TooLong(StorageError::Permanent(reason))),
                    // A budget is filled, a key or a model made: later it may work.
                    _ => Err(Failed::Other(StorageError::Temporary(reason))),
                }
            }
            Err(_) => Err(Failed::Other(StorageError::temporary("the embedding took too long"))),
        }
    }
}

impl Account {
    async fn ask(&self, body: Bytes, context: &StorageContext) -> Result<Bytes, Failed> {
        let mut request = self
            .http
            .client()
            .post(&self.url)
            .header("content-type", "application/json")
            .header(self.header.0, self.header.1.expose())
            .body(body);
        if let Some(organization) = &self.organization {
            request = request.header("openai-organization", organization);
        }
        let answer = self.http.send(request, Some(context)).await.map_err(Failed::Other)?;
        if answer.is_success() {
            return Ok(answer.body);
        }
        let error = self.http.refused("the embedding", &answer, &["/error/code", "/error/type"]);
        match answer.status {
            400 | 413 => Err(Failed::TooLong(error)),
            _ => Err(Failed::Other(error)),
        }
    }
}

/// The numbers of an answer in OpenAI's shape.
fn vector(answer: &[u8]) -> Result<Vec<f32>, StorageError> {
    let json: Value = serde_json::from_slice(answer).unwrap_or_default();
    let numbers = json["data"][0]["embedding"].as_array();
    let numbers: Option<Vec<f32>> =
        numbers.map(|numbers| numbers.iter().filter_map(|number| Some(number.as_f64()? as f32)).collect());
    numbers.ok_or_else(|| StorageError::temporary("the embedding: the answer holds none"))
}
