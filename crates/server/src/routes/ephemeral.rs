//! `POST /v1/auth/ephemeral-key`: a key for one request, made with a virtual key, so that a browser need not see
//! the virtual key itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::new_key;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base::Kind;
use http::header::CACHE_CONTROL;
use serde_json::{Value, json};
use store::{KeyFields, StoreError, now_ms};

use crate::admin::Time;
use crate::body;
use crate::edge::Edge;
use crate::error::ApiError;
use crate::state::{App, Shared};

/// How long the key waits for its request, in seconds.
const LIFETIME: i64 = 300;
/// The largest body: notes about who asks, which are kept with the key.
const MAX_BODY: usize = 16 << 10;

/// The most keys that one virtual key makes within the lifetime of one, on one replica: each is a row.
const MOST: u32 = 1_000;
/// The most virtual keys that are counted at once.
const MAX_COUNTED: usize = 10_000;

/// How many keys each virtual key has made of late.
#[derive(Default)]
pub(crate) struct Made(Mutex<HashMap<i64, (i64, u32)>>);

impl Made {
    /// Counts one more, unless that would be too many.
    fn one_more(&self, key: i64, now: i64) -> bool {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = now - LIFETIME * 1000;
        if made.len() >= MAX_COUNTED && !made.contains_key(&key) {
            made.retain(|_, (since, _)| *since > began);
            if made.len() >= MAX_COUNTED {
                return false;
            }
        }
        let (since, count) = made.entry(key).or_insert((now, 0));
        if *since <= began {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= MOST
    }
}

/// Makes the key, with the rights of the one that asks.
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let caller = head.extensions.remove::<Edge>().and_then(|edge| edge.caller);
    let limits = app.shared.limits.load_full();
    let body = match body::read(&head.headers, body, MAX_BODY, limits.body_timeout).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let notes: Value = match serde_json::from_slice(&body) {
        Ok(notes) => notes,
        Err(_) if body.is_empty() => Value::Null,
        Err(error) => {
            let text = format!("The body is not JSON: {error}.");
            return ApiError::new(Kind::Invalid, "invalid_json", text).into_response();
        }
    };
    let own = caller.filter(|caller| caller.may(access::Caller::CALL_MODELS) && !caller.single_use);
    let Some(key) = own.and_then(|caller| caller.key_id) else {
        let text = "Only a virtual key makes an ephemeral key.";
        return ApiError::new(Kind::Forbidden, "permission_needed", text).into_response();
    };
    if !app.shared.ephemeral.one_more(key, now_ms()) {
        let text =
            format!("A key makes at most {MOST} ephemeral keys in {LIFETIME} seconds: try again later.");
        let mut error = ApiError::new(Kind::RateLimited, "rate_limit_exceeded", text);
        error.retry_after = Some(Duration::from_secs(60));
        return error.into_response();
    }
    let notes = notes.get("metadata").filter(|notes| notes.is_object()).map(Value::to_string);
    let shared = Arc::clone(&app.shared);
    // A task of its own: what was begun is finished, and told, also when the client hangs up.
    match app.shared.control.spawn(async move { make(&shared, key, notes).await }).await {
        Ok(Ok(answer)) => ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response(),
        Ok(Err(error)) => error.into_response(),
        Err(_) => failed().into_response(),
    }
}

async fn make(shared: &Shared, key: i64, notes: Option<String>) -> Result<Value, ApiError> {
    let unavailable = |error: StoreError| {
        tracing::error!(%error, "an ephemeral key could not be made");
        ApiError::new(Kind::Unavailable, "store_unavailable", "Try again in a while.")
    };
    let own = shared.access.db().key(key).await.map_err(unavailable)?;
    let (secret, kept) = new_key("ek_").map_err(|error| {
        tracing::error!(%error, "an ephemeral key could not be made");
        failed()
    })?;
    let expires_at = now_ms() + LIFETIME * 1000;
    let end = own.fields.expires_at.map_or(expires_at, |end| end.min(expires_at));
    // Names are unique; the hash is.
    let name = format!("ephemeral-{}", kept.hash.get(..32).unwrap_or_default());
    let fields = KeyFields {
        name,
        description: format!("for one request, made with the key {key}"),
        single_use: true,
        expires_at: Some(end),
        rotate_every: None,
        metadata: notes,
        ..own.fields
    };
    shared.access.db().create_key(&fields, &kept).await.map_err(unavailable)?;
    shared.access.announce().await;
    Ok(json!({
        "ephemeralKey": secret.expose(),
        "expiresAt": Time(end).to_string(),
        "expiresInSeconds": (end - now_ms()).max(0) / 1000,
    }))
}

fn failed() -> ApiError {
    ApiError::new(Kind::Internal, "internal_error", "Something went wrong here; it is in the log.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutation: a count that is never begun anew refuses for ever.
    #[test]
    fn one_key_makes_so_many_in_a_while() {
        let made = Made::default();
        let allowed = |key, now| (0..2 * MOST).filter(|_| made.one_more(key, now)).count();
        assert_eq!(allowed(1, 0), MOST as usize);
        assert_eq!(allowed(2, 0), MOST as usize, "each by itself");
        assert_eq!(allowed(1, LIFETIME * 1000 - 1), 0);
        assert_eq!(allowed(1, LIFETIME * 1000), MOST as usize);
        let many = Made::default();
        let counted = (0..2 * MAX_COUNTED as i64).filter(|key| many.one_more(*key, 0)).count();
        assert_eq!(counted, MAX_COUNTED);
        assert!(many.one_more(-1, LIFETIME * 1000), "old ones are forgotten");
    }
}
