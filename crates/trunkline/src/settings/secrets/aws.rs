//! AWS Secrets Manager: `GetSecretValue`, signed with Signature Version 4.
//!
//! The variables are AWS's own: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` (or
//! `AWS_DEFAULT_REGION`, or the region of an ARN), `AWS_CA_BUNDLE`, and `AWS_ENDPOINT_URL_SECRETS_MANAGER` or
//! `AWS_ENDPOINT_URL` for another endpoint.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use access::identity::http::{Call, Http};
use base::Secret;
use base::sigv4::{Credentials, Request, Scope, sign};
use reqwest::Url;
use serde_json::{Value, json};

use super::super::vars::Env;
use super::{Document, Failure, Fetched, client, send, var};

const SERVICE: &str = "secretsmanager";
const TARGET: &str = "secretsmanager.GetSecretValue";
const CONTENT: &str = "application/x-amz-json-1.1";

/// Everything for asking one region.
pub(super) struct Session {
    http: Http,
    endpoint: Url,
    what: String,
    region: String,
    credentials: Credentials,
}

/// Reads one secret. Each region has a session.
pub(super) async fn fetch(sessions: &mut HashMap<String, Session>, env: &Env, name: &str) -> Fetched {
    let region = region(env, name)?;
    let session = match sessions.entry(region) {
        std::collections::hash_map::Entry::Occupied(session) => session.into_mut(),
        std::collections::hash_map::Entry::Vacant(free) => {
            let session = Session::open(env, free.key())?;
            free.insert(session)
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    session.read(name, now).await
}

/// An ARN says its region, which is where it must be asked for.
fn region(env: &Env, name: &str) -> Result<String, Failure> {
    let of_arn =
        name.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2)).filter(|part| !part.is_empty());
    let region = of_arn.or_else(|| env.plain("AWS_REGION")).or_else(|| env.plain("AWS_DEFAULT_REGION"));
    let region = region
        .ok_or_else(|| Failure::Wrong("AWS Secrets Manager: set AWS_REGION, as `eu-central-1`".into()))?;
    // It becomes part of a host name.
    let plain = region.len() <= 32 && region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if !plain {
        return Err(Failure::Wrong("AWS Secrets Manager: the region is not one as `eu-central-1`".into()));
    }
    Ok(region.to_owned())
}

impl Session {
    fn open(env: &Env, region: &str) -> Result<Session, Failure> {
        let down = |message: &str| Failure::Down(format!("AWS Secrets Manager: {message}"));
        let (Some(access_key), Some(secret_key)) =
            (var(env, "AWS_ACCESS_KEY_ID")?, var(env, "AWS_SECRET_ACCESS_KEY")?)
        else {
            return Err(down("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
        };
        let session_token = var(env, "AWS_SESSION_TOKEN")?.map(Secret::from);
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint =
            match env.plain("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| env.plain("AWS_ENDPOINT_URL")) {
                Some(url) => url.to_owned(),
                None => format!("https://{SERVICE}.{region}.{suffix}/"),
            };
        let endpoint = Url::parse(&endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let endpoint =
            endpoint.ok_or_else(|| down("AWS_ENDPOINT_URL is not a URL as `http://127.0.0.1:4566`"))?;
        Ok(Session {
            http: client(env, "AWS_CA_BUNDLE")?,
            what: format!("AWS Secrets Manager at {}", endpoint.origin().ascii_serialization()),
            endpoint,
            region: region.to_owned(),
            credentials: Credentials { access_key, secret_key: Secret::from(secret_key), session_token },
        })
    }

    async fn read(&self, name: &str, now: u64) -> Fetched {
        let body = json!({ "SecretId": name }).to_string();
        let host = match (self.endpoint.host_str().unwrap_or_default(), self.endpoint.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let signed = [("content-type", CONTENT), ("x-amz-target", TARGET)];
        let request = Request {
            method: "POST",
            host: &host,
            path: self.endpoint.path(),
            query: &[],
            headers: &signed,
            body: body.as_bytes(),
        };
        let scope = Scope { region: &self.region, service: SERVICE, time: now };
        let added = sign(&self.credentials, &scope, &request);
        let headers: Vec<(&str, &str)> =
            signed.into_iter().chain(added.iter().map(|(name, value)| (*name, value.as_str()))).collect();
        let call = Call {
            what: &self.what,
            method: "POST",
            url: &self.endpoint,
            headers: &headers,
            body: Some(body.as_bytes()),
        };
        let answer = send(&self.http, call).await?;
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        if answer.status != 200 {
            return Err(self.refusal(name, answer.status, json.as_ref()));
        }
        let text = json.as_ref().and_then(|json| json.get("SecretString")).and_then(Value::as_str);
        let text = text.ok_or_else(|| {
            Failure::Wrong(format!("{}: the secret `{name}` is binary: store it as a text", self.what))
        })?;
        Ok(Document { text: Some(text.to_owned()), fields: serde_json::from_str(text).ok() })
    }

    /// The error's name is AWS's own; its text may quote what we sent and stays out.
    fn refusal(&self, name: &str, status: u16, json: Option<&Value>) -> Failure {
        let kind = json.and_then(|json| json.get("__type")).and_then(Value::as_str).unwrap_or_default();
        let kind: String = kind
            .rsplit('#')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(64)
            .collect();
        let what = &self.what;
        match kind.as_str() {
            "ResourceNotFoundException" => {
                Failure::Missing(format!("{what} has no secret `{name}` in {}", self.region))
            }
            "AccessDeniedException" => Failure::Wrong(format!(
                "{what} refuses `{name}`: allow `secretsmanager:GetSecretValue` (and `kms:Decrypt` for its key) to these credentials"
            )),
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException"
            | "InvalidClientTokenId" => Failure::Down(format!(
                "{what} does not take the credentials ({kind}): look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the clock"
            )),
            "" => Failure::Wrong(format!("{what} answers `{name}` with status {status}")),
            kind => Failure::Wrong(format!("{what} answers `{name}` with {kind} (status {status})")),
        }
    }
}
