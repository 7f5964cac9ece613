//! `links.wtf_transcribe`: sends recordings to a vfun server, and adds the transcript in the World Transcription
//! Format that it answers with.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use bytes::Bytes;
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::http;
use super::shared::multipart::Form;
use super::shared::recording::{self, Recording};
use super::shared::retry::{self, Retry};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{Analysis, Vcon};

pub(super) const MODULE: &str = "links.wtf_transcribe";
pub(super) const OWN: &[&str] =
    &["vfun-server-url", "language", "diarize", "vfun-timeout", "url-timeout", "api-key", "cache_ttl"];
pub(super) const OPTIONS: &[&[&str]] = &[OWN, retry::OPTIONS];

const KIND: &str = "wtf_transcription";
const WHO: &str = "the vfun server";

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Options {
    /// The server. Must be given.
    #[serde(rename = "vfun-server-url")]
    url: Option<String>,
    /// The language; found by the server when it is not given.
    language: Option<String>,
    /// Whether speakers are told apart.
    diarize: bool,
    /// How long the server may take, in seconds.
    vfun_timeout: f64,
    /// How long a recording may take to arrive, in seconds.
    url_timeout: f64,
    /// The server's key.
    api_key: Option<Secret>,
    /// How long a transcript is kept for the same recording; 0: not at all.
    #[serde(rename = "cache_ttl")]
    cache_ttl: base::Duration,
    #[serde(flatten)]
    retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            url: None,
            language: None,
            diarize: false,
            vfun_timeout: 300.0,
            url_timeout: 60.0,
            api_key: None,
            cache_ttl: base::Duration::from_secs(7 * 86_400),
            retry: Retry::default(),
        }
    }
}

struct WtfTranscribe {
    options: Options,
    url: reqwest::Url,
    timeout: Duration,
    url_timeout: Duration,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    let url = http::url("vfun-server-url", options.url.as_deref().unwrap_or_default())?;
    let seconds = |name: &str, seconds: f64| {
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
        time.ok_or_else(|| OptionsError::new(format!("`{name}` must be a number of seconds above 0")))
    };
    let timeout = seconds("vfun-timeout", options.vfun_timeout)?;
    let url_timeout = seconds("url-timeout", options.url_timeout)?;
    Ok(Box::new(WtfTranscribe { options, url, timeout, url_timeout }))
}

impl WtfTranscribe {
    fn language(&self) -> Option<&str> {
        self.options.language.as_deref().filter(|language| !language.is_empty())
    }

    async fn ask(&self, recording: &Recording, context: &LinkContext) -> Result<Value, LinkError> {
        let mut form = Form::default().text("diarize", if self.options.diarize { "true" } else { "false" });
        if let Some(language) = self.language() {
            form = form.text("language", language);
        }
        let form =
            form.file("file-binary", &recording.file_name, &recording.media_type, recording.audio.clone());
        let (content_type, body) = form.build();
        let call = || async {
            let mut request =
                context.environment.http.post(self.url.clone()).header("content-type", &content_type);
            if let Some(key) = self.options.api_key.as_ref().filter(|key| !key.expose().is_empty()) {
                request = request.bearer_auth(key.expose());
            }
            let answer = http::send(WHO, request.body(body.clone()), self.timeout, http::LARGE).await?;
            let answer = answer.ok(WHO)?.json(WHO)?;
            // Some servers write their JSON as a text in JSON.
            let answer = match &answer {
                Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
                _ => answer,
            };
            match answer {
                Value::Object(_) => Ok(answer),
                _ => Err(LinkError::temporary("the vfun server answers without a transcript")),
            }
        };
        let mut answer = self.options.retry.run(call).await?;
        if let (Some(language), true) = (self.language(), answer["transcript"].is_object()) {
            answer["transcript"]["language"] = json!(language);
        }
        Ok(answer)
    }

    /// The transcript of this recording, and whether it was kept from an earlier time.
    async fn cached(&self, recording: &Recording, context: &LinkContext) -> Result<(Value, bool), LinkError> {
        let (cache, ttl) = (&context.environment.cache, self.options.cache_ttl.0);
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(digest::digest(&digest::SHA256, &recording.audio).as_ref());
        hash.update(format!("{} {:?} {}", self.url, self.language(), self.options.diarize).as_bytes());
        let key = format!("transcript:wtf:{}", hex::encode(hash.finish().as_ref()));
        if !ttl.is_zero()
            && let Ok(Some(text)) = cache.get(&key).await
            && let Ok(body) = serde_json::from_slice(&text)
        {
            return Ok((body, true));
        }
        let body = self.ask(recording, context).await?;
        if !ttl.is_zero()
            && let Err(error) = cache.set(&key, Bytes::from(body.to_string()), Some(ttl)).await
        {
            tracing::debug!(%error, "a transcript is not kept for the next time");
        }
        Ok((body, false))
    }
}

#[async_trait]
impl Link for WtfTranscribe {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let waiting = recording::waiting(vcon, KIND, 0.0);
        if waiting.is_empty() {
            context.skip();
            return Ok(Next::Continue);
        }
        let mut all_cached = true;
        for dialog in waiting {
            let recording = dialog.load(context, self.url_timeout).await?;
            let (body, hit) = self.cached(&recording, context).await?;
            all_cached &= hit;
            vcon.add_analysis(Analysis {
                kind: KIND,
                dialog: json!(dialog.index),
                vendor: "vfun",
                body,
                encoding: "json",
                extra: vec![("mediatype", json!("application/json")), ("schema", json!("wtf-1.0"))],
            });
        }
        context.cache_hit(all_cached);
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::shared::testing::{analysis, reply, service, with_dialog};
    use super::*;
    use crate::testing;

    fn recorded() -> Vcon {
        with_dialog(
            json!({"type": "recording", "body": STANDARD.encode("OggS"), "encoding": "base64", "mimetype": "audio/ogg"}),
        )
    }

    #[tokio::test]
    async fn the_server_gets_a_form_and_its_answer_is_kept() {
        let inner = json!({"transcript": {"text": "hi", "language": "xx"}, "segments": []}).to_string();
        let (upstream, base) = service(200, json!(inner));
        upstream.script([reply(502, &json!({}))]);
        let options = json!({"vfun-server-url": format!("{base}/wtf"), "language": "en", "diarize": true, "api-key": "k", "retry_wait": "1ms"});
        let environment = testing::environment();
        let link = make(options, &environment).unwrap();
        let mut hits = Vec::new();
        for _ in 0..2 {
            let (mut vcon, context) = (recorded(), testing::context_in(environment.clone()));
            link.run(&mut vcon, &context).await.unwrap();
            hits.push(context.was_cache_hit());
            let mut made = analysis(&vcon, 0);
            let body: Value = serde_json::from_str(made["body"].take().as_str().unwrap()).unwrap();
            assert_eq!(body, json!({"transcript": {"text": "hi", "language": "en"}, "segments": []}));
            assert_eq!(
                made,
                json!({"type": "wtf_transcription", "dialog": 1, "vendor": "vfun", "body": null, "encoding": "json",
                    "mediatype": "application/json", "schema": "wtf-1.0"})
            );
        }
        assert_eq!(hits, [Some(false), Some(true)]);
        let requests = upstream.requests();
        assert_eq!((requests.len(), &*requests[1].path), (2, "/wtf"));
        assert_eq!(requests[1].header("authorization"), Some("Bearer k"));
        let boundary = "trunkline-3f1b8a52c6d94e07";
        let expected = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"diarize\"\r\n\r\ntrue\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"language\"\r\n\r\nen\r\n--{boundary}\r\nContent-Disposition: form-data; \
             name=\"file-binary\"; filename=\"audio_1.ogg\"\r\nContent-Type: audio/ogg\r\n\r\nOggS\r\n--{boundary}--\r\n"
        );
        assert_eq!(requests[1].text(), expected);
    }

    #[tokio::test]
    async fn a_failure_is_not_swallowed_and_the_server_must_be_named() {
        let (_upstream, base) = service(400, json!({"detail": "bad audio"}));
        let link = make(json!({"vfun-server-url": base}), &testing::environment()).unwrap();
        let error = link.run(&mut recorded(), &testing::context()).await.unwrap_err();
        assert!(matches!(&error, LinkError::Permanent(text) if text.contains("bad audio")), "{error}");
        assert!(make(json!({}), &testing::environment()).is_err());
        assert!(
            make(json!({"vfun-server-url": "http://a", "url-timeout": 0}), &testing::environment()).is_err()
        );
    }
}
