//! The connections to a RabbitMQ server: so many from the start, more as channels come, never more than the
//! settings allow; one that ends is replaced.

#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use base::seams::SeamError;
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{FieldTable, LongString};
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, DefaultConnectionBuilder, ErrorKind};
use tokio::sync::Mutex;

use crate::metrics::BusMetrics;
use crate::settings::{Address, RabbitmqSettings};

/// Its name in errors.
pub(crate) const RABBITMQ: &str = "rabbitmq";
/// A further connection is opened when each carries so many channels.
const CHANNELS_PER_CONNECTION: usize = 4;
/// How often lost connections are looked for.
const KEPT_EVERY: Duration = Duration::from_secs(1);

/// A RabbitMQ server. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Rabbitmq {
    inner: Arc<Inner>,
}

struct Inner {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    settings: RabbitmqSettings,
    metrics: BusMetrics,
    links: Mutex<Vec<Link>>,
}

/// A connection and its users.
struct Link {
    connection: Connection,
    users: Arc<()>,
}

/// A channel that counts as a user of its connection.
pub(crate) struct Lease {
    pub(crate) channel: Channel,
    _user: Arc<()>,
}

impl Rabbitmq {
    /// Reads the settings, and the address if it is a URL of its own. The first use connects, and a task keeps
    /// the fewest connections open from then on. Runs on the runtime it is called from.
    pub fn open(
        address: &Address,
        settings: &RabbitmqSettings,
        metrics: &BusMetrics,
    ) -> Result<Self, SeamError> {
        let mut uri = uri(address, settings)?;
        // Only whole seconds can be asked for.
        let heartbeat = settings.requested_heartbeat.0.as_millis().div_ceil(1_000);
        uri.query.heartbeat = Some(u16::try_from(heartbeat).unwrap_or(u16::MAX));
        let cert_chain = match &settings.ca_file {
            None => None,
            Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
                SeamError::Invalid(format!(
                    "data.rabbitmq.ca_file: {} cannot be read: {error}",
                    file.display()
                ))
            })?),
        };
        if uri.scheme == AMQPScheme::AMQPS {
            // The client takes the process' provider; a second call changes nothing.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        if settings.timeout.0.is_zero() {
            return Err(SeamError::Invalid("data.rabbitmq.timeout must be more than 0".into()));
        }
        let inner = Arc::new(Inner {
            uri,
            tls: OwnedTLSConfig { identity: None, cert_chain },
            settings: settings.clone(),
            metrics: metrics.clone(),
            links: Mutex::default(),
        });
        tokio::spawn(keep(Arc::downgrade(&inner)));
        Ok(Rabbitmq { inner })
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), SeamError> {
        let lease = self.channel().await?;
        self.within(lease.channel.close(200, "".into())).await
    }

    pub(crate) fn settings(&self) -> &RabbitmqSettings {
        &self.inner.settings
    }

    pub(crate) fn metrics(&self) -> &BusMetrics {
        &self.inner.metrics
    }

    /// A new channel on the connection with the fewest.
    pub(crate) async fn channel(&self) -> Result<Lease, SeamError> {
        let mut links = self.inner.links.lock().await;
        self.inner.prune(&mut links);
        let (least, most) = self.inner.bounds();
        let idle = links.iter().map(Link::users).min().unwrap_or(usize::MAX);
        if links.len() < least || (links.len() < most && idle >= CHANNELS_PER_CONNECTION) {
            match self.inner.connect().await {
                Ok(link) => links.push(link),
                Err(error) if links.is_empty() => return Err(error),
                // Another one more is a comfort, not a need.
                Err(error) => tracing::warn!(%error, "no further connection to RabbitMQ can be made"),
            }
        }
        let link = links.iter().min_by_key(|link| link.users());
        let link =
            link.ok_or(SeamError::Unavailable { backend: RABBITMQ, reason: "not connected".into() })?;
        let channel = self.within(link.connection.create_channel()).await?;
        Ok(Lease { channel, _user: Arc::clone(&link.users) })
    }

    /// A channel to publish on, with confirmations if the settings want them.
    pub(crate) async fn publisher(&self) -> Result<Lease, SeamError> {
        let lease = self.channel().await?;
        if self.inner.settings.publisher_confirmation {
            self.within(lease.channel.confirm_select(ConfirmSelectOptions::default())).await?;
        }
        Ok(lease)
    }

    /// How many messages of a queue are ready; `None` if there is no such queue. Asked on a channel of its own,
    /// because asking for what is not there ends the channel.
    pub(crate) async fn ready(&self, queue: &str) -> Result<Option<u32>, SeamError> {
        let lease = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = lease.channel.queue_declare(queue.into(), options, FieldTable::default());
        match tokio::time::timeout(self.inner.settings.timeout.0, declared).await {
            Ok(Ok(found)) => {
                drop(self.within(lease.channel.close(200, "".into())).await);
                Ok(Some(found.message_count()))
            }
            Ok(Err(error)) if reply_code(&error) == Some(404) => Ok(None),
            Ok(Err(error)) => Err(seam_error(&error)),
            Err(_) => Err(self.late()),
        }
    }

    /// What the server answers, if it does in time.
    pub(crate) async fn within<T>(
        &self,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, SeamError> {
        match tokio::time::timeout(self.inner.settings.timeout.0, answer).await {
            Ok(answer) => answer.map_err(|error| seam_error(&error)),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> SeamError {
        SeamError::TimedOut { backend: RABBITMQ, after: self.inner.settings.timeout.0 }
    }

    /// Closes every connection; the server gives what was under way to others.
    pub async fn close(&self) {
        for link in self.inner.links.lock().await.drain(..) {
            drop(self.within(link.connection.close(200, "shutting down".into())).await);
        }
    }
}

impl Link {
    fn users(&self) -> usize {
        Arc::strong_count(&self.users) - 1
    }
}

impl Inner {
    fn bounds(&self) -> (usize, usize) {
        let most = usize::from(self.settings.max_connections.max(1));
        (usize::from(self.settings.min_connections.max(1)).min(most), most)
    }

    fn prune(&self, links: &mut Vec<Link>) {
        links.retain(|link| link.connection.status().connected());
    }

    async fn connect(&self) -> Result<Link, SeamError> {
        let timeout = self.settings.timeout.0;
        let properties = ConnectionProperties::default().with_connection_name(LongString::from("trunkline"));
        let builder = DefaultConnectionBuilder::new().map_err(|error| seam_error(&error))?;
        let builder =
            builder.with_uri(self.uri.clone()).with_properties(properties).with_tls_config(self.tls.clone());
        match tokio::time::timeout(timeout, builder.connect()).await {
            Ok(Ok(connection)) => Ok(Link { connection, users: Arc::new(()) }),
            Ok(Err(error)) => Err(seam_error(&error)),
            Err(_) => Err(SeamError::TimedOut { backend: RABBITMQ, after: timeout }),
        }
    }
}

/// Keeps the fewest connections open until nobody needs them.
async fn keep(inner: Weak<Inner>) {
    let mut failing = false;
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            let mut links = inner.links.lock().await;
            inner.prune(&mut links);
            while links.len() < inner.bounds().0 {
                match inner.connect().await {
                    Ok(link) => {
                        links.push(link);
                        failing = false;
                    }
                    Err(error) => {
                        if !failing {
                            tracing::warn!(%error, "no connection to RabbitMQ, trying on");
                        }
                        failing = true;
                        break;
                    }
                }
            }
        }
        tokio::time::sleep(KEPT_EVERY.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}

fn uri(address: &Address, settings: &RabbitmqSettings) -> Result<AMQPUri, SeamError> {
    let given = Some(address).filter(|address| address.expose().contains("://")).or(settings.url.as_ref());
    if let Some(address) = given {
        let text = address.expose();
        if !text.starts_with("amqp://") && !text.starts_with("amqps://") {
            return Err(SeamError::Invalid(
                "a RabbitMQ URL begins with `amqp://`, or with `amqps://` for TLS".into(),
            ));
        }
        let mut uri: AMQPUri = text.parse().map_err(|_| {
            SeamError::Invalid(
                "not a RabbitMQ URL: write `amqp://user:password@host:port/vhost`, special characters as `%XX`".into(),
            )
        })?;
        // `amqp://host/` is how people write the default.
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        return Ok(uri);
    }
    let host = settings.host.clone().ok_or_else(|| {
        SeamError::Invalid(
            "data.rabbitmq: name the server by `host` or `url`, or write its URL in place of `rabbitmq`"
                .into(),
        )
    })?;
    let userinfo =
        AMQPUserInfo { username: settings.username.clone(), password: settings.password.expose().to_owned() };
    Ok(AMQPUri {
        authority: AMQPAuthority { userinfo, host, port: settings.port },
        vhost: settings.vhost.clone(),
        ..AMQPUri::default()
    })
}

/// The code with which the server refused.
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

pub(crate) fn seam_error(error: &lapin::Error) -> SeamError {
    match error.kind() {
        ErrorKind::ProtocolError(said) if !matches!(said.get_id(), 320 | 541) => {
            SeamError::Refused { backend: RABBITMQ, reason: said.to_string() }
        }
        _ => SeamError::Unavailable { backend: RABBITMQ, reason: error.to_string() },
    }
}
