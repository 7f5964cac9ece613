//! The section `limits:`.

use std::borrow::Cow;
use std::fmt;

use base::Duration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest block and the longest window that can be set.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);
/// The word for no limit.
const UNLIMITED: &str = "unlimited";

/// `limits:`, how many requests and tokens, and how many requests at once.
///
/// A limit is never exceeded within any minute, hour or day, not only within those of the calendar. When
/// several apply, a request must fit below all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Whether anything is limited at all.
    pub enabled: bool,
    /// For all callers together.
    pub global: Limits,
    /// For each key that does not set its own.
    pub per_key: Limits,
    /// For each user, as the request names them, within their group.
    #[serde(alias = "perUser")]
    pub per_user: Limits,
    /// For each group of keys that does not set its own.
    pub per_group: Limits,
    /// For each address (of IPv6: each /64 network).
    #[serde(alias = "perIP")]
    pub per_ip: IpLimits,
    /// For each address on the admin API, in the place of `per_ip`. Nothing else limits the admin API.
    pub per_ip_admin: IpLimits,
    /// Whether the limits of keys hold, `per_key` and their own. Only for a migration should this be off.
    pub enforce_key_limits: bool,
    /// Where is counted.
    pub shared: Sharing,
    /// What happens to requests with limits while Redis, where is counted, is gone.
    pub on_failure: OnFailure,
    /// How many keys, users, groups and addresses are remembered, of each kind. Of more, those that were not
    /// seen for the longest time are forgotten.
    #[schemars(range(min = 1_000, max = 10_000_000))]
    pub max_subjects: u32,
    /// Paths that are not limited by address, with everything below them.
    pub exempt_paths: Vec<String>,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            enabled: true,
            global: Limits::default(),
            per_key: Limits::default(),
            per_user: Limits::default(),
            per_group: Limits::default(),
            per_ip: IpLimits::default(),
            per_ip_admin: IpLimits::default(),
            enforce_key_limits: true,
            shared: Sharing::Auto,
            on_failure: OnFailure::Open,
            max_subjects: 100_000,
            exempt_paths: Vec::new(),
        }
    }
}

macro_rules! limits {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Limits of one key, user or group. What is left out is inherited, or not limited; `unlimited`
        /// lifts what would be inherited.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$meta])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<Limit>,)*
        }

        /// Limits of one address.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct IpLimits {
            $($(#[$meta])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<Limit>,)*
            /// Requests within a span of any other length.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub requests_per_window: Option<WindowLimit>,
            /// An address that sends more requests than it may is refused everything for so long.
            #[serde(skip_serializing_if = "Option::is_none", alias = "blockDuration")]
            pub block: Option<Duration>,
        }

        impl Limits {
            /// These limits, and `defaults` where they are silent.
            pub fn over(&self, defaults: &Limits) -> Limits {
                Limits { $($name: self.$name.or(defaults.$name),)* }
            }
        }

        impl IpLimits {
            /// Those that keys, users and groups have as well.
            pub fn common(&self) -> Limits {
                Limits { $($name: self.$name,)* }
            }
        }
    };
}

limits! {
    /// Requests within any minute.
    #[serde(alias = "rpm")]
    requests_per_minute,
    /// Requests within any hour.
    #[serde(alias = "rph")]
    requests_per_hour,
    /// Requests within any 24 hours.
    #[serde(alias = "rpd")]
    requests_per_day,
    /// Tokens, in and out, within any minute. A request is admitted by an estimate; what it took is counted.
    #[serde(alias = "tpm")]
    tokens_per_minute,
    /// Tokens within any hour.
    #[serde(alias = "tph")]
    tokens_per_hour,
    /// Tokens within any 24 hours.
    #[serde(alias = "tpd")]
    tokens_per_day,
    /// Requests in progress at once, streams until their end.
    #[serde(alias = "max_parallel_requests")]
    concurrent_requests,
    /// Requests within any second.
    burst,
}

impl Limits {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// Requests within a span of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowLimit {
    /// So many requests …
    pub requests: u64,
    /// … within any span of this length.
    pub window: Duration,
}

/// A number, or the word `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Not more than this.
    AtMost(u64),
    /// No limit, also where one would be inherited.
    Unlimited,
}

impl Limit {
    /// The number, if there is one.
    pub fn max(self) -> Option<u64> {
        match self {
            Limit::AtMost(max) => Some(max),
            Limit::Unlimited => None,
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::AtMost(max) => serializer.serialize_u64(*max),
            Limit::Unlimited => serializer.serialize_str(UNLIMITED),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl Visitor<'_> for LimitVisitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number or `{UNLIMITED}`")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Limit, E> {
                // What JavaScript and Redis still count exactly.
                match value < 1 << 53 {
                    true => Ok(Limit::AtMost(value)),
                    false => Err(de::Error::invalid_value(de::Unexpected::Unsigned(value), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Limit, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(de::Error::invalid_value(de::Unexpected::Signed(value), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Limit, E> {
                match value == UNLIMITED {
                    true => Ok(Limit::Unlimited),
                    false => Err(de::Error::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(LimitVisitor)
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 0,
            "maximum": (1u64 << 53) - 1,
            "pattern": "^unlimited$",
            "description": "A whole number or `unlimited`."
        })
    }
}

/// Where is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// In Redis when `data.redis.url` (or `data.cache`) names one, else in each replica.
    Auto,
    /// In each replica by itself: with three replicas a caller may get three times as much.
    Local,
    /// In Redis, for all replicas together; it is an error when none is set.
    Redis,
}

/// What happens to requests with limits while Redis is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// They are served, and each replica counts by itself until Redis is back.
    Open,
    /// They get 503 with `Retry-After`.
    Closed,
}

impl LimitSettings {
    /// What types alone cannot say: the path below `limits` and what to change there.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for (name, limits) in [("per_ip", &self.per_ip), ("per_ip_admin", &self.per_ip_admin)] {
            if limits.block.is_some_and(|block| block > LONGEST || block == Duration::from_secs(0)) {
                out.push((format!("{name}.block"), format!("must be from 1ms to {LONGEST}")));
            }
            let window = limits.requests_per_window.map(|limit| limit.window);
            if window.is_some_and(|window| window > LONGEST || window < Duration::from_secs(1)) {
                out.push((
                    format!("{name}.requests_per_window.window"),
                    format!("must be from 1s to {LONGEST}"),
                ));
            }
        }
        if !(1_000..=10_000_000).contains(&self.max_subjects) {
            out.push(("max_subjects".into(), "must be from 1000 to 10000000".into()));
        }
        for (index, path) in self.exempt_paths.iter().enumerate() {
            if !path.starts_with('/') {
                out.push((format!("exempt_paths[{index}]"), "must begin with `/`".into()));
            }
        }
        out
    }

    /// Whether requests to `path` are free of the limits by address.
    pub fn is_exempt(&self, path: &str) -> bool {
        self.exempt_paths.iter().any(|exempt| {
            let exempt = exempt.trim_end_matches('/');
            path.strip_prefix(exempt).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_words_and_the_guides_names() {
        let limits: Limits = serde_json::from_str(r#"{"rpm": 60, "burst": "unlimited"}"#).unwrap();
        assert_eq!(limits.requests_per_minute, Some(Limit::AtMost(60)));
        assert_eq!(limits.burst, Some(Limit::Unlimited));
        assert_eq!(
            serde_json::to_string(&limits).unwrap(),
            r#"{"requests_per_minute":60,"burst":"unlimited"}"#
        );
        for bad in [
            r#"{"rpm": -1}"#,
            r#"{"rpm": 1.5}"#,
            r#"{"rpm": "many"}"#,
            r#"{"rpm": 9007199254740992}"#,
            r#"{"rqm": 1}"#,
            r#"{"rpm": 1, "requests_per_minute": 2}"#,
        ] {
            assert!(serde_json::from_str::<Limits>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_silent_is_inherited() {
        let own: Limits = serde_json::from_str(r#"{"rpm": 5, "rpd": "unlimited"}"#).unwrap();
        let defaults: Limits = serde_json::from_str(r#"{"rpm": 60, "rpd": 100, "tpm": 7}"#).unwrap();
        let both = own.over(&defaults);
        assert_eq!(both.requests_per_minute, Some(Limit::AtMost(5)));
        assert_eq!(both.requests_per_day, Some(Limit::Unlimited));
        assert_eq!(both.tokens_per_minute, Some(Limit::AtMost(7)));
        assert!(Limits::default().is_empty() && !own.is_empty());
    }

    #[test]
    fn tells_what_makes_no_sense() {
        assert!(LimitSettings::default().problems().is_empty());
        let settings: LimitSettings = serde_json::from_str(
            r#"{"per_ip": {"block": "32d", "requests_per_window": {"requests": 1, "window": "0s"}},
                "max_subjects": 1, "exempt_paths": ["/ok", "health"]}"#,
        )
        .unwrap();
        let paths: Vec<String> = settings.problems().into_iter().map(|(path, _)| path).collect();
        let wrong = ["per_ip.block", "per_ip.requests_per_window.window", "max_subjects", "exempt_paths[1]"];
        assert_eq!(paths, wrong);
    }

    #[test]
    fn exempts_paths_and_what_is_below_them() {
        let settings = LimitSettings { exempt_paths: vec!["/health/".into()], ..LimitSettings::default() };
        assert!(settings.is_exempt("/health") && settings.is_exempt("/health/live"));
        assert!(!settings.is_exempt("/healthy") && !settings.is_exempt("/v1/health"));
    }
}
