//! `links.scitt`: makes a signed statement of the vCon's hash for each of its parties, registers it with a SCITT
//! transparency service, and keeps the receipts that prove it, once they are verified.

pub(super) mod hash;
mod receipt;
mod statement;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use reqwest::header::LOCATION;
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::http::{self, Answer};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{Analysis, Vcon};
use statement::{Signer, Statement};

pub(super) const MODULE: &str = "links.scitt";
pub(super) const OPTIONS: &[&str] = &[
    "scrapi_url",
    "signing_key_pem",
    "signing_key_path",
    "issuer",
    "key_id",
    "vcon_operation",
    "store_receipt",
    "poll_interval",
];

const WHO: &str = "the transparency service";
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a registration that takes its time is asked after.
const POLLS: usize = 6;

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The service (SCRAPI).
    scrapi_url: String,
    /// The P-256 key that signs: PEM in base64, or PEM itself.
    signing_key_pem: Option<base::Secret>,
    /// The file with the key, when the key itself is not given.
    signing_key_path: std::path::PathBuf,
    /// Who says it.
    issuer: String,
    /// The key's name.
    key_id: String,
    /// What happened to the vCon: `vcon_created`, `vcon_enhanced`.
    vcon_operation: String,
    /// Whether the receipts are kept in the vCon.
    store_receipt: bool,
    /// How long to wait between two questions after a registration that takes its time.
    poll_interval: base::Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            scrapi_url: "http://scittles:8000".into(),
            signing_key_pem: None,
            signing_key_path: "/etc/scitt/signing-key.pem".into(),
            issuer: "conserver".into(),
            key_id: "conserver-key-1".into(),
            vcon_operation: "vcon_created".into(),
            store_receipt: true,
            poll_interval: base::Duration::from_secs(10),
        }
    }
}

struct Scitt {
    options: Options,
    service: String,
    signer: Signer,
    /// Follows no redirects: one means that the registration goes on.
    client: Client,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    http::url("scrapi_url", &options.scrapi_url)?;
    let signer = match options.signing_key_pem.as_ref().filter(|key| !key.expose().is_empty()) {
        Some(key) => Signer::read(key.expose()),
        None => std::fs::read_to_string(&options.signing_key_path)
            .map_err(|error| format!("`signing_key_path` {}: {error}", options.signing_key_path.display()))
            .and_then(|key| Signer::read(&key)),
    };
    let signer = signer.map_err(OptionsError::new)?;
    // A second call changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client =
        Client::builder().redirect(reqwest::redirect::Policy::none()).user_agent("trunkline").build();
    let client = client.map_err(|error| OptionsError::new(error.to_string()))?;
    let service = options.scrapi_url.trim_end_matches('/').to_owned();
    Ok(Box::new(Scitt { options, service, signer, client }))
}

impl Scitt {
    async fn get(&self, url: &str, accept: &str) -> Result<Answer, LinkError> {
        http::send(WHO, self.client.get(url).header("accept", accept), TIMEOUT, http::SMALL).await
    }

    /// Registers a statement: the entry's id and the receipt.
    async fn register(&self, statement: Vec<u8>) -> Result<(String, Vec<u8>), LinkError> {
        let request = self.client.post(format!("{}/entries", self.service));
        let request = request.header("content-type", "application/cose").body(statement);
        let answer = http::send(WHO, request, TIMEOUT, http::SMALL).await?;
        let location = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
        let last = |location: &str| location.rsplit('/').next().unwrap_or_default().to_owned();
        match (answer.status, location) {
            (201, location) => Ok((location.as_deref().map(last).unwrap_or_default(), answer.body.to_vec())),
            (303, Some(location)) => {
                let entry = self.wait(&location).await?.unwrap_or_else(|| last(&location));
                let answer =
                    self.get(&format!("{}/entries/{entry}", self.service), "application/cose").await?;
                Ok((entry, answer.ok(WHO)?.body.to_vec()))
            }
            _ => Err(answer.refusal(WHO)),
        }
    }

    /// Waits for a registration that takes its time; the entry's id, where the service tells it.
    async fn wait(&self, location: &str) -> Result<Option<String>, LinkError> {
        let url = match location.starts_with("http") {
            true => location.to_owned(),
            false => format!("{}{location}", self.service),
        };
        for _ in 0..POLLS {
            let answer = self.get(&url, "application/json").await?;
            match answer.status {
                200 => {
                    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    let id = told["entryID"].as_str().or(told["entry_id"].as_str()).map(str::to_owned);
                    let fine = |id: &String| {
                        id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
                    };
                    return Ok(id.filter(fine));
                }
                202 | 404 | 302 | 303 => tokio::time::sleep(self.options.poll_interval.0).await,
                _ => return Err(answer.refusal(WHO)),
            }
        }
        Err(LinkError::temporary("the transparency service has not registered the statement in time"))
    }

    /// The service's keys, where its configuration says they are.
    async fn keys(&self) -> Result<Value, LinkError> {
        let url = format!("{}/.well-known/transparency-configuration", self.service);
        let told = self.get(&url, "application/cbor").await?.ok(WHO)?;
        let url = receipt::jwks_uri(&told.body).unwrap_or_else(|| format!("{}/jwks", self.service));
        self.get(&url, "application/json").await?.ok(WHO)?.json(WHO)
    }
}

#[async_trait]
impl Link for Scitt {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let (options, meters) = (&self.options, &context.environment.meters);
        let hash = hash::vcon_hash(vcon)?;
        let operation = options.vcon_operation.as_str();
        let mut parties: Vec<Option<String>> = vcon
            .parties()
            .iter()
            .filter_map(|party| {
                party.text("tel").filter(|tel| !tel.is_empty()).map(|tel| Some(tel.into_owned()))
            })
            .collect();
        if parties.is_empty() {
            parties.push(None);
        }
        let mut receipts = Vec::with_capacity(parties.len());
        for tel in parties {
            let subject = match &tel {
                Some(tel) => format!("tel:{tel}"),
                None => format!("vcon://{}", vcon.uuid()),
            };
            let payload = match &tel {
                Some(tel) => format!("{hash}:{operation}:{tel}"),
                None => format!("{hash}:{operation}"),
            };
            let mut meta = vec![("vcon_operation", operation)];
            meta.extend(tel.as_deref().map(|tel| ("party_tel", tel)));
            let statement = Statement {
                issuer: &options.issuer,
                key_id: &options.key_id,
                subject: &subject,
                payload: payload.as_bytes(),
                meta: &meta,
            };
            let signed = self.signer.sign(&statement).inspect_err(|_| {
                meters.count("link.scitt.statement_creation_failures", &context.link, 1);
            })?;
            let (entry, receipt) = self.register(signed).await.inspect_err(|_| {
                meters.count("link.scitt.registration_failures", &context.link, 1);
            })?;
            let leaf = digest::digest(&digest::SHA256, payload.as_bytes());
            receipt::verify(&receipt, leaf.as_ref(), &self.keys().await?)
                .map_err(|reason| LinkError::temporary(format!("the receipt does not prove it: {reason}")))?;
            receipts.push(json!({
                "entry_id": entry,
                "cose_receipt": STANDARD.encode(&receipt),
                "vcon_operation": operation,
                "subject": subject,
                "vcon_hash": hash,
                "scrapi_url": options.scrapi_url,
            }));
        }
        if options.store_receipt {
            let body = match receipts.len() {
                1 => receipts.remove(0),
                _ => Value::Array(receipts),
            };
            vcon.add_analysis(Analysis {
                kind: "scitt_receipt",
                dialog: json!(0),
                vendor: "scittles",
                body,
                encoding: "json",
                extra: Vec::new(),
            });
        }
        Ok(Next::Continue)
    }
}
