//! Virtual keys and admin tokens.

use access::identity::{Pattern, Permissions};
use access::limits::Limits;
use access::{ModelPatterns, RotationSettings, new_key};
use base::Duration;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{KeyFields, KeyFilter, KeyRow, NewKey, StoreError, now_ms};

use super::stored;
use crate::admin::{
    Body, Call, Change, Created, Done, Given, Id, IdPath, Item, Limit, Line, List, Maybe, Metadata, Name,
    Nothing, Page, Refusal, Resource, Route, Text, Time, Who,
};
use crate::state::Shared;

mod import;

/// What a new key begins with.
const PREFIX: &str = "sk-tl-";
/// The role of a key that a group pays for.
const CALLER: &str = "caller";
/// The longest of `rotate_every`, ten years, and of `overlap`.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

pub(super) fn routes() -> Vec<Route> {
    let one = "/api/keys/{id}";
    let mut all = vec![
        Route::new(Method::POST, "/api/keys", "keys.create", "Makes a key; it is shown this once.", create)
            .idempotent(),
        Route::new(Method::GET, "/api/keys", "keys.list", "Lists keys.", list),
        Route::new(Method::GET, one, "keys.show", "Shows a key, without the key itself.", show),
        Route::new(Method::PATCH, one, "keys.update", "Edits, enables or disables a key.", update)
            .conditional(),
        Route::new(Method::DELETE, one, "keys.delete", "Removes a key: it is refused at once.", delete)
            .conditional(),
        Route::new(
            Method::POST,
            "/api/keys/{id}/rotate",
            "keys.rotate",
            "Replaces a key; the old one works for a while yet.",
            rotate,
        )
        .idempotent()
        .conditional(),
    ];
    all.extend(import::routes());
    all
}

/// A virtual key or an admin token.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Key {
    id: i64,
    name: String,
    description: String,
    /// The group that pays; null for an admin token.
    group_id: Option<i64>,
    role: String,
    /// The first and last characters of the key.
    hint: String,
    enabled: bool,
    /// Works once.
    single_use: bool,
    expires_at: Option<Time>,
    /// Until when the key of before the last rotation works.
    previous_valid_until: Option<Time>,
    /// How old it may grow.
    rotate_every: Option<Duration>,
    /// When it has to be rotated: by `rotate_every`, else by `rotation.every` of the settings.
    rotate_before: Option<Time>,
    /// Whose it is.
    user: Option<String>,
    /// Names and patterns; null for all models.
    allowed_models: Option<Vec<String>>,
    limits: Option<Limits>,
    /// Labels of its spending.
    tags: Vec<String>,
    metadata: Option<Metadata>,
    created_at: Time,
    updated_at: Time,
    /// To about a minute.
    last_used_at: Option<Time>,
    version: i64,
}

impl Resource for Key {
    fn path(&self) -> String {
        format!("keys/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        Some(self.version)
    }
}

impl Key {
    /// As it is shown, under the rule about the age of keys.
    pub(super) fn new(row: KeyRow, rotation: &RotationSettings) -> Self {
        let rotate_before = rotation.due(row.rotated_at, row.fields.rotate_every);
        let fields = row.fields;
        let rotate_every = fields.rotate_every.and_then(|ms| u64::try_from(ms).ok());
        Key {
            id: row.id,
            name: fields.name,
            description: fields.description,
            group_id: fields.group_id,
            role: fields.role,
            hint: row.hint,
            enabled: fields.enabled,
            single_use: fields.single_use,
            expires_at: fields.expires_at.map(Time),
            previous_valid_until: row.previous_until.map(Time),
            rotate_every: rotate_every.map(Duration::from_millis),
            rotate_before: rotate_before.map(Time),
            user: fields.user,
            allowed_models: stored::read(fields.allowed_models),
            limits: stored::read(fields.limits),
            tags: stored::read(fields.tags).unwrap_or_default(),
            metadata: stored::read(fields.metadata).map(Metadata),
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
            last_used_at: row.last_used_at.map(Time),
            version: row.version,
        }
    }
}

/// A key with the key itself.
#[derive(Debug, Serialize, JsonSchema)]
struct ShownKey {
    #[serde(flatten)]
    row: Key,
    /// The key: shown this once. Not there when the key was made elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Resource for ShownKey {
    fn path(&self) -> String {
        self.row.path()
    }

    fn version(&self) -> Option<i64> {
        self.row.version()
    }
}

type Models = List<Text<1, 256>, 1000>;
type Tags = List<Line<1, 64>, 32>;

/// A new key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewKeyBody {
    /// Unique.
    name: Name,
    /// The group that pays. Without one the key is an admin token and needs a `role`.
    group_id: Option<Id>,
    /// What it may do; `caller` when there is a group.
    role: Option<Line<1, 64>>,
    description: Option<Text<0, 1000>>,
    /// Whose it is.
    user: Option<Line<1, 256>>,
    /// Names and patterns, as `gpt-4*`, `openai/*`; left out for all models.
    allowed_models: Option<Models>,
    limits: Option<Limits>,
    /// Labels of its spending.
    tags: Option<Tags>,
    metadata: Option<Metadata>,
    expires_at: Option<Time>,
    /// How old it may grow before it has to be rotated, as `90d`.
    rotate_every: Option<Duration>,
    /// Works once.
    #[serde(default)]
    single_use: bool,
    /// SHA-256 in hexadecimal of a key that was made elsewhere and goes on to work.
    #[schemars(length(equal = 64), regex(pattern = "^[0-9a-fA-F]{64}$"))]
    key_sha256: Option<String>,
}

impl NewKeyBody {
    /// What is kept of it, checked.
    fn fields(self, shared: &Shared, who: &Who) -> Result<KeyFields, Refusal> {
        let role = match (&self.role, self.group_id) {
            (Some(role), _) => role.to_string(),
            (None, Some(_)) => CALLER.to_owned(),
            (None, None) => {
                let text =
                    "A key needs a `group_id`, the group that pays for it; an admin token a `role` instead.";
                return Err(Refusal::new(base::Kind::Invalid, "missing_field", text).at("group_id"));
            }
        };
        if self.group_id.is_none() && role == CALLER {
            let text = "A key with the role `caller` needs a `group_id`, the group that pays for it.";
            return Err(Refusal::new(base::Kind::Invalid, "missing_field", text).at("group_id"));
        }
        may_give(shared, who, &role)?;
        let allowed_models = models(self.allowed_models)?;
        Ok(KeyFields {
            name: self.name.into_inner(),
            description: self.description.map(Text::into_inner).unwrap_or_default(),
            group_id: self.group_id.map(|id| id.0),
            role,
            enabled: true,
            single_use: self.single_use,
            expires_at: self.expires_at.map(|time| time.0),
            rotate_every: self.rotate_every.map(|every| millis(every, "rotate_every")).transpose()?,
            user: self.user.map(Line::into_inner),
            allowed_models: stored::write(allowed_models.as_ref()),
            limits: stored::write(self.limits.as_ref()),
            tags: stored::write(self.tags.as_ref()),
            metadata: stored::write(self.metadata.as_ref()),
        })
    }
}

/// Who gives a role away has to have all of it, or anybody who may write keys could make an admin's. The right
/// to call models is what keys are for.
pub(super) fn may_give(shared: &Shared, who: &Who, role: &str) -> Result<(), Refusal> {
    let roles = shared.access.roles();
    let Some(wanted) = roles.get(role) else {
        let names: Vec<_> = roles.iter().map(|(name, _)| format!("`{name}`")).collect();
        let text = format!("There is no role `{role}`: there are {}.", names.join(", "));
        return Err(Refusal::invalid("role", text));
    };
    let calling = Permissions::new(Pattern::parse(access::Caller::CALL_MODELS).ok());
    let has = who.caller.as_ref().is_some_and(|caller| caller.permissions.and(&calling).covers(wanted));
    if has {
        return Ok(());
    }
    let text =
        format!("The role `{role}` may do more than you may: only who has its permissions gives it away.");
    Err(Refusal::new(base::Kind::Forbidden, "role_exceeds_yours", text).at("role"))
}

fn models(given: Option<Models>) -> Result<Option<Vec<String>>, Refusal> {
    let Some(List(patterns)) = given else { return Ok(None) };
    let patterns: Vec<String> = patterns.into_iter().map(Text::into_inner).collect();
    ModelPatterns::new(&patterns)
        .map_err(|text| Refusal::invalid("allowed_models", crate::admin::sentence(&text)))?;
    Ok(Some(patterns))
}

fn millis(duration: Duration, field: &'static str) -> Result<i64, Refusal> {
    match i64::try_from(duration.0.as_millis()) {
        Ok(ms) if duration <= LONGEST => Ok(ms),
        _ => Err(Refusal::invalid(field, format!("`{field}`: expected at most {LONGEST}."))),
    }
}

async fn create(call: Call<Nothing, Nothing, Body<NewKeyBody>>) -> Result<Created<ShownKey>, Refusal> {
    let (shared, Body(mut new)) = (&call.shared, call.body);
    let (key, kept) = match new.key_sha256.take() {
        Some(hash) => (None, import::made_elsewhere(&hash)?),
        None => {
            let (key, kept) = fresh(&call.who)?;
            (Some(key), kept)
        }
    };
    let fields = new.fields(shared, &call.who)?;
    let row = shared.access.db().create_key(&fields, &kept).await.map_err(no_group)?;
    Ok(Created(ShownKey { row: Key::new(row, &shared.access.rotation()), key }))
}

fn fresh(who: &Who) -> Result<(String, NewKey), Refusal> {
    let (key, kept) = new_key(PREFIX).map_err(|error| Refusal::internal(&who.request_id, &error))?;
    Ok((key.expose().to_owned(), kept))
}

/// That the group a key should belong to is not there is a mistake in the body, not in the path.
fn no_group(error: StoreError) -> Refusal {
    match error {
        StoreError::NotFound { what } if what.starts_with("group ") => {
            Refusal::invalid("group_id", format!("There is no {what}: make it first."))
        }
        other => other.into(),
    }
}

/// Which keys.
#[derive(Debug, Deserialize, JsonSchema)]
struct KeyQuery {
    /// Of this group.
    group_id: Option<Id>,
    /// Only the one of this name.
    name: Option<Name>,
    /// Of this user.
    user: Option<Line<1, 256>>,
    /// How many at once.
    #[serde(default)]
    limit: Limit,
    /// The `next` of the page before.
    after: Option<Id>,
}

async fn list(call: Call<Nothing, KeyQuery>) -> Result<Page<Key>, Refusal> {
    let KeyQuery { group_id, name, user, limit, after } = call.query;
    let filter = KeyFilter {
        group_id: group_id.map(|id| id.0),
        name: name.map(Line::into_inner),
        user: user.map(Line::into_inner),
    };
    let rows = call.shared.access.db().keys(&filter, after.map_or(0, |id| id.0), limit.and_one()).await?;
    let rotation = call.shared.access.rotation();
    Ok(Page::cut(rows, limit, |row| row.id).map(|row| Key::new(row, &rotation)))
}

async fn show(call: Call<IdPath>) -> Result<Item<Key>, Refusal> {
    let access = &call.shared.access;
    Ok(Item(Key::new(access.db().key(call.path.id.0).await?, &access.rotation())))
}

/// What to change of a key; null clears.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditKey {
    #[serde(default)]
    name: Given<Name>,
    #[serde(default)]
    description: Given<Text<0, 1000>>,
    #[serde(default)]
    group_id: Change<Id>,
    #[serde(default)]
    role: Given<Line<1, 64>>,
    /// `false` disables the key at once.
    #[serde(default)]
    enabled: Given<bool>,
    #[serde(default)]
    expires_at: Change<Time>,
    #[serde(default)]
    rotate_every: Change<Duration>,
    #[serde(default)]
    user: Change<Line<1, 256>>,
    #[serde(default)]
    allowed_models: Change<Models>,
    #[serde(default)]
    limits: Change<Limits>,
    #[serde(default)]
    tags: Change<Tags>,
    #[serde(default)]
    metadata: Change<Metadata>,
}

impl EditKey {
    fn apply(self, before: KeyFields) -> Result<KeyFields, Refusal> {
        let allowed_models = match self.allowed_models {
            Change::Set(given) => models(Some(given))?.map_or(Change::Clear, Change::Set),
            Change::Clear => Change::Clear,
            Change::Keep => Change::Keep,
        };
        let rotate_every = match self.rotate_every {
            Change::Set(every) => Change::Set(millis(every, "rotate_every")?),
            Change::Clear => Change::Clear,
            Change::Keep => Change::Keep,
        };
        let fields = KeyFields {
            name: self.name.0.map_or(before.name, Line::into_inner),
            description: self.description.0.map_or(before.description, Text::into_inner),
            group_id: self.group_id.map(|id| id.0).apply(before.group_id),
            role: self.role.0.map_or(before.role, Line::into_inner),
            enabled: self.enabled.or(before.enabled),
            single_use: before.single_use,
            expires_at: self.expires_at.map(|time| time.0).apply(before.expires_at),
            rotate_every: rotate_every.apply(before.rotate_every),
            user: self.user.map(Line::into_inner).apply(before.user),
            allowed_models: stored::change(allowed_models, before.allowed_models),
            limits: stored::change(self.limits, before.limits),
            tags: stored::change(self.tags, before.tags),
            metadata: stored::change(self.metadata, before.metadata),
        };
        if fields.group_id.is_none() && fields.role == CALLER {
            let text = "A key with the role `caller` keeps a group, which pays for it.";
            return Err(Refusal::invalid("group_id", text));
        }
        Ok(fields)
    }
}

async fn update(call: Call<IdPath, Nothing, Body<EditKey>>) -> Result<Item<Key>, Refusal> {
    let (shared, id, Body(edit)) = (&call.shared, call.path.id.0, call.body);
    let db = shared.access.db();
    let mut tries = stored::TRIES;
    loop {
        let before = db.key(id).await?;
        let (role, group) = (before.fields.role.clone(), before.fields.group_id);
        // Without a condition of the caller's, what others change meanwhile is kept: it is read again.
        let version = call.if_match.unwrap_or(before.version);
        let fields = edit.clone().apply(before.fields)?;
        // Neither a role that is given, nor a token that is enabled or lives longer, may exceed who does it.
        may_give(shared, &call.who, &fields.role)?;
        if fields.role != role {
            may_give(shared, &call.who, &role)?;
        }
        match db.update_key(id, &fields, Some(version)).await {
            Err(StoreError::Changed { .. }) if call.if_match.is_none() && tries > 0 => tries -= 1,
            done => {
                let row = if fields.group_id == group { done? } else { done.map_err(no_group)? };
                return Ok(Item(Key::new(row, &shared.access.rotation())));
            }
        }
    }
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    call.shared.access.db().delete_key(call.path.id.0, call.if_match).await?;
    Ok(Done)
}

/// How to rotate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How long the old key works yet; as `rotation.overlap` of the settings says, 7 days.
    overlap: Option<Duration>,
}

async fn rotate(call: Call<IdPath, Nothing, Maybe<Rotation>>) -> Result<Item<ShownKey>, Refusal> {
    let (db, id, Maybe(Rotation { overlap })) = (call.shared.access.db(), call.path.id.0, call.body);
    let before = db.key(id).await?;
    let rotation = call.shared.access.rotation();
    // Who rotates has the new key in hand.
    may_give(&call.shared, &call.who, &before.fields.role)?;
    let overlap = millis(overlap.unwrap_or(rotation.overlap), "overlap")?;
    let (key, kept) = fresh(&call.who)?;
    let row = db.rotate_key(id, &kept, now_ms().saturating_add(overlap), call.if_match).await?;
    Ok(Item(ShownKey { row: Key::new(row, &rotation), key: Some(key) }))
}
