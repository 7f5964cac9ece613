//! Events over Redis' publish and subscribe. Each process has one subscription to all topics of an
//! installation; a topic is the rest of the channel's name.

use std::time::Duration;

use async_trait::async_trait;
use base::seams::{Backend, Events, SeamError, Subscription, check_event};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::hub::Hub;
use super::{BACKOFF, back_off};
use crate::redis::{REDIS, Redis};

/// How often the subscription is tried, so that a connection that died silently is noticed.
const TRIED_EVERY: Duration = Duration::from_secs(5);

/// Events over a Redis.
pub struct RedisEvents {
    redis: Redis,
    hub: Hub,
    prefix: String,
    /// Whether the subscription stands.
    listening: watch::Receiver<bool>,
    task: AbortHandle,
}

impl RedisEvents {
    /// Listens, and goes on trying while the server cannot be reached.
    pub fn new(redis: Redis, prefix: &str) -> Self {
        let (hub, prefix) = (Hub::default(), format!("{prefix}:events:"));
        let (say, listening) = watch::channel(false);
        let task = tokio::spawn(listen(redis.clone(), hub.clone(), prefix.clone(), say));
        RedisEvents { redis, hub, prefix, listening, task: task.abort_handle() }
    }
}

impl Drop for RedisEvents {
    fn drop(&mut self) {
        self.task.abort();
        self.hub.close();
    }
}

async fn listen(redis: Redis, hub: Hub, prefix: String, listening: watch::Sender<bool>) {
    let (mut wait, mut before) = (BACKOFF.0, false);
    loop {
        match subscribed(&redis, &hub, &prefix, &listening, before).await {
            Ok(()) => wait = BACKOFF.0,
            Err(error) => tracing::warn!(%error, "events over Redis: cannot listen, trying again"),
        }
        before |= *listening.borrow();
        listening.send_replace(false);
        back_off(&mut wait).await;
    }
}

/// Listens until the connection ends.
async fn subscribed(
    redis: &Redis,
    hub: &Hub,
    prefix: &str,
    listening: &watch::Sender<bool>,
    before: bool,
) -> Result<(), SeamError> {
    let failed =
        |error: &redis::RedisError| crate::redis::seam_error(error, redis.options().response_timeout);
    let (mut sink, mut stream) = redis.subscriber().await?.split();
    sink.psubscribe(format!("{}*", glob_escaped(prefix))).await.map_err(|error| failed(&error))?;
    listening.send_replace(true);
    if before {
        hub.missed();
        tracing::info!("events over Redis: listening again");
    }
    let mut tick = tokio::time::interval(TRIED_EVERY);
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return Ok(()) };
                let Some(topic) = message.get_channel_name().strip_prefix(prefix) else { continue };
                match std::str::from_utf8(message.get_payload_bytes()) {
                    Ok(payload) => hub.publish(topic, payload),
                    Err(_) => tracing::warn!(topic, "events over Redis: an event that is not text was left out"),
                }
            }
            _ = tick.tick() => {
                let tried = tokio::time::timeout(redis.options().response_timeout, sink.ping::<redis::Value>()).await;
                if !matches!(tried, Ok(Ok(_))) {
                    return Ok(());
                }
            }
        }
    }
}

/// The prefix as a pattern that means itself.
fn glob_escaped(text: &str) -> String {
    text.chars().flat_map(|c| "*?[]^\\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[async_trait]
impl Backend for RedisEvents {
    fn backend(&self) -> &'static str {
        REDIS
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.redis.ping().await?;
        if *self.listening.borrow() {
            return Ok(());
        }
        Err(SeamError::Unavailable { backend: REDIS, reason: "not listening for events yet".into() })
    }
}

#[async_trait]
impl Events for RedisEvents {
    async fn publish(&self, topic: &str, payload: &str) -> Result<(), SeamError> {
        check_event(topic, payload)?;
        let mut command = redis::cmd("PUBLISH");
        command.arg(format!("{}{topic}", self.prefix)).arg(payload);
        self.redis.run("publish", &command).await
    }

    async fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscription>, SeamError> {
        let subscription = self.hub.subscribe(topic)?;
        // What is published from now on must be heard, so the server must know of us.
        let limit = self.redis.options().connect_timeout;
        let mut listening = self.listening.clone();
        match tokio::time::timeout(limit, listening.wait_for(|listening| *listening)).await {
            Ok(Ok(_)) => Ok(subscription),
            // It listens later, and says `Missed` then.
            _ => Ok(subscription),
        }
    }
}

#[cfg(test)]
mod tests {
    use base::seams::Event;

    use super::*;
    use crate::settings::RedisSettings;
    use crate::testing::{PrivateRedis, REDIS_URL, redis, there_is, unique, until};

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        if !there_is("Redis", 6379) {
            return;
        }
        let prefix = unique("events*[x]");
        let connect =
            || async { RedisEvents::new(redis(REDIS_URL, RedisSettings::default()).await, &prefix) };
        let (here, there) = (connect().await, connect().await);
        crate::conformance::events(&here, &there, "run").await.unwrap();
    }

    /// Mutation: without `hub.missed()` the subscriber never learns of the gap.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_gap_is_reported_and_then_it_goes_on() {
        let mut server = PrivateRedis::start(&[]);
        let events = RedisEvents::new(redis(&server.url(), RedisSettings::default()).await, "p");
        let mut subscription = events.subscribe("t").await.unwrap();
        events.publish("t", "before").await.unwrap();
        assert_eq!(subscription.next().await, Some(Event::Published("before".into())));
        server.stop();
        until("it is noticed", || async { events.ping().await.is_err() }).await;
        server.resume();
        until("it listens again", || async { events.ping().await.is_ok() }).await;
        events.publish("t", "after").await.unwrap();
        assert_eq!(subscription.next().await, Some(Event::Missed));
        assert_eq!(subscription.next().await, Some(Event::Published("after".into())));
        drop(events);
        assert_eq!(subscription.next().await, None);
    }
}
