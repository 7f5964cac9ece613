//! For the tests of links: services on sockets and models that answer from a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base::{Kind, ModelCaller, ModelError, Models, Transcription};
use bytes::Bytes;
use serde_json::{Value, json};
use testkit::{Behaviour, Reply, Upstream};

use crate::environment::Environment;
use crate::testing;
use crate::vcon::{Analysis, List, Object, Vcon};

/// A service that always answers with this JSON, and its address.
#[expect(clippy::needless_pass_by_value, reason = "so that tests can write the answer in place")]
pub(in crate::links) fn service(status: u16, answer: Value) -> (Upstream, String) {
    let upstream = Upstream::start();
    upstream.set_default(reply(status, &answer));
    let base = format!("http://127.0.0.1:{}", upstream.port());
    (upstream, base)
}

/// An answer of JSON.
pub(in crate::links) fn reply(status: u16, answer: &Value) -> Behaviour {
    let text = answer.to_string();
    Behaviour::custom("answer", move |_| Reply::whole(status, "application/json", text.clone()))
}

/// A chat's answer in OpenAI's form.
pub(in crate::links) fn chat(text: &str) -> Value {
    json!({"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"prompt_tokens": 12, "completion_tokens": 3}})
}

/// Models that answer from a script, and keep what they were asked.
#[derive(Default)]
pub(in crate::links) struct Scripted {
    answers: Mutex<VecDeque<Result<Value, ModelError>>>,
    pub(in crate::links) asked: Mutex<Vec<Value>>,
    pub(in crate::links) heard: Mutex<Vec<Transcription>>,
}

impl Scripted {
    pub(in crate::links) fn new(answers: impl IntoIterator<Item = Result<Value, ModelError>>) -> Arc<Self> {
        Arc::new(Scripted { answers: Mutex::new(answers.into_iter().collect()), ..Scripted::default() })
    }

    fn next(&self) -> Result<Bytes, ModelError> {
        let next = self.answers.lock().unwrap().pop_front().expect("the script has another answer");
        next.map(|answer| answer.to_string().into())
    }
}

/// There is no such model.
pub(in crate::links) fn no_model() -> ModelError {
    ModelError {
        kind: Kind::NotFound,
        code: "model_not_found".into(),
        message: "no such model".into(),
        retry_after: None,
    }
}

/// The model is busy.
pub(in crate::links) fn busy() -> ModelError {
    ModelError {
        kind: Kind::RateLimited,
        code: "rate_limited".into(),
        message: "later".into(),
        retry_after: None,
    }
}

#[async_trait]
impl Models for Scripted {
    async fn chat(&self, _: &ModelCaller, body: Bytes) -> Result<Bytes, ModelError> {
        self.asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        self.next()
    }

    async fn embeddings(&self, _: &ModelCaller, _: Bytes) -> Result<Bytes, ModelError> {
        Err(no_model())
    }

    async fn transcribe(&self, _: &ModelCaller, audio: Transcription) -> Result<Bytes, ModelError> {
        self.heard.lock().unwrap().push(audio);
        self.next()
    }
}

/// An environment with these models.
pub(in crate::links) fn with(models: &Arc<Scripted>) -> Environment {
    Environment { models: models.clone(), ..testing::environment() }
}

/// A vCon whose first dialog has a transcript, as Deepgram's link writes it.
pub(in crate::links) fn transcribed() -> Vcon {
    let mut vcon = testing::vcon();
    vcon.add_analysis(Analysis {
        kind: "transcript",
        dialog: json!(0),
        vendor: "deepgram",
        body: json!({"paragraphs": {"transcript": "Good morning. Hello."}, "transcript": "good morning hello"}),
        encoding: "json",
        extra: vec![],
    });
    vcon
}

/// A vCon with one more dialog, its second.
pub(in crate::links) fn with_dialog(dialog: Value) -> Vcon {
    let mut vcon = testing::vcon();
    vcon.list_mut(List::Dialog).push(serde_json::from_value::<Object>(dialog).unwrap());
    vcon
}

/// An analysis as a value.
pub(in crate::links) fn analysis(vcon: &Vcon, at: usize) -> Value {
    serde_json::to_value(&vcon.analysis()[at]).unwrap()
}
