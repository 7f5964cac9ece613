//! Who the client is when there are proxies in front of us.
//!
//! A header is believed as far as it was written by somebody we trust. The peer of the connection is known;
//! if it is a trusted proxy, the last address in the header is the one that it saw; if that is a trusted
//! proxy too, the one before it was seen by that, and so on. The first that is not trusted is the client.
//! What stands further left the client may have written itself.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, header::FORWARDED};

use super::cidr::{Cidr, normal};
use super::forwarded::{self, Hop};
use super::settings::{ClientIpHeader, IpSettings};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// The most lines of one header that are looked at, the last ones.
const MAX_LINES: usize = 32;

/// The scheme the client used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proto {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Proto {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Proto::Http => "http",
            Proto::Https => "https",
        }
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address; that of the peer when nobody we trust says otherwise.
    pub ip: IpAddr,
    /// How the client speaks to the first proxy, if a trusted one says so.
    pub proto: Option<Proto>,
}

/// The proxies we trust. By default nobody.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<Cidr>,
    header: ClientIpHeader,
    /// Whether the operator was told of a header that is not believed.
    told: AtomicBool,
}

impl TrustedProxies {
    /// Those of the settings.
    pub fn new(settings: &IpSettings) -> Self {
        TrustedProxies {
            networks: settings.trusted_proxies.clone(),
            header: settings.client_ip_header,
            told: AtomicBool::new(false),
        }
    }

    /// Whether this is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }

    /// Who sent a request that came from `peer`.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = normal(peer);
        if !self.contains(peer) {
            self.tell(peer, headers);
            return Client { ip: peer, proto: None };
        }
        let lines = |name: &HeaderName| -> Vec<&[u8]> {
            let mut lines: Vec<&[u8]> =
                headers.get_all(name).iter().rev().take(MAX_LINES).map(http::HeaderValue::as_bytes).collect();
            lines.reverse();
            lines
        };
        let which = match self.header {
            ClientIpHeader::Auto if headers.contains_key(X_FORWARDED_FOR) => ClientIpHeader::XForwardedFor,
            ClientIpHeader::Auto if headers.contains_key(FORWARDED) => ClientIpHeader::Forwarded,
            ClientIpHeader::Auto => ClientIpHeader::XRealIp,
            named => named,
        };
        let (ip, depth, proto) = match which {
            ClientIpHeader::Forwarded => {
                self.walk(peer, forwarded::forwarded(&lines(&FORWARDED)).into_iter())
            }
            ClientIpHeader::XRealIp => {
                let last = lines(&X_REAL_IP).last().and_then(|value| forwarded::node(value.trim_ascii()));
                (last.unwrap_or(peer), 0, None)
            }
            _ => self.walk(peer, forwarded::x_forwarded_for(&lines(&X_FORWARDED_FOR))),
        };
        // Proxies that add to the list add to both; one that sets it leaves one item.
        let said = || {
            let lines = lines(&X_FORWARDED_PROTO);
            let items: Vec<&[u8]> = forwarded::from_last(&lines).take(forwarded::MAX_HOPS).collect();
            items.get(depth).or(items.last()).and_then(|item| forwarded::proto(item))
        };
        Client { ip, proto: proto.or_else(said) }
    }

    /// Goes back along the way for as long as it leads over those we trust. Returns where it ends, how many
    /// hops were left out, and what that hop says of the scheme.
    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Hop>) -> (IpAddr, usize, Option<Proto>) {
        let mut at = (peer, 0, None);
        for (depth, hop) in hops.enumerate() {
            // What cannot be read says nothing, nor does what stands before it.
            let Some(ip) = hop.ip else { break };
            at = (ip, depth, hop.proto);
            if !self.contains(ip) {
                break;
            }
        }
        at
    }

    /// Tells the operator once: a proxy that is not trusted makes all clients look like one.
    fn tell(&self, peer: IpAddr, headers: &HeaderMap) {
        if self.told.load(Ordering::Relaxed) || !headers.contains_key(X_FORWARDED_FOR) {
            return;
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "X-Forwarded-For is not believed, because its sender is not in access.ip.trusted_proxies; \
                 if it is your proxy, add it there (this is said once)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
