//! Money on the request path: what a call may cost is set aside before it is sent, what it did cost is charged
//! when it ends.
//!
//! A replica leases slices of a group's balance, so that no request waits for the database while there is room.
//! Slices shrink with the balance; at the end each call is decided in the Store, and before anybody is turned away
//! the other replicas are asked to give back what they do not need. So a budget worth k calls admits exactly k.
//!
//! What a lease amounts to in the Store is always what is available here, plus what is set aside, plus what is
//! in the journal and not yet in the Store.

mod account;
mod flush;
mod recover;
mod treasury;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base::Money;
use store::UsageRecord;

use crate::journal::Journal;

pub use account::Account;
pub(crate) use flush::flush;
pub(crate) use recover::{OwnReplica, recover_dead, sweep_silent};
pub(crate) use treasury::{Notify, Treasury};

/// Why a call is not paid for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpaid {
    /// The balance does not cover it.
    #[error(
        "The budget is used up: {left} dollars are left and this call can cost up to {need}. Add credit to the group, or \
         lower `max_tokens`."
    )]
    Insufficient {
        /// What is left.
        left: Money,
        /// What the call can cost.
        need: Money,
    },
    /// The Store does not answer and what is leased here does not cover it; or the journal cannot be written.
    #[error("The budget cannot be looked up for now; try again shortly.")]
    Unavailable,
}

/// A worker's way to the money: a journal of its own, everything else shared.
#[derive(Clone)]
pub struct Desk {
    treasury: Arc<Treasury>,
    journal: Arc<Journal>,
}

impl Desk {
    pub(crate) fn open(treasury: &Arc<Treasury>, dir: &Path) -> io::Result<Self> {
        static WORKER: AtomicU32 = AtomicU32::new(0);
        let worker = WORKER.fetch_add(1, Ordering::Relaxed);
        let journal = Arc::new(Journal::create(dir, format!("{}-{worker}", treasury.replica()))?);
        treasury.add_journal(&journal);
        Ok(Desk { treasury: Arc::clone(treasury), journal })
    }

    /// Sets aside what a call can cost at most and notes in the journal that it begins. `record` is what is known
    /// of it, from which it is charged should this process die before it ends.
    pub async fn begin(
        &self,
        account: Option<&Arc<Account>>,
        bound: Money,
        record: UsageRecord,
    ) -> Result<Charge, Unpaid> {
        let held = match account {
            None => None,
            Some(account) => match account.hold(bound) {
                Some(held) => Some(held),
                None => Some(self.treasury.hold(account, bound).await?),
            },
        };
        match self.journal.open(bound.as_nanos(), &record) {
            Ok(call) => {
                let (journal, record) = (Arc::clone(&self.journal), Some(Box::new(record)));
                Ok(Charge { held, journal, call, record })
            }
            Err(error) => {
                tracing::error!(%error, journal = self.journal.name(), "the usage journal cannot be written");
                Err(Unpaid::Unavailable)
            }
        }
    }
}

/// A call that is under way and will be paid for. It must be settled; one that is dropped is settled at no cost,
/// which is right for a call that was never sent.
#[derive(Debug)]
pub struct Charge {
    held: Option<account::Held>,
    journal: Arc<Journal>,
    call: u64,
    /// What is known of the call, until it is settled.
    record: Option<Box<UsageRecord>>,
}

impl Charge {
    /// Charges what the call came to and gives back what was set aside beyond it. `complete` writes what that is
    /// (`cost`, and all the rest) into the record that the call began with.
    pub fn settle(mut self, complete: impl FnOnce(&mut UsageRecord)) {
        let Some(mut record) = self.record.take() else { return };
        complete(&mut record);
        self.journal.settle(self.call, &record);
        if let Some(held) = self.held.take() {
            held.spend(Money::nanos(record.cost));
        }
    }

    /// What is left of the budget as far as this replica knows; `None` without a budget.
    pub fn left(&self) -> Option<Money> {
        self.held.as_ref().and_then(|held| held.account().left())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.journal.void(self.call);
            if let Some(held) = self.held.take() {
                held.spend(Money::ZERO);
            }
        }
    }
}
