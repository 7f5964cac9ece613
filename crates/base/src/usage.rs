//! What a model call used, and how it ended.

/// What one call used, in tokens and what else is paid for; normalised: `cached_input` and `cache_write` are parts of `input`, `reasoning` part of `output`,
/// whatever the provider's own way of counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// The part of `input` that the provider read from its cache.
    pub cached_input: u64,
    /// The part of `input` that the provider wrote to its cache, where it counts that.
    pub cache_write: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// Pictures that were made.
    pub images: u64,
    /// What sound lasted that was listened to.
    pub milliseconds: u64,
    /// Characters that were spoken.
    pub characters: u64,
    /// Searches, or questions a list was ranked by.
    pub searches: u64,
    /// Counted here because the provider did not say.
    pub estimated: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole answer reached the client.
    Ok,
    /// The caller's request was refused (4xx), by us or by the provider.
    Refused,
    /// Every attempt failed, or the answer broke off.
    Failed,
    /// The client went away first.
    Cancelled,
}

impl Outcome {
    /// A stable lower-case name, used in logs and as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }
}
