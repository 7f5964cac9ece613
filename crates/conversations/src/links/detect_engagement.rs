//! `links.detect_engagement`: asks a model whether both sides spoke, and adds the answer as an analysis and as the tag
//! `engagement`. Without a model to ask it does nothing.

use std::time::Instant;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::filters::{self, Filters};
use super::shared::llm::{self, Credentials, Llm};
use super::shared::source::Source;
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{Analysis, Vcon};

pub(super) const MODULE: &str = "links.detect_engagement";
pub(super) const OWN: &[&str] = &["prompt", "analysis_type", "model", "temperature", "source"];
pub(super) const OPTIONS: &[&[&str]] = &[OWN, filters::OPTIONS, llm::OPTIONS];

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
    /// Where the transcript is.
    source: Source,
    #[serde(flatten)]
    filters: Filters,
    #[serde(flatten)]
    credentials: Credentials,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prompt: "Do both the customer and the agent speak in this conversation? Answer with the one word true or \
                     the one word false."
                .into(),
            analysis_type: "engagement_analysis".into(),
            model: "gpt-4.1".into(),
            temperature: json!(0.2),
            source: Source::default(),
            filters: Filters::default(),
            credentials: Credentials::default(),
        }
    }
}

struct DetectEngagement {
    options: Options,
    llm: Llm,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    let llm = options.credentials.llm(environment)?;
    Ok(Box::new(DetectEngagement { options, llm }))
}

#[async_trait]
impl Link for DetectEngagement {
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
            let input = format!("{}\n\nTranscript: {text}", options.prompt);
            let said = self.llm.respond(&options.model, &input, &options.temperature, context).await;
            let said = said.inspect_err(|_| {
                meters.count("link.openai.engagement_analysis_failures", &context.link, 1);
            })?;
            let Some(said) = said else {
                tracing::warn!(
                    link = &*context.link,
                    model = options.model,
                    "there is no such model: skipped"
                );
                context.skip();
                return Ok(Next::Continue);
            };
            meters.observe(
                "link.openai.engagement_analysis_time",
                &context.link,
                start.elapsed().as_secs_f64(),
            );
            let engaged = said.trim().trim_end_matches('.').eq_ignore_ascii_case("true");
            let word = if engaged { "true" } else { "false" };
            meters.count("link.openai.engagement_detected", &context.link, u64::from(engaged));
            let schema = json!({"model": options.model, "prompt": options.prompt, "is_engaged": word});
            vcon.add_analysis(Analysis {
                kind: &options.analysis_type,
                dialog: json!(dialog),
                vendor: self.llm.plain_vendor(&options.model),
                body: json!(word),
                encoding: "none",
                extra: vec![("vendor_schema", schema)],
            });
            vcon.add_tag("engagement", word);
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{Scripted, analysis, chat, no_model, service, transcribed, with};
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn the_gateway_s_model_answers_true_or_false() {
        for (answer, word) in [(" True.\n", "true"), ("No, only one.", "false")] {
            let models = Scripted::new([Ok(chat(answer))]);
            let environment = with(&models);
            let link = make(json!({"prompt": "P"}), &environment).unwrap();
            let mut vcon = transcribed();
            link.run(&mut vcon, &testing::context_in(environment)).await.unwrap();
            assert_eq!(vcon.tag("engagement").as_deref(), Some(word));
            assert_eq!(
                analysis(&vcon, 1),
                json!({"type": "engagement_analysis", "dialog": 0, "vendor": "openai", "body": word, "encoding": "none",
                    "vendor_schema": {"model": "gpt-4.1", "prompt": "P", "is_engaged": word}})
            );
            let asked = models.asked.lock().unwrap().pop().unwrap();
            assert_eq!(
                asked["messages"],
                json!([{"role": "user", "content": "P\n\nTranscript: Good morning. Hello."}])
            );
        }
    }

    #[tokio::test]
    async fn a_provider_of_its_own_is_asked_by_the_responses_api() {
        let answer = json!({"output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "true"}]}]});
        let (upstream, base) = service(200, answer);
        let link =
            make(json!({"OPENAI_API_KEY": "k", "base_url": base, "prompt": "P"}), &testing::environment())
                .unwrap();
        let mut vcon = transcribed();
        link.run(&mut vcon, &testing::context()).await.unwrap();
        let request = upstream.requests().pop().unwrap();
        assert_eq!((&*request.path, request.header("authorization")), ("/responses", Some("Bearer k")));
        let body =
            json!({"model": "gpt-4.1", "input": "P\n\nTranscript: Good morning. Hello.", "temperature": 0.2});
        assert_eq!(request.json(), body);
        assert_eq!(vcon.tag("engagement").as_deref(), Some("true"));
    }

    #[tokio::test]
    async fn without_a_model_it_is_skipped() {
        let environment = with(&Scripted::new([Err(no_model())]));
        let link = make(Value::Null, &environment).unwrap();
        let (mut vcon, context) = (transcribed(), testing::context_in(environment));
        assert_eq!(link.run(&mut vcon, &context).await.unwrap(), Next::Continue);
        assert!(context.was_skipped() && vcon.analysis().len() == 1);
    }
}
