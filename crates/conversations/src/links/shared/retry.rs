//! Attempts at one call within one run of a link, as the Conserver makes them for models: six, waiting longer each
//! time. After the last one the worker's own attempts begin, and then the dead letters.

use std::future::Future;
use std::time::Duration;

use serde::Deserialize;

use crate::link::LinkError;

/// The longest time between two attempts.
const LONGEST: Duration = Duration::from_secs(65);

/// The names of these options.
pub(in crate::links) const OPTIONS: &[&str] = &["attempts", "retry_wait"];

/// How often, and how long apart.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(in crate::links) struct Retry {
    /// How often in all.
    attempts: u32,
    /// The time before the second attempt; it doubles each time, up to 65 s.
    retry_wait: base::Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 6, retry_wait: base::Duration::from_secs(1) }
    }
}

impl Retry {
    /// Calls until it works, cannot work, or was tried often enough.
    pub(in crate::links) async fn run<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        let mut wait = self.retry_wait.0;
        for _ in 1..self.attempts.max(1) {
            match call().await {
                Err(LinkError::Temporary { reason, after }) => {
                    tracing::info!(reason, "a call of a link failed and is tried again");
                    tokio::time::sleep(after.unwrap_or(wait).min(LONGEST)).await;
                    wait = (wait * 2).min(LONGEST);
                }
                done => return done,
            }
        }
        call().await
    }
}
