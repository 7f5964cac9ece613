//! What is asked.

use serde_json::{Map, Value};

use crate::Dialect;

/// A chat request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// The model as the client named it.
    pub model: String,
    /// The conversation, oldest first, instructions included.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must, may or must not call one. `None`: nothing was said.
    pub tool_choice: Option<ToolChoice>,
    /// Whether one answer may hold several calls. `None`: nothing was said.
    pub parallel_tools: Option<bool>,
    /// The form of the answer.
    pub format: Format,
    /// The most tokens the answer may have, reasoning included.
    pub max_output: Option<u64>,
    /// Randomness, on OpenAI's scale of 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Only the so many likeliest tokens.
    pub top_k: Option<u64>,
    /// −2 to 2.
    pub frequency_penalty: Option<f64>,
    /// −2 to 2.
    pub presence_penalty: Option<f64>,
    /// Texts to stop before.
    pub stop: Vec<String>,
    /// For the same answer to the same request.
    pub seed: Option<i64>,
    /// How many answers to make; 0 is read as 1.
    pub choices: u32,
    /// Whether the tokens' log probabilities are asked for.
    pub logprobs: bool,
    /// How many alternatives of each token.
    pub top_logprobs: Option<u64>,
    /// How much reasoning is asked for. `None`: nothing was said.
    pub reasoning: Option<ReasoningAsk>,
    /// Whose request it is, in the caller's words (`user`, `metadata.user_id`).
    pub user: Option<String>,
    /// Labels that the caller attaches.
    pub metadata: Option<Map<String, Value>>,
    /// `auto`, `default`, `flex`, `priority` …, in OpenAI's words.
    pub service_tier: Option<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether an OpenAI client wants usage at the end of the stream.
    pub include_usage: bool,
    /// Fields of the request that have no place here, by their names in the dialect it came in.
    pub rest: Map<String, Value>,
    /// What the dialect it came in repeats in its answers, as it stands there (Responses: `instructions`, `tools`,
    /// `truncation` …). For the writer of the answer alone.
    pub echo: Map<String, Value>,
}

/// What one participant says.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// Tells apart participants of one role.
    pub name: Option<String>,
    /// What.
    pub parts: Vec<Part>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions (system or developer).
    System,
    /// The one who asks; the results of tools are its parts too.
    User,
    /// The model.
    Assistant,
}

/// One part of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text {
        /// The text. An empty one says nothing and is left out; with a mark it carries the mark of the part before
        /// it, where that is no text.
        text: String,
        /// The provider's cache may be cut after this part (`cache_control`), with the value as it came.
        cache: Option<Value>,
    },
    /// A picture.
    Image(Image),
    /// Sound.
    Audio(Media),
    /// A document.
    File(Media),
    /// What the model thought before.
    Reasoning(Reasoning),
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// What a tool gave.
    ToolResult(ToolResult),
    /// Why the model would not answer.
    Refusal(String),
    /// Something that only one dialect knows.
    Native {
        /// Whose.
        dialect: Dialect,
        /// As it stands there.
        value: Value,
    },
}

impl Part {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text { text: text.into(), cache: None }
    }
}

/// Where a picture, sound or document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// At a URL, which the provider fetches.
    Url(String),
    /// Here, in Base64 (standard alphabet).
    Base64 {
        /// For example `image/png`.
        media: String,
        /// The bytes.
        data: String,
    },
    /// Uploaded before to the provider of this dialect, under this id or URI.
    Uploaded(Dialect, String),
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where.
    pub source: Source,
    /// How closely to look: `auto`, `low`, `high`.
    pub detail: Option<String>,
}

/// Sound or a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Where.
    pub source: Source,
    /// The file's name.
    pub name: Option<String>,
}

/// A piece of reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// The text, or a summary of it; empty when it is only known encrypted.
    pub text: String,
    /// What proves to the provider that it is its own, or the encrypted reasoning itself.
    pub signature: Option<String>,
    /// Only the signature means anything: the text is withheld (Anthropic's `redacted_thinking`, OpenAI's
    /// `encrypted_content`).
    pub redacted: bool,
    /// Whose signature it is, when that is known.
    pub origin: Option<Dialect>,
    /// The provider's id of it (`rs_…`).
    pub id: Option<String>,
}

/// A tool being called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Ties the result to it. Dialects without ids are given ones that are unique in the conversation.
    pub id: String,
    /// Which.
    pub name: String,
    /// JSON of an object, as the model wrote it.
    pub arguments: String,
    /// The signature of the reasoning behind it, as its maker wrote it: Gemini's `thoughtSignature`. Dialects
    /// without a place for it carry it sealed in a piece of redacted reasoning right before the call.
    pub signature: Option<String>,
}

/// What a tool gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolResult {
    /// The call it answers.
    pub call_id: String,
    /// The tool's name, where the dialect says it. Writers who need it look it up by the call's id.
    pub name: Option<String>,
    /// Text and pictures.
    pub parts: Vec<Part>,
    /// The tool failed.
    pub is_error: bool,
}

/// Something the model may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// A function of the caller's.
    Function(ToolFunction),
    /// A tool that the provider itself runs, or of a kind that only one dialect has.
    Native {
        /// Whose.
        dialect: Dialect,
        /// As it stands there.
        value: Value,
    },
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolFunction {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON Schema of its arguments; without it there are none.
    pub parameters: Option<Value>,
    /// Whether the arguments must follow the schema exactly.
    pub strict: Option<bool>,
    /// The provider's cache may be cut after it (`cache_control`).
    pub cache: Option<Value>,
}

/// Whether a tool is called, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// One at least.
    Required,
    /// This one.
    Named(String),
}

/// The form of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Free.
    #[default]
    Text,
    /// Any JSON object.
    Json,
    /// JSON of a schema.
    Schema {
        /// Its name, where the dialect has one.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// JSON Schema.
        schema: Value,
        /// Whether it must be followed exactly.
        strict: Option<bool>,
    },
}

/// How much to reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasoningAsk {
    /// In OpenAI's words: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`.
    pub effort: Option<String>,
    /// In tokens.
    pub budget: Option<u64>,
    /// Whether the client wants to see it: OpenAI's `summary` (`auto`, `concise`, `detailed`), Gemini's
    /// `includeThoughts`.
    pub show: Option<String>,
}

impl ReasoningAsk {
    /// The share of an answer that an effort is worth, for dialects that count in tokens: 1 024 at least.
    pub fn tokens(&self) -> Option<u64> {
        self.budget.or_else(|| {
            Some(match self.effort.as_deref()? {
                "none" => 0,
                "minimal" => 1_024,
                "low" => 2_048,
                "medium" => 8_192,
                "high" => 16_384,
                _ => 32_768,
            })
        })
    }

    /// The effort that a number of tokens is worth, for dialects that count in words.
    pub fn words(&self) -> Option<&str> {
        self.effort.as_deref().or_else(|| {
            Some(match self.budget? {
                0 => "none",
                1..=1_024 => "minimal",
                1_025..=4_096 => "low",
                4_097..=12_288 => "medium",
                _ => "high",
            })
        })
    }
}

/// What a conversion could not carry over: told to the client in a header and to the operator in the log,
/// never dropped in silence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(Vec<String>);

impl Losses {
    /// Notes a field or feature, by the name the client wrote, as `logit_bias`. Once each.
    pub fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.0.contains(&what) {
            self.0.push(what);
        }
    }

    /// Notes every field of [`Prompt::rest`].
    pub fn note_rest(&mut self, prompt: &Prompt) {
        for name in prompt.rest.keys() {
            self.note(name.clone());
        }
    }

    /// Whether everything was carried over.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was lost, in the order it was found.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}
