//! What links and storages find around them when they are made.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base::Models;
use base::seams::{Cache, Queue};

use crate::fetch::Fetcher;
use crate::meters::Meters;

/// Looks up an environment variable, or the content of the file that its `_FILE` twin names.
#[derive(Clone)]
pub struct Variables(Arc<LookUp>);

type LookUp = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Variables {
    /// Variables found by this function.
    pub fn new(look_up: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Variables(Arc::new(look_up))
    }

    /// No variables.
    pub fn none() -> Self {
        Variables::new(|_| None)
    }

    /// The value of a variable; none when it is not set or empty.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

/// What links and storages find around them. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    /// The environment variables.
    pub variables: Variables,
    /// A client for HTTP. It has no timeout of its own: set one on each request.
    pub http: reqwest::Client,
    /// Fetches what a vCon points at.
    pub fetch: Fetcher,
    /// Calls of models.
    pub models: Arc<dyn Models>,
    /// Values kept for a time, shared by all workers.
    pub cache: Arc<dyn Cache>,
    /// The queues.
    pub queue: Arc<dyn Queue>,
    /// Counters and durations.
    pub meters: Meters,
    /// What goes out has the legacy form (`EGRESS_FORMAT_VERSION=0.0.1`).
    pub legacy_format: bool,
    /// The folder of everything we keep.
    pub data_dir: PathBuf,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("legacy_format", &self.legacy_format).finish_non_exhaustive()
    }
}
