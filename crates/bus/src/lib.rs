//! Cache, Queue, Events, Blobs: the seams of `base` on memory, local files, Redis, RabbitMQ and object stores.
//! One file per backend. Those on the database are in `store`.

pub mod blobs;
pub mod cache;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod events;
mod metrics;
pub mod queue;
mod rabbitmq;
mod redis;
pub mod settings;
#[cfg(test)]
mod testing;
mod time;
pub mod vcons;
pub mod windows;

pub use crate::rabbitmq::Rabbitmq;
pub use crate::redis::{Redis, RedisOptions};
pub use metrics::BusMetrics;
