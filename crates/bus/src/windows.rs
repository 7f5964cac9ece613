//! Limits counted for all replicas together: the sliding windows of `access::limits` in Redis.
//!
//! One script, one round trip: it checks everything that applies to a request and charges all of it or
//! nothing, by the server's own clock, so that replicas need not agree on the time. What follows the
//! request (the true number of tokens, the end of it) is a second script that nobody waits for. A place of a
//! request in progress is held by a lease that is renewed; those of a dead replica come back by themselves.
//!
//! All keys of a server's limits carry one hash tag, so that a request's keys are in one slot of a cluster.
//! The limits of one Trunkline therefore live on one node of it; different prefixes spread.

mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base::seams::SeamError;

pub use self::redis::{RedisWindows, RedisWindowsOptions};

/// One sliding window, cut into slots as `access` does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedWindow {
    /// Which window it is.
    pub key: String,
    /// The length of a slot, in milliseconds.
    pub slot_ms: u32,
    /// For how many slots a charge counts.
    pub slots: u32,
    /// The most that may be charged.
    pub max: u64,
    /// What this request is charged.
    pub amount: u64,
    /// Whether `amount` is an estimate of tokens, to be corrected.
    pub estimate: bool,
    /// Whether to exceed it sets the block.
    pub blocks: bool,
}

/// Requests in progress at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPlaces {
    /// Of whom.
    pub key: String,
    /// How many there are.
    pub max: u64,
}

/// Being refused everything for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBlock {
    /// Who.
    pub key: String,
    /// For how long, in milliseconds.
    pub millis: u64,
}

/// Everything that applies to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedRequest {
    /// Its windows.
    pub windows: Vec<SharedWindow>,
    /// Its places.
    pub places: Vec<SharedPlaces>,
    /// The block of its address, if there can be one.
    pub block: Option<SharedBlock>,
}

/// How one window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedReading {
    /// What counted before this request.
    pub used: u64,
    /// How long to wait for room, in milliseconds: 0 when there is room, none when no waiting helps.
    pub wait_ms: Option<u64>,
    /// Until the oldest of it counts no longer.
    pub frees_ms: u64,
    /// Until none of it counts any longer.
    pub full_ms: u64,
    /// Until a charge made now counts no longer.
    pub fresh_ms: u64,
}

/// What became of a request.
#[derive(Debug)]
pub enum SharedOutcome {
    /// It is charged.
    Admitted {
        /// Its windows, in the order given.
        readings: Vec<SharedReading>,
        /// What it holds.
        permit: SharedPermit,
    },
    /// Something stood in the way; nothing was charged.
    Refused {
        /// Its windows, in the order given.
        readings: Vec<SharedReading>,
        /// How many places were taken, in the order given.
        in_use: Vec<u64>,
    },
    /// Its address is blocked.
    Blocked {
        /// For how much longer, in milliseconds.
        millis: u64,
    },
}

/// What an admitted request holds. When it is dropped the places are given back, and what was corrected is
/// told; nobody waits for that.
pub struct SharedPermit(Option<Box<dyn Settle>>);

/// The backend's side of a permit.
pub trait Settle: Send + Sync {
    /// The true number of tokens.
    fn correct(&mut self, tokens: u64);
    /// Everything is taken back, as if the request had never been.
    fn cancel(&mut self);
}

impl SharedPermit {
    /// What a backend made.
    pub fn new(settle: Box<dyn Settle>) -> Self {
        SharedPermit(Some(settle))
    }

    /// The true number of tokens.
    pub fn correct(&mut self, tokens: u64) {
        if let Some(settle) = &mut self.0 {
            settle.correct(tokens);
        }
    }

    /// Takes everything back, as if the request had never been.
    pub fn cancel(mut self) {
        if let Some(settle) = &mut self.0 {
            settle.cancel();
        }
    }
}

impl fmt::Debug for SharedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedPermit")
    }
}

/// How the shared windows do, for readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowsHealth {
    /// They count.
    Up,
    /// They do not, for so long, because of this.
    Down {
        /// Since when.
        since: Duration,
        /// Why, without passwords.
        reason: String,
    },
}

/// Windows that several replicas count in.
#[async_trait]
pub trait SharedWindows: Send + Sync {
    /// Checks everything, then charges everything or nothing. It fails at once while the backend is known to
    /// be gone, else within a short time.
    async fn admit(&self, request: SharedRequest) -> Result<SharedOutcome, SeamError>;

    /// Ends a block.
    async fn unblock(&self, key: &str) -> Result<bool, SeamError>;

    /// Whether it counts.
    fn health(&self) -> WindowsHealth;
}
