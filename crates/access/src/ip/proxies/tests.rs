use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn trusting(networks: &[&str]) -> TrustedProxies {
    with(networks, ClientIpHeader::Auto)
}

fn with(networks: &[&str], header: ClientIpHeader) -> TrustedProxies {
    let trusted_proxies = networks.iter().map(|text| text.parse().unwrap()).collect();
    TrustedProxies::new(&IpSettings { trusted_proxies, client_ip_header: header, ..IpSettings::default() })
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in pairs {
        out.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    out
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client(proxies: &TrustedProxies, peer: &str, pairs: &[(&'static str, &str)]) -> (String, Option<Proto>) {
    let client = proxies.client(ip(peer), &headers(pairs));
    (client.ip.to_string(), client.proto)
}

/// Mutation: the test for a trusted peer left out believes the first client below.
#[test]
fn forwarded_headers_count_from_trusted_proxies_only() {
    let forged = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-real-ip", "2.2.2.2"),
        ("forwarded", "for=3.3.3.3;proto=https"),
        ("x-forwarded-proto", "https"),
    ];
    for proxies in [TrustedProxies::default(), trusting(&["10.0.0.0/8"])] {
        assert_eq!(client(&proxies, "198.51.100.9", &forged), ("198.51.100.9".into(), None));
        assert!(proxies.told.load(Ordering::Relaxed), "the operator is told");
    }
    let proxies = trusting(&["10.0.0.0/8"]);
    // The headers of the guide's nginx.conf.
    let nginx =
        [("x-real-ip", "203.0.113.7"), ("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")];
    assert_eq!(client(&proxies, "10.0.0.2", &nginx), ("203.0.113.7".into(), Some(Proto::Https)));
    assert_eq!(client(&proxies, "::ffff:10.0.0.2", &nginx).0, "203.0.113.7");
    assert_eq!(client(&proxies, "10.0.0.2", &nginx[..1]).0, "203.0.113.7", "X-Real-IP alone");
    assert_eq!(client(&proxies, "10.0.0.2", &[]).0, "10.0.0.2");
}

/// Mutation: the leftmost address taken instead of the rightmost untrusted one believes 1.1.1.1.
#[test]
fn what_a_client_wrote_itself_is_not_believed() {
    let proxies = trusting(&["10.0.0.0/8", "2001:db8:ffff::/48"]);
    let of = |value: &str| client(&proxies, "10.0.0.2", &[("x-forwarded-for", value)]).0;
    assert_eq!(of("1.1.1.1, 203.0.113.7"), "203.0.113.7");
    assert_eq!(of("1.1.1.1, 203.0.113.7, 10.0.0.5, [2001:db8:ffff::1]:443"), "203.0.113.7");
    assert_eq!(of("10.9.9.9, 203.0.113.7"), "203.0.113.7", "a trusted address on the left is a word");
    assert_eq!(of("127.0.0.1, 203.0.113.7:1234"), "203.0.113.7");
    assert_eq!(of("10.0.0.9, 10.0.0.8"), "10.0.0.9", "all trusted: the client is inside");
    let two = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.7")];
    assert_eq!(client(&proxies, "10.0.0.2", &two).0, "203.0.113.7", "two lines are one list");
}

#[test]
fn what_cannot_be_read_ends_the_way() {
    let proxies = trusting(&["10.0.0.0/8"]);
    let of = |value: &str| client(&proxies, "10.0.0.2", &[("x-forwarded-for", value)]).0;
    for nothing in ["", ",,", "unknown", "203.0.113.7, _x", "1.2.3.4;5.6.7.8", "203.0.113.7.4"] {
        assert_eq!(of(nothing), "10.0.0.2", "{nothing}");
    }
    assert_eq!(of("203.0.113.7, junk, 10.0.0.5"), "10.0.0.5", "as far as it is known");
    assert_eq!(of(", 203.0.113.7 ,"), "203.0.113.7");
    let long = format!("1.1.1.1, {}10.0.0.9", "10.0.0.5, ".repeat(40));
    assert_eq!(of(&long), "10.0.0.5", "no further than the bound");
    assert_eq!(of(&"9".repeat(50_000)), "10.0.0.2");
}

#[test]
fn the_named_header_alone_counts() {
    let forged = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2"), ("x-real-ip", "3.3.3.3")];
    for (header, expected) in [
        (ClientIpHeader::XForwardedFor, "1.1.1.1"),
        (ClientIpHeader::Forwarded, "2.2.2.2"),
        (ClientIpHeader::XRealIp, "3.3.3.3"),
        (ClientIpHeader::Auto, "1.1.1.1"),
    ] {
        assert_eq!(client(&with(&["10.0.0.0/8"], header), "10.0.0.2", &forged).0, expected);
    }
    let only = with(&["10.0.0.0/8"], ClientIpHeader::XRealIp);
    assert_eq!(client(&only, "10.0.0.2", &forged[..2]).0, "10.0.0.2");
}

#[test]
fn the_scheme_is_that_of_the_client() {
    let proxies = trusting(&["10.0.0.0/8"]);
    let of = |pairs: &[(&'static str, &str)]| client(&proxies, "10.0.0.2", pairs).1;
    assert_eq!(of(&[("x-forwarded-proto", "HTTPS")]), Some(Proto::Https));
    assert_eq!(of(&[("x-forwarded-proto", "gopher")]), None);
    let chain = ("x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.0.0.5");
    assert_eq!(of(&[chain, ("x-forwarded-proto", "http, https, http")]), Some(Proto::Https));
    assert_eq!(of(&[chain, ("x-forwarded-proto", "https")]), Some(Proto::Https));
    let rfc = "for=203.0.113.7;proto=https, for=10.0.0.5;proto=http";
    assert_eq!(of(&[("forwarded", rfc)]), Some(Proto::Https));
}

proptest! {
    /// Whatever a client sends, it is seen as itself or, behind its proxy, as what that proxy saw.
    #[test]
    fn no_client_can_choose_its_address(
        sent in prop::collection::vec(prop::collection::vec(32u8..=255, 0..200), 0..4),
        seen in any::<u32>(),
    ) {
        let seen = IpAddr::from(seen.to_be_bytes());
        let proxies = trusting(&["fd00::/8"]);
        let mut headers = HeaderMap::new();
        for value in &sent {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_REAL_IP, FORWARDED] {
                    headers.append(name, value.clone());
                }
            }
        }
        prop_assert_eq!(proxies.client(seen, &headers), Client { ip: seen, proto: None });
        headers.append(X_FORWARDED_FOR, HeaderValue::from_str(&seen.to_string()).unwrap());
        prop_assert_eq!(proxies.client(ip("fd00::1"), &headers).ip, seen);
    }
}
