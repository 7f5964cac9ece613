//! Who gets in at all: rules about addresses, bans, and limits of addresses, before anybody is asked for a key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::Kind;
use bus::windows::SharedWindows;
use http::HeaderMap;

use crate::ip::{Ban, Bans, Client, IpRule, IpRules, IpSettings, Surface, TrustedProxies};
use crate::limits::{LimitSettings, Limiter, LimiterError, Permit, Refusal, Subjects};

/// The door of a replica.
pub struct Door {
    limiter: Limiter,
    bans: Bans,
    addresses: ArcSwap<Addresses>,
}

/// What is decided about addresses, replaced as a whole.
struct Addresses {
    settings: IpSettings,
    made: Vec<IpRule>,
    proxies: TrustedProxies,
    api: IpRules,
    admin: IpRules,
}

impl Addresses {
    fn new(settings: IpSettings, made: Vec<IpRule>) -> Self {
        let rules = |surface| IpRules::new(settings.filter_of(surface), &made);
        let (api, admin) = (rules(Surface::Api), rules(Surface::Admin));
        Addresses { proxies: TrustedProxies::new(&settings), api, admin, settings, made }
    }
}

/// An address that nobody is let in from for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The address, or the first of its /64 network.
    pub ip: IpAddr,
    /// Until when, in milliseconds since 1970.
    pub until_ms: i64,
    /// Why.
    pub reason: String,
}

/// Why a request does not get in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    /// A rule about addresses.
    #[error("Requests from this address are not accepted here: ask the operator to allow it.")]
    Address,
    /// Too many wrong keys.
    #[error("Too many wrong keys came from this address: it is banned for a while.")]
    Banned {
        /// For how much longer.
        retry_after: Duration,
    },
    /// Too many requests of the address.
    #[error("{0}")]
    Limited(Refusal),
}

impl Turned {
    /// Its kind, the bridge to a status.
    pub fn kind(&self) -> Kind {
        match self {
            Turned::Address | Turned::Banned { .. } => Kind::Forbidden,
            Turned::Limited(refusal) => refusal.kind(),
        }
    }

    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Turned::Address => "address_denied",
            Turned::Banned { .. } => "address_banned",
            Turned::Limited(refusal) => refusal.code(),
        }
    }

    /// The headers of the answer.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Turned::Address => Vec::new(),
            Turned::Banned { retry_after } => vec![("retry-after", retry_after.as_secs().max(1).to_string())],
            Turned::Limited(refusal) => refusal.headers(),
        }
    }
}

impl Door {
    /// A door as the settings say. `shared` counts for all replicas together.
    pub fn new(
        limits: LimitSettings,
        ip: IpSettings,
        shared: Option<Arc<dyn SharedWindows>>,
    ) -> Result<Self, LimiterError> {
        Ok(Door {
            limiter: Limiter::new(limits, shared)?,
            bans: Bans::new(&ip),
            addresses: ArcSwap::from_pointee(Addresses::new(ip, Vec::new())),
        })
    }

    /// Puts other settings about addresses in force.
    pub fn reload(&self, ip: &IpSettings) {
        self.bans.reload(ip);
        let made = self.addresses.load().made.clone();
        self.addresses.store(Arc::new(Addresses::new(ip.clone(), made)));
    }

    /// Puts other limits in force.
    pub fn set_limits(&self, limits: LimitSettings) -> Result<(), LimiterError> {
        self.limiter.reload(limits)
    }

    /// Puts other rules of the admin API in force.
    pub fn set_rules(&self, made: Vec<IpRule>) {
        let settings = self.addresses.load().settings.clone();
        self.addresses.store(Arc::new(Addresses::new(settings, made)));
    }

    /// Who sent a request: the peer, or whom a proxy that we trust names.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        self.addresses.load().proxies.client(peer, headers)
    }

    /// Lets a request in, or not. What it gets is to be kept until the request is over.
    pub async fn enter(&self, ip: IpAddr, surface: Surface, path: &str) -> Result<Permit, Turned> {
        let addresses = self.addresses.load();
        let rules = match surface {
            Surface::Api => &addresses.api,
            Surface::Admin => &addresses.admin,
        };
        rules.check(ip).map_err(|_| Turned::Address)?;
        self.bans.check(ip).map_err(|banned| Turned::Banned { retry_after: banned.retry_after })?;
        drop(addresses);
        if self.limiter.is_exempt(path) {
            return Ok(Permit::default());
        }
        let subjects = Subjects { admin: surface == Surface::Admin, ..Subjects::address(ip) };
        self.limiter.admit(&subjects, 0).await.map_err(Turned::Limited)
    }

    /// A wrong key came from this address. The ban that follows from it, if one does, is for other replicas to hear of.
    pub fn failed(&self, ip: IpAddr, surface: Surface) -> Option<Ban> {
        if ip.is_loopback() && !self.addresses.load().settings.ban_loopback {
            return None;
        }
        self.bans.failed(ip, surface)
    }

    /// A right key came from it.
    pub fn succeeded(&self, ip: IpAddr, surface: Surface) {
        self.bans.succeeded(ip, surface);
    }

    /// What counts requests and tokens.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The addresses that this replica lets nobody in from for a time, the longest first: those banned, and those
    /// that came too often.
    pub fn blocks(&self) -> Vec<Block> {
        let now = store::now_ms();
        let banned = self.bans.list().into_iter().map(|ban| Block {
            ip: ban.ip,
            until_ms: ban.until_ms,
            reason: ban.reason,
        });
        let limited = self.limiter.blocked().into_iter().map(|(ip, left)| Block {
            ip,
            until_ms: now.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)),
            reason: "too many requests".into(),
        });
        let mut all: Vec<Block> = banned.chain(limited).collect();
        all.sort_by(|a, b| b.until_ms.cmp(&a.until_ms).then(a.ip.cmp(&b.ip)));
        all
    }

    /// Ends the ban of an address and its block. Whether there was one.
    pub async fn lift(&self, ip: IpAddr) -> bool {
        let banned = self.bans.unblock(ip);
        self.limiter.unblock(ip).await | banned
    }

    /// Whether an address may come in by the rules alone, be it banned or not.
    pub fn allows(&self, ip: IpAddr, surface: Surface) -> bool {
        let addresses = self.addresses.load();
        match surface {
            Surface::Api => addresses.api.check(ip).is_ok(),
            Surface::Admin => addresses.admin.check(ip).is_ok(),
        }
    }

    /// The settings about addresses in force.
    pub fn settings(&self) -> IpSettings {
        self.addresses.load().settings.clone()
    }

    /// The addresses that are banned.
    pub fn bans(&self) -> &Bans {
        &self.bans
    }
}
