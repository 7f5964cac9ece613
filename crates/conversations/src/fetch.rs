//! Fetching what a vCon points at. Its addresses were written by strangers, so none may lead into our own network:
//! every name is looked up by us, every hop of a redirect is checked, and what comes is bounded in size and time.
//! No proxy is used, since it would look names up out of our sight.

mod address;
mod client;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::ByteSize;
use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, StatusCode, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use crate::link::LinkError;
use address::Allowed;

/// The most redirects that are followed.
const MAX_HOPS: usize = 5;
/// For the TCP and TLS handshakes.
const CONNECT: Duration = Duration::from_secs(10);

/// What may be fetched because a vCon says so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UrlPolicy {
    /// Whether addresses in private, local and reserved networks may be fetched: by default they may not, so that
    /// nobody reaches into the network behind us by sending a vCon.
    pub allow_private_urls: bool,
    /// Host names, addresses and networks (`10.1.0.0/16`) that may be fetched even though they are private.
    pub allow_urls: Vec<String>,
    /// Folders in which `file://` addresses may lie. None by default: then there are no such addresses.
    pub file_folders: Vec<PathBuf>,
    /// The largest recording that is fetched or decoded, as `500MiB`.
    pub max_media: ByteSize,
}

impl Default for UrlPolicy {
    fn default() -> Self {
        UrlPolicy {
            allow_private_urls: false,
            allow_urls: Vec::new(),
            file_folders: Vec::new(),
            max_media: ByteSize(500 << 20),
        }
    }
}

/// Why something was not fetched. Its text has the host, never the whole address, which may carry a credential.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// It may not be, or cannot: the text says why, and what to change.
    #[error("{0}")]
    Refused(String),
    /// It did not work this time.
    #[error("{0}")]
    Failed(String),
}

impl From<FetchError> for LinkError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Refused(reason) => LinkError::Permanent(reason),
            FetchError::Failed(reason) => LinkError::temporary(reason),
        }
    }
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The content.
    pub body: Bytes,
    /// What the server says it is, without parameters.
    pub media_type: Option<String>,
    /// The name that the server gives it, or the last part of its address.
    pub file_name: Option<String>,
}

/// Fetches within a policy. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    policy: Arc<UrlPolicy>,
    allowed: Arc<Allowed>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fetcher").field(&self.policy).finish()
    }
}

impl Fetcher {
    /// A fetcher within this policy; the error says which entry of it cannot be read.
    pub fn new(policy: UrlPolicy) -> Result<Self, String> {
        let allowed = Arc::new(Allowed::read(policy.allow_private_urls, &policy.allow_urls)?);
        let client = client::build(&allowed, CONNECT).map_err(|error| error.to_string())?;
        Ok(Fetcher { client, policy: Arc::new(policy), allowed })
    }

    /// The most bytes of a recording.
    pub fn max_media(&self) -> u64 {
        self.policy.max_media.0
    }

    /// Fetches `http`, `https` and, where folders are allowed, `file` addresses, all within `timeout`.
    pub async fn get(&self, url: &str, timeout: Duration) -> Result<Fetched, FetchError> {
        let url =
            Url::parse(url).map_err(|_| FetchError::Refused("the recording's address is no URL".into()))?;
        let work = async {
            match url.scheme() {
                "http" | "https" => self.web(url).await,
                "file" => self.file(&url).await,
                other => {
                    Err(FetchError::Refused(format!("addresses of the kind `{other}:` are not fetched")))
                }
            }
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::Failed(format!("it was not there within {} s", timeout.as_secs()))),
        }
    }

    async fn web(&self, mut url: Url) -> Result<Fetched, FetchError> {
        for _ in 0..=MAX_HOPS {
            let host = self.check(&url)?;
            let response = self.client.get(url.clone()).send().await.map_err(|error| failed(&host, error))?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                let next = to.and_then(|to| url.join(to).ok());
                url = next.ok_or_else(|| FetchError::Refused(format!("{host} redirects to no address")))?;
                continue;
            }
            if !status.is_success() {
                return Err(refused_by(&host, status));
            }
            let media_type = media_type(response.headers());
            let file_name = file_name(response.headers()).or_else(|| last_part(&url));
            let body = self.read(&host, response).await?;
            return Ok(Fetched { body, media_type, file_name });
        }
        Err(FetchError::Refused(format!("more than {MAX_HOPS} redirects")))
    }

    /// Refuses an address that names a private one outright; a name is looked up, and checked, when we connect.
    fn check(&self, url: &Url) -> Result<String, FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Refused(format!("a redirect to `{}:` is not followed", url.scheme())));
        }
        let (Some(host), Some(text)) = (url.host(), url.host_str()) else {
            return Err(FetchError::Refused("the recording's address names no host".into()));
        };
        match self.allowed.literal(&host) {
            true => Ok(text.to_owned()),
            false => Err(FetchError::Refused(address::refusal(text))),
        }
    }

    async fn read(&self, host: &str, mut response: reqwest::Response) -> Result<Bytes, FetchError> {
        let limit = self.policy.max_media;
        let too_large =
            || FetchError::Refused(format!("what {host} sends is larger than {limit} (`max_media`)"));
        if response.content_length().is_some_and(|length| length > limit.0) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| failed(host, error))? {
            if (body.len() + piece.len()) as u64 > limit.0 {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    async fn file(&self, url: &Url) -> Result<Fetched, FetchError> {
        let refused = |text: &str| FetchError::Refused(text.to_owned());
        let path =
            url.to_file_path().map_err(|()| refused("a `file:` address must be absolute, as file:///a/b"))?;
        if self.policy.file_folders.is_empty() {
            return Err(refused("`file:` addresses are not read: name their folders in `file_folders`"));
        }
        let missing = |_| refused("there is no such file");
        let path = tokio::fs::canonicalize(&path).await.map_err(missing)?;
        if !self.is_below(&path).await {
            return Err(refused("the file lies outside of the `file_folders`"));
        }
        let file = tokio::fs::File::open(&path).await.map_err(missing)?;
        let limit = self.policy.max_media.0;
        let mut body = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut body).await;
        read.map_err(|error| FetchError::Failed(format!("the file cannot be read: {error}")))?;
        if body.len() as u64 > limit {
            return Err(FetchError::Refused(format!(
                "the file is larger than {} (`max_media`)",
                self.policy.max_media
            )));
        }
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Fetched { body: body.into(), media_type: None, file_name })
    }

    /// Whether a path, free of links, lies in one of the folders.
    async fn is_below(&self, path: &Path) -> bool {
        for folder in &self.policy.file_folders {
            if tokio::fs::canonicalize(folder).await.is_ok_and(|folder| path.starts_with(folder)) {
                return true;
            }
        }
        false
    }
}

fn failed(host: &str, error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    if let Some(refused) = client::refusal(&error) {
        return FetchError::Refused(refused);
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    FetchError::Failed(format!("{host}: {cause}"))
}

/// A status that another attempt may mend, or not.
fn refused_by(host: &str, status: StatusCode) -> FetchError {
    let text = format!("{host} answers {}", status.as_u16());
    match status.as_u16() {
        408 | 425 | 429 | 500.. => FetchError::Failed(text),
        _ => FetchError::Refused(text),
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = text.split(';').next()?.trim().to_ascii_lowercase();
    essence.contains('/').then_some(essence)
}

/// The name in `attachment; filename="call.mp3"`, without any folder.
fn file_name(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_DISPOSITION)?.to_str().ok()?;
    let (_, name) = text.split_once("filename=")?;
    let name = match name.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => name.split(';').next()?.trim(),
    };
    let name = name.rsplit(['/', '\\']).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn last_part(url: &Url) -> Option<String> {
    let part = url.path_segments()?.next_back()?;
    (!part.is_empty()).then(|| part.to_owned())
}
