//! Names of Redis and RabbitMQ.

use super::super::convert;
use super::super::problem::Path;
use super::super::vars::Found;
use super::{How, Row, Work, row};

const CONDUIT: &str = "Conduit";

/// Their rows.
pub const ROWS: &[Row] = &[
    row("CONDUIT_REDIS_CONNECTION_STRING", "data.redis.url", CONDUIT, How::With(redis)),
    row("REDIS_URL", "data.redis.url", "Conduit, Rodger, Conserver", How::With(redis)),
    // After `REDIS_URL`: the guide sets both, and only this one says how long to wait.
    row("CONDUITLLM__REDIS__CONNECTIONSTRING", "data.redis.url", CONDUIT, How::With(redis)),
    row("CONDUIT_REDIS_INSTANCE_NAME", "data.redis.prefix", CONDUIT, How::Set(prefix)),
    row("CONDUITLLM__RABBITMQ__HOST", "data.rabbitmq.host", CONDUIT, How::With(rabbitmq)),
    row("CONDUITLLM__RABBITMQ__PORT", "data.rabbitmq.port", CONDUIT, How::Set(convert::whole)),
    row("CONDUITLLM__RABBITMQ__USERNAME", "data.rabbitmq.username", CONDUIT, How::Set(convert::same)),
    row("CONDUITLLM__RABBITMQ__PASSWORD", "data.rabbitmq.password", CONDUIT, How::Secret(exact)),
    row("CONDUITLLM__RABBITMQ__VHOST", "data.rabbitmq.vhost", CONDUIT, How::Set(convert::same)),
    row(
        "CONDUITLLM__RABBITMQ__PREFETCHCOUNT",
        "data.rabbitmq.prefetch_count",
        CONDUIT,
        How::Set(convert::whole),
    ),
    row(
        "CONDUITLLM__RABBITMQ__PARTITIONCOUNT",
        "data.rabbitmq.partition_count",
        CONDUIT,
        How::Set(convert::whole),
    ),
    row(
        "CONDUITLLM__RABBITMQ__CONCURRENTMESSAGELIMIT",
        "data.rabbitmq.concurrent_message_limit",
        CONDUIT,
        How::Set(convert::whole),
    ),
    row(
        "CONDUITLLM__RABBITMQ__MAXCONNECTIONS",
        "data.rabbitmq.max_connections",
        CONDUIT,
        How::Set(convert::whole),
    ),
    row(
        "CONDUITLLM__RABBITMQ__MINCONNECTIONS",
        "data.rabbitmq.min_connections",
        CONDUIT,
        How::Set(convert::whole),
    ),
    row(
        "CONDUITLLM__RABBITMQ__REQUESTEDHEARTBEAT",
        "data.rabbitmq.requested_heartbeat",
        CONDUIT,
        How::Set(convert::seconds),
    ),
    row(
        "CONDUITLLM__RABBITMQ__PUBLISHERCONFIRMATION",
        "data.rabbitmq.publisher_confirmation",
        CONDUIT,
        How::Set(convert::boolean),
    ),
];

/// A password may begin or end with a space.
fn exact(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

/// What keys begin with, set apart from the rest of them.
fn prefix(value: &str) -> Result<String, String> {
    let value = value.trim();
    let apart = !value.ends_with(|c: char| c.is_alphanumeric());
    Ok(if apart { value.to_owned() } else { format!("{value}:") })
}

/// The server, and the cache on it unless something says where the cache is.
fn redis(work: &mut Work<'_>, url: &Found) -> Result<(), String> {
    const CACHE: &str = "data.cache.backend";
    work.set("data.redis.url", url.value.trim(), url)?;
    let open = !work.has(CACHE);
    if open {
        work.set(CACHE, "redis", url)?;
    }
    work.note(format!("{} sets data.redis.url{}", url.name, if open { " and data.cache" } else { "" }));
    Ok(())
}

/// The host. A URL in the file would hide it.
fn rabbitmq(work: &mut Work<'_>, host: &Found) -> Result<(), String> {
    work.set("data.rabbitmq.host", host.value.trim(), host)?;
    let replaced = work.tree.remove(&Path::of("data.rabbitmq.url")).is_some();
    let instead = if replaced { ", in place of data.rabbitmq.url" } else { "" };
    work.note(format!("{} sets data.rabbitmq.host{instead}", host.name));
    Ok(())
}
