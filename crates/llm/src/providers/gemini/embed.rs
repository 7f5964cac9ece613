//! OpenAI's embeddings from Gemini's (<https://ai.google.dev/api/embeddings>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dialects::gemini::Gemini;
use crate::openai::{ErrorBody, Refusal, error_body};
use crate::{Egress as _, Inbound, InboundBody, SendError};

/// The longest answer that is read: a hundred texts of 3 072 dimensions are 6 MB.
const MAX_ANSWER: usize = 64 << 20;
/// How many texts one call may embed.
const MAX_TEXTS: usize = 100;

/// How the answer is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    base64: bool,
}

#[derive(Deserialize)]
struct Request {
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
    /// Tokens, which are of OpenAI's own encodings.
    Other(serde::de::IgnoredAny),
}

/// `batchEmbedContents` for an OpenAI request.
pub(super) fn request(body: &[u8], model: &str) -> Result<(Bytes, Asked), Refusal> {
    let refuse = |param, message: String| Refusal { message, param: Some(param) };
    let wire: Request = serde_json::from_slice(body)
        .map_err(|e| refuse("input", format!("The request is not right: {e}.")))?;
    let texts = match wire.input {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
        Input::Other(_) => {
            let text =
                "`input` must be a text or a list of texts: this model's provider does not take tokens.";
            return Err(refuse("input", text.into()));
        }
    };
    if texts.len() > MAX_TEXTS {
        let text =
            format!("`input` must have at most {MAX_TEXTS} texts for this model's provider: split it.");
        return Err(refuse("input", text));
    }
    let base64 = match wire.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(refuse("encoding_format", "`encoding_format` must be float or base64.".into()));
        }
    };
    let one = |text: &String| {
        let mut one = json!({"model": model, "content": {"parts": [{"text": text}]}});
        if let Some(dimensions) = wire.dimensions {
            one["outputDimensionality"] = dimensions.into();
        }
        one
    };
    let requests: Vec<Value> = texts.iter().map(one).collect();
    Ok((json!({"requests": requests}).to_string().into(), Asked { base64 }))
}

/// A request that need not be sent to be refused.
pub(super) fn refused(refusal: &Refusal) -> Inbound {
    let body = error_body(&ErrorBody {
        message: refusal.message.as_str().into(),
        class: "invalid_request_error",
        param: refusal.param,
        code: Some("invalid_request"),
    });
    local(StatusCode::BAD_REQUEST, HeaderMap::new(), body)
}

/// The answer in OpenAI's form, errors too.
pub(super) async fn answer(inbound: Inbound, asked: &Asked, model: &str) -> Result<Inbound, SendError> {
    let Inbound { status, headers, body } = inbound;
    let body = body.collect(MAX_ANSWER).await.map_err(|e| SendError::Broken(e.to_string()))?;
    if status != StatusCode::OK {
        let error = Gemini.read_error(&body);
        let body = error.map_or(body, |error| {
            error_body(&ErrorBody {
                message: error.message.into(),
                class: if status.is_client_error() { "invalid_request_error" } else { "server_error" },
                param: None,
                code: error.code.as_deref(),
            })
        });
        return Ok(local(status, headers, body));
    }
    // What cannot be read is handed on, and told as malformed by who asked.
    let body = read(&body, asked, model).map_or(body, Bytes::from);
    Ok(local(status, headers, body))
}

fn read(body: &[u8], asked: &Asked, model: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        embeddings: Vec<Embedding>,
        usage_metadata: Option<Usage>,
    }
    #[derive(Deserialize)]
    struct Embedding {
        values: Vec<f32>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Usage {
        prompt_token_count: u64,
    }
    let wire: Wire = serde_json::from_slice(body).ok()?;
    let data = wire.embeddings.iter().enumerate().map(|(index, one)| {
        let embedding = match asked.base64 {
            true => {
                let bytes: Vec<u8> = one.values.iter().flat_map(|value| value.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            }
            false => json!(one.values),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let mut answer = json!({"object": "list", "data": data, "model": model});
    if let Some(Usage { prompt_token_count: tokens }) = wire.usage_metadata {
        answer["usage"] = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    }
    Some(answer.to_string())
}

fn local(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Inbound {
    // They speak of the body as it came.
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Inbound { status, headers, body: InboundBody::Local(Box::pin(stream::once(async move { body }))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_answer_change_forms() {
        let body = br#"{"model":"m","input":["a","b"],"dimensions":8,"encoding_format":"base64"}"#;
        let (sent, asked) = request(body, "models/e").unwrap();
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let one = |text: &str| json!({"model": "models/e", "content": {"parts": [{"text": text}]}, "outputDimensionality": 8});
        assert_eq!(sent, json!({"requests": [one("a"), one("b")]}));
        let came = br#"{"embeddings":[{"values":[1.0,-2.5]}],"usageMetadata":{"promptTokenCount":3}}"#;
        let told: Value = serde_json::from_str(&read(came, &asked, "e").unwrap()).unwrap();
        assert_eq!(told["data"][0]["embedding"], STANDARD.encode([0, 0, 128, 63, 0, 0, 32, 192]));
        assert_eq!(told["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
        let (_, asked) = request(br#"{"input":"a"}"#, "models/e").unwrap();
        let told: Value = serde_json::from_str(&read(came, &asked, "e").unwrap()).unwrap();
        assert_eq!(told["data"], json!([{"object": "embedding", "index": 0, "embedding": [1.0, -2.5]}]));
        assert!(read(b"{}", &asked, "e").is_none());
    }

    #[test]
    fn what_gemini_does_not_take_is_refused() {
        let many = format!(r#"{{"input":[{}"a"]}}"#, r#""a","#.repeat(100));
        for (body, says) in [
            (r#"{"input":[1,2]}"#, "tokens"),
            (r#"{"input":"a","encoding_format":"int8"}"#, "encoding_format"),
            (many.as_str(), "at most 100"),
        ] {
            let refusal = request(body.as_bytes(), "models/e").unwrap_err();
            assert!(refusal.message.contains(says), "{}", refusal.message);
            assert_eq!(refused(&refusal).status, 400);
        }
    }
}
