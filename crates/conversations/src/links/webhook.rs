//! `links.webhook`: posts the vCon to addresses. An answer that is not 2xx is a failure, and is tried again when that
//! may help.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base::Secret;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use ring::digest;
use serde::Deserialize;
use serde_json::Value;

use super::shared::{http, signature};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.webhook";
pub(super) const OPTIONS: &[&str] = &["webhook-urls", "headers", "timeout", "secret"];

/// How long it is remembered which of several addresses have a vCon already, for the next attempt.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The addresses.
    #[serde(rename = "webhook-urls")]
    urls: Urls,
    /// Headers to send.
    headers: serde_json::Map<String, Value>,
    /// How long an answer may take.
    timeout: base::Duration,
    /// What requests are signed with, as Standard Webhooks has it.
    secret: Option<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Many(Vec<String>),
}

impl Default for Options {
    fn default() -> Self {
        Options {
            urls: Urls::Many(Vec::new()),
            headers: serde_json::Map::new(),
            timeout: base::Duration::from_secs(30),
            secret: None,
        }
    }
}

struct Webhook {
    urls: Vec<reqwest::Url>,
    headers: HeaderMap,
    timeout: Duration,
    secret: Option<Secret>,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let urls = match options.urls {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    };
    let urls = urls.iter().map(|url| http::url("webhook-urls", url)).collect::<Result<_, _>>()?;
    let headers = http::headers("headers", &options.headers)?;
    Ok(Box::new(Webhook { urls, headers, timeout: options.timeout.0, secret: options.secret }))
}

impl Webhook {
    async fn post(
        &self,
        url: &reqwest::Url,
        id: &str,
        body: &Bytes,
        context: &LinkContext,
    ) -> Result<(), LinkError> {
        let who = url.host_str().unwrap_or("the webhook");
        let mut request =
            context.environment.http.post(url.clone()).header("content-type", "application/json");
        request = request.header("traceparent", &context.trace.to_header()[..]).headers(self.headers.clone());
        if let Some(secret) = &self.secret {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            for (name, value) in signature::sign(secret, id, i64::try_from(seconds).unwrap_or(i64::MAX), body)
            {
                request = request.header(name, value);
            }
        }
        http::send(who, request.body(body.clone()), self.timeout, http::SMALL).await?.ok(who)?;
        Ok(())
    }
}

#[async_trait]
impl Link for Webhook {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let environment = &context.environment;
        if self.urls.is_empty() {
            environment.meters.count("link.webhook.no_urls_configured", &context.link, 1);
            context.skip();
            return Ok(Next::Continue);
        }
        let body = if environment.legacy_format { vcon.to_legacy().to_bytes() } else { vcon.to_bytes() };
        for url in &self.urls {
            // The same at each attempt, so that a receiver can tell a repetition.
            let id = delivery(&context.link, url.as_str(), &body);
            let key = format!("webhook:{id}");
            let several = self.urls.len() > 1;
            if several
                && context.attempt > 1
                && environment.cache.get(&key).await.is_ok_and(|found| found.is_some())
            {
                continue;
            }
            if let Err(error) = self.post(url, &id, &body, context).await {
                environment.meters.count("link.webhook.post_failures", &context.link, 1);
                return Err(error);
            }
            if several
                && let Err(error) =
                    environment.cache.set(&key, Bytes::from_static(b"1"), Some(REMEMBERED)).await
            {
                tracing::debug!(%error, "a delivery is not remembered and may be repeated");
            }
        }
        Ok(Next::Continue)
    }
}

/// Names a delivery by what is delivered where.
fn delivery(link: &str, url: &str, body: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [link.as_bytes(), url.as_bytes(), body] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finish();
    format!("msg_{}", hex::encode(hash.as_ref().get(..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::{Behaviour, Reply, Upstream};

    use super::*;
    use crate::testing;

    fn receiver(status: u16) -> (Upstream, String) {
        let upstream = Upstream::start();
        upstream.set_default(Behaviour::custom("answer", move |_| Reply::whole(status, "text/plain", "x")));
        let url = format!("http://127.0.0.1:{}/hook?x=1", upstream.port());
        (upstream, url)
    }

    #[tokio::test]
    async fn it_posts_the_very_bytes_with_headers_and_signature() {
        let (upstream, url) = receiver(204);
        let options = json!({"webhook-urls": [url], "headers": {"X-Token": "abc", "x-n": 1}, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
        let link = make(options, &testing::environment()).unwrap();
        let (mut vcon, context) = (testing::vcon(), testing::context());
        assert_eq!(link.run(&mut vcon, &context).await.unwrap(), Next::Continue);
        let requests = upstream.requests();
        let [request] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((&*request.method, &*request.path), ("POST", "/hook?x=1"));
        assert_eq!(request.body, vcon.to_bytes());
        let header = |name| request.header(name).unwrap().to_owned();
        assert_eq!(
            [header("content-type"), header("x-token"), header("x-n")],
            ["application/json", "abc", "1"]
        );
        assert_eq!(header("traceparent").as_bytes(), context.trace.to_header());
        let seconds: i64 = header("webhook-timestamp").parse().unwrap();
        let secret = Secret::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        for (name, value) in signature::sign(&secret, &header("webhook-id"), seconds, &request.body) {
            assert_eq!(header(name), value);
        }
    }

    #[tokio::test]
    async fn a_status_is_looked_at() {
        for (status, temporary) in [(500, true), (429, true), (408, true), (400, false), (404, false)] {
            let (_upstream, url) = receiver(status);
            let link = make(json!({"webhook-urls": url}), &testing::environment()).unwrap();
            let error = link.run(&mut testing::vcon(), &testing::context()).await.unwrap_err();
            assert_eq!(matches!(error, LinkError::Temporary { .. }), temporary, "{status} {error}");
            assert!(!error.to_string().contains("x=1"));
        }
    }

    #[tokio::test]
    async fn silence_is_a_failure_after_the_timeout() {
        let (upstream, url) = receiver(200);
        upstream.set_default(Behaviour::no_response());
        let link = make(json!({"webhook-urls": [url], "timeout": "20ms"}), &testing::environment()).unwrap();
        let error = link.run(&mut testing::vcon(), &testing::context()).await.unwrap_err();
        assert!(matches!(error, LinkError::Temporary { .. }), "{error}");
    }

    #[tokio::test]
    async fn another_attempt_leaves_out_those_that_have_it() {
        let ((good, good_url), (bad, bad_url)) = (receiver(200), receiver(503));
        let environment = testing::environment();
        let link = make(json!({"webhook-urls": [good_url, bad_url]}), &environment).unwrap();
        let mut context = testing::context_in(environment);
        link.run(&mut testing::vcon(), &context).await.unwrap_err();
        context.attempt = 2;
        bad.set_default(Behaviour::custom("ok", |_| Reply::whole(200, "text/plain", "")));
        link.run(&mut testing::vcon(), &context).await.unwrap();
        assert_eq!((good.requests().len(), bad.requests().len()), (1, 2));
    }

    #[tokio::test]
    async fn the_legacy_form_goes_out_when_it_is_asked_for() {
        let (upstream, url) = receiver(200);
        let mut environment = testing::environment();
        environment.legacy_format = true;
        let link = make(json!({"webhook-urls": [url]}), &environment).unwrap();
        link.run(&mut testing::vcon(), &testing::context_in(environment)).await.unwrap();
        assert_eq!(upstream.requests()[0].json()["vcon"], "0.0.1");
    }

    #[tokio::test]
    async fn without_addresses_it_does_nothing_and_wrong_ones_are_refused() {
        let context = testing::context();
        let link = make(Value::Null, &testing::environment()).unwrap();
        assert_eq!(link.run(&mut testing::vcon(), &context).await.unwrap(), Next::Continue);
        assert!(context.was_skipped());
        for wrong in [
            json!({"webhook-urls": ["ftp://a/"]}),
            json!({"webhook-urls": ["http://a"], "headers": {"a b": "x"}}),
        ] {
            assert!(make(wrong.clone(), &testing::environment()).is_err(), "{wrong}");
        }
    }
}
