//! Everything that an administrator has made, out of one installation and into another.
//!
//! Keys go by their hashes and go on to work. Secrets that we have to send, as providers' keys, are left out: they
//! are null in the document and named in its list, and a provider without its secret is not in force until it is
//! given one; or they go with it, sealed under a passphrase. The document has no ids and no times, so that an import into an empty installation exports the same.

use std::collections::BTreeMap;

use access::identity::Permissions;
use access::ip::IpRule;
use access::limits::{LimitSettings, Limits};
use access::prices::Price;
use base::Money;
use gateway::settings::{ModelSettings, ProviderSettings};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Db, GroupFields, KeyFields, KeyFilter, NewKey, ResourceDraft, StoreError, TransactionKind};

use super::stored;
use crate::admin::{
    Call, Json, Line, List, Metadata, Name, Nothing, Refusal, Route, Text, Time, Upload, Who, decode_json,
    sentence,
};
use crate::configuration::{IP_RULE, KINDS, RoleSection, SETTINGS, Section};
use crate::state::Shared;

mod secrets;

use secrets::{Opened, SealedSecrets};

/// How the document is written; another number is another form.
const FORMAT: u32 = 1;
/// Rows read at once.
const PAGE: i64 = 1000;
/// The group and the key that the first run makes.
const FIRST: &str = "default";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/api/admin/export/configuration",
            "config.export",
            "Writes out groups, keys (by their hashes) and everything else that was made by API.",
            export,
        ),
        Route::new(
            Method::POST,
            "/api/admin/export/configuration",
            "config.export_sealed",
            "Writes out the same with its secrets, sealed under a passphrase.",
            secrets::export,
        ),
        Route::new(
            Method::POST,
            "/api/admin/rotate-data-key",
            "config.rotate_data_key",
            "Makes a new key for the secrets in the store and seals them anew.",
            secrets::rotate,
        ),
        Route::new(
            Method::POST,
            "/api/admin/import/configuration",
            "config.import",
            "Takes over what an export has written, into an empty installation.",
            import,
        ),
    ]
}

/// What one installation has, for another.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConfigurationDocument {
    /// How this is written: 1.
    format: u32,
    groups: Vec<ExportedGroup>,
    keys: Vec<ExportedKey>,
    /// Providers, models, prices, roles, rules about addresses and settings, by kind and name.
    documents: BTreeMap<String, BTreeMap<String, Value>>,
    /// Secrets that are null in `documents`, as `provider.openai.api_key`: set them after an import.
    #[serde(default)]
    secrets_missing: Vec<String>,
    /// The same secrets, sealed under a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secrets: Option<SealedSecrets>,
    /// Of an import: what `secrets` were sealed with. It is never exported.
    #[serde(default, skip_serializing)]
    passphrase: Option<Text<12, 1024>>,
}

/// A group with its balance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportedGroup {
    name: Name,
    #[serde(default)]
    description: String,
    external_id: Option<Line<1, 100>>,
    #[serde(default)]
    unlimited: bool,
    balance: Money,
    limits: Option<Limits>,
    metadata: Option<Metadata>,
}

/// A key without the key itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExportedKey {
    name: Name,
    #[serde(default)]
    description: String,
    /// The name of its group.
    group: Option<Name>,
    role: Line<1, 64>,
    enabled: bool,
    expires_at: Option<Time>,
    /// In milliseconds.
    rotate_every_ms: Option<i64>,
    user: Option<Line<1, 256>>,
    allowed_models: Option<List<Text<1, 256>, 1000>>,
    limits: Option<Limits>,
    tags: Option<List<Line<1, 64>, 32>>,
    metadata: Option<Metadata>,
    #[schemars(length(equal = 64))]
    key_sha256: String,
    /// What people recognise it by.
    hint: Line<1, 32>,
}

async fn export(call: Call) -> Result<Json<ConfigurationDocument>, Refusal> {
    write_out(&call.shared, &call.who).await.map(Json)
}

async fn write_out(shared: &Shared, who: &Who) -> Result<ConfigurationDocument, Refusal> {
    shared.access.settle_up().await;
    let db = shared.access.db();
    let groups = all_groups(db).await?;
    let names: BTreeMap<i64, String> = groups.iter().map(|group| (group.id, group.name.clone())).collect();
    let damaged = |text: String| Refusal::internal(&who.request_id, &text as &dyn std::fmt::Display);
    let mut exported = ConfigurationDocument {
        format: FORMAT,
        groups: groups.into_iter().map(export_group).collect::<Result<_, _>>().map_err(damaged)?,
        keys: Vec::new(),
        documents: BTreeMap::new(),
        secrets_missing: Vec::new(),
        secrets: None,
        passphrase: None,
    };
    for key in all_keys(db).await? {
        // What works once and for minutes is nothing to keep.
        if !key.fields.single_use {
            exported.keys.push(export_key(key, &names).map_err(damaged)?);
        }
    }
    for kind in KINDS {
        let mut of_kind = BTreeMap::new();
        for row in db.all_resources(kind).await? {
            let mut body: Value = serde_json::from_str(&row.body).map_err(|e| damaged(e.to_string()))?;
            if kind == ProviderSettings::KIND {
                let missing = without_secrets(&mut body);
                let path = |field| format!("{kind}.{}.{field}", row.name);
                exported.secrets_missing.extend(missing.into_iter().map(path));
            }
            of_kind.insert(row.name, body);
        }
        if !of_kind.is_empty() {
            exported.documents.insert(kind.to_owned(), of_kind);
        }
    }
    exported.groups.sort_by(|a, b| a.name.cmp(&b.name));
    exported.keys.sort_by(|a, b| a.name.cmp(&b.name));
    exported.secrets_missing.sort();
    Ok(exported)
}

/// Shows each secret of a provider's body with the name of its field.
fn each_secret(body: &mut Value, mut see: impl FnMut(String, &mut Value)) {
    let Some(map) = body.as_object_mut() else { return };
    if let Some(key) = map.get_mut("api_key") {
        see("api_key".to_owned(), key);
    }
    let keys = map.get_mut("api_keys").and_then(Value::as_array_mut).into_iter().flatten();
    for (at, value) in keys.enumerate() {
        see(format!("api_keys.{at}"), value);
    }
    for (header, value) in map.get_mut("headers").and_then(Value::as_object_mut).into_iter().flatten() {
        see(format!("headers.{header}"), value);
    }
}

/// Takes the secrets out of a provider. Says which there were.
fn without_secrets(body: &mut Value) -> Vec<String> {
    let mut missing = Vec::new();
    each_secret(body, |field, value| {
        *value = Value::Null;
        missing.push(field);
    });
    missing
}

/// Marks the secrets that a provider still has to be given: empty, which no provider takes.
fn await_secrets(body: &mut Value) {
    each_secret(body, |_, value| {
        if value.is_null() {
            *value = "".into();
        }
    });
}

fn export_group(group: store::Group) -> Result<ExportedGroup, String> {
    Ok(ExportedGroup {
        name: Name::parse(group.name)?,
        description: group.description,
        external_id: group.external_id.map(Line::parse).transpose()?,
        unlimited: group.unlimited,
        balance: group.balance,
        limits: stored::read(group.limits),
        metadata: stored::read(group.metadata).map(Metadata),
    })
}

fn export_key(key: store::KeyRow, groups: &BTreeMap<i64, String>) -> Result<ExportedKey, String> {
    let fields = key.fields;
    let group = fields.group_id.and_then(|id| groups.get(&id).cloned());
    Ok(ExportedKey {
        name: Name::parse(fields.name)?,
        description: fields.description,
        group: group.map(Name::parse).transpose()?,
        role: Line::parse(fields.role)?,
        enabled: fields.enabled,
        expires_at: fields.expires_at.map(Time),
        rotate_every_ms: fields.rotate_every,
        user: fields.user.map(Line::parse).transpose()?,
        allowed_models: stored::read(fields.allowed_models),
        limits: stored::read(fields.limits),
        tags: stored::read(fields.tags),
        metadata: stored::read(fields.metadata).map(Metadata),
        key_sha256: key.hash,
        hint: Line::parse(key.hint)?,
    })
}

async fn all_groups(db: &Db) -> Result<Vec<store::Group>, StoreError> {
    let mut all: Vec<store::Group> = Vec::new();
    loop {
        let page = db.groups(None, all.last().map_or(0, |group| group.id), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn all_keys(db: &Db) -> Result<Vec<store::KeyRow>, StoreError> {
    let mut all: Vec<store::KeyRow> = Vec::new();
    loop {
        let page = db.keys(&KeyFilter::default(), all.last().map_or(0, |key| key.id), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// What to do with what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ImportMode {
    /// Nothing may be there but what the first run has made, which is replaced.
    #[default]
    Empty,
    /// Groups and keys whose names are there stay as they are; documents are replaced.
    Merge,
}

/// How to import.
#[derive(Debug, Deserialize, JsonSchema)]
struct ImportQuery {
    #[serde(default)]
    mode: ImportMode,
}

/// What an import did.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct ConfigurationImported {
    groups: u64,
    keys: u64,
    documents: u64,
    /// Names that were there already.
    skipped: Vec<String>,
    /// Secrets that have to be set now.
    secrets_missing: Vec<String>,
}

async fn import(call: Call<Nothing, ImportQuery, Upload>) -> Result<Json<ConfigurationImported>, Refusal> {
    let all = Permissions::all();
    if !call.who.caller.as_ref().is_some_and(|caller| caller.permissions.covers(&all)) {
        let text =
            "An import may bring keys with every role: it needs the master key or a key of the role `admin`.";
        return Err(Refusal::new(base::Kind::Forbidden, "role_exceeds_yours", text));
    }
    let value: Value = serde_json::from_slice(&call.body.0).map_err(|error| {
        Refusal::new(base::Kind::Invalid, "invalid_json", format!("The body is not JSON: {error}."))
    })?;
    let given: ConfigurationDocument = decode_json(&value)?;
    if given.format != FORMAT {
        let text = format!("`format`: expected {FORMAT}; this was written by another version of Trunkline.");
        return Err(Refusal::invalid("format", text));
    }
    let shared = &call.shared;
    let opened = secrets::open(&given).await?;
    let drafts = drafts(shared, &given, &opened)?;
    check_keys(&given)?;
    let db = shared.access.db();
    let one = shared.configuration.changing().await;
    refuse_file(shared, &drafts)?;
    if call.query.mode == ImportMode::Empty {
        make_empty(db).await?;
    }
    let mut done = ConfigurationImported {
        secrets_missing: missing(&given, &opened),
        ..ConfigurationImported::default()
    };
    db.put_resources(&drafts, None).await?;
    done.documents = drafts.len() as u64;
    let mut groups: BTreeMap<String, i64> =
        all_groups(db).await?.into_iter().map(|group| (group.name, group.id)).collect();
    for group in given.groups {
        let name = group.name.to_string();
        if groups.contains_key(&name) {
            done.skipped.push(format!("group {name}"));
            continue;
        }
        groups.insert(name, import_group(db, group, call.who.actor()).await?);
        done.groups += 1;
    }
    for key in given.keys {
        let name = key.name.to_string();
        match import_key(db, key, &groups).await? {
            true => done.keys += 1,
            false => done.skipped.push(format!("key {name}")),
        }
    }
    drop(one);
    shared.configuration.refresh().await;
    Ok(Json(done))
}

/// The secrets that an import does not bring.
fn missing(given: &ConfigurationDocument, opened: &Opened) -> Vec<String> {
    given.secrets_missing.iter().filter(|path| !opened.contains_key(*path)).cloned().collect()
}

/// The documents as they are kept. Each can be read by this version, or nothing is imported.
fn drafts(
    shared: &Shared,
    given: &ConfigurationDocument,
    opened: &Opened,
) -> Result<Vec<ResourceDraft>, Refusal> {
    let mut drafts = Vec::new();
    for (kind, documents) in &given.documents {
        for (name, body) in documents {
            let mut body = body.clone();
            if kind == ProviderSettings::KIND {
                secrets::fill_in(&mut body, kind, name, opened);
                await_secrets(&mut body);
            }
            let field = format!("documents.{kind}.{name}");
            readable(kind, &body).map_err(|error| {
                Refusal::invalid(field.clone(), format!("`{field}`: {}", sentence(&error)))
            })?;
            if kind == ProviderSettings::KIND && !opened.is_empty() {
                body = secrets::seal_here(shared, name, body)?;
            }
            drafts.push(ResourceDraft { kind: kind.clone(), name: name.clone(), body: body.to_string() });
        }
    }
    Ok(drafts)
}

fn readable(kind: &str, body: &Value) -> Result<(), String> {
    fn is<T: serde::de::DeserializeOwned>(body: &Value) -> Result<(), String> {
        T::deserialize(body).map(drop).map_err(|error| error.to_string())
    }
    match kind {
        ProviderSettings::KIND => is::<ProviderSettings>(body),
        ModelSettings::KIND => is::<ModelSettings>(body),
        Price::KIND => is::<Price>(body),
        RoleSection::KIND => is::<RoleSection>(body),
        IP_RULE => is::<IpRule>(body),
        SETTINGS => is::<LimitSettings>(body),
        _ => Err(format!("there are no documents of this kind: there are {}", KINDS.join(", "))),
    }
}

/// What keys say of each other is right, or nothing is imported.
fn check_keys(given: &ConfigurationDocument) -> Result<(), Refusal> {
    for (at, key) in given.keys.iter().enumerate() {
        let hash = &key.key_sha256;
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let field = format!("keys[{at}].key_sha256");
            let text = format!("`{field}`: expected a SHA-256, 64 hexadecimal digits.");
            return Err(Refusal::invalid(field, text));
        }
        let has = |group: &Name| given.groups.iter().any(|known| known.name == *group);
        if !key.group.as_ref().is_none_or(has) {
            let field = format!("keys[{at}].group");
            let text = format!("`{field}`: there is no such group among `groups`.");
            return Err(Refusal::invalid(field, text));
        }
    }
    Ok(())
}

/// What is in the settings file here cannot be imported beside it.
fn refuse_file(shared: &Shared, drafts: &[ResourceDraft]) -> Result<(), Refusal> {
    let file = shared.configuration.file();
    let in_file = |draft: &&ResourceDraft| match draft.kind.as_str() {
        ProviderSettings::KIND => file.providers.contains_key(&draft.name),
        ModelSettings::KIND => file.models.contains_key(&draft.name),
        Price::KIND => file.prices.contains_key(&draft.name),
        RoleSection::KIND => RoleSection::in_file(&file).contains_key(&draft.name),
        SETTINGS => file.sets_limits(),
        _ => false,
    };
    let Some(draft) = drafts.iter().find(in_file) else { return Ok(()) };
    let text = format!(
        "The {} `{}` is set in the settings file here: remove it from the file or from the import.",
        draft.kind, draft.name
    );
    Err(Refusal::conflict("set_in_file", text).at(format!("documents.{}.{}", draft.kind, draft.name)))
}

/// Removes what the first run has made; refuses where there is more.
async fn make_empty(db: &Db) -> Result<(), Refusal> {
    let (groups, keys) = (all_groups(db).await?, all_keys(db).await?);
    let mut documents = false;
    for kind in KINDS {
        documents |= !db.resources(kind, 0, 1).await?.is_empty();
    }
    let more = groups.iter().any(|group| group.name != FIRST)
        || keys.iter().any(|key| key.fields.name != FIRST && !key.fields.single_use);
    if more || documents {
        let text = "This installation is not empty: import into a new one, or with `?mode=merge`, which keeps groups \
            and keys whose names are there and replaces everything else of the same name.";
        return Err(Refusal::conflict("not_empty", text));
    }
    for key in keys {
        db.delete_key(key.id, None).await?;
    }
    for group in groups {
        db.delete_group(group.id, None).await?;
    }
    Ok(())
}

async fn import_group(db: &Db, group: ExportedGroup, actor: &str) -> Result<i64, Refusal> {
    let fields = GroupFields {
        name: group.name.into_inner(),
        description: group.description,
        external_id: group.external_id.map(Line::into_inner),
        unlimited: group.unlimited,
        limits: stored::write(group.limits.as_ref()),
        metadata: stored::write(group.metadata.as_ref()),
    };
    let begins = group.balance.max(Money::ZERO);
    let made = db.create_group(&fields, begins, actor).await?;
    if group.balance < Money::ZERO {
        let kind = TransactionKind::Adjustment;
        db.transact(made.id, kind, group.balance, "the balance that was exported", actor).await?;
    }
    Ok(made.id)
}

/// Keeps a key; `false` when its name or the key itself is there.
async fn import_key(db: &Db, key: ExportedKey, groups: &BTreeMap<String, i64>) -> Result<bool, Refusal> {
    let fields = KeyFields {
        name: key.name.into_inner(),
        description: key.description,
        group_id: key.group.and_then(|name| groups.get(&*name).copied()),
        role: key.role.into_inner(),
        enabled: key.enabled,
        single_use: false,
        expires_at: key.expires_at.map(|time| time.0),
        rotate_every: key.rotate_every_ms,
        user: key.user.map(Line::into_inner),
        allowed_models: stored::write(key.allowed_models.as_ref()),
        limits: stored::write(key.limits.as_ref()),
        tags: stored::write(key.tags.as_ref()),
        metadata: stored::write(key.metadata.as_ref()),
    };
    let kept = NewKey { hash: key.key_sha256.to_ascii_lowercase(), hint: key.hint.into_inner() };
    match db.create_key(&fields, &kept).await {
        Ok(_) => Ok(true),
        Err(StoreError::Exists { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_leave_as_null_and_come_back_as_what_is_awaited() {
        let mut body = json!({"kind": "openai", "api_key": "sealed:v1:x", "headers": {"x-a": "sealed:v1:y"}});
        assert_eq!(without_secrets(&mut body), ["api_key", "headers.x-a"]);
        assert_eq!(body, json!({"kind": "openai", "api_key": null, "headers": {"x-a": null}}));
        let exported = body.clone();
        await_secrets(&mut body);
        assert!(readable("provider", &body).is_ok());
        without_secrets(&mut body);
        assert_eq!(body, exported);
        let mut plain = json!({"kind": "demo"});
        await_secrets(&mut plain);
        assert_eq!(plain, json!({"kind": "demo"}));
        assert!(readable("invented", &plain).is_err());
    }
}
