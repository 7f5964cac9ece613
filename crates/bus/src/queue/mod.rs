//! [`Queue`](base::seams::Queue) in memory, on Redis and on RabbitMQ. The one on the database is in `store`.

mod ledger;
mod memory;
mod rabbitmq;
mod redis;

use base::seams::{MAX_BATCH, Message, SeamError};

pub use self::memory::MemoryQueue;
pub use self::rabbitmq::RabbitmqQueue;
pub use self::redis::RedisQueue;
pub use ledger::RedisLedger;

/// What is kept as the reason of an attempt that ended with its lease.
pub(crate) const LEASE_ENDED: &str = "the lease ended before the work was done";

/// A name that no other message has.
pub(crate) fn new_id() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

fn check_queue(queue: &str) -> Result<(), SeamError> {
    SeamError::check_name("the name of a queue", queue)
}

fn check_push(queue: &str, messages: &[Message]) -> Result<(), SeamError> {
    check_queue(queue)?;
    if messages.len() > MAX_BATCH {
        return Err(SeamError::Invalid(format!("at most {MAX_BATCH} messages are pushed at once")));
    }
    messages.iter().try_for_each(Message::check)
}

/// How many dead letters are moved in one step.
const STEP: usize = 500;
