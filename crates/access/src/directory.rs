//! Every key there is, in memory, by its hash.
//!
//! A request must not wait for the database to know who asks, nor stop when the database does. So each replica
//! keeps all keys, as one immutable snapshot; what changes is read from the Store's list of changes, at once when
//! somebody says so and every half second in any case.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use store::{Change, Db, Group, KeyFilter, KeyRow, StoreError, now_ms};
use subtle::ConstantTimeEq as _;

use crate::caller::Caller;
use crate::identity::{Permissions, Roles};
use crate::ledger::Treasury;
use crate::limits::Limits;
use crate::models::ModelPatterns;

/// The longest credential we look at.
const MAX_PRESENTED: usize = 512;
/// Rows read at once.
const PAGE: i64 = 1000;

pub(crate) type Hash = [u8; 32];

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Nobody here has it.
    #[error("That API key is not known here: check it, or ask for a new one.")]
    Unknown,
    /// It was switched off.
    #[error("That API key is disabled: ask its operator to enable it, or for a new one.")]
    Disabled,
    /// Its time is over.
    #[error("That API key has expired: ask for a new one.")]
    Expired,
    /// It was rotated and the overlap is over.
    #[error("That API key was replaced by a newer one: use the newer one.")]
    Replaced,
}

impl BadKey {
    /// For programs.
    pub fn code(self) -> &'static str {
        match self {
            BadKey::Unknown => "invalid_api_key",
            BadKey::Disabled => "api_key_disabled",
            BadKey::Expired => "api_key_expired",
            BadKey::Replaced => "api_key_replaced",
        }
    }
}

/// The keys in force.
#[derive(Debug)]
pub(crate) struct Directory {
    snapshot: ArcSwap<Snapshot>,
    /// One at a time brings it up to date.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Snapshot {
    revision: i64,
    by_hash: HashMap<Hash, Entry, foldhash::fast::RandomState>,
    keys: HashMap<i64, Arc<KeyRow>>,
    groups: HashMap<i64, Arc<Group>>,
    roles: Roles,
}

#[derive(Clone, Debug)]
struct Entry {
    hash: Hash,
    caller: Arc<Caller>,
    enabled: bool,
    /// It is the hash of before the last rotation, good until then.
    replaced_at: Option<i64>,
}

/// The hash under which a credential is kept.
pub(crate) fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

impl Directory {
    /// Reads everything.
    pub(crate) async fn load(db: &Db, treasury: &Treasury, roles: Roles) -> Result<Self, StoreError> {
        let snapshot = read_all(db, treasury, roles).await?;
        Ok(Directory { snapshot: ArcSwap::from_pointee(snapshot), refreshing: tokio::sync::Mutex::default() })
    }

    /// Whose credential this is. What is looked up is the hash, so that the time it takes tells nothing about
    /// keys; the last comparison is constant-time all the same.
    pub(crate) fn find(&self, presented: &str) -> Result<Arc<Caller>, BadKey> {
        if presented.is_empty() || presented.len() > MAX_PRESENTED {
            return Err(BadKey::Unknown);
        }
        let digest = hash(presented);
        let snapshot = self.snapshot.load();
        let entry = snapshot.by_hash.get(&digest).ok_or(BadKey::Unknown)?;
        if !bool::from(entry.hash.ct_eq(&digest)) {
            return Err(BadKey::Unknown);
        }
        if !entry.enabled {
            return Err(BadKey::Disabled);
        }
        if entry.caller.expires_at.is_some() || entry.replaced_at.is_some() {
            let now = now_ms();
            if entry.caller.expires_at.is_some_and(|end| end <= now) {
                return Err(BadKey::Expired);
            }
            if entry.replaced_at.is_some_and(|end| end <= now) {
                return Err(BadKey::Replaced);
            }
        }
        Ok(Arc::clone(&entry.caller))
    }

    /// The caller of a key by its name.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Caller>, BadKey> {
        let snapshot = self.snapshot.load();
        let row = snapshot.keys.values().find(|key| key.fields.name == name).ok_or(BadKey::Unknown)?;
        let entry =
            parse_hash(&row.hash).and_then(|hash| snapshot.by_hash.get(&hash)).ok_or(BadKey::Unknown)?;
        if !entry.enabled {
            return Err(BadKey::Disabled);
        }
        match entry.caller.expires_at.is_some_and(|end| end <= now_ms()) {
            true => Err(BadKey::Expired),
            false => Ok(Arc::clone(&entry.caller)),
        }
    }

    /// The roles in force.
    pub(crate) fn roles(&self) -> Roles {
        self.snapshot.load().roles.clone()
    }

    /// A group by name, as tokens name theirs.
    pub(crate) fn group_named(&self, name: &str) -> Option<Arc<Group>> {
        self.snapshot.load().groups.values().find(|group| group.name == name).cloned()
    }

    /// The keys that have to be rotated by a time, as `due` says of each.
    pub(crate) fn due(&self, by: i64, due: impl Fn(&KeyRow) -> Option<i64>) -> Vec<Arc<KeyRow>> {
        let is_overdue = |key: &&Arc<KeyRow>| {
            key.fields.enabled && !key.fields.single_use && due(key).is_some_and(|due| due <= by)
        };
        let mut keys: Vec<_> = self.snapshot.load().keys.values().filter(is_overdue).cloned().collect();
        keys.sort_by_key(|key| key.id);
        keys
    }

    /// Catches up with the Store. Returns what changed, which concerns others too.
    pub(crate) async fn refresh(&self, db: &Db, treasury: &Treasury) -> Result<Vec<Change>, StoreError> {
        let _one = self.refreshing.lock().await;
        let mut all = Vec::new();
        loop {
            let old = self.snapshot.load_full();
            let Some(changes) = db.changes_after(old.revision).await? else {
                let revision = db.revision().await?;
                self.snapshot.store(Arc::new(read_all(db, treasury, old.roles.clone()).await?));
                all.push(Change { revision, kind: Change::ALL.into(), item: String::new() });
                return Ok(all);
            };
            let Some(last) = changes.last() else { return Ok(all) };
            let mut new = Snapshot { revision: last.revision, ..(*old).clone() };
            for change in &changes {
                new.apply(db, treasury, change).await?;
            }
            self.snapshot.store(Arc::new(new));
            all.extend(changes);
        }
    }

    /// Puts other roles in force.
    pub(crate) async fn set_roles(&self, treasury: &Treasury, roles: Roles) {
        let _one = self.refreshing.lock().await;
        let mut new = (*self.snapshot.load_full()).clone();
        new.roles = roles;
        let rows: Vec<Arc<KeyRow>> = new.keys.values().cloned().collect();
        for row in rows {
            new.put(treasury, row);
        }
        self.snapshot.store(Arc::new(new));
    }
}

async fn read_all(db: &Db, treasury: &Treasury, roles: Roles) -> Result<Snapshot, StoreError> {
    // The revision first: what changes while we read is then read again.
    let mut snapshot = Snapshot { revision: db.revision().await?, roles, ..Snapshot::default() };
    let mut after = 0;
    loop {
        let groups = db.groups(None, after, PAGE).await?;
        let Some(last) = groups.last() else { break };
        after = last.id;
        for group in groups {
            treasury.account(&group);
            snapshot.groups.insert(group.id, Arc::new(group));
        }
    }
    after = 0;
    loop {
        let keys = db.keys(&KeyFilter::default(), after, PAGE).await?;
        let Some(last) = keys.last() else { return Ok(snapshot) };
        after = last.id;
        for key in keys {
            snapshot.put(treasury, Arc::new(key));
        }
    }
}

impl Snapshot {
    async fn apply(&mut self, db: &Db, treasury: &Treasury, change: &Change) -> Result<(), StoreError> {
        let Ok(id) = change.item.parse::<i64>() else { return Ok(()) };
        match change.kind.as_str() {
            "key" => match db.key(id).await {
                Ok(row) => self.put(treasury, Arc::new(row)),
                Err(StoreError::NotFound { .. }) => self.remove(id),
                Err(error) => return Err(error),
            },
            "group" => match db.group(id).await {
                Ok(group) => {
                    treasury.account(&group);
                    self.groups.insert(id, Arc::new(group));
                    let of_group = |row: &&Arc<KeyRow>| row.fields.group_id == Some(id);
                    let rows: Vec<Arc<KeyRow>> = self.keys.values().filter(of_group).cloned().collect();
                    for row in rows {
                        self.put(treasury, row);
                    }
                }
                Err(StoreError::NotFound { .. }) => {
                    self.groups.remove(&id);
                }
                Err(error) => return Err(error),
            },
            _ => {}
        }
        Ok(())
    }

    fn remove(&mut self, id: i64) {
        if let Some(row) = self.keys.remove(&id) {
            for hash in hashes(&row) {
                self.by_hash.remove(&hash);
            }
        }
    }

    fn put(&mut self, treasury: &Treasury, row: Arc<KeyRow>) {
        self.remove(row.id);
        let caller = Arc::new(self.caller(treasury, &row));
        let enabled = row.fields.enabled;
        let present = parse_hash(&row.hash).map(|hash| (hash, None));
        let previous = row.previous_hash.as_deref().and_then(parse_hash).zip(row.previous_until.map(Some));
        for (hash, replaced_at) in present.into_iter().chain(previous) {
            let entry = Entry { hash, caller: Arc::clone(&caller), enabled, replaced_at };
            self.by_hash.insert(hash, entry);
        }
        self.keys.insert(row.id, row);
    }

    fn caller(&self, treasury: &Treasury, row: &KeyRow) -> Caller {
        let fields = &row.fields;
        let group = fields.group_id.and_then(|id| self.groups.get(&id));
        let list = |text: &Option<String>| -> Option<Vec<String>> {
            text.as_deref().and_then(|text| serde_json::from_str(text).ok())
        };
        let limits = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Limits>(text).ok());
        Caller {
            label: row.id.to_string().into(),
            key_id: Some(row.id),
            // A role that is gone allows nothing.
            permissions: self.roles.get(&fields.role).cloned().unwrap_or_else(Permissions::none),
            account: group.map(|group| treasury.account(group)),
            user: fields.user.as_deref().map(Into::into),
            models: list(&fields.allowed_models).and_then(|list| ModelPatterns::new(&list).ok()),
            limits: limits(fields.limits.as_deref()),
            group_limits: group.and_then(|group| limits(group.limits.as_deref())),
            tags: list(&fields.tags).unwrap_or_default(),
            expires_at: fields.expires_at,
            single_use: fields.single_use,
        }
    }
}

fn hashes(row: &KeyRow) -> impl Iterator<Item = Hash> {
    [Some(row.hash.as_str()), row.previous_hash.as_deref()].into_iter().flatten().filter_map(parse_hash)
}

fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
}
