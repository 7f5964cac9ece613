//! What we depend on, looked at again and again, so that readiness can tell without asking.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::seams::Backend;
use futures_util::future::{join, join_all};
use serde::Serialize;
use store::Db;
use tokio::time::timeout;

/// How often we look.
const LOOK: Duration = Duration::from_secs(2);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often what is dangerous in a set-up is asked for: it takes more than a ping.
const WARNINGS_EVERY: u32 = 30;

/// A backend we depend on.
pub struct Dependency {
    /// What it is for: `events`, `cache`, …
    pub name: &'static str,
    /// Who is asked.
    pub backend: Arc<dyn Backend>,
}

/// How one stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DependencyState {
    pub(crate) name: &'static str,
    pub(crate) backend: &'static str,
    /// It answers.
    pub(crate) ok: bool,
    /// What is dangerous in how it is set up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// How all of them stand.
pub(crate) struct Dependencies(ArcSwap<Vec<DependencyState>>);

impl Dependencies {
    /// Watches from now on, on the current runtime, for as long as somebody wants to know.
    pub(crate) fn watch(db: Db, all: Vec<Dependency>) -> Arc<Self> {
        let begin = |name, backend| DependencyState { name, backend, ok: true, warnings: Vec::new() };
        let mut states = vec![begin("store", db.engine().as_str())];
        states.extend(all.iter().map(|one| begin(one.name, one.backend.backend())));
        let this = Arc::new(Dependencies(ArcSwap::from_pointee(states)));
        let watched = Arc::downgrade(&this);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(LOOK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for round in 0u32.. {
                interval.tick().await;
                let Some(this) = watched.upgrade() else { return };
                this.look(&db, &all, round % WARNINGS_EVERY == 0).await;
            }
        });
        this
    }

    /// How they stand, as of a moment ago.
    pub(crate) fn states(&self) -> Arc<Vec<DependencyState>> {
        self.0.load_full()
    }

    async fn look(&self, db: &Db, all: &[Dependency], warnings: bool) {
        let mut states = (*self.states()).clone();
        let store = async { matches!(timeout(PATIENCE, db.ping()).await, Ok(Ok(_))) };
        let others =
            all.iter().map(async |one| matches!(timeout(PATIENCE, one.backend.ping()).await, Ok(Ok(()))));
        // At once: a server that does not answer may be behind several of them.
        let (store, others) = join(store, join_all(others)).await;
        note(&mut states[0], store);
        for ((state, one), ok) in states[1..].iter_mut().zip(all).zip(others) {
            note(state, ok);
            if ok
                && warnings
                && let Ok(found) = timeout(PATIENCE, one.backend.warnings()).await
            {
                for warning in found.iter().filter(|warning| !state.warnings.contains(warning)) {
                    tracing::warn!(dependency = one.name, backend = state.backend, "{warning}");
                }
                state.warnings = found;
            }
        }
        self.0.store(Arc::new(states));
    }
}

fn note(state: &mut DependencyState, ok: bool) {
    if state.ok != ok {
        match ok {
            true => tracing::info!(dependency = state.name, backend = state.backend, "answers again"),
            false => tracing::error!(dependency = state.name, backend = state.backend, "does not answer"),
        }
        state.ok = ok;
    }
}
