//! The section `conversations:`.

use std::path::PathBuf;

use base::{ByteSize, Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Anything, ChainSection, Entries, Follower, IngressAuth, Module, Sections};

/// `conversations:`, the pipeline of vCons. Takes the sections of a Conserver's `config.yml` as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConversationSettings {
    /// A Conserver's `config.yml`. With it, the sections below are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// Links by name: what a chain can do with a vCon.
    pub links: Entries<Module>,
    /// Storages by name: where vCons are kept at the end of a chain.
    pub storages: Entries<Module>,
    /// Chains by name.
    pub chains: Entries<ChainSection>,
    /// For external partners: the keys of each ingress list, one or several.
    pub ingress_auth: Entries<IngressAuth>,
    /// Other Conservers whose egress lists are followed.
    pub followers: Entries<Follower>,
    /// What every step of every chain is told to.
    pub tracers: Entries<Module>,
    /// Python modules that the Conserver imports. They have no meaning here.
    pub imports: Entries<Anything>,
    /// The token that opens the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_token: Option<Secret>,
    /// A file with more tokens, one a line; read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_token_file: Option<PathBuf>,
    /// The header that carries the token.
    pub header_name: String,
    /// Whether the API asks for a token or key where none is configured here. `auto`: not where a Conserver's file
    /// is used, as there; else a key of Trunkline with the permission `conversations:read` or `conversations:write`.
    pub access: AccessMode,
    /// A prefix under which the API answers beside the root.
    pub root_path: String,
    /// How many workers; together they take `workers` × `concurrency` vCons at once.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: u32,
    /// How many vCons a worker takes at once.
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: u32,
    /// Whether the storages of a chain are written at once, or one after the other.
    pub parallel_storage: bool,
    /// How long one run of a link may take.
    pub link_timeout: Duration,
    /// How long one save to a storage may take.
    pub storage_timeout: Duration,
    /// How often a vCon is tried before it is a dead letter.
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// How long is waited before the second attempt; it doubles with each further one.
    pub backoff: Duration,
    /// The longest wait between two attempts.
    pub max_backoff: Duration,
    /// How long a worker that is not heard of keeps the vCons it has taken.
    pub lease: Duration,
    /// How long vCons in work may take to finish when we are told to stop; the rest goes back to its list.
    pub grace: Duration,
    /// How long a vCon is kept here once a chain has saved it to its storages. Default: for ever; an hour where
    /// Redis keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Duration>,
    /// How long what a vCon is found by is kept in Redis, where Redis keeps vCons.
    pub index_keep: Duration,
    /// How long a trace is continued after the vCon came, where Redis keeps vCons.
    pub context_keep: Duration,
    /// The name of the sorted set of all vCons, where Redis keeps them.
    pub sorted_set: String,
    /// Whether a vCon that is not here is looked for in the storages.
    pub storage_fallback: bool,
    /// `0.0.1`: what goes out has the legacy form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_format: Option<String>,
    /// Whether dialog and analysis can be searched by their words.
    pub full_text: bool,
    /// The largest vCon.
    pub max_body: ByteSize,
    /// The name of the virtual key that model calls of links run under, where the chain names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether Redis alone keeps vCons, queues and dead letters. Default: when a Conserver's file is used, Redis is
    /// configured and the database is SQLite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_only: Option<bool>,
}

/// Who may use the API where no token is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessMode {
    /// As the Conserver where its file is used, else as the rest of Trunkline.
    Auto,
    /// Anyone who reaches the port.
    Open,
    /// Who has a key.
    Key,
}

impl Default for ConversationSettings {
    fn default() -> Self {
        ConversationSettings {
            config_file: None,
            links: Entries::default(),
            storages: Entries::default(),
            chains: Entries::default(),
            ingress_auth: Entries::default(),
            followers: Entries::default(),
            tracers: Entries::default(),
            imports: Entries::default(),
            api_token: None,
            api_token_file: None,
            header_name: "x-conserver-api-token".into(),
            access: AccessMode::Auto,
            root_path: "/api".into(),
            workers: 1,
            concurrency: 16,
            parallel_storage: true,
            link_timeout: Duration::from_secs(600),
            storage_timeout: Duration::from_secs(120),
            attempts: 4,
            backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(60),
            lease: Duration::from_secs(60),
            grace: Duration::from_secs(20),
            keep: None,
            index_keep: Duration::from_secs(86_400),
            context_keep: Duration::from_secs(86_400),
            sorted_set: "vcons".into(),
            storage_fallback: true,
            egress_format: None,
            full_text: true,
            max_body: ByteSize(20 << 20),
            key: None,
            redis_only: None,
        }
    }
}

impl ConversationSettings {
    /// The sections that stand in the settings themselves.
    pub fn sections(&self) -> Sections {
        Sections {
            links: self.links.clone(),
            storages: self.storages.clone(),
            chains: self.chains.clone(),
            ingress_auth: self.ingress_auth.clone(),
            followers: self.followers.clone(),
            tracers: self.tracers.clone(),
            imports: self.imports.clone(),
        }
    }

    /// Whether the legacy form goes out.
    pub fn legacy_format(&self) -> bool {
        self.egress_format.as_deref() == Some("0.0.1")
    }
}
