//! What a client is told: how much is left, and why it was refused.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::Kind;
use http::{HeaderMap, HeaderName, HeaderValue};

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
        let mut out = Vec::new();
        self.tell_each(since_epoch(), |at, text| out.push((NAMES[at], text.to_owned())));
        out
    }

    /// Adds these headers to those of an answer.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        self.tell_each(since_epoch(), |at, text| {
            headers.extend(HeaderValue::from_str(text).ok().map(|text| (HEADERS[at].clone(), text)));
        });
    }

    /// Every header, by its place in [`NAMES`]. Every answer has nine of them where a key has limits of both kinds:
    /// so they are written by hand, into one text.
    fn tell_each(&self, since_epoch: Duration, mut tell: impl FnMut(usize, &str)) {
        let mut number = itoa::Buffer::new();
        let mut reset = String::new();
        for (first, allowance) in [(0, &self.requests), (3, &self.tokens)] {
            let Some(allowance) = allowance else { continue };
            tell(first, number.format(allowance.limit));
            tell(first + 1, number.format(allowance.remaining));
            reset.clear();
            short(&mut reset, allowance.reset);
            tell(first + 2, &reset);
        }
        if let Some(tightest) = self.requests.as_ref().or(self.tokens.as_ref()) {
            tell(6, number.format(tightest.limit));
            tell(7, number.format(tightest.remaining));
            tell(8, number.format(ceil_secs(since_epoch + tightest.frees)));
        }
    }
}

/// The headers' names, in the order in which they are told.
const NAMES: [&str; 9] = [
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];
/// The same, as they are put into an answer.
static HEADERS: [HeaderName; 9] = {
    let [a, b, c, d, e, f, g, h, i] = NAMES;
    [
        HeaderName::from_static(a),
        HeaderName::from_static(b),
        HeaderName::from_static(c),
        HeaderName::from_static(d),
        HeaderName::from_static(e),
        HeaderName::from_static(f),
        HeaderName::from_static(g),
        HeaderName::from_static(h),
        HeaderName::from_static(i),
    ]
};

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// OpenAI's form: `6ms`, `8.64s`, `1m0s`, `24h0m0s`.
fn short(out: &mut String, duration: Duration) {
    let mut number = itoa::Buffer::new();
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis < 1_000 {
        out.push_str(number.format(millis));
        out.push_str("ms");
        return;
    }
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    if hours > 0 {
        out.push_str(number.format(hours));
        out.push('h');
    }
    if hours > 0 || minutes > 0 {
        out.push_str(number.format(minutes));
        out.push('m');
    }
    out.push_str(number.format(rest / 1_000));
    let fraction = rest % 1_000;
    if fraction > 0 {
        // Three digits, of which those that say nothing go; the first is there for the zeros before the others.
        let digits = number.format(1_000 + fraction);
        out.push('.');
        out.push_str(digits[1..].trim_end_matches('0'));
    }
    out.push('s');
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
            (1_050, "1.05s"),
            (86_400_000, "24h0m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            let mut out = String::new();
            short(&mut out, Duration::from_millis(millis));
            assert_eq!(out, text);
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
        let mut headers = Vec::new();
        quota.tell_each(Duration::from_millis(1_000_500), |at, text| {
            headers.push((NAMES[at], text.to_owned()));
        });
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
        let mut map = HeaderMap::new();
        quota.add_to(&mut map);
        let told = quota.headers();
        assert!(map.len() == 9 && told.iter().all(|(name, text)| map[*name] == text.as_str()), "{map:?}");
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
