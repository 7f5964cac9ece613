//! Keys that were made elsewhere and go on to work, by their hashes.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{NewKey, StoreError};

use super::NewKeyBody;
use crate::admin::{Body, Call, Json, List, Nothing, Refusal, Route, sentence};

pub(super) fn routes() -> Vec<Route> {
    let summary =
        "Takes over keys by their SHA-256, as Conduit's; those whose name or hash is known are skipped.";
    vec![Route::new(Method::POST, "/api/keys/import", "keys.import", summary, import)]
}

/// What is kept of a key that only its owner knows.
pub(super) fn made_elsewhere(hash: &str) -> Result<NewKey, Refusal> {
    if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(NewKey { hash: hash.to_ascii_lowercase(), hint: "…".into() });
    }
    let text = "`key_sha256`: expected the SHA-256 of the key, 64 hexadecimal digits.";
    Err(Refusal::invalid("key_sha256", text))
}

/// Keys to take over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Import {
    /// Each with its `key_sha256`.
    keys: List<NewKeyBody, 1000>,
}

/// What an import did.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Imported {
    created: u64,
    skipped: Vec<Skipped>,
}

/// One that was left out.
#[derive(Debug, Serialize, JsonSchema)]
struct Skipped {
    name: String,
    reason: String,
}

async fn import(call: Call<Nothing, Nothing, Body<Import>>) -> Result<Json<Imported>, Refusal> {
    let Body(Import { keys: List(keys) }) = call.body;
    let mut imported = Imported::default();
    for (at, mut new) in keys.into_iter().enumerate() {
        let name = new.name.to_string();
        let within = |refusal: Refusal| {
            let field = refusal.field.clone().unwrap_or_default();
            refusal.at(format!("keys[{at}].{field}"))
        };
        let Some(hash) = new.key_sha256.take() else {
            let refusal =
                Refusal::new(base::Kind::Invalid, "missing_field", "A key to take over has a `key_sha256`.");
            return Err(within(refusal.at("key_sha256")));
        };
        let kept = made_elsewhere(&hash).map_err(within)?;
        let fields = new.fields(&call.shared, &call.who).map_err(within)?;
        match call.shared.access.db().create_key(&fields, &kept).await {
            Ok(_) => imported.created += 1,
            Err(
                error @ (StoreError::Exists { .. } | StoreError::NotFound { .. } | StoreError::Invalid(_)),
            ) => {
                imported.skipped.push(Skipped { name, reason: sentence(&error.to_string()) });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(imported))
}
