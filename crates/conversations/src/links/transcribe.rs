//! `links.transcribe`: writes recordings down. The vendor does the work; what is the same for all of them is here:
//! which recordings, the cache, the analysis `transcript` that is added.
//!
//! `links.openai_transcribe`, `links.deepgram_link`, `links.groq_whisper` and `links.hugging_face_whisper` are the same
//! link with the vendor given by its name.

mod deepgram;
mod hugging_face;
mod openai;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::chunks;
use super::shared::llm;
use super::shared::recording::{self, Waiting};
use super::shared::redact;
use super::shared::retry;
use super::shared::usage::{self, Usage, Used};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{Analysis, Vcon};

pub(super) const MODULE: &str = "links.transcribe";
pub(super) const OPENAI: &str = "links.openai_transcribe";
pub(super) const DEEPGRAM: &str = "links.deepgram_link";
pub(super) const GROQ: &str = "links.groq_whisper";
pub(super) const HUGGING_FACE: &str = "links.hugging_face_whisper";

/// The dispatcher's own options.
pub(super) const OPTIONS: &[&[&str]] = &[&["vendor", "vendor_options", "transcribe_options"]];
/// What every vendor has.
const SHARED: &[&str] = &["minimum_duration", "cache_ttl", "url_timeout", "vendor", "vendor_options"];
/// The vendors' options.
pub(super) const OPENAI_OPTIONS: &[&[&str]] =
    &[SHARED, openai::OPTIONS, llm::OPTIONS, chunks::OPTIONS, usage::OPTIONS];
pub(super) const DEEPGRAM_OPTIONS: &[&[&str]] = &[SHARED, deepgram::OPTIONS, llm::OPTIONS, usage::OPTIONS];
pub(super) const GROQ_OPTIONS: &[&[&str]] =
    &[SHARED, openai::OPTIONS, openai::GROQ, llm::OPTIONS, chunks::OPTIONS, usage::OPTIONS];
pub(super) const HUGGING_FACE_OPTIONS: &[&[&str]] =
    &[SHARED, hugging_face::OPTIONS, retry::OPTIONS, usage::OPTIONS];

/// The type of the analysis.
const KIND: &str = "transcript";

/// What a vendor made of a recording.
struct Transcript {
    /// The analysis' body; none when it is not good enough to keep.
    body: Option<Value>,
    /// What was used: unit, input, output.
    used: Option<(&'static str, u64, u64)>,
    /// Whether it came out of the cache.
    cached: Option<bool>,
}

/// Somebody who writes recordings down.
#[async_trait]
trait Vendor: Send + Sync {
    /// Writes one recording down.
    async fn transcribe(
        &self,
        shared: &Shared,
        dialog: &Waiting,
        context: &LinkContext,
    ) -> Result<Transcript, LinkError>;
}

/// What the vendors share.
struct Shared {
    /// The analysis' `vendor`.
    vendor: &'static str,
    /// `DEEPGRAM_TRANSCRIBE` and the like.
    sub_type: &'static str,
    /// The names of the counter of failures and of the times.
    meters: (&'static str, &'static str),
    model: String,
    /// What makes two transcripts of the same recording different.
    fingerprint: String,
    common: Common,
    /// The options as they are written into the analysis.
    shown: Value,
}

/// Options of every vendor.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Common {
    /// The shortest recording, in seconds.
    minimum_duration: Option<f64>,
    /// How long a transcript is kept for the same recording; 0: not at all.
    cache_ttl: Option<base::Duration>,
    /// How long a recording may take to arrive.
    url_timeout: Option<base::Duration>,
    #[serde(flatten)]
    usage: Usage,
}

struct Transcribe {
    module: &'static str,
    shared: Shared,
    vendor: Box<dyn Vendor>,
}

/// The vendor of a name.
type MakeVendor = fn(Value, &Environment) -> Result<(Shared, Box<dyn Vendor>), OptionsError>;

fn vendor(name: &str) -> Option<(&'static str, MakeVendor)> {
    Some(match name {
        "openai" => (OPENAI, openai::make),
        "deepgram" => (DEEPGRAM, deepgram::make),
        "groq" => (GROQ, openai::make_groq),
        "hugging_face" => (HUGGING_FACE, hugging_face::make),
        // The Conserver's default calls what its own library does not have; here it is the gateway's model.
        "whisper_builtin" | "gateway" => (MODULE, openai::make_gateway),
        _ => return None,
    })
}

/// Makes `links.transcribe`.
pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Options {
        vendor: Option<String>,
        vendor_options: Option<Value>,
        transcribe_options: Option<Value>,
    }
    let options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    let name = options.vendor.as_deref().filter(|name| !name.is_empty()).unwrap_or("whisper_builtin");
    let Some((_, make)) = vendor(name) else {
        let text = "`vendor` must be openai, deepgram, groq, hugging_face, or gateway (whisper_builtin)";
        return Err(OptionsError::new(text));
    };
    let given = options.vendor_options.or(options.transcribe_options).unwrap_or(Value::Null);
    let (shared, vendor) = make(given, environment)?;
    Ok(Box::new(Transcribe { module: MODULE, shared, vendor }))
}

/// Makes one of the links that carry their vendor in their name; also with the dispatcher's options.
fn make_named(name: &str, options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let Some((module, make)) = vendor(name) else { return Err(OptionsError::new("there is no such vendor")) };
    let options = match options.get("vendor_options") {
        Some(given) => given.clone(),
        None => options,
    };
    let (shared, vendor) = make(options, environment)?;
    Ok(Box::new(Transcribe { module, shared, vendor }))
}

pub(super) fn make_openai(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    make_named("openai", options, environment)
}

pub(super) fn make_deepgram(
    options: Value,
    environment: &Environment,
) -> Result<Box<dyn Link>, OptionsError> {
    make_named("deepgram", options, environment)
}

pub(super) fn make_groq(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    make_named("groq", options, environment)
}

pub(super) fn make_hugging_face(
    options: Value,
    environment: &Environment,
) -> Result<Box<dyn Link>, OptionsError> {
    make_named("hugging_face", options, environment)
}

impl Shared {
    fn new(
        (vendor, sub_type): (&'static str, &'static str),
        meters: (&'static str, &'static str),
        model: &str,
        options: &Value,
        defaults: Value,
    ) -> Result<Self, OptionsError> {
        let wrong = |error: serde_json::Error| OptionsError::new(error.to_string());
        let common = match options {
            Value::Null => Common::default(),
            options => serde_json::from_value(options.clone()).map_err(wrong)?,
        };
        let shown = redact::without_secrets(&redact::over(defaults, options));
        let fingerprint = format!("{vendor} {model} {shown}");
        Ok(Shared { vendor, sub_type, meters, model: model.to_owned(), fingerprint, common, shown })
    }

    fn url_timeout(&self) -> Duration {
        self.common.url_timeout.map_or(recording::FETCH_TIMEOUT, |timeout| timeout.0)
    }

    fn ttl(&self) -> Duration {
        self.common.cache_ttl.map_or(Duration::from_secs(7 * 86_400), |ttl| ttl.0)
    }

    /// Where the transcript of this content is kept.
    fn cache_key(&self, content: &[u8]) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(digest::digest(&digest::SHA256, content).as_ref());
        hash.update(self.fingerprint.as_bytes());
        format!("transcript:{}", hex::encode(hash.finish().as_ref()))
    }

    /// The transcript of this content: the one that is kept, or a new one, which is kept.
    async fn cached<F>(&self, content: &[u8], context: &LinkContext, make: F) -> Result<Transcript, LinkError>
    where
        F: Future<Output = Result<Transcript, LinkError>> + Send,
    {
        let (cache, ttl) = (&context.environment.cache, self.ttl());
        if ttl.is_zero() {
            return make.await;
        }
        let key = self.cache_key(content);
        // A cache that cannot be asked costs another transcription, no more.
        let found =
            cache.get(&key).await.inspect_err(|error| tracing::debug!(%error, "the cache of transcripts"));
        if let Some(body) = found.ok().flatten().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(Transcript { body: Some(body), used: None, cached: Some(true) });
        }
        let made = make.await?;
        if let Some(body) = &made.body
            && let Err(error) = cache.set(&key, Bytes::from(body.to_string()), Some(ttl)).await
        {
            tracing::debug!(%error, "a transcript is not kept for the next time");
        }
        Ok(Transcript { cached: Some(false), ..made })
    }
}

#[async_trait]
impl Link for Transcribe {
    fn module(&self) -> &'static str {
        self.module
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let (shared, meters) = (&self.shared, &context.environment.meters);
        let (failures, times) = shared.meters;
        let waiting = recording::waiting(vcon, KIND, shared.common.minimum_duration.unwrap_or_default());
        if waiting.is_empty() {
            context.skip();
        }
        let mut all_cached = None;
        for dialog in waiting {
            let start = Instant::now();
            let made = self.vendor.transcribe(shared, &dialog, context).await.inspect_err(|_| {
                meters.count(failures, &context.link, 1);
            })?;
            meters.observe(times, &context.link, start.elapsed().as_secs_f64());
            if let Some(hit) = made.cached {
                all_cached = Some(all_cached.unwrap_or(true) && hit);
            }
            if let Some((unit, input, output)) = made.used {
                let used = Used { sub_type: shared.sub_type, unit, input, output, model: &shared.model };
                shared.common.usage.tell(vcon.uuid(), context, used).await;
            }
            let Some(body) = made.body else {
                meters.count(failures, &context.link, 1);
                continue;
            };
            vcon.add_analysis(Analysis {
                kind: KIND,
                dialog: json!(dialog.index),
                vendor: shared.vendor,
                body,
                encoding: "json",
                extra: vec![("vendor_schema", json!({"opts": shared.shown}))],
            });
        }
        if let Some(hit) = all_cached {
            context.cache_hit(hit);
        }
        Ok(Next::Continue)
    }
}
