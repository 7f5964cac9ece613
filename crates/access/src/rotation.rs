//! The section `rotation:`.

use base::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `rotation:`, how old keys may grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotationSettings {
    /// How old a key may grow that has no `rotate_every` of its own, as `90d`. Default: as old as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// How long before a key comes to that age it is told: in the log, in `/api/notifications`, in the events.
    pub notice: Duration,
    /// How long the old key works yet after a rotation that does not say so itself.
    pub overlap: Duration,
}

impl Default for RotationSettings {
    fn default() -> Self {
        let week = Duration::from_secs(7 * 86_400);
        RotationSettings { every: None, notice: week, overlap: week }
    }
}

impl RotationSettings {
    /// When a key has to be rotated that was made then, in milliseconds since the epoch; `own` is how old it may
    /// grow itself.
    pub fn due(&self, rotated_at: i64, own: Option<i64>) -> Option<i64> {
        let every = own.or_else(|| self.every.map(millis))?;
        Some(rotated_at.saturating_add(every))
    }

    /// Until when keys are told of that are due, seen from a moment.
    pub(crate) fn horizon(&self, now: i64) -> i64 {
        now.saturating_add(millis(self.notice))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.0.as_millis()).unwrap_or(i64::MAX)
}
