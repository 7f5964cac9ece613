//! Entries of the settings' sections that the API can make: providers, models, prices and roles are all listed,
//! shown, made, changed and removed in the same way. Those of the settings file are shown with them and are
//! changed in the file.

use std::borrow::Cow;

use access::identity::Roles;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use store::{ResourceDraft, StoreError};

use crate::admin::{
    Body, Call, Created, Done, Item, Limit, Line, NamePath, Named, Nothing, Page, Patch, Refusal, Resource,
    Route, Time, Who, sentence,
};
use crate::configuration::{DocumentError, Section, Wrong};
use crate::state::Shared;

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Origin {
    /// The settings file.
    File,
    /// Made by this API.
    Api,
    /// In every Trunkline.
    BuiltIn,
}

/// An entry with its name, where it comes from, and its version if it is a document.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) name: String,
    pub(super) origin: Origin,
    /// Of the document: id, version, and when it was made and changed.
    pub(super) document: Option<Document>,
    pub(super) value: T,
}

/// What the Store says of a document beside its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

impl From<&store::Resource> for Document {
    fn from(row: &store::Resource) -> Self {
        Document { id: row.id, version: row.version, created_at: row.created_at, updated_at: row.updated_at }
    }
}

impl<T: Section> Serialize for Entry<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut value = serde_json::to_value(&self.value).map_err(serde::ser::Error::custom)?;
        if let Some(map) = value.as_object_mut() {
            map.insert(T::NAME_FIELD.into(), json!(self.name));
            map.insert(T::ORIGIN.into(), json!(self.origin));
            let document = self.document;
            map.insert("version".into(), json!(document.map(|document| document.version)));
            map.insert("created_at".into(), json!(document.map(|document| Time(document.created_at))));
            map.insert("updated_at".into(), json!(document.map(|document| Time(document.updated_at))));
        }
        value.serialize(serializer)
    }
}

impl<T: Section> JsonSchema for Entry<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Entry", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        let origin = generator.subschema_for::<Origin>().to_value();
        let object = schema.ensure_object();
        let own = [
            (T::NAME_FIELD, json!({"type": "string"})),
            (T::ORIGIN, origin),
            ("version", json!({"type": ["integer", "null"]})),
            ("created_at", json!({"type": ["string", "null"], "format": "date-time"})),
            ("updated_at", json!({"type": ["string", "null"], "format": "date-time"})),
        ];
        for (name, of) in own {
            if let Some(properties) = object.entry("properties").or_insert_with(|| json!({})).as_object_mut()
            {
                properties.insert(name.into(), of);
            }
            if let Some(required) = object.entry("required").or_insert_with(|| json!([])).as_array_mut() {
                required.push(name.into());
            }
        }
        schema
    }
}

impl<T: Section> Resource for Entry<T> {
    fn path(&self) -> String {
        format!("{}/{}", T::SECTION, in_path(&self.name))
    }

    fn version(&self) -> Option<i64> {
        self.document.map(|document| document.version)
    }
}

/// A name as it stands in a path.
fn in_path(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'*' => {
                path.push(char::from(byte));
            }
            _ => path += &format!("%{byte:02X}"),
        }
    }
    path
}

/// The paths, names and summaries of a section's operations.
pub(super) struct Words {
    pub(super) all: &'static str,
    pub(super) one: &'static str,
    /// Each an id and a summary.
    pub(super) list: (&'static str, &'static str),
    pub(super) create: (&'static str, &'static str),
    pub(super) show: (&'static str, &'static str),
    pub(super) update: (&'static str, &'static str),
    pub(super) replace: (&'static str, &'static str),
    pub(super) delete: (&'static str, &'static str),
}

/// What may be done with the entries of a section.
pub(super) fn routes<T: Section>(words: &Words) -> Vec<Route> {
    vec![
        Route::new(Method::GET, words.all, words.list.0, words.list.1, list::<T>),
        Route::new(Method::POST, words.all, words.create.0, words.create.1, create::<T>).idempotent(),
        Route::new(Method::GET, words.one, words.show.0, words.show.1, show::<T>),
        Route::new(Method::PATCH, words.one, words.update.0, words.update.1, update::<T>).conditional(),
        Route::new(Method::PUT, words.one, words.replace.0, words.replace.1, replace::<T>).conditional(),
        Route::new(Method::DELETE, words.one, words.delete.0, words.delete.1, delete::<T>).conditional(),
    ]
}

/// Which entries.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct EntryQuery {
    /// Only those from there.
    source: Option<Origin>,
    /// Only those whose name contains this.
    q: Option<Line<1, 300>>,
    /// How many at once.
    #[serde(default)]
    limit: Limit,
    /// The `next` of the page before.
    after: Option<crate::admin::Id>,
}

async fn list<T: Section>(call: Call<Nothing, EntryQuery>) -> Result<Page<Entry<T>>, Refusal> {
    let EntryQuery { source, q, limit, after } = call.query;
    let mut all = entries::<T>(&call.shared).await?;
    all.retain(|entry| {
        source.is_none_or(|origin| entry.origin == origin)
            && q.as_deref().is_none_or(|part| entry.name.contains(part))
    });
    let after = after.map_or(0, |id| usize::try_from(id.0).unwrap_or(usize::MAX));
    let rows: Vec<(i64, Entry<T>)> = (1..).zip(all).skip(after).take(limit.get() + 1).collect();
    Ok(Page::cut(rows, limit, |(at, _)| *at).map(|(_, entry)| entry))
}

/// Every entry of a section, by name.
pub(super) async fn entries<T: Section>(shared: &Shared) -> Result<Vec<Entry<T>>, Refusal> {
    let built_in = T::built_in();
    let file = T::in_file(&shared.configuration.file());
    let plain = |origin| move |(name, value)| Entry { name, origin, document: None, value };
    let mut all: Vec<Entry<T>> = built_in.into_iter().map(plain(Origin::BuiltIn)).collect();
    all.extend(file.into_iter().map(plain(Origin::File)));
    let sealer = shared.access.sealer();
    for row in shared.access.db().all_resources(T::KIND).await? {
        // One that cannot be read is in the log and in `/api/health`, and must not hide the others.
        if let Ok(value) = T::read(&row.name, &row.body, sealer.as_deref()) {
            let document = Some(Document::from(&row));
            all.push(Entry { name: row.name, origin: Origin::Api, document, value });
        }
    }
    // Of one name the strongest: the file, then the API, then what is built in.
    let weight = |origin: Origin| match origin {
        Origin::File => 0,
        Origin::Api => 1,
        Origin::BuiltIn => 2,
    };
    all.sort_by(|a, b| a.name.cmp(&b.name).then(weight(a.origin).cmp(&weight(b.origin))));
    if !T::LISTS_HIDDEN {
        all.dedup_by(|later, first| later.name == first.name);
    }
    Ok(all)
}

async fn create<T: Section>(call: Call<Nothing, Nothing, Named<T>>) -> Result<Created<Entry<T>>, Refusal> {
    let Named { name, value } = call.body;
    make(&call.shared, &call.who, &name, value).await.map(Created)
}

/// Makes an entry, and puts it in force.
pub(super) async fn make<T: Section>(
    shared: &Shared,
    who: &Who,
    name: &str,
    value: T,
) -> Result<Entry<T>, Refusal> {
    let _one = shared.configuration.changing().await;
    changeable::<T>(shared, name)?;
    let draft = draft(shared, who, name, &value)?;
    let row = shared.access.db().create_resource(&draft, None).await?;
    shared.configuration.refresh().await;
    Ok(Entry { name: name.to_owned(), origin: Origin::Api, document: Some((&row).into()), value })
}

async fn show<T: Section>(call: Call<NamePath>) -> Result<Item<Entry<T>>, Refusal> {
    find(&call.shared, &call.path.name).await.map(Item)
}

/// An entry by its name.
pub(super) async fn find<T: Section>(shared: &Shared, name: &str) -> Result<Entry<T>, Refusal> {
    if let Some(value) = T::in_file(&shared.configuration.file()).remove(name) {
        return Ok(Entry { name: name.to_owned(), origin: Origin::File, document: None, value });
    }
    match stored(shared, name).await {
        Err(refusal) if refusal.code() == "not_found" => match T::built_in_named(name) {
            Some(value) => {
                Ok(Entry { name: name.to_owned(), origin: Origin::BuiltIn, document: None, value })
            }
            None => Err(refusal),
        },
        found => found,
    }
}

/// A document by its name.
async fn stored<T: Section>(shared: &Shared, name: &str) -> Result<Entry<T>, Refusal> {
    let row = shared.access.db().resource(T::KIND, name).await?;
    let value = T::read(name, &row.body, shared.access.sealer().as_deref())?;
    Ok(Entry { name: name.to_owned(), origin: Origin::Api, document: Some((&row).into()), value })
}

async fn update<T: Section>(call: Call<NamePath, Nothing, Patch<T>>) -> Result<Item<Entry<T>>, Refusal> {
    let (shared, name) = (&call.shared, &*call.path.name);
    let _one = shared.configuration.changing().await;
    changeable::<T>(shared, name)?;
    let before = stored::<T>(shared, name).await?;
    let value = call.body.apply(before.value.plain()?)?;
    // What another replica has changed meanwhile is not overwritten.
    let version = call.if_match.or(before.version());
    save(shared, &call.who, name, value, version).await.map(Item)
}

async fn replace<T: Section>(call: Call<NamePath, Nothing, Body<T>>) -> Result<Item<Entry<T>>, Refusal> {
    let (shared, name, Body(value)) = (&call.shared, &*call.path.name, call.body);
    put(shared, &call.who, name, value, call.if_match).await.map(Item)
}

/// Makes an entry say this, whether it was there or not.
pub(super) async fn put<T: Section>(
    shared: &Shared,
    who: &Who,
    name: &str,
    value: T,
    version: Option<i64>,
) -> Result<Entry<T>, Refusal> {
    let one = shared.configuration.changing().await;
    changeable::<T>(shared, name)?;
    match save(shared, who, name, value.clone(), version).await {
        Err(refusal) if refusal.code() == "not_found" && version.is_none() => {
            drop(one);
            make(shared, who, name, value).await
        }
        saved => saved,
    }
}

/// Keeps what an entry says now, and puts it in force.
async fn save<T: Section>(
    shared: &Shared,
    who: &Who,
    name: &str,
    value: T,
    version: Option<i64>,
) -> Result<Entry<T>, Refusal> {
    let draft = draft(shared, who, name, &value)?;
    let row = shared.access.db().update_resource(&draft, version, None).await?;
    shared.configuration.refresh().await;
    Ok(Entry { name: name.to_owned(), origin: Origin::Api, document: Some((&row).into()), value })
}

async fn delete<T: Section>(call: Call<NamePath>) -> Result<Done, Refusal> {
    remove::<T>(&call.shared, &call.path.name, call.if_match).await.map(|()| Done)
}

/// Removes an entry.
pub(super) async fn remove<T: Section>(
    shared: &Shared,
    name: &str,
    version: Option<i64>,
) -> Result<(), Refusal> {
    let _one = shared.configuration.changing().await;
    changeable::<T>(shared, name)?;
    if let Some(text) = T::needed_by(name, &shared.configuration.in_force()) {
        return Err(Refusal::conflict("in_use", text));
    }
    shared.access.db().delete_resource(T::KIND, name, version, None).await?;
    shared.configuration.refresh().await;
    Ok(())
}

/// What is in the settings file is changed there.
fn changeable<T: Section>(shared: &Shared, name: &str) -> Result<(), Refusal> {
    if !T::in_file(&shared.configuration.file()).contains_key(name) {
        return Ok(());
    }
    let text = format!("`{}.{name}` is set in the settings file: change it there.", T::SECTION);
    Err(Refusal::conflict("set_in_file", text).at(T::NAME_FIELD))
}

/// What is to be kept of an entry, checked against everything else that is in force.
fn draft<T: Section>(shared: &Shared, who: &Who, name: &str, value: &T) -> Result<ResourceDraft, Refusal> {
    shared.configuration.check(name, value).map_err(wrong)?;
    if let Some(permissions) = value.gives() {
        may_give(shared, who, name, &permissions)?;
    }
    let body = value.write(name, shared.access.sealer().as_deref())?;
    Ok(ResourceDraft { kind: T::KIND.into(), name: name.to_owned(), body: body.to_string() })
}

/// Nobody makes a role that may do more than they may, nor makes one less than it was.
fn may_give(
    shared: &Shared,
    who: &Who,
    name: &str,
    permissions: &access::identity::Permissions,
) -> Result<(), Refusal> {
    let own = who.caller.as_ref().map(|caller| &caller.permissions);
    let roles: Roles = shared.access.roles();
    let covers = |wanted| own.is_some_and(|own| own.covers(wanted));
    if covers(permissions) && roles.get(name).is_none_or(covers) {
        return Ok(());
    }
    let text = "This role may do more than you may: only who has its permissions makes or changes it.";
    Err(Refusal::new(base::Kind::Forbidden, "role_exceeds_yours", text).at("permissions"))
}

/// A field that is wrong.
pub(super) fn wrong((field, text): Wrong) -> Refusal {
    if field.is_empty() {
        return Refusal::new(base::Kind::Invalid, "invalid_value", sentence(&text));
    }
    Refusal::invalid(field.clone(), format!("`{field}`: {}", sentence(&text)))
}

impl From<DocumentError> for Refusal {
    fn from(error: DocumentError) -> Self {
        let code = match &error {
            DocumentError::NoSealer => "no_master_key",
            _ => {
                tracing::error!(%error, "a document cannot be kept or read");
                "document_damaged"
            }
        };
        Refusal::new(base::Kind::Unavailable, code, sentence(&error.to_string()))
    }
}

/// For routes that name a document by its id, as Conduit's do.
pub(super) async fn named_by_id<T: Section>(shared: &Shared, id: i64) -> Result<Entry<T>, Refusal> {
    let row = shared.access.db().resource_by_id(T::KIND, id).await.map_err(|error| match error {
        StoreError::NotFound { .. } => Refusal::not_found("There is nothing of that id."),
        other => other.into(),
    })?;
    let value = T::read(&row.name, &row.body, shared.access.sealer().as_deref())?;
    Ok(Entry { document: Some((&row).into()), name: row.name, origin: Origin::Api, value })
}
