//! `links.analyze_and_label`: asks a model for labels of each dialog, and adds them as an analysis and as tags.

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

pub(super) const MODULE: &str = "links.analyze_and_label";
pub(super) const OWN: &[&str] =
    &["prompt", "analysis_type", "model", "temperature", "source", "response_format"];
pub(super) const OPTIONS: &[&[&str]] = &[OWN, filters::OPTIONS, llm::OPTIONS];

/// What the model is told that it is.
const SYSTEM: &str = "You read conversations and choose labels that describe them.";

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
    /// The form of the answer that the model is asked for.
    response_format: Value,
    #[serde(flatten)]
    filters: Filters,
    #[serde(flatten)]
    credentials: Credentials,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prompt: "Choose the labels under which the following conversation should be filed. Answer with a JSON \
                     object whose only member, `labels`, is a list of short texts."
                .into(),
            analysis_type: "labeled_analysis".into(),
            model: "gpt-4-turbo".into(),
            temperature: json!(0.2),
            source: Source::default(),
            response_format: json!({"type": "json_object"}),
            filters: Filters::default(),
            credentials: Credentials::default(),
        }
    }
}

struct AnalyzeAndLabel {
    options: Options,
    llm: Llm,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    let llm = options.credentials.llm(environment)?;
    Ok(Box::new(AnalyzeAndLabel { options, llm }))
}

#[async_trait]
impl Link for AnalyzeAndLabel {
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
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": format!("{}\n\n{text}", options.prompt)},
                ],
                "temperature": options.temperature,
                "response_format": options.response_format,
            });
            let said = self.llm.chat(&body, context).await.inspect_err(|_| {
                meters.count("link.openai.analysis_failures", &context.link, 1);
            })?;
            meters.observe("link.openai.analysis_time", &context.link, start.elapsed().as_secs_f64());
            let mut schema = json!({"model": options.model, "prompt": options.prompt});
            let answer = serde_json::from_str::<Value>(&said.text);
            let encoding = match &answer {
                Ok(_) => "json",
                Err(error) => {
                    meters.count("link.openai.json_parse_failures", &context.link, 1);
                    schema["parse_error"] = json!(error.to_string());
                    "none"
                }
            };
            vcon.add_analysis(Analysis {
                kind: &options.analysis_type,
                dialog: json!(dialog),
                vendor: self.llm.plain_vendor(&options.model),
                body: json!(said.text),
                encoding,
                extra: vec![("vendor_schema", schema)],
            });
            let answer = answer.unwrap_or_default();
            let labels: Vec<&str> =
                answer["labels"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for label in &labels {
                vcon.add_tag(label, label);
            }
            meters.count("link.openai.labels_added", &context.link, labels.len() as u64);
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{Scripted, analysis, chat, transcribed, with};
    use super::*;
    use crate::testing;

    async fn run(answer: &str) -> (Vcon, Value) {
        let models = Scripted::new([Ok(chat(answer))]);
        let environment = with(&models);
        let link = make(json!({"prompt": "P", "model": "gpt-4-turbo"}), &environment).unwrap();
        let mut vcon = transcribed();
        link.run(&mut vcon, &testing::context_in(environment)).await.unwrap();
        let asked = models.asked.lock().unwrap().pop().unwrap();
        (vcon, asked)
    }

    #[tokio::test]
    async fn labels_become_an_analysis_and_tags() {
        let answer = r#"{"labels": ["billing", "angry", 5]}"#;
        let (vcon, asked) = run(answer).await;
        assert_eq!(
            asked,
            json!({"model": "gpt-4-turbo", "temperature": 0.2, "response_format": {"type": "json_object"},
                "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "P\n\nGood morning. Hello."}]})
        );
        assert_eq!(
            analysis(&vcon, 1),
            json!({"type": "labeled_analysis", "dialog": 0, "vendor": "openai", "body": answer, "encoding": "json",
                "vendor_schema": {"model": "gpt-4-turbo", "prompt": "P"}})
        );
        assert_eq!(vcon.tags(), [("billing".into(), "billing".into()), ("angry".into(), "angry".into())]);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_json_is_kept_as_it_is() {
        let (vcon, _) = run("billing, angry").await;
        let analysis = analysis(&vcon, 1);
        assert_eq!((&analysis["body"], &analysis["encoding"]), (&json!("billing, angry"), &json!("none")));
        assert!(analysis["vendor_schema"]["parse_error"].is_string());
        assert!(vcon.tags().is_empty());
    }
}
