//! What proxies write into headers, read byte by byte. Anybody can send anything here: nothing of it is
//! believed before [`super::proxies`] has asked who sent it, and nothing of it can make us panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cidr::normal;
use super::proxies::Proto;

/// The most proxies in a row that are looked at.
pub(crate) const MAX_HOPS: usize = 32;
/// The longest word that can be an address with a port, or a scheme.
const MAX_WORD: usize = 64;

/// One step of the way a request came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Who sent it; none when that cannot be read or is hidden.
    pub(crate) ip: Option<IpAddr>,
    /// How, if that is said.
    pub(crate) proto: Option<Proto>,
}

/// The items of a comma-separated header, the last first. Empty ones are not there.
pub(crate) fn from_last<'a>(lines: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    let items = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// The hops of `X-Forwarded-For`, the last first.
pub(crate) fn x_forwarded_for<'a>(lines: &'a [&'a [u8]]) -> impl Iterator<Item = Hop> {
    from_last(lines).take(MAX_HOPS).map(|item| Hop { ip: node(item), proto: None })
}

/// The hops of `Forwarded` (RFC 7239), the last first.
pub(crate) fn forwarded(lines: &[&[u8]]) -> Vec<Hop> {
    let mut out = Vec::new();
    for line in lines.iter().rev() {
        match elements(line) {
            Some(hops) => out.extend(hops.into_iter().rev()),
            // Where one element ends and the next begins is a guess from here on.
            None => out.push(Hop::default()),
        }
        if out.len() >= MAX_HOPS {
            break;
        }
    }
    out.truncate(MAX_HOPS);
    out
}

/// The elements of one line of `Forwarded`; none when its quotes do not match.
fn elements(line: &[u8]) -> Option<Vec<Hop>> {
    let mut out = Vec::new();
    for element in split(line, b',')? {
        if element.trim_ascii().is_empty() {
            continue;
        }
        let mut hop = Hop::default();
        for pair in split(element, b';')? {
            let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
            let value =
                value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
            if name.eq_ignore_ascii_case(b"for") {
                hop.ip = node(value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                hop.proto = proto(value);
            }
        }
        out.push(hop);
        // The last ones count: what is older than these is dropped.
        if out.len() > 2 * MAX_HOPS {
            out.drain(..MAX_HOPS);
        }
    }
    Some(out)
}

/// Cuts at `separator`, but not within quotes.
fn split(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut out, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match (*byte, quoted) {
            _ if escaped => escaped = false,
            (b'\\', true) => escaped = true,
            (b'"', _) => quoted = !quoted,
            (byte, false) if byte == separator => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    (!quoted).then_some(out)
}

/// An address, perhaps with a port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]:80`.
pub(crate) fn node(text: &[u8]) -> Option<IpAddr> {
    if text.len() > MAX_WORD {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?.trim();
    let port = |text: &str| {
        text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, after) = rest.split_once(']')?;
        return port(after).then(|| ip.parse::<Ipv6Addr>().ok())?.map(|ip| normal(ip.into()));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(normal(ip));
    }
    let (ip, after) = text.split_at(text.find(':')?);
    port(after).then(|| ip.parse::<Ipv4Addr>().ok())?.map(IpAddr::from)
}

/// `http` or `https`; what WebSockets call them too.
pub(crate) fn proto(text: &[u8]) -> Option<Proto> {
    let is = |names: [&[u8]; 2]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    match () {
        () if is([b"https", b"wss"]) => Some(Proto::Https),
        () if is([b"http", b"ws"]) => Some(Proto::Http),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn reads_addresses_with_and_without_ports() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:8080", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ] {
            assert_eq!(node(text.as_bytes()), ip(expected), "{text}");
        }
        for bad in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.7:",
            "192.0.2.7:99999",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "1.2.3",
            "fe80::1%eth0",
            "1.2.3.4 5.6.7.8",
            "localhost",
            "192.0.2.7:80:80",
        ] {
            assert_eq!(node(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(node(&[b'1'; 10_000]), None);
        assert_eq!(node(b"\xff\xfe"), None);
    }

    #[test]
    fn reads_rfc_7239() {
        let line: &[u8] =
            br#"for=192.0.2.60;proto=http;by=203.0.113.43, For="[2001:db8::17]:4711";Proto="https" ,,"#;
        let hops = forwarded(&[line, br#"for="_gazonk,odd\"x""#]);
        let hop = |address: &str, proto| Hop { ip: ip(address), proto: Some(proto) };
        assert_eq!(hops, [Hop::default(), hop("2001:db8::17", Proto::Https), hop("192.0.2.60", Proto::Http)]);
        assert_eq!(forwarded(&[b"for=1.2.3.4, for=\"5.6.7.8"]), [Hop::default()], "an open quote");
    }

    #[test]
    fn long_chains_are_cut() {
        let line = "for=1.2.3.4,".repeat(5_000) + "for=5.6.7.8";
        let hops = forwarded(&[line.as_bytes()]);
        assert_eq!((hops.len(), hops[0].ip), (MAX_HOPS, ip("5.6.7.8")));
        let line = "1.2.3.4, ".repeat(5_000);
        assert_eq!(x_forwarded_for(&[line.as_bytes()]).count(), MAX_HOPS);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5)) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            prop_assert!(x_forwarded_for(&lines).count() <= MAX_HOPS);
            prop_assert!(forwarded(&lines).len() <= MAX_HOPS);
            for line in lines {
                node(line);
                proto(line);
            }
        }

        #[test]
        fn near_misses_do_not_panic(text in "[\\[\\]0-9a-f:.\"\\\\;,= for]{0,80}") {
            forwarded(&[text.as_bytes()]);
            x_forwarded_for(&[text.as_bytes()]).for_each(drop);
        }
    }
}
