//! A Hugging Face endpoint that serves Whisper: the recording is the body, the transcript the answer.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::shared::http;
use super::super::shared::recording::Waiting;
use super::super::shared::retry::Retry;
use super::{HUGGING_FACE as MODULE, HUGGING_FACE_OPTIONS, Shared, Transcript, Vendor};
use crate::environment::Environment;
use crate::link::{LinkContext, LinkError};
use crate::options::{self, OptionsError};

pub(super) const OPTIONS: &[&str] = &["API_URL", "API_KEY", "Content-Type"];

const TIMEOUT: Duration = Duration::from_secs(600);
const WHO: &str = "the Hugging Face endpoint";

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The endpoint. Must be given.
    #[serde(rename = "API_URL")]
    url: String,
    /// Its key. Must be given.
    #[serde(rename = "API_KEY")]
    key: Option<Secret>,
    /// The media type that is said whatever the recording is.
    #[serde(rename = "Content-Type")]
    content_type: String,
    #[serde(flatten)]
    retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Options { url: String::new(), key: None, content_type: "audio/flac".into(), retry: Retry::default() }
    }
}

struct HuggingFace {
    url: reqwest::Url,
    key: Secret,
    content_type: String,
    retry: Retry,
}

pub(super) fn make(given: Value, _: &Environment) -> Result<(Shared, Box<dyn Vendor>), OptionsError> {
    let options: Options = options::read(MODULE, given.clone(), &HUGGING_FACE_OPTIONS.concat())?;
    let mut given = match given {
        Value::Null => json!({}),
        given => given,
    };
    if given["minimum_duration"].is_null() {
        given["minimum_duration"] = json!(30);
    }
    let url = http::url("API_URL", &options.url)?;
    let key = options.key.ok_or_else(|| OptionsError::new("`API_KEY` must be given"))?;
    let meters =
        ("link.hugging_face_whisper.transcription_failures", "link.hugging_face_whisper.transcription_time");
    let defaults = json!({"Content-Type": "audio/flac"});
    let names = ("hugging_face_whisper", "HUGGING_FACE_TRANSCRIBE");
    let shared = Shared::new(names, meters, url.as_str(), &given, defaults)?;
    Ok((shared, Box::new(HuggingFace { url, key, content_type: options.content_type, retry: options.retry })))
}

#[async_trait]
impl Vendor for HuggingFace {
    async fn transcribe(
        &self,
        shared: &Shared,
        dialog: &Waiting,
        context: &LinkContext,
    ) -> Result<Transcript, LinkError> {
        let recording = dialog.load(context, shared.url_timeout()).await?;
        let call = || async {
            let key = self.key.expose();
            let key = key.strip_prefix("Bearer ").unwrap_or(key);
            let request = context.environment.http.post(self.url.clone()).bearer_auth(key);
            let request =
                request.header("accept", "application/json").header("content-type", &self.content_type);
            let request = request.body(recording.audio.clone());
            let answer = http::send(WHO, request, TIMEOUT, http::LARGE).await?.ok(WHO)?.json(WHO)?;
            match answer.get("error") {
                Some(_) => Err(LinkError::temporary(format!("{WHO} answers with an error"))),
                None => Ok(answer),
            }
        };
        let make =
            async { Ok(Transcript { body: Some(self.retry.run(call).await?), used: None, cached: None }) };
        shared.cached(&recording.audio, context, make).await
    }
}
