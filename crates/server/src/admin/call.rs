//! What a handler is given.

use std::net::IpAddr;
use std::sync::Arc;

use access::Caller;
use base::RequestId;
use schemars::JsonSchema;
use serde::Deserialize;
use store::{AuditEntry, now_ms};

use crate::state::Shared;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// What its credential was found to stand for; none on routes that are open.
    pub(crate) caller: Option<Arc<Caller>>,
    /// From where.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) request_id: RequestId,
}

impl Who {
    /// For audit and transactions: `admin`, a key's id, `token:SUBJECT`.
    pub(crate) fn actor(&self) -> &str {
        self.caller.as_ref().map_or("anonymous", |caller| &caller.label)
    }

    /// A record for the audit. `outcome` is `ok`, or the code of a refusal.
    pub(crate) fn entry(&self, action: &str, target: &str, outcome: &str) -> AuditEntry {
        AuditEntry {
            at: now_ms(),
            actor: self.actor().to_owned(),
            ip: self.ip.map(|ip| ip.to_string()),
            action: action.to_owned(),
            target: target.to_owned(),
            outcome: outcome.to_owned(),
            request_id: Some(self.request_id.as_str().to_owned()),
            detail: None,
        }
    }
}

/// A request as its handler takes it: everything is read and checked, the permission too.
pub(crate) struct Call<P = Nothing, Q = Nothing, B = Nothing> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) who: Who,
    /// The parameters of the path.
    pub(crate) path: P,
    /// Those of the query.
    pub(crate) query: Q,
    pub(crate) body: B,
    /// The version that `If-Match` asks for.
    pub(crate) if_match: Option<i64>,
}

/// No parameters, no body.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}
