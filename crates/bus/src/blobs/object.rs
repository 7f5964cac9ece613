//! Blobs in a bucket: S3 and what speaks like it, Google Cloud Storage, Azure. Credentials come from the
//! environment, by the names of each cloud (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`,
//! `AZURE_STORAGE_ACCOUNT_NAME`, …), or from the machine's role.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::seams::{Backend, BlobInfo, BlobPage, Blobs, Body, SeamError, check_blob_key};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    ClientOptions, Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    RetryConfig,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::{beyond, check_list, check_range, missing};
use crate::metrics::BusMetrics;
use crate::settings::BlobsSettings;

/// A larger blob is written in parts of this size.
const PART: usize = 8 << 20;
/// How often a request that failed on the way is made again, and for how long.
const RETRIES: usize = 3;

/// Blobs in a bucket.
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    /// Empty, or what every key begins with and a `/`.
    prefix: String,
    permits: Arc<Semaphore>,
    settings: BlobsSettings,
    metrics: BusMetrics,
}

impl ObjectBlobs {
    /// Reads `s3://bucket/prefix`, `gs://…` or `az://…`. Nothing is sent yet.
    pub fn open(settings: &BlobsSettings, metrics: &BusMetrics) -> Result<Self, SeamError> {
        let invalid = |what: String| SeamError::Invalid(format!("data.blobs: {what}"));
        let url = Url::parse(settings.backend.expose())
            .map_err(|error| invalid(format!("the URL of the bucket: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("credentials belong into the environment, not into the URL".to_owned()));
        }
        let prefix = url.path().trim_matches('/').to_owned();
        if !prefix.is_empty() {
            check_blob_key(&prefix)?;
        }
        // Its client takes the process' provider; a second call changes nothing.
        drop(rustls::crypto::ring::default_provider().install_default());
        let wrong = |error: StoreError| invalid(cleaned(&error.to_string()));
        let (store, signer): (Arc<dyn ObjectStore>, Arc<dyn Signer>) = match url.scheme() {
            "s3" | "s3a" => {
                let store = Arc::new(s3(&url, settings).build().map_err(wrong)?);
                (Arc::clone(&store) as _, store)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
                let builder = builder.with_client_options(client(settings)).with_retry(retry(settings));
                let store = Arc::new(builder.build().map_err(wrong)?);
                (Arc::clone(&store) as _, store)
            }
            "az" | "azure" | "abfs" | "abfss" => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
                let builder = builder.with_client_options(client(settings)).with_retry(retry(settings));
                let builder = match &settings.endpoint {
                    Some(endpoint) => builder.with_endpoint(endpoint.clone()),
                    None => builder,
                };
                let store = Arc::new(builder.build().map_err(wrong)?);
                (Arc::clone(&store) as _, store)
            }
            other => {
                return Err(invalid(format!(
                    "`{other}://` is not known: write `local`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`"
                )));
            }
        };
        Ok(Self::on(store, Some(signer), &prefix, settings, metrics))
    }

    fn on(
        store: Arc<dyn ObjectStore>,
        signer: Option<Arc<dyn Signer>>,
        prefix: &str,
        settings: &BlobsSettings,
        metrics: &BusMetrics,
    ) -> Self {
        ObjectBlobs {
            store,
            signer,
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            permits: Arc::new(Semaphore::new(settings.max_connections.max(1) as usize)),
            settings: settings.clone(),
            metrics: metrics.clone(),
        }
    }

    fn path(&self, key: &str) -> Result<Path, SeamError> {
        check_blob_key(key)?;
        self.whole_path(key)
    }

    fn whole_path(&self, key: &str) -> Result<Path, SeamError> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|error| SeamError::Invalid(error.to_string()))
    }

    fn info(&self, meta: &ObjectMeta) -> BlobInfo {
        let key = meta.location.as_ref();
        BlobInfo {
            key: key.strip_prefix(&self.prefix).unwrap_or(key).to_owned(),
            size: meta.size,
            modified_at: meta.last_modified.timestamp_millis(),
        }
    }

    /// One of the connections, waited for as long as making one may take.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, SeamError> {
        let limit = self.settings.connect_timeout.0;
        match tokio::time::timeout(limit, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(SeamError::Unavailable {
                backend: "object store",
                reason: format!(
                    "all {} connections were busy for {} ms",
                    self.settings.max_connections,
                    limit.as_millis()
                ),
            }),
        }
    }

    fn counted<T>(
        &self,
        operation: &'static str,
        key: &str,
        result: Result<T, StoreError>,
    ) -> Result<T, SeamError> {
        let fine = matches!(result, Ok(_) | Err(StoreError::NotFound { .. }));
        self.metrics.object(operation, fine);
        result.map_err(|error| of_key(key, &error))
    }

    async fn read(&self, key: &str, range: Option<GetRange>) -> Result<(BlobInfo, Reading), SeamError> {
        let path = self.path(key)?;
        let permit = self.permit().await?;
        let options = GetOptions { range, ..GetOptions::default() };
        let result = self.store.get_opts(&path, options).await;
        let result = self.counted("get", key, result)?;
        let info = self.info(&result.meta);
        Ok((
            info,
            Reading {
                stream: result.into_stream(),
                rest: Bytes::new(),
                key: key.to_owned(),
                _permit: permit,
            },
        ))
    }

    /// Writes a body whose first part is full in parts; nothing of it is seen before the last one.
    async fn put_parts(
        &self,
        key: &str,
        path: &Path,
        first: BytesMut,
        body: &mut dyn Body,
    ) -> Result<u64, SeamError> {
        let mut upload = self.counted("put", key, self.store.put_multipart(path).await)?;
        let written = async {
            let (mut buffer, mut size) = (first, 0_u64);
            loop {
                let more = fill(&mut buffer, body, size, self.settings.max_size.0).await?;
                let part = buffer.split().freeze();
                size += part.len() as u64;
                if !part.is_empty() {
                    self.counted("put", key, upload.put_part(part.into()).await)?;
                }
                if !more {
                    return Ok(size);
                }
            }
        }
        .await;
        match written {
            Ok(size) => self.counted("put", key, upload.complete().await).map(|_| size),
            Err(error) => {
                // What is left of it costs money; a bucket's own rule removes it when this fails.
                if let Err(error) = upload.abort().await {
                    tracing::warn!(error = %cleaned(&error.to_string()), "an unfinished upload could not be removed");
                }
                Err(error)
            }
        }
    }
}

fn client(settings: &BlobsSettings) -> ClientOptions {
    let http = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(settings.connect_timeout.0)
        .with_read_timeout(settings.timeout.0)
        // Of a whole answer, however large.
        .with_timeout_disabled()
        .with_pool_max_idle_per_host(settings.max_connections as usize)
        .with_pool_idle_timeout(Duration::from_secs(90))
}

fn retry(settings: &BlobsSettings) -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: settings.timeout.0, ..RetryConfig::default() }
}

fn s3(url: &Url, settings: &BlobsSettings) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_url(format!("s3://{}", url.host_str().unwrap_or_default()))
        .with_client_options(client(settings))
        .with_retry(retry(settings));
    if let Some(region) = &settings.region {
        builder = builder.with_region(region.clone());
    }
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    builder
}

/// Adds pieces until there is a part, or the body ends; whether it goes on.
async fn fill(
    buffer: &mut BytesMut,
    body: &mut dyn Body,
    before: u64,
    limit: u64,
) -> Result<bool, SeamError> {
    while buffer.len() < PART {
        let Some(piece) = body.next().await? else { return Ok(false) };
        buffer.extend_from_slice(&piece);
        let size = before + buffer.len() as u64;
        if size > limit {
            return Err(SeamError::TooLarge { what: "a blob", size, limit });
        }
    }
    Ok(true)
}

/// An error's text without the query of an address, where Azure's tokens are.
fn cleaned(text: &str) -> String {
    let mut out = String::new();
    let mut hidden = false;
    for c in text.chars().take(1_000) {
        hidden = match (hidden, c) {
            (_, '?') => true,
            (true, c) if c.is_whitespace() || "\"')>`".contains(c) => false,
            (hidden, _) => hidden,
        };
        if c == '?' {
            out.push_str("?***");
        } else if !hidden {
            out.push(c);
        }
    }
    out
}

fn of_key(key: &str, error: &StoreError) -> SeamError {
    let backend = "object store";
    let text = || {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            source = inner.source();
        }
        cleaned(&text)
    };
    match error {
        StoreError::NotFound { .. } => missing(key),
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            SeamError::Refused { backend, reason: text() }
        }
        _ => SeamError::Unavailable { backend, reason: text() },
    }
}

/// A blob on its way, with the connection it comes over.
struct Reading {
    stream: BoxStream<'static, Result<Bytes, StoreError>>,
    /// Of a piece that was too large.
    rest: Bytes,
    key: String,
    _permit: OwnedSemaphorePermit,
}

#[async_trait]
impl Body for Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, SeamError> {
        if self.rest.is_empty() {
            match self.stream.next().await {
                None => return Ok(None),
                Some(Ok(piece)) => self.rest = piece,
                Some(Err(error)) => return Err(of_key(&self.key, &error)),
            }
        }
        let most = self.rest.len().min(PART);
        Ok(Some(self.rest.split_to(most)))
    }
}

#[async_trait]
impl Backend for ObjectBlobs {
    fn backend(&self) -> &'static str {
        "object"
    }

    async fn ping(&self) -> Result<(), SeamError> {
        // Whether it may be read is all that can be learnt without writing.
        match self.head("trunkline-ping").await {
            Ok(_) | Err(SeamError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn put(&self, key: &str, mut body: Box<dyn Body>) -> Result<u64, SeamError> {
        let path = self.path(key)?;
        let mut first = BytesMut::new();
        let more = fill(&mut first, &mut *body, 0, self.settings.max_size.0).await?;
        let _permit = self.permit().await?;
        if more {
            return self.put_parts(key, &path, first, &mut *body).await;
        }
        let size = first.len() as u64;
        self.counted("put", key, self.store.put(&path, first.freeze().into()).await)?;
        Ok(size)
    }

    async fn get(&self, key: &str) -> Result<(BlobInfo, Box<dyn Body>), SeamError> {
        let (info, reading) = self.read(key, None).await?;
        Ok((info, Box::new(reading)))
    }

    async fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Box<dyn Body>, SeamError> {
        check_range(&range)?;
        let start = range.start;
        match self.read(key, Some(GetRange::Bounded(range))).await {
            Ok((_, reading)) => Ok(Box::new(reading)),
            Err(error @ SeamError::NotFound { .. }) => Err(error),
            // Each cloud has its own words for a range that is not there.
            Err(error) => match self.head(key).await {
                Ok(info) if info.size <= start => Err(beyond(key, info.size)),
                _ => Err(error),
            },
        }
    }

    async fn head(&self, key: &str) -> Result<BlobInfo, SeamError> {
        let path = self.path(key)?;
        let _permit = self.permit().await?;
        self.counted("head", key, self.store.head(&path).await).map(|meta| self.info(&meta))
    }

    async fn delete(&self, key: &str) -> Result<(), SeamError> {
        let path = self.path(key)?;
        let _permit = self.permit().await?;
        match self.counted("delete", key, self.store.delete(&path).await) {
            Ok(()) | Err(SeamError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage, SeamError> {
        check_list(prefix, after, limit)?;
        let _permit = self.permit().await?;
        // The store lists folders; what of a folder is asked for is sorted out here.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = self.whole_path(folder)?;
        let folder = (!folder.as_ref().is_empty()).then_some(folder);
        let mut stream = match after {
            Some(after) => self.store.list_with_offset(folder.as_ref(), &self.path(after)?),
            None => self.store.list(folder.as_ref()),
        };
        let mut page = BlobPage::default();
        while let Some(meta) = stream.next().await {
            let info = self.info(&self.counted("list", prefix, meta)?);
            if !info.key.starts_with(prefix) {
                if info.key.as_str() > prefix {
                    break;
                }
                continue;
            }
            if page.blobs.len() == limit {
                page.next = page.blobs.last().map(|blob| blob.key.clone());
                break;
            }
            page.blobs.push(info);
        }
        Ok(page)
    }

    async fn signed_url(&self, key: &str, ttl: Duration) -> Result<Option<String>, SeamError> {
        let path = self.path(key)?;
        if ttl.is_zero() || ttl > Duration::from_secs(7 * 24 * 3600) {
            return Err(SeamError::Invalid("a signed address lives from a second to seven days".into()));
        }
        let Some(signer) = &self.signer else { return Ok(None) };
        let url = signer.signed_url(object_store::signer::Method::GET, &path, ttl).await;
        self.counted("sign", key, url).map(|url| Some(url.to_string()))
    }
}

#[cfg(test)]
mod tests;
