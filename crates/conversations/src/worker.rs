//! The worker: takes vCons from the ingress lists, as many as it has room for, and takes each through its chain.
//!
//! Room comes first, a vCon after it: nothing is taken that would have to wait here. Of the room that is free a list
//! gets half of what those before it have left, so that the first lists are served first and no list starves; every
//! fourth look begins with another list.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base::TraceContext;
use base::seams::{Delivery, Retry};
use bytes::Bytes;
use telemetry::{SpanKind, SpanRecord, SpanStatus};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::pipeline::{Core, Progress};
use crate::plan::Chain;
use crate::run::{Ended, Run};

/// How long is waited at a list when there is only one.
const WAIT: Duration = Duration::from_millis(500);
/// How long is waited when none of several lists has anything.
const LOOK: Duration = Duration::from_millis(50);
/// How long is waited after a queue has failed.
const FAILED: Duration = Duration::from_secs(1);
/// The most vCons taken at once.
const TAKE: usize = 64;

/// What is in work: at shutdown it goes back.
type InWork = Arc<Mutex<HashMap<(Arc<str>, String), Delivery>>>;

/// Works until `stop` says so, then finishes what is in work within the time of the settings, and gives back the
/// rest. Returns how many went back.
pub(crate) async fn work(core: Arc<Core>, mut stop: watch::Receiver<bool>) -> usize {
    let settings = core.settings.load_full();
    let room = (settings.workers as usize).saturating_mul(settings.concurrency as usize).max(1);
    let places = Arc::new(Semaphore::new(room));
    let in_work = InWork::default();
    let mut jobs = JoinSet::new();
    let turn = AtomicUsize::new(0);
    tracing::info!(at_once = room, "the worker of conversations begins");
    loop {
        while jobs.try_join_next().is_some() {}
        let place = tokio::select! {
            biased;
            () = told(&mut stop) => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let mut free = vec![place];
        while free.len() < TAKE
            && let Ok(place) = Arc::clone(&places).try_acquire_owned()
        {
            free.push(place);
        }
        let idle = sweep(&core, &mut free, &mut jobs, &in_work, &turn).await;
        drop(free);
        if let Some(wait) = idle {
            tokio::select! {
                biased;
                () = told(&mut stop) => break,
                () = core.pushed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
    let grace = core.settings.load().grace.0;
    let end = tokio::time::timeout(grace, async { while jobs.join_next().await.is_some() {} });
    drop(end.await);
    jobs.shutdown().await;
    let left: Vec<Delivery> = lock(&in_work).drain().map(|(_, delivery)| delivery).collect();
    for delivery in &left {
        if let Err(error) = core.queue.nack(delivery, Retry::Release, "").await {
            tracing::warn!(%error, list = delivery.queue, "a vCon goes back when its lease ends");
        }
    }
    tracing::info!(returned = left.len(), "the worker of conversations has stopped");
    left.len()
}

async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// One look at all lists. Returns how long to wait before the next when there was nothing.
async fn sweep(
    core: &Arc<Core>,
    free: &mut Vec<OwnedSemaphorePermit>,
    jobs: &mut JoinSet<()>,
    in_work: &InWork,
    turn: &AtomicUsize,
) -> Option<Duration> {
    let plan = core.plan.load_full();
    let count = plan.lists.len();
    if count == 0 {
        return Some(WAIT);
    }
    let lease = core.settings.load().lease.0;
    let look = turn.fetch_add(1, Ordering::Relaxed);
    let first = if look % 4 == 3 { look / 4 % count } else { 0 };
    let mut found = false;
    for round in 0..2 {
        for index in 0..count {
            let list = &plan.lists[(first + index) % count];
            if free.is_empty() {
                return None;
            }
            // In the second round whoever still has some gets what is left.
            let share = if round == 0 && count > 1 { free.len().div_ceil(2) } else { free.len() };
            let wait = if count == 1 { WAIT } else { Duration::ZERO };
            let taken = match core.queue.pull(list, share, lease, wait).await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!(%error, list = &**list, "cannot take vCons");
                    return Some(FAILED);
                }
            };
            // The configuration may have changed while we waited. A list that is no longer there is finished as it was.
            let current = core.plan.load_full();
            let chain = current.by_list.get(list).or_else(|| plan.by_list.get(list));
            let Some(chain) = chain.filter(|_| !taken.is_empty()) else { continue };
            found = true;
            core.metrics.received.with(&[list]).inc_by(taken.len() as u64);
            for delivery in &taken {
                lock(in_work).insert((Arc::clone(list), delivery.id.clone()), delivery.clone());
            }
            let places = free.split_off(free.len() - taken.len().min(free.len()));
            jobs.spawn(batch(
                Arc::clone(core),
                Arc::clone(chain),
                Arc::clone(list),
                taken,
                places,
                Arc::clone(in_work),
            ));
        }
        if count == 1 || !found {
            break;
        }
    }
    (!found && count > 1).then_some(LOOK)
}

fn lock(in_work: &InWork) -> std::sync::MutexGuard<'_, HashMap<(Arc<str>, String), Delivery>> {
    in_work.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the vCons that were taken together, and works on each.
async fn batch(
    core: Arc<Core>,
    chain: Arc<Chain>,
    list: Arc<str>,
    taken: Vec<Delivery>,
    places: Vec<OwnedSemaphorePermit>,
    in_work: InWork,
) {
    let uuids: Vec<String> = taken.iter().map(|delivery| uuid_of(delivery).unwrap_or_default()).collect();
    let wanted: Vec<String> = uuids.iter().filter(|uuid| !uuid.is_empty()).cloned().collect();
    let mut found = match core.vcons.get(&wanted).await {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, list = &*list, "vCons cannot be read; they go back to their list");
            tokio::time::sleep(FAILED).await;
            for delivery in &taken {
                if core.queue.nack(delivery, Retry::Release, "").await.is_ok() {
                    lock(&in_work).remove(&(Arc::clone(&list), delivery.id.clone()));
                }
            }
            return;
        }
    };
    let mut running = JoinSet::new();
    for ((delivery, uuid), place) in taken.into_iter().zip(uuids).zip(places) {
        let stored = found.iter().position(|stored| stored.uuid == uuid).map(|at| found.swap_remove(at));
        let trace = stored.as_ref().and_then(|stored| stored.trace.clone());
        let job = Job {
            core: Arc::clone(&core),
            chain: Arc::clone(&chain),
            list: Arc::clone(&list),
            delivery,
            uuid,
            body: stored.map(|stored| stored.body),
            trace,
        };
        let in_work = Arc::clone(&in_work);
        running.spawn(async move {
            let key = (Arc::clone(&job.list), job.delivery.id.clone());
            job.run().await;
            lock(&in_work).remove(&key);
            drop(place);
        });
    }
    while running.join_next().await.is_some() {}
}

/// The uuid of a message: bare, or between quotes, as some programs write it.
fn uuid_of(delivery: &Delivery) -> Option<String> {
    let text = std::str::from_utf8(&delivery.body).ok()?.trim().trim_matches('"');
    crate::vcon::is_uuid(text).then(|| text.to_ascii_lowercase())
}

/// One vCon that was taken.
struct Job {
    core: Arc<Core>,
    chain: Arc<Chain>,
    list: Arc<str>,
    delivery: Delivery,
    uuid: String,
    body: Option<Bytes>,
    trace: Option<String>,
}

impl Job {
    async fn run(self) {
        let inflight = self.core.metrics.inflight.with(&[&self.chain.name]);
        inflight.add(1.0);
        let lease = self.core.settings.load().lease.0;
        let extend = async {
            let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + lease / 3, lease / 3);
            loop {
                tick.tick().await;
                if let Err(error) = self.core.queue.extend(&self.delivery, lease).await {
                    tracing::warn!(%error, vcon_uuid = self.uuid, "the lease of a vCon was not extended");
                }
            }
        };
        tokio::select! {
            () = self.through() => {}
            never = extend => match never {},
        }
        inflight.sub(1.0);
    }

    async fn through(&self) {
        let (start, began) = (SystemTime::now(), Instant::now());
        if self.uuid.is_empty() {
            return self.dead("the message is no uuid of a vCon").await;
        }
        let remote = TraceContext::from_header(self.trace.as_deref().map(str::as_bytes));
        let mut trace = remote;
        trace.sampled =
            self.core.tracer.sample(trace.trace_id, self.trace.is_some().then_some(remote.sampled));
        let (_guard, waited) = self.core.only_one(&self.uuid).await;
        // While another was at it, what was read has become old.
        let body = match &self.body {
            Some(body) if !waited => Ok(Some(body.clone())),
            _ => self.core.load(&self.uuid).await.map(|vcon| vcon.map(|vcon| vcon.to_bytes())),
        };
        let ended = match body {
            Ok(Some(body)) => {
                let run = Run {
                    core: &self.core,
                    chain: &self.chain,
                    list: &self.list,
                    delivery: &self.delivery,
                    trace,
                };
                run.run(&self.uuid, body).await
            }
            Ok(None) => Ended::Again {
                after: None,
                reason: "vCon not found, neither here nor in a storage".into(),
                attempts: self.core.settings.load().attempts,
            },
            Err(error) => Ended::Again { after: None, reason: error.to_string(), attempts: u32::MAX },
        };
        let failure = self.end(ended).await;
        let took = began.elapsed();
        self.core.metrics.time.with(&[&self.chain.name]).observe(took.as_secs_f64());
        if self.core.tracer.enabled() && trace.sampled {
            let name = format!("vcon_processing.{}", self.chain.name);
            let mut span = SpanRecord::new(&trace, name, SpanKind::Internal, start);
            span.attribute("vcon_uuid", self.uuid.clone())
                .attribute("vcon.uuid", self.uuid.clone())
                .attribute("chain_name", self.chain.name.to_string())
                .attribute("ingress_list", self.list.to_string())
                .attribute("status", if failure.is_none() { "ok" } else { "error" })
                .attribute("duration_ms", took.as_secs_f64() * 1e3);
            if let Some(reason) = failure {
                span.status = SpanStatus::Error(reason);
            }
            self.core.tracer.record(span);
        }
    }

    /// Brings a run to its end. Returns why it failed.
    async fn end(&self, ended: Ended) -> Option<String> {
        match ended {
            Ended::Finished { change, egress } => {
                for list in &egress {
                    self.core.metrics.enqueued.with(&[list, "egress"]).inc();
                }
                if self.core.finisher.finish(*change, egress, self.delivery.clone()).await.is_ok() {
                    self.core.metrics.processed.with(&[&self.chain.name]).inc();
                    self.core.tell(&self.uuid, Progress::chain(&self.chain.name, "done", None));
                    tracing::debug!(
                        vcon_uuid = self.uuid,
                        chain = &*self.chain.name,
                        "a chain is done with a vCon"
                    );
                }
                None
            }
            Ended::Again { after, reason, attempts } if self.delivery.attempt < attempts => {
                let settings = self.core.settings.load();
                let doubled = settings.backoff.0.saturating_mul(1 << (self.delivery.attempt - 1).min(16));
                let wait = after.unwrap_or(doubled).min(settings.max_backoff.0);
                tracing::warn!(
                    vcon_uuid = self.uuid,
                    chain = &*self.chain.name,
                    list = &*self.list,
                    attempt = self.delivery.attempt,
                    reason,
                    "a vCon is tried again"
                );
                self.core.tell(&self.uuid, Progress::chain(&self.chain.name, "retry", Some(&reason)));
                if let Err(error) = self.core.queue.nack(&self.delivery, Retry::After(wait), &reason).await {
                    tracing::warn!(%error, vcon_uuid = self.uuid, "a vCon is tried again when its lease ends");
                }
                Some(reason)
            }
            Ended::Again { reason, .. } | Ended::Dead { reason } => {
                self.dead(&reason).await;
                Some(reason)
            }
        }
    }

    async fn dead(&self, reason: &str) {
        tracing::error!(
            vcon_uuid = self.uuid,
            chain = &*self.chain.name,
            list = &*self.list,
            attempts = self.delivery.attempt,
            reason,
            "a vCon is a dead letter"
        );
        self.core.metrics.dead.with(&[&self.list]).inc();
        self.core.tell(&self.uuid, Progress::chain(&self.chain.name, "dead", Some(reason)));
        if let Err(error) = self.core.queue.nack(&self.delivery, Retry::Never, reason).await {
            tracing::warn!(%error, vcon_uuid = self.uuid, "a vCon comes again when its lease ends");
        }
    }
}

/// Who is at which vCon: two chains must not change the same one at once.
#[derive(Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Core {
    /// Waits until nobody else here is at this vCon; whether somebody was.
    async fn only_one(&self, uuid: &str) -> (OwnedMutexGuard<()>, bool) {
        let lock = {
            let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() > 1_000 {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(uuid.to_owned()).or_default())
        };
        match Arc::clone(&lock).try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (lock.lock_owned().await, true),
        }
    }
}
