//! `storage.dataverse`: a row of a table of Microsoft Dataverse, the vCon's JSON in one column.
//!
//! Over its Web API (<https://learn.microsoft.com/power-apps/developer/data-platform/webapi/overview>), with a token of
//! Entra ID for the application, kept until shortly before its end.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::Secret;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::http::{self, Answer, Http};
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.dataverse";
pub(super) const OPTIONS: &[&str] = &[
    "url",
    "api_version",
    "tenant_id",
    "client_id",
    "client_secret",
    "authority",
    "entity_name",
    "id_field",
    "uuid_field",
    "data_field",
    "subject_field",
    "created_at_field",
    "timeout",
];

/// Where it says what was wrong, without repeating what was sent.
const WORDS: &[&str] = &["/error/code", "/error"];
/// A token is renewed so long before its end.
const EARLY: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    url: String,
    api_version: Value,
    tenant_id: String,
    client_id: String,
    client_secret: Secret,
    authority: String,
    entity_name: String,
    id_field: Option<String>,
    uuid_field: String,
    data_field: String,
    subject_field: String,
    created_at_field: String,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            url: "https://org.crm.dynamics.com".into(),
            api_version: "9.2".into(),
            tenant_id: String::new(),
            client_id: String::new(),
            client_secret: Secret::from(String::new()),
            authority: "https://login.microsoftonline.com".into(),
            entity_name: "vcon_storage".into(),
            id_field: None,
            uuid_field: "vcon_uuid".into(),
            data_field: "vcon_data".into(),
            subject_field: "vcon_subject".into(),
            created_at_field: "vcon_created_at".into(),
            timeout: 30.0,
        }
    }
}

struct Dataverse {
    http: Http,
    resource: String,
    table: String,
    token_url: String,
    options: Options,
    token: Mutex<Option<(Secret, Instant)>>,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = http::seconds("timeout", options.timeout)?;
    let resource = http::base_url("url", &options.url)?;
    let authority = http::base_url("authority", &options.authority)?;
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (option, text) in [
        ("entity_name", &options.entity_name),
        ("uuid_field", &options.uuid_field),
        ("data_field", &options.data_field),
        ("subject_field", &options.subject_field),
        ("created_at_field", &options.created_at_field),
    ] {
        if text.is_empty() || !text.chars().all(name) {
            return Err(OptionsError::new(format!("`{option}` must be letters, digits and _")));
        }
    }
    let version = options.api_version.to_string();
    let version = version.trim_matches('"');
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if version.is_empty() || options.tenant_id.is_empty() || !options.tenant_id.chars().all(fine) {
        return Err(OptionsError::new("set `tenant_id`, `client_id` and `client_secret`"));
    }
    let table = format!("{resource}/api/data/v{version}/{}", options.entity_name);
    let token_url = format!("{authority}/{}/oauth2/v2.0/token", options.tenant_id);
    let http = Http::new(&environment.http, timeout, vec![options.client_secret.clone()]);
    Ok(Box::new(Dataverse { http, resource, table, token_url, options, token: Mutex::default() }))
}

impl Dataverse {
    async fn token(&self) -> Result<Secret, StorageError> {
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = &*kept
            && *until > Instant::now()
        {
            return Ok(token.clone());
        }
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.options.client_id)
            .append_pair("client_secret", self.options.client_secret.expose())
            .append_pair("scope", &format!("{}/.default", self.resource))
            .finish();
        let request = self
            .http
            .client()
            .post(&self.token_url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let answer = self.http.send(request, None).await?;
        let json = answer.json().unwrap_or_default();
        let Some(token) = json["access_token"].as_str().filter(|_| answer.is_success()) else {
            // Whatever its status: it is about the credentials, not about a vCon.
            let reason = self.http.refused("no token", &answer, WORDS).to_string();
            return Err(StorageError::Temporary(format!("Dataverse: {reason}")));
        };
        let token = Secret::from(token.to_owned());
        let life = Duration::from_secs(json["expires_in"].as_u64().unwrap_or(300)).saturating_sub(EARLY);
        *kept = Some((token.clone(), Instant::now() + life));
        Ok(token)
    }

    async fn ask(
        &self,
        method: Method,
        url: String,
        body: Option<String>,
        context: Option<&StorageContext>,
    ) -> Result<Answer, StorageError> {
        let mut request = self
            .http
            .client()
            .request(method, url)
            .bearer_auth(self.token().await?.expose())
            .header("odata-maxversion", "4.0")
            .header("odata-version", "4.0")
            .header("accept", "application/json");
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = self.http.send(request, context).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        if answer.status == 401 {
            // Revoked before its time.
            *self.token.lock().await = None;
        }
        Err(self.http.refused("Dataverse", &answer, WORDS))
    }

    /// The row of a vCon.
    async fn row(&self, uuid: &str) -> Result<Option<Map<String, Value>>, StorageError> {
        // The uuid is one: it needs no quoting.
        let filter = format!("{} eq '{uuid}'", self.options.uuid_field);
        let query: String =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("$filter", &filter).finish();
        let answer = self.ask(Method::GET, format!("{}?{query}", self.table), None, None).await?;
        let mut json = answer.json().unwrap_or_default();
        match json["value"].as_array_mut() {
            Some(rows) => Ok(rows.drain(..).next().and_then(|row| row.as_object().cloned())),
            None => Err(StorageError::temporary("Dataverse: the answer holds no rows")),
        }
    }

    /// The key of a row: the column named after the table, whose set of rows has its plural for a name.
    fn key(&self, row: &Map<String, Value>) -> Result<String, StorageError> {
        let set = self.options.entity_name.as_str();
        let names = [set.strip_suffix("es"), set.strip_suffix('s'), Some(set)].into_iter().flatten();
        let names = names.map(|name| format!("{name}id")).chain(["id".to_owned()]);
        let given = self.options.id_field.clone();
        let key = given.into_iter().chain(names).find_map(|name| row.get(&name)?.as_str().map(str::to_owned));
        match key.filter(|key| key.chars().all(|c| c.is_ascii_hexdigit() || c == '-')) {
            Some(key) => Ok(key),
            None => Err(StorageError::temporary(
                "Dataverse: a row shows no key: set `id_field` to the column that has it",
            )),
        }
    }
}

#[async_trait]
impl Storage for Dataverse {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, context: &StorageContext) -> Result<(), StorageError> {
        let options = &self.options;
        let text = String::from_utf8_lossy(&vcon.to_bytes()).into_owned();
        let created_at = vcon
            .created_at()
            .map_or_else(|| jiff::Timestamp::now().to_string(), std::borrow::Cow::into_owned);
        let subject = vcon.text("subject").map_or(Value::Null, |subject| subject.into_owned().into());
        let row: Map<String, Value> = [
            (options.uuid_field.clone(), vcon.uuid().into()),
            (options.data_field.clone(), text.into()),
            (options.subject_field.clone(), subject),
            (options.created_at_field.clone(), created_at.into()),
        ]
        .into_iter()
        .collect();
        let body = Some(Value::from(row).to_string());
        let (method, url) = match self.row(vcon.uuid()).await? {
            Some(old) => (Method::PATCH, format!("{}({})", self.table, self.key(&old)?)),
            None => (Method::POST, self.table.clone()),
        };
        self.ask(method, url, body, Some(context)).await.map(drop)
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(None);
        }
        let Some(row) = self.row(&uuid).await? else { return Ok(None) };
        let Some(text) = row.get(&self.options.data_field).and_then(Value::as_str) else { return Ok(None) };
        Vcon::parse(text.to_owned()).map(Some).map_err(|error| StorageError::permanent(error.to_string()))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(false);
        }
        let Some(row) = self.row(&uuid).await? else { return Ok(false) };
        let url = format!("{}({})", self.table, self.key(&row)?);
        self.ask(Method::DELETE, url, None, None).await.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use testkit::{Received, Reply, Web};

    use super::*;
    use crate::storages::conformance::{self, Refusing, SECRET, Silent};
    use crate::testing;

    /// Entra ID and Dataverse, as far as they are asked here; how many tokens were given.
    fn service() -> (Web, Arc<Mutex<usize>>) {
        let tokens = Arc::new(Mutex::new(0));
        let given = Arc::clone(&tokens);
        let rows: Mutex<Vec<Map<String, Value>>> = Mutex::default();
        let web = Web::start(move |request: &Received| {
            let answer = |status, body: &Value| Reply::whole(status, "application/json", body.to_string());
            if request.path == "/tenant-1/oauth2/v2.0/token" {
                let text = request.text();
                assert!(text.contains("grant_type=client_credentials") && text.contains(SECRET), "{text}");
                *given.lock().unwrap() += 1;
                return answer(200, &json!({"access_token": "tok", "expires_in": 3600}));
            }
            assert_eq!(request.header("authorization"), Some("Bearer tok"));
            let mut rows = rows.lock().unwrap();
            let rest = request.path.strip_prefix("/api/data/v9.2/cr_calls").unwrap();
            let at = |rows: &[Map<String, Value>]| {
                let key = rest.trim_matches(['(', ')']);
                rows.iter().position(|row| row["cr_callid"] == key).unwrap()
            };
            match request.method.as_str() {
                "GET" => {
                    let query = rest.strip_prefix("?%24filter=vcon_uuid+eq+%27").unwrap();
                    let uuid = query.strip_suffix("%27").unwrap();
                    let found: Vec<_> = rows.iter().filter(|row| row["vcon_uuid"] == uuid).cloned().collect();
                    answer(200, &json!({"value": found}))
                }
                "POST" => {
                    let Value::Object(mut row) = request.json() else { panic!("no row") };
                    row.insert("cr_callid".into(), conformance::uuid().into());
                    rows.push(row);
                    Reply::whole(204, "text/plain", "")
                }
                "PATCH" => {
                    let at = at(&rows);
                    rows[at].extend(request.json().as_object().unwrap().clone());
                    Reply::whole(204, "text/plain", "")
                }
                "DELETE" => {
                    let at = at(&rows);
                    rows.remove(at);
                    Reply::whole(204, "text/plain", "")
                }
                other => panic!("{other}"),
            }
        });
        (web, tokens)
    }

    fn options(url: &str) -> Value {
        json!({"url": url, "authority": url, "tenant_id": "tenant-1", "client_id": "c", "client_secret": SECRET,
            "entity_name": "cr_calls", "api_version": 9.2})
    }

    #[tokio::test]
    async fn keeps_and_asks_for_one_token() {
        let (web, tokens) = service();
        let storage = make(options(&web.url()), &testing::environment()).unwrap();
        let vcon = testing::vcon();
        let context = testing::storage_context();
        assert!(storage.get(vcon.uuid()).await.unwrap().is_none());
        storage.save(&vcon, &context).await.unwrap();
        let mut changed = vcon.clone();
        changed.set("subject", "changed");
        storage.save(&changed, &context).await.unwrap();
        assert_eq!(storage.get(vcon.uuid()).await.unwrap().unwrap().to_value(), changed.to_value());
        assert!(storage.delete(vcon.uuid()).await.unwrap());
        assert!(!storage.delete(vcon.uuid()).await.unwrap());
        assert_eq!(*tokens.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn fails_for_now() {
        let (refusing, silent) = (Refusing::new(), Silent::new());
        let wrong = Web::start(|_| {
            Reply::whole(
                401,
                "application/json",
                json!({"error": format!("invalid_client {SECRET}")}).to_string(),
            )
        });
        for port in [refusing.port(), silent.port(), wrong.port()] {
            let mut options = options(&format!("http://127.0.0.1:{port}"));
            options["timeout"] = json!(0.2);
            conformance::fails_for_now(&*make(options, &testing::environment()).unwrap()).await;
        }
        assert!(make(Value::Null, &testing::environment()).is_err());
    }
}
