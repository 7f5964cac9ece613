//! One file for each subject of the API.

pub(crate) mod admin;
pub(crate) mod anthropic;
pub(crate) mod call;
pub(crate) mod ephemeral;
pub(crate) mod gemini;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod openai;
pub(crate) mod responses;
pub(crate) mod vcons;
pub(crate) mod version;
