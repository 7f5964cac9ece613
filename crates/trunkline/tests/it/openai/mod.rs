//! OpenAI's surface.

mod bad_input;
mod exact;
mod headers;
mod http2;
mod malformed_http;
mod models;
mod mutated;
mod passing;
mod refusal;
mod responses;
