//! One breaker for each target: whether to send there at all.
//!
//! Why a breaker beside retries: a retry protects one request against one mishap; the breaker protects all
//! requests against a target that is down, so that they do not each spend their time finding out.
//!
//! - **Closed**: everything passes; `failures` in a row open it. A success in between starts the count anew.
//! - **Open**: nothing passes for `open_for`.
//! - **Half-open**: one probe at a time; `successes` in a row close it, one failure opens it again.
//!
//! What counts as a failure is the target's ill health: no connection, a broken answer, 5xx, a refused
//! credential, too slow. A 429 does not: it is a working target that asks us to come later, which
//! [`Health::cool_until`] keeps. A request that the target rightly refused (4xx) counts as a success.
//!
//! A stream is judged at its end, else a target that answers and always breaks off would look healthy.
//! A probe is judged at its first token, else one long stream would keep everybody else out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::settings::BreakerSettings;

/// What we know of one target's health. It outlives a reload of the settings.
#[derive(Debug)]
pub struct Health {
    /// Failures in a row while closed: the only thing a healthy request touches.
    failures: AtomicU32,
    /// 0 while closed, so that a healthy request need not lock.
    tripped: AtomicU32,
    state: Mutex<State>,
    /// Milliseconds after `born` until which the target asked not to be sent to.
    cool_until: AtomicU64,
    born: Instant,
    /// Calls in flight to it.
    busy: AtomicU32,
    /// The moving average of the time to its answers, in microseconds; 0 before the first.
    latency: AtomicU64,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool, successes: u32 },
}

/// How a breaker stands, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// One probe at a time passes.
    HalfOpen,
}

impl BreakerState {
    /// A stable lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// Leave to send one attempt. Dropped without a verdict (the client went away) it counts as neither.
#[derive(Debug)]
pub struct Pass {
    health: Arc<Health>,
    settings: BreakerSettings,
    probe: bool,
    judged: bool,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            failures: AtomicU32::new(0),
            tripped: AtomicU32::new(0),
            state: Mutex::new(State::Closed),
            cool_until: AtomicU64::new(0),
            born: Instant::now(),
            busy: AtomicU32::new(0),
            latency: AtomicU64::new(0),
        }
    }
}

impl Health {
    /// A call to it begins.
    pub fn begin(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// A call to it is over.
    pub fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls in flight to it, from this replica.
    pub fn busy(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    /// It answered, whole or with its first token, after this time. Two answers at once may lose one of them,
    /// which an average does not mind.
    pub fn answered(&self, after: Duration) {
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.latency.load(Ordering::Relaxed);
        let new = if before == 0 { after } else { before / 8 * 7 + after / 8 + 1 };
        self.latency.store(new, Ordering::Relaxed);
    }

    /// How soon it answers of late; `None` before its first answer.
    pub fn latency(&self) -> Option<Duration> {
        match self.latency.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// Leave to send, or how long until asking again makes sense.
    pub fn admit(self: &Arc<Self>, settings: &BreakerSettings, now: Instant) -> Result<Pass, Duration> {
        let mut probe = false;
        if self.tripped.load(Ordering::Acquire) != 0 {
            let mut state = self.lock();
            match &mut *state {
                State::Closed => {}
                State::Open { until } if now < *until => return Err(*until - now),
                State::Open { .. } => {
                    *state = State::HalfOpen { probing: true, successes: 0 };
                    probe = true;
                }
                State::HalfOpen { probing: true, .. } => return Err(Duration::from_secs(1)),
                State::HalfOpen { probing, .. } => {
                    *probing = true;
                    probe = true;
                }
            }
        }
        Ok(Pass { health: Arc::clone(self), settings: settings.clone(), probe, judged: false })
    }

    /// How it stands. An open breaker whose time is over is half-open: the next request is a probe.
    pub fn state(&self, now: Instant) -> BreakerState {
        match *self.lock() {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// The target asked (`Retry-After`) to be left alone for `wait`.
    pub fn cool_for(&self, wait: Duration, now: Instant) {
        let until = (now + wait).saturating_duration_since(self.born).as_millis();
        self.cool_until.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether that time is not over.
    pub fn is_cooling(&self, now: Instant) -> bool {
        let until = self.cool_until.load(Ordering::Relaxed);
        until != 0 && now.saturating_duration_since(self.born).as_millis() < u128::from(until)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self, settings: &BreakerSettings, probe: bool) {
        if !probe {
            if self.failures.load(Ordering::Relaxed) != 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            return;
        }
        let mut state = self.lock();
        if let State::HalfOpen { probing, successes } = &mut *state {
            *probing = false;
            *successes += 1;
            if *successes >= settings.successes {
                *state = State::Closed;
                self.failures.store(0, Ordering::Relaxed);
                self.tripped.store(0, Ordering::Release);
            }
        }
    }

    fn failed(&self, settings: &BreakerSettings, now: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let mut state = self.lock();
        let opens = match &*state {
            State::Closed => failures >= settings.failures,
            State::Open { .. } => false,
            State::HalfOpen { .. } => true,
        };
        if opens {
            *state = State::Open { until: now + settings.open_for.0 };
            self.tripped.store(1, Ordering::Release);
        }
    }

    fn release(&self) {
        if let State::HalfOpen { probing, .. } = &mut *self.lock() {
            *probing = false;
        }
    }
}

impl Pass {
    /// The first token of a stream is here.
    pub fn first_token(&mut self) {
        if self.probe {
            self.judged = true;
            self.probe = false;
            self.health.succeeded(&self.settings, true);
        }
    }

    /// The target did its part.
    pub fn succeeded(mut self) {
        if !self.judged {
            self.judged = true;
            self.health.succeeded(&self.settings, self.probe);
        }
    }

    /// The target failed.
    pub fn failed(mut self, now: Instant) {
        self.judged = true;
        self.health.failed(&self.settings, now);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe && !self.judged {
            self.health.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Duration as Span;

    use super::*;

    fn settings() -> BreakerSettings {
        BreakerSettings { failures: 3, successes: 2, open_for: Span::from_secs(60) }
    }

    fn fail(health: &Arc<Health>, times: u32, now: Instant) {
        for _ in 0..times {
            health.admit(&settings(), now).unwrap().failed(now);
        }
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (health, now) = (Arc::new(Health::default()), Instant::now());
        fail(&health, 2, now);
        health.admit(&settings(), now).unwrap().succeeded();
        fail(&health, 2, now);
        assert_eq!(health.state(now), BreakerState::Closed);
        fail(&health, 1, now);
        assert_eq!(health.state(now), BreakerState::Open);
        let wait = health.admit(&settings(), now + Duration::from_secs(20)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(40));
    }

    #[test]
    fn half_open_lets_one_probe_through_and_closes_after_successes() {
        let (health, start) = (Arc::new(Health::default()), Instant::now());
        fail(&health, 3, start);
        let later = start + Duration::from_secs(60);
        let probe = health.admit(&settings(), later).unwrap();
        assert!(health.admit(&settings(), later).is_err(), "one probe at a time");
        probe.succeeded();
        assert_eq!(health.state(later), BreakerState::HalfOpen);
        let mut second = health.admit(&settings(), later).unwrap();
        second.first_token();
        assert_eq!(health.state(later), BreakerState::Closed);
        second.failed(later);
        assert_eq!(health.state(later), BreakerState::Closed, "one failure of a closed breaker");
    }

    #[test]
    fn a_failed_probe_opens_again_and_an_abandoned_one_makes_room() {
        let (health, start) = (Arc::new(Health::default()), Instant::now());
        fail(&health, 3, start);
        let later = start + Duration::from_secs(60);
        drop(health.admit(&settings(), later).unwrap());
        health.admit(&settings(), later).unwrap().failed(later);
        assert_eq!(health.state(later), BreakerState::Open);
    }

    #[test]
    fn cools_as_long_as_asked() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.is_cooling(now));
        health.cool_for(Duration::from_secs(5), now);
        assert!(health.is_cooling(now + Duration::from_secs(4)));
        assert!(!health.is_cooling(now + Duration::from_secs(6)));
    }
}
