//! Addresses that have tried too many wrong keys, or that somebody has blocked.
//!
//! A ban holds on every door: who guesses admin keys has no business elsewhere either. Tries are counted for
//! each door by itself. What is remembered is bounded; of more sources than that, the longest unseen are
//! forgotten. While nobody has failed, a request costs the reading of two numbers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Surface;
use super::cidr::{Cidr, source};
use super::settings::{BanSettings, IpSettings};
use crate::limits::{Age, Aged, Clock, Registry, Shape, SystemClock, Wait, Window};

/// The most sources that are remembered.
const MAX_SOURCES: usize = 100_000;
/// The longest reason, in characters.
const MAX_REASON: usize = 200;
/// The longest a source can be blocked.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A ban, for lists and for other replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    /// The address, or the first of its /64 network.
    pub ip: IpAddr,
    /// Until when, in milliseconds since 1970.
    pub until_ms: i64,
    /// Why.
    pub reason: String,
}

/// The refusal of a banned address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this address is banned for a while, because of failed attempts")]
pub struct Banned {
    /// For how much longer.
    pub retry_after: Duration,
}

/// What is known of one source.
#[derive(Debug, Default)]
struct Source {
    age: Age,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    api: Option<Window>,
    admin: Option<Window>,
    /// 0 for not banned.
    banned_until_ms: u64,
    reason: String,
}

impl Aged for Source {
    fn age(&self) -> &Age {
        &self.age
    }
}

impl Source {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Rules {
    api: BanSettings,
    admin: BanSettings,
    /// Proxies of ours: to ban one is to ban everybody.
    proxies: Vec<Cidr>,
}

impl Rules {
    fn new(settings: &IpSettings) -> Self {
        Rules {
            api: settings.bans.clone(),
            admin: settings.admin_bans.clone().into(),
            proxies: settings.trusted_proxies.clone(),
        }
    }
}

/// The bans of this replica.
#[derive(Debug)]
pub struct Bans {
    clock: Arc<dyn Clock>,
    sources: Registry<IpAddr, Source>,
    rules: RwLock<Arc<Rules>>,
    /// Until when, by the clock, somebody may be banned: past that nobody need be looked for.
    banned_until_ms: AtomicU64,
    /// The same for failures that still count.
    failures_until_ms: AtomicU64,
}

impl Bans {
    /// Nobody is banned yet.
    pub fn new(settings: &IpSettings) -> Self {
        Self::with_clock(settings, Arc::new(SystemClock::default()))
    }

    /// The same, by a clock of one's own.
    pub fn with_clock(settings: &IpSettings, clock: Arc<dyn Clock>) -> Self {
        Bans {
            clock,
            sources: Registry::new(MAX_SOURCES),
            rules: RwLock::new(Arc::new(Rules::new(settings))),
            banned_until_ms: AtomicU64::new(0),
            failures_until_ms: AtomicU64::new(0),
        }
    }

    /// Takes other settings. Bans stay.
    pub fn reload(&self, settings: &IpSettings) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Rules::new(settings));
    }

    /// Whether an address may go on.
    pub fn check(&self, ip: IpAddr) -> Result<(), Banned> {
        let latest = self.banned_until_ms.load(Ordering::Acquire);
        if latest == 0 {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        if latest <= now_ms {
            return Ok(());
        }
        let Some(found) = self.sources.get(&source(ip), now_ms) else { return Ok(()) };
        match found.lock().banned_until_ms.saturating_sub(now_ms) {
            0 => Ok(()),
            left => Err(Banned { retry_after: Duration::from_millis(left) }),
        }
    }

    /// Somebody tried a wrong key. The ban that follows, if it does; to be told to other replicas.
    pub fn failed(&self, ip: IpAddr, surface: Surface) -> Option<Ban> {
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let settings = match surface {
            Surface::Api => &rules.api,
            Surface::Admin => &rules.admin,
        };
        let free = |networks: &[Cidr]| networks.iter().any(|network| network.contains(ip));
        if !settings.enabled || free(&settings.exempt) || free(&rules.proxies) {
            return None;
        }
        let now_ms = self.clock.now_ms();
        let ip = source(ip);
        let found = self.sources.get_or(ip, now_ms, Source::default);
        let mut state = found.lock();
        if state.banned_until_ms > now_ms {
            return None;
        }
        let max = u64::from(settings.failures.max(1)) - 1;
        let shape = Shape::new(millis(settings.within.0), max, false);
        let window = match surface {
            Surface::Api => &mut state.api,
            Surface::Admin => &mut state.admin,
        };
        let window = window.get_or_insert_with(|| Window::new(shape, now_ms));
        window.reshape(shape, now_ms);
        if window.read(now_ms, max, 1).wait == Wait::None {
            window.charge(now_ms, 1);
            let until = now_ms.saturating_add(2 * millis(settings.within.0));
            found.age.keep_until(until);
            self.failures_until_ms.fetch_max(until, Ordering::AcqRel);
            return None;
        }
        let reason = match surface {
            Surface::Api => "too many wrong keys",
            Surface::Admin => "too many wrong keys on the admin API",
        };
        Some(self.ban(&found, &mut state, ip, settings.ban_for.0, reason))
    }

    /// Somebody showed a right key: what they failed before is forgotten.
    pub fn succeeded(&self, ip: IpAddr, surface: Surface) {
        let latest = self.failures_until_ms.load(Ordering::Acquire);
        if latest == 0 {
            return;
        }
        let now_ms = self.clock.now_ms();
        if latest <= now_ms {
            return;
        }
        if let Some(found) = self.sources.get(&source(ip), now_ms) {
            let mut state = found.lock();
            match surface {
                Surface::Api => state.api = None,
                Surface::Admin => state.admin = None,
            }
        }
    }

    /// Blocks an address by hand, for at most a year. The ban is to be told to other replicas.
    pub fn block(&self, ip: IpAddr, duration: Duration, reason: &str) -> Ban {
        let ip = source(ip);
        let found = self.sources.get_or(ip, self.clock.now_ms(), Source::default);
        let mut state = found.lock();
        self.ban(&found, &mut state, ip, duration.min(LONGEST), reason)
    }

    /// Takes over a ban of another replica. One that is longer than ours counts.
    pub fn apply(&self, ban: &Ban) {
        let left =
            Duration::from_millis(u64::try_from(ban.until_ms.saturating_sub(wall_clock_ms())).unwrap_or(0));
        let ip = source(ban.ip);
        let now_ms = self.clock.now_ms();
        if left.is_zero() {
            return;
        }
        let found = self.sources.get_or(ip, now_ms, Source::default);
        let mut state = found.lock();
        if state.banned_until_ms < now_ms.saturating_add(millis(left)) {
            self.ban(&found, &mut state, ip, left.min(LONGEST), &ban.reason);
        }
    }

    /// Ends a ban, and forgets the failures. Whether there was one.
    pub fn unblock(&self, ip: IpAddr) -> bool {
        let now_ms = self.clock.now_ms();
        self.sources.remove(&source(ip)).is_some_and(|found| {
            // Who has it in hand right now must find it ended, too.
            let old = std::mem::take(&mut *found.lock());
            old.banned_until_ms > now_ms
        })
    }

    /// Everybody who is banned, the longest first.
    pub fn list(&self) -> Vec<Ban> {
        let (now_ms, wall_ms) = (self.clock.now_ms(), wall_clock_ms());
        let mut out = Vec::new();
        self.sources.for_each(|ip, found| {
            let state = found.lock();
            let left = state.banned_until_ms.saturating_sub(now_ms);
            if left > 0 {
                let until_ms = wall_ms.saturating_add(i64::try_from(left).unwrap_or(i64::MAX));
                out.push(Ban { ip: *ip, until_ms, reason: state.reason.clone() });
            }
        });
        out.sort_by(|a, b| b.until_ms.cmp(&a.until_ms).then(a.ip.cmp(&b.ip)));
        out
    }

    fn ban(&self, found: &Source, state: &mut State, ip: IpAddr, duration: Duration, reason: &str) -> Ban {
        let until = self.clock.now_ms().saturating_add(millis(duration));
        let reason = reason.chars().take(MAX_REASON).collect();
        *state = State { banned_until_ms: until, reason, ..State::default() };
        found.age.keep_until(until);
        self.banned_until_ms.fetch_max(until, Ordering::AcqRel);
        let until_ms = wall_clock_ms().saturating_add(i64::try_from(millis(duration)).unwrap_or(i64::MAX));
        Ban { ip, until_ms, reason: state.reason.clone() }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
