//! A link: one step of a chain.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base::seams::SeamError;
use base::{ModelCaller, ModelError, TraceContext};

use crate::environment::Environment;
use crate::vcon::Vcon;

/// One step of a chain. It is made once for each place in a chain, and runs for many vCons at once.
///
/// A link may run again for the same vCon (at least once): after a crash, after a failure of a later link. It is
/// dropped in the middle when its time is up or the worker stops, so it must not leave half a change elsewhere.
#[async_trait]
pub trait Link: Send + Sync {
    /// The module it is, as `links.tag`.
    fn module(&self) -> &'static str;

    /// Does its work on a vCon. What it changes in memory is kept when it says [`Next::Continue`] or
    /// [`Next::Halt`], and not when it fails.
    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError>;
}

/// How a chain goes on after a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next link.
    Continue,
    /// Not at all: no further link, no storage, no egress. It is no error.
    Halt,
    /// With the next link, but for the vCon of this uuid. What was changed in this one is kept.
    Replace(String),
}

/// Why a link did not do its work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// It may work later: it is tried again, and dead-lettered after the last attempt.
    #[error("{reason}")]
    Temporary {
        /// What happened. No secrets, and nothing of what people said.
        reason: String,
        /// When it is worth trying again, where that is known.
        after: Option<Duration>,
    },
    /// It will never work for this vCon: it is dead-lettered at once.
    #[error("{0}")]
    Permanent(String),
}

impl LinkError {
    /// It may work later.
    pub fn temporary(reason: impl Into<String>) -> Self {
        LinkError::Temporary { reason: reason.into(), after: None }
    }

    /// It will never work.
    pub fn permanent(reason: impl Into<String>) -> Self {
        LinkError::Permanent(reason.into())
    }
}

impl From<ModelError> for LinkError {
    fn from(error: ModelError) -> Self {
        match error.is_temporary() {
            true => LinkError::Temporary { reason: error.to_string(), after: error.retry_after },
            false => LinkError::Permanent(error.to_string()),
        }
    }
}

impl From<SeamError> for LinkError {
    fn from(error: SeamError) -> Self {
        match error.is_temporary() {
            true => LinkError::temporary(error.to_string()),
            false => LinkError::permanent(error.to_string()),
        }
    }
}

impl From<reqwest::Error> for LinkError {
    /// Nothing came back, or not all of it: worth another attempt, unless the request itself cannot be made.
    fn from(error: reqwest::Error) -> Self {
        // Addresses may carry credentials.
        let error = error.without_url();
        let reason = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error.is_builder() {
            true => LinkError::permanent(reason),
            false => LinkError::temporary(reason),
        }
    }
}

/// What a run of a link knows of where it is, and what it may ask for.
pub struct LinkContext {
    /// The chain's name.
    pub chain: Arc<str>,
    /// The link's name in the configuration.
    pub link: Arc<str>,
    /// The list that the vCon came from.
    pub ingress_list: Arc<str>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Who model calls run under.
    pub caller: ModelCaller,
    /// The span of this link, for calls that it makes (`traceparent`).
    pub trace: TraceContext,
    /// Clients and seams.
    pub environment: Environment,
    effects: Mutex<Effects>,
    cache: AtomicU8,
    skipped: AtomicU8,
}

/// What a link asked for, done once it succeeded.
#[derive(Debug, Default)]
pub struct Effects {
    /// Lists that this vCon is also put into.
    pub routes: Vec<String>,
    /// New vCons, and the lists that each is put into.
    pub forks: Vec<(Vcon, Vec<String>)>,
    /// How long this vCon is kept once no chain needs it; none: for ever.
    pub keep: Option<Option<Duration>>,
}

impl LinkContext {
    /// The context of one run.
    pub fn new(
        chain: Arc<str>,
        link: Arc<str>,
        ingress_list: Arc<str>,
        caller: ModelCaller,
        environment: Environment,
    ) -> Self {
        let trace = caller.trace.unwrap_or_else(|| TraceContext::from_header(None));
        LinkContext {
            chain,
            link,
            ingress_list,
            attempt: 1,
            caller,
            trace,
            environment,
            effects: Mutex::default(),
            cache: AtomicU8::new(0),
            skipped: AtomicU8::new(0),
        }
    }

    /// Also puts this vCon into a list, when the link has succeeded and what it changed is saved.
    pub fn route(&self, list: impl Into<String>) {
        self.with(|effects| effects.routes.push(list.into()));
    }

    /// Keeps a new vCon and puts it into lists, when the link has succeeded.
    pub fn fork(&self, vcon: Vcon, lists: Vec<String>) {
        self.with(|effects| effects.forks.push((vcon, lists)));
    }

    /// Says how long this vCon is kept once no chain needs it; none: for ever.
    pub fn keep(&self, time: Option<Duration>) {
        self.with(|effects| effects.keep = Some(time));
    }

    /// Notes whether the work was found in a cache, for spans and metrics (`cache_hit`).
    pub fn cache_hit(&self, hit: bool) {
        self.cache.store(if hit { 2 } else { 1 }, Ordering::Relaxed);
    }

    /// Notes that there was nothing to do (`status: skipped`).
    pub fn skip(&self) {
        self.skipped.store(1, Ordering::Relaxed);
    }

    /// Whether a cache was asked, and whether it knew.
    pub fn was_cache_hit(&self) -> Option<bool> {
        match self.cache.load(Ordering::Relaxed) {
            0 => None,
            hit => Some(hit == 2),
        }
    }

    /// Whether there was nothing to do.
    pub fn was_skipped(&self) -> bool {
        self.skipped.load(Ordering::Relaxed) == 1
    }

    /// What the link asked for.
    pub fn take_effects(&self) -> Effects {
        self.with(std::mem::take)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Effects) -> T) -> T {
        act(&mut self.effects.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for LinkContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkContext")
            .field("chain", &self.chain)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
