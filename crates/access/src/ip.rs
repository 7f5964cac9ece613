//! Addresses: which may come in ([`IpRules`]), whose they are behind proxies ([`TrustedProxies`]), and which
//! have tried too many wrong keys ([`Bans`]).
//!
//! An IPv4 address within IPv6 (`::ffff:10.0.0.1`, what a socket listening on `[::]` sees) is always the IPv4
//! address. Who is counted or banned is an IPv4 address or a /64 network of IPv6: that is what one customer
//! gets, and within it anybody can take any number of addresses.

mod bans;
mod cidr;
mod forwarded;
mod proxies;
mod rules;
mod settings;

pub use bans::{Ban, Banned, Bans};
pub use cidr::{Cidr, normal, source};
pub use proxies::{Client, Proto, TrustedProxies};
pub use rules::{Denied, IpRule, IpRules, RuleAction};
pub use settings::{BanSettings, ClientIpHeader, FilterMode, FilterSettings, IpSettings};

/// Which of our two doors a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// Model calls and everything else that keys open.
    Api,
    /// The admin API.
    Admin,
}
