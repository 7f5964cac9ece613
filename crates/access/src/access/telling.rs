//! What is told: to people, that credit or a key's time comes to its end; to other replicas, who is banned.

use std::net::IpAddr;
use std::sync::Arc;

use base::seams::Event;
use serde::{Deserialize, Serialize};
use store::{AuditEntry, KeyRow, Notice, SpendAlert, now_ms};

use super::{Access, BANS, SPEND};
use crate::ip::Ban;
use crate::rotation::RotationSettings;

/// What replicas tell each other about addresses.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Banning {
    Banned(Ban),
    Lifted(IpAddr),
}

impl Access {
    /// Tells whoever listens that a group has spent a part of its credit.
    pub(super) async fn alert(&self, alert: &SpendAlert) {
        let SpendAlert { group_id, name, percent } = alert;
        tracing::warn!(group = group_id, name, percent, "a group has spent this part of its credit");
        let text =
            serde_json::json!({"kind": "alert", "group_id": group_id, "name": name, "percent": percent});
        self.tell(SPEND, &text.to_string()).await;
        let notice = Notice {
            kind: "budget".into(),
            severity: if *percent < 100 { "warning" } else { "error" }.into(),
            // A group is credited again and comes to the same part again: each time is one of its own.
            subject: format!("budget of group {group_id} at {percent} %, {}", now_ms()),
            message: format!("The group `{name}` has spent {percent} % of its credit."),
            group_id: Some(*group_id),
            key_id: None,
        };
        self.notify(&notice).await;
    }

    /// Says which keys come to the age at which they must be rotated.
    pub(super) async fn remind_of_rotation(&self) {
        let (now, rotation) = (now_ms(), self.rotation.load_full());
        let due = |key: &KeyRow| rotation.due(key.rotated_at, key.fields.rotate_every);
        for key in self.directory.due(rotation.horizon(now), due) {
            let left = due(&key).unwrap_or(now).saturating_sub(now);
            let (name, days) = (&key.fields.name, left / 86_400_000);
            let when = match (left, days) {
                (..=0, _) => "now: it is older than it may grow".to_owned(),
                (_, 0) => "within a day".to_owned(),
                (_, days) => format!("within {} days", days + 1),
            };
            tracing::warn!(key = key.id, name, when, "this key is to be rotated: `trunkline keys rotate`");
            let overdue = left <= 0;
            let notice = Notice {
                kind: "rotation".into(),
                severity: if overdue { "error" } else { "warning" }.into(),
                // Once when the time comes near, and once when it is over.
                subject: format!("rotation of key {} of {}, overdue: {overdue}", key.id, key.rotated_at),
                message: format!("The key `{name}` is to be rotated {when}."),
                group_id: key.fields.group_id,
                key_id: Some(key.id),
            };
            self.notify(&notice).await;
        }
    }

    /// Keeps a notice where people find it. Whoever is the first of all replicas to say it also publishes it.
    async fn notify(&self, notice: &Notice) {
        match self.db.notify(notice).await {
            Ok(None) => {}
            Ok(Some(id)) => {
                let text = serde_json::json!({
                    "kind": "notification", "id": id, "about": notice.kind, "message": notice.message,
                });
                self.tell(SPEND, &text.to_string()).await;
            }
            Err(error) => {
                tracing::error!(%error, message = notice.message, "a notification is only in the log");
            }
        }
    }

    /// How old keys may grow.
    pub fn rotation(&self) -> Arc<RotationSettings> {
        self.rotation.load_full()
    }

    /// Puts another rule about the age of keys in force.
    pub fn set_rotation(&self, rotation: RotationSettings) {
        self.rotation.store(Arc::new(rotation));
    }

    /// Notes in the audit that an address was banned for what it tried, and tells the other replicas.
    pub async fn banned(&self, ban: &Ban) {
        let entry = AuditEntry {
            at: now_ms(),
            actor: "system".to_owned(),
            ip: Some(ban.ip.to_string()),
            action: "ip.ban".to_owned(),
            target: format!("ip-blocks/{}", ban.ip),
            outcome: "ok".to_owned(),
            request_id: None,
            detail: Some(ban.reason.clone()),
        };
        if let Err(error) = self.db.append_audit(&entry).await {
            tracing::error!(%error, ip = %ban.ip, "a ban is missing in the audit");
        }
        self.tell_ban(ban).await;
    }

    /// Tells the other replicas of a ban.
    pub async fn tell_ban(&self, ban: &Ban) {
        if let Ok(text) = serde_json::to_string(&Banning::Banned(ban.clone())) {
            self.tell(BANS, &text).await;
        }
    }

    /// Lets an address in again that was banned or blocked, here and on the other replicas. Whether it was, here
    /// or where all replicas count.
    pub async fn lift(&self, ip: IpAddr) -> bool {
        let lifted = self.door.lift(ip).await;
        if let Ok(text) = serde_json::to_string(&Banning::Lifted(ip)) {
            self.tell(BANS, &text).await;
        }
        lifted
    }

    pub(super) async fn hear_of_ban(&self, event: &Event) {
        let Event::Published(text) = event else { return };
        match serde_json::from_str(text) {
            Ok(Banning::Banned(ban)) => self.door.bans().apply(&ban),
            Ok(Banning::Lifted(ip)) => drop(self.door.lift(ip).await),
            Err(error) => tracing::debug!(%error, "an event about bans cannot be read"),
        }
    }
}
