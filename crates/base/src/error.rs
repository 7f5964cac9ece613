//! The kinds of failure, the only bridge between a domain's error and a status code.

/// What went wrong, seen from the caller's side. Each crate keeps one `thiserror` enum of causes and
/// answers `kind()`; the `server` crate alone turns a kind into an HTTP status and a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong; the text says what to change.
    Invalid,
    /// No credential, or one that is not known.
    Unauthenticated,
    /// The credential is known and may not do this.
    Forbidden,
    /// The named thing does not exist.
    NotFound,
    /// It cannot be as things stand: the name is taken, or it is fixed by the settings file.
    Conflict,
    /// Somebody else changed it since the caller read it.
    Changed,
    /// The budget does not cover it.
    Unpaid,
    /// The request is larger than a limit.
    TooLarge,
    /// The media type or encoding is not one we read.
    UnsupportedMedia,
    /// The caller (or we, at the provider) asked too often.
    RateLimited,
    /// A provider failed and nothing was left to try.
    BadGateway,
    /// We cannot serve now: every breaker open, load shed, or draining.
    Unavailable,
    /// It took longer than its limit.
    Timeout,
    /// Our own fault. The text goes to the log, never to the caller.
    Internal,
}

impl Kind {
    /// A stable lower-case name, used in logs and as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Invalid => "invalid",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::Conflict => "conflict",
            Kind::Changed => "changed",
            Kind::Unpaid => "unpaid",
            Kind::TooLarge => "too_large",
            Kind::UnsupportedMedia => "unsupported_media",
            Kind::RateLimited => "rate_limited",
            Kind::BadGateway => "bad_gateway",
            Kind::Unavailable => "unavailable",
            Kind::Timeout => "timeout",
            Kind::Internal => "internal",
        }
    }
}
