//! `/api/VirtualKeys`.

use access::limits::{Limit as AtMost, Limits};
use access::{BadKey, ModelPatterns, kept_of, new_key};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Db, KeyFields, KeyFilter, KeyRow, StoreError, UsageQuery};

use super::bad;
use super::dollars::Dollars;
use super::groups::ConduitGroup;
use crate::admin::{
    Body, Call, Created, Done, Id, IdPath, Json, Line, Name, Nothing, Refusal, Resource, Route, Time,
};
use crate::routes::admin::{keys, stored};

/// What Conduit's keys begin with.
const PREFIX: &str = "condt_";
/// The role of a key that a group pays for.
const CALLER: &str = "caller";
const PAGE: i64 = 1000;
const DAY_MS: i64 = 86_400_000;

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/VirtualKeys", "/api/VirtualKeys/{id}");
    vec![
        Route::conduit(Method::GET, all, "keys.list.conduit", "Lists virtual keys.", list),
        Route::conduit(Method::POST, all, "keys.create.conduit", "Makes a virtual key.", create),
        Route::conduit(Method::GET, one, "keys.show.conduit", "Shows a virtual key.", show),
        Route::conduit(Method::PUT, one, "keys.update.conduit", "Edits a virtual key.", update),
        Route::conduit(Method::DELETE, one, "keys.delete.conduit", "Removes a virtual key.", delete),
        Route::conduit(
            Method::POST,
            "/api/VirtualKeys/validate",
            "keys.validate.conduit",
            "Says whether a key is good, for a model.",
            validate,
        )
        .needs("keys", false),
        Route::conduit(
            Method::GET,
            "/api/VirtualKeys/{id}/validation-info",
            "keys.validation_info.conduit",
            "Shows what a key is judged by.",
            show,
        ),
        Route::conduit(
            Method::GET,
            "/api/VirtualKeys/{id}/group",
            "keys.group.conduit",
            "Shows the group of a key.",
            group,
        ),
        Route::conduit(
            Method::POST,
            "/api/VirtualKeys/maintenance",
            "keys.maintain.conduit",
            "Disables keys whose time is over.",
            maintain,
        ),
        Route::conduit(
            Method::GET,
            "/api/VirtualKeys/{id}/discovery-preview",
            "keys.preview.conduit",
            "Lists the models that a key may call.",
            preview,
        ),
        Route::conduit(
            Method::GET,
            "/api/VirtualKeys/usage/by-key/{*key}",
            "keys.usage.conduit",
            "Shows what a key has used, by the key itself.",
            usage,
        ),
    ]
}

/// A virtual key.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConduitKey {
    id: i64,
    key_name: String,
    /// The first and last characters.
    key_prefix: String,
    description: String,
    /// A list with commas.
    allowed_models: Option<String>,
    virtual_key_group_id: Option<i64>,
    is_enabled: bool,
    expires_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
    /// JSON as text.
    metadata: Option<String>,
    rate_limit_rpm: Option<u64>,
    rate_limit_rpd: Option<u64>,
}

impl ConduitKey {
    pub(super) fn group(&self) -> Option<i64> {
        self.virtual_key_group_id
    }
}

impl From<KeyRow> for ConduitKey {
    fn from(row: KeyRow) -> Self {
        let fields = row.fields;
        let limits: Limits = stored::read(fields.limits).unwrap_or_default();
        let models: Option<Vec<String>> = stored::read(fields.allowed_models);
        ConduitKey {
            id: row.id,
            key_name: fields.name,
            key_prefix: row.hint,
            description: fields.description,
            allowed_models: models.map(|models| models.join(",")),
            virtual_key_group_id: fields.group_id,
            is_enabled: fields.enabled,
            expires_at: fields.expires_at.map(Time),
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
            metadata: fields.metadata,
            rate_limit_rpm: limits.requests_per_minute.and_then(AtMost::max),
            rate_limit_rpd: limits.requests_per_day.and_then(AtMost::max),
        }
    }
}

/// A new key with the key itself, the only time it is shown.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitKeyMade {
    virtual_key: String,
    key_info: ConduitKey,
}

impl Resource for ConduitKeyMade {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("VirtualKeys/{}", self.key_info.id)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

/// A new key, or what to change of one: what is left out or null stays.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitKeyBody {
    key_name: Option<Name>,
    description: Option<String>,
    /// A list with commas; empty for all.
    allowed_models: Option<String>,
    virtual_key_group_id: Option<Id>,
    is_enabled: Option<bool>,
    expires_at: Option<Time>,
    /// JSON as text.
    metadata: Option<String>,
    rate_limit_rpm: Option<u64>,
    rate_limit_rpd: Option<u64>,
}

impl ConduitKeyBody {
    fn apply(self, fields: &mut KeyFields) -> Result<(), Refusal> {
        if let Some(name) = self.key_name {
            fields.name = name.into_inner();
        }
        if let Some(text) = self.description {
            if text.len() > 4000 || text.contains('\0') {
                return Err(Refusal::invalid("description", "`description`: expected at most 4000 bytes."));
            }
            fields.description = text;
        }
        if let Some(list) = self.allowed_models {
            let models = list.split(',').map(str::trim).filter(|model| !model.is_empty());
            let models: Vec<String> = models.map(str::to_owned).collect();
            ModelPatterns::new(&models).map_err(|text| Refusal::invalid("allowedModels", text))?;
            fields.allowed_models = if models.is_empty() { None } else { stored::write(Some(&models)) };
        }
        fields.group_id = self.virtual_key_group_id.map(|id| id.0).or(fields.group_id);
        fields.enabled = self.is_enabled.unwrap_or(fields.enabled);
        fields.expires_at = self.expires_at.map(|time| time.0).or(fields.expires_at);
        if let Some(text) = self.metadata {
            fields.metadata = metadata(&text)?;
        }
        let mut limits: Limits = stored::read(fields.limits.take()).unwrap_or_default();
        limits.requests_per_minute = self.rate_limit_rpm.map(AtMost::AtMost).or(limits.requests_per_minute);
        limits.requests_per_day = self.rate_limit_rpd.map(AtMost::AtMost).or(limits.requests_per_day);
        fields.limits = if limits.is_empty() { None } else { stored::write(Some(&limits)) };
        Ok(())
    }
}

/// An operator's notes, which are a JSON object here and any text there.
fn metadata(text: &str) -> Result<Option<String>, Refusal> {
    if text.len() > 16 << 10 {
        return Err(Refusal::invalid("metadata", "`metadata`: expected at most 16 KiB."));
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    let is_object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
    Ok(Some(if is_object { text.to_owned() } else { serde_json::json!({"text": text}).to_string() }))
}

/// Which keys.
#[derive(Debug, Deserialize, JsonSchema)]
struct ConduitKeyQuery {
    #[serde(rename = "virtualKeyGroupId")]
    group_id: Option<Id>,
}

async fn list(call: Call<Nothing, ConduitKeyQuery>) -> Result<Json<Vec<ConduitKey>>, Refusal> {
    let group = call.query.group_id.map(|id| id.0);
    of_group(call.shared.access.db(), group).await.map(Json)
}

/// Every key, or every key of a group.
pub(super) async fn of_group(db: &Db, group_id: Option<i64>) -> Result<Vec<ConduitKey>, Refusal> {
    let filter = KeyFilter { group_id, ..KeyFilter::default() };
    let mut all: Vec<ConduitKey> = Vec::new();
    loop {
        let page = db.keys(&filter, all.last().map_or(0, |key| key.id), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.into_iter().map(ConduitKey::from));
    }
}

async fn create(
    call: Call<Nothing, Nothing, Body<ConduitKeyBody>>,
) -> Result<Created<ConduitKeyMade>, Refusal> {
    let Body(new) = call.body;
    if new.key_name.is_none() {
        return Err(Refusal::invalid("keyName", "`keyName`: a key needs a name."));
    }
    if new.virtual_key_group_id.is_none() {
        let text = "`virtualKeyGroupId`: a key needs a group, which pays for it.";
        return Err(Refusal::invalid("virtualKeyGroupId", text));
    }
    keys::may_give(&call.shared, &call.who, CALLER)?;
    let mut fields = KeyFields { role: CALLER.into(), enabled: true, ..KeyFields::default() };
    new.apply(&mut fields)?;
    let (key, kept) = new_key(PREFIX).map_err(|error| Refusal::internal(&call.who.request_id, &error))?;
    let row = call.shared.access.db().create_key(&fields, &kept).await.map_err(no_group)?;
    Ok(Created(ConduitKeyMade { virtual_key: key.expose().to_owned(), key_info: row.into() }))
}

fn no_group(error: StoreError) -> Refusal {
    match error {
        StoreError::NotFound { what } if what.starts_with("group ") => {
            Refusal::invalid("virtualKeyGroupId", format!("There is no {what}: make it first."))
        }
        other => other.into(),
    }
}

async fn show(call: Call<IdPath>) -> Result<Json<ConduitKey>, Refusal> {
    Ok(Json(call.shared.access.db().key(call.path.id.0).await?.into()))
}

async fn update(call: Call<IdPath, Nothing, Body<ConduitKeyBody>>) -> Result<Done, Refusal> {
    let (shared, id, Body(edit)) = (&call.shared, call.path.id.0, call.body);
    let db = shared.access.db();
    let mut tries = stored::TRIES;
    loop {
        let before = db.key(id).await?;
        let mut fields = before.fields;
        edit.clone().apply(&mut fields)?;
        // Nobody enables a token that may do more than they may.
        keys::may_give(shared, &call.who, &fields.role)?;
        match db.update_key(id, &fields, Some(before.version)).await {
            Err(StoreError::Changed { .. }) if tries > 0 => tries -= 1,
            Err(error) => return Err(no_group(error)),
            Ok(_) => return Ok(Done),
        }
    }
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    call.shared.access.db().delete_key(call.path.id.0, None).await?;
    Ok(Done)
}

/// A key to be looked at.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitKeyToValidate {
    key: String,
    requested_model: Option<String>,
}

/// What was found.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitKeyValidated {
    is_valid: bool,
    virtual_key_id: Option<i64>,
    key_name: Option<String>,
    allowed_models: Option<String>,
    error_message: Option<String>,
}

async fn validate(
    call: Call<Nothing, Nothing, Body<ConduitKeyToValidate>>,
) -> Result<Json<ConduitKeyValidated>, Refusal> {
    let Body(asked) = call.body;
    let refused = |text: String| ConduitKeyValidated { error_message: Some(text), ..Default::default() };
    let caller = match call.shared.access.authenticate(&asked.key) {
        Err(error) => return Ok(Json(refused(BadKey::to_string(&error)))),
        Ok(caller) => caller,
    };
    // The master key, or a token: no virtual key.
    let Some(id) = caller.key_id else {
        return Ok(Json(refused("This is no virtual key.".into())));
    };
    let key = ConduitKey::from(call.shared.access.db().key(id).await?);
    let may = asked.requested_model.is_none_or(|model| caller.may_call(&model));
    Ok(Json(ConduitKeyValidated {
        is_valid: may,
        virtual_key_id: Some(id),
        key_name: Some(key.key_name),
        allowed_models: key.allowed_models,
        error_message: (!may).then(|| "The key may not call this model.".to_owned()),
    }))
}

async fn group(call: Call<IdPath>) -> Result<Json<ConduitGroup>, Refusal> {
    let db = call.shared.access.db();
    let key = db.key(call.path.id.0).await?;
    let id = key.fields.group_id.ok_or_else(|| Refusal::not_found("This key has no group."))?;
    super::groups::find(&call.shared, id).await.map(Json)
}

/// What a model must be able to do.
#[derive(Debug, Deserialize, JsonSchema)]
struct PreviewQuery {
    /// `chat`, `chat_stream` or `embeddings`; others no model is known to have.
    capability: Option<Line<1, 64>>,
}

/// Models that a key may call.
#[derive(Debug, Serialize, JsonSchema)]
struct ConduitPreview {
    data: Vec<ConduitModel>,
    count: usize,
}

/// A model that a key may call.
#[derive(Debug, Serialize, JsonSchema)]
struct ConduitModel {
    id: String,
    display_name: String,
    provider: String,
}

async fn preview(call: Call<IdPath, PreviewQuery>) -> Result<Json<ConduitPreview>, Refusal> {
    let row = call.shared.access.db().key(call.path.id.0).await?;
    let list: Option<Vec<String>> = stored::read(row.fields.allowed_models);
    let patterns = list.and_then(|list| ModelPatterns::new(&list).ok());
    let served = ["chat", "chat_stream", "embeddings"];
    let possible = call.query.capability.is_none_or(|wanted| served.contains(&&*wanted));
    let in_force = call.shared.configuration.in_force();
    let models = in_force
        .gateway
        .models
        .iter()
        .filter(|(name, _)| possible && patterns.as_ref().is_none_or(|patterns| patterns.matches(name)));
    let data: Vec<ConduitModel> = models
        .map(|(name, model)| ConduitModel {
            id: name.clone(),
            display_name: name.clone(),
            provider: model.targets.first().map(|target| target.provider.clone()).unwrap_or_default(),
        })
        .collect();
    Ok(Json(ConduitPreview { count: data.len(), data }))
}

/// `{key}` in a path.
#[derive(Deserialize, JsonSchema)]
struct KeyPath {
    /// A key itself.
    key: Line<1, 300>,
}

/// What a key has used.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitKeyUsage {
    key_id: i64,
    key_name: String,
    is_enabled: bool,
    group_id: Option<i64>,
    group_balance: Option<Dollars>,
    total_cost: Dollars,
    total_requests: i64,
    input_tokens: i64,
    output_tokens: i64,
    last_used_at: Option<Time>,
}

async fn usage(call: Call<KeyPath>) -> Result<Json<ConduitKeyUsage>, Refusal> {
    let (access, unknown) = (&call.shared.access, || Refusal::not_found("There is no such key."));
    let hash = kept_of(&call.path.key).hash;
    // The group's balance is exact for what this replica has served.
    access.settle_up().await;
    let row = access.db().key_by_hash(&hash).await?.ok_or_else(unknown)?;
    let balance = match row.fields.group_id {
        Some(group) => Some(Dollars(access.db().group(group).await?.balance)),
        None => None,
    };
    let today = store::now_ms().div_euclid(DAY_MS);
    // A summary covers ten years at most.
    let from_day = row.created_at.div_euclid(DAY_MS).clamp(today - 3_650, today);
    let query = UsageQuery { from_day, to_day: today, key_id: Some(row.id), ..UsageQuery::default() };
    let sums = access.db().summarize_usage(&query).await?.total;
    Ok(Json(ConduitKeyUsage {
        key_id: row.id,
        key_name: row.fields.name,
        is_enabled: row.fields.enabled,
        group_id: row.fields.group_id,
        group_balance: balance,
        total_cost: Dollars(sums.cost),
        total_requests: sums.requests,
        input_tokens: sums.input,
        output_tokens: sums.output,
        last_used_at: row.last_used_at.map(Time),
    }))
}

async fn maintain(call: Call) -> Result<Done, Refusal> {
    let db = call.shared.access.db();
    let now = store::now_ms();
    let mut after = 0;
    loop {
        let page = db.keys(&KeyFilter::default(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(Done) };
        after = last.id;
        for row in page {
            if row.fields.enabled && row.fields.expires_at.is_some_and(|end| end <= now) {
                let fields = KeyFields { enabled: false, ..row.fields };
                match db.update_key(row.id, &fields, Some(row.version)).await {
                    // Whoever changed or removed it meanwhile knew better.
                    Ok(_) | Err(StoreError::Changed { .. } | StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(bad(error.to_string())),
                }
            }
        }
    }
}
