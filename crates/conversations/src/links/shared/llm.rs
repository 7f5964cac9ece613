//! Asking a model: through the gateway's own model plane, or, where the options carry credentials as the
//! Conserver's files do, at the provider they name: LiteLLM before Azure before OpenAI.

use std::time::Duration;

use base::{Kind, Secret, Transcription};
use bytes::Bytes;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http;
use super::multipart::Form;
use super::recording::Recording;
use super::retry::Retry;
use crate::environment::Environment;
use crate::link::{LinkContext, LinkError};
use crate::options::OptionsError;

/// The names of these options.
pub(in crate::links) const OPTIONS: &[&str] = &[
    "LITELLM_PROXY_URL",
    "LITELLM_MASTER_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_API_VERSION",
    "OPENAI_API_KEY",
    "openai_api_key",
    "api_key",
    "organization",
    "organization_key",
    "project",
    "project_key",
    "base_url",
    "attempts",
    "retry_wait",
];

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long one attempt at a transcription may take.
const TRANSCRIPTION_TIMEOUT: Duration = Duration::from_secs(600);
const AZURE_VERSION: &str = "2024-10-21";
const OPENAI: &str = "https://api.openai.com/v1";

/// The options that name a provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::links) struct Credentials {
    #[serde(rename = "LITELLM_PROXY_URL")]
    litellm_url: Option<String>,
    #[serde(rename = "LITELLM_MASTER_KEY")]
    litellm_key: Option<Secret>,
    #[serde(rename = "AZURE_OPENAI_ENDPOINT")]
    azure_endpoint: Option<String>,
    #[serde(rename = "AZURE_OPENAI_API_KEY")]
    azure_key: Option<Secret>,
    #[serde(rename = "AZURE_OPENAI_API_VERSION")]
    azure_version: Option<String>,
    #[serde(rename = "OPENAI_API_KEY")]
    openai_key: Option<Secret>,
    openai_api_key: Option<Secret>,
    api_key: Option<Secret>,
    organization: Option<String>,
    organization_key: Option<String>,
    project: Option<String>,
    project_key: Option<String>,
    /// Where OpenAI's API is, for a service that speaks it (`OPENAI_BASE_URL`).
    base_url: Option<String>,
    #[serde(flatten)]
    retry: Retry,
}

/// Where models are asked.
#[derive(Clone, Debug)]
pub(in crate::links) struct Llm {
    /// None: through the gateway.
    provider: Option<Provider>,
    retry: Retry,
}

#[derive(Clone, Debug)]
struct Provider {
    kind: ProviderKind,
    base: String,
    key: Secret,
    organization: Option<String>,
    project: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ProviderKind {
    LiteLlm,
    Azure { version: String },
    OpenAi,
}

/// What a model said.
#[derive(Clone, Debug)]
pub(in crate::links) struct Said {
    pub(in crate::links) text: String,
    pub(in crate::links) input_tokens: u64,
    pub(in crate::links) output_tokens: u64,
}

fn filled(text: Option<&String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn secret(key: Option<&Secret>) -> Option<Secret> {
    key.filter(|key| !key.expose().trim().is_empty()).map(|key| Secret::from(key.expose().trim().to_owned()))
}

impl Credentials {
    /// Where these options say that models are asked.
    pub(in crate::links) fn llm(&self, environment: &Environment) -> Result<Llm, OptionsError> {
        let provider = self.provider(environment)?;
        Ok(Llm { provider, retry: self.retry.clone() })
    }

    /// Another key by which the provider's own name is given, when none of the usual ones is.
    pub(in crate::links) fn or_key(mut self, key: Option<String>) -> Self {
        if self.api_key.is_none() {
            self.api_key = key.map(Secret::from);
        }
        self
    }

    /// Another place of OpenAI's API, when none is given.
    pub(in crate::links) fn or_base(mut self, base: Option<String>) -> Self {
        self.base_url = self.base_url.or(base);
        self
    }

    fn provider(&self, environment: &Environment) -> Result<Option<Provider>, OptionsError> {
        let make = |kind, option, base: String, key| {
            http::url(option, &base)?;
            let organization = filled(self.organization.as_ref().or(self.organization_key.as_ref()));
            let project = filled(self.project.as_ref().or(self.project_key.as_ref()));
            let base = base.trim_end_matches('/').to_owned();
            Ok(Some(Provider { kind, base, key, organization, project }))
        };
        if let (Some(base), Some(key)) =
            (filled(self.litellm_url.as_ref()), secret(self.litellm_key.as_ref()))
        {
            return make(ProviderKind::LiteLlm, "LITELLM_PROXY_URL", base, key);
        }
        if let (Some(base), Some(key)) =
            (filled(self.azure_endpoint.as_ref()), secret(self.azure_key.as_ref()))
        {
            let version = filled(self.azure_version.as_ref()).unwrap_or_else(|| AZURE_VERSION.into());
            return make(ProviderKind::Azure { version }, "AZURE_OPENAI_ENDPOINT", base, key);
        }
        let keys = [&self.openai_key, &self.openai_api_key, &self.api_key];
        if let Some(key) = keys.into_iter().find_map(|key| secret(key.as_ref())) {
            let base =
                filled(self.base_url.as_ref()).or_else(|| environment.variables.get("OPENAI_BASE_URL"));
            return make(ProviderKind::OpenAi, "base_url", base.unwrap_or_else(|| OPENAI.into()), key);
        }
        Ok(None)
    }
}

impl Llm {
    /// Whether the options name a provider of their own.
    pub(in crate::links) fn has_provider(&self) -> bool {
        self.provider.is_some()
    }

    /// Who made what this model says, for an analysis' `vendor`.
    pub(in crate::links) fn vendor(&self, model: &str) -> &'static str {
        match self.provider.as_ref().map(|provider| &provider.kind) {
            Some(ProviderKind::Azure { .. }) => "azure",
            Some(ProviderKind::OpenAi) => "openai",
            Some(ProviderKind::LiteLlm) => vendor_of(model).unwrap_or("litellm"),
            None => vendor_of(model).unwrap_or("trunkline"),
        }
    }

    /// The same where the Conserver always writes `openai`: for its providers, whichever it is.
    pub(in crate::links) fn plain_vendor(&self, model: &str) -> &'static str {
        if self.has_provider() { "openai" } else { self.vendor(model) }
    }

    /// A chat; `body` is a request in OpenAI's form, with its model.
    pub(in crate::links) async fn chat(
        &self,
        body: &Value,
        context: &LinkContext,
    ) -> Result<Said, LinkError> {
        let bytes = Bytes::from(body.to_string());
        let answer = match &self.provider {
            None => {
                self.retry
                    .run(|| async {
                        Ok(context.environment.models.chat(&context.caller, bytes.clone()).await?)
                    })
                    .await?
            }
            Some(provider) => {
                let model = body["model"].as_str().unwrap_or_default();
                let url = provider.url(model, "chat/completions");
                self.post(provider, &url, "application/json", &bytes, TIMEOUT, context).await?
            }
        };
        read_chat(&answer)
    }

    /// One question by the Responses API where the options name a provider, else as a chat. None when there is no
    /// such model for us.
    pub(in crate::links) async fn respond(
        &self,
        model: &str,
        input: &str,
        temperature: &Value,
        context: &LinkContext,
    ) -> Result<Option<String>, LinkError> {
        let Some(provider) = &self.provider else {
            let messages = json!([{"role": "user", "content": input}]);
            let body = json!({"model": model, "messages": messages, "temperature": temperature});
            let bytes = Bytes::from(body.to_string());
            let call = || async {
                match context.environment.models.chat(&context.caller, bytes.clone()).await {
                    Err(error) if is_missing(&error) => Ok(None),
                    answer => Ok(Some(answer?)),
                }
            };
            let Some(answer) = self.retry.run(call).await? else { return Ok(None) };
            return Ok(Some(read_chat(&answer)?.text));
        };
        let url = match &provider.kind {
            ProviderKind::Azure { version } => {
                format!("{}/openai/responses?api-version={version}", provider.base)
            }
            _ => format!("{}/responses", provider.base),
        };
        let body = json!({"model": model, "input": input, "temperature": temperature}).to_string().into();
        let answer = self.post(provider, &url, "application/json", &body, TIMEOUT, context).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let parts = answer["output"].as_array().into_iter().flatten();
        let texts = parts.flat_map(|item| item["content"].as_array().into_iter().flatten());
        let text: String = texts
            .filter(|part| part["type"] == "output_text")
            .filter_map(|part| part["text"].as_str())
            .collect();
        match text.is_empty() {
            true => Err(no_text()),
            false => Ok(Some(text)),
        }
    }

    /// Writes a recording down; the answer as it came.
    pub(in crate::links) async fn transcribe(
        &self,
        model: &str,
        recording: &Recording,
        fields: &[(String, String)],
        context: &LinkContext,
    ) -> Result<Value, LinkError> {
        let answer = match &self.provider {
            None => {
                let ask = || Transcription {
                    model: model.to_owned(),
                    audio: recording.audio.clone(),
                    file_name: recording.file_name.clone(),
                    media_type: recording.media_type.clone(),
                    fields: fields.to_vec(),
                };
                let models = &context.environment.models;
                self.retry.run(|| async { Ok(models.transcribe(&context.caller, ask()).await?) }).await?
            }
            Some(provider) => {
                let form = fields
                    .iter()
                    .fold(Form::default().text("model", model), |form, (name, value)| form.text(name, value));
                let form =
                    form.file("file", &recording.file_name, &recording.media_type, recording.audio.clone());
                let (content_type, body) = form.build();
                let url = provider.url(model, "audio/transcriptions");
                self.post(provider, &url, &content_type, &body, TRANSCRIPTION_TIMEOUT, context).await?
            }
        };
        match serde_json::from_slice(&answer) {
            Ok(answer @ Value::Object(_)) => Ok(answer),
            _ => Err(LinkError::temporary("the model answers with what is no transcript in JSON")),
        }
    }

    async fn post(
        &self,
        provider: &Provider,
        url: &str,
        content_type: &str,
        body: &Bytes,
        timeout: Duration,
        context: &LinkContext,
    ) -> Result<Bytes, LinkError> {
        let who = provider.name();
        let call = || async {
            let request =
                context.environment.http.post(url).header("content-type", content_type).body(body.clone());
            let answer = http::send(who, provider.sign(request), timeout, http::LARGE).await?;
            Ok(answer.ok(who)?.body)
        };
        self.retry.run(call).await
    }
}

fn read_chat(answer: &[u8]) -> Result<Said, LinkError> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = answer["choices"][0]["message"]["content"].as_str().ok_or_else(no_text)?;
    let tokens = |name: &str| answer["usage"][name].as_u64().unwrap_or_default();
    Ok(Said {
        text: text.to_owned(),
        input_tokens: tokens("prompt_tokens"),
        output_tokens: tokens("completion_tokens"),
    })
}

fn no_text() -> LinkError {
    LinkError::temporary("the model answers without any text")
}

impl Provider {
    fn name(&self) -> &'static str {
        match self.kind {
            ProviderKind::LiteLlm => "LiteLLM",
            ProviderKind::Azure { .. } => "Azure OpenAI",
            ProviderKind::OpenAi => "the provider",
        }
    }

    fn url(&self, model: &str, what: &str) -> String {
        match &self.kind {
            ProviderKind::Azure { version } => {
                let model: String = url::form_urlencoded::byte_serialize(model.as_bytes()).collect();
                format!("{}/openai/deployments/{model}/{what}?api-version={version}", self.base)
            }
            _ => format!("{}/{what}", self.base),
        }
    }

    fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        let mut request = match self.kind {
            ProviderKind::Azure { .. } => request.header("api-key", self.key.expose()),
            _ => request.bearer_auth(self.key.expose()),
        };
        if let Some(organization) = &self.organization {
            request = request.header("openai-organization", organization);
        }
        if let Some(project) = &self.project {
            request = request.header("openai-project", project);
        }
        request
    }
}

/// Whether an error says that there is no such model for us.
fn is_missing(error: &base::ModelError) -> bool {
    matches!(error.kind, Kind::NotFound | Kind::Unauthenticated | Kind::Forbidden)
}

/// The maker of a model, by its name: `azure/…` says it, else what it begins with.
fn vendor_of(model: &str) -> Option<&'static str> {
    let model = model.to_ascii_lowercase();
    if let Some((prefix, _)) = model.split_once('/') {
        let known =
            ["openai", "azure", "anthropic", "google", "mistral", "meta", "cohere", "groq", "bedrock"];
        if prefix == "vertex_ai" {
            return Some("google");
        }
        if let Some(known) = known.into_iter().find(|known| *known == prefix) {
            return Some(known);
        }
    }
    let name = model.rsplit('/').next()?;
    let begins: &[(&str, &str)] = &[
        ("claude", "anthropic"),
        ("gpt-", "openai"),
        ("o1", "openai"),
        ("o3", "openai"),
        ("chatgpt", "openai"),
        ("whisper", "openai"),
        ("gemini", "google"),
        ("mistral", "mistral"),
        ("mixtral", "mistral"),
        ("llama", "meta"),
        ("meta-llama", "meta"),
        ("command", "cohere"),
    ];
    begins.iter().find(|(start, _)| name.starts_with(start)).map(|(_, vendor)| *vendor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn llm(options: Value) -> Result<Llm, OptionsError> {
        serde_json::from_value::<Credentials>(options).unwrap().llm(&testing::environment())
    }

    #[test]
    fn litellm_comes_before_azure_before_openai() {
        let all = json!({"LITELLM_PROXY_URL": "http://l/", "LITELLM_MASTER_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://a",
            "AZURE_OPENAI_API_KEY": "k", "OPENAI_API_KEY": "k", "api_key": "k", "openai_api_key": "k"});
        let first = llm(all.clone()).unwrap();
        assert_eq!(
            (first.vendor("azure/gpt-4o"), first.vendor("x"), first.plain_vendor("x")),
            ("azure", "litellm", "openai")
        );
        let mut without = all;
        without["LITELLM_MASTER_KEY"] = Value::Null;
        let azure = llm(without.clone()).unwrap();
        assert_eq!(azure.vendor("gpt-4o"), "azure");
        let url = azure.provider.unwrap().url("gpt/4", "chat/completions");
        assert_eq!(url, "https://a/openai/deployments/gpt%2F4/chat/completions?api-version=2024-10-21");
        without["AZURE_OPENAI_ENDPOINT"] = json!(" ");
        assert_eq!(llm(without).unwrap().vendor("claude-4"), "openai");
        let none = llm(json!({"OPENAI_API_KEY": ""})).unwrap();
        assert!(!none.has_provider());
        assert_eq!((none.vendor("claude-4"), none.plain_vendor("smart")), ("anthropic", "trunkline"));
        assert!(llm(json!({"LITELLM_PROXY_URL": "l:4000", "LITELLM_MASTER_KEY": "s3cret"})).is_err());
    }
}
