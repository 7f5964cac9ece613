//! What this replica knows of a group's money.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use base::Money;
use store::now_ms;

/// A group as this replica spends from it.
#[derive(Debug)]
pub struct Account {
    /// The group.
    pub group_id: i64,
    /// Spends without a balance.
    unlimited: AtomicBool,
    /// Leased and not set aside, in nano-dollars. Below zero when a call came to more than was set aside for it.
    available: AtomicI64,
    /// What was left in the Store when we last looked.
    left: AtomicI64,
    /// When it was last used.
    used_at: AtomicI64,
    /// Others are short of it: what is not needed goes back to the Store at once.
    tight: AtomicBool,
    /// Grows when the leases behind `available` were lost: what was held before is not given back into it.
    epoch: AtomicU32,
    /// Grows when the group was changed: what the Store said before does not stand.
    changed: AtomicU32,
    /// One at a time asks the Store for more.
    pub(super) asking: tokio::sync::Mutex<Option<Refusal>>,
}

/// The Store said no, or nothing: for a moment nobody need ask it for as much again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) until: i64,
    /// As of this state of the group.
    pub(super) changed: u32,
    pub(super) shortfall: Money,
    /// What was left; `None` when the Store did not answer.
    pub(super) left: Option<Money>,
}

impl Account {
    /// A group that nothing is leased of yet.
    pub fn new(group_id: i64, unlimited: bool, left: Money) -> Self {
        Account {
            group_id,
            unlimited: AtomicBool::new(unlimited),
            available: AtomicI64::new(0),
            left: AtomicI64::new(left.as_nanos()),
            used_at: AtomicI64::new(now_ms()),
            tight: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            changed: AtomicU32::new(0),
            asking: tokio::sync::Mutex::new(None),
        }
    }

    /// What the Store says of the group now.
    pub(crate) fn update(&self, unlimited: bool, left: Money) {
        self.unlimited.store(unlimited, Ordering::Relaxed);
        self.left.store(left.as_nanos(), Ordering::Relaxed);
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_unlimited(&self) {
        self.unlimited.store(true, Ordering::Relaxed);
    }

    pub(super) fn changed(&self) -> u32 {
        self.changed.load(Ordering::Relaxed)
    }

    pub(super) fn set_left(&self, left: Money) {
        self.left.store(left.as_nanos(), Ordering::Relaxed);
    }

    /// Whether it spends without a balance.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.unlimited.load(Ordering::Relaxed)
    }

    /// What is left as far as this replica knows; `None` without a balance.
    pub fn left(&self) -> Option<Money> {
        let known = self.left.load(Ordering::Relaxed).saturating_add(self.available.load(Ordering::Relaxed));
        (!self.is_unlimited()).then(|| Money::nanos(known))
    }

    /// Sets an amount aside if what is leased covers it. A call that is free needs a balance all the same, as an
    /// account that has spent everything is closed.
    pub(super) fn hold(self: &Arc<Self>, amount: Money) -> Option<Held> {
        if self.is_unlimited() {
            return Some(Held { account: Arc::clone(self), amount: None, epoch: 0 });
        }
        let nanos = amount.as_nanos();
        if nanos == 0 && self.left().is_some_and(|left| left <= Money::ZERO) {
            return None;
        }
        let take = |available: i64| (nanos <= available.max(0)).then(|| available - nanos);
        self.available.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        self.used_at.store(now_ms(), Ordering::Relaxed);
        let epoch = self.epoch.load(Ordering::Relaxed);
        Some(Held { account: Arc::clone(self), amount: Some(amount), epoch })
    }

    /// How much is missing for an amount.
    pub(super) fn shortfall(&self, amount: Money) -> Money {
        Money::nanos(amount.as_nanos().saturating_sub(self.available.load(Ordering::Relaxed)).max(0))
    }

    /// More was leased.
    pub(super) fn add(&self, amount: Money) {
        self.available.fetch_add(amount.as_nanos(), Ordering::Relaxed);
    }

    /// Takes everything that is not set aside, to give it back.
    pub(super) fn take_unused(&self) -> Money {
        let take = |available: i64| (available > 0).then_some(0);
        let taken = self.available.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        Money::nanos(taken.unwrap_or_default())
    }

    /// The leases are gone.
    pub(super) fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.available.store(0, Ordering::Relaxed);
    }

    pub(super) fn set_tight(&self, tight: bool) {
        self.tight.store(tight, Ordering::Relaxed);
    }

    /// Whether what is unused should go back: others are short, or nobody has used it for a while.
    pub(super) fn should_give_back(&self, idle_since: i64) -> bool {
        let unused = self.available.load(Ordering::Relaxed) > 0;
        let idle = self.used_at.load(Ordering::Relaxed) < idle_since;
        unused && (idle || self.tight.load(Ordering::Relaxed))
    }
}

/// An amount set aside for one call.
#[derive(Debug)]
pub(super) struct Held {
    account: Arc<Account>,
    /// `None` where nothing has to be set aside.
    amount: Option<Money>,
    epoch: u32,
}

impl Held {
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// The call is over: `cost` is spent, the rest is available again.
    pub(super) fn spend(self, cost: Money) {
        if let Some(amount) = self.amount
            && self.epoch == self.account.epoch.load(Ordering::Relaxed)
        {
            self.account.add(amount - cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_what_is_leased_can_be_held() {
        let account = Arc::new(Account::new(1, false, Money::nanos(10)));
        account.add(Money::nanos(10));
        let held: Vec<Held> = std::iter::from_fn(|| account.hold(Money::nanos(3))).collect();
        assert_eq!((held.len(), account.shortfall(Money::nanos(3))), (3, Money::nanos(2)));
        for held in held {
            held.spend(Money::nanos(1));
        }
        assert_eq!(account.take_unused(), Money::nanos(7));
        assert!(account.hold(Money::nanos(1)).is_none());
    }

    #[test]
    fn a_closed_account_serves_nothing_free() {
        let account = Arc::new(Account::new(1, false, Money::ZERO));
        assert!(account.hold(Money::ZERO).is_none());
        account.update(true, Money::ZERO);
        assert!(account.hold(Money::dollars(5)).is_some(), "unlimited");
    }

    #[test]
    fn what_was_held_before_the_leases_were_lost_does_not_come_back() {
        let account = Arc::new(Account::new(1, false, Money::nanos(10)));
        account.add(Money::nanos(10));
        let held = account.hold(Money::nanos(4)).unwrap();
        account.forget();
        held.spend(Money::ZERO);
        assert_eq!(account.take_unused(), Money::ZERO);
    }
}
