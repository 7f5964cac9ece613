//! The table of the suite: what each fault must come to.

use testkit::Fault;

use super::case::{Case, Setting};

/// A provider: `a` has the fault, `b` is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    A,
    B,
}

impl Name {
    pub fn provider(self) -> &'static str {
        match self {
            Name::A => "a",
            Name::B => "b",
        }
    }

    pub fn model(self) -> &'static str {
        match self {
            Name::A => "up-a",
            Name::B => "up-b",
        }
    }

    pub fn target(self) -> &'static str {
        match self {
            Name::A => "a/up-a",
            Name::B => "b/up-b",
        }
    }
}

/// What the client sees.
#[derive(Debug)]
pub enum Seen {
    /// The whole answer of this provider, as it wrote it.
    Answer(Name),
    /// The provider's refusal, as it wrote it.
    Refusal { status: u16 },
    /// Our error.
    Error {
        status: u16,
        message: &'static str,
        class: &'static str,
        code: &'static str,
        retry_after: Option<&'static str>,
    },
    /// A stream of so many events of `a`, then our error event and no `[DONE]`.
    Broken { events: usize, message: &'static str, code: &'static str },
    /// The client went away.
    Left,
}

impl Seen {
    pub fn outcome(&self) -> &'static str {
        match self {
            Seen::Answer(_) => "ok",
            Seen::Refusal { .. } => "refused",
            Seen::Error { .. } | Seen::Broken { .. } => "failed",
            Seen::Left => "cancelled",
        }
    }

    /// As logged: what was sent, else 499.
    pub fn status(&self, stream: bool) -> u16 {
        match self {
            Seen::Refusal { status } | Seen::Error { status, .. } => *status,
            Seen::Left if !stream => 499,
            Seen::Answer(_) | Seen::Broken { .. } | Seen::Left => 200,
        }
    }

    /// Who answered, or was asked last.
    pub fn target(&self) -> &'static str {
        match self {
            Seen::Answer(name) => name.target(),
            _ => Name::A.target(),
        }
    }
}

/// What is recorded as used, for each call.
#[derive(Debug)]
pub enum Spent {
    /// Nobody answered.
    Nothing,
    /// What the provider counted.
    Exact,
    /// Counted here: the request, and so many tokens of what was written until the break.
    Estimated { output: u64 },
}

/// What a case must come to.
#[derive(Debug)]
pub struct Expectation {
    pub seen: Seen,
    /// In the log and as a label.
    pub error_type: Option<&'static str>,
    /// Requests that `a` and `b` received, over all calls.
    pub asked: (usize, usize),
    /// Attempts by provider and result, over all calls.
    pub results: Vec<(Name, &'static str, usize)>,
    pub spent: Spent,
    /// Answers of `a` that we left before their end; `None` where that depends on who is faster.
    pub cancelled: Option<usize>,
}

use Name::{A, B};

const SLOW: Seen = Seen::Error {
    status: 504,
    message: "`a/up-a` did not answer in time.",
    class: "server_error",
    code: "upstream_timeout",
    retry_after: None,
};

const LIMITED: Seen = Seen::Error {
    status: 429,
    message: "The provider of `a/up-a` limits our rate; try again later.",
    class: "rate_limit_error",
    code: "upstream_rate_limited",
    retry_after: Some("1"),
};

const DOWN: Seen = Seen::Error {
    status: 502,
    message: "`a/up-a` failed: it answered 503.",
    class: "server_error",
    code: "upstream_failed",
    retry_after: None,
};

/// `a` answered, at once or after one failed attempt.
fn mended(failures: &[&'static str]) -> Expectation {
    let mut results: Vec<_> = failures.iter().map(|failure| (A, *failure, 1)).collect();
    results.push((A, "ok", 1));
    Expectation {
        seen: Seen::Answer(A),
        error_type: None,
        asked: (results.len(), 0),
        results,
        spent: Spent::Exact,
        cancelled: Some(0),
    }
}

/// `a` failed so often, then `b` answered.
fn fell_back(failure: &'static str, times: usize) -> Expectation {
    Expectation {
        seen: Seen::Answer(B),
        error_type: None,
        asked: (times, 1),
        results: vec![(A, failure, times), (B, "ok", 1)],
        spent: Spent::Exact,
        cancelled: Some(0),
    }
}

/// `a` failed so often, and there is nobody else, or nobody else was to be asked.
fn gave_up(seen: Seen, failure: &'static str, times: usize) -> Expectation {
    Expectation {
        seen,
        error_type: Some(failure),
        asked: (times, 0),
        results: vec![(A, failure, times)],
        spent: Spent::Nothing,
        cancelled: Some(0),
    }
}

/// The stream of `a` broke after its first content: nobody else is asked, whoever there is.
fn broke(events: usize, code: &'static str, message: &'static str) -> Expectation {
    Expectation {
        seen: Seen::Broken { events, message, code },
        error_type: Some(code),
        // The first event is the role, every other one a token.
        spent: Spent::Estimated { output: events as u64 - 1 },
        ..mended(&[])
    }
}

fn cut(events: usize) -> Expectation {
    broke(events, "stream_broken", "The provider's answer broke off.")
}

/// The table.
pub fn expectation(case: Case) -> Expectation {
    use Setting::{Fallback, One};
    let cancelling = |expected| Expectation { cancelled: Some(1), ..expected };
    match (case.fault, case.setting, case.stream) {
        // Who limits us is waited for only when there is nobody else.
        (Fault::RateLimitedOnce, One, _) => mended(&["rate_limited"]),
        (Fault::RateLimitedOnce | Fault::RateLimited, Fallback, _) => fell_back("rate_limited", 1),
        (Fault::RateLimited, One, _) => gave_up(LIMITED, "rate_limited", 2),

        // A mishap is tried again where it happened, then elsewhere.
        (Fault::ServerErrorOnce, _, _) => mended(&["status"]),
        (Fault::Unavailable, One, _) => gave_up(DOWN, "status", 2),
        (Fault::Unavailable, Fallback, _) => fell_back("status", 2),
        (Fault::Reset, _, _) => mended(&["broken"]),
        (Fault::CutEarly, _, _) => mended(&["protocol"]),

        // Who is silent is not asked twice: that would cost the client the same time again.
        (Fault::NoResponse | Fault::SlowFirstToken, One, _) => cancelling(gave_up(SLOW, "timeout", 1)),
        (Fault::NoResponse | Fault::SlowFirstToken, Fallback, _) => cancelling(fell_back("timeout", 1)),

        // Within a stream that has begun there is no second try. A whole answer was not begun yet.
        (Fault::CutLate, _, true) => cut(4),
        (Fault::MalformedChunk, _, true) => Expectation { cancelled: None, ..cut(3) },
        (Fault::CutLate | Fault::MalformedChunk, _, false) => mended(&["protocol"]),
        (Fault::Stall, _, true) => cancelling(broke(3, "stream_stalled", "The provider fell silent.")),
        (Fault::Stall, One, false) => cancelling(gave_up(SLOW, "timeout", 1)),
        (Fault::Stall, Fallback, false) => cancelling(fell_back("timeout", 1)),

        // The answer is whole: its terminator is ours to add.
        (Fault::MissingDone, _, _) => mended(&[]),

        // Everybody would say the same, in the provider's own words.
        (Fault::ContextOverflow | Fault::ContentFilter, _, _) => {
            gave_up(Seen::Refusal { status: 400 }, "refused", 1)
        }

        // Three calls, each with a failure and a good answer: never so many in a row that a breaker opens.
        (Fault::Flapping, _, _) => Expectation {
            asked: (6, 0),
            results: vec![(A, "status", 2), (A, "broken", 1), (A, "ok", 3)],
            ..mended(&[])
        },

        (Fault::ClientGone, _, stream) => Expectation {
            seen: Seen::Left,
            // An attempt that the client ended has no result yet when nothing was sent to it.
            results: if stream { vec![(A, "ok", 1)] } else { Vec::new() },
            // The provider had the prompt in hand; what it wrote of a whole answer is not known.
            spent: Spent::Estimated { output: u64::from(stream) },
            ..cancelling(mended(&[]))
        },
        (other, _, _) => unreachable!("{other:?} is not of the sixteen"),
    }
}
