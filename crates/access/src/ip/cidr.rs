//! Networks: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The prefix of `::ffff:0:0/96`, IPv4 within IPv6.
const MAPPED: u8 = 96;
/// What one customer of IPv6 gets.
const CUSTOMER: u32 = 64;

/// A network, or one address. Bits beyond the prefix are cleared: `10.1.2.3/8` is `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(IpNet);

/// An address in its one form: IPv4 within IPv6 is IPv4.
pub fn normal(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Whom an address is counted as: itself, or the first address of its /64 network.
pub fn source(ip: IpAddr) -> IpAddr {
    match normal(ip) {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> CUSTOMER << CUSTOMER).into(),
        ip => ip,
    }
}

impl Cidr {
    /// Reads a network or an address; the error says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not an address or network: write `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`"
            )
        };
        let text = text.trim();
        let net = match text.contains('/') {
            true => text.parse::<IpNet>().map_err(|_| wrong())?,
            false => IpNet::from(text.parse::<IpAddr>().map_err(|_| wrong())?),
        };
        Ok(Cidr::new(net))
    }

    fn new(net: IpNet) -> Self {
        let net = net.trunc();
        if let IpNet::V6(v6) = net
            && let Some(v4) = v6.addr().to_ipv4_mapped()
            && v6.prefix_len() >= MAPPED
            && let Ok(net) = IpNet::new(v4.into(), v6.prefix_len() - MAPPED)
        {
            return Cidr(net);
        }
        Cidr(net)
    }

    /// Just this address.
    pub fn of(ip: IpAddr) -> Self {
        Cidr(IpNet::from(normal(ip)))
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&normal(ip))
    }

    /// Its first address and the length of its prefix.
    pub(crate) fn parts(&self) -> (IpAddr, u8) {
        (self.0.addr(), self.0.prefix_len())
    }
}

/// Whether nobody on the internet has this address: private, loopback, link-local and shared (RFC 6598).
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match normal(ip) {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Cidr::parse(text)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Cidr::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 64,
            "pattern": "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$",
            "description": "A network or an address, as `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn reads_networks_and_addresses_in_one_form() {
        for (text, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            (" 192.0.2.7 ", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("::1", "::1"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(Cidr::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "010.0.0.1",
            "fe80::1%eth0",
            "a",
            "10.0.0.1/",
            "/8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "1.2.3.4-1.2.3.9",
        ] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn families_are_apart_and_mapped_addresses_are_ipv4() {
        let all_v6 = Cidr::parse("::/0").unwrap();
        assert!(all_v6.contains(ip("2001:db8::1")) && !all_v6.contains(ip("192.0.2.1")));
        assert!(!all_v6.contains(ip("::ffff:192.0.2.1")));
        assert!(Cidr::parse("192.0.2.0/24").unwrap().contains(ip("::ffff:192.0.2.200")));
        let edge = Cidr::parse("192.0.2.128/25").unwrap();
        assert!(edge.contains(ip("192.0.2.128")) && edge.contains(ip("192.0.2.255")));
        assert!(!edge.contains(ip("192.0.2.127")) && !edge.contains(ip("192.0.3.0")));
    }

    #[test]
    fn a_network_of_a_customer_is_one_source() {
        assert_eq!(source(ip("2001:db8:1:2:3:4:5:6")), source(ip("2001:db8:1:2::1")));
        assert_ne!(source(ip("2001:db8:1:2::1")), source(ip("2001:db8:1:3::1")));
        assert_eq!(source(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn private_addresses_are_known() {
        for private in [
            "10.1.1.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(ip(private)), "{private}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!is_private(ip(public)), "{public}");
        }
    }
}
