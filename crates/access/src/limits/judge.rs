//! What stands in the way of a request, out of everything that was read: the one that takes longest, so that
//! who waits as told gets through.

use std::time::Duration;

use super::quota::{Exceeded, Quota, Refusal};
use super::rules::{Measure, Rule, Scope};
use super::window::{Reading, Wait};

/// When to try again after too many requests at once: nobody knows when one of them ends.
const CONCURRENCY_WAIT_MS: u64 = 1_000;

/// The verdict so far.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// How the limits stand if the request is admitted.
    quota: Quota,
    worst: Option<Worst>,
    /// The limit of the address itself, exceeded by requests: that may block it.
    blocker: Option<Worst>,
}

#[derive(Clone, Copy, Debug)]
struct Worst {
    wait: Wait,
    scope: Scope,
    exceeded: Exceeded,
    window: Option<(Rule, Reading)>,
}

impl Judge {
    /// One window.
    pub(crate) fn window(&mut self, scope: Scope, rule: &Rule, reading: Reading, amount: u64) {
        self.quota.add(scope, rule, &reading, amount);
        if reading.wait == Wait::None {
            return;
        }
        let (measure, span, limit) = (rule.measure, rule.span, rule.max);
        let exceeded = match (measure, reading.wait) {
            (Measure::Tokens, Wait::Forever) if amount > limit => {
                Exceeded::TooManyTokens { estimate: amount, span, limit }
            }
            _ => Exceeded::Window { measure, span, limit },
        };
        let found = Worst { wait: reading.wait, scope, exceeded, window: Some((*rule, reading)) };
        if scope == Scope::Ip && measure == Measure::Requests {
            self.blocker.get_or_insert(found);
        }
        self.hold(found);
    }

    /// The requests in progress.
    pub(crate) fn concurrent(&mut self, scope: Scope, limit: u64, in_use: u64) {
        if in_use >= limit {
            let wait = if limit == 0 { Wait::Forever } else { Wait::Millis(CONCURRENCY_WAIT_MS) };
            self.hold(Worst { wait, scope, exceeded: Exceeded::Concurrent { limit }, window: None });
        }
    }

    fn hold(&mut self, found: Worst) {
        if self.worst.is_none_or(|worst| found.wait > worst.wait) {
            self.worst = Some(found);
        }
    }

    /// Whether the request goes through.
    pub(crate) fn admits(&self) -> bool {
        self.worst.is_none()
    }

    /// Whether the address exceeded a limit of its own.
    pub(crate) fn blocks(&self) -> bool {
        self.blocker.is_some()
    }

    /// The end of it. `block_ms` is how long the address is blocked from now on, or 0; `standing` is how the
    /// limits stand when nothing is charged.
    pub(crate) fn finish(self, block_ms: u64, standing: impl FnOnce() -> Quota) -> Result<Quota, Refusal> {
        let blocker = self.blocker.filter(|_| block_ms > 0);
        let Some(worst) = blocker.or(self.worst) else { return Ok(self.quota) };
        let mut quota = standing();
        if let Some((rule, reading)) = &worst.window {
            quota.tell(worst.scope, rule, reading);
        }
        let blocked = Duration::from_millis(block_ms);
        let retry_after = match worst.wait {
            // Waiting does not help this request, block or not.
            Wait::Forever => None,
            Wait::Millis(wait) => Some(Duration::from_millis(wait).max(blocked)),
            Wait::None => Some(blocked),
        };
        Err(Refusal { scope: worst.scope, exceeded: worst.exceeded, retry_after, quota: Box::new(quota) })
    }

    /// The refusal of an address that is blocked.
    pub(crate) fn blocked(left_ms: u64) -> Refusal {
        Refusal {
            scope: Scope::Ip,
            exceeded: Exceeded::Blocked,
            retry_after: Some(Duration::from_millis(left_ms.max(1))),
            quota: Box::default(),
        }
    }
}
