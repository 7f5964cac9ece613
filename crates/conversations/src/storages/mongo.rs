//! `storage.mongo`: a document for each vCon, its `_id` the uuid, `created_at` and each dialog's `start` dates.
//!
//! The client is MongoDB's own: what it does beyond the bytes on the wire (finding the primary of a replica set, `SRV`
//! addresses, SCRAM, retries of writes) is what a customer's cluster needs, and costs half a minute of building.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{ClientOptions, ConnectionString};
use mongodb::{Client, Collection};
use serde::Deserialize;
use serde_json::{Map, Number, Value};
use tokio::sync::OnceCell;

use super::http::cleaned;
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid, parse_time};

pub(super) const MODULE: &str = "storage.mongo";
pub(super) const OPTIONS: &[&str] = &["url", "database", "collection", "timeout"];

/// The most connections, unless the address says `maxPoolSize`.
const CONNECTIONS: u32 = 8;
/// The largest document that MongoDB keeps, in bytes.
const MAX_DOCUMENT: usize = 16 << 20;
/// Members of a vCon that one of before may have had and this one has not.
const MEMBERS: &[&str] = &[
    "subject",
    "updated_at",
    "redacted",
    "amended",
    "appended",
    "group",
    "critical",
    "must_support",
    "extensions",
    "parties",
    "dialog",
    "analysis",
    "attachments",
    "meta",
];

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    url: Secret,
    database: String,
    collection: String,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            url: Secret::from("mongodb://localhost:27017/".to_owned()),
            database: "conserver".into(),
            collection: "vcons".into(),
            timeout: 30.0,
        }
    }
}

struct Mongo {
    options: Options,
    timeout: Duration,
    secrets: Vec<Secret>,
    /// Made when it is first needed: an address may have to be looked up.
    collection: OnceCell<Collection<Document>>,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = super::http::seconds("timeout", options.timeout)?;
    // The words of the library repeat parts of the address.
    let wrong = || OptionsError::new("`url` must be an address as mongodb://user:password@host:27017/");
    ConnectionString::parse(options.url.expose()).map_err(|_| wrong())?;
    let bad = |name: &str| name.is_empty() || name.len() > 120 || name.contains(['\0', '$', '/', ' ', '"']);
    if bad(&options.database) || options.database.contains('.') || bad(&options.collection) {
        return Err(OptionsError::new("`database` or `collection` is no name that MongoDB takes"));
    }
    let credentials = options.url.expose().split("://").nth(1).and_then(|rest| rest.rsplit_once('@'));
    let password = credentials.and_then(|(credentials, _)| credentials.split_once(':'));
    let mut secrets = vec![options.url.clone()];
    secrets.extend(password.map(|(_, password)| Secret::from(password.to_owned())));
    Ok(Box::new(Mongo { options, timeout, secrets, collection: OnceCell::new() }))
}

impl Mongo {
    async fn open(&self) -> Result<&Collection<Document>, Error> {
        let open = || async {
            // A second call changes nothing.
            drop(rustls::crypto::ring::default_provider().install_default());
            let mut options = ClientOptions::parse(self.options.url.expose()).await?;
            options.app_name.get_or_insert_with(|| "trunkline".into());
            options.max_pool_size.get_or_insert(CONNECTIONS);
            options.connect_timeout.get_or_insert(self.timeout);
            options.server_selection_timeout.get_or_insert(self.timeout);
            let client = Client::with_options(options)?;
            Ok(client.database(&self.options.database).collection(&self.options.collection))
        };
        self.collection.get_or_try_init(open).await
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, StorageError> {
        // Beyond the library's own limits, whose errors say more.
        let limit = self.timeout + Duration::from_secs(1);
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(|error| self.error(&error)),
            Err(_) => Err(StorageError::temporary(format!("MongoDB did not answer within {limit:?}"))),
        }
    }

    fn error(&self, error: &Error) -> StorageError {
        // The server's words repeat what was in a document; its codes do not.
        let (code, told) = match &*error.kind {
            ErrorKind::Write(WriteFailure::WriteError(error)) => (
                error.code,
                format!("{} ({})", error.code_name.as_deref().unwrap_or("WriteError"), error.code),
            ),
            ErrorKind::Command(error) => (error.code, format!("{} ({})", error.code_name, error.code)),
            ErrorKind::Bson(_) | ErrorKind::BsonSerialization(_) => {
                return StorageError::permanent("MongoDB cannot hold this vCon");
            }
            other => (0, cleaned(&other.to_string(), &self.secrets)),
        };
        let reason = format!("MongoDB: {told}");
        match code {
            // BadValue, FailedToParse, DollarPrefixedFieldName, DocumentValidationFailure, an object too large or
            // too deep: it is about the document.
            2 | 9 | 15 | 52 | 57 | 121 | 10_334 | 17_419 | 17_280 => StorageError::permanent(reason),
            _ => StorageError::temporary(reason),
        }
    }
}

/// A JSON value as MongoDB has it.
fn to_bson(value: Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(flag) => Bson::Boolean(flag),
        Value::String(text) => Bson::String(text),
        Value::Number(number) => {
            match (number.as_i64(), i32::try_from(number.as_i64().unwrap_or(i64::MAX))) {
                (Some(_), Ok(small)) => Bson::Int32(small),
                (Some(large), _) => Bson::Int64(large),
                // Beyond 63 bits MongoDB has nothing exact.
                (None, _) => Bson::Double(number.as_f64().unwrap_or_default()),
            }
        }
        Value::Array(values) => Bson::Array(values.into_iter().map(to_bson).collect()),
        Value::Object(map) => Bson::Document(to_document(map)),
    }
}

fn to_document(map: Map<String, Value>) -> Document {
    map.into_iter().map(|(key, value)| (key, to_bson(value))).collect()
}

/// A value of MongoDB as JSON.
fn to_json(value: Bson) -> Value {
    match value {
        Bson::Null | Bson::Undefined => Value::Null,
        Bson::Boolean(flag) => flag.into(),
        Bson::String(text) => text.into(),
        Bson::Int32(number) => number.into(),
        Bson::Int64(number) => number.into(),
        Bson::Double(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Bson::DateTime(time) => to_time(time).map_or(Value::Null, Value::String),
        Bson::Array(values) => values.into_iter().map(to_json).collect(),
        Bson::Document(document) => {
            document.into_iter().map(|(key, value)| (key, to_json(value))).collect::<Map<_, _>>().into()
        }
        // Of foreign types, which no vCon has.
        other => other.to_string().into(),
    }
}

/// `2026-11-20T10:00:00+00:00`, with its milliseconds when there are some.
fn to_time(time: DateTime) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(time.timestamp_millis()).ok()?;
    let text = at.to_string();
    Some(format!("{}+00:00", text.strip_suffix('Z').unwrap_or(&text)))
}

/// A time as a date; what is none stays as it is.
fn make_date(document: &mut Document, key: &str) {
    if let Ok(text) = document.get_str(key)
        && let Some(at) = parse_time(text)
    {
        document.insert(key, DateTime::from_millis(at));
    }
}

/// The document of a vCon, without its `_id`.
fn document(vcon: &Vcon) -> Result<Document, StorageError> {
    let Value::Object(map) = vcon.to_value() else {
        return Err(StorageError::permanent("the vCon cannot be read"));
    };
    let mut document = to_document(map);
    make_date(&mut document, "created_at");
    if let Ok(dialogs) = document.get_array_mut("dialog") {
        for dialog in dialogs.iter_mut().filter_map(Bson::as_document_mut) {
            make_date(dialog, "start");
        }
    }
    Ok(document)
}

#[async_trait]
impl Storage for Mongo {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, _: &StorageContext) -> Result<(), StorageError> {
        let size = vcon.to_bytes().len();
        if size > MAX_DOCUMENT {
            let reason =
                format!("the vCon has {size} bytes, and a document of MongoDB at most {MAX_DOCUMENT}");
            return Err(StorageError::permanent(reason));
        }
        let document = document(vcon)?;
        let id = doc! {"_id": vcon.uuid()};
        // Names that an update would take for paths and operators.
        let odd = document.keys().any(|key| key.is_empty() || key.starts_with('$') || key.contains('.'));
        self.within(async {
            let collection = self.open().await?;
            if odd {
                // Its first name must be no operator.
                let mut whole = id.clone();
                whole.extend(document);
                collection.replace_one(id, whole).upsert(true).await.map(drop)
            } else {
                // Members that others added to the document stay.
                let gone: Document = MEMBERS
                    .iter()
                    .filter(|member| !document.contains_key(member))
                    .map(|member| ((*member).to_owned(), Bson::from("")))
                    .collect();
                let change = doc! {"$set": document, "$unset": gone};
                collection.update_one(id, change).upsert(true).await.map(drop)
            }
        })
        .await
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        let uuid: Cow<'_, str> = uuid.to_ascii_lowercase().into();
        if !is_uuid(&uuid) {
            return Ok(None);
        }
        let found = self.within(async { self.open().await?.find_one(doc! {"_id": &*uuid}).await }).await?;
        let Some(mut document) = found else { return Ok(None) };
        document.remove("_id");
        let text = to_json(Bson::Document(document)).to_string();
        Vcon::parse(text).map(Some).map_err(|error| StorageError::permanent(error.to_string()))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(false);
        }
        let done = self.within(async { self.open().await?.delete_one(doc! {"_id": &uuid}).await }).await?;
        Ok(done.deleted_count > 0)
    }
}

#[cfg(test)]
mod tests;
