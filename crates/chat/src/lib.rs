//! Chat, embedding and error forms that the gateway, agents and flows share, in the shape of OpenAI's HTTP
//! API (<https://platform.openai.com/docs/api-reference/chat>). Pure data: nothing here does I/O.
//!
//! Two habits hold throughout. A field we do not know is kept in `extra`, so reading and writing a body
//! loses nothing; and a value we do not know (a role, a finish reason, a kind of content part) is kept as it
//! is rather than refused, because providers add new ones before we hear of them. Who needs to be strict
//! checks after reading. What an optional field leaves out and an explicit `null` mean the same in this API,
//! and are written back as leaving out.

mod chunk;
mod embedding;
mod error;
mod message;
mod request;
mod response;
mod usage;

#[cfg(test)]
mod tests;

pub use chunk::{ChatChunk, ChunkChoice, Delta, FunctionCallDelta, ToolCallDelta};
pub use embedding::{
    Embedding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EncodingFormat, Vector,
};
pub use error::{ErrorBody, ErrorDetail};
pub use message::{
    Content, ContentPart, FilePart, ImagePart, ImageUrl, InputAudio, InputAudioPart, Message, RefusalPart,
    Role, TextPart,
};
pub use request::{
    ChatRequest, FunctionDefinition, FunctionTool, JsonSchemaFormat, NamedFunction, NamedToolChoice,
    ResponseFormat, Stop, StreamOptions, Tool, ToolChoice, ToolChoiceMode,
};
pub use response::{ChatResponse, Choice, FinishReason, FunctionCall, ToolCall};
pub use usage::{CompletionTokensDetails, PromptTokensDetails, WireUsage};

/// Fields of an object that have no field of their own here, as they came.
pub type Extra = serde_json::Map<String, serde_json::Value>;
