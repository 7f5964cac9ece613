//! What a client is told: how much is left, and why it was refused.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::Kind;

use super::rules::{Measure, Rule, Scope, Span};
use super::window::{Reading, Wait};

/// How the tightest limit of one measure stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// For whom it is.
    pub scope: Scope,
    /// Over how long.
    pub span: Span,
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
    /// Until some of it comes back; if the request was refused, until it would be admitted.
    pub frees: Duration,
}

impl Allowance {
    /// `charged` is what the request itself took after the reading.
    fn new(scope: Scope, rule: &Rule, reading: &Reading, charged: u64) -> Self {
        let millis = Duration::from_millis;
        // A limit kept to the millisecond counts for that one millisecond more; nobody wants to read that.
        let fresh = reading.fresh_ms.saturating_sub(u64::from(rule.shape.slot_ms == 1));
        Allowance {
            scope,
            span: rule.span,
            limit: rule.max,
            remaining: rule.max.saturating_sub(reading.used.saturating_add(charged)),
            reset: millis(if charged > 0 { fresh } else { reading.full_ms }),
            frees: match reading.wait {
                Wait::Millis(wait) => millis(wait),
                _ if reading.used == 0 && charged > 0 => millis(fresh),
                _ => millis(reading.frees_ms),
            },
        }
    }
}

/// What is left of the limits that apply to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Of requests.
    pub requests: Option<Allowance>,
    /// Of tokens.
    pub tokens: Option<Allowance>,
}

impl Quota {
    /// Takes in one window; the tightest of each measure stays.
    pub(crate) fn add(&mut self, scope: Scope, rule: &Rule, reading: &Reading, charged: u64) {
        let allowance = Allowance::new(scope, rule, reading, charged);
        // A second's burst is told only where nothing else is: everybody is always near it.
        let order = |at: &Allowance| (at.span == Span::Second, at.remaining, std::cmp::Reverse(at.frees));
        let place = self.place(rule.measure);
        if place.as_ref().is_none_or(|other| order(&allowance) < order(other)) {
            *place = Some(allowance);
        }
    }

    /// Tells this one, however the others stand: it is why the request was refused.
    pub(crate) fn tell(&mut self, scope: Scope, rule: &Rule, reading: &Reading) {
        *self.place(rule.measure) = Some(Allowance::new(scope, rule, reading, 0));
    }

    fn place(&mut self, measure: Measure) -> &mut Option<Allowance> {
        match measure {
            Measure::Requests => &mut self.requests,
            Measure::Tokens => &mut self.tokens,
        }
    }

    /// The headers that tell it: OpenAI's and Conduit's, only of what applies.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        self.headers_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn headers_at(&self, since_epoch: Duration) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        if let Some(requests) = &self.requests {
            out.push(("x-ratelimit-limit-requests", requests.limit.to_string()));
            out.push(("x-ratelimit-remaining-requests", requests.remaining.to_string()));
            out.push(("x-ratelimit-reset-requests", short(requests.reset)));
        }
        if let Some(tokens) = &self.tokens {
            out.push(("x-ratelimit-limit-tokens", tokens.limit.to_string()));
            out.push(("x-ratelimit-remaining-tokens", tokens.remaining.to_string()));
            out.push(("x-ratelimit-reset-tokens", short(tokens.reset)));
        }
        if let Some(tightest) = self.requests.as_ref().or(self.tokens.as_ref()) {
            out.push(("x-ratelimit-limit", tightest.limit.to_string()));
            out.push(("x-ratelimit-remaining", tightest.remaining.to_string()));
            out.push(("x-ratelimit-reset", ceil_secs(since_epoch + tightest.frees).to_string()));
        }
        out
    }
}

/// OpenAI's form: `6ms`, `8.64s`, `1m0s`, `24h0m0s`.
fn short(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let mut out = String::new();
    // Writing to a string cannot fail.
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    let _ = write!(out, "{}", rest / 1_000);
    if !rest.is_multiple_of(1_000) {
        let fraction = format!("{:03}", rest % 1_000);
        let _ = write!(out, ".{}", fraction.trim_end_matches('0'));
    }
    out.push('s');
    out
}

/// Whole seconds, rounded up: who waits as long as they were told must get through.
fn ceil_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Which limit stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Requests or tokens over a span.
    Window {
        /// Of what.
        measure: Measure,
        /// Over how long.
        span: Span,
        /// The limit.
        limit: u64,
    },
    /// The request alone is thought to take more tokens than the limit.
    TooManyTokens {
        /// What it is thought to take.
        estimate: u64,
        /// Over how long.
        span: Span,
        /// The limit.
        limit: u64,
    },
    /// Requests at once.
    Concurrent {
        /// The limit.
        limit: u64,
    },
    /// The address sent too many requests before, and is refused everything for a while.
    Blocked,
    /// Where is counted is gone, and the settings say not to serve then.
    Unavailable,
}

/// Why a request was refused. Nothing was charged for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose limit it was.
    pub scope: Scope,
    /// Which.
    pub exceeded: Exceeded,
    /// When to try again; none when waiting does not help.
    pub retry_after: Option<Duration>,
    /// How the limits stand.
    pub quota: Box<Quota>,
}

impl Refusal {
    /// Its kind, the bridge to a status.
    pub fn kind(&self) -> Kind {
        match self.exceeded {
            Exceeded::Unavailable => Kind::Unavailable,
            _ => Kind::RateLimited,
        }
    }

    /// A stable name with few values, for clients, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self.exceeded {
            Exceeded::Window { measure: Measure::Requests, .. } => "requests_exceeded",
            Exceeded::Window { measure: Measure::Tokens, .. } => "tokens_exceeded",
            Exceeded::TooManyTokens { .. } => "request_too_large",
            Exceeded::Concurrent { .. } => "concurrency_exceeded",
            Exceeded::Blocked => "address_blocked",
            Exceeded::Unavailable => "limits_unavailable",
        }
    }

    /// The value of `Retry-After`: whole seconds, rounded up, at least one.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after.map(|wait| ceil_secs(wait).max(1))
    }

    /// The headers of the answer: `retry-after` and those of [`Quota::headers`].
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut out = self.quota.headers();
        out.extend(self.retry_after_secs().map(|secs| ("retry-after", secs.to_string())));
        out
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.scope {
            Scope::Ip => "your address",
            Scope::User => "this user",
            Scope::Key => "this key",
            Scope::Group => "this key's group",
            Scope::Global => "this service",
        };
        let per = |f: &mut fmt::Formatter<'_>, span: Span| match span {
            Span::Other(_) => write!(f, " within {span}"),
            _ => write!(f, " per {span}"),
        };
        match self.exceeded {
            Exceeded::Window { measure, span, limit } => {
                let what = match measure {
                    Measure::Requests => "requests",
                    Measure::Tokens => "tokens",
                };
                write!(f, "Rate limit reached: {who} is limited to {limit} {what}")?;
                per(f, span)?;
            }
            Exceeded::TooManyTokens { estimate, span, limit } => {
                write!(
                    f,
                    "Request too large: it may take {estimate} tokens, and {who} is limited to {limit}"
                )?;
                per(f, span)?;
                f.write_str(". Send less or ask for fewer tokens")?;
            }
            Exceeded::Concurrent { limit } => {
                write!(f, "Rate limit reached: {who} is limited to {limit} requests at once")?;
            }
            Exceeded::Blocked => {
                f.write_str("Your address is blocked for a while, because it sent too many requests")?;
            }
            Exceeded::Unavailable => f.write_str("Limits cannot be checked at the moment")?,
        }
        match self.retry_after_secs() {
            Some(1) => f.write_str(". Try again in 1 second."),
            Some(secs) => write!(f, ". Try again in {secs} seconds."),
            None => f.write_str("."),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::super::window::Shape;
    use super::*;

    fn rule(measure: Measure, span: Span, max: u64) -> Rule {
        Rule { measure, span, max, shape: Shape::new(span.millis(), max, measure == Measure::Tokens) }
    }

    #[test]
    fn durations_have_the_form_of_openai() {
        for (millis, text) in [
            (0, "0ms"),
            (6, "6ms"),
            (8_640, "8.64s"),
            (60_000, "1m0s"),
            (61_001, "1m1.001s"),
            (86_400_000, "24h0m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(short(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn the_tightest_of_each_measure_is_told_and_only_what_applies() {
        let read =
            |used| Reading { used, wait: Wait::None, frees_ms: 2_000, full_ms: 3_000, fresh_ms: 60_001 };
        let mut quota = Quota::default();
        assert!(quota.headers().is_empty());
        quota.add(Scope::Global, &rule(Measure::Requests, Span::Second, 2), &read(1), 1);
        quota.add(Scope::Key, &rule(Measure::Requests, Span::Minute, 60), &read(10), 1);
        quota.add(Scope::Group, &rule(Measure::Requests, Span::Hour, 50), &read(20), 1);
        let headers = quota.headers_at(Duration::from_millis(1_000_500));
        let expected = [
            ("x-ratelimit-limit-requests", "50"),
            ("x-ratelimit-remaining-requests", "29"),
            ("x-ratelimit-reset-requests", "1m0s"),
            ("x-ratelimit-limit", "50"),
            ("x-ratelimit-remaining", "29"),
            ("x-ratelimit-reset", "1003"),
        ];
        assert!(headers.iter().map(|(name, value)| (*name, value.as_str())).eq(expected), "{headers:?}");
        quota.add(Scope::Key, &rule(Measure::Tokens, Span::Minute, 1_000), &read(1_200), 0);
        let tokens = quota.tokens.unwrap();
        assert_eq!((tokens.remaining, tokens.reset), (0, Duration::from_secs(3)));
    }

    #[test]
    fn refusals_say_what_happened() {
        let refusal = |scope, exceeded, millis: Option<u64>| {
            let retry_after = millis.map(Duration::from_millis);
            Refusal { scope, exceeded, retry_after, quota: Box::default() }
        };
        let window = Exceeded::Window { measure: Measure::Requests, span: Span::Minute, limit: 60 };
        let first = refusal(Scope::User, window, Some(11_001));
        assert_eq!(
            first.to_string(),
            "Rate limit reached: this user is limited to 60 requests per minute. Try again in 12 seconds."
        );
        assert_eq!(first.headers(), [("retry-after", "12".to_owned())]);
        assert_eq!(first.kind(), Kind::RateLimited);
        let large = Exceeded::TooManyTokens { estimate: 500, span: Span::Other(90_000), limit: 100 };
        let large = refusal(Scope::Key, large, None);
        assert_eq!(
            large.to_string(),
            "Request too large: it may take 500 tokens, and this key is limited to 100 within 90s. \
             Send less or ask for fewer tokens."
        );
        assert_eq!(large.retry_after_secs(), None);
        let gone = refusal(Scope::Global, Exceeded::Unavailable, Some(3));
        assert_eq!((gone.kind(), gone.retry_after_secs()), (Kind::Unavailable, Some(1)));
    }
}
