//! Events over PostgreSQL's `LISTEN` and `NOTIFY`: one channel for all topics of an installation, the topic
//! before the first line break.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base::seams::{Backend, Event, Events, SeamError, Subscription, check_event};
use sqlx::postgres::PgListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use crate::db::{Db, Engine};
use crate::queue::seam_error;

/// How many events wait for a slow subscriber before it misses some.
const BACKLOG: usize = 1_024;
/// The most topics that are listened to.
const MAX_TOPICS: usize = 10_000;
/// How long is waited before connecting again, growing from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How often the connection is tried, so that one that died silently is noticed; and for how long.
const TRIED_EVERY: Duration = Duration::from_secs(5);
/// How long a new subscriber waits for the server to know of us.
const SUBSCRIBING: Duration = Duration::from_secs(5);

/// Events over the PostgreSQL that is the database.
#[derive(Debug)]
pub struct PostgresEvents {
    db: Db,
    channel: String,
    topics: Topics,
    /// Whether the server knows of us.
    listening: watch::Receiver<bool>,
    task: AbortHandle,
}

impl PostgresEvents {
    /// Listens, and goes on trying while the database cannot be reached. `prefix` keeps installations apart that
    /// share a database. Another database than PostgreSQL is [`SeamError::Invalid`].
    pub fn new(db: Db, prefix: &str) -> Result<Self, SeamError> {
        if db.engine() != Engine::Postgres {
            return Err(SeamError::Invalid(
                "data.events: `store` needs PostgreSQL; with SQLite there is one process, and `local` is enough".into(),
            ));
        }
        let channel = format!("{prefix}_events");
        // PostgreSQL cuts longer names, and would then hear nothing.
        if channel.len() > 63 || channel.contains('\0') {
            return Err(SeamError::Invalid("data.events.prefix: at most 56 bytes with PostgreSQL".into()));
        }
        let topics = Topics::default();
        let (say, listening) = watch::channel(false);
        let task = tokio::spawn(listen(db.clone(), channel.clone(), topics.clone(), say)).abort_handle();
        Ok(PostgresEvents { db, channel, topics, listening, task })
    }
}

impl Drop for PostgresEvents {
    fn drop(&mut self) {
        self.task.abort();
        self.topics.with(HashMap::clear);
    }
}

async fn listen(db: Db, channel: String, topics: Topics, listening: watch::Sender<bool>) {
    let (mut wait, mut before) = (BACKOFF.0, false);
    loop {
        match subscribed(&db, &channel, &topics, &listening, before).await {
            Ok(()) => wait = BACKOFF.0,
            Err(error) => tracing::warn!(%error, "events over PostgreSQL: cannot listen, trying again"),
        }
        before |= *listening.borrow();
        listening.send_replace(false);
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Listens until the connection ends.
async fn subscribed(
    db: &Db,
    channel: &str,
    topics: &Topics,
    listening: &watch::Sender<bool>,
    before: bool,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect(db.url()).await?;
    // It would connect again by itself without saying so.
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    listening.send_replace(true);
    if before {
        topics.missed();
        tracing::info!("events over PostgreSQL: listening again");
    }
    loop {
        match tokio::time::timeout(TRIED_EVERY, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                if let Some((topic, payload)) = notification.payload().split_once('\n') {
                    topics.publish(topic, payload);
                }
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let tried = sqlx::query("SELECT 1").execute(&mut listener);
                match tokio::time::timeout(TRIED_EVERY, tried).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}

#[async_trait]
impl Backend for PostgresEvents {
    fn backend(&self) -> &'static str {
        Engine::Postgres.as_str()
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.db.ping().await.map_err(|error| seam_error(Engine::Postgres, &error))?;
        if *self.listening.borrow() {
            return Ok(());
        }
        let reason = "not listening for events yet".to_owned();
        Err(SeamError::Unavailable { backend: Engine::Postgres.as_str(), reason })
    }
}

#[async_trait]
impl Events for PostgresEvents {
    async fn publish(&self, topic: &str, payload: &str) -> Result<(), SeamError> {
        check_event(topic, payload)?;
        // Its answer is nothing at all, which the driver for any database cannot read; text it can.
        let query = sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)");
        let sent = query
            .bind(self.channel.as_str())
            .bind(format!("{topic}\n{payload}"))
            .execute(self.db.write())
            .await;
        sent.map(drop).map_err(|error| seam_error(Engine::Postgres, &error.into()))
    }

    async fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscription>, SeamError> {
        let subscription = self.topics.subscribe(topic)?;
        // What is published from now on must be heard, so the server must know of us. Should that take too long,
        // it listens later, and says `Missed` if it has listened before.
        let mut listening = self.listening.clone();
        drop(tokio::time::timeout(SUBSCRIBING, listening.wait_for(|listening| *listening)).await);
        Ok(subscription)
    }
}

/// The subscribers within this process, by topic. `bus` has the like for its own events; neither crate may know
/// the other, and `base` stays free of tokio.
#[derive(Clone, Debug, Default)]
struct Topics(Arc<Mutex<HashMap<String, broadcast::Sender<Event>>>>);

struct Listener(broadcast::Receiver<Event>);

#[async_trait]
impl Subscription for Listener {
    async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(_)) => Some(Event::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Topics {
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscription>, SeamError> {
        check_event(topic, "")?;
        self.with(|topics| {
            if !topics.contains_key(topic) && topics.len() >= MAX_TOPICS {
                topics.retain(|_, sender| sender.receiver_count() > 0);
                if topics.len() >= MAX_TOPICS {
                    return Err(SeamError::Invalid(format!("more than {MAX_TOPICS} topics are listened to")));
                }
            }
            let sender = topics.entry(topic.to_owned()).or_insert_with(|| broadcast::channel(BACKLOG).0);
            Ok(Box::new(Listener(sender.subscribe())) as Box<dyn Subscription>)
        })
    }

    fn publish(&self, topic: &str, payload: &str) {
        self.with(|topics| {
            if topics
                .get(topic)
                .is_some_and(|sender| sender.send(Event::Published(payload.to_owned())).is_err())
            {
                topics.remove(topic);
            }
        });
    }

    fn missed(&self) {
        self.with(|topics| topics.retain(|_, sender| sender.send(Event::Missed).is_ok()));
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, broadcast::Sender<Event>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{on_postgres, on_sqlite, replica};

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        on_postgres(|db| async move {
            let (here, there) = (
                PostgresEvents::new(db.clone(), "t").unwrap(),
                PostgresEvents::new(replica(&db).await, "t").unwrap(),
            );
            bus::conformance::events(&here, &there, "run").await.unwrap();
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sqlite_has_none() {
        on_sqlite(|db| async move {
            assert!(matches!(PostgresEvents::new(db, "t"), Err(SeamError::Invalid(_))));
        })
        .await;
    }

    /// Mutations: without `topics.missed()` the gap is not reported; with `eager_reconnect` neither.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_gap_is_reported_and_then_it_goes_on() {
        on_postgres(|db| async move {
            let events = PostgresEvents::new(db.clone(), "t").unwrap();
            let mut subscription = events.subscribe("topic").await.unwrap();
            let end = "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity \
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'";
            sqlx::query(end).execute(db.write()).await.unwrap();
            let event = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap();
            assert_eq!(event, Some(Event::Missed));
            events.publish("topic", "after").await.unwrap();
            assert_eq!(subscription.next().await, Some(Event::Published("after".into())));
            events.ping().await.unwrap();
        })
        .await;
    }
}
