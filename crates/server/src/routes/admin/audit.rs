//! Who did what, and whether the record of it is whole.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{AuditFilter, AuditRow};

use crate::admin::{Call, Id, Json, Limit, Line, Nothing, Page, Refusal, Route, Time};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/api/audit", "audit.list", "Lists the audit, newest first.", list),
        Route::new(
            Method::GET,
            "/api/audit/verify",
            "audit.verify",
            "Checks the chain of hashes from its beginning.",
            verify,
        ),
    ]
}

/// Which records.
#[derive(Debug, Deserialize, JsonSchema)]
struct Query {
    /// Not before this time.
    from: Option<Time>,
    /// Before this time.
    to: Option<Time>,
    /// `admin`, the id of a key, `token:SUBJECT`.
    actor: Option<Line<1, 256>>,
    /// As `keys.create`.
    action: Option<Line<1, 100>>,
    /// As `keys/7`.
    target: Option<Line<1, 256>>,
    /// `ok`, or the code of a refusal.
    outcome: Option<Line<1, 100>>,
    /// How many at once.
    #[serde(default)]
    limit: Limit,
    /// The `next` of the page before.
    after: Option<Id>,
}

/// What somebody did, or tried.
#[derive(Debug, Serialize, JsonSchema)]
struct AuditRecord {
    /// Counts from 1, without gaps.
    seq: i64,
    at: Time,
    actor: String,
    ip: Option<String>,
    action: String,
    target: String,
    /// `ok`, or the code of the refusal.
    outcome: String,
    request_id: Option<String>,
    detail: Option<String>,
    /// SHA-256 over the record and the hash of the one before it.
    hash: String,
}

impl From<AuditRow> for AuditRecord {
    fn from(row: AuditRow) -> Self {
        let entry = row.entry;
        AuditRecord {
            seq: row.seq,
            at: Time(entry.at),
            actor: entry.actor,
            ip: entry.ip,
            action: entry.action,
            target: entry.target,
            outcome: entry.outcome,
            request_id: entry.request_id,
            detail: entry.detail,
            hash: row.hash,
        }
    }
}

async fn list(call: Call<Nothing, Query>) -> Result<Page<AuditRecord>, Refusal> {
    let Query { limit, after, .. } = call.query;
    let filter = AuditFilter {
        from: call.query.from.map(|time| time.0),
        to: call.query.to.map(|time| time.0),
        actor: call.query.actor.map(Line::into_inner),
        action: call.query.action.map(Line::into_inner),
        target: call.query.target.map(Line::into_inner),
        outcome: call.query.outcome.map(Line::into_inner),
    };
    let db = call.shared.access.db();
    let rows = db.audit_log(&filter, after.map_or(0, |id| id.0), limit.get() as i64).await?;
    Ok(Page::full(rows, limit, |row| row.seq).map(AuditRecord::from))
}

/// Whether the audit is as it was written.
#[derive(Debug, Serialize, JsonSchema)]
struct AuditVerified {
    ok: bool,
    /// Records that are as they were written.
    rows: u64,
    /// The first that is not.
    first_bad: Option<AuditBadRow>,
    /// The last good one: a note of it, kept elsewhere, also shows an audit that was replaced as a whole.
    head: AuditHead,
}

/// A record that is not as it was written.
#[derive(Debug, Serialize, JsonSchema)]
struct AuditBadRow {
    seq: i64,
    why: String,
}

/// A place in the chain.
#[derive(Debug, Serialize, JsonSchema)]
struct AuditHead {
    seq: i64,
    hash: String,
}

async fn verify(call: Call) -> Result<Json<AuditVerified>, Refusal> {
    let found = call.shared.access.db().verify_audit(0, |_| ()).await?;
    Ok(Json(AuditVerified {
        ok: found.is_ok(),
        rows: found.rows,
        first_bad: found.first_bad.map(|bad| AuditBadRow { seq: bad.seq, why: bad.why }),
        head: AuditHead { seq: found.head.seq, hash: found.head.hash },
    }))
}
