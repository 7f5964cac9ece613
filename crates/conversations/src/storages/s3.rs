//! `storage.s3`: an object for each vCon, `[s3_path/]YYYY/MM/DD/<uuid>.vcon`, and one that tells its day,
//! `[s3_path/]lookup/<uuid>.txt`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ClientOptions, Error as StoreError, ObjectStoreExt as _, RetryConfig};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::day;
use super::http::cleaned;
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.s3";
pub(super) const OPTIONS: &[&str] = &[
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_bucket",
    "aws_region",
    "endpoint_url",
    "s3_path",
    "timeout",
];

/// The most requests at once.
const AT_ONCE: usize = 16;
/// How often a request is tried again that may be.
const RETRIES: usize = 2;

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    aws_access_key_id: Option<String>,
    aws_secret_access_key: Option<Secret>,
    aws_session_token: Option<Secret>,
    aws_bucket: String,
    aws_region: Option<String>,
    endpoint_url: Option<String>,
    s3_path: Option<String>,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            aws_access_key_id: None,
            aws_secret_access_key: None,
            aws_session_token: None,
            aws_bucket: String::new(),
            aws_region: None,
            endpoint_url: None,
            s3_path: None,
            timeout: 30.0,
        }
    }
}

struct S3 {
    store: AmazonS3,
    permits: Arc<Semaphore>,
    timeout: Duration,
    secrets: Vec<Secret>,
    /// Empty, or ending in `/`.
    prefix: String,
    legacy: bool,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = super::http::seconds("timeout", options.timeout)?;
    if options.aws_bucket.is_empty() {
        return Err(OptionsError::new("`aws_bucket` must name a bucket"));
    }
    let http = options.endpoint_url.as_deref().is_some_and(|url| url.starts_with("http://"));
    let client = ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(timeout)
        .with_timeout(timeout)
        .with_pool_max_idle_per_host(AT_ONCE);
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: timeout, ..RetryConfig::default() };
    let variable = |name: &str| environment.variables.get(name);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&options.aws_bucket)
        .with_client_options(client)
        .with_retry(retry);
    let mut secrets = Vec::new();
    // Without keys here those of the environment count, and then the role of the machine.
    let key = options.aws_access_key_id.or_else(|| variable("AWS_ACCESS_KEY_ID"));
    let secret =
        options.aws_secret_access_key.or_else(|| variable("AWS_SECRET_ACCESS_KEY").map(Secret::from));
    let token = options.aws_session_token.or_else(|| variable("AWS_SESSION_TOKEN").map(Secret::from));
    if let (Some(key), Some(secret)) = (key, secret) {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret.expose());
        secrets.push(secret);
        if let Some(token) = token {
            builder = builder.with_token(token.expose());
            secrets.push(token);
        }
    }
    let region =
        options.aws_region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    builder = builder.with_region(region.unwrap_or_else(|| "us-east-1".into()));
    if let Some(endpoint) = options.endpoint_url.filter(|url| !url.is_empty()) {
        builder = builder.with_endpoint(super::http::base_url("endpoint_url", &endpoint)?);
    }
    let prefix = options.s3_path.unwrap_or_default();
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    // A second call changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let store = builder.build().map_err(|error| OptionsError::new(cleaned(&error.to_string(), &secrets)))?;
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let storage = S3 { store, permits, timeout, secrets, prefix, legacy: environment.legacy_format };
    storage.path("lookup/x.txt").map_err(|error| OptionsError::new(format!("`s3_path`: {error}")))?;
    Ok(Box::new(storage))
}

impl S3 {
    fn path(&self, key: &str) -> Result<Path, StorageError> {
        let whole = format!("{}{key}", self.prefix);
        Path::parse(whole).map_err(|error| StorageError::permanent(error.to_string()))
    }

    fn lookup(&self, uuid: &str) -> Result<Path, StorageError> {
        self.path(&format!("lookup/{uuid}.txt"))
    }

    fn object(&self, uuid: &str, day: &str) -> Result<Path, StorageError> {
        let separator = if day.is_empty() { "" } else { "/" };
        self.path(&format!("{day}{separator}{uuid}.vcon"))
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Option<T>, StorageError> {
        let work = async {
            let _permit = self.permits.acquire().await.ok();
            work.await
        };
        match tokio::time::timeout(self.timeout * 2, work).await {
            Ok(Ok(done)) => Ok(Some(done)),
            Ok(Err(StoreError::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => Err(self.error(&error)),
            Err(_) => {
                Err(StorageError::temporary(format!("S3 did not answer within {:?}", self.timeout * 2)))
            }
        }
    }

    fn error(&self, error: &StoreError) -> StorageError {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        // An address with a signature or a uuid in it tells nothing that helps.
        let text: Vec<&str> = text.split_whitespace().filter(|word| !word.contains("://")).collect();
        StorageError::temporary(format!("S3: {}", cleaned(&text.join(" "), &self.secrets)))
    }

    async fn put(&self, path: &Path, body: Bytes) -> Result<(), StorageError> {
        match self.within(self.store.put(path, body.into())).await? {
            Some(_) => Ok(()),
            None => Err(StorageError::temporary("S3: there is no such bucket")),
        }
    }

    async fn read(&self, path: &Path) -> Result<Option<Bytes>, StorageError> {
        self.within(async { self.store.get(path).await?.bytes().await }).await
    }

    /// The day that the lookup tells, empty for none.
    async fn day(&self, uuid: &str) -> Result<Option<String>, StorageError> {
        let Some(day) = self.read(&self.lookup(uuid)?).await? else { return Ok(None) };
        let day = String::from_utf8_lossy(&day).trim().to_owned();
        match day.chars().all(|c| c.is_ascii_digit() || c == '/') {
            true => Ok(Some(day)),
            false => Err(StorageError::permanent(format!("lookup/{uuid}.txt does not hold a day"))),
        }
    }
}

#[async_trait]
impl Storage for S3 {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, _: &StorageContext) -> Result<(), StorageError> {
        let day = day::folder(vcon).unwrap_or_default();
        let text = match self.legacy {
            true => vcon.to_legacy().to_bytes(),
            false => vcon.to_bytes(),
        };
        // First the vCon, so that the lookup never leads to nothing.
        self.put(&self.object(vcon.uuid(), &day)?, text).await?;
        self.put(&self.lookup(vcon.uuid())?, day.into()).await
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(None);
        }
        let Some(day) = self.day(&uuid).await? else { return Ok(None) };
        let text = self.read(&self.object(&uuid, &day)?).await?;
        text.map(Vcon::parse).transpose().map_err(|error| StorageError::permanent(error.to_string()))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(false);
        }
        let Some(day) = self.day(&uuid).await? else { return Ok(false) };
        self.within(self.store.delete(&self.object(&uuid, &day)?)).await?;
        self.within(self.store.delete(&self.lookup(&uuid)?)).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
