//! `links.hugging_llm_link`: asks a model at Hugging Face about the transcripts, and adds what it says as one analysis.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::retry::{self, Retry};
use super::shared::{http, source};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{Analysis, Vcon};

pub(super) const MODULE: &str = "links.hugging_llm_link";
pub(super) const OWN: &[&str] =
    &["HUGGINGFACE_API_KEY", "model", "use_local_model", "max_length", "temperature", "base_url"];
pub(super) const OPTIONS: &[&[&str]] = &[OWN, retry::OPTIONS];

const TIMEOUT: Duration = Duration::from_secs(120);
const WHO: &str = "Hugging Face";

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The key; else the variable of this name.
    #[serde(rename = "HUGGINGFACE_API_KEY")]
    key: Option<Secret>,
    /// The model.
    model: String,
    /// Whether a model on this machine is asked: then `base_url` must say where it is served.
    use_local_model: bool,
    /// The longest answer, in tokens.
    max_length: u64,
    /// How freely it answers.
    temperature: Value,
    /// Where models are asked: the model's name follows it.
    base_url: Option<String>,
    #[serde(flatten)]
    retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            key: None,
            model: "meta-llama/Llama-2-70b-chat-hf".into(),
            use_local_model: false,
            max_length: 1000,
            temperature: json!(0.7),
            base_url: None,
            retry: Retry::default(),
        }
    }
}

struct HuggingLlm {
    options: Options,
    url: reqwest::Url,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let mut options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    let base = match (&options.base_url, options.use_local_model) {
        (Some(base), _) => base.as_str(),
        (None, false) => "https://api-inference.huggingface.co/models",
        (None, true) => {
            let text = "`use_local_model` needs `base_url`: where a server of Hugging Face's protocol, as \
                        text-generation-inference, serves the model";
            return Err(OptionsError::new(text));
        }
    };
    let url = http::url("base_url", &format!("{}/{}", base.trim_end_matches('/'), options.model))?;
    options.key = options.key.or_else(|| environment.variables.get("HUGGINGFACE_API_KEY").map(Secret::from));
    if options.key.is_none() && !options.use_local_model {
        return Err(OptionsError::new("`HUGGINGFACE_API_KEY` must be given"));
    }
    Ok(Box::new(HuggingLlm { options, url }))
}

impl HuggingLlm {
    async fn ask(&self, text: &str, context: &LinkContext) -> Result<String, LinkError> {
        let prompt = format!(
            "Read the conversation below. Answer with JSON of three members: `summary`, a short summary; `sentiment`, \
             the mood as a whole; `key_points`, a list of what was talked about.\n\nConversation:\n{text}\n"
        );
        let parameters =
            json!({"max_length": self.options.max_length, "temperature": self.options.temperature});
        let body = json!({"inputs": prompt, "parameters": parameters});
        let call = || async {
            let mut request = context.environment.http.post(self.url.clone()).json(&body);
            if let Some(key) = &self.options.key {
                request = request.bearer_auth(key.expose());
            }
            let answer = http::send(WHO, request, TIMEOUT, http::LARGE).await?.ok(WHO)?.json(WHO)?;
            let text = answer[0]["generated_text"].as_str().or(answer["generated_text"].as_str());
            text.map(str::to_owned)
                .ok_or_else(|| LinkError::temporary("Hugging Face answers without any text"))
        };
        self.options.retry.run(call).await
    }
}

#[async_trait]
impl Link for HuggingLlm {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let (options, meters) = (&self.options, &context.environment.meters);
        let of = |kind: &'static str| {
            move |analysis: &&crate::vcon::Object| analysis.text("type").as_deref() == Some(kind)
        };
        let texts: Vec<String> = vcon
            .analysis()
            .iter()
            .filter(of("transcript"))
            .filter_map(|analysis| {
                let body = source::decoded(analysis)["body"].take();
                let text = body["transcript"].as_str().or(body["text"].as_str()).or(body.as_str())?;
                (!text.is_empty()).then(|| text.to_owned())
            })
            .collect();
        if texts.is_empty() || vcon.analysis().iter().any(|analysis| of("llm_analysis")(&analysis)) {
            context.skip();
            return Ok(Next::Continue);
        }
        let start = Instant::now();
        let said = self.ask(&texts.join("\n"), context).await.inspect_err(|_| {
            meters.count("link.huggingface.llm_failures", &context.link, 1);
        })?;
        meters.observe("link.huggingface.llm_time", &context.link, start.elapsed().as_secs_f64());
        let used = json!({"max_length": options.max_length, "temperature": options.temperature});
        let body = json!({"analysis": said, "model": options.model, "parameters": used});
        let mut schema = used;
        schema["model"] = json!(options.model);
        vcon.add_analysis(Analysis {
            kind: "llm_analysis",
            dialog: json!(0),
            vendor: "huggingface",
            body,
            encoding: "json",
            extra: vec![("vendor_schema", json!({"opts": schema}))],
        });
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{analysis, reply, service, transcribed};
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_asks_the_inference_api_about_the_transcripts() {
        let (upstream, base) = service(200, json!([{"generated_text": "all well"}]));
        upstream.script([reply(503, &json!({"error": "loading"}))]);
        let options =
            json!({"HUGGINGFACE_API_KEY": "hf_x", "base_url": base, "model": "org/m", "retry_wait": "1ms"});
        let link = make(options, &testing::environment()).unwrap();
        let mut vcon = transcribed();
        for _ in 0..2 {
            link.run(&mut vcon, &testing::context()).await.unwrap();
        }
        let requests = upstream.requests();
        assert_eq!(requests.len(), 2, "a second attempt, and no second analysis");
        assert_eq!(
            (&*requests[1].path, requests[1].header("authorization")),
            ("/org/m", Some("Bearer hf_x"))
        );
        let body = requests[1].json();
        assert_eq!(body["parameters"], json!({"max_length": 1000, "temperature": 0.7}));
        assert!(body["inputs"].as_str().unwrap().contains("good morning hello"));
        let mut made = analysis(&vcon, 1);
        let body: Value = serde_json::from_str(made["body"].take().as_str().unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"analysis": "all well", "model": "org/m", "parameters": {"max_length": 1000, "temperature": 0.7}})
        );
        assert_eq!(
            made["vendor_schema"],
            json!({"opts": {"model": "org/m", "max_length": 1000, "temperature": 0.7}})
        );
        assert_eq!((&made["type"], &made["vendor"]), (&json!("llm_analysis"), &json!("huggingface")));
    }

    #[test]
    fn a_key_or_a_place_must_be_given() {
        assert!(make(json!({}), &testing::environment()).is_err());
        assert!(make(json!({"use_local_model": true}), &testing::environment()).is_err());
        assert!(
            make(
                json!({"use_local_model": true, "base_url": "http://127.0.0.1:8080/models"}),
                &testing::environment()
            )
            .is_ok()
        );
    }
}
