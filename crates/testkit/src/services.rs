//! Real services for tests: a corner of the shared ones, private ones that may be killed, and a link that may be cut.
//!
//! [`postgres`], [`redis`] and [`rabbitmq`] lend a database, a key prefix and a virtual host of the servers that
//! run on the development machines and in CI; what they lent is removed when the value is dropped.
//! [`PrivatePostgres`], [`PrivateRedis`], [`PrivateRabbit`], [`PrivateS3`], [`PrivateSftp`] and [`PrivateNginx`] are
//! servers of the test's own, with their own port
//! and data, to be stopped, killed and started again. [`Link`] stands before either and takes it away without
//! stopping it.
//!
//! Where a service is not there, the function says so on stderr and returns `None`, and the test returns; with
//! `TRUNKLINE_REQUIRE_SERVICES=1` it panics instead, so that CI cannot pass by skipping.
//!
//! Everything here blocks and works under any runtime. Under load on the test's own runtime, call what takes long
//! (`stop`, `kill`, `start_again`) through `tokio::task::spawn_blocking`: all methods take `&self`.

mod link;
mod missing;
mod place;
mod postgres;
mod private_nginx;
mod private_postgres;
mod private_rabbit;
mod private_redis;
mod private_s3;
mod private_sftp;
mod process;
mod rabbit;
mod redis;
mod resp;
mod url;

pub use link::Link;
pub use postgres::{Database, postgres};
pub use private_nginx::PrivateNginx;
pub use private_postgres::PrivatePostgres;
pub use private_rabbit::PrivateRabbit;
pub use private_redis::PrivateRedis;
pub use private_s3::PrivateS3;
pub use private_sftp::PrivateSftp;
pub use rabbit::{Vhost, rabbitmq};
pub use redis::{RedisSpace, redis};
pub use resp::{RedisClient, Reply};
pub use url::through;

/// A program that a test needs and that is no service, as `promtool`; `None` when it is not there.
pub fn tool(name: &str) -> Option<std::path::PathBuf> {
    place::program(name, &[])
        .or_else(|| missing::skip(&format!("no {name} on this machine"), missing::required()))
}

#[cfg(test)]
mod tests;
