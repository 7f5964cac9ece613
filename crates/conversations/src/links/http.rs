//! `links.http`: a link that is a service. It gets the vCon by POST and answers with the changed one; 204, or nothing,
//! leaves it as it is, `null` halts the chain, a vCon of another uuid takes this one's place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base::{ByteSize, Secret};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::exec;
use super::shared::{http, signature};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.http";
pub(super) const OPTIONS: &[&str] = &["url", "headers", "timeout", "secret", "max_output"];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The address.
    url: String,
    /// Headers to send.
    headers: serde_json::Map<String, Value>,
    /// How long an answer may take.
    timeout: base::Duration,
    /// What requests are signed with, as Standard Webhooks has it.
    secret: Option<Secret>,
    /// The largest answer.
    max_output: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            url: String::new(),
            headers: serde_json::Map::new(),
            timeout: base::Duration::from_secs(60),
            secret: None,
            max_output: ByteSize(64 << 20),
        }
    }
}

struct Http {
    url: reqwest::Url,
    headers: HeaderMap,
    timeout: Duration,
    secret: Option<Secret>,
    max_output: usize,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    Ok(Box::new(Http {
        url: http::url("url", &options.url)?,
        headers: http::headers("headers", &options.headers)?,
        timeout: options.timeout.0,
        secret: options.secret,
        max_output: usize::try_from(options.max_output.0).unwrap_or(usize::MAX),
    }))
}

#[async_trait]
impl Link for Http {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let who = self.url.host_str().unwrap_or("the service");
        let body = vcon.to_bytes();
        let mut request = context.environment.http.post(self.url.clone());
        request = request.header("content-type", "application/json").header("accept", "application/json");
        request = request.header("traceparent", &context.trace.to_header()[..]);
        request = request.header("x-trunkline-link", &*context.link).headers(self.headers.clone());
        if let Some(secret) = &self.secret {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            for (name, value) in
                signature::sign(secret, vcon.uuid(), i64::try_from(seconds).unwrap_or(i64::MAX), &body)
            {
                request = request.header(name, value);
            }
        }
        let answer = http::send(who, request.body(body), self.timeout, self.max_output).await?.ok(who)?;
        exec::take(&answer.body, vcon, context)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::{Behaviour, Reply, Upstream};

    use super::*;
    use crate::testing;

    async fn run(status: u16, answer: &str, options: Value) -> (Result<Next, LinkError>, Vcon, Upstream) {
        let upstream = Upstream::start();
        let answer = answer.to_owned();
        upstream.set_default(Behaviour::custom("answer", move |_| {
            Reply::whole(status, "application/json", answer.clone())
        }));
        let mut options = options;
        options["url"] = json!(format!("http://127.0.0.1:{}/link", upstream.port()));
        let link = make(options, &testing::environment()).unwrap();
        let mut vcon = testing::vcon();
        let next = link.run(&mut vcon, &testing::context()).await;
        (next, vcon, upstream)
    }

    #[tokio::test]
    async fn the_service_s_vcon_takes_the_place() {
        let mut changed = testing::vcon();
        changed.set("subject", "seen");
        let text = String::from_utf8(changed.to_bytes().to_vec()).unwrap();
        let (next, vcon, upstream) =
            run(200, &text, json!({"headers": {"authorization": "Bearer x"}, "secret": "s"})).await;
        assert_eq!((next.unwrap(), &*vcon.text("subject").unwrap()), (Next::Continue, "seen"));
        let request = &upstream.requests()[0];
        assert_eq!(request.body, testing::vcon().to_bytes());
        let header = |name| request.header(name).unwrap();
        assert_eq!(
            [header("authorization"), header("x-trunkline-link"), header("webhook-id")],
            ["Bearer x", "a_link", vcon.uuid()]
        );
    }

    #[tokio::test]
    async fn every_answer_means_something() {
        for (status, answer, expected) in [
            (204, "", Some(Next::Continue)),
            (200, " null\n", Some(Next::Halt)),
            (200, "[]", None),
            (302, "", None),
        ] {
            let (next, _, _) = run(status, answer, json!({})).await;
            assert_eq!(next.ok(), expected, "{status} {answer}");
        }
        let (next, _, _) = run(503, "", json!({})).await;
        assert!(matches!(next, Err(LinkError::Temporary { .. })));
        let (next, _, _) = run(200, "0123456789", json!({"max_output": "5B"})).await;
        assert!(matches!(next, Err(LinkError::Permanent(_))));
        assert!(make(json!({}), &testing::environment()).is_err());
    }
}
