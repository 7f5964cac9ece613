//! The one question of the request path: may this request go on?

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bus::windows::{SharedPermit, SharedWindows, WindowsHealth};

use super::clock::{Clock, SystemClock};
use super::local::{Local, LocalPermit};
use super::quota::{Exceeded, Quota, Refusal};
use super::rules::{Plan, Scope};
use super::settings::{LimitSettings, OnFailure, Sharing};
use super::shared;
use super::subjects::{Own, Subjects};

/// When to try again while limits cannot be counted.
const UNAVAILABLE_WAIT: Duration = Duration::from_secs(1);

/// Why limits cannot be as the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimiterError {
    /// `redis` is asked for and there is none.
    #[error(
        "limits.shared is `redis`, and no Redis is set: set `data.redis.url`, or limits.shared to `auto`"
    )]
    NoRedis,
}

/// Counts requests and tokens, and refuses what is too much. Cheap to share.
pub struct Limiter {
    plan: ArcSwap<Plan>,
    local: Arc<Local>,
    shared: Option<Arc<dyn SharedWindows>>,
    /// Whether is counted in `shared`.
    sharing: AtomicBool,
    /// Whether `shared` failed us last time.
    degraded: AtomicBool,
}

/// An admitted request's leave. Dropped at the end of the request (of a stream: at its end), it gives back
/// the places it holds.
#[derive(Debug, Default)]
pub struct Permit {
    held: Held,
    quota: Quota,
}

#[derive(Debug, Default)]
enum Held {
    /// Nothing limits it.
    #[default]
    Nothing,
    Local(LocalPermit),
    Shared(SharedPermit),
}

impl Permit {
    /// What is left, for the headers.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Whether it takes up anything that its end gives back.
    pub fn holds(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    /// The tokens that the request took, in and out, in the place of the estimate. To be called once, at the
    /// end. Without it the estimate stays charged.
    pub fn correct(&mut self, tokens: u64) {
        match &mut self.held {
            Held::Nothing => {}
            Held::Local(permit) => permit.correct(tokens),
            Held::Shared(permit) => permit.correct(tokens),
        }
    }

    /// Takes everything back, as if the request had never been: for one that was refused by something else.
    pub fn cancel(self) {
        match self.held {
            Held::Nothing => {}
            Held::Local(mut permit) => permit.cancel(),
            Held::Shared(permit) => permit.cancel(),
        }
    }
}

/// How the limits do, for readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitsHealth {
    /// Each replica counts by itself, as set.
    Local,
    /// All replicas count together.
    Shared,
    /// All replicas should count together and cannot.
    Degraded {
        /// For how long.
        since: Duration,
        /// Why, without passwords.
        reason: String,
        /// What happens to requests with limits.
        on_failure: OnFailure,
    },
}

impl Limiter {
    /// Begins to count. `shared` is where all replicas count together, if there is such a place.
    pub fn new(
        settings: LimitSettings,
        shared: Option<Arc<dyn SharedWindows>>,
    ) -> Result<Self, LimiterError> {
        Self::with_clock(settings, shared, Arc::new(SystemClock::default()))
    }

    /// The same, by a clock of one's own.
    pub fn with_clock(
        settings: LimitSettings,
        shared: Option<Arc<dyn SharedWindows>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LimiterError> {
        let limiter = Limiter {
            local: Arc::new(Local::new(clock, settings.max_subjects as usize)),
            plan: ArcSwap::from_pointee(Plan::new(LimitSettings::default())),
            shared,
            sharing: AtomicBool::new(false),
            degraded: AtomicBool::new(false),
        };
        limiter.reload(settings)?;
        Ok(limiter)
    }

    /// Takes other settings. What was counted stays.
    pub fn reload(&self, settings: LimitSettings) -> Result<(), LimiterError> {
        if settings.shared == Sharing::Redis && self.shared.is_none() {
            return Err(LimiterError::NoRedis);
        }
        let sharing = self.shared.is_some() && settings.shared != Sharing::Local;
        self.local.set_max(settings.max_subjects as usize);
        self.plan.store(Arc::new(Plan::new(settings)));
        self.sharing.store(sharing, Ordering::Release);
        Ok(())
    }

    /// The settings in effect.
    pub fn settings(&self) -> LimitSettings {
        self.plan.load().settings.clone()
    }

    /// Whether requests to a path are free of the limits by address.
    pub fn is_exempt(&self, path: &str) -> bool {
        self.plan.load().settings.is_exempt(path)
    }

    /// Whether is counted with other replicas, so that [`Limiter::admit`] waits for them.
    pub fn is_shared(&self) -> bool {
        self.sharing.load(Ordering::Acquire)
    }

    /// Charges a request with its estimate of tokens, or says why not. It never waits unless it counts with
    /// other replicas.
    pub async fn admit(&self, subjects: &Subjects<'_>, tokens: u64) -> Result<Permit, Refusal> {
        if !self.is_shared() || !self.may_limit(&self.plan.load(), subjects) {
            return self.admit_local(subjects, tokens);
        }
        Box::pin(self.admit_shared(subjects, tokens)).await
    }

    /// The same, counted in this process whatever the settings say.
    pub fn admit_local(&self, subjects: &Subjects<'_>, tokens: u64) -> Result<Permit, Refusal> {
        let plan = self.plan.load();
        if !self.may_limit(&plan, subjects) {
            return Ok(Permit::default());
        }
        let own = Own::new(&plan, subjects);
        let applicable = own.applicable(&plan, subjects);
        if applicable.iter().all(Option::is_none) {
            return Ok(Permit::default());
        }
        let (permit, quota) = self.local.admit(&applicable, subjects.admin, tokens)?;
        Ok(Permit { held: Held::Local(permit), quota })
    }

    fn may_limit(&self, plan: &Plan, subjects: &Subjects<'_>) -> bool {
        plan.any || (subjects.have_limits() && plan.settings.enabled)
    }

    async fn admit_shared(&self, subjects: &Subjects<'_>, tokens: u64) -> Result<Permit, Refusal> {
        let plan = self.plan.load_full();
        let own = Own::new(&plan, subjects);
        let applicable = own.applicable(&plan, subjects);
        let Some(shared) = self.shared.as_ref().filter(|_| applicable.iter().any(Option::is_some)) else {
            return Ok(Permit::default());
        };
        match shared::admit(&**shared, &applicable, subjects.admin, tokens).await {
            Ok(verdict) => {
                if self.degraded.swap(false, Ordering::AcqRel) {
                    tracing::info!("limits are counted by all replicas together again");
                }
                let (permit, quota) = verdict?;
                Ok(Permit { held: Held::Shared(permit), quota })
            }
            Err(error) => {
                let on_failure = plan.settings.on_failure;
                if !self.degraded.swap(true, Ordering::AcqRel) {
                    let follows = match on_failure {
                        OnFailure::Open => "each replica counts by itself until then",
                        OnFailure::Closed => "requests with limits get 503 until then",
                    };
                    tracing::warn!(%error, "limits cannot be counted together until Redis is back: {follows}");
                }
                match on_failure {
                    OnFailure::Open => self.admit_local(subjects, tokens),
                    OnFailure::Closed => Err(Refusal {
                        scope: Scope::Global,
                        exceeded: Exceeded::Unavailable,
                        retry_after: Some(UNAVAILABLE_WAIT),
                        quota: Box::default(),
                    }),
                }
            }
        }
    }

    /// How the limits do.
    pub fn health(&self) -> LimitsHealth {
        let Some(shared) = self.shared.as_ref().filter(|_| self.is_shared()) else {
            return LimitsHealth::Local;
        };
        match shared.health() {
            WindowsHealth::Up => LimitsHealth::Shared,
            WindowsHealth::Down { since, reason } => {
                let on_failure = self.plan.load().settings.on_failure;
                LimitsHealth::Degraded { since, reason, on_failure }
            }
        }
    }

    /// The addresses that this replica has blocked, and for how much longer.
    pub fn blocked(&self) -> Vec<(IpAddr, Duration)> {
        let blocked = self.local.blocked().into_iter();
        blocked.map(|(ip, millis)| (ip, Duration::from_millis(millis))).collect()
    }

    /// Ends the block of an address, here and where all replicas count. Whether there was one.
    pub async fn unblock(&self, ip: IpAddr) -> bool {
        let mut any = self.local.unblock(ip);
        if let Some(shared) = &self.shared {
            for key in shared::block_keys(ip) {
                any |= shared.unblock(&key).await.unwrap_or(false);
            }
        }
        any
    }

    /// How many keys, users, groups and addresses are remembered.
    pub fn subjects(&self) -> usize {
        self.local.len()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("shared", &self.is_shared()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
