//! One vCon through its chain.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base::seams::Delivery;
use base::vcons::{Change, Draft};
use base::{ModelCaller, TraceContext};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use telemetry::{SpanKind, SpanRecord, SpanStatus};
use tokio::time::timeout;

use crate::link::{LinkContext, LinkError, Next};
use crate::pipeline::{Core, Progress};
use crate::plan::{Chain, Step, Store};
use crate::storage::{StorageContext, StorageError};
use crate::terms;
use crate::vcon::Vcon;

/// How long it is remembered how far a vCon came, for its next attempt.
const REMEMBER: Duration = Duration::from_secs(7 * 86_400);

/// How a run ended.
pub(crate) enum Ended {
    /// To be written.
    Finished { change: Box<Change>, egress: Vec<String> },
    /// To be tried again.
    Again { after: Option<Duration>, reason: String, attempts: u32 },
    /// Never to be tried again.
    Dead { reason: String },
}

/// How far an earlier attempt came, so that what is done is not done again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Mark {
    /// Links that are done, by their names.
    links: Vec<String>,
    /// The vCon that the chain goes on with.
    uuid: String,
    /// Storages that have it.
    storages: Vec<String>,
    /// How long it is to be kept, if a link said so: seconds, 0 for ever.
    keep: Option<u64>,
}

/// One run.
pub(crate) struct Run<'a> {
    pub(crate) core: &'a Core,
    pub(crate) chain: &'a Arc<Chain>,
    pub(crate) list: &'a Arc<str>,
    pub(crate) delivery: &'a Delivery,
    pub(crate) trace: TraceContext,
}

impl Run<'_> {
    /// Takes a vCon through the links and into the storages.
    pub(crate) async fn run(&self, uuid: &str, body: Bytes) -> Ended {
        let mut vcon = match Vcon::parse(body) {
            Ok(vcon) => vcon,
            Err(error) => return Ended::Dead { reason: format!("the vCon cannot be read: {error}") },
        };
        let mut mark = self.mark().await;
        if !mark.uuid.is_empty() && mark.uuid != uuid {
            match self.core.load(&mark.uuid).await {
                Ok(Some(other)) => vcon = other,
                Ok(None) => mark = Mark::default(),
                Err(error) => return self.again(format!("vCon {}: {error}", mark.uuid)),
            }
        }
        let mut changed = false;
        vcon.canonicalise();
        changed |= vcon.is_changed();
        let began = Instant::now();
        let known = mark.links.iter().zip(&self.chain.steps).take_while(|(done, step)| ***done == *step.name);
        let start = known.count();
        mark.links.truncate(start);
        for step in &self.chain.steps[start..] {
            let left = self.chain.timeout.map(|limit| limit.saturating_sub(began.elapsed()));
            match self.link(step, &mut vcon, left, &mut mark).await {
                Ok(Went::On) => {}
                Ok(Went::Halted) => {
                    changed |= vcon.is_changed();
                    return self.finished(&mut vcon, changed, &mark, Vec::new());
                }
                Err(Failed { error, step }) => {
                    let changed = changed || vcon.is_changed();
                    return self.failed(&mut vcon, changed, mark, step, error).await;
                }
            }
            changed |= vcon.is_changed();
            mark.links.push(step.name.to_string());
        }
        self.save(vcon, changed, mark).await
    }

    async fn link<'s>(
        &self,
        step: &'s Step,
        vcon: &mut Vcon,
        left: Option<Duration>,
        mark: &mut Mark,
    ) -> Result<Went, Failed<'s>> {
        if step.when.as_ref().is_some_and(|when| !when.holds(vcon)) {
            self.core.metrics.links.with(&[&step.name, "success", "skipped"]).inc();
            return Ok(Went::On);
        }
        let (trace, start, began) = (self.trace.child(), SystemTime::now(), Instant::now());
        let caller = ModelCaller { principal: self.chain.key.clone(), trace: Some(trace) };
        let environment = self.core.environment.load().as_ref().clone();
        let mut context = LinkContext::new(
            Arc::clone(&self.chain.name),
            Arc::clone(&step.name),
            Arc::clone(self.list),
            caller,
            environment,
        );
        context.attempt = self.delivery.attempt;
        // What a link that fails has changed is forgotten.
        let mut work = vcon.clone();
        let limit = left.map_or(step.timeout, |left| left.min(step.timeout));
        let ran = match timeout(limit, step.link.run(&mut work, &context)).await {
            Ok(ran) => ran,
            Err(_) => Err(LinkError::temporary(format!("it took longer than {} s", limit.as_secs_f64()))),
        };
        let ran = match ran {
            Ok(next) => self.effects(&context, vcon, &mut work, mark, next).await,
            Err(error) => Err(error),
        };
        let (outcome, status) = match &ran {
            Ok(_) if context.was_skipped() => ("success", "skipped"),
            Ok(Went::On) => ("success", "ok"),
            Ok(Went::Halted) => ("halt", "ok"),
            Err(_) => ("error", "error"),
        };
        let took = began.elapsed();
        self.core.metrics.links.with(&[&step.name, outcome, status]).inc();
        self.core.metrics.link_time.with(&[&step.name, &self.chain.name]).observe(took.as_secs_f64());
        self.core.tell(vcon.uuid(), Progress::link(&self.chain.name, &step.name, outcome));
        if self.core.tracer.enabled() && trace.sampled {
            let mut span = SpanRecord::new(&trace, format!("link.{}", step.name), SpanKind::Internal, start);
            span.attribute("link_name", step.name.to_string())
                .attribute("vcon_uuid", vcon.uuid().to_owned())
                .attribute("status", status)
                .attribute("duration_ms", took.as_secs_f64() * 1e3);
            if let Some(hit) = context.was_cache_hit() {
                span.attribute("cache_hit", hit);
            }
            if let Err(error) = &ran {
                span.status = SpanStatus::Error(error.to_string());
            }
            self.core.tracer.record(span);
        }
        ran.map_err(|error| Failed { error, step })
    }

    /// Does what a link has asked for, once it succeeded.
    async fn effects(
        &self,
        context: &LinkContext,
        vcon: &mut Vcon,
        work: &mut Vcon,
        mark: &mut Mark,
        next: Next,
    ) -> Result<Went, LinkError> {
        let effects = context.take_effects();
        if let Some(keep) = effects.keep {
            mark.keep = Some(keep.map_or(0, |keep| keep.as_secs().max(1)));
        }
        for (mut fork, lists) in effects.forks {
            let text = fork.settle();
            let draft = self.core.draft(&fork, text.clone(), terms::content(&text), lists);
            self.core.intake.submit(draft).await?;
        }
        if !effects.routes.is_empty() {
            // Whoever takes it from there must find what was changed so far.
            let change = change(work, true);
            self.core.vcons.change(&[change]).await?;
            let uuid = work.uuid().to_owned();
            for list in effects.routes {
                self.core.push(&list, std::slice::from_ref(&uuid), "route").await?;
            }
        }
        let went = match next {
            Next::Continue => Went::On,
            Next::Halt => Went::Halted,
            Next::Replace(uuid) if uuid == work.uuid() => Went::On,
            Next::Replace(uuid) => {
                if work.is_changed() {
                    self.core.vcons.change(&[change(work, true)]).await?;
                }
                let Some(mut other) = self.core.load(&uuid).await? else {
                    return Err(LinkError::permanent(format!(
                        "it went on with vCon {uuid}, which is not there"
                    )));
                };
                other.canonicalise();
                mark.uuid = other.uuid().to_owned();
                *work = other;
                Went::On
            }
        };
        *vcon = std::mem::replace(work, Vcon::new("", ""));
        Ok(went)
    }

    /// A link has failed: what was done before it is kept.
    async fn failed(
        &self,
        vcon: &mut Vcon,
        changed: bool,
        mut mark: Mark,
        step: &Step,
        error: LinkError,
    ) -> Ended {
        let reason = format!("link {}: {error}", step.name);
        let body_kept = match changed {
            true => self.core.vcons.change(&[change(vcon, true)]).await.is_ok(),
            false => true,
        };
        if body_kept {
            mark.uuid = vcon.uuid().to_owned();
            self.remember(&mark).await;
        }
        match error {
            LinkError::Permanent(_) => Ended::Dead { reason },
            LinkError::Temporary { after, .. } => Ended::Again { after, reason, attempts: step.attempts },
        }
    }

    /// Into the storages, which comes before it goes out.
    async fn save(&self, mut vcon: Vcon, changed: bool, mut mark: Mark) -> Ended {
        vcon.settle();
        let todo: Vec<&Store> = self
            .chain
            .storages
            .iter()
            .filter(|store| !mark.storages.iter().any(|done| **done == *store.name))
            .collect();
        let results: Vec<Result<(), StorageError>> = if self.core.settings.load().parallel_storage {
            join_all(todo.iter().map(|store| self.save_to(store, &vcon))).await
        } else {
            let mut results = Vec::with_capacity(todo.len());
            for store in &todo {
                results.push(self.save_to(store, &vcon).await);
            }
            results
        };
        let mut failure: Option<(String, bool, u32)> = None;
        for (store, result) in todo.iter().zip(results) {
            match result {
                Ok(()) => mark.storages.push(store.name.to_string()),
                Err(error) => {
                    let reason = format!("storage {}: {error}", store.name);
                    let (reason, temporary) = match failure.take() {
                        None => (reason, error.is_temporary()),
                        Some((before, temporary, _)) => {
                            (format!("{before}; {reason}"), temporary || error.is_temporary())
                        }
                    };
                    failure = Some((reason, temporary, store.attempts));
                }
            }
        }
        match failure {
            None => self.finished(&mut vcon, changed, &mark, self.chain.egress.clone()),
            Some((reason, temporary, attempts)) => {
                let kept = match changed {
                    true => self.core.vcons.change(&[change(&mut vcon, true)]).await.is_ok(),
                    false => true,
                };
                if kept {
                    mark.uuid = vcon.uuid().to_owned();
                    self.remember(&mark).await;
                }
                match temporary {
                    true => Ended::Again { after: None, reason, attempts },
                    false => Ended::Dead { reason },
                }
            }
        }
    }

    async fn save_to(&self, store: &Store, vcon: &Vcon) -> Result<(), StorageError> {
        let (trace, start, began) = (self.trace.child(), SystemTime::now(), Instant::now());
        let limit = self.core.settings.load().storage_timeout.0;
        let context = StorageContext { trace, name: Arc::clone(&store.name) };
        let saved = match timeout(limit, store.storage.save(vcon, &context)).await {
            Ok(saved) => saved,
            Err(_) => Err(StorageError::temporary(format!("it took longer than {} s", limit.as_secs_f64()))),
        };
        let (outcome, took) = (if saved.is_ok() { "success" } else { "error" }, began.elapsed());
        self.core.metrics.storages.with(&[&store.name, outcome]).inc();
        self.core.metrics.storage_time.with(&[&store.name, outcome]).observe(took.as_secs_f64());
        self.core.tell(vcon.uuid(), Progress::storage(&self.chain.name, &store.name, outcome));
        if self.core.tracer.enabled() && trace.sampled {
            let mut span =
                SpanRecord::new(&trace, format!("storage.{}", store.name), SpanKind::Client, start);
            span.attribute("backend", store.name.to_string())
                .attribute("vcon_uuid", vcon.uuid().to_owned())
                .attribute("status", if saved.is_ok() { "ok" } else { "error" })
                .attribute("duration_ms", took.as_secs_f64() * 1e3);
            if let Err(error) = &saved {
                span.status = SpanStatus::Error(error.to_string());
            }
            self.core.tracer.record(span);
        }
        saved
    }

    fn finished(&self, vcon: &mut Vcon, changed: bool, mark: &Mark, egress: Vec<String>) -> Ended {
        let mut change = change(vcon, changed);
        change.done = Some(self.list.to_string());
        let settings = self.core.settings.load();
        // What no storage has is kept, whatever the time for keeping is.
        let keep = match mark.keep {
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None if mark.storages.is_empty() => None,
            None => self.core.keep(&settings),
        };
        change.expires_at = Some(keep.map_or(0, crate::pipeline::from_now));
        Ended::Finished { change: Box::new(change), egress }
    }

    fn again(&self, reason: String) -> Ended {
        Ended::Again { after: None, reason, attempts: self.core.settings.load().attempts }
    }

    fn mark_key(&self) -> String {
        format!("conversations:mark:{}:{}", self.list, self.delivery.id)
    }

    async fn mark(&self) -> Mark {
        if self.delivery.attempt <= 1 {
            return Mark::default();
        }
        match self.core.cache.get(&self.mark_key()).await {
            Ok(Some(text)) => serde_json::from_slice(&text).unwrap_or_default(),
            Ok(None) => Mark::default(),
            Err(error) => {
                tracing::warn!(%error, vcon_uuid = %self.uuid(), "a chain begins again from its first link");
                Mark::default()
            }
        }
    }

    async fn remember(&self, mark: &Mark) {
        let text = serde_json::to_vec(mark).unwrap_or_default();
        if let Err(error) = self.core.cache.set(&self.mark_key(), text.into(), Some(REMEMBER)).await {
            tracing::warn!(%error, vcon_uuid = %self.uuid(), "the next attempt will begin from the first link");
        }
    }

    fn uuid(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.delivery.body)
    }
}

/// How a chain goes on after a link.
enum Went {
    On,
    Halted,
}

struct Failed<'s> {
    error: LinkError,
    step: &'s Step,
}

/// What a chain did to a vCon so far.
fn change(vcon: &mut Vcon, changed: bool) -> Change {
    let uuid = vcon.uuid().to_owned();
    match changed {
        false => Change { uuid, ..Change::default() },
        true => Change { uuid, terms: terms::terms(vcon), body: Some(vcon.settle()), ..Change::default() },
    }
}

impl Core {
    /// A vCon as it is handed in.
    pub(crate) fn draft(&self, vcon: &Vcon, body: Bytes, content: String, lists: Vec<String>) -> Draft {
        Draft {
            uuid: vcon.uuid().to_owned(),
            created_at: vcon.created_ms().unwrap_or_else(crate::pipeline::now_ms),
            terms: terms::terms(vcon),
            body,
            content,
            lists,
            trace: None,
            expires_at: None,
        }
    }
}
