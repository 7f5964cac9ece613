//! Which addresses are nobody's business but ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

/// What may be reached.
#[derive(Debug)]
pub(super) struct Allowed {
    everything: bool,
    hosts: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl Allowed {
    /// Reads host names, addresses and networks.
    pub(super) fn read(everything: bool, entries: &[String]) -> Result<Self, String> {
        let (mut hosts, mut networks) = (Vec::new(), Vec::new());
        for entry in entries {
            let entry = entry.trim();
            let (address, bits) = entry.split_once('/').map_or((entry, None), |(a, bits)| (a, Some(bits)));
            match (address.parse::<IpAddr>(), bits) {
                (Ok(address), None) => networks.push((address, width(address))),
                (Ok(address), Some(bits)) => match bits.parse::<u8>() {
                    Ok(bits) if bits <= width(address) => networks.push((address, bits)),
                    _ => return Err(format!("`{entry}` is not a network: write it as 10.1.0.0/16")),
                },
                (Err(_), None) if is_name(entry) => hosts.push(entry.to_ascii_lowercase()),
                _ => return Err(format!("`{entry}` is neither a host name nor an address nor a network")),
            }
        }
        Ok(Allowed { everything, hosts, networks })
    }

    /// Whether this may be asked for: a name may, its addresses are looked at later.
    pub(super) fn literal(&self, host: &Host<&str>) -> bool {
        match host {
            Host::Domain(_) => true,
            Host::Ipv4(address) => self.address(IpAddr::V4(*address)),
            Host::Ipv6(address) => self.address(IpAddr::V6(*address)),
        }
    }

    /// Whether every address of this name may be reached.
    pub(super) fn name(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name.trim_end_matches('.')))
    }

    /// Whether this address may be reached.
    pub(super) fn address(&self, address: IpAddr) -> bool {
        self.everything
            || is_public(address)
            || self.networks.iter().any(|(network, bits)| contains(*network, *bits, address))
    }
}

/// What the operator is told.
pub(super) fn refusal(host: &str) -> String {
    format!(
        "{host} is a private or reserved address, which a vCon may not name: add it to `allow_urls` if it may"
    )
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let (a, b) = match (network, address.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits()),
        _ => return false,
    };
    // Shifting by all 128 bits is not defined.
    bits == 0 || (a ^ b) >> (128 - u32::from(bits)) == 0
}

/// Whether an address is of the public internet, by IANA's registries of special addresses.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        0 | 10 | 127 => true,
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => a >= 224,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let bits = address.to_bits();
    // Forms of IPv6 that carry an IPv4 address lead where that one leads.
    let inner = match (a, b) {
        (0, 0) if bits >> 32 == 0xffff || bits >> 32 == 0 => Some(bits as u32),
        (0x64, 0xff9b) if bits << 32 >> 64 == 0 => Some(bits as u32),
        (0x2002, _) => Some((bits >> 80) as u32),
        _ => None,
    };
    match inner {
        // `::` and `::1` are 0.0.0.0 and 0.0.0.1, both of which are special.
        Some(inner) => is_public_v4(Ipv4Addr::from_bits(inner)),
        // Global unicast, without the protocols' own and the examples' networks.
        None => {
            (0x2000..0x4000).contains(&a)
                && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
                && !(a == 0x3fff && b < 0x1000)
        }
    }
}
