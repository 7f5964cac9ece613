//! Deepgram's API for recordings (<https://developers.deepgram.com/docs/pre-recorded-audio>), or a LiteLLM proxy that
//! leads there. A recording that has an address is fetched by Deepgram itself; any other is sent.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::shared::http;
use super::super::shared::llm::{Credentials, Llm};
use super::super::shared::recording::{Recording, Waiting};
use super::super::shared::retry::Retry;
use super::{DEEPGRAM as MODULE, DEEPGRAM_OPTIONS, Shared, Transcript, Vendor};
use crate::environment::Environment;
use crate::link::{LinkContext, LinkError};
use crate::options::{self, OptionsError};

pub(super) const OPTIONS: &[&str] = &["DEEPGRAM_KEY", "minimum_confidence", "api", "model", "send"];

const TIMEOUT: Duration = Duration::from_secs(600);
const WHO: &str = "Deepgram";

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The key; else the variable of this name.
    #[serde(rename = "DEEPGRAM_KEY")]
    key: Option<Secret>,
    /// A transcript of less confidence is not kept.
    minimum_confidence: f64,
    /// Parameters of the API: `model`, `smart_format`, …
    api: serde_json::Map<String, Value>,
    /// The model, for LiteLLM; else that of `api`.
    model: Option<String>,
    /// What of a recording that has an address is sent.
    send: Send,
    /// Where the API is.
    base_url: Option<String>,
    #[serde(flatten)]
    retry: Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Send {
    /// The address; Deepgram fetches it.
    Url,
    /// The recording, which we fetch: checked against its hash, and found again in the cache.
    Recording,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            key: None,
            minimum_confidence: 0.5,
            api: serde_json::Map::new(),
            model: None,
            send: Send::Url,
            base_url: None,
            retry: Retry::default(),
        }
    }
}

struct Deepgram {
    options: Options,
    key: Option<Secret>,
    url: reqwest::Url,
    model: String,
    /// A proxy instead.
    proxy: Option<Llm>,
}

pub(super) fn make(
    given: Value,
    environment: &Environment,
) -> Result<(Shared, Box<dyn Vendor>), OptionsError> {
    let options: Options = options::read(MODULE, given.clone(), &DEEPGRAM_OPTIONS.concat())?;
    let mut given = match given {
        Value::Null => json!({}),
        given => given,
    };
    if given["minimum_duration"].is_null() {
        given["minimum_duration"] = json!(60);
    }
    let key = options.key.clone().filter(|key| !key.expose().is_empty());
    let key = key.or_else(|| environment.variables.get("DEEPGRAM_KEY").map(Secret::from));
    let litellm = |name: &str| given[name].as_str().is_some_and(|text| !text.trim().is_empty());
    let proxy = match litellm("LITELLM_PROXY_URL") && litellm("LITELLM_MASTER_KEY") {
        true => {
            let credentials: Credentials = serde_json::from_value(given.clone())
                .map_err(|error| OptionsError::new(error.to_string()))?;
            Some(credentials.llm(environment)?)
        }
        false => None,
    };
    if proxy.is_none() && key.is_none() {
        return Err(OptionsError::new(
            "`DEEPGRAM_KEY`, or LITELLM_PROXY_URL and LITELLM_MASTER_KEY, must be given",
        ));
    }
    let base = options.base_url.as_deref().unwrap_or("https://api.deepgram.com");
    let mut url = http::url("base_url", &format!("{}/v1/listen", base.trim_end_matches('/')))?;
    for (name, value) in &options.api {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values.iter().filter(|value| !value.is_null()) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            url.query_pairs_mut().append_pair(name, &text);
        }
    }
    let named = options.model.clone().or_else(|| Some(options.api.get("model")?.as_str()?.to_owned()));
    let model = named.unwrap_or_else(|| "nova-3".into());
    let meters = ("link.deepgram.transcription_failures", "link.deepgram.transcription_time");
    let defaults = json!({"minimum_confidence": 0.5});
    let shared = Shared::new(("deepgram", "DEEPGRAM_TRANSCRIBE"), meters, &model, &given, defaults)?;
    Ok((shared, Box::new(Deepgram { options, key, url, model, proxy })))
}

/// What Deepgram is given.
enum Given {
    Url(String),
    Recording(Recording),
}

impl Deepgram {
    async fn ask(&self, given: &Given, context: &LinkContext) -> Result<Transcript, LinkError> {
        let call = || async {
            let request = context.environment.http.post(self.url.clone());
            let request = match given {
                Given::Url(url) => request.json(&json!({"url": url})),
                Given::Recording(recording) => {
                    request.header("content-type", &recording.media_type).body(recording.audio.clone())
                }
            };
            let key = self.key.as_ref().map_or("", Secret::expose);
            let request = request.header("authorization", format!("Token {key}"));
            http::send(WHO, request, TIMEOUT, http::LARGE).await?.ok(WHO)?.json(WHO)
        };
        let mut answer = self.options.retry.run(call).await?;
        let seconds = answer["metadata"]["duration"].as_f64().unwrap_or_default().round().max(0.0) as u64;
        let channel = &mut answer["results"]["channels"][0];
        let language = channel["detected_language"].as_str().unwrap_or("en").to_owned();
        let mut body = channel["alternatives"][0].take();
        if !body.is_object() {
            return Err(LinkError::temporary("Deepgram answers without a transcript"));
        }
        body["detected_language"] = json!(language);
        let confidence = body["confidence"].as_f64();
        if let Some(confidence) = confidence {
            context.environment.meters.observe("link.deepgram.confidence", &context.link, confidence);
        }
        let good = confidence.is_none_or(|confidence| confidence >= self.options.minimum_confidence);
        Ok(Transcript { body: good.then_some(body), used: Some(("seconds", seconds, 0)), cached: None })
    }

    async fn ask_proxy(
        &self,
        proxy: &Llm,
        recording: &Recording,
        context: &LinkContext,
    ) -> Result<Transcript, LinkError> {
        let answer = proxy.transcribe(&self.model, recording, &[], context).await?;
        let text = answer["text"]
            .as_str()
            .ok_or_else(|| LinkError::temporary("LiteLLM answers without a transcript"))?;
        // Confidence and language are not in this form of answer.
        Ok(Transcript { body: Some(json!({"transcript": text})), used: None, cached: None })
    }
}

#[async_trait]
impl Vendor for Deepgram {
    async fn transcribe(
        &self,
        shared: &Shared,
        dialog: &Waiting,
        context: &LinkContext,
    ) -> Result<Transcript, LinkError> {
        match dialog.url() {
            Some(url) if self.proxy.is_none() && self.options.send == Send::Url => {
                self.ask(&Given::Url(url), context).await
            }
            _ => {
                let recording = dialog.load(context, shared.url_timeout()).await?;
                let content = recording.audio.clone();
                match &self.proxy {
                    Some(proxy) => {
                        shared.cached(&content, context, self.ask_proxy(proxy, &recording, context)).await
                    }
                    None => {
                        let given = Given::Recording(recording);
                        shared.cached(&content, context, self.ask(&given, context)).await
                    }
                }
            }
        }
    }
}
