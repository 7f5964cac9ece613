//! `links.check_and_tag`: asks a model a question with yes or no about each dialog, and tags the vCon when it is yes.

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

pub(super) const MODULE: &str = "links.check_and_tag";
pub(super) const OWN: &[&str] = &[
    "tag_name",
    "tag_value",
    "evaluation_question",
    "analysis_type",
    "model",
    "source",
    "response_format",
    "verbosity",
    "minimal_reasoning",
];
pub(super) const OPTIONS: &[&[&str]] = &[OWN, filters::OPTIONS, llm::OPTIONS];

/// What the model is told that it is.
const SYSTEM: &str =
    "You read texts and decide whether a statement holds for them. You answer with yes or no.";

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The tag's name. Must be given.
    tag_name: String,
    /// The tag's value. Must be given.
    tag_value: String,
    /// What is asked. Must be given.
    evaluation_question: String,
    /// The type of the analysis that is added.
    analysis_type: String,
    /// The model.
    model: String,
    /// Where the transcript is.
    source: Source,
    /// The form of the answer that the model is asked for.
    response_format: Value,
    /// How much the model says, for models that can be told: `low`, `medium`, `high`. The Conserver has this option
    /// and does not send it; here it is sent when it is given.
    verbosity: Option<String>,
    /// Whether the model should think as little as it can. Sent when it is given, as `reasoning_effort`.
    minimal_reasoning: Option<bool>,
    #[serde(flatten)]
    filters: Filters,
    #[serde(flatten)]
    credentials: Credentials,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            tag_name: String::new(),
            tag_value: String::new(),
            evaluation_question: String::new(),
            analysis_type: "tag_evaluation".into(),
            model: "gpt-5".into(),
            source: Source { text_location: "body".into(), ..Source::default() },
            response_format: json!({"type": "json_object"}),
            verbosity: None,
            minimal_reasoning: None,
            filters: Filters::default(),
            credentials: Credentials::default(),
        }
    }
}

struct CheckAndTag {
    options: Options,
    llm: Llm,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, &OPTIONS.concat())?;
    for (name, value) in [
        ("tag_name", &options.tag_name),
        ("tag_value", &options.tag_value),
        ("evaluation_question", &options.evaluation_question),
    ] {
        if value.is_empty() {
            return Err(OptionsError::new(format!("`{name}` must be given")));
        }
    }
    let llm = options.credentials.llm(environment)?;
    Ok(Box::new(CheckAndTag { options, llm }))
}

impl Options {
    fn question(&self, text: &str) -> Value {
        let question = &self.evaluation_question;
        let mut body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": format!(
                    "The question: {question}\n\nThe text:\n{text}\n\nAnswer with a JSON object whose only member, \
                     `applies`, is true when the answer is yes and false when it is no."
                )},
            ],
            "response_format": self.response_format,
        });
        if let Some(verbosity) = &self.verbosity {
            body["verbosity"] = json!(verbosity);
        }
        if self.minimal_reasoning == Some(true) {
            body["reasoning_effort"] = json!("minimal");
        }
        body
    }
}

#[async_trait]
impl Link for CheckAndTag {
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
            let failed = || meters.count("link.openai.evaluation_failures", &context.link, 1);
            let said = self.llm.chat(&options.question(&text), context).await.inspect_err(|_| failed())?;
            let Ok(Value::Object(answer)) = serde_json::from_str(&said.text) else {
                failed();
                return Err(LinkError::temporary("the model answers with what is not JSON"));
            };
            meters.observe("link.openai.evaluation_time", &context.link, start.elapsed().as_secs_f64());
            let applies = answer.get("applies").cloned().unwrap_or(Value::Bool(false));
            let yes = match &applies {
                Value::Bool(yes) => *yes,
                Value::String(text) => matches!(text.to_ascii_lowercase().as_str(), "true" | "yes"),
                _ => false,
            };
            let tag = format!("{}:{}", options.tag_name, options.tag_value);
            let schema = json!({"model": options.model, "evaluation_question": options.evaluation_question});
            vcon.add_analysis(Analysis {
                kind: &options.analysis_type,
                dialog: json!(dialog),
                vendor: self.llm.plain_vendor(&options.model),
                body: json!({"link_name": &*context.link, "tag": tag, "applies": applies}),
                encoding: "json",
                extra: vec![("vendor_schema", schema)],
            });
            if yes {
                vcon.add_tag(&options.tag_name, &options.tag_value);
                meters.count("link.openai.tags_applied", &context.link, 1);
            }
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{Scripted, analysis, chat, transcribed, with};
    use super::*;
    use crate::testing;

    fn options() -> Value {
        json!({"tag_name": "mood", "tag_value": "good", "evaluation_question": "Are they happy?",
            "source": {"text_location": "body.transcript"}, "verbosity": "low", "minimal_reasoning": true})
    }

    #[tokio::test]
    async fn yes_tags_and_no_does_not() {
        for (answer, applies, tag) in [
            (r#"{"applies": true}"#, json!(true), Some("good")),
            (r#"{"applies": false}"#, json!(false), None),
            ("{}", json!(false), None),
        ] {
            let models = Scripted::new([Ok(chat(answer))]);
            let environment = with(&models);
            let link = make(options(), &environment).unwrap();
            let mut vcon = transcribed();
            link.run(&mut vcon, &testing::context_in(environment)).await.unwrap();
            assert_eq!(vcon.tag("mood").as_deref(), tag);
            let mut made = analysis(&vcon, 1);
            let body: Value = serde_json::from_str(made["body"].take().as_str().unwrap()).unwrap();
            assert_eq!(body, json!({"link_name": "a_link", "tag": "mood:good", "applies": applies}));
            assert_eq!(
                made,
                json!({"type": "tag_evaluation", "dialog": 0, "vendor": "openai", "body": null, "encoding": "json",
                    "vendor_schema": {"model": "gpt-5", "evaluation_question": "Are they happy?"}})
            );
            let asked = models.asked.lock().unwrap().pop().unwrap();
            assert_eq!((&asked["verbosity"], &asked["reasoning_effort"]), (&json!("low"), &json!("minimal")));
            let text = asked["messages"][1]["content"].as_str().unwrap();
            assert!(text.contains("Are they happy?") && text.contains("good morning hello"), "{text}");
            assert!(asked.get("temperature").is_none());
        }
    }

    #[test]
    fn what_must_be_given_is_asked_for() {
        for name in ["tag_name", "tag_value", "evaluation_question"] {
            let mut options = options();
            options.as_object_mut().unwrap().remove(name);
            let error = make(options, &testing::environment()).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains(name)), "{name}");
        }
    }
}
