//! Permissions: `area:action`, with `*` for either half or for both.
//!
//! A permission is a word in a settings file that somebody types, and a mistyped one that grants nothing is
//! found the day it is needed. So patterns are checked against the table of [`AREAS`] when they are read.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ADMIN: &[&str] = &["read", "write"];
const AGENT: &[&str] = &["read", "write", "execute"];

/// Every area there is, and its actions. The last rows are the words of the Paladin guide: `paladin` is
/// agents, `garrison` their memory, and so on.
pub const AREAS: &[(&str, &[&str])] = &[
    ("keys", ADMIN),
    ("groups", ADMIN),
    ("providers", ADMIN),
    ("models", &["read", "write", "call"]),
    ("prices", ADMIN),
    ("roles", ADMIN),
    ("ip", ADMIN),
    ("settings", ADMIN),
    ("usage", ADMIN),
    ("audit", ADMIN),
    ("events", ADMIN),
    ("config", ADMIN),
    ("paladin", AGENT),
    ("battalion", AGENT),
    ("garrison", AGENT),
    ("sanctum", AGENT),
    ("arsenal", AGENT),
    ("citadel", AGENT),
    ("herald", AGENT),
    ("sentinel", AGENT),
];

/// One half of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Any,
    Is(Box<str>),
}

impl Part {
    fn of(text: &str) -> Part {
        if text == "*" { Part::Any } else { Part::Is(text.into()) }
    }

    fn takes(&self, text: &str) -> bool {
        match self {
            Part::Any => true,
            Part::Is(own) => **own == *text,
        }
    }

    fn covers(&self, other: &Part) -> bool {
        matches!(self, Part::Any) || self == other
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Any => "*",
            Part::Is(text) => text,
        })
    }
}

/// A permission as a role lists it: `keys:write`, `keys:*`, `*:read` or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    area: Part,
    action: Part,
}

impl Pattern {
    /// Reads a pattern; the error says what there is.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text == "*" {
            return Ok(Pattern { area: Part::Any, action: Part::Any });
        }
        let Some((area, action)) = text.split_once(':') else {
            return Err(format!(
                "`{text}` is not a permission: write `area:action`, as `keys:read`, `keys:*`, `*:read` or `*`"
            ));
        };
        let of_area = |(name, _): &&(&str, &[&str])| area == "*" || *name == area;
        let mut known = AREAS.iter().filter(of_area).peekable();
        if known.peek().is_none() {
            let names: Vec<&str> = AREAS.iter().map(|(name, _)| *name).collect();
            return Err(format!("`{text}` names no area: there are {}", names.join(", ")));
        }
        if action != "*" && !known.clone().any(|(_, actions)| actions.contains(&action)) {
            let mut actions: Vec<&str> = known.flat_map(|(_, actions)| actions.iter().copied()).collect();
            actions.sort_unstable();
            actions.dedup();
            return Err(format!("`{text}` names no action of `{area}`: there are {}", actions.join(", ")));
        }
        Ok(Pattern { area: Part::of(area), action: Part::of(action) })
    }

    fn covers(&self, other: &Pattern) -> bool {
        self.area.covers(&other.area) && self.action.covers(&other.action)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.area, &self.action) {
            (Part::Any, Part::Any) => f.write_str("*"),
            (area, action) => write!(f, "{area}:{action}"),
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Pattern::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Permission".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(\*|([a-z]+|\*):([a-z]+|\*))$",
            "description": "A permission: `area:action`, either may be `*`; `*` alone is everything."
        })
    }
}

/// What somebody may do. Parsed once and shared: cloning it costs a count.
#[derive(Clone, PartialEq, Eq)]
pub struct Permissions(Arc<[Pattern]>);

impl Permissions {
    /// Nothing at all.
    pub fn none() -> Self {
        Permissions(Arc::from([]))
    }

    /// Everything: the master key.
    pub fn all() -> Self {
        Permissions::new([Pattern { area: Part::Any, action: Part::Any }])
    }

    /// The sum of these patterns, without what others among them cover.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        let mut kept: Vec<Pattern> = Vec::new();
        for pattern in patterns {
            if !kept.iter().any(|other| other.covers(&pattern)) {
                kept.retain(|other| !pattern.covers(other));
                kept.push(pattern);
            }
        }
        kept.sort_unstable();
        Permissions(kept.into())
    }

    /// Reads patterns; the error is that of the first that is none.
    pub fn parse<T: AsRef<str>>(patterns: &[T]) -> Result<Self, String> {
        let patterns: Result<Vec<_>, _> = patterns.iter().map(|text| Pattern::parse(text.as_ref())).collect();
        patterns.map(Permissions::new)
    }

    /// Whether `permission`, an `area:action` without `*`, is among them. A text that is no permission is
    /// allowed to nobody, not even under `*`: it is a mistake of ours, and must show in the first test.
    pub fn allows(&self, permission: &str) -> bool {
        let Some((area, action)) = permission.split_once(':') else { return false };
        self.0.iter().any(|pattern| pattern.area.takes(area) && pattern.action.takes(action))
    }

    /// Whether everything that `other` allows is allowed here: who gives rights away must have them.
    pub fn covers(&self, other: &Permissions) -> bool {
        other.0.iter().all(|wanted| self.0.iter().any(|own| own.covers(wanted)))
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, more: &Permissions) -> Self {
        Permissions::new(self.0.iter().chain(more.0.iter()).cloned())
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns, in order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.0
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pattern) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{pattern}")?;
        }
        Ok(())
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Permissions {
        Permissions::parse(patterns).unwrap()
    }

    #[test]
    fn wildcards_stand_for_either_half() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["*"], "keys:write", true),
            (&["*:*"], "audit:read", true),
            (&["garrison:*"], "garrison:write", true),
            (&["garrison:*"], "paladin:write", false),
            (&["*:read"], "usage:read", true),
            (&["*:read"], "usage:write", false),
            (&["*:read"], "models:call", false),
            (&["keys:read", "models:call"], "models:call", true),
            (&["keys:read"], "keys:write", false),
            (&[], "keys:read", false),
            (&["*"], "keys", false),
            (&["keys:*"], "key:read", false),
            (&["keys:*"], "keyss:read", false),
        ];
        for (patterns, asked, expected) in cases {
            assert_eq!(of(patterns).allows(asked), *expected, "{patterns:?} {asked}");
        }
    }

    #[test]
    fn a_mistyped_permission_is_refused_with_what_there_is() {
        for (text, expected) in [
            ("keys", "write `area:action`"),
            ("", "write `area:action`"),
            ("key:read", "there are keys, groups"),
            ("keys:wirte", "no action of `keys`: there are read, write"),
            ("keys:execute", "there are read, write"),
            ("*:fly", "there are call, execute, read, write"),
            ("keys:read:write", "no action"),
            ("Keys:read", "names no area"),
            (" keys:read", "names no area"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn sums_are_small_and_can_be_compared() {
        let sum = of(&["keys:read", "keys:*", "keys:write", "*:read"]);
        assert_eq!(sum.to_string(), "*:read, keys:*");
        assert!(Permissions::all().covers(&sum) && !sum.covers(&Permissions::all()));
        assert!(sum.covers(&of(&["audit:read", "keys:write"])) && !sum.covers(&of(&["audit:write"])));
        assert!(sum.covers(&Permissions::none()) && Permissions::none().is_empty());
        assert!(!of(&["keys:read", "groups:read"]).covers(&of(&["*:read"])));
        assert_eq!(of(&["keys:read"]).and(&of(&["*"])), Permissions::all());
        assert_eq!(serde_json::to_string(&sum).unwrap(), r#"["*:read","keys:*"]"#);
    }
}
