//! Everything of this crate together, as an application runs it.

mod data_key;
mod telling;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use base::seams::Events;
use base::{Money, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::windows::SharedWindows;
use store::{Change, Db, Engine, GroupFields, KeyFields, NewKey, StoreError, now_ms};
use subtle::ConstantTimeEq as _;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::caller::Caller;
use crate::directory::{BadKey, Directory, Hash, hash};
use crate::door::Door;
use crate::identity::{Permissions, Roles, TokenError, TokenPrincipal, TokenVerifier, looks_like_token};
use crate::ip::IpSettings;
use crate::ledger::{Desk, JournalKind, Notify, OwnReplica, Treasury, flush, recover_dead, sweep_silent};
use crate::limits::{LimitSettings, LimiterError};
use crate::rotation::RotationSettings;
use crate::sealing::{Sealer, SealingError};

/// The shortest admin key we take from the environment.
const MIN_ADMIN: usize = 8;
/// How often journals are carried into the Store.
const FLUSH: Duration = Duration::from_millis(100);
/// How often we look whether something changed, whatever the events say.
const POLL: Duration = Duration::from_millis(500);
/// How often what is past its time is removed.
const TIDY: Duration = Duration::from_secs(600);
/// How often we say that we are alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The topic on which replicas tell each other that something changed.
const CHANGES: &str = "changes";
/// The topic on which they ask for leases back.
const RECLAIM: &str = "reclaim";
/// The topic on which they tell each other of addresses that are banned, and of bans that are lifted.
const BANS: &str = "bans";
/// The topic of what was spent.
pub const SPEND: &str = "spend";
/// The name under which the Store keeps the hash of the master key.
const ADMIN_HASH: &str = "admin_sha256";
/// The name under which it keeps the keys that seal secrets, themselves sealed.
const DATA_KEYS: &str = "data_keys";

/// The keys made on the first run: shown once.
#[derive(Debug)]
pub struct FirstRun {
    /// The admin (master) key.
    pub admin_key: Secret,
    /// The default virtual key.
    pub key: Secret,
}

/// What it is made of.
pub struct Parts<'a> {
    /// The Store, migrated.
    pub db: Db,
    /// How replicas tell each other.
    pub events: Arc<dyn Events>,
    /// The data folder; the journals are in a folder of it.
    pub dir: &'a Path,
    /// The master key from the environment.
    pub admin_key: Option<&'a Secret>,
    /// The roles of the settings.
    pub roles: Roles,
    /// `limits:`.
    pub limits: LimitSettings,
    /// `ip:`.
    pub ip: IpSettings,
    /// What counts for all replicas together, when there is something.
    pub windows: Option<Arc<dyn SharedWindows>>,
    /// How long the audit is kept.
    pub keep_audit: Duration,
    /// How long single calls are kept; their sums stay.
    pub keep_requests: Duration,
    /// How old keys may grow.
    pub rotation: RotationSettings,
    /// How long a silent replica's leases are kept for it.
    pub lease_grace: Duration,
    /// Where the usage journal is.
    pub journal: JournalKind,
    /// Of this program.
    pub version: &'a str,
}

/// Why it does not start, or an operation fails.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The Store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of the journals.
    #[error("the journal's folder: {0}")]
    Io(#[from] io::Error),
    /// The keys that seal secrets.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The limits of the settings.
    #[error("limits: {0}")]
    Limits(#[from] LimiterError),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// The admin key from the environment.
    #[error("TRUNKLINE_ADMIN_KEY has fewer than {MIN_ADMIN} characters")]
    WeakAdminKey,
}

/// Who may do what, and how much.
pub struct Access {
    db: Db,
    events: Arc<dyn Events>,
    directory: Directory,
    treasury: Arc<Treasury>,
    admin: (Hash, Arc<Caller>),
    own: OwnReplica,
    door: Door,
    tokens: ArcSwapOption<TokenVerifier>,
    /// Keeps the keys of the tokens' issuer fresh.
    refreshing: std::sync::Mutex<Option<JoinHandle<()>>>,
    sealer: ArcSwapOption<Sealer>,
    /// What the data keys are sealed with.
    root: Option<Secret>,
    rotation: ArcSwap<RotationSettings>,
    changes: broadcast::Sender<Change>,
    stop: watch::Sender<bool>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

struct Publisher {
    events: Arc<dyn Events>,
    control: tokio::runtime::Handle,
}

impl Notify for Publisher {
    fn give_back(&self, group: i64) {
        let events = Arc::clone(&self.events);
        self.control.spawn(async move {
            // Lost, the others see it when they next look.
            if let Err(error) = events.publish(RECLAIM, &group.to_string()).await {
                tracing::debug!(%error, "a reclaim was not published");
            }
        });
    }
}

impl Access {
    /// Starts: reads everything into memory, replays what processes that died have left, and keeps both up to
    /// date from then on. Must be called on the runtime that all work with the Store is done on.
    pub async fn start(parts: Parts<'_>) -> Result<(Arc<Self>, Option<FirstRun>), AccessError> {
        let Parts { db, events, dir, admin_key, roles, limits, ip, windows, .. } = parts;
        let Parts { keep_audit, keep_requests, lease_grace, journal, version, rotation, .. } = parts;
        let door = Door::new(limits, ip, windows)?;
        if admin_key.is_some_and(|key| key.expose().len() < MIN_ADMIN) {
            return Err(AccessError::WeakAdminKey);
        }
        let (admin, first_run) = first_run(&db, admin_key).await?;
        let root = root(&db, dir, admin_key)?;
        let sealer = sealer(&db, root.as_ref()).await?.map(Arc::new);
        let own = OwnReplica::take(&dir.join("journal"), journal)?;
        let control = tokio::runtime::Handle::current();
        let publisher = Box::new(Publisher { events: Arc::clone(&events), control });
        let treasury = Treasury::begin(db.clone(), own.id.clone(), journal, version, publisher);
        treasury.register().await?;
        if let Err(error) = recover_dead(&db, &own).await {
            tracing::error!(%error, "the usage journal of a process that died cannot be replayed yet");
        }
        let directory = Directory::load(&db, &treasury, roles).await?;
        let access = Arc::new(Access {
            db,
            events,
            directory,
            treasury,
            admin: (admin, Arc::new(master())),
            own,
            door,
            tokens: ArcSwapOption::empty(),
            refreshing: std::sync::Mutex::default(),
            sealer: ArcSwapOption::new(sealer),
            root,
            rotation: ArcSwap::from_pointee(rotation),
            changes: broadcast::channel(1024).0,
            stop: watch::channel(false).0,
            tasks: std::sync::Mutex::default(),
        });
        let tasks = [
            tokio::spawn(keep_flushing(Arc::clone(&access))),
            tokio::spawn(keep_current(Arc::clone(&access))),
            tokio::spawn(keep_alive(Arc::clone(&access), lease_grace)),
            tokio::spawn(keep_tidy(Arc::clone(&access), keep_audit, keep_requests)),
            tokio::spawn(listen(Arc::clone(&access), CHANGES)),
            tokio::spawn(listen(Arc::clone(&access), RECLAIM)),
            tokio::spawn(listen(Arc::clone(&access), BANS)),
        ];
        access.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(tasks);
        Ok((access, first_run))
    }

    /// Whose key this is.
    pub fn authenticate(&self, presented: &str) -> Result<Arc<Caller>, BadKey> {
        let (admin, master) = &self.admin;
        match self.directory.find(presented) {
            Err(BadKey::Unknown) if bool::from(hash(presented).ct_eq(admin)) => Ok(Arc::clone(master)),
            found => found,
        }
    }

    /// Who a key stands for, by the key's name: for work of our own that runs under it.
    pub fn named(&self, name: &str) -> Result<Arc<Caller>, BadKey> {
        self.directory.named(name)
    }

    /// Who a token of the identity provider speaks for; `None` when there is no such provider, or this is no token.
    pub async fn authenticate_token(&self, presented: &str) -> Option<Result<Arc<Caller>, TokenError>> {
        let tokens = self.tokens.load_full().filter(|_| looks_like_token(presented))?;
        let verified = tokens.verify_or_refresh(presented).await;
        Some(verified.map(|principal| Arc::new(self.token_caller(&principal))))
    }

    fn token_caller(&self, principal: &TokenPrincipal) -> Caller {
        let group = principal.group.as_deref().and_then(|name| self.directory.group_named(name));
        let limits = |group: &Arc<store::Group>| serde_json::from_str(group.limits.as_deref()?).ok();
        Caller {
            label: format!("token:{}", principal.subject).into(),
            key_id: None,
            permissions: principal.permissions.clone(),
            group_limits: group.as_ref().and_then(limits),
            account: group.map(|group| self.treasury.account(&group)),
            user: Some(Arc::clone(&principal.user)),
            models: None,
            limits: None,
            tags: Vec::new(),
            expires_at: Some(principal.expires_at),
            single_use: false,
        }
    }

    /// Takes tokens of this identity provider from now on, or of none. On the runtime of [`Access::start`].
    pub fn set_tokens(&self, verifier: Option<TokenVerifier>) {
        let task = verifier.clone().map(|verifier| tokio::spawn(verifier.run()));
        self.tokens.store(verifier.map(Arc::new));
        let mut refreshing = self.refreshing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *refreshing, task) {
            old.abort();
        }
    }

    /// Who gets in at all.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Seals secrets for the Store; none when there is no master key to do it with.
    pub fn sealer(&self) -> Option<Arc<Sealer>> {
        self.sealer.load_full()
    }

    /// Takes the one use of a single-use key. `false`: somebody has had it.
    pub async fn use_up(&self, key: i64) -> Result<bool, StoreError> {
        let used = self.db.use_up_key(key).await?;
        self.announce().await;
        Ok(used)
    }

    /// A worker's way to the money.
    pub fn desk(&self) -> io::Result<Desk> {
        Desk::open(&self.treasury, &self.own.dir)
    }

    /// The Store.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// How replicas tell each other.
    pub fn events(&self) -> &Arc<dyn Events> {
        &self.events
    }

    /// The name of this process among the replicas.
    pub fn replica(&self) -> &str {
        &self.own.id
    }

    /// The roles in force.
    pub fn roles(&self) -> Roles {
        self.directory.roles()
    }

    /// Puts other roles in force.
    pub async fn set_roles(&self, roles: Roles) {
        if let Some(tokens) = &*self.tokens.load() {
            tokens.set_roles(&roles);
        }
        self.directory.set_roles(&self.treasury, roles).await;
    }

    /// What changes from now on, on any replica.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Puts in force here what was just written to the Store, and tells the other replicas.
    pub async fn announce(&self) {
        self.refresh().await;
        if let Err(error) = self.events.publish(CHANGES, "").await {
            tracing::warn!(%error, "a change was not published; other replicas see it within half a second");
        }
    }

    /// Carries what was used until now into the Store, so that what is read there is exact for this replica.
    pub async fn settle_up(&self) {
        match flush(&self.treasury).await {
            Ok(settled) => {
                for alert in settled.alerts {
                    self.alert(&alert).await;
                }
                for (group, cost) in settled.spent {
                    let text = serde_json::json!({"kind": "spend", "group_id": group, "cost": cost});
                    self.tell(SPEND, &text.to_string()).await;
                }
            }
            Err(error) => tracing::error!(%error, "usage is kept in the journal until the store takes it"),
        }
    }

    /// Publishes what nobody has to hear.
    async fn tell(&self, topic: &str, text: &str) {
        if let Err(error) = self.events.publish(topic, text).await {
            tracing::debug!(%error, topic, "an event was not published");
        }
    }

    async fn refresh(&self) {
        match self.directory.refresh(&self.db, &self.treasury).await {
            Ok(changes) => {
                // Before whoever reads what is sealed hears of anything.
                if changes.iter().any(|change| [DATA_KEYS, Change::ALL].contains(&change.kind.as_str())) {
                    self.reload_sealer().await;
                }
                for change in changes {
                    // Nobody listens: fine.
                    drop(self.changes.send(change));
                }
            }
            Err(error) => tracing::error!(%error, "changes cannot be read; what is known stays in force"),
        }
    }

    /// Ends: everything that was used is carried into the Store, what is leased is given back.
    pub async fn stop(self: Arc<Self>) {
        self.stop.send_replace(true);
        self.set_tokens(None);
        let tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task of access ended with a panic");
            }
        }
        // Whoever starts next in this folder replays what we cannot carry now.
        if let Err(error) = self.leave().await {
            tracing::error!(%error, "the usage journal stays for the next start");
        }
        self.db.close().await;
    }

    async fn leave(&self) -> Result<(), AccessError> {
        let settled = flush(&self.treasury).await;
        settled.map_err(|error| io::Error::other(error.to_string()))?;
        self.db.release_replica(&self.own.id, false).await?;
        self.own.leave()?;
        Ok(())
    }
}

/// What seals secrets in the Store. Its root is the master key of the environment; without one it is a key of the
/// data folder's own, which will do as long as that folder is the only one: of replicas that share a PostgreSQL
/// server each would have another.
fn root(db: &Db, dir: &Path, admin_key: Option<&Secret>) -> Result<Option<Secret>, AccessError> {
    Ok(match (admin_key, db.engine()) {
        (Some(key), _) => Some(key.clone()),
        (None, Engine::Postgres) => None,
        (None, Engine::Sqlite) => Some(folder_key(dir)?),
    })
}

async fn sealer(db: &Db, root: Option<&Secret>) -> Result<Option<Sealer>, AccessError> {
    let Some(root) = root else { return Ok(None) };
    let kept = match db.meta(DATA_KEYS).await? {
        Some(kept) => kept,
        None => {
            let (_, fresh) = Sealer::create(root)?;
            let fresh = serde_json::to_string(&fresh).map_err(io::Error::other)?;
            db.meta_or_set(DATA_KEYS, &fresh).await?
        }
    };
    let kept = serde_json::from_str(&kept)
        .map_err(|_| StoreError::Schema(format!("meta.{DATA_KEYS} is damaged")))?;
    match Sealer::new(root, &kept) {
        Ok(sealer) => Ok(Some(sealer)),
        Err(error) => {
            // Everything else works without it; what was sealed stays as it is.
            tracing::error!(
                %error,
                "the secrets in the store were sealed with another master key: set TRUNKLINE_ADMIN_KEY to that one"
            );
            Ok(None)
        }
    }
}

/// The root key of a data folder, made when it is missing.
fn folder_key(dir: &Path) -> Result<Secret, AccessError> {
    let path = dir.join("master.key");
    match fs::read_to_string(&path) {
        Ok(key) => return Ok(Secret::from(key.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let key = random_key("")?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(key.expose().as_bytes())?;
    file.sync_all()?;
    Ok(key)
}

/// The caller that the master key makes.
fn master() -> Caller {
    Caller {
        label: "admin".into(),
        key_id: None,
        permissions: Permissions::all(),
        account: None,
        user: None,
        models: None,
        limits: None,
        group_limits: None,
        tags: Vec::new(),
        expires_at: None,
        single_use: false,
    }
}

/// The master key's hash; and on the first run of an installation its keys. Of replicas that start together one
/// has the first run.
async fn first_run(db: &Db, admin_key: Option<&Secret>) -> Result<(Hash, Option<FirstRun>), AccessError> {
    let admin = match admin_key {
        Some(key) => key.clone(),
        None => random_key("tl-admin-")?,
    };
    let digest = hash(admin.expose());
    let ours = hex::encode(digest);
    let known = db.meta(ADMIN_HASH).await?;
    if let Some(known) = &known {
        return Ok((if admin_key.is_some() { digest } else { parse(known)? }, None));
    }
    let kept = db.meta_or_set(ADMIN_HASH, &ours).await?;
    if kept != ours {
        return Ok((if admin_key.is_some() { digest } else { parse(&kept)? }, None));
    }
    let group = GroupFields { name: "default".into(), unlimited: true, ..GroupFields::default() };
    let group = db.create_group(&group, Money::ZERO, "first run").await?;
    let fields = KeyFields {
        name: "default".into(),
        group_id: Some(group.id),
        role: "caller".into(),
        enabled: true,
        ..KeyFields::default()
    };
    let (key, new) = new_key("sk-tl-")?;
    db.create_key(&fields, &new).await?;
    Ok((digest, Some(FirstRun { admin_key: admin, key })))
}

fn parse(text: &str) -> Result<Hash, StoreError> {
    let mut hash = [0; 32];
    let wrong = |_| StoreError::Schema(format!("meta.{ADMIN_HASH} is no SHA-256"));
    hex::decode_to_slice(text, &mut hash).map_err(wrong)?;
    Ok(hash)
}

/// A key nobody can guess, and what is kept of it.
pub fn new_key(prefix: &str) -> Result<(Secret, NewKey), AccessError> {
    let key = random_key(prefix)?;
    let kept = kept_of(key.expose());
    Ok((key, kept))
}

/// What is kept of a key: its hash, and what people recognise it by.
pub fn kept_of(key: &str) -> NewKey {
    let chars: Vec<char> = key.chars().collect();
    let hint = match chars.len() {
        // Of a short key the ends would be most of it.
        0..16 => "…".to_owned(),
        len => chars[..6].iter().chain(['…'].iter()).chain(&chars[len - 4..]).collect(),
    };
    NewKey { hash: hex::encode(hash(key)), hint }
}

fn random_key(prefix: &str) -> Result<Secret, AccessError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| AccessError::Random(e.to_string()))?;
    Ok(Secret::from(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// Waits for the next round, or for the end: then `false`.
async fn next(interval: &mut tokio::time::Interval, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        _ = interval.tick() => true,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

async fn keep_flushing(access: Arc<Access>) {
    let (mut interval, mut stop) = (every(FLUSH), access.stop.subscribe());
    while next(&mut interval, &mut stop).await {
        access.settle_up().await;
    }
}

async fn keep_current(access: Arc<Access>) {
    let (mut interval, mut stop) = (every(POLL), access.stop.subscribe());
    while next(&mut interval, &mut stop).await {
        access.refresh().await;
        let answered = access.treasury.answer().await;
        if let Err(error) = answered.and(access.treasury.give_back_idle().await) {
            tracing::error!(%error, "leases cannot be given back for now");
        }
    }
}

async fn keep_alive(access: Arc<Access>, grace: Duration) {
    let (mut interval, mut stop) = (every(HEARTBEAT), access.stop.subscribe());
    let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
    let mut round: u64 = 0;
    while next(&mut interval, &mut stop).await {
        if let Err(error) = beat(&access, grace, round).await {
            tracing::error!(error = %error, "the store does not take our heartbeat");
        }
        round += 1;
    }
}

async fn beat(access: &Access, grace: i64, round: u64) -> Result<(), StoreError> {
    let (db, id) = (&access.db, &access.own.id);
    if !db.heartbeat(id).await? {
        access.treasury.rejoin().await?;
    }
    if round % 2 == 1
        && let Err(error) = recover_dead(db, &access.own).await
    {
        tracing::error!(%error, "the usage journal of a process that died cannot be replayed yet");
    }
    if round % 10 == 5 {
        sweep_silent(db, id, now_ms().saturating_sub(grace)).await?;
    }
    if round % 3600 == 5 {
        access.remind_of_rotation().await;
    }
    Ok(())
}

/// Removes what has been kept for its time.
async fn keep_tidy(access: Arc<Access>, audit: Duration, requests: Duration) {
    let (mut interval, mut stop) = (every(TIDY), access.stop.subscribe());
    let before = |kept: Duration| now_ms() - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    while next(&mut interval, &mut stop).await {
        let db = &access.db;
        let tidied = async {
            db.prune_audit(before(audit), "system").await?;
            db.prune_requests(before(requests)).await?;
            db.prune_notifications(before(audit)).await?;
            db.prune_idempotency().await?;
            db.prune_responses().await?;
            db.prune_changes().await?;
            db.prune_single_use_keys(now_ms()).await
        };
        if let Err(error) = tidied.await {
            tracing::error!(%error, "what is past its time stays in the store for now");
        }
    }
}

async fn listen(access: Arc<Access>, topic: &'static str) {
    let mut stop = access.stop.subscribe();
    let mut subscription = match access.events.subscribe(topic).await {
        Ok(subscription) => subscription,
        Err(error) => {
            tracing::error!(%error, topic, "no events; changes are seen within half a second all the same");
            return;
        }
    };
    loop {
        let event = tokio::select! {
            event = subscription.next() => event,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(event) = event else { return };
        // Whether it tells of an event or that some were missed: there may be news.
        match topic {
            CHANGES => access.refresh().await,
            BANS => access.hear_of_ban(&event).await,
            _ => {
                if let Err(error) = access.treasury.answer().await {
                    tracing::error!(%error, "leases cannot be given back for now");
                }
            }
        }
    }
}
