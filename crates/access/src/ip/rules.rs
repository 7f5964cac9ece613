//! Which addresses may come in: rules of the settings and rules made by the admin API. What is denied is
//! denied whatever allows it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use foldhash::fast::RandomState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cidr::{Cidr, is_private, normal};
use super::settings::{FilterMode, FilterSettings};

/// The longest description of a rule, in characters.
const MAX_DESCRIPTION: usize = 500;

/// A rule made by the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpRule {
    /// Whether it lets in or keeps out.
    pub action: RuleAction,
    /// Whom.
    pub cidr: Cidr,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub description: Option<String>,
    /// Whether it holds.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Until when it holds, in milliseconds since 1970; without end when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

fn yes() -> bool {
    true
}

impl IpRule {
    /// What types alone cannot say.
    pub fn check(&self) -> Result<(), String> {
        match &self.description {
            Some(text) if text.chars().count() > MAX_DESCRIPTION => {
                Err(format!("the description is longer than {MAX_DESCRIPTION} characters"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a rule lets in or keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// Lets in.
    #[serde(alias = "whitelist")]
    Allow,
    /// Keeps out.
    #[serde(alias = "blacklist")]
    Deny,
}

/// Why an address may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A rule keeps it out.
    #[error("this address is denied by a rule")]
    Rule,
    /// Only some may come in, and it is none of them.
    #[error("this address is not on the list of those allowed")]
    NotAllowed,
}

/// Networks, to be searched by address in a time that does not grow with their number.
#[derive(Clone, Debug, Default)]
struct Networks {
    /// For each family and length of prefix in use: the networks, and until when they hold.
    v4: Vec<(u8, HashMap<u128, i64, RandomState>)>,
    v6: Vec<(u8, HashMap<u128, i64, RandomState>)>,
}

/// Holds without end.
const FOREVER: i64 = i64::MAX;

impl Networks {
    fn add(&mut self, cidr: &Cidr, until: i64) {
        let (ip, prefix) = cidr.parts();
        let family = match ip {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        };
        let index = family.iter().position(|(length, _)| *length == prefix).unwrap_or_else(|| {
            family.push((prefix, HashMap::default()));
            family.len() - 1
        });
        // Of two rules for one network the one that holds longer counts.
        let held = family[index].1.entry(masked(ip, prefix)).or_insert(until);
        *held = until.max(*held);
    }

    fn contain(&self, ip: IpAddr, now_ms: impl Fn() -> i64) -> bool {
        let family = match ip {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        family.iter().any(|(prefix, networks)| {
            let until = networks.get(&masked(ip, *prefix));
            until.is_some_and(|until| *until == FOREVER || *until > now_ms())
        })
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// The bits of the prefix.
fn masked(ip: IpAddr, prefix: u8) -> u128 {
    let (bits, width) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    bits.checked_shr(width - u32::from(prefix)).unwrap_or(0)
}

/// Which addresses may come in, ready to be asked. Immutable: made anew when something changes.
#[derive(Clone, Debug)]
pub struct IpRules {
    allow: Networks,
    deny: Networks,
    restrictive: bool,
    allow_private: bool,
    /// Whether everybody may come in without a look.
    open: bool,
}

impl Default for IpRules {
    fn default() -> Self {
        IpRules::new(&FilterSettings::default(), &[])
    }
}

impl IpRules {
    /// The rules of the settings and those made by the admin API.
    pub fn new(settings: &FilterSettings, made: &[IpRule]) -> Self {
        let (mut allow, mut deny) = (Networks::default(), Networks::default());
        settings.allow.iter().for_each(|cidr| allow.add(cidr, FOREVER));
        settings.deny.iter().for_each(|cidr| deny.add(cidr, FOREVER));
        for rule in made.iter().filter(|rule| rule.enabled) {
            let networks = match rule.action {
                RuleAction::Allow => &mut allow,
                RuleAction::Deny => &mut deny,
            };
            networks.add(&rule.cidr, rule.expires_at.unwrap_or(FOREVER));
        }
        let restrictive = match settings.mode {
            // An allow rule that has expired lets nobody in, and does not open the door to all either.
            FilterMode::Auto => !allow.is_empty(),
            FilterMode::Permissive => false,
            FilterMode::Restrictive => true,
        };
        let open = !settings.enabled || (!restrictive && deny.is_empty());
        IpRules { allow, deny, restrictive, allow_private: settings.allow_private, open }
    }

    /// Whether an address may come in now.
    pub fn check(&self, ip: IpAddr) -> Result<(), Denied> {
        if self.open {
            return Ok(());
        }
        self.check_at(ip, wall_clock_ms)
    }

    fn check_at(&self, ip: IpAddr, now_ms: impl Fn() -> i64) -> Result<(), Denied> {
        if self.open {
            return Ok(());
        }
        let ip = normal(ip);
        if self.deny.contain(ip, &now_ms) {
            return Err(Denied::Rule);
        }
        let allowed =
            !self.restrictive || (self.allow_private && is_private(ip)) || self.allow.contain(ip, &now_ms);
        if allowed { Ok(()) } else { Err(Denied::NotAllowed) }
    }
}

fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn settings(json: &str) -> FilterSettings {
        serde_json::from_str(json).unwrap()
    }

    fn rule(json: &str) -> IpRule {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn everybody_may_come_in_by_default() {
        let rules = IpRules::default();
        assert!(rules.open);
        assert_eq!(rules.check(ip("203.0.113.9")), Ok(()));
    }

    #[test]
    fn an_allow_list_lets_in_nobody_else() {
        let rules = IpRules::new(&settings(r#"{"allow": ["203.0.113.0/24", "2001:db8::/32"]}"#), &[]);
        for inside in ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8::5", "10.0.0.1", "::1"] {
            assert_eq!(rules.check(ip(inside)), Ok(()), "{inside}");
        }
        for outside in ["203.0.114.1", "2001:db9::1", "::ffff:8.8.8.8"] {
            assert_eq!(rules.check(ip(outside)), Err(Denied::NotAllowed), "{outside}");
        }
        let strict = IpRules::new(&settings(r#"{"mode": "restrictive", "allow_private": false}"#), &[]);
        assert_eq!(strict.check(ip("10.0.0.1")), Err(Denied::NotAllowed));
        let permissive = IpRules::new(&settings(r#"{"mode": "permissive", "allow": ["10.0.0.0/8"]}"#), &[]);
        assert_eq!(permissive.check(ip("8.8.8.8")), Ok(()));
    }

    /// Mutation: the allow list asked before the deny list lets 203.0.113.9 in.
    #[test]
    fn what_is_denied_is_denied_whatever_allows_it() {
        let rules = IpRules::new(
            &settings(r#"{"allow": ["203.0.113.9"], "deny": ["203.0.113.0/24", "10.6.6.6"]}"#),
            &[rule(r#"{"action": "whitelist", "cidr": "203.0.113.8"}"#)],
        );
        for denied in ["203.0.113.8", "203.0.113.9", "10.6.6.6", "::ffff:10.6.6.6"] {
            assert_eq!(rules.check(ip(denied)), Err(Denied::Rule), "{denied}");
        }
        assert_eq!(rules.check(ip("10.6.6.7")), Ok(()));
        let off = IpRules::new(&settings(r#"{"enabled": false, "deny": ["0.0.0.0/0"]}"#), &[]);
        assert_eq!(off.check(ip("8.8.8.8")), Ok(()));
    }

    #[test]
    fn rules_expire_and_can_be_off() {
        let made = [
            rule(r#"{"action": "deny", "cidr": "198.51.100.0/24", "expires_at": 1000}"#),
            rule(r#"{"action": "deny", "cidr": "192.0.2.0/24", "enabled": false}"#),
            rule(r#"{"action": "deny", "cidr": "198.51.100.7", "expires_at": 2000, "description": "abuse"}"#),
        ];
        let rules = IpRules::new(&FilterSettings::default(), &made);
        let at = |now: i64, text: &str| rules.check_at(ip(text), || now);
        assert_eq!(at(999, "198.51.100.1"), Err(Denied::Rule));
        assert_eq!(at(1000, "198.51.100.1"), Ok(()));
        assert_eq!(at(1999, "198.51.100.7"), Err(Denied::Rule));
        assert_eq!(at(0, "192.0.2.1"), Ok(()));
        let lapsed = [rule(r#"{"action": "allow", "cidr": "192.0.2.0/24", "expires_at": 1000}"#)];
        let rules = IpRules::new(&FilterSettings::default(), &lapsed);
        assert_eq!(rules.check_at(ip("192.0.2.1"), || 2000), Err(Denied::NotAllowed), "the door stays shut");
    }

    #[test]
    fn both_ends_of_prefixes_work() {
        let rules = IpRules::new(&settings(r#"{"deny": ["0.0.0.0/0"], "allow_private": false}"#), &[]);
        assert_eq!(rules.check(ip("255.255.255.255")), Err(Denied::Rule));
        assert_eq!(rules.check(ip("2001:db8::1")), Ok(()), "the other family");
        let rules = IpRules::new(&settings(r#"{"deny": ["::/0", "0.0.0.1/32"]}"#), &[]);
        assert_eq!(rules.check(ip("::")), Err(Denied::Rule));
        assert_eq!(rules.check(ip("0.0.0.1")), Err(Denied::Rule));
        assert_eq!(rules.check(ip("0.0.0.2")), Ok(()));
    }

    #[test]
    fn documents_are_checked() {
        assert!(serde_json::from_str::<IpRule>(r#"{"action": "deny", "cidr": "10.0.0.0/99"}"#).is_err());
        assert!(serde_json::from_str::<IpRule>(r#"{"action": "drop", "cidr": "10.0.0.0/8"}"#).is_err());
        let long = IpRule { description: Some("x".repeat(501)), ..rule(r#"{"action":"deny","cidr":"::1"}"#) };
        assert!(long.check().is_err());
    }

    proptest! {
        /// The tables answer as a plain look at every network does.
        #[test]
        fn tables_agree_with_a_plain_search(
            networks in prop::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            wide in prop::collection::vec((any::<u128>(), 0u8..=128), 0..20),
            probes in prop::collection::vec(any::<(u32, u128)>(), 1..40),
        ) {
            let v4 = networks.iter().map(|(bits, prefix)| (IpAddr::from(bits.to_be_bytes()), *prefix));
            let v6 = wide.iter().map(|(bits, prefix)| (IpAddr::from(bits.to_be_bytes()), *prefix));
            let cidrs: Vec<Cidr> =
                v4.chain(v6).map(|(ip, prefix)| format!("{ip}/{prefix}").parse().unwrap()).collect();
            let settings = FilterSettings { deny: cidrs.clone(), ..FilterSettings::default() };
            let rules = IpRules::new(&settings, &[]);
            let near = cidrs.iter().map(|cidr| cidr.parts().0);
            let far = probes.iter().flat_map(|(v4, v6)| {
                [IpAddr::from(v4.to_be_bytes()), IpAddr::from(v6.to_be_bytes())]
            });
            for ip in near.chain(far) {
                let denied = cidrs.iter().any(|cidr| cidr.contains(ip));
                prop_assert_eq!(rules.check(ip).is_err(), denied, "{}", ip);
            }
        }
    }
}
