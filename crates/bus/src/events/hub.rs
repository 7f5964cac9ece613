//! Hands events to the subscribers within this process. Each backend feeds one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base::seams::{Event, SeamError, Subscription};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// How many events wait for a slow subscriber before it misses some.
const BACKLOG: usize = 1_024;
/// The most topics that are listened to.
const MAX_TOPICS: usize = 10_000;

/// The subscribers by topic. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Hub {
    topics: Arc<Mutex<HashMap<String, Sender<Event>>>>,
}

/// One subscriber.
struct Listener(Receiver<Event>);

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

impl Hub {
    pub(super) fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscription>, SeamError> {
        base::seams::check_event(topic, "")?;
        self.with(|topics| {
            if !topics.contains_key(topic) && topics.len() >= MAX_TOPICS {
                topics.retain(|_, sender| sender.receiver_count() > 0);
                if topics.len() >= MAX_TOPICS {
                    return Err(SeamError::Invalid(format!("more than {MAX_TOPICS} topics are listened to")));
                }
            }
            let sender = topics.entry(topic.to_owned()).or_insert_with(|| channel(BACKLOG).0);
            Ok(Box::new(Listener(sender.subscribe())) as Box<dyn Subscription>)
        })
    }

    /// Hands on an event; nobody may be listening.
    pub(super) fn publish(&self, topic: &str, payload: &str) {
        self.with(|topics| {
            let Some(sender) = topics.get(topic) else { return };
            if sender.send(Event::Published(payload.to_owned())).is_err() {
                topics.remove(topic);
            }
        });
    }

    /// Tells every subscriber that some were lost.
    pub(super) fn missed(&self) {
        self.with(|topics| topics.retain(|_, sender| sender.send(Event::Missed).is_ok()));
    }

    /// Ends every subscription.
    pub(super) fn close(&self) {
        self.with(HashMap::clear);
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Sender<Event>>) -> T) -> T {
        act(&mut self.topics.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
