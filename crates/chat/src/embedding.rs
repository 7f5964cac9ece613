//! `POST /v1/embeddings`: <https://platform.openai.com/docs/api-reference/embeddings>.

use serde::{Deserialize, Serialize};

use crate::Extra;

/// The body of an embedding call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingRequest {
    /// Who shall answer: an alias, or `provider/model`.
    pub model: String,
    /// What to embed.
    pub input: EmbeddingInput,
    /// How many numbers a vector shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u64>,
    /// How vectors are written. The API's default is `float`; OpenAI's Python client asks for `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EncodingFormat>,
    /// Whose request it is, in the caller's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What to embed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of tokens, or an array of token arrays"
)]
pub enum EmbeddingInput {
    /// One text.
    Text(String),
    /// Several texts. An empty array reads as this.
    Texts(Vec<String>),
    /// One text as tokens.
    Tokens(Vec<u32>),
    /// Several texts as tokens.
    TokenArrays(Vec<Vec<u32>>),
}

/// How vectors are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// An array of numbers.
    Float,
    /// 32-bit floats, little-endian, in base64.
    Base64,
    /// A form that is not of the list.
    #[serde(untagged)]
    Other(String),
}

/// An embedding answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingResponse {
    /// `list`.
    #[serde(default)]
    pub object: String,
    /// One vector for each input, in order.
    pub data: Vec<Embedding>,
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// What the call used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<EmbeddingUsage>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// `embedding`.
    #[serde(default)]
    pub object: String,
    /// Which input it belongs to.
    #[serde(default)]
    pub index: u64,
    /// The vector.
    pub embedding: Vector,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A vector, as it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an array of numbers or a base64 string")]
pub enum Vector {
    /// Numbers.
    Floats(Vec<f32>),
    /// 32-bit floats, little-endian, in base64.
    Base64(String),
}

/// `usage` of an embedding answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingUsage {
    /// Tokens of the input.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// The same.
    #[serde(default)]
    pub total_tokens: u64,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
