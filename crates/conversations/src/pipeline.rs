//! The pipeline as others see it: vCons go in and are found, lists and dead letters are looked at.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base::Secret;
use base::seams::{Cache, DeadLetter, Message, Queue, Retry, SeamError, Which};
use base::vcons::{Draft, Query, Stored, Vcons};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use telemetry::Tracer;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;

use crate::config::{IngressAuth, Ordered, Sections, mask, unmask};
use crate::environment::{Environment, Variables};
use crate::finish::Finisher;
use crate::intake::Intake;
use crate::metrics::PipelineMetrics;
use crate::plan::Plan;
use crate::settings::{AccessMode, ConversationSettings};
use crate::vcon::{Vcon, validate};
use crate::worker::{self, Locks};
use crate::{followers, terms};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often what was put off is done.
const TIDY: Duration = Duration::from_secs(1);
/// How often the lengths of lists are measured.
const MEASURE: Duration = Duration::from_secs(5);
/// How long a storage may take to look for a vCon.
const FALLBACK: Duration = Duration::from_secs(30);
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Events that wait for somebody who listens.
const EVENTS: usize = 4_096;

/// What a pipeline is made of.
pub struct Parts {
    /// `conversations:`.
    pub settings: ConversationSettings,
    /// What links and storages find around them.
    pub environment: Environment,
    /// Where vCons are kept.
    pub vcons: Arc<dyn Vcons>,
    /// How long vCons are kept where the settings do not say.
    pub keep: Option<Duration>,
    /// Where spans go.
    pub tracer: Tracer,
    /// Whether to work, or only to take in.
    pub work: bool,
}

/// Why it does not start, or does not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PipelineError {
    /// A file or what is in it.
    #[error("{0}")]
    File(String),
    /// Metrics that were declared before.
    #[error("{0}")]
    Metrics(String),
}

/// What everything here shares.
pub(crate) struct Core {
    pub(crate) settings: ArcSwap<ConversationSettings>,
    pub(crate) plan: ArcSwap<Plan>,
    pub(crate) environment: ArcSwap<Environment>,
    pub(crate) tokens: ArcSwap<Vec<Secret>>,
    pub(crate) vcons: Arc<dyn Vcons>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) intake: Intake,
    pub(crate) finisher: Finisher,
    pub(crate) pushed: Arc<Notify>,
    pub(crate) metrics: PipelineMetrics,
    pub(crate) tracer: Tracer,
    pub(crate) locks: Locks,
    keep: Option<Duration>,
    events: broadcast::Sender<Arc<Event>>,
}

/// Something that happened to a vCon.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// The vCon.
    pub uuid: String,
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// What.
    #[serde(flatten)]
    pub progress: Progress,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// `link`, `storage` or `chain`.
    pub kind: &'static str,
    /// The chain.
    pub chain: String,
    /// The link or storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `success`, `halt`, `error`; of a chain `done`, `retry`, `dead`.
    pub outcome: &'static str,
    /// Why, when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Progress {
    pub(crate) fn link(chain: &str, name: &str, outcome: &'static str) -> Self {
        Progress { kind: "link", chain: chain.into(), name: Some(name.into()), outcome, reason: None }
    }

    pub(crate) fn storage(chain: &str, name: &str, outcome: &'static str) -> Self {
        Progress { kind: "storage", chain: chain.into(), name: Some(name.into()), outcome, reason: None }
    }

    pub(crate) fn chain(chain: &str, outcome: &'static str, reason: Option<&str>) -> Self {
        Progress {
            kind: "chain",
            chain: chain.into(),
            name: None,
            outcome,
            reason: reason.map(str::to_owned),
        }
    }
}

/// What became of a vCon that was sent.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Its uuid.
    pub uuid: String,
    /// Its text as it is kept.
    pub body: Bytes,
    /// The same content was there before.
    pub same: bool,
}

/// Why a vCon that was sent was not taken.
#[derive(Clone, Debug)]
pub enum Refused {
    /// What is wrong with it, as FastAPI tells it.
    Invalid(Vec<Value>),
    /// It cannot be kept for now.
    Seam(SeamError),
}

impl From<SeamError> for Refused {
    fn from(error: SeamError) -> Self {
        Refused::Seam(error)
    }
}

/// A pipeline that runs. Its functions speak to the database and the queue: call them on the runtime that it was
/// started on, but for [`Conversations::post`] and what only looks at settings.
pub struct Conversations {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    worker: std::sync::Mutex<Option<JoinHandle<usize>>>,
}

/// The time now, in milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn from_now(span: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

impl Conversations {
    /// Starts on the current runtime. Fails when the files of the settings cannot be read; a chain that does not
    /// work is told in the log and leaves the others alone.
    pub async fn start(parts: Parts) -> Result<Self, PipelineError> {
        let Parts { settings, environment, vcons, keep, tracer, work } = parts;
        let metrics = PipelineMetrics::new(environment.meters.metrics());
        let metrics = metrics.map_err(|error| PipelineError::Metrics(error.to_string()))?;
        let (queue, cache) = (Arc::clone(&environment.queue), Arc::clone(&environment.cache));
        let pushed = Arc::new(Notify::new());
        let plan = read_plan(&settings, &environment)?;
        let tokens = read_tokens(&settings)?;
        let core = Arc::new(Core {
            intake: Intake::start(Arc::clone(&vcons), Arc::clone(&queue), Arc::clone(&pushed)),
            finisher: Finisher::start(Arc::clone(&vcons), Arc::clone(&queue), Arc::clone(&pushed)),
            settings: ArcSwap::from_pointee(settings),
            plan: ArcSwap::from_pointee(plan),
            environment: ArcSwap::from_pointee(environment),
            tokens: ArcSwap::from_pointee(tokens),
            vcons,
            queue,
            cache,
            pushed,
            metrics,
            tracer,
            locks: Locks::default(),
            keep,
            events: broadcast::channel(EVENTS).0,
        });
        core.tell_problems();
        let (stop, stopping) = watch::channel(false);
        drop(tokio::spawn(watch_files(Arc::clone(&core), stopping.clone())));
        drop(tokio::spawn(measure(Arc::clone(&core), stopping.clone())));
        let worker = work.then(|| {
            drop(tokio::spawn(tidy(Arc::clone(&core), stopping.clone())));
            drop(tokio::spawn(followers::follow(Arc::clone(&core), stopping.clone())));
            tokio::spawn(worker::work(Arc::clone(&core), stopping.clone()))
        });
        Ok(Conversations { core, stop, worker: std::sync::Mutex::new(worker) })
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<ConversationSettings> {
        self.core.settings.load_full()
    }

    /// Puts other settings in force. How much is worked on at once waits for a restart. On error everything stays.
    pub fn reload(&self, settings: ConversationSettings) -> Result<(), PipelineError> {
        let mut environment = self.core.environment.load().as_ref().clone();
        environment.legacy_format = settings.legacy_format();
        let plan = read_plan(&settings, &environment)?;
        let tokens = read_tokens(&settings)?;
        self.core.environment.store(Arc::new(environment));
        self.core.settings.store(Arc::new(settings));
        self.core.plan.store(Arc::new(plan));
        self.core.tokens.store(Arc::new(tokens));
        self.core.tell_problems();
        Ok(())
    }

    /// What is wrong with what is configured.
    pub fn problems(&self) -> Vec<String> {
        self.core.plan.load().problems.clone()
    }

    /// Stops: takes nothing more, finishes what is in work, gives back the rest. Returns how many went back.
    pub async fn shutdown(&self) -> usize {
        self.stop.send_replace(true);
        let worker = self.worker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match worker {
            Some(worker) => worker.await.unwrap_or(0),
            None => 0,
        }
    }

    /// Takes a vCon in: checked, kept, and put into lists when this returns. From any runtime.
    pub async fn post(
        &self,
        text: Bytes,
        lists: Vec<String>,
        trace: Option<String>,
        source: &'static str,
    ) -> Result<Posted, Refused> {
        let mut vcon = validate::read(&text).map_err(Refused::Invalid)?;
        let content = terms::content(&text);
        vcon.materialise();
        let body = vcon.settle();
        let uuid = vcon.uuid().to_owned();
        let mut draft = self.core.draft(&vcon, body.clone(), content, lists.clone());
        draft.trace = trace;
        let kept = self.core.intake.submit(draft).await?;
        for list in lists.iter().filter(|list| !kept.queued.contains(list)) {
            self.core.metrics.enqueued.with(&[list, source]).inc();
        }
        Ok(Posted { uuid, body, same: kept.same })
    }

    /// A vCon, here or in a storage, in the form that goes out.
    pub async fn get(&self, uuid: &str) -> Result<Option<Bytes>, SeamError> {
        let found = self.core.vcons.get(&[uuid.to_owned()]).await?.pop();
        let body = match found {
            Some(stored) => Some(stored.body),
            None => self.core.fallback(uuid).await?.map(|mut vcon| vcon.settle()),
        };
        Ok(body.map(|body| self.outgoing(body)))
    }

    /// vCons by their uuids; those that are nowhere are none.
    pub async fn get_many(&self, uuids: &[String]) -> Result<Vec<Option<Bytes>>, SeamError> {
        let found = self.core.vcons.get(uuids).await?;
        let mut by_uuid: HashMap<String, Bytes> =
            found.into_iter().map(|Stored { uuid, body, .. }| (uuid, body)).collect();
        let mut all = Vec::with_capacity(uuids.len());
        for uuid in uuids {
            if !by_uuid.contains_key(uuid)
                && let Some(mut vcon) = self.core.fallback(uuid).await?
            {
                by_uuid.insert(uuid.clone(), vcon.settle());
            }
            all.push(by_uuid.get(uuid).map(|body| self.outgoing(body.clone())));
        }
        Ok(all)
    }

    fn outgoing(&self, body: Bytes) -> Bytes {
        if !self.core.settings.load().legacy_format() {
            return body;
        }
        match Vcon::parse(body.clone()) {
            Ok(vcon) => vcon.to_legacy().to_bytes(),
            Err(_) => body,
        }
    }

    /// Forgets a vCon here and in every storage that can; whether it was anywhere.
    pub async fn delete(&self, uuid: &str) -> Result<bool, SeamError> {
        let mut there = self.core.vcons.delete(uuid).await?;
        for store in &self.core.plan.load_full().storages {
            match tokio::time::timeout(FALLBACK, store.storage.delete(uuid)).await {
                Ok(Ok(deleted)) => there |= deleted,
                Ok(Err(error)) => {
                    tracing::error!(%error, storage = &*store.name, vcon_uuid = uuid, "a vCon was not deleted");
                    let reason = format!("storage {}: {error}", store.name);
                    return Err(SeamError::Unavailable { backend: "storage", reason });
                }
                Err(_) => return Err(SeamError::TimedOut { backend: "storage", after: FALLBACK }),
            }
        }
        Ok(there)
    }

    /// The uuids of vCons.
    pub async fn find(&self, query: &Query) -> Result<Vec<String>, SeamError> {
        self.core.vcons.find(query).await
    }

    /// Whether the words of vCons can be searched.
    pub fn has_full_text(&self) -> bool {
        self.core.vcons.has_full_text() && self.core.settings.load().full_text
    }

    /// Puts vCons into a list; how many are there. One that is neither here nor in a storage is passed over.
    pub async fn enqueue(&self, list: &str, uuids: &[String]) -> Result<usize, SeamError> {
        let known = self.core.vcons.get(uuids).await?;
        let mut there = Vec::with_capacity(uuids.len());
        for uuid in uuids {
            if known.iter().any(|stored| stored.uuid == *uuid) || self.core.fallback(uuid).await?.is_some() {
                there.push(uuid.clone());
            }
        }
        self.core.push(list, &there, "reingress").await?;
        Ok(there.len())
    }

    /// Takes vCons off an egress list for good, the oldest first.
    pub async fn pop(&self, list: &str, limit: usize) -> Result<Vec<String>, SeamError> {
        let taken = self.core.queue.pull(list, limit, Duration::from_secs(60), Duration::ZERO).await?;
        self.core.queue.ack_all(&taken).await?;
        Ok(taken.iter().map(|delivery| String::from_utf8_lossy(&delivery.body).into_owned()).collect())
    }

    /// Takes vCons off an egress list for a time: each with a receipt, to be acknowledged or to come again.
    pub async fn lend(
        &self,
        list: &str,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<(String, String)>, SeamError> {
        let taken = self.core.queue.pull(list, limit, lease, Duration::ZERO).await?;
        let pair = |delivery: base::seams::Delivery| {
            let uuid = String::from_utf8_lossy(&delivery.body).into_owned();
            (uuid, format!("{}~{}~{}", delivery.id, delivery.receipt, delivery.partition.unwrap_or_default()))
        };
        Ok(taken.into_iter().map(pair).collect())
    }

    /// Says of what was lent that it is done, or to come again at once.
    pub async fn settle(&self, list: &str, receipt: &str, done: bool) -> Result<(), SeamError> {
        let mut parts = receipt.splitn(3, '~');
        let (Some(id), Some(token), partition) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SeamError::Invalid("this is no receipt".into()));
        };
        let delivery = base::seams::Delivery {
            queue: list.to_owned(),
            id: id.to_owned(),
            body: Bytes::new(),
            partition: partition.filter(|text| !text.is_empty()).map(str::to_owned),
            attempt: 1,
            reason: None,
            enqueued_at: None,
            receipt: token.to_owned(),
        };
        match done {
            true => self.core.queue.ack(&delivery).await,
            false => self.core.queue.nack(&delivery, Retry::Release, "").await,
        }
    }

    /// How many vCons are in a list: waiting, put off, or in work.
    pub async fn depth(&self, list: &str) -> Result<u64, SeamError> {
        let depth = self.core.queue.depth(list).await?;
        Ok(depth.waiting + depth.delayed)
    }

    /// How many dead letters a list has.
    pub async fn dead_depth(&self, list: &str) -> Result<u64, SeamError> {
        Ok(self.core.queue.depth(list).await?.dead)
    }

    /// The dead letters of a list, the oldest first.
    pub async fn dead(&self, list: &str, skip: u64, limit: usize) -> Result<Vec<DeadLetter>, SeamError> {
        self.core.queue.dead(list, skip, limit).await
    }

    /// Puts dead letters back into their list; how many.
    pub async fn replay(&self, list: &str, which: &Which) -> Result<u64, SeamError> {
        let replayed = self.core.queue.replay(list, which).await?;
        self.core.metrics.enqueued.with(&[list, "dlq_reprocess"]).inc_by(replayed);
        self.core.pushed.notify_one();
        Ok(replayed)
    }

    /// Forgets dead letters; how many.
    pub async fn purge_dead(&self, list: &str, which: &Which) -> Result<u64, SeamError> {
        self.core.queue.purge_dead(list, which).await
    }

    /// The ingress lists of the chains that work.
    pub fn lists(&self) -> Vec<String> {
        self.core.plan.load().lists.iter().map(ToString::to_string).collect()
    }

    /// What happens to vCons in this process from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.core.events.subscribe()
    }

    /// Whether this token opens the API. None when no tokens are configured and the API is open to all.
    pub fn opens(&self, token: Option<&str>) -> Door {
        let tokens = self.core.tokens.load();
        let settings = self.core.settings.load();
        let given = token.is_some_and(|token| tokens.iter().any(|known| same(known.expose(), token)));
        match (given, tokens.is_empty(), settings.access) {
            (true, ..) => Door::Open,
            (false, false, _) => Door::Token,
            (false, true, AccessMode::Open) => Door::Open,
            (false, true, AccessMode::Auto) if settings.config_file.is_some() => Door::Open,
            (false, true, _) => Door::Key,
        }
    }

    /// Whether a partner's key opens an ingress list; the error is what the Conserver says.
    pub fn opens_list(&self, list: &str, key: Option<&str>) -> Result<(), String> {
        let plan = self.core.plan.load();
        let Some(key) = key else { return Err("API Key required".into()) };
        if plan.sections.ingress_auth.is_empty() {
            return Err("No ingress authentication configured".into());
        }
        match plan.ingress_auth(list) {
            None => Err(format!("Ingress list '{list}' not configured")),
            Some(IngressAuth::Wrong) => Err(format!("Invalid configuration for ingress list '{list}'")),
            Some(IngressAuth::Keys(keys)) if keys.iter().any(|known| same(known.expose(), key)) => Ok(()),
            Some(IngressAuth::Keys(_)) => Err(format!("Invalid API Key for ingress list '{list}'")),
        }
    }

    /// What is configured, with secrets hidden.
    pub fn configuration(&self) -> Value {
        let plan = self.core.plan.load();
        let shown = match &plan.written {
            Some(written) => serde_json::to_value(mask(written)),
            None => serde_json::to_value(&plan.sections),
        };
        shown.unwrap_or_default()
    }

    /// Takes a configuration in the place of the file's. Hidden secrets stay as they are.
    pub fn configure(&self, new: &[u8]) -> Result<(), Configure> {
        let settings = self.core.settings.load_full();
        let Some(file) = &settings.config_file else { return Err(Configure::NoFile) };
        let new: Ordered =
            serde_json::from_slice(new).map_err(|error| Configure::Wrong(vec![error.to_string()]))?;
        if !matches!(new, Ordered::Map(_)) {
            return Err(Configure::Wrong(vec!["the configuration is a map of sections".into()]));
        }
        let plan = self.core.plan.load();
        let old = plan.written.clone().unwrap_or_default();
        let new = unmask(new, &old).map_err(|paths| {
            let text =
                |path: &String| format!("{path}: `***` stands for a secret that is not there; write it out");
            Configure::Wrong(paths.iter().map(text).collect())
        })?;
        let text = new.to_yaml();
        let environment = self.core.environment.load();
        let (sections, written) = Sections::from_yaml(&text, |name| environment.variables.get(name))
            .map_err(|error| Configure::Wrong(vec![error]))?;
        let made = Plan::new(sections, Some(written), &settings, &environment);
        if !made.problems.is_empty() && plan.problems.is_empty() {
            return Err(Configure::Wrong(made.problems));
        }
        replace_file(file, &text)
            .map_err(|error| Configure::ReadOnly(format!("{}: {error}", file.display())))?;
        self.core.plan.store(Arc::new(made));
        self.core.tell_problems();
        Ok(())
    }
}

/// Who may use the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// This caller may.
    Open,
    /// A token is needed, and what was sent is none.
    Token,
    /// No tokens are configured: a key of Trunkline is needed.
    Key,
}

/// Why a configuration was not taken.
#[derive(Clone, Debug)]
pub enum Configure {
    /// There is no file of its own: it stands in the settings.
    NoFile,
    /// What is wrong with it.
    Wrong(Vec<String>),
    /// The file cannot be written.
    ReadOnly(String),
}

/// Compares in a time that tells nothing about where they differ.
fn same(known: &str, given: &str) -> bool {
    use subtle::ConstantTimeEq as _;

    known.as_bytes().ct_eq(given.as_bytes()).into()
}

/// There as a whole or not at all, with the mode it had.
fn replace_file(file: &Path, text: &str) -> std::io::Result<()> {
    let mode = std::fs::metadata(file)?.permissions();
    if mode.readonly() {
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it is read-only"));
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{:016x}.tmp", fastrand::u64(..)));
    let beside = PathBuf::from(beside);
    let written = (|| {
        use std::io::Write as _;

        let mut new = std::fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
        new.set_permissions(mode)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&beside, file)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    written
}

impl Core {
    /// How long vCons are kept once they are in a storage.
    pub(crate) fn keep(&self, settings: &ConversationSettings) -> Option<Duration> {
        settings.keep.map(|keep| keep.0).or(self.keep).filter(|keep| !keep.is_zero())
    }

    pub(crate) fn tell(&self, uuid: &str, progress: Progress) {
        if self.events.receiver_count() > 0 {
            // Nobody there any more: nobody to tell.
            drop(self.events.send(Arc::new(Event { uuid: uuid.to_owned(), at: now_ms(), progress })));
        }
    }

    fn tell_problems(&self) {
        for problem in &self.plan.load().problems {
            tracing::error!(problem, "conversations: something in the configuration does not work");
        }
    }

    /// A vCon, here or in a storage.
    pub(crate) async fn load(&self, uuid: &str) -> Result<Option<Vcon>, SeamError> {
        match self.vcons.get(&[uuid.to_owned()]).await?.pop() {
            Some(stored) => Vcon::parse(stored.body)
                .map(Some)
                .map_err(|error| SeamError::Invalid(format!("vCon {uuid} cannot be read: {error}"))),
            None => self.fallback(uuid).await,
        }
    }

    /// Looks in the storages, in their order, and keeps what is found here again.
    async fn fallback(&self, uuid: &str) -> Result<Option<Vcon>, SeamError> {
        let settings = self.settings.load_full();
        if !settings.storage_fallback {
            return Ok(None);
        }
        let mut failed = None;
        for store in &self.plan.load_full().storages {
            let found = tokio::time::timeout(FALLBACK, store.storage.get(uuid)).await;
            match found {
                Ok(Ok(Some(mut vcon))) if vcon.uuid() == uuid => {
                    self.metrics.lookups.with(&["storage_hit"]).inc();
                    vcon.canonicalise();
                    let text = vcon.settle();
                    let mut draft = self.draft(&vcon, text.clone(), terms::content(&text), Vec::new());
                    draft.expires_at = self.keep(&settings).map(from_now);
                    self.intake.submit(draft).await?;
                    return Ok(Some(vcon));
                }
                Ok(Ok(Some(_))) => {
                    tracing::error!(storage = &*store.name, vcon_uuid = uuid, "a storage gave another vCon");
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => failed = Some((Arc::clone(&store.name), error.to_string())),
                Err(_) => failed = Some((Arc::clone(&store.name), "it did not answer".to_owned())),
            }
        }
        if let Some((storage, error)) = failed {
            // It may be there: that it is nowhere cannot be said.
            tracing::error!(storage = &*storage, error, vcon_uuid = uuid, "a storage could not be asked");
            let reason = format!("storage {storage}: {error}");
            return Err(SeamError::Unavailable { backend: "storage", reason });
        }
        self.metrics.lookups.with(&["not_found"]).inc();
        Ok(None)
    }

    /// Puts vCons into a list.
    pub(crate) async fn push(
        &self,
        list: &str,
        uuids: &[String],
        source: &'static str,
    ) -> Result<(), SeamError> {
        for uuids in uuids.chunks(base::seams::MAX_BATCH) {
            let messages: Vec<Message> = uuids.iter().map(|uuid| Message::new(uuid.clone())).collect();
            self.queue.push(list, &messages).await?;
            self.metrics.enqueued.with(&[list, source]).inc_by(uuids.len() as u64);
        }
        self.pushed.notify_one();
        Ok(())
    }

    /// Keeps a vCon that came from elsewhere, and puts it into a list.
    pub(crate) async fn take_in(&self, text: Bytes, list: &str) -> Result<(), String> {
        let mut vcon = Vcon::parse(text.clone()).map_err(|error| error.to_string())?;
        let body = vcon.settle();
        let draft: Draft = self.draft(&vcon, body, terms::content(&text), vec![list.to_owned()]);
        self.intake.submit(draft).await.map_err(|error| error.to_string())?;
        self.metrics.enqueued.with(&[list, "follower"]).inc();
        Ok(())
    }
}

fn read(file: &Path) -> Result<String, PipelineError> {
    use std::io::Read as _;

    let mut text = String::new();
    let opened = std::fs::File::open(file).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    match opened {
        Ok(read) if read as u64 <= MAX_FILE => Ok(text),
        Ok(_) => Err(PipelineError::File(format!("{}: it is larger than 4 MiB", file.display()))),
        Err(error) => Err(PipelineError::File(format!("{}: {error}", file.display()))),
    }
}

fn read_plan(settings: &ConversationSettings, environment: &Environment) -> Result<Plan, PipelineError> {
    let Some(file) = &settings.config_file else {
        return Ok(Plan::new(settings.sections(), None, settings, environment));
    };
    let text = read(file)?;
    let variables: &Variables = &environment.variables;
    let (sections, written) = Sections::from_yaml(&text, |name| variables.get(name))
        .map_err(|error| PipelineError::File(format!("{}: {error}", file.display())))?;
    Ok(Plan::new(sections, Some(written), settings, environment))
}

fn read_tokens(settings: &ConversationSettings) -> Result<Vec<Secret>, PipelineError> {
    let mut tokens: Vec<Secret> = settings.api_token.clone().into_iter().collect();
    if let Some(file) = &settings.api_token_file {
        let text = read(file)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        tokens.extend(lines.map(|line| Secret::from(line.to_owned())));
        if tokens.is_empty() {
            // A file that is there and empty must not open the door.
            return Err(PipelineError::File(format!("{}: there is no token in it", file.display())));
        }
    }
    Ok(tokens)
}

/// Reads the files again when they change. A bad one changes nothing, and is told.
async fn watch_files(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let content = |settings: &ConversationSettings| -> Vec<Option<Vec<u8>>> {
        [&settings.config_file, &settings.api_token_file]
            .into_iter()
            .map(|file| std::fs::read(file.as_ref()?).ok())
            .collect()
    };
    let mut known = content(&core.settings.load());
    // What was read once may be half written.
    let mut seen = known.clone();
    loop {
        tokio::select! {
            stopped = stop.wait_for(|stop| *stop) => {
                drop(stopped);
                return;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let settings = core.settings.load_full();
        let now = content(&settings);
        if now == known || now != seen {
            seen = now;
            continue;
        }
        known = now;
        let environment = core.environment.load_full();
        match read_plan(&settings, &environment).and_then(|plan| Ok((plan, read_tokens(&settings)?))) {
            Ok((plan, tokens)) => {
                core.plan.store(Arc::new(plan));
                core.tokens.store(Arc::new(tokens));
                tracing::info!("conversations: configuration reloaded");
                core.tell_problems();
                core.pushed.notify_one();
            }
            Err(error) => tracing::error!(%error, "conversations: configuration not reloaded"),
        }
    }
}

/// Does what was put off, while there is some.
async fn tidy(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    loop {
        let full_text = core.settings.load().full_text;
        let words = move |text: &[u8]| if full_text { terms::words(text) } else { String::new() };
        let more = match core.vcons.tidy(&words).await {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(%error, "what was put off is done later");
                false
            }
        };
        let wait = if more { Duration::from_millis(20) } else { TIDY };
        tokio::select! {
            stopped = stop.wait_for(|stop| *stop) => {
                drop(stopped);
                return;
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Measures the lists, for whoever scales and alerts.
async fn measure(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    loop {
        let plan = core.plan.load_full();
        let egress = plan.chains.iter().flat_map(|chain| chain.egress.iter().map(String::as_str));
        let lists: Vec<&str> = plan.lists.iter().map(|list| &**list).chain(egress).collect();
        for list in lists {
            match core.queue.depth(list).await {
                Ok(depth) => {
                    let waiting = depth.waiting + depth.delayed;
                    core.metrics.lengths.with(&[list, "ingress"]).set(waiting as f64);
                    core.metrics.lengths.with(&[list, "dlq"]).set(depth.dead as f64);
                }
                Err(error) => tracing::debug!(%error, list, "a list was not measured"),
            }
        }
        tokio::select! {
            stopped = stop.wait_for(|stop| *stop) => {
                drop(stopped);
                return;
            }
            () = tokio::time::sleep(MEASURE) => {}
        }
    }
}

#[cfg(test)]
mod tests;
