//! HashiCorp Vault (and OpenBao): key/value secrets of both versions, over its HTTP API.
//!
//! The variables are Vault's own: `VAULT_ADDR`, `VAULT_NAMESPACE`, `VAULT_CACERT`, and one way to log in:
//! `VAULT_TOKEN`; `VAULT_ROLE_ID` and `VAULT_SECRET_ID` (AppRole); or `VAULT_ROLE` (Kubernetes, with the pod's
//! service account).

use access::identity::http::{Answer, Call, Http};
use base::Secret;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::super::vars::Env;
use super::{Document, Failure, Fetched, client, send, var};

/// Where Kubernetes puts a pod's service account token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Logged in.
pub(super) struct Session {
    http: Http,
    address: Url,
    what: String,
    namespace: Option<String>,
    token: Secret,
}

/// Reads one secret, logging in first when nobody has.
pub(super) async fn fetch(session: &mut Option<Session>, env: &Env, path: &str) -> Fetched {
    let session = match session {
        Some(session) => session,
        none => none.insert(Session::open(env).await?),
    };
    session.read(path).await
}

impl Session {
    async fn open(env: &Env) -> Result<Session, Failure> {
        let down = |message: &str| Failure::Down(format!("Vault: {message}"));
        let address =
            env.plain("VAULT_ADDR").ok_or_else(|| down("set VAULT_ADDR, as `https://vault:8200`"))?;
        let address = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let address = address.ok_or_else(|| down("VAULT_ADDR is not a URL as `https://vault:8200`"))?;
        let what = format!("Vault at {}", address.origin().ascii_serialization());
        let namespace = env.plain("VAULT_NAMESPACE").map(str::to_owned);
        let http = client(env, "VAULT_CACERT")?;
        let token = Secret::from(String::new());
        let mut session = Session { http, address, what, namespace, token };
        session.token = session.log_in(env).await?;
        Ok(session)
    }

    async fn log_in(&self, env: &Env) -> Result<Secret, Failure> {
        if let Some(token) = var(env, "VAULT_TOKEN")? {
            return Ok(Secret::from(token));
        }
        let mount = |default| env.plain("VAULT_AUTH_MOUNT").unwrap_or(default);
        if let Some(role) = var(env, "VAULT_ROLE_ID")? {
            let secret = var(env, "VAULT_SECRET_ID")?;
            let mut body = json!({ "role_id": role });
            if let (Some(secret), Some(body)) = (secret, body.as_object_mut()) {
                body.insert("secret_id".into(), secret.into());
            }
            return self.exchange(mount("approle"), "VAULT_ROLE_ID and VAULT_SECRET_ID", &body).await;
        }
        if let Some(role) = env.plain("VAULT_ROLE") {
            let jwt = match var(env, "VAULT_JWT")? {
                Some(jwt) => jwt,
                None => super::read_file(SERVICE_ACCOUNT).map_err(|error| {
                    let why = error.into_message();
                    Failure::Down(format!(
                        "Vault: VAULT_ROLE logs in with the pod's service account, but {why}"
                    ))
                })?,
            };
            let body = json!({ "role": role, "jwt": jwt });
            return self.exchange(mount("kubernetes"), "VAULT_ROLE", &body).await;
        }
        Err(Failure::Down(
            "Vault: set VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID, or in Kubernetes VAULT_ROLE"
                .into(),
        ))
    }

    /// Changes a credential for a token.
    async fn exchange(&self, mount: &str, with: &str, body: &Value) -> Result<Secret, Failure> {
        let path: Vec<&str> = ["auth"].into_iter().chain(mount.split('/')).chain(["login"]).collect();
        let answer = self.ask("POST", &path, Some(body.to_string().as_bytes())).await?;
        let token =
            json_of(&answer).and_then(|body| Some(body.pointer("/auth/client_token")?.as_str()?.to_owned()));
        match (answer.status, token) {
            (200, Some(token)) => Ok(Secret::from(token)),
            (status, _) => {
                let what = &self.what;
                Err(Failure::Down(format!(
                    "{what} refuses the login with {with} at `auth/{mount}`: status {status}"
                )))
            }
        }
    }

    async fn read(&self, path: &str) -> Fetched {
        let parts: Vec<&str> = path.split('/').collect();
        let first = self.ask("GET", &parts, None).await?;
        if first.status == 200 {
            return self.fields(path, &first);
        }
        // `vault kv get` writes paths without the `data` that version 2 has in its API; so may people here.
        let mut status = first.status;
        if let (400..=405, [mount, rest @ ..]) = (first.status, parts.as_slice())
            && rest.first().is_some_and(|part| *part != "data")
        {
            let longer: Vec<&str> = [*mount, "data"].into_iter().chain(rest.iter().copied()).collect();
            let answer = self.ask("GET", &longer, None).await?;
            if answer.status == 200 {
                return self.fields(path, &answer);
            }
            // Version 2 refuses paths without `data` whatever there is: what it says of the other counts.
            status = answer.status;
        }
        let what = &self.what;
        Err(match status {
            404 => Failure::Missing(format!("{what} has no secret `{path}`")),
            401 | 403 => Failure::Wrong(format!(
                "{what} refuses `{path}` (status {status}): the token must be valid, and a policy of it allow `read` there"
            )),
            503 => Failure::Down(format!("{what} is sealed or starting (status 503): unseal it")),
            _ => Failure::Wrong(format!("{what} answers `{path}` with status {status}")),
        })
    }

    /// The fields of either version: the second has them one level deeper, beside their metadata.
    fn fields(&self, path: &str, answer: &Answer) -> Fetched {
        let wrong =
            || Failure::Wrong(format!("{} answers `{path}` with something that is no secret", self.what));
        let body = json_of(answer).ok_or_else(wrong)?;
        let data = body.get("data").and_then(Value::as_object).ok_or_else(wrong)?;
        let inner = match (data.get("data"), data.get("metadata")) {
            (Some(Value::Object(inner)), Some(Value::Object(_))) => inner,
            _ => data,
        };
        Ok(Document { text: None, fields: Some(Map::clone(inner)) })
    }

    async fn ask(&self, method: &str, path: &[&str], body: Option<&[u8]>) -> Result<Answer, Failure> {
        let mut url = self.address.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().push("v1").extend(path),
            Err(()) => return Err(Failure::Down("Vault: VAULT_ADDR is not a URL with a host".into())),
        };
        let mut headers = vec![("x-vault-request", "true")];
        if !self.token.expose().is_empty() {
            headers.push(("x-vault-token", self.token.expose()));
        }
        if let Some(namespace) = &self.namespace {
            headers.push(("x-vault-namespace", namespace));
        }
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        send(&self.http, Call { what: &self.what, method, url: &url, headers: &headers, body }).await
    }
}

fn json_of(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}
