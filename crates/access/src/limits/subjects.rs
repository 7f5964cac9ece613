//! Who a request is charged to.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::rules::{Plan, Rules, Scope};
use super::settings::Limits;
use crate::ip::source;

/// Who a request is charged to. What is left out limits nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subjects<'a> {
    /// The key.
    pub key: Option<i64>,
    /// The key's own limits; where they are silent those of `per_key` hold.
    pub key_limits: Option<&'a Limits>,
    /// The user, as the request names them; within the group, or the key that has none.
    pub user: Option<&'a str>,
    /// The key's group.
    pub group: Option<i64>,
    /// The group's own limits; where they are silent those of `per_group` hold.
    pub group_limits: Option<&'a Limits>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// Whether it counts as one of everybody's requests.
    pub global: bool,
    /// Whether it came to the admin API: then nothing but `per_ip_admin` limits it.
    pub admin: bool,
}

impl Subjects<'_> {
    /// Only an address, before it is known who asks.
    pub fn address(ip: IpAddr) -> Self {
        Subjects { ip: Some(ip), ..Subjects::default() }
    }

    /// Whether any of them has limits of its own.
    pub(crate) fn have_limits(&self) -> bool {
        self.key_limits.is_some() || self.group_limits.is_some()
    }

    /// The user's number: nobody can choose one that is another's.
    fn user_id(&self) -> Option<u128> {
        let user = self.user?;
        let mut hash = Sha256::new();
        let (kind, id) = match (self.group, self.key) {
            (Some(group), _) => (b'g', group),
            (None, Some(key)) => (b'k', key),
            (None, None) => (b'-', 0),
        };
        hash.update([kind]);
        hash.update(id.to_be_bytes());
        hash.update(user.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Some(u128::from_be_bytes(half))
    }
}

/// The number of an address.
pub(crate) fn ip_id(ip: IpAddr) -> u128 {
    match source(ip) {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The address of a number.
pub(crate) fn ip_of(id: u128) -> IpAddr {
    IpAddr::from(id.to_be_bytes()).to_canonical()
}

fn row(id: i64) -> u128 {
    u128::from(id.cast_unsigned())
}

/// What limits one request: who, and by which rules, in the order of [`Scope::ALL`].
pub(crate) type Applicable<'a> = [Option<(u128, &'a Rules)>; Scope::ALL.len()];

/// Rules made for one request, because its key or group has limits of its own.
#[derive(Default)]
pub(crate) struct Own {
    key: Option<Rules>,
    group: Option<Rules>,
}

impl Own {
    pub(crate) fn new(plan: &Plan, subjects: &Subjects<'_>) -> Self {
        let rules = |own: Option<&Limits>, defaults| own.map(|own| Rules::new(&own.over(defaults)));
        let key = subjects.key_limits.filter(|_| plan.settings.enforce_key_limits);
        Own {
            key: rules(key, &plan.settings.per_key),
            group: rules(subjects.group_limits, &plan.settings.per_group),
        }
    }

    /// What limits the request; all `None` when nothing does.
    pub(crate) fn applicable<'a>(&'a self, plan: &'a Plan, subjects: &Subjects<'_>) -> Applicable<'a> {
        let with =
            |id: Option<u128>, rules: &'a Rules| id.filter(|_| !rules.is_empty()).map(|id| (id, rules));
        let ip = subjects.ip.map(ip_id);
        if subjects.admin {
            return [with(ip, &plan.ip_admin), None, None, None, None];
        }
        let user = if plan.user.is_empty() { None } else { subjects.user_id() };
        [
            with(ip, &plan.ip),
            with(user, &plan.user),
            with(subjects.key.map(row), self.key.as_ref().unwrap_or(&plan.key)),
            with(subjects.group.map(row), self.group.as_ref().unwrap_or(&plan.group)),
            with(subjects.global.then_some(0), &plan.global),
        ]
    }
}
