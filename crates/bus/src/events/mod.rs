//! [`Events`](base::seams::Events) within the process, over Redis and over RabbitMQ. Those over PostgreSQL are
//! in `store`.

mod hub;
mod local;
mod rabbitmq;
mod redis;

pub use self::redis::RedisEvents;
pub use local::LocalEvents;
pub use rabbitmq::RabbitmqEvents;

use std::time::Duration;

/// How long is waited before connecting again, growing from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The next wait, a little uneven so that replicas do not come back in step.
async fn back_off(wait: &mut Duration) {
    tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    *wait = (*wait * 2).min(BACKOFF.1);
}
