//! What is answered, whole or in pieces.

use std::sync::Arc;

use base::Usage;
use serde_json::Value;

use super::{Part, Prompt};
use crate::Dialect;

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The provider's id of it.
    pub id: Option<String>,
    /// The model that answered, by the provider's name.
    pub model: Option<String>,
    /// The answers, one for each that was asked for.
    pub choices: Vec<Choice>,
    /// What it used, normalised.
    pub usage: Option<Usage>,
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// What the model said, in its order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: Finish,
    /// Log probabilities in OpenAI's chat form.
    pub logprobs: Option<Value>,
}

/// Why an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// It is complete.
    #[default]
    Stop,
    /// It came to a text to stop before; which, where the dialect says it.
    StopSequence(Option<String>),
    /// It is as long as it may be.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// The provider's filter withheld it.
    ContentFilter,
    /// The model would not answer.
    Refusal,
    /// A long turn is paused, to be continued (Anthropic's `pause_turn`).
    Pause,
    /// Another reason, in the provider's word.
    Other(String),
}

impl Finish {
    /// In the words of OpenAI's chat dialect, which logs and metrics use.
    pub fn as_str(&self) -> &str {
        match self {
            Finish::Stop | Finish::StopSequence(_) | Finish::Pause => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::ContentFilter | Finish::Refusal => "content_filter",
            Finish::Other(word) => word,
        }
    }
}

/// A piece of a streamed answer. Within one choice they come in the order of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// The answer begins. Once, before everything else.
    Start {
        /// The provider's id of it.
        id: Option<String>,
        /// The model that answers.
        model: Option<String>,
    },
    /// Text.
    Text {
        /// Of which answer.
        choice: u32,
        /// More of it.
        text: String,
    },
    /// Reasoning.
    Reasoning {
        /// Of which answer.
        choice: u32,
        /// More of it.
        text: String,
    },
    /// The signature of the reasoning that came before (more of it when it comes in parts), or a whole
    /// redacted one.
    Signature {
        /// Of which answer.
        choice: u32,
        /// The signature as its maker wrote it.
        signature: String,
        /// It stands for reasoning whose text is withheld.
        redacted: bool,
    },
    /// The model would not answer.
    Refusal {
        /// Of which answer.
        choice: u32,
        /// More of its words.
        text: String,
    },
    /// A call of a tool begins.
    ToolCall {
        /// Of which answer.
        choice: u32,
        /// Its number among the calls of the answer, from 0.
        index: u32,
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// See [`super::ToolCall::signature`].
        signature: Option<String>,
    },
    /// More of a call's arguments.
    Arguments {
        /// Of which answer.
        choice: u32,
        /// The call.
        index: u32,
        /// JSON, cut anywhere.
        json: String,
    },
    /// Something only one dialect knows (a citation, a step of a tool that the provider runs).
    Native {
        /// Of which answer.
        choice: u32,
        /// Whose.
        dialect: Dialect,
        /// As it stands there.
        value: Value,
    },
    /// An answer ended.
    Finish {
        /// Which.
        choice: u32,
        /// Why.
        reason: Finish,
    },
    /// What was used until now, all of it; a later one replaces an earlier.
    Usage(Usage),
    /// The proper end of the stream.
    End,
    /// The provider reports an error in the stream.
    Error {
        /// Its words.
        message: String,
    },
}

impl Piece {
    /// Whether it brings something of the answer itself.
    pub fn is_content(&self) -> bool {
        match self {
            Piece::Text { text, .. } | Piece::Reasoning { text, .. } | Piece::Refusal { text, .. } => {
                !text.is_empty()
            }
            Piece::Signature { .. } | Piece::ToolCall { .. } | Piece::Native { .. } => true,
            Piece::Arguments { json, .. } => !json.is_empty(),
            Piece::Start { .. }
            | Piece::Finish { .. }
            | Piece::Usage(_)
            | Piece::End
            | Piece::Error { .. } => false,
        }
    }
}

/// What a writer of answers needs beside the answer.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Our id of the call: letters, digits and `-`. Dialects put their own prefix before it.
    pub id: String,
    /// The model as the client named it.
    pub model: String,
    /// What the provider speaks: whose the signatures are that [`Piece`] and [`super::ToolCall`] bring raw, and
    /// that a writer seals ([`super::seal`]).
    pub origin: Dialect,
    /// Seconds since 1970.
    pub created: u64,
    /// What was asked.
    pub prompt: Arc<Prompt>,
}

/// What kind of error is told to a client; each dialect has its own words for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The request is wrong (400, 404, 413, 422).
    Invalid,
    /// The credential is missing or wrong (401).
    Authentication,
    /// It may not be done (403).
    Permission,
    /// There is no such thing (404).
    NotFound,
    /// The body is too large (413).
    TooLarge,
    /// The budget is spent (402).
    Unpaid,
    /// Too many requests or tokens (429).
    RateLimited,
    /// We or the provider serve as many as we can (503).
    Overloaded,
    /// It took too long (504).
    Timeout,
    /// We or the provider failed (500, 502).
    Server,
}
