//! The HTTP client to providers.
//!
//! Each worker thread owns one [`Client`] with connections of its own, so that a request and the connection
//! it uses live on the same thread. An HTTP/1.1 connection is driven by the very task that waits for its
//! answer: hyper's ready-made pools give each connection a task of its own, and then every request pays for
//! waking that task and being woken by it, twice. An HTTP/2 connection is shared by many requests and has
//! its task.
//!
//! A connection goes back to the pool when an answer was read to its end, and only then.

mod connect;
mod http1;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2;

use crate::SendError;
use connect::{Connector, Opened};
use http1::Http1;
pub use http1::Lease;

/// How long an unused connection is kept. Shorter than the 60 s after which many servers and load
/// balancers close theirs, so that we seldom send into a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(50);
/// How often connections that were unused for too long are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// The most unused connections kept for one provider.
const MAX_IDLE: usize = 1024;
/// Requests at once on one HTTP/2 connection; most servers allow a hundred.
const MAX_H2_REQUESTS: u32 = 100;

/// Where requests go: scheme, host and port of a provider.
#[derive(Debug)]
pub struct Origin {
    id: u64,
    /// For connecting.
    uri: Uri,
    host: HeaderValue,
    tls: bool,
}

impl Origin {
    /// The origin of a URL with a scheme and a host.
    pub fn new(url: &Uri) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("base_url must begin with http:// or https://".into()),
        };
        let authority = url.authority().filter(|a| !a.host().is_empty()).ok_or("base_url has no host")?;
        if authority.as_str().contains('@') {
            return Err("base_url must not hold a user name or password".into());
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?;
        let mut parts = url.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(parts).map_err(|e| e.to_string())?;
        Ok(Origin { id: NEXT.fetch_add(1, Ordering::Relaxed), uri, host, tls })
    }
}

/// Connections to providers, pooled by origin and shared by nothing but one worker.
#[derive(Clone, Default)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connector: Connector,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    by_origin: HashMap<u64, Pool, foldhash::fast::RandomState>,
    sweeping: bool,
}

#[derive(Default)]
struct Pool {
    /// The most recently used last.
    idle: Vec<(Http1, Instant)>,
    h2: Vec<SharedH2>,
}

#[derive(Clone)]
struct SharedH2 {
    sender: http2::SendRequest<Full<Bytes>>,
    requests: Arc<AtomicU32>,
}

/// What keeps the connection of an answer: until the body was read, or dropped.
pub enum Hold {
    /// A connection of our own.
    Http1(Lease),
    /// One of several requests on a connection.
    Http2(H2Request),
}

/// One request among those of an HTTP/2 connection.
pub struct H2Request(Arc<AtomicU32>);

impl Drop for H2Request {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// Sends a request and waits for the head of the answer. Its URI is a path; scheme and host are the
    /// origin's.
    pub async fn send(
        &self,
        origin: &Origin,
        mut request: Request<Full<Bytes>>,
        connect_timeout: Duration,
    ) -> Result<(Response<Incoming>, Hold), SendError> {
        // A pooled connection may have been closed by the other side a moment ago: when it was, before it
        // took anything of the request, the next one is tried, and at last a new one.
        while let Some(found) = self.shared.take(origin.id) {
            match self.over(origin, found, request).await {
                Err(Unsent { request: Some(unsent), .. }) => request = unsent,
                other => return other.map_err(|unsent| unsent.error),
            }
        }
        // Boxed, as is what follows for HTTP/2: handshakes are large futures, and would make every request's one
        // as large.
        let opened = Box::pin(self.shared.connector.open(origin, connect_timeout)).await?;
        if let Opened::Http2(h2) = &opened {
            self.shared.keep_h2(origin.id, h2.clone());
        }
        self.over(origin, opened, request).await.map_err(|unsent| unsent.error)
    }

    async fn over(
        &self,
        origin: &Origin,
        connection: Opened,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Hold), Unsent> {
        match connection {
            Opened::Http1(connection) => self.over_http1(origin, connection, request).await,
            Opened::Http2(shared) => Box::pin(over_http2(origin, shared, request)).await,
        }
    }

    async fn over_http1(
        &self,
        origin: &Origin,
        connection: Http1,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Hold), Unsent> {
        request.headers_mut().insert(HOST, origin.host.clone());
        let (response, connection) = connection.exchange(request).await?;
        let lease = Lease::new(connection, Arc::clone(&self.shared), origin.id);
        Ok((response, Hold::Http1(lease)))
    }
}

async fn over_http2(
    origin: &Origin,
    shared: SharedH2,
    mut request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Hold), Unsent> {
    let SharedH2 { mut sender, requests } = shared;
    if let Err(error) = sender.ready().await {
        return Err(Unsent { error: SendError::Broken(root_cause(&error)), request: Some(request) });
    }
    // Here the URI has scheme and authority, and there is no `Host`.
    request.headers_mut().remove(HOST);
    let path = request.uri().path_and_query().cloned();
    let mut parts = origin.uri.clone().into_parts();
    parts.path_and_query.clone_from(&path);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    requests.fetch_add(1, Ordering::Relaxed);
    let hold = H2Request(requests);
    match sender.try_send_request(request).await {
        Ok(response) => Ok((response, Hold::Http2(hold))),
        Err(mut unsent) => {
            let request = unsent.take_message().map(|mut request| {
                *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
                *request.version_mut() = Version::HTTP_11;
                request
            });
            Err(Unsent { error: SendError::Broken(root_cause(unsent.error())), request })
        }
    }
}

/// A request that brought no answer; the request itself when nothing of it was sent.
struct Unsent {
    error: SendError,
    request: Option<Request<Full<Bytes>>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that can be used now.
    fn take(&self, origin: u64) -> Option<Opened> {
        let mut pools = self.lock();
        let pool = pools.by_origin.get_mut(&origin)?;
        pool.h2.retain(|h2| !h2.sender.is_closed());
        let room = |h2: &&SharedH2| h2.requests.load(Ordering::Relaxed) < MAX_H2_REQUESTS;
        if let Some(h2) = pool.h2.iter().find(room) {
            return Some(Opened::Http2(h2.clone()));
        }
        // The most recently used: the others may grow old and go.
        let (connection, since) = pool.idle.pop()?;
        (since.elapsed() < IDLE).then_some(Opened::Http1(connection))
    }

    fn keep_h2(&self, origin: u64, h2: SharedH2) {
        self.lock().by_origin.entry(origin).or_default().h2.push(h2);
    }

    fn give_back(self: &Arc<Self>, origin: u64, connection: Http1) {
        let mut pools = self.lock();
        let pool = pools.by_origin.entry(origin).or_default();
        if pool.idle.len() < MAX_IDLE {
            pool.idle.push((connection, Instant::now()));
        }
        if !pools.sweeping {
            // Outside of a runtime we are being torn down.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                pools.sweeping = true;
                runtime.spawn(sweep(Arc::downgrade(self)));
            }
        }
    }
}

/// Closes what was unused for too long, for as long as there is anything in the pools.
async fn sweep(shared: std::sync::Weak<Shared>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut pools = shared.lock();
        for pool in pools.by_origin.values_mut() {
            pool.idle.retain(|(_, since)| since.elapsed() < IDLE);
            pool.h2.retain(|h2| !h2.sender.is_closed());
        }
        pools.by_origin.retain(|_, pool| !pool.idle.is_empty() || !pool.h2.is_empty());
        if pools.by_origin.is_empty() {
            pools.sweeping = false;
            return;
        }
    }
}

/// The innermost error's text: "connection refused" says more than "client error (Connect)".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
