//! Leasing from the Store, and giving back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Money;
use store::{Db, Grant, StoreError, now_ms};

use super::account::{Account, Held, Refusal};
use super::flush::Progress;
use super::{JournalKind, Unpaid};
use crate::journal::{Journal, SharedJournal, carry};

/// The most that is leased at once: enough for a second of busy traffic, little enough that a replica that dies
/// does not take much with it for a while.
const MOST: Money = Money::dollars(5);
/// For how long a refusal of the Store stands.
const REFUSED_MS: i64 = 25;
/// For how long its silence stands.
const SILENT_MS: i64 = 500;
/// How long a caller waits for the Store.
const PATIENCE: Duration = Duration::from_secs(2);
/// A replica that was heard of within this time is asked to give back, and waited for.
const ALIVE_MS: i64 = 3_000;
/// How long we wait for the others to give back.
const RECLAIM: Duration = Duration::from_millis(1_500);
/// How often we look whether they have.
const LOOK: Duration = Duration::from_millis(15);
/// What nobody used for so long goes back.
const IDLE_MS: i64 = 5_000;
/// How often a lease is tried while others snatch what was just leased.
const TRIES: usize = 64;

/// The shared part of the money of a replica.
pub struct Treasury {
    db: Db,
    replica: String,
    /// The Store is spoken to from here, whoever asks.
    control: tokio::runtime::Handle,
    accounts: Mutex<HashMap<i64, Arc<Account>>>,
    journals: Mutex<Vec<Arc<Journal>>>,
    /// The one journal, where it is in the Store.
    shared: Option<Arc<SharedJournal>>,
    version: String,
    /// How far the journals have been carried into the Store; held while that goes on.
    pub(super) progress: tokio::sync::Mutex<Progress>,
    /// Told when another replica has to give back.
    asked: Box<dyn Notify>,
}

/// How replicas tell each other to look at the Store now rather than soon.
pub(crate) trait Notify: Send + Sync {
    /// Others should give back what they hold of a group.
    fn give_back(&self, group: i64);
}

impl Treasury {
    /// Begins, with the journal where it is to be. On the runtime of the connections.
    pub(crate) fn begin(
        db: Db,
        replica: String,
        journal: JournalKind,
        version: &str,
        asked: Box<dyn Notify>,
    ) -> Arc<Self> {
        let control = tokio::runtime::Handle::current();
        let (shared, entries) = match journal {
            JournalKind::File => (None, None),
            JournalKind::Store => {
                let (shared, entries) = SharedJournal::new();
                (Some(Arc::new(shared)), Some(entries))
            }
        };
        let treasury = Arc::new(Treasury {
            db,
            replica,
            control,
            accounts: Mutex::default(),
            journals: Mutex::default(),
            shared,
            version: version.to_owned(),
            progress: tokio::sync::Mutex::default(),
            asked,
        });
        if let Some(entries) = entries {
            tokio::spawn(carry(Arc::downgrade(&treasury), entries));
        }
        treasury
    }

    /// Makes this replica known to the others.
    pub(crate) async fn register(&self) -> Result<(), StoreError> {
        let journal = if self.shared.is_some() { JournalKind::Store } else { JournalKind::File };
        self.db.register_replica(&self.replica, journal.as_str(), &self.version).await
    }

    /// The others took this replica for dead: its leases are gone.
    pub(crate) async fn rejoin(&self) -> Result<(), StoreError> {
        tracing::warn!("the other replicas took this one for dead: its leases are gone and are leased anew");
        for account in self.accounts() {
            account.forget();
        }
        self.register().await
    }

    /// The journal in the Store, where it is there.
    pub(crate) fn shared_journal(&self) -> Option<&Arc<SharedJournal>> {
        self.shared.as_ref()
    }

    pub(crate) fn replica(&self) -> &str {
        &self.replica
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn add_journal(&self, journal: &Arc<Journal>) {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(journal));
    }

    pub(crate) fn journals(&self) -> Vec<Arc<Journal>> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The account of a group: the same for as long as the process lives, so that what is leased stays known.
    pub(crate) fn account(&self, group: &store::Group) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let left = group.balance - group.held;
        let account = accounts
            .entry(group.id)
            .or_insert_with(|| Arc::new(Account::new(group.id, group.unlimited, left)));
        account.update(group.unlimited, left);
        Arc::clone(account)
    }

    fn accounts(&self) -> Vec<Arc<Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Sets an amount aside that what is leased does not cover.
    pub(super) async fn hold(
        self: &Arc<Self>,
        account: &Arc<Account>,
        amount: Money,
    ) -> Result<Held, Unpaid> {
        let (this, account) = (Arc::clone(self), Arc::clone(account));
        // On the runtime of the connections; and on its way to the end though the client may leave.
        let held = self.control.spawn(async move { this.hold_here(&account, amount).await });
        held.await.unwrap_or(Err(Unpaid::Unavailable))
    }

    async fn hold_here(&self, account: &Arc<Account>, amount: Money) -> Result<Held, Unpaid> {
        let mut asking = account.asking.lock().await;
        let mut reclaimed = false;
        let changed = account.changed();
        for _ in 0..TRIES {
            // Somebody before us may have leased enough, or a call that ended gave back.
            if let Some(held) = account.hold(amount) {
                return Ok(held);
            }
            // Without a price there is nothing to lease; an account is open as long as something is left.
            let shortfall = account.shortfall(amount).max(Money::nanos(1));
            if let Some(refused) = *asking
                && now_ms() < refused.until
                && changed == refused.changed
                && shortfall >= refused.shortfall
            {
                return Err(match refused.left {
                    Some(left) => Unpaid::Insufficient { left, need: amount },
                    None => Unpaid::Unavailable,
                });
            }
            let refuse = |left, ms| Some(Refusal { until: now_ms() + ms, changed, shortfall, left });
            let Some(grant) = self.lease(account, shortfall).await else {
                *asking = refuse(None, SILENT_MS);
                return Err(Unpaid::Unavailable);
            };
            if grant.unlimited || grant.granted > Money::ZERO {
                *asking = None;
            } else if reclaimed {
                account.set_tight(true);
                let left = account.left().unwrap_or_default();
                *asking = refuse(Some(left), REFUSED_MS);
                return Err(Unpaid::Insufficient { left, need: amount });
            } else {
                reclaimed = true;
                if let Err(error) = self.reclaim(account.group_id).await {
                    tracing::error!(%error, group = account.group_id, "leases cannot be asked back");
                    *asking = refuse(None, SILENT_MS);
                    return Err(Unpaid::Unavailable);
                }
            }
        }
        Err(Unpaid::Unavailable)
    }

    /// Leases more, as long as that takes no longer than a caller should wait; what is granted later is there for
    /// the next one. `None`: the Store does not answer.
    async fn lease(&self, account: &Arc<Account>, shortfall: Money) -> Option<Grant> {
        let (db, replica, account) = (self.db.clone(), self.replica.clone(), Arc::clone(account));
        let leasing = tokio::spawn(async move {
            let grant = db.lease(&replica, account.group_id, shortfall, MOST).await;
            let grant = grant.map_err(|error| {
                tracing::error!(%error, group = account.group_id, "no lease from the store");
            });
            let grant = grant.ok()?;
            account.set_left(grant.left);
            if grant.unlimited {
                account.set_unlimited();
            } else if grant.granted > Money::ZERO {
                account.add(grant.granted);
                account.set_tight(grant.left == Money::ZERO);
            }
            Some(grant)
        });
        tokio::time::timeout(PATIENCE, leasing).await.ok()?.ok()?
    }

    /// Asks the other replicas for what they hold, and waits until they have given it back.
    async fn reclaim(&self, group: i64) -> Result<(), StoreError> {
        let alive = now_ms() - ALIVE_MS;
        if self.db.ask_back(&self.replica, group, alive).await? == 0 {
            return Ok(());
        }
        self.asked.give_back(group);
        let deadline = tokio::time::Instant::now() + RECLAIM;
        while self.db.unanswered(&self.replica, group, alive).await? > 0 {
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!(group, "a replica did not give back its lease in time");
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Gives back what others ask for. Called when they say so, and every half second.
    pub(crate) async fn answer(&self) -> Result<(), StoreError> {
        let asked = self.db.asked_of(&self.replica).await?;
        for group in asked {
            let account = self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(&group).cloned();
            let unused = match &account {
                None => Money::ZERO,
                Some(account) => {
                    account.set_tight(true);
                    account.take_unused()
                }
            };
            self.put_back(group, account.as_deref(), unused).await?;
        }
        Ok(())
    }

    /// Gives back what nobody here has used for a while, or what others are short of.
    pub(crate) async fn give_back_idle(&self) -> Result<(), StoreError> {
        let idle_since = now_ms() - IDLE_MS;
        for account in self.accounts() {
            if account.should_give_back(idle_since) {
                let unused = account.take_unused();
                self.put_back(account.group_id, Some(&account), unused).await?;
            }
        }
        Ok(())
    }

    async fn put_back(&self, group: i64, account: Option<&Account>, amount: Money) -> Result<(), StoreError> {
        let given = self.db.give_back(&self.replica, group, amount).await;
        if let (Err(error), Some(account)) = (&given, account) {
            // Had it perhaps been given back and only the answer was lost, to keep it could be to spend it twice:
            // then it stays in the lease, which is returned as a whole when this replica ends.
            if error.was_not_tried() {
                account.add(amount);
            }
        }
        given
    }
}
