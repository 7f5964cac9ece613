//! `storage.chatgpt_files`: each vCon as a file of OpenAI's, put into a vector store for its assistants.
//!
//! <https://platform.openai.com/docs/api-reference/files>, `…/vector-stores-files`. Saved again, it is a second file:
//! OpenAI has no name to find the first by.

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{self, Answer, Http};
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "storage.chatgpt_files";
pub(super) const OPTIONS: &[&str] =
    &["organization_key", "project_key", "api_key", "vector_store_id", "purpose", "base_url", "timeout"];

/// Where it says what was wrong, without repeating what was sent.
const WORDS: &[&str] = &["/error/code", "/error/type"];

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    organization_key: Option<String>,
    project_key: Option<String>,
    api_key: Option<Secret>,
    vector_store_id: String,
    purpose: String,
    base_url: String,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            organization_key: None,
            project_key: None,
            api_key: None,
            vector_store_id: String::new(),
            purpose: "assistants".into(),
            base_url: "https://api.openai.com/v1".into(),
            timeout: 120.0,
        }
    }
}

struct ChatgptFiles {
    http: Http,
    url: String,
    key: Secret,
    options: Options,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = http::seconds("timeout", options.timeout)?;
    let url = http::base_url("base_url", &options.base_url)?;
    let given = options.api_key.clone().filter(|key| !key.expose().is_empty());
    let key = given.or_else(|| environment.variables.get("OPENAI_API_KEY").map(Secret::from));
    let key = key.ok_or_else(|| OptionsError::new("set `api_key`, or OPENAI_API_KEY"))?;
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    for (option, text) in [("vector_store_id", &options.vector_store_id), ("purpose", &options.purpose)] {
        if text.is_empty() || !text.chars().all(name) {
            return Err(OptionsError::new(format!("`{option}` must be letters, digits, _ and -")));
        }
    }
    let http = Http::new(&environment.http, timeout, vec![key.clone()]);
    Ok(Box::new(ChatgptFiles { http, url, key, options }))
}

impl ChatgptFiles {
    async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
        context: &StorageContext,
    ) -> Result<Answer, StorageError> {
        let mut request = self
            .http
            .client()
            .post(format!("{}{path}", self.url))
            .bearer_auth(self.key.expose())
            .header("content-type", content_type)
            .header("openai-beta", "assistants=v2");
        for (header, value) in [
            ("openai-organization", &self.options.organization_key),
            ("openai-project", &self.options.project_key),
        ] {
            if let Some(value) = value {
                request = request.header(header, value);
            }
        }
        let answer = self.http.send(request.body(body), Some(context)).await?;
        match answer.is_success() {
            true => Ok(answer),
            false => Err(self.http.refused("OpenAI", &answer, WORDS)),
        }
    }
}

#[async_trait]
impl Storage for ChatgptFiles {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, context: &StorageContext) -> Result<(), StorageError> {
        // No vCon holds what nobody can guess.
        let boundary = format!("trunkline-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let mut body = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\n{}\r\n--{boundary}\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"{}.vcon.json\"\r\n\
             content-type: application/json\r\n\r\n",
            self.options.purpose,
            vcon.uuid()
        )
        .into_bytes();
        body.extend_from_slice(&vcon.to_bytes());
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={boundary}");
        let answer = self.post("/files", &kind, body, context).await?;
        let file = answer.json().and_then(|json| json["id"].as_str().map(str::to_owned));
        let file = file.ok_or_else(|| StorageError::temporary("OpenAI: the answer holds no id of a file"))?;
        let path = format!("/vector_stores/{}/files", self.options.vector_store_id);
        let body = json!({"file_id": file}).to_string().into_bytes();
        self.post(&path, "application/json", body, context).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use testkit::{Reply, Web};

    use super::*;
    use crate::storages::conformance::SECRET;
    use crate::testing;

    #[tokio::test]
    async fn the_file_is_the_vcon_and_goes_into_the_store() {
        let web = Web::start(|request| {
            let body = match request.path.as_str() {
                "/v1/files" => json!({"id": "file-1"}),
                "/v1/vector_stores/vs_1/files" => json!({"id": "file-1", "object": "vector_store.file"}),
                other => panic!("{other}"),
            };
            Reply::whole(200, "application/json", body.to_string())
        });
        let options = json!({"api_key": SECRET, "vector_store_id": "vs_1", "project_key": "proj_1",
            "base_url": format!("{}/v1", web.url())});
        let vcon = testing::vcon();
        let storage = make(options, &testing::environment()).unwrap();
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
        let asked = web.requests();
        let text = asked[0].text();
        let whole = String::from_utf8(vcon.to_bytes().to_vec()).unwrap();
        assert!(text.contains(&whole) && text.contains("\r\n\r\nassistants\r\n"), "{text}");
        assert!(text.contains(&format!("filename=\"{}.vcon.json\"", vcon.uuid())));
        assert_eq!(asked[1].json(), json!({"file_id": "file-1"}));
        for request in &asked {
            assert_eq!(request.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
            assert_eq!(request.header("openai-project"), Some("proj_1"));
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_told_without_the_key() {
        for (status, temporary) in [(401, true), (429, true), (500, true), (400, false), (413, false)] {
            let body = json!({"error": {"code": format!("wrong {SECRET}"), "message": "Ann"}});
            let web = Web::start(move |_| Reply::whole(status, "application/json", body.to_string()));
            let options = json!({"api_key": SECRET, "vector_store_id": "vs_1", "base_url": web.url()});
            let storage = make(options, &testing::environment()).unwrap();
            let error = storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err();
            assert_eq!(error.is_temporary(), temporary, "{error}");
            assert!(!error.to_string().contains(SECRET) && !error.to_string().contains("Ann"), "{error}");
        }
        assert!(make(Value::Null, &testing::environment()).is_err());
    }
}
