//! A request on its way through the table.
//!
//! The worker that accepted it knows who asks and reads the body. What is to be done is then done on the
//! control runtime, where the connections to the database live: a task of its own there, so that a change is
//! finished, and its audit written, also when the client hangs up in the middle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use access::sealing::Sealer;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base::{Kind, RequestId};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use store::{AuditEntry, Db};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Answered;
use super::call::Who;
use super::idempotency::{self, Begun, Once};
use super::refusal::Refusal;
use super::route::{Answering, Raw, Route};
use super::{fields, input, tag};
use crate::body;
use crate::edge::Edge;
use crate::error::ApiError;
use crate::routes::admin::table;
use crate::state::{App, Shared};

/// Admin requests in progress at once on this replica.
const MAX_IN_PROGRESS: usize = 256;
/// How long a client waits for its answer. What was begun is finished all the same.
const PATIENCE: Duration = Duration::from_secs(60);

/// What admin requests share.
pub(crate) struct Admin {
    db: Db,
    access: Option<Arc<Access>>,
    own: Sealer,
    places: Arc<Semaphore>,
}

impl Admin {
    /// The answers that are kept for repeated creations are sealed as `access` does, or, without a master key, by
    /// `own`.
    pub(crate) fn new(db: Db, access: Option<Arc<Access>>, own: Sealer) -> Self {
        Admin { db, access, own, places: Arc::new(Semaphore::new(MAX_IN_PROGRESS)) }
    }

    fn sealer(&self) -> Sealer {
        let shared = self.access.as_ref().and_then(|access| access.sealer());
        shared.map_or_else(|| self.own.clone(), |sealer| Sealer::clone(&sealer))
    }

    /// Adds to the audit. That it cannot is an alarm, and no reason to say that what was done was not.
    async fn record(&self, entry: &AuditEntry) {
        if let Err(error) = self.db.append_audit(entry).await {
            let (action, target) = (entry.action.as_str(), entry.target.as_str());
            tracing::error!(%error, action, target, "an administrator's change is missing in the audit");
        }
    }
}

/// Answers a request below `/api`.
pub(crate) async fn dispatch(State(app): State<Arc<App>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let edge = head.extensions.get::<Edge>().cloned();
    let request_id = edge.as_ref().map_or_else(RequestId::generate, |edge| edge.request_id.clone());
    let form = table().form(head.uri.path());
    match answer(&app.shared, &head, body, edge, &request_id).await {
        Ok(answered) => answered.into_response(),
        Err(refusal) => refusal.into_response(form, &request_id),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    head: &Parts,
    body: axum::body::Body,
    edge: Option<Edge>,
    request_id: &RequestId,
) -> Result<Answered, Refusal> {
    let path = head.uri.path();
    let unknown = || Refusal::not_found("There is nothing at this path; /docs lists what there is.");
    let found = table().find(path).ok_or_else(unknown)?;
    let Some(route) = found.place.route(&head.method) else {
        return Err(ApiError::method_not_allowed(&found.place.allow).into());
    };
    let target = path.strip_prefix("/api/").unwrap_or(path);
    let (ip, caller) = edge.map_or((None, None), |edge| (Some(edge.ip), edge.caller));
    let who = Who { caller, ip, request_id: request_id.clone() };
    if let Err(refusal) = permit(&who, route) {
        if route.writes() {
            let entry = who.entry(route.action(), target, refusal.code());
            let admin = Arc::clone(&shared.admin);
            drop(shared.control.spawn(async move { admin.record(&entry).await }));
        }
        return Err(refusal);
    }
    let place = Arc::clone(&shared.admin.places).try_acquire_owned().map_err(|_| crowded())?;
    let body = read(shared, head, body, route).await?;
    let key = if route.idempotent { idempotency::key(&head.headers)? } else { None };
    let once = key.map(|key| Once {
        actor: who.actor().to_owned(),
        fingerprint: idempotency::fingerprint(&head.method, path, head.uri.query(), &body),
        key,
    });
    let raw = Raw {
        shared: Arc::clone(shared),
        who: who.clone(),
        path: fields::path(&found.values)?,
        query: fields::query(head.uri.query())?,
        body,
        if_match: if route.conditional { tag::if_match(&head.headers) } else { None },
    };
    let work = Work {
        answering: route.prepare(raw)?,
        audit: route.writes().then(|| who.entry(route.action(), target, "ok")),
        admin: Arc::clone(&shared.admin),
        changes: route.writes().then(|| Arc::clone(&shared.access)),
        who,
        once,
        _place: place,
    };
    // Dropped with the client, this leaves the task alone: it goes on.
    let answering = shared.control.spawn(work.run());
    match tokio::time::timeout(PATIENCE, answering).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => Err(Refusal::internal(request_id, &error)),
        Err(_) => {
            let text =
                "This takes longer than we wait; it goes on. Look at what it changed before you repeat it.";
            Err(Refusal::new(Kind::Unavailable, "still_working", text))
        }
    }
}

/// Whether who asks may do this.
fn permit(who: &Who, route: &Route) -> Result<(), Refusal> {
    let Some(permission) = route.permission else { return Ok(()) };
    let Some(caller) = &who.caller else {
        let text =
            "Send an admin key as `Authorization: Bearer KEY`, `X-API-Key: KEY` or `X-Master-Key: KEY`.";
        return Err(Refusal::new(Kind::Unauthenticated, "missing_api_key", text));
    };
    if caller.may(&permission.to_string()) {
        return Ok(());
    }
    let text = format!("This needs the permission `{permission}`, which your key's role does not have.");
    Err(Refusal::new(Kind::Forbidden, "permission_needed", text))
}

fn crowded() -> Refusal {
    let text = format!("More than {MAX_IN_PROGRESS} admin requests are in progress: try again in a second.");
    let mut refusal = Refusal::new(Kind::Unavailable, "overloaded", text);
    refusal.error.retry_after = Some(Duration::from_secs(1));
    refusal
}

/// Reads the body, if this route has one.
async fn read(
    shared: &Shared,
    head: &Parts,
    body: axum::body::Body,
    route: &Route,
) -> Result<Bytes, Refusal> {
    let accepted = &route.accepted;
    if accepted.media.is_empty() {
        return Ok(Bytes::new());
    }
    body::check_encoding(&head.headers)?;
    if !input::takes(accepted, head.headers.get(CONTENT_TYPE)) {
        let text = format!("Send the body with `Content-Type: {}`.", accepted.media.join("` or `"));
        return Err(Refusal::new(Kind::UnsupportedMedia, "unsupported_media_type", text));
    }
    let limits = shared.limits.load();
    let max = accepted.max.min(limits.max_body);
    Ok(body::read(&head.headers, body, max, limits.body_timeout).await?)
}

/// What is left to do when a request is understood.
struct Work {
    answering: Answering,
    /// The record of it, if it all goes well.
    audit: Option<AuditEntry>,
    admin: Arc<Admin>,
    /// What has to hear of a change.
    changes: Option<Arc<Access>>,
    who: Who,
    once: Option<Once>,
    _place: OwnedSemaphorePermit,
}

impl Work {
    async fn run(self) -> Result<Answered, Refusal> {
        let Work { answering, audit, admin, changes, who, once, _place } = self;
        let (db, sealer) = (&admin.db, &admin.sealer());
        let once = match once {
            None => None,
            Some(once) => match once.begin(db, sealer).await? {
                Begun::Done(answered) => return Ok(answered),
                Begun::Fresh(claim) => Some((once, claim)),
            },
        };
        let answered = match AssertUnwindSafe(answering).catch_unwind().await {
            Ok(answered) => answered,
            Err(_) => Err(Refusal::internal(&who.request_id, &"a handler panicked")),
        };
        if let (Ok(_), Some(access)) = (&answered, changes) {
            // In force here before the answer says so.
            access.announce().await;
        }
        if let Some(mut entry) = audit {
            match &answered {
                Ok(answered) => entry.target = answered.target.clone().unwrap_or(entry.target),
                Err(refusal) => entry.outcome = refusal.code().to_owned(),
            }
            admin.record(&entry).await;
        }
        if let Some((once, claim)) = &once {
            once.finish(db, sealer, claim, answered.as_ref().ok()).await;
        }
        answered
    }
}

/// An error outside of any handler, in the form of the surface that was asked: ours on a path that is ours.
pub(crate) fn refuse(admin_path: Option<&str>, error: ApiError, request_id: &RequestId) -> Response {
    match admin_path {
        Some(path) => Refusal::from(error).into_response(table().form(path), request_id),
        None => error.into_response(),
    }
}

/// Whether a path is ours: below `/api`, in any case.
pub(crate) fn is_admin(path: &str) -> bool {
    let (first, rest) = path.split_at_checked(4).unwrap_or((path, ""));
    first.eq_ignore_ascii_case("/api") && (rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
