//! A chat call in no provider's dialect: what every dialect is read into and written from when client and
//! provider speak different ones.
//!
//! The forms keep what the dialects share in meaning: turns of parts, tools and their results, images,
//! structured output, reasoning with its signature, usage, the reason to end. What one dialect says and no
//! other can is kept too, marked with whose it is ([`Part::Native`], [`Tool::Native`], [`Prompt::rest`]), so
//! that a writer can give it back to the same dialect, and tell or refuse its loss in another ([`Losses`]).

mod prompt;
mod reply;
mod seal;

pub use prompt::{
    Format, Image, Losses, Media, Part, Prompt, Reasoning, ReasoningAsk, Role, Source, Tool, ToolCall,
    ToolChoice, ToolFunction, ToolResult, Turn,
};
pub use reply::{Answer, Choice, ErrorClass, Finish, Frame, Piece};
pub use seal::{seal, unseal};
