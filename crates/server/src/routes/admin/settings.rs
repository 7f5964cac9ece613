//! Whole sections of the settings that the API may set: `limits:`.

use access::limits::LimitSettings;
use http::Method;
use schemars::JsonSchema;
use serde::Serialize;
use store::{ResourceDraft, StoreError};

use super::entries::Origin;
use crate::admin::{Body, Call, Done, Item, Json, Nothing, Refusal, Resource, Route};
use crate::configuration::{KINDS, LIMITS, SETTINGS};

const SUBJECTS: std::ops::RangeInclusive<u32> = 1_000..=10_000_000;

pub(super) fn routes() -> Vec<Route> {
    let path = "/api/settings/limits";
    vec![
        Route::new(
            Method::GET,
            "/api/settings",
            "settings.list",
            "Lists the settings in effect and where each is from; secrets are hidden.",
            list,
        ),
        Route::new(Method::GET, path, "settings.show_limits", "Shows the limits in force.", show),
        Route::new(Method::PUT, path, "settings.set_limits", "Sets the limits, unless the file does.", set)
            .conditional(),
        Route::new(Method::DELETE, path, "settings.reset_limits", "Goes back to the default limits.", reset)
            .conditional(),
    ]
}

/// A setting in effect.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownSetting {
    /// As `server.listen`.
    path: String,
    /// As it would be written; `***` for a secret.
    value: String,
    /// `default`, a place in the settings file, a variable of the environment, a flag, or `api`.
    origin: String,
}

/// The settings in effect.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownSettings {
    data: Vec<ShownSetting>,
}

async fn list(call: Call) -> Result<Json<ShownSettings>, Refusal> {
    let shared = &call.shared;
    let shown = shared.shown.load_full();
    let mut data: Vec<ShownSetting> = shown
        .iter()
        .map(|(path, value, origin)| ShownSetting {
            path: path.clone(),
            value: value.clone(),
            origin: origin.clone(),
        })
        .collect();
    // What the API has set, one row a document: they are shown whole where they were made.
    for kind in KINDS {
        for row in shared.access.db().all_resources(kind).await? {
            let path = if kind == SETTINGS { row.name } else { format!("{kind}.{}", row.name) };
            data.push(ShownSetting { path, value: format!("version {}", row.version), origin: "api".into() });
        }
    }
    Ok(Json(ShownSettings { data }))
}

/// The limits in force.
#[derive(Debug, Serialize, JsonSchema)]
struct LimitsInForce {
    source: Origin,
    limits: LimitSettings,
    /// Of what the API has set.
    version: Option<i64>,
}

impl Resource for LimitsInForce {
    fn path(&self) -> String {
        "settings/limits".into()
    }

    fn version(&self) -> Option<i64> {
        self.version
    }
}

async fn show(call: Call) -> Result<Item<LimitsInForce>, Refusal> {
    let configuration = &call.shared.configuration;
    let version = match call.shared.access.db().resource(SETTINGS, LIMITS).await {
        Ok(row) => Some(row.version),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let source = match (configuration.file().sets_limits(), version) {
        (true, _) => Origin::File,
        (false, Some(_)) => Origin::Api,
        (false, None) => Origin::BuiltIn,
    };
    Ok(Item(LimitsInForce { source, limits: configuration.in_force().limits.clone(), version }))
}

async fn set(call: Call<Nothing, Nothing, Body<LimitSettings>>) -> Result<Item<LimitsInForce>, Refusal> {
    let Body(limits) = call.body;
    if !SUBJECTS.contains(&limits.max_subjects) {
        let text = format!("`max_subjects`: expected {} to {}.", SUBJECTS.start(), SUBJECTS.end());
        return Err(Refusal::invalid("max_subjects", text));
    }
    let configuration = &call.shared.configuration;
    let _one = configuration.changing().await;
    if configuration.file().sets_limits() {
        let text = "`limits` is set in the settings file: change it there.";
        return Err(Refusal::conflict("set_in_file", text));
    }
    let body =
        serde_json::to_string(&limits).map_err(|error| Refusal::internal(&call.who.request_id, &error))?;
    let draft = ResourceDraft { kind: SETTINGS.into(), name: LIMITS.into(), body };
    let db = call.shared.access.db();
    let row = match db.update_resource(&draft, call.if_match, None).await {
        Err(StoreError::NotFound { .. }) if call.if_match.is_none() => {
            db.create_resource(&draft, None).await?
        }
        updated => updated?,
    };
    configuration.refresh().await;
    Ok(Item(LimitsInForce { source: Origin::Api, limits, version: Some(row.version) }))
}

async fn reset(call: Call) -> Result<Done, Refusal> {
    let configuration = &call.shared.configuration;
    let _one = configuration.changing().await;
    call.shared.access.db().delete_resource(SETTINGS, LIMITS, call.if_match, None).await?;
    configuration.refresh().await;
    Ok(Done)
}
