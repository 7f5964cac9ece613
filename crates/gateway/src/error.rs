//! What can end a model call without an answer.

use std::time::Duration;

use base::Kind;

/// Why there is no answer. The texts are for the caller: they say what to change, or what was tried, and
/// never carry a provider's own words or an internal detail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Refused(#[from] llm::openai::Refusal),
    /// The caller's role does not let it call models.
    #[error("This key may not call models: use a virtual key that belongs to a group.")]
    NotPermitted,
    /// The key is for other models.
    #[error("This key may not call the model `{model}`; see /v1/models for those it may.")]
    ModelNotAllowed {
        /// What was asked for.
        model: String,
    },
    /// The budget.
    #[error(transparent)]
    Unpaid(#[from] access::Unpaid),
    /// Too many requests or tokens.
    #[error("{0}")]
    Limited(access::limits::Refusal),
    /// Nobody knows the model.
    #[error(
        "The model `{model}` does not exist: use a name from /v1/models, or `provider/model` with one of the providers {providers}."
    )]
    UnknownModel {
        /// What was asked for.
        model: String,
        /// The providers there are, for people.
        providers: String,
    },
    /// This replica has as much in hand as it takes.
    #[error("This replica is serving as many requests as it takes; try again shortly.")]
    Overloaded,
    /// Every target is left alone after failing.
    #[error("Every target of `{model}` has failed repeatedly and is left alone for now.")]
    AllOpen {
        /// What was asked for.
        model: String,
        /// Until the first of them is tried again.
        retry_after: Duration,
    },
    /// Every target is at its `max_concurrent_requests`.
    #[error("Every target of `{model}` is serving as many requests as it takes; try again shortly.")]
    AllBusy {
        /// What was asked for.
        model: String,
    },
    /// The provider limits us.
    #[error("The provider of `{target}` limits our rate; try again later.")]
    RateLimited {
        /// `provider/model`.
        target: String,
        /// What the provider asked for.
        retry_after: Duration,
    },
    /// The provider does not take our credential.
    #[error(
        "The provider of `{target}` refused the credential configured for it; its operator must mend that."
    )]
    Credential {
        /// `provider/model`.
        target: String,
    },
    /// The last target failed.
    #[error("`{target}` failed: {what}.")]
    Failed {
        /// `provider/model`.
        target: String,
        /// In words that hold nothing internal.
        what: String,
    },
    /// The time was over.
    #[error("`{target}` did not answer in time.")]
    TooSlow {
        /// `provider/model`.
        target: String,
    },
}

impl Error {
    /// Its kind, the bridge to a status.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Refused(_) => Kind::Invalid,
            Error::NotPermitted | Error::ModelNotAllowed { .. } => Kind::Forbidden,
            Error::Unpaid(access::Unpaid::Insufficient { .. }) => Kind::Unpaid,
            Error::Limited(refusal) => refusal.kind(),
            Error::UnknownModel { .. } => Kind::NotFound,
            Error::Unpaid(access::Unpaid::Unavailable)
            | Error::Overloaded
            | Error::AllOpen { .. }
            | Error::AllBusy { .. } => Kind::Unavailable,
            Error::RateLimited { .. } => Kind::RateLimited,
            Error::Credential { .. } | Error::Failed { .. } => Kind::BadGateway,
            Error::TooSlow { .. } => Kind::Timeout,
        }
    }

    /// What a program may act on.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Refused(_) => "invalid_request",
            Error::NotPermitted => "permission_denied",
            Error::ModelNotAllowed { .. } => "model_not_allowed",
            Error::Unpaid(access::Unpaid::Insufficient { .. }) => "insufficient_quota",
            Error::Unpaid(access::Unpaid::Unavailable) => "budget_unavailable",
            Error::Limited(refusal) => refusal.code(),
            Error::UnknownModel { .. } => "model_not_found",
            Error::Overloaded => "overloaded",
            Error::AllOpen { .. } => "all_targets_unavailable",
            Error::AllBusy { .. } => "all_targets_busy",
            Error::RateLimited { .. } => "upstream_rate_limited",
            Error::Credential { .. } => "upstream_credential_refused",
            Error::Failed { .. } => "upstream_failed",
            Error::TooSlow { .. } => "upstream_timeout",
        }
    }

    /// The field of the request it is about.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Error::Refused(refusal) => refusal.param,
            Error::UnknownModel { .. } | Error::ModelNotAllowed { .. } => Some("model"),
            _ => None,
        }
    }

    /// How the limits stand that refused it, as headers.
    pub fn limit_headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Error::Limited(refusal) => refusal.quota.headers(),
            _ => Vec::new(),
        }
    }

    /// How long the caller should wait, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Unpaid(access::Unpaid::Unavailable) | Error::Overloaded | Error::AllBusy { .. } => {
                Some(Duration::from_secs(1))
            }
            Error::Limited(refusal) => refusal.retry_after,
            Error::AllOpen { retry_after, .. } | Error::RateLimited { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}
