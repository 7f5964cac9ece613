//! Vendors that speak OpenAI's API for transcription: OpenAI itself, Azure and LiteLLM, Groq, and the gateway.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::shared::chunks::Chunking;
use super::super::shared::llm::{Credentials, Llm};
use super::super::shared::recording::{Recording, Waiting};
use super::{
    GROQ as GROQ_MODULE, GROQ_OPTIONS, MODULE, OPENAI as OPENAI_MODULE, OPENAI_OPTIONS, Shared, Transcript,
    Vendor,
};
use crate::environment::Environment;
use crate::link::{LinkContext, LinkError};
use crate::options::{self, OptionsError};

pub(super) const OPTIONS: &[&str] = &["model", "language", "send_language", "model_size", "output_options"];
pub(super) const GROQ: &[&str] = &["API_KEY", "Content-Type"];

/// Their options.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    /// The model.
    model: Option<String>,
    /// The language of the recordings. The Conserver has this option and does not send it.
    language: Option<String>,
    /// Whether `language` is sent.
    send_language: bool,
    /// Groq's key; else the variable `GROQ_API_KEY`.
    #[serde(rename = "API_KEY")]
    groq_key: Option<String>,
    #[serde(flatten)]
    credentials: Credentials,
    #[serde(flatten)]
    chunking: Chunking,
}

struct Whisper {
    model: String,
    fields: Vec<(String, String)>,
    chunking: Chunking,
    llm: Llm,
}

fn read(
    module: &str,
    given: Value,
    known: &[&[&str]],
    minimum: f64,
) -> Result<(Options, Value), OptionsError> {
    let options = options::read(module, given.clone(), &known.concat())?;
    let mut given = match given {
        Value::Null => json!({}),
        given => given,
    };
    if given["minimum_duration"].is_null() {
        given["minimum_duration"] = json!(minimum);
    }
    Ok((options, given))
}

impl Options {
    fn fields(&self) -> Vec<(String, String)> {
        let language = self.language.clone().filter(|language| self.send_language && !language.is_empty());
        language.map(|language| ("language".to_owned(), language)).into_iter().collect()
    }
}

/// OpenAI, Azure or LiteLLM by the options' credentials; the gateway without any.
pub(super) fn make(
    given: Value,
    environment: &Environment,
) -> Result<(Shared, Box<dyn Vendor>), OptionsError> {
    let (options, given) = read(OPENAI_MODULE, given, OPENAI_OPTIONS, 3.0)?;
    let model = options.model.clone().unwrap_or_else(|| "gpt-4o-transcribe".into());
    let defaults = json!({"model": model, "language": "en", "max_chunk_duration": 480, "use_silence_chunking": true,
        "silence_thresh": -40, "silence_len": 2000, "AZURE_OPENAI_API_VERSION": "2024-10-21"});
    let meters = ("link.openai.transcription_failures", "link.openai.transcription_time");
    let shared = Shared::new(("openai", "OPENAI_TRANSCRIBE"), meters, &model, &given, defaults)?;
    let (fields, llm) = (options.fields(), options.credentials.llm(environment)?);
    Ok((shared, Box::new(Whisper { model, fields, chunking: options.chunking, llm })))
}

/// The gateway's own model for transcription.
pub(super) fn make_gateway(
    given: Value,
    environment: &Environment,
) -> Result<(Shared, Box<dyn Vendor>), OptionsError> {
    let (options, given) = read(MODULE, given, OPENAI_OPTIONS, 0.0)?;
    let model = options.model.clone().unwrap_or_else(|| "whisper-1".into());
    let meters = ("link.whisper.transcription_failures", "link.whisper.transcription_time");
    let shared =
        Shared::new(("whisper", "WHISPER_TRANSCRIBE"), meters, &model, &given, json!({"model": model}))?;
    let (fields, llm) = (options.fields(), options.credentials.llm(environment)?);
    Ok((shared, Box::new(Whisper { model, fields, chunking: options.chunking, llm })))
}

/// Groq.
pub(super) fn make_groq(
    given: Value,
    environment: &Environment,
) -> Result<(Shared, Box<dyn Vendor>), OptionsError> {
    let (options, given) = read(GROQ_MODULE, given, GROQ_OPTIONS, 30.0)?;
    let model = options.model.clone().unwrap_or_else(|| "whisper-large-v3-turbo".into());
    let meters = ("link.groq_whisper.transcription_failures", "link.groq_whisper.transcription_time");
    let shared = Shared::new(("groq_whisper", "GROQ_TRANSCRIBE"), meters, &model, &given, json!({}))?;
    let fields = [vec![("response_format".to_owned(), "json".to_owned())], options.fields()].concat();
    let variables = &environment.variables;
    let key =
        options.groq_key.clone().filter(|key| !key.is_empty()).or_else(|| variables.get("GROQ_API_KEY"));
    let place =
        variables.get("GROQ_BASE_URL").map(|base| format!("{}/openai/v1", base.trim_end_matches('/')));
    let base = place.or_else(|| Some("https://api.groq.com/openai/v1".into()));
    let llm = options.credentials.clone().or_key(key).or_base(base).llm(environment)?;
    if !llm.has_provider() {
        return Err(OptionsError::new("`API_KEY`, or the variable GROQ_API_KEY, must be given"));
    }
    Ok((shared, Box::new(Whisper { model, fields, chunking: options.chunking, llm })))
}

impl Whisper {
    async fn pieces(&self, recording: Recording, context: &LinkContext) -> Result<Transcript, LinkError> {
        let mut answers = Vec::new();
        for piece in self.chunking.split(recording).await? {
            answers.push(self.llm.transcribe(&self.model, &piece, &self.fields, context).await?);
        }
        let body = combine(answers);
        if body["text"].as_str().is_none() {
            return Err(LinkError::temporary("the model answers without a transcript"));
        }
        let tokens = |name: &str| body["usage"][name].as_u64().unwrap_or_default();
        let used = Some(("tokens", tokens("input_tokens"), tokens("output_tokens")));
        Ok(Transcript { body: Some(body), used, cached: None })
    }
}

/// The answers for the pieces as one: the texts joined, the use summed, and each of them.
fn combine(mut answers: Vec<Value>) -> Value {
    if answers.len() < 2 {
        return answers.pop().unwrap_or_default();
    }
    let texts: Vec<&str> =
        answers.iter().filter_map(|answer| answer["text"].as_str()).filter(|text| !text.is_empty()).collect();
    let sum = |name: &str| answers.iter().filter_map(|answer| answer["usage"][name].as_u64()).sum::<u64>();
    let (input, output, total) = (sum("input_tokens"), sum("output_tokens"), sum("total_tokens"));
    let mut combined = answers[0].clone();
    combined["text"] = json!(texts.join(" "));
    combined["usage"] = json!({"type": "tokens", "input_tokens": input, "output_tokens": output, "total_tokens": total,
        "input_token_details": {"text_tokens": 0, "audio_tokens": input}});
    combined["chunked_transcription"] = json!({"total_chunks": answers.len(), "chunk_results": answers});
    combined
}

#[async_trait]
impl Vendor for Whisper {
    async fn transcribe(
        &self,
        shared: &Shared,
        dialog: &Waiting,
        context: &LinkContext,
    ) -> Result<Transcript, LinkError> {
        let recording = dialog.load(context, shared.url_timeout()).await?;
        let content = recording.audio.clone();
        shared.cached(&content, context, self.pieces(recording, context)).await
    }
}
