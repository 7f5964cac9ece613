//! What several links need.

pub(super) mod chunks;
pub(super) mod filters;
pub(super) mod http;
pub(super) mod llm;
pub(super) mod multipart;
pub(super) mod process;
pub(super) mod recording;
pub(super) mod redact;
pub(super) mod retry;
pub(super) mod signature;
pub(super) mod source;
#[cfg(test)]
pub(super) mod testing;
pub(super) mod usage;
