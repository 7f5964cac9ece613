//! The section `data.pool`.

use base::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `data.pool:`, connections to the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSettings {
    /// The most connections.
    #[schemars(range(min = 1, max = 1000))]
    pub max_connections: u32,
    /// Connections kept open when idle.
    pub min_connections: u32,
    /// For a connection to be made, or to become free.
    pub connect_timeout: Duration,
    /// For one statement.
    pub statement_timeout: Duration,
    /// How old a connection grows before it is replaced; `0s` for no bound.
    pub max_lifetime: Duration,
    /// How long a connection above `min_connections` may be idle.
    pub idle_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        PoolSettings {
            max_connections: 20,
            min_connections: 0,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(1800),
            idle_timeout: Duration::from_secs(600),
        }
    }
}
