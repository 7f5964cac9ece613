//! `storage.milvus`: the text of each vCon and its embedding, for search by meaning.
//!
//! Over Milvus' REST API, version 2 (<https://milvus.io/api-reference/restful/v2.4.x/About.md>), on the port of its
//! gRPC API. The whole vCon is not kept there, so nothing is read back. The embedding comes from the house's own
//! models, unless the options name an account at OpenAI, Azure or LiteLLM.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::http::{self, Http};
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

mod embedding;
mod text;

use embedding::Embedding;

pub(super) const MODULE: &str = "storage.milvus";
pub(super) const OPTIONS: &[&str] = &[
    "host",
    "port",
    "secure",
    "token",
    "user",
    "password",
    "db_name",
    "collection_name",
    "embedding_model",
    "embedding_dim",
    "api_key",
    "openai_api_key",
    "organization",
    "base_url",
    "LITELLM_PROXY_URL",
    "LITELLM_MASTER_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_API_VERSION",
    "create_collection_if_missing",
    "skip_if_exists",
    "index_type",
    "metric_type",
    "nlist",
    "m",
    "ef_construction",
    "pq_m",
    "pq_nbits",
    "n_trees",
    "timeout",
];

/// Where it says what was wrong.
const WORDS: &[&str] = &["/message"];

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    host: String,
    port: Value,
    secure: bool,
    token: Option<Secret>,
    user: Option<String>,
    password: Option<Secret>,
    db_name: Option<String>,
    collection_name: String,
    embedding_dim: usize,
    create_collection_if_missing: bool,
    skip_if_exists: bool,
    index_type: String,
    metric_type: String,
    nlist: u32,
    m: u32,
    ef_construction: u32,
    pq_m: u32,
    pq_nbits: u32,
    n_trees: u32,
    timeout: f64,
    #[serde(flatten)]
    embedding: embedding::Options,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            host: "localhost".into(),
            port: 19530.into(),
            secure: false,
            token: None,
            user: None,
            password: None,
            db_name: None,
            collection_name: "vcons".into(),
            embedding_dim: 1536,
            create_collection_if_missing: false,
            skip_if_exists: true,
            index_type: "IVF_FLAT".into(),
            metric_type: "L2".into(),
            nlist: 128,
            m: 16,
            ef_construction: 200,
            pq_m: 8,
            pq_nbits: 8,
            n_trees: 50,
            timeout: 60.0,
            embedding: embedding::Options::default(),
        }
    }
}

struct Milvus {
    http: Http,
    url: String,
    token: Option<Secret>,
    options: Options,
    embedding: Embedding,
    /// Whether the collection is known to be there, and loaded.
    ready: OnceCell<()>,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = http::seconds("timeout", options.timeout)?;
    let port = match &options.port {
        Value::Number(port) => port.to_string(),
        Value::String(port) => port.clone(),
        _ => String::new(),
    };
    let port: u16 = port.parse().map_err(|_| OptionsError::new("`port` must be a port, as 19530"))?;
    let scheme = if options.secure { "https" } else { "http" };
    let url = http::base_url("host", &format!("{scheme}://{}:{port}", options.host))?;
    let name = &options.collection_name;
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > 255 || !name.chars().all(fine) {
        return Err(OptionsError::new("`collection_name` must be letters, digits and _"));
    }
    if !(1..=32_768).contains(&options.embedding_dim) {
        return Err(OptionsError::new("`embedding_dim` must be 1 to 32768"));
    }
    let token = match (&options.token, &options.user, &options.password) {
        (Some(token), ..) => Some(token.clone()),
        (None, Some(user), Some(password)) => Some(Secret::from(format!("{user}:{}", password.expose()))),
        _ => None,
    };
    let embedding = Embedding::new(&options.embedding, environment, timeout)?;
    let secrets = token.iter().chain(&options.password).cloned().collect();
    let http = Http::new(&environment.http, timeout, secrets);
    Ok(Box::new(Milvus { http, url, token, options, embedding, ready: OnceCell::new() }))
}

impl Milvus {
    /// Calls an operation on the collection; its `data`.
    async fn call(
        &self,
        operation: &str,
        mut body: Value,
        context: Option<&StorageContext>,
    ) -> Result<Value, StorageError> {
        body["collectionName"] = json!(self.options.collection_name);
        if let Some(database) = &self.options.db_name {
            body["dbName"] = json!(database);
        }
        let mut request = self
            .http
            .client()
            .post(format!("{}/v2/vectordb/{operation}", self.url))
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let answer = self.http.send(request, context).await?;
        let what = format!("Milvus, {operation}");
        let mut json = answer.json().unwrap_or_default();
        // Failures, too, are answered with 200; older versions say 200 in `code` when all is well.
        match json["code"].as_i64() {
            Some(0 | 200) if answer.is_success() => Ok(json["data"].take()),
            Some(code) if answer.is_success() => {
                let told = json["message"].as_str().unwrap_or_default();
                let reason = format!("{what}: {} ({code})", self.http.cleaned(told));
                // A field that is too long or missing: it is about the vCon. 1100 is "invalid parameter".
                match code {
                    1100 | 1802..=1804 => Err(StorageError::permanent(reason)),
                    _ => Err(StorageError::temporary(reason)),
                }
            }
            _ => Err(self.http.refused(&what, &answer, WORDS)),
        }
    }

    async fn ensure_collection(&self) -> Result<(), StorageError> {
        let ensure = || async {
            let there = self.call("collections/has", json!({}), None).await?;
            if there["has"] != true {
                if !self.options.create_collection_if_missing {
                    let name = &self.options.collection_name;
                    return Err(StorageError::temporary(format!(
                        "Milvus has no collection {name}: make it, or set `create_collection_if_missing: true`"
                    )));
                }
                self.call("collections/create", self.schema(), None).await?;
            }
            self.call("collections/load", json!({}), None).await.map(drop)
        };
        self.ready.get_or_try_init(ensure).await.map(drop)
    }

    /// What makes the collection that the Conserver makes.
    fn schema(&self) -> Value {
        let text = |name: &str, length: usize| json!({"fieldName": name, "dataType": "VarChar", "elementTypeParams": {"max_length": length.to_string()}});
        let plain = |name: &str, kind: &str| json!({"fieldName": name, "dataType": kind});
        let dim = json!({"dim": self.options.embedding_dim.to_string()});
        let fields = json!([
            {"fieldName": "id", "dataType": "Int64", "isPrimary": true},
            text("vcon_uuid", text::SHORT),
            text("party_id", text::SHORT),
            text("text", text::LONG),
            {"fieldName": "embedding", "dataType": "FloatVector", "elementTypeParams": dim},
            text("created_at", text::TIME),
            text("updated_at", text::TIME),
            text("subject", text::LINE),
            text("metadata_title", text::LINE),
            plain("has_transcript", "Bool"),
            plain("has_summary", "Bool"),
            plain("party_count", "Int16"),
            text("embedding_model", 50),
            text("embedding_version", 20),
        ]);
        let (index, params) = self.index();
        json!({
            "schema": {"autoId": true, "enableDynamicField": false, "fields": fields},
            "indexParams": [{"fieldName": "embedding", "indexName": "embedding", "metricType": self.options.metric_type,
                "indexType": index, "params": params}],
        })
    }

    fn index(&self) -> (&str, Value) {
        let options = &self.options;
        match options.index_type.as_str() {
            "IVF_PQ" => {
                ("IVF_PQ", json!({"nlist": options.nlist, "m": options.pq_m, "nbits": options.pq_nbits}))
            }
            index if index.starts_with("IVF") => (index, json!({"nlist": options.nlist})),
            "HNSW" => ("HNSW", json!({"M": options.m, "efConstruction": options.ef_construction})),
            "ANNOY" => ("ANNOY", json!({"n_trees": options.n_trees})),
            "FLAT" => ("FLAT", json!({})),
            other => {
                tracing::warn!(index_type = other, "this index is not known; IVF_FLAT is made");
                ("IVF_FLAT", json!({"nlist": options.nlist}))
            }
        }
    }

    /// Whether a vCon is there.
    async fn has(&self, uuid: &str) -> Result<bool, StorageError> {
        let query = json!({"filter": filter(uuid), "outputFields": ["vcon_uuid"], "limit": 1,
            "consistencyLevel": "Strong"});
        let found = self.call("entities/query", query, None).await?;
        Ok(found.as_array().is_some_and(|rows| !rows.is_empty()))
    }
}

/// The uuid is one: it needs no quoting.
fn filter(uuid: &str) -> String {
    format!("vcon_uuid == '{uuid}'")
}

#[async_trait]
impl Storage for Milvus {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, context: &StorageContext) -> Result<(), StorageError> {
        let row = text::Row::of(vcon);
        if row.text.is_empty() {
            return Ok(());
        }
        self.ensure_collection().await?;
        let there = self.has(vcon.uuid()).await?;
        if there && self.options.skip_if_exists {
            return Ok(());
        }
        let vector = self.embedding.of(&row.text, context).await?;
        if vector.len() != self.options.embedding_dim {
            return Err(StorageError::permanent(format!(
                "the embedding has {} numbers, and `embedding_dim` is {}",
                vector.len(),
                self.options.embedding_dim
            )));
        }
        let mut row = row.into_json(vcon.uuid());
        row["embedding"] = json!(vector);
        row["embedding_model"] = json!(text::cut(self.embedding.model(), 50));
        row["embedding_version"] = json!("1.0");
        if there {
            // Ids are Milvus' own, so a second row would not replace the first.
            self.call("entities/delete", json!({"filter": filter(vcon.uuid())}), Some(context)).await?;
        }
        let inserted = self.call("entities/insert", json!({"data": [row]}), Some(context)).await?;
        match inserted["insertCount"].as_u64() {
            Some(1) => Ok(()),
            _ => Err(StorageError::temporary("Milvus did not take the row")),
        }
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(false);
        }
        self.ensure_collection().await?;
        if !self.has(&uuid).await? {
            return Ok(false);
        }
        self.call("entities/delete", json!({"filter": filter(&uuid)}), None).await.map(|_| true)
    }
}

/// How long an embedding may take.
const EMBEDDING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
