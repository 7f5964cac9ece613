//! Limits as the request path wants them: a short list of windows for each scope.

use std::fmt;

use super::settings::{IpLimits, Limit, LimitSettings, Limits};
use super::window::Shape;

/// For whom a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// An address.
    Ip,
    /// A user, as the request names them.
    User,
    /// A key.
    Key,
    /// A group of keys.
    Group,
    /// Everybody together.
    Global,
}

impl Scope {
    /// Every scope, in the order in which they are asked.
    pub(crate) const ALL: [Scope; 5] = [Scope::Ip, Scope::User, Scope::Key, Scope::Group, Scope::Global];

    /// A stable lower-case name, for logs and as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Ip => "ip",
            Scope::User => "user",
            Scope::Key => "key",
            Scope::Group => "group",
            Scope::Global => "global",
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens, in and out.
    Tokens,
}

/// Over how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// A second: `burst`.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// 24 hours.
    Day,
    /// So many milliseconds.
    Other(u32),
}

impl Span {
    pub(crate) fn millis(self) -> u64 {
        match self {
            Span::Second => 1_000,
            Span::Minute => 60_000,
            Span::Hour => 3_600_000,
            Span::Day => 86_400_000,
            Span::Other(millis) => u64::from(millis),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Second => f.write_str("second"),
            Span::Minute => f.write_str("minute"),
            Span::Hour => f.write_str("hour"),
            Span::Day => f.write_str("day"),
            Span::Other(millis) => base::Duration::from_millis(u64::from(*millis)).fmt(f),
        }
    }
}

/// One window of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) measure: Measure,
    pub(crate) span: Span,
    pub(crate) max: u64,
    pub(crate) shape: Shape,
}

impl Rule {
    fn new(measure: Measure, span: Span, max: u64) -> Self {
        Rule { measure, span, max, shape: Shape::new(span.millis(), max, measure == Measure::Tokens) }
    }

    /// What a request is charged.
    pub(crate) fn amount(&self, tokens: u64) -> u64 {
        match self.measure {
            Measure::Requests => 1,
            // A request that is thought to take none must not pass an exhausted window.
            Measure::Tokens => tokens.max(1),
        }
    }
}

/// Five windows of requests, three of tokens.
const MOST: usize = 8;

/// Everything that limits one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    list: [Option<Rule>; MOST],
    /// Requests at once.
    pub(crate) concurrent: Option<u64>,
    /// For how long who exceeds a limit of requests is refused everything; 0 for not at all.
    pub(crate) block_ms: u64,
}

impl Rules {
    pub(crate) fn new(limits: &Limits) -> Self {
        let max = |limit: Option<Limit>| limit.and_then(Limit::max);
        let rule = |measure, span, limit| max(limit).map(|max| Rule::new(measure, span, max));
        Rules {
            list: [
                rule(Measure::Requests, Span::Second, limits.burst),
                rule(Measure::Requests, Span::Minute, limits.requests_per_minute),
                rule(Measure::Requests, Span::Hour, limits.requests_per_hour),
                rule(Measure::Requests, Span::Day, limits.requests_per_day),
                rule(Measure::Tokens, Span::Minute, limits.tokens_per_minute),
                rule(Measure::Tokens, Span::Hour, limits.tokens_per_hour),
                rule(Measure::Tokens, Span::Day, limits.tokens_per_day),
                None,
            ],
            concurrent: max(limits.concurrent_requests),
            block_ms: 0,
        }
    }

    pub(crate) fn for_ip(limits: &IpLimits) -> Self {
        let mut rules = Rules::new(&limits.common());
        rules.list[MOST - 1] = limits.requests_per_window.map(|limit| {
            let millis = u32::try_from(limit.window.0.as_millis()).unwrap_or(u32::MAX);
            Rule::new(Measure::Requests, Span::Other(millis), limit.requests)
        });
        rules.block_ms =
            limits.block.map_or(0, |block| u64::try_from(block.0.as_millis()).unwrap_or(u64::MAX));
        rules
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.list.iter().flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.concurrent.is_none() && self.list.iter().all(Option::is_none)
    }
}

/// `limits:`, ready for requests.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: LimitSettings,
    pub(crate) global: Rules,
    pub(crate) key: Rules,
    pub(crate) user: Rules,
    pub(crate) group: Rules,
    pub(crate) ip: Rules,
    pub(crate) ip_admin: Rules,
    /// Whether a request without limits of its own can be limited at all.
    pub(crate) any: bool,
}

impl Plan {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        let key = match settings.enforce_key_limits {
            true => Rules::new(&settings.per_key),
            false => Rules::default(),
        };
        let mut plan = Plan {
            global: Rules::new(&settings.global),
            key,
            user: Rules::new(&settings.per_user),
            group: Rules::new(&settings.per_group),
            ip: Rules::for_ip(&settings.per_ip),
            ip_admin: Rules::for_ip(&settings.per_ip_admin),
            any: false,
            settings,
        };
        let rules = [&plan.global, &plan.key, &plan.user, &plan.group, &plan.ip, &plan.ip_admin];
        plan.any = plan.settings.enabled && rules.iter().any(|rules| !rules.is_empty());
        plan
    }
}
