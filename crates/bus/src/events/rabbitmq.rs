//! Events over RabbitMQ: one exchange that hands everything to everybody, and for each process a queue of its
//! own that goes with it. The routing key is the topic.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::seams::{Backend, Events, SeamError, Subscription, check_event};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, ExchangeKind};
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;

use super::hub::Hub;
use super::{BACKOFF, back_off};
use crate::rabbitmq::{Lease, RABBITMQ, Rabbitmq};

/// The most events that wait at the server for one process.
const BACKLOG: i32 = 100_000;
/// How often is looked whether the channel still stands.
const TICK: Duration = Duration::from_secs(1);
/// How many of these lie between two looks at how many events wait.
const DEPTH_TICKS: u32 = 10;

/// Events over a RabbitMQ.
pub struct RabbitmqEvents {
    rabbitmq: Rabbitmq,
    hub: Hub,
    exchange: String,
    publisher: Mutex<Option<Arc<Lease>>>,
    /// Whether our queue stands.
    listening: watch::Receiver<bool>,
    task: AbortHandle,
}

impl RabbitmqEvents {
    /// Listens, and goes on trying while the server cannot be reached.
    pub fn new(rabbitmq: Rabbitmq, prefix: &str) -> Self {
        let (hub, exchange) = (Hub::default(), format!("{prefix}.events"));
        let (say, listening) = watch::channel(false);
        let task = tokio::spawn(listen(rabbitmq.clone(), hub.clone(), exchange.clone(), say));
        let task = task.abort_handle();
        RabbitmqEvents { rabbitmq, hub, exchange, publisher: Mutex::default(), listening, task }
    }

    async fn channel(&self) -> Result<Arc<Lease>, SeamError> {
        let mut publisher = self.publisher.lock().await;
        if let Some(lease) = publisher.as_ref().filter(|lease| lease.channel.status().connected()) {
            return Ok(Arc::clone(lease));
        }
        let lease = Arc::new(self.rabbitmq.publisher().await?);
        declare(&self.rabbitmq, &lease, &self.exchange).await?;
        *publisher = Some(Arc::clone(&lease));
        Ok(lease)
    }
}

impl Drop for RabbitmqEvents {
    fn drop(&mut self) {
        self.task.abort();
        self.hub.close();
    }
}

async fn declare(rabbitmq: &Rabbitmq, lease: &Lease, exchange: &str) -> Result<(), SeamError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared =
        lease.channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, options, FieldTable::default());
    rabbitmq.within(declared).await
}

async fn listen(rabbitmq: Rabbitmq, hub: Hub, exchange: String, listening: watch::Sender<bool>) {
    let (mut wait, mut before) = (BACKOFF.0, false);
    loop {
        match subscribed(&rabbitmq, &hub, &exchange, &listening, before).await {
            Ok(()) => wait = BACKOFF.0,
            Err(error) => tracing::warn!(%error, "events over RabbitMQ: cannot listen, trying again"),
        }
        before |= *listening.borrow();
        listening.send_replace(false);
        back_off(&mut wait).await;
    }
}

/// Listens until the channel ends.
async fn subscribed(
    rabbitmq: &Rabbitmq,
    hub: &Hub,
    exchange: &str,
    listening: &watch::Sender<bool>,
    before: bool,
) -> Result<(), SeamError> {
    let lease = rabbitmq.channel().await?;
    let channel = &lease.channel;
    declare(rabbitmq, &lease, exchange).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(BACKLOG));
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = rabbitmq.within(channel.queue_declare("".into(), options, arguments)).await?.name().clone();
    let bound = channel.queue_bind(
        queue.clone(),
        exchange.into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    rabbitmq.within(bound).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer = rabbitmq
        .within(channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()))
        .await?;
    let _counted = rabbitmq.metrics().consumer();
    listening.send_replace(true);
    if before {
        hub.missed();
        tracing::info!("events over RabbitMQ: listening again");
    }
    let mut tick = tokio::time::interval(TICK);
    let mut ticks: u32 = 0;
    loop {
        tokio::select! {
            sent = consumer.next() => {
                let Some(Ok(sent)) = sent else { return Ok(()) };
                match std::str::from_utf8(&sent.data) {
                    Ok(payload) => hub.publish(sent.routing_key.as_str(), payload),
                    Err(_) => tracing::warn!("events over RabbitMQ: an event that is not text was left out"),
                }
            }
            _ = tick.tick() => {
                if !channel.status().connected() {
                    return Ok(());
                }
                ticks += 1;
                if ticks % DEPTH_TICKS == 1 {
                    // The queue is this channel's own: nobody else may ask for its depth.
                    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                    let asked = channel.queue_declare(queue.clone(), passive, FieldTable::default());
                    let waiting = rabbitmq.within(asked).await?.message_count();
                    rabbitmq.metrics().rabbitmq_messages(exchange, waiting);
                }
            }
        }
    }
}

#[async_trait]
impl Backend for RabbitmqEvents {
    fn backend(&self) -> &'static str {
        RABBITMQ
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.rabbitmq.ping().await?;
        if *self.listening.borrow() {
            return Ok(());
        }
        Err(SeamError::Unavailable { backend: RABBITMQ, reason: "not listening for events yet".into() })
    }
}

#[async_trait]
impl Events for RabbitmqEvents {
    async fn publish(&self, topic: &str, payload: &str) -> Result<(), SeamError> {
        check_event(topic, payload)?;
        let lease = self.channel().await?;
        let options = BasicPublishOptions::default();
        let published = lease.channel.basic_publish(
            self.exchange.as_str().into(),
            topic.into(),
            options,
            payload.as_bytes(),
            BasicProperties::default(),
        );
        let confirm = self.rabbitmq.within(published).await?;
        match self.rabbitmq.within(confirm).await? {
            Confirmation::Nack(_) => {
                Err(SeamError::Refused { backend: RABBITMQ, reason: "an event was not taken".into() })
            }
            _ => Ok(()),
        }
    }

    async fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscription>, SeamError> {
        let subscription = self.hub.subscribe(topic)?;
        // What is published from now on must be heard, so the server must know of us. Should that take too long,
        // it listens later, and says `Missed` if it has listened before.
        let mut listening = self.listening.clone();
        let limit = self.rabbitmq.settings().timeout.0;
        drop(tokio::time::timeout(limit, listening.wait_for(|listening| *listening)).await);
        Ok(subscription)
    }
}
