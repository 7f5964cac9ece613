//! `storage.vcon_mcp`: the REST API of vcon-mcp (<https://github.com/vcon-dev/vcon-mcp>), which keeps a vCon under its
//! uuid, over what it had.

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::http::{self, Http};
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.vcon_mcp";
pub(super) const OPTIONS: &[&str] = &["base_url", "api_key", "timeout"];

/// Where it says what was wrong.
const WORDS: &[&str] = &["/error/message", "/error", "/message"];

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    base_url: String,
    api_key: Option<Secret>,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { base_url: "http://127.0.0.1:3000/api/v1".into(), api_key: None, timeout: 30.0 }
    }
}

struct VconMcp {
    http: Http,
    vcons: String,
    api_key: Option<Secret>,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = http::seconds("timeout", options.timeout)?;
    let vcons = format!("{}/vcons", http::base_url("base_url", &options.base_url)?);
    let api_key = options.api_key.filter(|key| !key.expose().is_empty());
    let http = Http::new(&environment.http, timeout, api_key.iter().cloned().collect());
    Ok(Box::new(VconMcp { http, vcons, api_key }))
}

impl VconMcp {
    fn request(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        let request = self.http.client().request(method, url).header("accept", "application/json");
        match &self.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }
}

#[async_trait]
impl Storage for VconMcp {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, context: &StorageContext) -> Result<(), StorageError> {
        let request = self
            .request(reqwest::Method::POST, &self.vcons)
            .header("content-type", "application/json")
            .body(vcon.to_bytes());
        let answer = self.http.send(request, Some(context)).await?;
        match answer.is_success() {
            true => Ok(()),
            false => Err(self.http.refused("vcon-mcp", &answer, WORDS)),
        }
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        #[derive(Deserialize)]
        struct Found {
            vcon: Option<Box<RawValue>>,
        }
        if !is_uuid(uuid) {
            return Ok(None);
        }
        let request = self.request(reqwest::Method::GET, &format!("{}/{uuid}", self.vcons));
        let answer = self.http.send(request, None).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(self.http.refused("vcon-mcp", &answer, WORDS));
        }
        let other = || StorageError::temporary("vcon-mcp: the answer holds no vCon");
        let found: Found = serde_json::from_slice(&answer.body).map_err(|_| other())?;
        let Some(text) = found.vcon else { return Ok(None) };
        let vcon = Vcon::parse(text.get().to_owned()).map_err(|_| other())?;
        Ok(Some(vcon))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        if !is_uuid(uuid) {
            return Ok(false);
        }
        let request = self.request(reqwest::Method::DELETE, &format!("{}/{uuid}", self.vcons));
        let answer = self.http.send(request, None).await?;
        match answer.status {
            404 => Ok(false),
            _ if answer.is_success() => Ok(true),
            _ => Err(self.http.refused("vcon-mcp", &answer, WORDS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use serde_json::json;
    use testkit::{Received, Reply, Web};

    use super::*;
    use crate::storages::conformance::{self, Refusing, SECRET, Silent};
    use crate::testing;

    fn answer(status: u16, body: &Value) -> Reply {
        Reply::whole(status, "application/json", body.to_string())
    }

    /// vcon-mcp's routes, as its documentation has them.
    fn service() -> Web {
        let kept: Mutex<HashMap<String, Value>> = Mutex::default();
        Web::start(move |request: &Received| {
            assert_eq!(request.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
            let mut kept = kept.lock().unwrap();
            let uuid = request.path.strip_prefix("/api/v1/vcons").expect("its path").trim_start_matches('/');
            match (request.method.as_str(), uuid) {
                ("POST", "") => {
                    assert_eq!(request.header("content-type"), Some("application/json"));
                    let vcon = request.json();
                    let uuid = vcon["uuid"].as_str().unwrap().to_owned();
                    kept.insert(uuid.clone(), vcon);
                    answer(201, &json!({"success": true, "uuid": uuid}))
                }
                ("GET", uuid) => match kept.get(uuid) {
                    Some(vcon) => answer(200, &json!({"success": true, "vcon": vcon})),
                    None => answer(404, &json!({"success": false, "error": "Not found"})),
                },
                ("DELETE", uuid) => match kept.remove(uuid) {
                    Some(_) => answer(200, &json!({"success": true})),
                    None => answer(404, &json!({"success": false})),
                },
                other => panic!("{other:?}"),
            }
        })
    }

    #[tokio::test]
    async fn conforms() {
        let web = service();
        let options = json!({"base_url": format!("{}/api/v1/", web.url()), "api_key": SECRET});
        conformance::keeps(&*make(options, &testing::environment()).unwrap()).await;
    }

    #[tokio::test]
    async fn fails_for_now() {
        let (refusing, silent) = (Refusing::new(), Silent::new());
        let failing =
            Web::start(|_| answer(503, &json!({"error": {"message": format!("key {SECRET} is late")}})));
        for port in [refusing.port(), silent.port(), failing.port()] {
            let base = format!("http://127.0.0.1:{port}");
            let options = json!({"base_url": base, "api_key": SECRET, "timeout": 0.2});
            conformance::fails_for_now(&*make(options, &testing::environment()).unwrap()).await;
        }
    }

    #[tokio::test]
    async fn a_vcon_that_it_does_not_take_is_refused_for_good() {
        let web = Web::start(|_| answer(400, &json!({"error": "invalid vCon"})));
        let storage = make(json!({"base_url": web.url()}), &testing::environment()).unwrap();
        let error = storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("invalid vCon"), "{error}");
    }
}
