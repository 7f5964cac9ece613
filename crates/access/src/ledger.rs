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
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base::Money;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::UsageCall;
use tokio::sync::oneshot;
use tokio::time::Timeout;

use crate::journal::{Journal, SharedJournal};

pub use account::Account;
pub(crate) use flush::{Settled, flush};
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

/// How long the end of an answer waits until the Store has what the call came to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the journal is: what was begun and what it came to, kept before anybody is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JournalKind {
    /// In files of the data folder.
    #[default]
    File,
    /// In the Store, for replicas without a disk of their own: two more transactions a call.
    Store,
}

impl JournalKind {
    /// Its name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            JournalKind::File => "file",
            JournalKind::Store => "store",
        }
    }
}

/// A worker's way to the money: a journal of its own where journals are files, everything else shared.
#[derive(Clone)]
pub struct Desk {
    treasury: Arc<Treasury>,
    journal: Way,
}

/// The way to a journal.
#[derive(Clone, Debug)]
enum Way {
    File(Arc<Journal>),
    Store(Arc<SharedJournal>),
}

/// A call's number in its journal.
#[derive(Debug)]
enum Number {
    File(Arc<Journal>, u64),
    Store(Arc<SharedJournal>, i64),
}

impl Desk {
    pub(crate) fn open(treasury: &Arc<Treasury>, dir: &Path) -> io::Result<Self> {
        static WORKER: AtomicU32 = AtomicU32::new(0);
        if let Some(journal) = treasury.shared_journal() {
            return Ok(Desk { treasury: Arc::clone(treasury), journal: Way::Store(Arc::clone(journal)) });
        }
        let worker = WORKER.fetch_add(1, Ordering::Relaxed);
        let journal = Arc::new(Journal::create(dir, format!("{}-{worker}", treasury.replica()))?);
        treasury.add_journal(&journal);
        Ok(Desk { treasury: Arc::clone(treasury), journal: Way::File(journal) })
    }

    /// Sets aside what a call can cost at most and notes in the journal that it begins. `known` is what is known
    /// of it, from which it is charged should this process die before it ends.
    pub async fn begin(
        &self,
        account: Option<&Arc<Account>>,
        bound: Money,
        known: &UsageCall<'_>,
    ) -> Result<Charge, Unpaid> {
        let held = match account {
            None => None,
            Some(account) => match account.hold(bound) {
                Some(held) => Some(held),
                None => Some(self.treasury.hold(account, bound).await?),
            },
        };
        match &self.journal {
            Way::File(journal) => match journal.open(bound.as_nanos(), known) {
                Ok(call) => Ok(Charge { held, number: Some(Number::File(Arc::clone(journal), call)) }),
                Err(error) => {
                    tracing::error!(%error, journal = journal.name(), "the usage journal cannot be written");
                    // Gives back what was set aside.
                    drop(Charge { held, number: None });
                    Err(Unpaid::Unavailable)
                }
            },
            Way::Store(journal) => {
                let (call, written) = journal.open(bound, known);
                // From here on it is closed, even if the client goes away while we wait.
                let charge = Charge { held, number: Some(Number::Store(Arc::clone(journal), call)) };
                match tokio::time::timeout(PATIENCE, written).await {
                    Ok(Ok(true)) => Ok(charge),
                    _ => Err(Unpaid::Unavailable),
                }
            }
        }
    }
}

/// A call that is under way and will be paid for. It must be settled; one that is dropped is settled at no cost,
/// which is right for a call that was never sent.
#[derive(Debug)]
pub struct Charge {
    held: Option<account::Held>,
    /// Until it is settled.
    number: Option<Number>,
}

/// What was settled is on its way to the journal: the last of the answer waits for it. That comes to an end when the
/// Store does not answer; then the call stays open there, and is written down as soon as it does.
pub struct Settling(Pin<Box<Timeout<oneshot::Receiver<()>>>>);

impl Future for Settling {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx).map(drop)
    }
}

impl Charge {
    /// Charges what the call came to (`cost`, and all the rest) and gives back what was set aside beyond it. `None`:
    /// it is written down already.
    pub fn settle(mut self, ended: &UsageCall<'_>) -> Option<Settling> {
        let settling = match self.number.take() {
            None => None,
            Some(Number::File(journal, call)) => {
                journal.settle(call, ended);
                None
            }
            Some(Number::Store(journal, call)) => {
                let written = journal.end(call, Some(ended));
                // Outside of a runtime nobody waits.
                let waits = tokio::runtime::Handle::try_current().is_ok();
                waits.then(|| Settling(Box::pin(tokio::time::timeout(PATIENCE, written))))
            }
        };
        if let Some(held) = self.held.take() {
            held.spend(Money::nanos(ended.cost));
        }
        settling
    }

    /// What is left of the budget as far as this replica knows; `None` without a budget.
    pub fn left(&self) -> Option<Money> {
        self.held.as_ref().and_then(|held| held.account().left())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        match self.number.take() {
            None => {}
            Some(Number::File(journal, call)) => journal.void(call),
            Some(Number::Store(journal, call)) => drop(journal.end(call, None)),
        }
        if let Some(held) = self.held.take() {
            held.spend(Money::ZERO);
        }
    }
}
