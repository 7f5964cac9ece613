//! Messages, in requests and in answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Extra, ToolCall};

/// One message, of a request or of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said; `null` beside tool calls.
    #[serde(default)]
    pub content: Option<Content>,
    /// Tells apart participants of one role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tools the assistant calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Why the assistant would not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Everything else (`audio`, `annotations`, `reasoning_content` …).
    #[serde(flatten)]
    pub extra: Extra,
}

impl Message {
    /// A message of plain text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message { role, content: Some(Content::Text(text.into())), ..Message::default() }
    }

    /// The message's text: its text parts, each on its own line.
    pub fn plain_text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                let texts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| match part {
                        ContentPart::Text(part) => Some(part.text.as_str()),
                        _ => None,
                    })
                    .collect();
                texts.join("\n")
            }
        }
    }
}

/// Who says a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions (the older name).
    System,
    /// Instructions.
    Developer,
    /// The one who asks.
    #[default]
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
    /// A role that is not of the list.
    #[serde(untagged)]
    Other(String),
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of content parts")]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text, images, sound and files in order.
    Parts(Vec<ContentPart>),
}

/// One part of a message's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
    /// Text.
    Text(TextPart),
    /// An image.
    ImageUrl(ImagePart),
    /// Sound.
    InputAudio(InputAudioPart),
    /// A document.
    File(FilePart),
    /// What the assistant said when it would not answer.
    Refusal(RefusalPart),
    /// A part that is none of these, or not well formed.
    #[serde(untagged)]
    Other(Value),
}

/// `{"type": "text"}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextPart {
    /// The text.
    pub text: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `{"type": "image_url"}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImagePart {
    /// Where the image is.
    pub image_url: ImageUrl,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An image's address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageUrl {
    /// `https:` or `data:`.
    pub url: String,
    /// How closely to look: `auto`, `low`, `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `{"type": "input_audio"}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputAudioPart {
    /// The sound.
    pub input_audio: InputAudio,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Sound, inline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputAudio {
    /// Base64.
    pub data: String,
    /// `wav` or `mp3`.
    pub format: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `{"type": "file"}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FilePart {
    /// The file: `file_id`, or `file_data` (base64) with `filename`.
    pub file: Extra,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `{"type": "refusal"}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RefusalPart {
    /// Why.
    pub refusal: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
