//! The section `server:`.

use std::net::SocketAddr;
use std::path::PathBuf;

use base::{ByteSize, Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `server:`, where we listen and what one request may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What the `listen` address serves.
    pub roles: Vec<Role>,
    /// Several addresses, each with its roles and TLS. Replaces `listen` and `roles`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub listeners: Option<Vec<ListenerSettings>>,
    /// TLS for `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Where Prometheus metrics and health listen, apart from the API; `null` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether `/metrics` asks for the admin key.
    pub metrics_access: MetricsAccess,
    /// Whether `/metrics` is served at all.
    pub metrics_enabled: bool,
    /// Whether `/health…` and `/ready` are served at all.
    pub health_enabled: bool,
    /// Threads that serve requests. Default: one for each core.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u16>,
    /// The largest request body.
    pub max_body: ByteSize,
    /// The largest form with files: sound to be transcribed, pictures to be edited.
    pub max_upload: ByteSize,
    /// What is kept of `/v1/responses`.
    pub responses: ResponsesSettings,
    /// For the whole head of a request to arrive, from when the connection was last in use: so it is also how
    /// long an idle connection is kept. Longer than the 60 s for which load balancers keep theirs.
    pub header_timeout: Duration,
    /// For the whole request body to arrive.
    pub body_timeout: Duration,
    /// Requests in progress at once on this replica; more get 503 with `Retry-After`.
    #[schemars(range(min = 1))]
    pub max_concurrent_requests: u32,
    /// How long the listeners keep answering after SIGTERM, with readiness already false, so that load
    /// balancers have turned away before anything is refused.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish after that.
    pub shutdown_grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            roles: Role::ALL.to_vec(),
            listeners: None,
            tls: None,
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            metrics_access: MetricsAccess::Open,
            metrics_enabled: true,
            health_enabled: true,
            threads: None,
            max_body: ByteSize(20 << 20),
            max_upload: ByteSize(100 << 20),
            responses: ResponsesSettings::default(),
            header_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            max_concurrent_requests: 4096,
            drain_delay: Duration::from_secs(2),
            shutdown_grace: Duration::from_secs(11),
        }
    }
}

impl ServerSettings {
    /// Whether this process takes vCons through their chains.
    pub fn works(&self) -> bool {
        self.effective_listeners().iter().any(|listener| listener.roles.contains(&Role::Worker))
    }

    /// The listeners in effect: `listeners`, or the one that `listen`, `roles` and `tls` make.
    pub fn effective_listeners(&self) -> Vec<ListenerSettings> {
        self.listeners.clone().unwrap_or_else(|| {
            vec![ListenerSettings { addr: self.listen, roles: self.roles.clone(), tls: self.tls.clone() }]
        })
    }
}

/// `server.responses:`, what is kept of `/v1/responses` for callers who do not say `store: false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResponsesSettings {
    /// How long a response can be asked for or gone on from; `0s` keeps none.
    pub retention: Duration,
    /// The largest response that is kept, with all the items it was made from.
    pub max_size: ByteSize,
}

impl Default for ResponsesSettings {
    fn default() -> Self {
        ResponsesSettings { retention: Duration::from_secs(30 * 86_400), max_size: ByteSize(8 << 20) }
    }
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Model calls: `/v1/…`.
    Gateway,
    /// Administration: what the admin key opens.
    Admin,
    /// The vCon API.
    Conversations,
    /// Not an address's but the process's: takes vCons through their chains.
    Worker,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Role; 4] = [Role::Gateway, Role::Admin, Role::Conversations, Role::Worker];
}

/// One address, with its own roles and TLS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// The address; port 0 takes a free one.
    pub addr: SocketAddr,
    /// What it serves.
    #[schemars(length(min = 1))]
    pub roles: Vec<Role>,
    /// TLS for this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

/// A certificate with its key: either `cert` and `key` (PEM), or `pkcs12` with its `password`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// The certificate chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM (PKCS#8, PKCS#1 or SEC1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Certificate and key in one PKCS#12 file (`.pfx`, `.p12`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkcs12: Option<PathBuf>,
    /// The password of `pkcs12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// Who may read `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MetricsAccess {
    /// Anyone who reaches the port.
    Open,
    /// Who sends the admin key.
    Key,
}
