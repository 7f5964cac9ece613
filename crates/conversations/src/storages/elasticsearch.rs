//! `storage.elasticsearch`: a document for each party, attachment, analysis and dialog, each kind in an index of its
//! own.
//!
//! All documents of a vCon go in one request of the bulk API. Where a vCon was there before, the documents that it no
//! longer has are removed. A vCon without dialog is skipped, as the Conserver does: its documents bear the time that
//! the first dialog began.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http::{self, Http};
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{List, Object, Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.elasticsearch";
pub(super) const OPTIONS: &[&str] = &[
    "cloud_id",
    "api_key",
    "url",
    "username",
    "password",
    "ca_certs",
    "verify_certs",
    "index_prefix",
    "timeout",
];

/// The size of one request that is not gone beyond, unless one document is larger.
const BULK: usize = 8 << 20;
/// Where it says what was wrong.
const WORDS: &[&str] = &["/error/type", "/error"];

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    cloud_id: Option<String>,
    api_key: Option<Secret>,
    url: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    ca_certs: Option<String>,
    verify_certs: bool,
    index_prefix: Option<String>,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cloud_id: None,
            api_key: None,
            url: None,
            username: None,
            password: None,
            ca_certs: None,
            verify_certs: true,
            index_prefix: None,
            timeout: 30.0,
        }
    }
}

enum Login {
    None,
    ApiKey(Secret),
    Basic(String, Secret),
}

struct Elasticsearch {
    http: Http,
    url: String,
    login: Login,
    prefix: String,
    legacy: bool,
}

/// A document: its index, its id, itself.
type Document = (String, String, Value);

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = http::seconds("timeout", options.timeout)?;
    let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let api_key = options.api_key.filter(|key| !key.expose().is_empty());
    let url = match (filled(options.cloud_id), filled(options.url)) {
        (Some(cloud), _) => cloud_url(&cloud)?,
        (None, Some(url)) => http::base_url("url", &url)?,
        (None, None) => return Err(OptionsError::new("set `url`, as https://host:9200, or `cloud_id`")),
    };
    let password = options.password.unwrap_or_else(|| Secret::from(String::new()));
    let secrets = api_key.iter().chain([&password]).cloned().collect();
    let login = match (api_key, filled(options.username)) {
        (Some(key), _) => Login::ApiKey(key),
        (None, Some(user)) => Login::Basic(user, password),
        (None, None) => Login::None,
    };
    let client = client(environment, filled(options.ca_certs).as_deref(), options.verify_certs, timeout)?;
    let prefix = options.index_prefix.unwrap_or_default().trim().to_lowercase();
    if prefix.starts_with(['-', '_', '+', '.']) || prefix.len() > 100 || name(&prefix) != prefix {
        return Err(OptionsError::new("`index_prefix` cannot begin the name of an index"));
    }
    let http = Http::new(&client, timeout, secrets);
    Ok(Box::new(Elasticsearch { http, url, login, prefix, legacy: environment.legacy_format }))
}

/// The address in a cloud id: `name:base64(host[:port]$elasticsearch$kibana)`.
fn cloud_url(id: &str) -> Result<String, OptionsError> {
    let wrong = || OptionsError::new("`cloud_id` must be as Elastic Cloud shows it: name:letters");
    let (_, encoded) = id.trim().rsplit_once(':').ok_or_else(wrong)?;
    let decoded = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(wrong)?;
    let mut parts = decoded.split('$');
    let (Some(host), Some(node)) = (parts.next(), parts.next().filter(|node| !node.is_empty())) else {
        return Err(wrong());
    };
    let node = node.split(':').next().unwrap_or(node);
    let (host, port) = host.split_once(':').unwrap_or((host, "443"));
    http::base_url("cloud_id", &format!("https://{node}.{host}:{port}"))
}

/// The house's client, or one that trusts these certificates, or any.
fn client(
    environment: &Environment,
    ca_certs: Option<&str>,
    verify: bool,
    timeout: Duration,
) -> Result<reqwest::Client, OptionsError> {
    if verify && ca_certs.is_none() {
        return Ok(environment.http.clone());
    }
    let mut builder =
        reqwest::Client::builder().connect_timeout(timeout).redirect(reqwest::redirect::Policy::none());
    if !verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(file) = ca_certs {
        let wrong = |what: &str| OptionsError::new(format!("`ca_certs`: {file} {what}"));
        let pem = std::fs::read(file).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| wrong("holds no certificates"))?;
        builder = builder.tls_certs_merge(certificates);
    }
    // A second call changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    builder.build().map_err(|error| OptionsError::new(format!("the client of Elasticsearch: {error}")))
}

/// What may be in the name of an index: the rest becomes `_`. At most 200 bytes, so that a prefix has room.
fn name(text: &str) -> String {
    let fine = |c: char| if c.is_control() || " ,#\\/*?\"<>|:".contains(c) { '_' } else { c };
    let text: String = text.to_lowercase().chars().map(fine).collect();
    let mut end = text.len().min(200);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A part as a document: a body that is JSON in a string is opened.
fn document(part: &Object, common: &Map<String, Value>, open: bool) -> Value {
    let mut document = Map::new();
    for (key, value) in part.iter() {
        document.insert(key.to_owned(), serde_json::from_str(value.get()).unwrap_or_default());
    }
    if open
        && part.text("encoding").as_deref() == Some("json")
        && let Some(body) = part.text("body")
        && let Ok(opened) = serde_json::from_str(&body)
    {
        document.insert("body".into(), opened);
    }
    document.extend(common.clone());
    document.into()
}

impl Elasticsearch {
    /// The documents of a vCon; none when it has no dialog.
    fn documents(&self, vcon: &Vcon) -> Vec<Document> {
        let Some(first) = vcon.dialog().first() else { return Vec::new() };
        let mut common = Map::new();
        common.insert("vcon_id".into(), vcon.uuid().into());
        let started = first.value("start").or_else(|| vcon.value("created_at")).unwrap_or_default();
        common.insert("started_at".into(), started);
        if let Some(tenant) = tenant(vcon) {
            common.insert("tenant_id".into(), tenant);
        }
        let mut documents = Vec::new();
        for list in [List::Parties, List::Attachments, List::Analysis, List::Dialog] {
            for (index, part) in vcon.list(list).iter().enumerate() {
                let of = |key: &str| part.text(key).filter(|text| !text.is_empty());
                let (kind, open) = match list {
                    List::Parties => {
                        (of("role").map_or("parties".into(), |role| format!("parties_{role}")), false)
                    }
                    List::Attachments => {
                        let kind = of("type").or_else(|| of("purpose")).unwrap_or("unknown".into());
                        (format!("attachments_{kind}"), true)
                    }
                    List::Analysis => (format!("analysis_{}", of("type").unwrap_or("unknown".into())), true),
                    List::Dialog => ("dialog".into(), false),
                };
                let name = format!("{}vcon_{}", self.prefix, name(&kind));
                documents.push((name, format!("{}_{index}", vcon.uuid()), document(part, &common, open)));
            }
        }
        documents
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.client().post(format!("{}{path}", self.url));
        match &self.login {
            Login::None => request,
            Login::ApiKey(key) => request.header("authorization", format!("ApiKey {}", key.expose())),
            Login::Basic(user, password) => request.basic_auth(user, Some(password.expose())),
        }
    }

    /// Indexes documents; the ids that were there before or are now, by the index they are really in, and whether
    /// any was there before.
    async fn index(
        &self,
        documents: &[Document],
        context: &StorageContext,
    ) -> Result<(BTreeMap<String, Vec<String>>, bool), StorageError> {
        let (mut written, mut before) = (BTreeMap::<String, Vec<String>>::new(), false);
        let mut rest = documents;
        while !rest.is_empty() {
            let (mut body, mut count) = (Vec::new(), 0);
            for (index, id, document) in rest {
                let action = json!({"index": {"_index": index, "_id": id}}).to_string();
                let document = document.to_string();
                if count > 0 && body.len() + document.len() > BULK {
                    break;
                }
                for line in [action, document] {
                    body.extend_from_slice(line.as_bytes());
                    body.push(b'\n');
                }
                count += 1;
            }
            let request = self.request("/_bulk").header("content-type", "application/x-ndjson").body(body);
            let answer = self.http.send(request, Some(context)).await?;
            let items = answer.json().and_then(|json| json.get("items").cloned());
            let Some(Value::Array(items)) = items.filter(|_| answer.is_success()) else {
                return Err(self.http.refused("Elasticsearch", &answer, WORDS));
            };
            for item in &items {
                let item = &item["index"];
                self.check(item)?;
                before |= item["result"] == "updated";
                let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
                written.entry(text("_index")).or_default().push(text("_id"));
            }
            if items.len() != count {
                return Err(StorageError::temporary("Elasticsearch: the answer is not about all documents"));
            }
            rest = &rest[count..];
        }
        Ok((written, before))
    }

    /// Whether a document was taken. Its reason is not repeated: it shows what was in the document.
    fn check(&self, item: &Value) -> Result<(), StorageError> {
        let status = item["status"].as_u64().unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let kind = item.pointer("/error/type").and_then(Value::as_str).unwrap_or("unknown");
        let cause = item.pointer("/error/caused_by/type").and_then(Value::as_str);
        let kind = cause.map_or_else(|| kind.to_owned(), |cause| format!("{kind}, {cause}"));
        let index = item["_index"].as_str().unwrap_or_default();
        let reason = format!(
            "Elasticsearch did not take a document of index {}: {status} {}",
            self.http.cleaned(index),
            self.http.cleaned(&kind)
        );
        match status {
            400 | 413 => Err(StorageError::permanent(reason)),
            _ => Err(StorageError::temporary(reason)),
        }
    }

    /// Removes the documents of a vCon but these; how many it removed.
    async fn remove(&self, uuid: &str, but: &BTreeMap<String, Vec<String>>) -> Result<u64, StorageError> {
        let all = format!("/{}vcon*", self.prefix);
        if !but.is_empty() {
            // What was written a moment ago is not found before.
            let refresh =
                self.request(&format!("{all}/_refresh?ignore_unavailable=true&allow_no_indices=true"));
            let answer = self.http.send(refresh, None).await?;
            if !answer.is_success() {
                return Err(self.http.refused("Elasticsearch", &answer, WORDS));
            }
        }
        let kept: Vec<Value> = but
            .iter()
            .map(|(index, ids)| json!({"bool": {"filter": [{"term": {"_index": index}}, {"ids": {"values": ids}}]}}))
            .collect();
        // By the whole uuid, in either way it may be indexed: a `match` of its parts would find those of others.
        let of_it = json!([{"term": {"vcon_id.keyword": uuid}}, {"term": {"vcon_id": uuid}}]);
        let query =
            json!({"query": {"bool": {"should": of_it, "minimum_should_match": 1, "must_not": kept}}});
        let path = format!(
            "{all}/_delete_by_query?refresh=true&conflicts=proceed&ignore_unavailable=true&allow_no_indices=true"
        );
        let request = self.request(&path).header("content-type", "application/json").body(query.to_string());
        let answer = self.http.send(request, None).await?;
        let json = answer.json().unwrap_or_default();
        let failures = json["failures"].as_array().is_some_and(|failures| !failures.is_empty());
        match json["deleted"].as_u64() {
            Some(deleted) if answer.is_success() && !failures => Ok(deleted),
            _ if answer.status == 404 => Ok(0),
            _ => Err(self.http.refused("Elasticsearch", &answer, WORDS)),
        }
    }
}

/// The id of the tenant, from the attachment of that purpose.
fn tenant(vcon: &Vcon) -> Option<Value> {
    let is_tenant =
        |part: &&Object| ["purpose", "type"].iter().any(|key| part.text(key).as_deref() == Some("tenant"));
    let attachment = vcon.attachments().iter().find(is_tenant)?;
    let body = match attachment.value("body")? {
        Value::String(text) => serde_json::from_str(&text).ok()?,
        other => other,
    };
    body.get("id").cloned()
}

#[async_trait]
impl Storage for Elasticsearch {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, context: &StorageContext) -> Result<(), StorageError> {
        let documents = match self.legacy {
            true => self.documents(&vcon.to_legacy()),
            false => self.documents(vcon),
        };
        if documents.is_empty() {
            return Ok(());
        }
        let (written, before) = self.index(&documents, context).await?;
        if before {
            self.remove(vcon.uuid(), &written).await?;
        }
        Ok(())
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        if !is_uuid(uuid) {
            return Ok(false);
        }
        let removed = self.remove(&uuid.to_ascii_lowercase(), &BTreeMap::new()).await?;
        Ok(removed > 0)
    }
}

#[cfg(test)]
mod tests;
