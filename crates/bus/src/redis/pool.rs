//! The connections to one Redis. Never more than the pool's size; those without work for a while are closed;
//! one that fails is dropped, and the next command makes a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use base::seams::SeamError;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, Pipeline, RedisError, RedisFuture,
    TlsCertificates, Value,
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::options::RedisOptions;
use super::{REDIS, seam_error};

/// After so long without use a connection is tried before it is relied on: the server may have gone since.
const TRIED_AFTER: Duration = Duration::from_millis(500);

pub(super) struct Pool {
    options: RedisOptions,
    clients: Vec<Client>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Known once a server was reached.
    cluster: OnceCell<bool>,
    nodes: tokio::sync::Mutex<Option<ClusterConnection>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection, the same to a server and to a cluster.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A connection taken out of the pool. Dropped without [`Pooled::give_back`] it is closed: somebody may have
/// stopped waiting for an answer that is still to come.
pub(super) struct Pooled {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Pooled {
    pub(super) fn get(&mut self) -> Result<&mut Connection, SeamError> {
        self.connection.as_mut().ok_or(SeamError::Unavailable { backend: REDIS, reason: "closed".into() })
    }

    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take()
            && matches!(connection, Connection::One(_))
            && !self.pool.permits.is_closed()
        {
            self.pool.idle().push(Idle { connection, since: Instant::now() });
        }
    }
}

impl Pool {
    pub(super) fn new(options: RedisOptions) -> Result<Arc<Self>, SeamError> {
        if options.tls() {
            // Redis' client takes the process' provider; a second call changes nothing.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let client = |info: &redis::ConnectionInfo| {
            let client = match (&options.ca, info.addr()) {
                (Some(ca), ConnectionAddr::TcpTls { .. }) => {
                    let certificates = TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                    Client::build_with_tls(info.clone(), certificates)
                }
                _ => Client::open(info.clone()),
            };
            client.map_err(|error| SeamError::Invalid(format!("the settings of Redis: {error}")))
        };
        let pool = Arc::new(Pool {
            clients: options.nodes.iter().map(client).collect::<Result<_, _>>()?,
            permits: Arc::new(Semaphore::new(options.pool_size)),
            idle: Mutex::default(),
            cluster: OnceCell::new(),
            nodes: tokio::sync::Mutex::default(),
            options,
        });
        tokio::spawn(close_idle(Arc::downgrade(&pool), pool.options.idle_timeout));
        Ok(pool)
    }

    pub(super) async fn acquire(self: Arc<Self>) -> Result<Pooled, SeamError> {
        let limit = self.options.connect_timeout;
        let closed = || SeamError::Unavailable { backend: REDIS, reason: "we are shutting down".into() };
        let permit = match tokio::time::timeout(limit, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| closed())?,
            Err(_) => {
                return Err(SeamError::Unavailable {
                    backend: REDIS,
                    reason: format!(
                        "all {} connections of the pool were busy for {} ms",
                        self.options.pool_size,
                        limit.as_millis()
                    ),
                });
            }
        };
        let connection = Some(self.connection().await?);
        Ok(Pooled { connection, pool: self, _permit: permit })
    }

    pub(super) async fn is_cluster(&self) -> Result<bool, SeamError> {
        if let Some(known) = self.cluster.get() {
            return Ok(*known);
        }
        let found = self.cluster.get_or_try_init(|| async {
            let mut connection = self.connect_any().await?;
            let mut command = redis::cmd("INFO");
            command.arg("cluster");
            let info: String =
                command.query_async(&mut connection).await.map_err(|error| self.error(&error))?;
            Ok::<_, SeamError>(super::field(&info, "cluster_enabled").as_deref() == Some("1"))
        });
        found.await.copied()
    }

    pub(super) async fn subscriber(&self) -> Result<PubSub, SeamError> {
        let mut last = self.unreachable("no address");
        for client in &self.clients {
            match tokio::time::timeout(self.options.connect_timeout, client.get_async_pubsub()).await {
                Ok(Ok(subscriber)) => return Ok(subscriber),
                Ok(Err(error)) => last = self.error(&error),
                Err(_) => last = self.unreachable("connecting took too long"),
            }
        }
        Err(last)
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    /// One that is idle and alive, else a new one.
    async fn connection(&self) -> Result<Connection, SeamError> {
        if self.is_cluster().await? {
            return self.node().await.map(Connection::Cluster);
        }
        loop {
            let Some(Idle { mut connection, since }) = self.idle().pop() else { break };
            if since.elapsed() >= self.options.idle_timeout {
                continue;
            }
            if since.elapsed() < TRIED_AFTER || redis::cmd("PING").exec_async(&mut connection).await.is_ok() {
                return Ok(connection);
            }
        }
        let mut connection = self.connect_any().await?;
        if self.options.database != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(self.options.database);
            select.exec_async(&mut connection).await.map_err(|error| self.error(&error))?;
        }
        Ok(Connection::One(connection))
    }

    async fn connect_any(&self) -> Result<MultiplexedConnection, SeamError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout));
        let mut last = self.unreachable("no address");
        for client in &self.clients {
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            match tokio::time::timeout(self.options.connect_timeout, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) if answered(&error) => last = self.error(&error),
                Ok(Err(error)) => last = self.unreachable(&error.to_string()),
                Err(_) => last = self.unreachable("connecting took too long"),
            }
        }
        Err(last)
    }

    /// The connections to a cluster's nodes: one each, shared, mended by the library itself.
    async fn node(&self) -> Result<ClusterConnection, SeamError> {
        let mut nodes = self.nodes.lock().await;
        if let Some(connection) = &*nodes {
            return Ok(connection.clone());
        }
        let mut builder = ClusterClient::builder(self.options.nodes.clone())
            .connection_timeout(self.options.connect_timeout)
            .response_timeout(self.options.response_timeout)
            .retries(3);
        if let Some(ca) = &self.options.ca {
            builder = builder.certs(TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) });
        }
        let client = builder.build().map_err(|error| self.error(&error))?;
        let connecting = tokio::time::timeout(self.options.connect_timeout, client.get_async_connection());
        let connection = match connecting.await {
            Ok(connection) => connection.map_err(|error| self.unreachable(&error.to_string()))?,
            Err(_) => return Err(self.unreachable("connecting took too long")),
        };
        *nodes = Some(connection.clone());
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, error: &RedisError) -> SeamError {
        seam_error(error, self.options.response_timeout)
    }

    fn unreachable(&self, reason: &str) -> SeamError {
        SeamError::Unavailable { backend: REDIS, reason: reason.to_owned() }
    }
}

/// Whether it was the server that refused, and not that there is none.
fn answered(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::Server(_)) || error.code().is_some()
}

/// Closes connections that have had no work for `timeout`, until the pool is gone.
async fn close_idle(pool: Weak<Pool>, timeout: Duration) {
    let every = (timeout / 4).clamp(Duration::from_millis(20), Duration::from_secs(5));
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.idle().retain(|idle| idle.since.elapsed() < timeout);
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(connection) => connection.req_packed_command(command),
            Connection::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(connection) => connection.req_packed_commands(commands, offset, count),
            Connection::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}
