//! What a behaviour needs to know of the request that it answers.

use serde_json::Value;

/// The part of the API that a request is for, by the end of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// `…/chat/completions`
    Chat,
    /// `…/embeddings`
    Embeddings,
    /// Anthropic's `…/messages`
    Messages,
    /// Anthropic's `…/messages/count_tokens`
    CountTokens,
    /// Bedrock's `…/converse` and `…/converse-stream`
    Converse,
    /// Gemini's `…:generateContent` and `…:streamGenerateContent`
    Gemini,
    /// `…/models`
    Models,
    /// `…/completions`
    Completions,
    /// `…/responses`
    Responses,
    /// `…/responses/ID`
    Response,
    /// `…/responses/ID/input_items`
    ResponseItems,
    /// Any other path.
    Other,
}

/// The request, as far as the answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The part of the API.
    pub surface: Surface,
    /// The method is `DELETE`.
    pub delete: bool,
    /// `stream` of the body.
    pub stream: bool,
    /// `stream_options.include_usage` of the body.
    pub include_usage: bool,
    /// How many inputs an embedding request has.
    pub inputs: usize,
    /// Whether `encoding_format` of an embedding request is `base64`.
    pub base64: bool,
}

impl Surface {
    /// Whether its answers are in [`crate::native`].
    pub(crate) fn is_native(self) -> bool {
        matches!(self, Surface::Messages | Surface::CountTokens | Surface::Converse | Surface::Gemini)
    }
}

impl Ask {
    /// A chat request without streaming.
    pub fn chat() -> Ask {
        Ask {
            surface: Surface::Chat,
            delete: false,
            stream: false,
            include_usage: false,
            inputs: 1,
            base64: false,
        }
    }

    /// A streaming chat request.
    pub fn chat_stream(include_usage: bool) -> Ask {
        Ask { stream: true, include_usage, ..Ask::chat() }
    }

    /// A request for this many embeddings as numbers.
    pub fn embeddings(inputs: usize) -> Ask {
        Ask { surface: Surface::Embeddings, inputs, ..Ask::chat() }
    }

    /// Reads a request by its path and JSON body; what is absent or malformed counts as not asked for.
    pub fn of(path: &str, body: &[u8]) -> Ask {
        let path = path.split('?').next().unwrap_or_default();
        let surface = match path {
            _ if path.ends_with("/chat/completions") => Surface::Chat,
            _ if path.ends_with("/embeddings") => Surface::Embeddings,
            _ if path.ends_with("/messages") => Surface::Messages,
            _ if path.ends_with("/messages/count_tokens") => Surface::CountTokens,
            _ if path.ends_with("/converse") || path.ends_with("/converse-stream") => Surface::Converse,
            _ if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") => {
                Surface::Gemini
            }
            _ if path.ends_with("/models") => Surface::Models,
            _ if path.ends_with("/completions") => Surface::Completions,
            _ if path.ends_with("/responses") => Surface::Responses,
            _ if path.contains("/responses/") && path.ends_with("/input_items") => Surface::ResponseItems,
            _ if path.contains("/responses/") => Surface::Response,
            _ => Surface::Other,
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let inputs = match &body["input"] {
            // An array of numbers is one input, given as tokens.
            Value::Array(inputs) if !inputs.iter().all(Value::is_number) => inputs.len(),
            _ => 1,
        };
        let streams = matches!(surface, Surface::Chat | Surface::Completions | Surface::Responses);
        Ask {
            surface,
            delete: false,
            stream: match surface {
                Surface::Gemini => path.ends_with(":streamGenerateContent"),
                Surface::Converse => path.ends_with("/converse-stream"),
                Surface::Messages => body["stream"] == true,
                _ => streams && body["stream"] == true,
            },
            include_usage: body["stream_options"]["include_usage"] == true,
            inputs,
            base64: body["encoding_format"] == "base64",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_asked_for() {
        let ask = Ask::of(
            "/v1/chat/completions?x=1",
            br#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        );
        assert_eq!(ask, Ask::chat_stream(true));
        assert_eq!(Ask::of("/v1/chat/completions", b"{broken"), Ask::chat());
        assert_eq!(Ask::of("/v1/embeddings", br#"{"input":["a","b"]}"#), Ask::embeddings(2));
        assert_eq!(Ask::of("/v1/embeddings", br#"{"input":[1,2,3]}"#), Ask::embeddings(1));
        assert!(Ask::of("/v1/embeddings", br#"{"input":"a","encoding_format":"base64"}"#).base64);
        assert_eq!(Ask::of("/v1/models", b"").surface, Surface::Models);
        assert_eq!(Ask::of("/v2", b"").surface, Surface::Other);
    }
}
