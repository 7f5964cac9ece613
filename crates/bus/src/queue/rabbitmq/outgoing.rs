//! A message on its way to the server, and the queues it may go to.

use base::seams::SeamError;
use bytes::Bytes;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel};

use crate::rabbitmq::{RABBITMQ, Rabbitmq, reply_code, seam_error};

/// Headers of our messages.
pub(super) const PARTITION: &str = "trunkline-partition";
pub(super) const ENQUEUED: &str = "trunkline-enqueued-at";
pub(super) const ATTEMPTS: &str = "trunkline-attempts";

/// A message on its way to the server.
pub(super) struct Outgoing {
    pub(super) queue: String,
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) partition: Option<String>,
    pub(super) attempts: u32,
    pub(super) enqueued_at: i64,
}

/// Makes sure that a quorum queue is there.
pub(super) async fn declare(
    rabbitmq: &Rabbitmq,
    channel: &Channel,
    name: &str,
    single: bool,
) -> Result<(), SeamError> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if single {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments);
    match tokio::time::timeout(rabbitmq.settings().timeout.0, declared).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if reply_code(&error) == Some(406) => Err(SeamError::Refused {
            backend: RABBITMQ,
            reason: format!(
                "there is a queue {name} already that is not a durable quorum queue: remove it, or name another prefix in data.queue"
            ),
        }),
        Ok(Err(error)) => Err(seam_error(&error)),
        Err(_) => Err(SeamError::TimedOut { backend: RABBITMQ, after: rabbitmq.settings().timeout.0 }),
    }
}

pub(super) fn partition_name(queue: &str, n: u64) -> String {
    format!("{queue}.partition-{n}")
}

pub(super) fn properties(message: &Outgoing) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(ENQUEUED.into(), AMQPValue::LongLongInt(message.enqueued_at));
    if let Some(partition) = &message.partition {
        headers.insert(PARTITION.into(), AMQPValue::LongString(LongString::from(partition.as_str())));
    }
    if message.attempts > 0 {
        headers.insert(ATTEMPTS.into(), AMQPValue::LongUInt(message.attempts));
    }
    // 2: it survives a restart.
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(message.id.as_str().into())
        .with_headers(headers)
}
