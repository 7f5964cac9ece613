//! Why a token is refused, and why tokens cannot be checked at all.

use std::path::PathBuf;

use base::Kind;

/// Why a bearer token is refused. Each text is a sentence for the caller: it says what to change and nothing
/// about our keys, settings or the token's own content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url with JSON in them.
    #[error("the bearer token is neither a key of ours nor a readable JSON Web Token")]
    Malformed,
    /// More than we look at.
    #[error("the bearer token is too long: at most 16 KiB are read")]
    TooLong,
    /// `alg: none`.
    #[error("the bearer token is not signed (`alg: none`): send one that its issuer has signed")]
    Unsigned,
    /// A shared-secret algorithm, an unknown one, or one that the settings leave out.
    #[error("the bearer token is signed with an algorithm that is not accepted here")]
    Algorithm,
    /// A header extension that must be understood and is not.
    #[error("the bearer token asks for an extension (`crit`) that is not understood here")]
    Critical,
    /// The issuer publishes no such key.
    #[error("the bearer token is signed with a key that its issuer does not publish: ask for a new token")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the bearer token's signature is wrong")]
    Signature,
    /// `exp` is over.
    #[error("the bearer token has expired: ask for a new one")]
    Expired,
    /// `nbf` has not come.
    #[error("the bearer token is not valid yet: compare the clocks of its issuer and of this server")]
    NotYetValid,
    /// Another `aud`.
    #[error("the bearer token is meant for another audience: ask for one for this service")]
    Audience,
    /// Another `iss`.
    #[error("the bearer token is from an issuer that is not trusted here")]
    Issuer,
    /// A claim without which we take no token.
    #[error("the bearer token lacks the claim `{0}`")]
    MissingClaim(&'static str),
    /// A claim that is not what it should be.
    #[error("the bearer token's claim `{0}` is not what it should be")]
    BadClaim(&'static str),
    /// The issuer was not reached yet, or not for too long.
    #[error("bearer tokens cannot be checked at the moment: try again soon")]
    KeysUnavailable,
}

impl TokenError {
    /// Seen from the caller's side.
    pub fn kind(self) -> Kind {
        match self {
            TokenError::KeysUnavailable => Kind::Unavailable,
            _ => Kind::Unauthenticated,
        }
    }

    /// A stable lower-case name, for metrics, logs and the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenError::Malformed => "malformed",
            TokenError::TooLong => "too_long",
            TokenError::Unsigned => "unsigned",
            TokenError::Algorithm => "algorithm",
            TokenError::Critical => "critical",
            TokenError::UnknownKey => "unknown_key",
            TokenError::Signature => "signature",
            TokenError::Expired => "expired",
            TokenError::NotYetValid => "not_yet_valid",
            TokenError::Audience => "audience",
            TokenError::Issuer => "issuer",
            TokenError::MissingClaim(_) => "missing_claim",
            TokenError::BadClaim(_) => "bad_claim",
            TokenError::KeysUnavailable => "keys_unavailable",
        }
    }

    /// Whether fresh keys from the issuer might change the answer.
    pub(super) fn may_pass_with_fresh_keys(self) -> bool {
        matches!(self, TokenError::UnknownKey | TokenError::KeysUnavailable)
    }
}

/// Why tokens cannot be checked, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A setting.
    #[error("{path}: {message}")]
    Setting {
        /// Which.
        path: String,
        /// What to write instead.
        message: String,
    },
    /// The file with further authorities.
    #[error("{path}: {message}: name a PEM file with certificates")]
    Authority {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The TLS library.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The issuer, or another service, was not reached or answered badly.
    #[error("{what}: {message}")]
    Service {
        /// What was asked, without secrets.
        what: String,
        /// What is wrong, and what to look at.
        message: String,
    },
}

impl IdentityError {
    /// Seen from a caller's side, if one ever sees it.
    pub fn kind(&self) -> Kind {
        match self {
            IdentityError::Service { .. } => Kind::Unavailable,
            _ => Kind::Internal,
        }
    }

    pub(super) fn service(what: impl Into<String>, message: impl Into<String>) -> Self {
        IdentityError::Service { what: what.into(), message: message.into() }
    }
}
