//! `links.analyze`: asks a model about the transcript of each dialog, and adds what it says as an analysis.

use std::time::Instant;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::filters::{self, Filters};
use super::shared::llm::{self, Credentials, Llm};
use super::shared::source::Source;
use super::shared::usage::{self, Usage, Used};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{Analysis, Vcon};

pub(super) const MODULE: &str = "links.analyze";
pub(super) const OWN: &[&str] =
    &["prompt", "analysis_type", "model", "temperature", "system_prompt", "source"];
pub(super) const OPTIONS: &[&[&str]] = &[OWN, filters::OPTIONS, llm::OPTIONS, usage::OPTIONS];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// What is asked; the transcript follows it.
    prompt: String,
    /// The type of the analysis that is added.
    analysis_type: String,
    /// The model.
    model: String,
    /// How freely it answers.
    temperature: Value,
    /// What the model is told that it is.
    system_prompt: String,
    /// Where the transcript is.
    source: Source,
    #[serde(flatten)]
    filters: Filters,
    #[serde(flatten)]
    credentials: Credentials,
    #[serde(flatten)]
    usage: Usage,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prompt: String::new(),
            analysis_type: "summary".into(),
            model: "gpt-3.5-turbo-16k".into(),
            temperature: json!(0),
            system_prompt: "You analyse conversations. Answer what is asked, and nothing else.".into(),
            source: Source::default(),
            filters: Filters::default(),
            credentials: Credentials::default(),
            usage: Usage::default(),
        }
    }
}

struct Analyze {
    options: Options,
    llm: Llm,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    let llm = options.credentials.llm(environment)?;
    Ok(Box::new(Analyze { options, llm }))
}

#[async_trait]
impl Link for Analyze {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let (options, meters) = (&self.options, &context.environment.meters);
        if !options.filters.pass(vcon, context) {
            return Ok(Next::Continue);
        }
        for (dialog, text) in options.source.open(vcon, &options.analysis_type) {
            let start = Instant::now();
            let body = json!({
                "model": options.model,
                "messages": [
                    {"role": "system", "content": options.system_prompt},
                    {"role": "user", "content": format!("{}\n\n{text}", options.prompt)},
                ],
                "temperature": options.temperature,
            });
            let said = self.llm.chat(&body, context).await.inspect_err(|_| {
                meters.count("link.openai.analysis_failures", &context.link, 1);
            })?;
            meters.observe("link.openai.analysis_time", &context.link, start.elapsed().as_secs_f64());
            let used = Used {
                sub_type: "ANALYZE",
                unit: "tokens",
                input: said.input_tokens,
                output: said.output_tokens,
                model: &options.model,
            };
            options.usage.tell(vcon.uuid(), context, used).await;
            vcon.add_analysis(Analysis {
                kind: &options.analysis_type,
                dialog: json!(dialog),
                vendor: self.llm.vendor(&options.model),
                body: json!(said.text),
                encoding: "none",
                extra: vec![("vendor_schema", json!({"model": options.model, "prompt": options.prompt}))],
            });
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{Scripted, analysis, busy, chat, reply, service, transcribed, with};
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_asks_the_gateway_and_writes_what_the_model_says() {
        let models = Scripted::new([Err(busy()), Ok(chat("A greeting."))]);
        let environment = with(&models);
        let options =
            json!({"prompt": "Sum up:", "model": "smart", "system_prompt": "S", "retry_wait": "1ms"});
        let link = make(options, &environment).unwrap();
        let mut vcon = transcribed();
        for _ in 0..2 {
            assert_eq!(
                link.run(&mut vcon, &testing::context_in(environment.clone())).await.unwrap(),
                Next::Continue
            );
        }
        let asked = models.asked.lock().unwrap();
        assert_eq!(asked.len(), 2, "one attempt more, and no second analysis");
        assert_eq!(
            asked[1],
            json!({"model": "smart", "temperature": 0, "messages": [{"role": "system", "content": "S"},
                {"role": "user", "content": "Sum up:\n\nGood morning. Hello."}]})
        );
        assert_eq!(
            analysis(&vcon, 1),
            json!({"type": "summary", "dialog": 0, "vendor": "trunkline", "body": "A greeting.", "encoding": "none",
                "vendor_schema": {"model": "smart", "prompt": "Sum up:"}})
        );
    }

    #[tokio::test]
    async fn options_of_old_files_name_a_provider_of_their_own() {
        let (upstream, base) = service(200, chat("Yes."));
        for (options, path, header, value, vendor) in [
            (
                json!({"LITELLM_PROXY_URL": format!("{base}/"), "LITELLM_MASTER_KEY": "sk-l", "model": "claude-4"}),
                "/chat/completions",
                "authorization",
                "Bearer sk-l",
                "anthropic",
            ),
            (
                json!({"AZURE_OPENAI_ENDPOINT": base, "AZURE_OPENAI_API_KEY": "sk-a", "model": "gpt-4o"}),
                "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
                "api-key",
                "sk-a",
                "azure",
            ),
            (
                json!({"openai_api_key": "sk-o", "base_url": format!("{base}/v1"), "organization_key": "org", "project": "pro"}),
                "/v1/chat/completions",
                "authorization",
                "Bearer sk-o",
                "openai",
            ),
        ] {
            let link = make(options.clone(), &testing::environment()).unwrap();
            let mut vcon = transcribed();
            link.run(&mut vcon, &testing::context()).await.unwrap();
            let request = upstream.requests().pop().unwrap();
            assert_eq!(
                (&*request.method, &*request.path, request.header(header)),
                ("POST", path, Some(value))
            );
            assert_eq!(request.header("content-type"), Some("application/json"));
            assert_eq!(request.json()["model"], *options.get("model").unwrap_or(&json!("gpt-3.5-turbo-16k")));
            assert_eq!(
                (&analysis(&vcon, 1)["vendor"], &analysis(&vcon, 1)["body"]),
                (&json!(vendor), &json!("Yes."))
            );
        }
        let last = upstream.requests().pop().unwrap();
        assert_eq!(
            (last.header("openai-organization"), last.header("openai-project")),
            (Some("org"), Some("pro"))
        );
    }

    #[tokio::test]
    async fn a_provider_is_asked_six_times_and_no_more() {
        let (upstream, base) = service(500, json!({"error": {"message": "broken"}}));
        let options = json!({"api_key": "sk-o", "base_url": base, "retry_wait": "1ms"});
        let link = make(options, &testing::environment()).unwrap();
        let error = link.run(&mut transcribed(), &testing::context()).await.unwrap_err();
        assert!(
            matches!(&error, LinkError::Temporary { reason, .. } if reason.contains("500: broken")),
            "{error}"
        );
        assert_eq!(upstream.requests().len(), 6);
        upstream.set_default(reply(401, &json!({"error": {"message": "wrong key"}})));
        let error = link.run(&mut transcribed(), &testing::context()).await.unwrap_err();
        assert!(matches!(error, LinkError::Permanent(_)), "{error}");
        assert_eq!(upstream.requests().len(), 7);
    }

    #[tokio::test]
    async fn use_is_told_where_it_is_asked_for() {
        let (upstream, base) = service(200, json!({}));
        let environment = with(&Scripted::new([Ok(chat("x"))]));
        let options = json!({"send_ai_usage_data_to_url": base, "ai_usage_api_token": "tok"});
        let link = make(options, &environment).unwrap();
        let mut vcon = transcribed();
        link.run(&mut vcon, &testing::context_in(environment)).await.unwrap();
        let request = upstream.requests().pop().unwrap();
        let mut told = request.json();
        assert!(told["created_at"].take().as_str().unwrap().ends_with('Z'));
        assert_eq!(request.header("authorization"), Some("Bearer tok"));
        assert_eq!(
            told,
            json!({"created_at": null, "record_id": vcon.uuid(), "type": "VCON_PROCESSING", "sub_type": "ANALYZE",
                "unit_type": "tokens", "input_units": 12, "output_units": 3, "ai_model": "gpt-3.5-turbo-16k"})
        );
    }

    #[tokio::test]
    async fn without_a_transcript_or_when_filtered_nobody_is_asked() {
        let environment = with(&Scripted::new([]));
        let link = make(Value::Null, &environment).unwrap();
        let mut vcon = testing::vcon();
        link.run(&mut vcon, &testing::context_in(environment.clone())).await.unwrap();
        assert!(vcon.analysis().is_empty());
        let only_if = json!({"only_if": {"section": "attachments", "type": "tags", "includes": "x:y"}});
        let (link, context) = (make(only_if, &environment).unwrap(), testing::context_in(environment));
        link.run(&mut transcribed(), &context).await.unwrap();
        assert!(context.was_skipped());
    }
}
