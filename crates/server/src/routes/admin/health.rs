//! `/api/health`: what an operator wants to know at a glance.

use std::sync::atomic::Ordering;

use http::Method;
use schemars::JsonSchema;
use serde::Serialize;
use store::now_ms;

use crate::admin::{Call, Json, Refusal, Route};
use crate::configuration::LeftOut;

/// A replica that was heard of within this time is there.
const ALIVE_MS: i64 = 10_000;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/api/health", "health.show", "Shows how this installation does.", show)
            .needs("settings", false),
    ]
}

/// How this installation does.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// `ok`; `degraded` when there are warnings or the store does not answer; `draining` while this replica stops.
    status: &'static str,
    /// Of this replica.
    version: &'static str,
    /// Its name.
    replica: String,
    /// Connections of clients to it.
    connections: usize,
    store: StoreHealth,
    /// Those that were heard of within ten seconds.
    replicas: Vec<String>,
    /// What is not as it should be, one sentence each.
    warnings: Vec<String>,
}

/// How the Store does.
#[derive(Serialize, JsonSchema)]
struct StoreHealth {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// `sqlite` or `postgresql`.
    engine: &'static str,
    latency_ms: Option<f64>,
    /// Connections that are open.
    open: u32,
    /// Of these, idle.
    idle: u32,
    /// The most there may be.
    max: u32,
}

async fn show(call: Call) -> Result<Json<Health>, Refusal> {
    let shared = &call.shared;
    let db = shared.access.db();
    let pinged = db.ping().await;
    let mut warnings = Vec::new();
    let replicas = match db.live_replicas(now_ms() - ALIVE_MS).await {
        Ok(replicas) => replicas,
        Err(_) => {
            warnings.push("The store does not answer as it should; the log says why.".to_owned());
            Vec::new()
        }
    };
    for LeftOut { kind, name, why, .. } in &shared.configuration.in_force().left_out {
        warnings.push(format!("The {kind} `{name}` is not in force: {why}."));
    }
    if shared.access.sealer().is_none() {
        let text = "There is no master key to seal secrets with: set TRUNKLINE_ADMIN_KEY, the same for every replica.";
        warnings.push(text.to_owned());
    }
    let status = match (shared.is_draining(), pinged.is_ok() && warnings.is_empty()) {
        (true, _) => "draining",
        (false, true) => "ok",
        (false, false) => "degraded",
    };
    let pool = db.pool();
    Ok(Json(Health {
        status,
        version: shared.build.version,
        replica: shared.access.replica().to_owned(),
        connections: shared.connections.load(Ordering::Relaxed),
        store: StoreHealth {
            status: if pinged.is_ok() { "ok" } else { "unavailable" },
            engine: db.engine().as_str(),
            latency_ms: pinged.ok().map(|took| (took.as_secs_f64() * 1e6).round() / 1e3),
            open: pool.open,
            idle: pool.idle,
            max: pool.max,
        },
        replicas,
        warnings,
    }))
}
