//! OpenAI's surface.

mod bad_input;
mod passing;
