//! The section `access.ip:`.

use base::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Surface;
use super::cidr::Cidr;

/// The most networks in one list of the settings; more belong into the admin API.
const MAX_LIST: usize = 10_000;
/// The longest ban.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// The most wrong tries that can be forgiven.
const MOST_FAILURES: u32 = 10_000;

/// `access.ip:`, which addresses may come in, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpSettings {
    /// Which addresses may come in.
    pub filter: FilterSettings,
    /// The same for the admin API. Default: as `filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_filter: Option<FilterSettings>,
    /// Proxies in front of us, as networks. From them alone we believe who the client is; from everybody else
    /// `X-Forwarded-For` and its like mean nothing.
    pub trusted_proxies: Vec<Cidr>,
    /// Which header of a trusted proxy says who the client is.
    pub client_ip_header: ClientIpHeader,
    /// What happens to an address that tries wrong keys.
    pub bans: BanSettings,
    /// The same for the admin API, with 5 tries by default.
    pub admin_bans: AdminBanSettings,
    /// Whether this machine itself can be banned. A proxy on it that is not among `trusted_proxies` has the address
    /// of everybody.
    pub ban_loopback: bool,
}

/// Which addresses may come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilterSettings {
    /// Whether addresses are looked at.
    pub enabled: bool,
    /// What happens to addresses that no rule names.
    pub mode: FilterMode,
    /// Whether private addresses (10.0.0.0/8, 127.0.0.0/8, fd00::/8 …) may come in without a rule. One that is
    /// denied may not.
    pub allow_private: bool,
    /// These may come in.
    #[schemars(length(max = 10_000))]
    pub allow: Vec<Cidr>,
    /// These may not, whatever allows them.
    #[schemars(length(max = 10_000))]
    pub deny: Vec<Cidr>,
}

impl Default for FilterSettings {
    fn default() -> Self {
        FilterSettings {
            enabled: true,
            mode: FilterMode::Auto,
            allow_private: true,
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

/// What happens to addresses that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FilterMode {
    /// `restrictive` as soon as some rule allows an address, else `permissive`.
    Auto,
    /// They may come in.
    Permissive,
    /// They may not.
    Restrictive,
}

/// Which header of a trusted proxy says who the client is. Name the one that your proxy sets: another one may
/// be what the client sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientIpHeader {
    /// The first of these that is there.
    #[default]
    Auto,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Real-IP`.
    XRealIp,
}

macro_rules! bans {
    ($(#[$doc:meta])* $name:ident, $failures:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Whether addresses are banned.
            pub enabled: bool,
            /// So many wrong keys …
            #[schemars(range(min = 1, max = 10_000))]
            pub failures: u32,
            /// … within this time …
            pub within: Duration,
            /// … and the address is refused everything for so long. A right key in between starts anew.
            pub ban_for: Duration,
            /// Addresses that are never banned.
            #[schemars(length(max = 10_000))]
            pub exempt: Vec<Cidr>,
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    enabled: true,
                    failures: $failures,
                    within: Duration::from_secs(600),
                    ban_for: Duration::from_secs(1_800),
                    exempt: Vec::new(),
                }
            }
        }
    };
}

bans! {
    /// What happens to an address that tries wrong keys.
    BanSettings, 10
}
bans! {
    /// What happens to an address that tries wrong keys on the admin API.
    AdminBanSettings, 5
}

impl From<AdminBanSettings> for BanSettings {
    fn from(admin: AdminBanSettings) -> Self {
        let AdminBanSettings { enabled, failures, within, ban_for, exempt } = admin;
        BanSettings { enabled, failures, within, ban_for, exempt }
    }
}

impl IpSettings {
    /// Which addresses may come to a door.
    pub fn filter_of(&self, surface: Surface) -> &FilterSettings {
        match (surface, &self.admin_filter) {
            (Surface::Admin, Some(filter)) => filter,
            _ => &self.filter,
        }
    }

    /// What types alone cannot say: the path below `access.ip` and what to change there.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let admin: BanSettings = self.admin_bans.clone().into();
        for (name, bans) in [("bans", &self.bans), ("admin_bans", &admin)] {
            if !(1..=MOST_FAILURES).contains(&bans.failures) {
                out.push((format!("{name}.failures"), format!("must be from 1 to {MOST_FAILURES}")));
            }
            for (field, value) in [("within", bans.within), ("ban_for", bans.ban_for)] {
                if value < Duration::from_secs(1) || value > LONGEST {
                    out.push((format!("{name}.{field}"), format!("must be from 1s to {LONGEST}")));
                }
            }
        }
        let empty = FilterSettings::default();
        let admin_filter = self.admin_filter.as_ref().unwrap_or(&empty);
        let lists = [
            ("filter.allow", &self.filter.allow),
            ("filter.deny", &self.filter.deny),
            ("admin_filter.allow", &admin_filter.allow),
            ("admin_filter.deny", &admin_filter.deny),
            ("trusted_proxies", &self.trusted_proxies),
            ("bans.exempt", &self.bans.exempt),
            ("admin_bans.exempt", &self.admin_bans.exempt),
        ];
        for (name, list) in lists {
            if list.len() > MAX_LIST {
                out.push((name.to_owned(), format!("has {} entries; {MAX_LIST} are taken", list.len())));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_section() {
        let settings: IpSettings = serde_json::from_str(
            r#"{"filter": {"mode": "restrictive", "allow": ["10.0.0.0/8"]}, "trusted_proxies": ["::1"],
                "client_ip_header": "x-real-ip", "bans": {"failures": 3}, "admin_filter": {"enabled": false}}"#,
        )
        .unwrap();
        assert_eq!(settings.filter.mode, FilterMode::Restrictive);
        assert!(!settings.filter_of(Surface::Admin).enabled && settings.filter_of(Surface::Api).enabled);
        assert_eq!((settings.bans.failures, settings.admin_bans.failures), (3, 5));
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<IpSettings>(&text).unwrap(), settings);
        assert!(settings.problems().is_empty());
        assert!(serde_json::from_str::<IpSettings>(r#"{"filter": {"allow": ["10.0.0.0/40"]}}"#).is_err());
    }

    #[test]
    fn tells_what_makes_no_sense() {
        let settings: IpSettings = serde_json::from_str(
            r#"{"bans": {"failures": 0, "ban_for": "400d"}, "admin_bans": {"within": "0s"}}"#,
        )
        .unwrap();
        let paths: Vec<String> = settings.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["bans.failures", "bans.ban_for", "admin_bans.within"]);
    }
}
