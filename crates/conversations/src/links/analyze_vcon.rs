//! `links.analyze_vcon`: asks a model about the whole vCon, and adds the JSON that it answers with.

use std::time::Instant;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::filters::{self, Filters};
use super::shared::llm::{self, Credentials, Llm};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{Analysis, List, Vcon};

pub(super) const MODULE: &str = "links.analyze_vcon";
pub(super) const OWN: &[&str] =
    &["prompt", "analysis_type", "model", "temperature", "system_prompt", "remove_body_properties"];
pub(super) const OPTIONS: &[&[&str]] = &[OWN, filters::OPTIONS, llm::OPTIONS];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// What is asked; the vCon follows it.
    prompt: String,
    /// The type of the analysis that is added.
    analysis_type: String,
    /// The model.
    model: String,
    /// How freely it answers.
    temperature: Value,
    /// What the model is told that it is.
    system_prompt: String,
    /// Whether the bodies of dialogs are left out, which may be long recordings.
    remove_body_properties: bool,
    #[serde(flatten)]
    filters: Filters,
    #[serde(flatten)]
    credentials: Credentials,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prompt: "What is to be known about the following conversation? Answer with a JSON object.".into(),
            analysis_type: "json_analysis".into(),
            model: "gpt-3.5-turbo-16k".into(),
            temperature: json!(0),
            system_prompt: "You analyse records of conversations and answer with JSON alone.".into(),
            remove_body_properties: true,
            filters: Filters::default(),
            credentials: Credentials::default(),
        }
    }
}

struct AnalyzeVcon {
    options: Options,
    llm: Llm,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    let llm = options.credentials.llm(environment)?;
    Ok(Box::new(AnalyzeVcon { options, llm }))
}

#[async_trait]
impl Link for AnalyzeVcon {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let (options, meters) = (&self.options, &context.environment.meters);
        if !options.filters.pass(vcon, context) {
            return Ok(Next::Continue);
        }
        let kind = options.analysis_type.as_str();
        if vcon.analysis().iter().any(|analysis| analysis.text("type").as_deref() == Some(kind)) {
            context.skip();
            return Ok(Next::Continue);
        }
        let mut shown = vcon.clone();
        if options.remove_body_properties {
            for dialog in shown.list_mut(List::Dialog) {
                dialog.remove("body");
            }
        }
        let shown = String::from_utf8_lossy(&shown.to_bytes()).into_owned();
        let start = Instant::now();
        let body = json!({
            "model": options.model,
            "messages": [
                {"role": "system", "content": options.system_prompt},
                {"role": "user", "content": format!("{}\n\n{shown}", options.prompt)},
            ],
            "temperature": options.temperature,
            "response_format": {"type": "json_object"},
        });
        let failed = || meters.count("link.openai.analysis_failures", &context.link, 1);
        let said = self.llm.chat(&body, context).await.inspect_err(|_| failed())?;
        let Ok(found) = serde_json::from_str::<Value>(&said.text) else {
            meters.count("link.openai.invalid_json", &context.link, 1);
            failed();
            return Err(LinkError::temporary("the model answers with what is not JSON"));
        };
        meters.observe("link.openai.analysis_time", &context.link, start.elapsed().as_secs_f64());
        let schema =
            json!({"model": options.model, "prompt": options.prompt, "system_prompt": options.system_prompt});
        vcon.add_analysis(Analysis {
            kind,
            dialog: json!(0),
            vendor: self.llm.plain_vendor(&options.model),
            // A text by itself is JSON too, and must be read as such.
            body: json!(found.to_string()),
            encoding: "json",
            extra: vec![("vendor_schema", schema)],
        });
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{Scripted, analysis, chat, with};
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn the_whole_vcon_is_asked_about_once() {
        let models = Scripted::new([Ok(chat(r#"{"mood": "good"}"#)), Ok(chat(r#"[1]"#))]);
        let environment = with(&models);
        let link = make(json!({"prompt": "P", "system_prompt": "S"}), &environment).unwrap();
        let mut vcon = testing::vcon();
        let mut shown = vcon.to_value();
        shown["dialog"][0].as_object_mut().unwrap().remove("body");
        for _ in 0..2 {
            link.run(&mut vcon, &testing::context_in(environment.clone())).await.unwrap();
        }
        assert_eq!(
            analysis(&vcon, 0),
            json!({"type": "json_analysis", "dialog": 0, "vendor": "openai", "body": r#"{"mood":"good"}"#, "encoding": "json",
                "vendor_schema": {"model": "gpt-3.5-turbo-16k", "prompt": "P", "system_prompt": "S"}})
        );
        let asked = models.asked.lock().unwrap();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0]["response_format"], json!({"type": "json_object"}));
        let text = asked[0]["messages"][1]["content"].as_str().unwrap();
        let sent: Value = serde_json::from_str(text.strip_prefix("P\n\n").unwrap()).unwrap();
        assert_eq!(sent, shown);
        assert_eq!(vcon.dialog()[0].text("body").as_deref(), Some("Good morning."));
    }

    #[tokio::test]
    async fn what_is_no_json_is_tried_again() {
        let environment = with(&Scripted::new([Ok(chat("no"))]));
        let link = make(json!({"remove_body_properties": false}), &environment).unwrap();
        let mut vcon = testing::vcon();
        let error = link.run(&mut vcon, &testing::context_in(environment)).await.unwrap_err();
        assert!(matches!(error, LinkError::Temporary { .. }) && vcon.analysis().is_empty(), "{error}");
    }
}
