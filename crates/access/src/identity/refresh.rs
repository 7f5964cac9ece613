//! Keeping the issuer's keys fresh.
//!
//! One task reads them: on its own every `auth.refresh`, and earlier when somebody brings a token with a key
//! that is not known, for issuers change keys without notice. Being the only reader, it cannot read twice at
//! once, and it lets tokens with invented key ids make it read no more often than [`Pace`] says. When the
//! issuer is down the old keys stay in use until `auth.stale_after`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::Url;
use serde::Deserialize;
use tokio::sync::watch;

use super::error::IdentityError;
use super::http::{Call, Http};
use super::keys::KeySet;
use super::settings::AuthSettings;
use super::verifier::TokenVerifier;

/// The limit on one request to the issuer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is read of an answer: the largest key sets have some 20 KiB.
const MAX_ANSWER: usize = 512 << 10;
/// The first pause after the issuer could not be read; each further one is twice as long.
const BACKOFF: Duration = Duration::from_secs(5);

/// How patient we are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The shortest time between a look at the keys and one that a token asks for.
    pub(super) between: Duration,
    /// How long a token waits for a look at the keys.
    pub(super) wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { between: Duration::from_secs(10), wait: Duration::from_secs(3) }
    }
}

/// Where the keys are.
pub(super) struct Source {
    http: Http,
    issuer: String,
    jwks_url: Option<Url>,
    discovery: Url,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    pub(super) fn new(settings: &AuthSettings) -> Result<Self, IdentityError> {
        let url = |path: &str, text: &str| {
            Url::parse(text).map_err(|e| IdentityError::Setting { path: path.into(), message: e.to_string() })
        };
        let issuer = settings.issuer.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Source {
            http: Http::new(settings.ca_file.as_deref(), TIMEOUT, MAX_ANSWER)?,
            jwks_url: settings.jwks_url.as_deref().map(|text| url("auth.jwks_url", text)).transpose()?,
            discovery: url("auth.issuer", &format!("{issuer}/.well-known/openid-configuration"))?,
            issuer,
        })
    }

    /// The issuer's JWKS, as bytes.
    async fn fetch(&self) -> Result<Vec<u8>, IdentityError> {
        let discovered;
        let url = match &self.jwks_url {
            Some(url) => url,
            None => {
                discovered = self.discover().await?;
                &discovered
            }
        };
        self.get(&format!("the issuer's keys at {}", printable(url)), url).await
    }

    async fn discover(&self) -> Result<Url, IdentityError> {
        let what = format!("the issuer at {}", printable(&self.discovery));
        let wrong = |message: String| IdentityError::service(&what, message);
        let body = self.get(&what, &self.discovery).await?;
        let found: Discovered = serde_json::from_slice(&body)
            .map_err(|_| wrong("its answer is no discovery document: set `auth.jwks_url`".into()))?;
        if found.issuer.trim_end_matches('/') != self.issuer {
            return Err(wrong("it calls itself by another name: write that as `auth.issuer`".into()));
        }
        let url = Url::parse(&found.jwks_uri).map_err(|_| wrong("its `jwks_uri` is no URL".into()))?;
        let downgraded = self.discovery.scheme() == "https" && url.scheme() != "https";
        if downgraded || !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its `jwks_uri` is not `https`".into()));
        }
        Ok(url)
    }

    async fn get(&self, what: &str, url: &Url) -> Result<Vec<u8>, IdentityError> {
        let headers = [("accept", "application/json")];
        let answer = self.http.send(Call { what, method: "GET", url, headers: &headers, body: None }).await?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(IdentityError::service(what, format!("answers with status {status}"))),
        }
    }
}

/// Scheme, host and path: a query may hold a key.
fn printable(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

impl TokenVerifier {
    /// Reads the issuer's keys now, and from then on whenever it is time. Never ends: spawn it, and drop it to
    /// stop. Without it no token is accepted.
    pub async fn run(self) {
        let mut failures = 0u32;
        loop {
            let pause = match self.refresh().await {
                Ok(()) => {
                    failures = 0;
                    // Replicas that start together must not ask together for ever.
                    self.0.refresh.mul_f64(0.9 + 0.1 * fastrand::f64())
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let have = self.0.keys.load().as_ref().map_or(0, |keys| keys.len());
                    tracing::warn!(error = %error, keys = have, failures, "the issuer's keys cannot be read");
                    BACKOFF.saturating_mul(1 << failures.min(10)).min(self.0.refresh)
                }
            };
            self.sleep(pause).await;
        }
    }

    /// Waits until it is time, or until a token asks for fresh keys and may.
    async fn sleep(&self, pause: Duration) {
        let time = tokio::time::sleep(pause);
        tokio::pin!(time);
        loop {
            tokio::select! {
                () = &mut time => return,
                () = self.0.wanted.notified() => {
                    if !self.is_too_soon() {
                        return;
                    }
                    // Who waits may stop.
                    self.0.attempts.send_modify(|attempts| *attempts += 1);
                }
            }
        }
    }

    /// Reads the issuer's keys once. On failure those we have stay.
    pub async fn refresh(&self) -> Result<(), IdentityError> {
        let inner = &*self.0;
        inner.in_flight.store(true, Ordering::Release);
        let fetched = inner.source.fetch().await;
        let read = fetched.and_then(|body| {
            let before = inner.keys.load_full();
            KeySet::read(&body, &inner.algorithms, before.as_deref(), Instant::now())
                .map_err(|message| IdentityError::service("the issuer's keys", message))
        });
        let done = read.map(|keys| {
            let before = inner.keys.load().as_ref().map(|keys| keys.generation);
            if before != Some(keys.generation) {
                tracing::info!(keys = keys.len(), "the issuer's keys were read");
            }
            inner.keys.store(Some(Arc::new(keys)));
        });
        let since = u64::try_from(inner.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        inner.last_attempt.store(since.saturating_add(1), Ordering::Release);
        inner.in_flight.store(false, Ordering::Release);
        inner.attempts.send_modify(|attempts| *attempts += 1);
        done
    }

    /// How many keys there are and how old they are, for readiness; `None` before the first look that
    /// succeeded.
    pub fn keys(&self) -> Option<(usize, Duration)> {
        self.0.keys.load().as_ref().map(|keys| (keys.len(), keys.confirmed.elapsed()))
    }

    /// Asks for fresh keys and waits for the attempt. `false` when there is none to wait for.
    pub(super) async fn wait_for(&self, mut attempt: watch::Receiver<u64>) -> bool {
        if !attempt.has_changed().unwrap_or(false) {
            if self.is_too_soon() {
                return false;
            }
            self.0.wanted.notify_one();
        }
        tokio::time::timeout(self.0.pace.wait, attempt.changed()).await.is_ok()
    }

    /// Whether the keys were looked at a moment ago and nobody is looking now.
    fn is_too_soon(&self) -> bool {
        let last = self.0.last_attempt.load(Ordering::Acquire);
        if last == 0 || self.0.in_flight.load(Ordering::Acquire) {
            return false;
        }
        let since = self.0.started.elapsed().saturating_sub(Duration::from_millis(last - 1));
        since < self.0.pace.between
    }
}
