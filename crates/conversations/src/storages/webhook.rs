//! `storage.webhook`: posts each vCon to addresses.
//!
//! An answer that is no success is a failure, tried again and then dead-lettered; the Conserver ignored it. All
//! addresses are asked before a failure is told, so one that fails holds up no other; on the next attempt all are
//! asked again, with the same `idempotency-key` while the vCon is the same.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base::Secret;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ring::{digest, hmac};
use serde::Deserialize;
use serde_json::Value;

use super::http::{self, Http};
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "storage.webhook";
pub(super) const OPTIONS: &[&str] = &["webhook-urls", "headers", "timeout", "secret"];

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    #[serde(rename = "webhook-urls")]
    urls: Vec<String>,
    headers: Option<BTreeMap<String, Value>>,
    timeout: f64,
    secret: Option<Secret>,
}

impl Default for Options {
    fn default() -> Self {
        Options { urls: Vec::new(), headers: None, timeout: 30.0, secret: None }
    }
}

struct Webhook {
    http: Http,
    /// Each address, and how it is told of: without what may be secret in it.
    urls: Vec<(String, String)>,
    headers: HeaderMap,
    key: Option<hmac::Key>,
    meters: crate::meters::Meters,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = http::seconds("timeout", options.timeout)?;
    if options.urls.is_empty() {
        tracing::warn!(module = MODULE, "`webhook-urls` is empty: nothing is posted");
    }
    let mut urls = Vec::new();
    for url in &options.urls {
        http::base_url("webhook-urls", url)?;
        let shown = reqwest::Url::parse(url.trim()).ok().and_then(|url| url.host_str().map(str::to_owned));
        urls.push((url.trim().to_owned(), shown.unwrap_or_default()));
    }
    let (headers, mut secrets) = headers(options.headers.unwrap_or_default())?;
    secrets.extend(options.secret.clone());
    let key = options.secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()));
    let http = Http::new(&environment.http, timeout, secrets);
    Ok(Box::new(Webhook { http, urls, headers, key, meters: environment.meters.clone() }))
}

/// The headers, and their values as what must not be shown.
fn headers(given: BTreeMap<String, Value>) -> Result<(HeaderMap, Vec<Secret>), OptionsError> {
    let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
    for (name, value) in given {
        let wrong =
            || OptionsError::new(format!("`headers`: `{name}` is no header, or its value cannot be sent"));
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return Err(wrong()),
        };
        let header: HeaderName = name.parse().map_err(|_| wrong())?;
        let mut sent: HeaderValue = value.parse().map_err(|_| wrong())?;
        sent.set_sensitive(true);
        headers.insert(header, sent);
        secrets.push(Secret::from(value));
    }
    Ok((headers, secrets))
}

impl Webhook {
    async fn post(
        &self,
        url: &str,
        shown: &str,
        body: &Bytes,
        key: &str,
        context: &StorageContext,
    ) -> Result<(), StorageError> {
        let mut request = self
            .http
            .client()
            .post(url)
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .headers(self.headers.clone())
            .body(body.clone());
        if let Some(secret) = &self.key {
            let at = jiff::Timestamp::now().as_second().to_string();
            let mut signing = hmac::Context::with_key(secret);
            signing.update(at.as_bytes());
            signing.update(b".");
            signing.update(body);
            let signature = format!("t={at},v1={}", hex::encode(signing.sign()));
            request = request.header("x-trunkline-signature", signature);
        }
        let began = std::time::Instant::now();
        let answer = self.http.send(request, Some(context)).await;
        self.meters.observe("webhook.duration", &context.name, began.elapsed().as_secs_f64());
        match answer {
            Ok(answer) if answer.is_success() => Ok(()),
            Ok(answer) => Err(self.http.refused(shown, &answer, &[])),
            Err(StorageError::Temporary(reason)) => {
                Err(StorageError::Temporary(format!("{shown}: {reason}")))
            }
            Err(StorageError::Permanent(reason)) => {
                Err(StorageError::Permanent(format!("{shown}: {reason}")))
            }
        }
    }
}

#[async_trait]
impl Storage for Webhook {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, context: &StorageContext) -> Result<(), StorageError> {
        let body = match vcon.text("vcon").as_deref() {
            // Receivers of the Conserver know no older syntax than this.
            None | Some("0.0.1") => {
                let mut newer = vcon.clone();
                newer.set("vcon", "0.3.0");
                newer.to_bytes()
            }
            Some(_) => vcon.to_bytes(),
        };
        let key = hex::encode(&digest::digest(&digest::SHA256, &body).as_ref()[..16]);
        let posts = self.urls.iter().map(|(url, shown)| self.post(url, shown, &body, &key, context));
        let mut failed = Vec::new();
        for post in futures_util::future::join_all(posts).await {
            failed.extend(post.err());
        }
        let temporary = failed.iter().any(StorageError::is_temporary);
        let reasons: Vec<String> = failed.iter().map(ToString::to_string).collect();
        match (failed.is_empty(), temporary) {
            (true, _) => Ok(()),
            (false, true) => Err(StorageError::Temporary(reasons.join("; "))),
            (false, false) => Err(StorageError::Permanent(reasons.join("; "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::{Reply, Web};

    use super::*;
    use crate::storages::conformance::{Refusing, SECRET, Silent};
    use crate::testing;

    async fn save(options: Value, vcon: &Vcon) -> Result<(), StorageError> {
        make(options, &testing::environment()).unwrap().save(vcon, &testing::storage_context()).await
    }

    #[tokio::test]
    async fn posts_to_every_address() {
        let web = Web::start(|_| Reply::whole(202, "text/plain", ""));
        let urls = [format!("{}/a?x=y", web.url()), format!("{}/b", web.url())];
        let vcon = testing::vcon();
        let options =
            json!({"webhook-urls": urls, "headers": {"X-Key": "k", "x-number": 1}, "secret": SECRET});
        save(options.clone(), &vcon).await.unwrap();
        save(options, &vcon).await.unwrap();
        let asked = web.requests();
        let mut paths: Vec<&str> = asked.iter().map(|request| request.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/a?x=y", "/a?x=y", "/b", "/b"]);
        for request in &asked {
            assert_eq!((request.method.as_str(), &request.body[..]), ("POST", &vcon.to_bytes()[..]));
            assert_eq!((request.header("x-key"), request.header("x-number")), (Some("k"), Some("1")));
            assert_eq!(request.header("idempotency-key"), asked[0].header("idempotency-key"));
            assert!(request.header("traceparent").unwrap().starts_with("00-"));
            let (at, signature) = request
                .header("x-trunkline-signature")
                .unwrap()
                .strip_prefix("t=")
                .unwrap()
                .split_once(",v1=")
                .unwrap();
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
            let signed = [at.as_bytes(), b".", &request.body].concat();
            hmac::verify(&key, &signed, &hex::decode(signature).unwrap()).unwrap();
        }
    }

    #[tokio::test]
    async fn an_old_syntax_is_made_newer() {
        let web = Web::start(|_| Reply::whole(200, "text/plain", ""));
        let options = json!({"webhook-urls": [web.url()]});
        for (written, sent) in [(Some("0.0.1"), "0.3.0"), (None, "0.3.0"), (Some("0.4.0"), "0.4.0")] {
            let mut vcon = testing::vcon();
            match written {
                Some(written) => vcon.set("vcon", written),
                None => assert!(vcon.remove("vcon")),
            }
            save(options.clone(), &vcon).await.unwrap();
            assert_eq!(web.take()[0].json()["vcon"], sent);
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_told_and_holds_up_no_other_address() {
        for (status, temporary) in
            [(500, true), (503, true), (429, true), (401, true), (302, true), (422, false)]
        {
            let wrong = Web::start(move |_| Reply::whole(status, "text/plain", SECRET));
            let right = Web::start(|_| Reply::whole(200, "text/plain", ""));
            let token = format!("{}/?token={SECRET}", wrong.url());
            let error =
                save(json!({"webhook-urls": [token, right.url()]}), &testing::vcon()).await.unwrap_err();
            let text = error.to_string();
            assert_eq!(error.is_temporary(), temporary, "{text}");
            assert!(text.contains(&status.to_string()) && !text.contains(SECRET), "{text}");
            assert_eq!(right.requests().len(), 1);
        }
    }

    #[tokio::test]
    async fn fails_for_now() {
        let (refusing, silent) = (Refusing::new(), Silent::new());
        for port in [refusing.port(), silent.port()] {
            let url = format!("http://127.0.0.1:{port}/?token={SECRET}");
            let error =
                save(json!({"webhook-urls": [url], "timeout": 0.2}), &testing::vcon()).await.unwrap_err();
            assert!(error.is_temporary() && !error.to_string().contains(SECRET), "{error}");
        }
        save(Value::Null, &testing::vcon()).await.unwrap();
    }

    #[test]
    fn options_that_cannot_work_are_told_without_their_values() {
        let told = |options: Value| make(options, &testing::environment()).err().unwrap().to_string();
        assert!(told(json!({"webhook-urls": ["ftp://x"]})).contains("webhook-urls"));
        let text = told(json!({"headers": {"x": format!("a\n{SECRET}")}}));
        assert!(text.contains("`x`") && !text.contains(SECRET), "{text}");
    }
}
