//! The one composition root: settings in, a running application out.

mod backends;
mod conversations;
mod models;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::conversations::{Conversations, PipelineError};
use access::identity::{RoleError, Roles, TokenVerifier};
use access::{Access, AccessError, FirstRun};
use base::Secret;
use gateway::Gateway;
use server::{Build, FileConfiguration, Parts, Server, StartError};
use store::{Db, PoolState, StoreError};
use telemetry::{Metrics, Otlp, Resource};

use self::backends::{BackendError, Backends};
use crate::settings::{Settings, restart_needed};

/// Which build this is.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    git_commit: env!("BUILD_GIT_COMMIT"),
    build_time: env!("BUILD_TIME"),
};

/// For the last traces and metrics to be sent when we stop.
pub const EXPORT_GRACE: Duration = Duration::from_secs(1);

/// Everything that runs.
pub struct App {
    /// What answers.
    pub server: Server,
    /// The keys made now, if this is the first run in its data folder.
    pub first_run: Option<FirstRun>,
    conversations: Arc<Conversations>,
    access: Arc<Access>,
    backends: Backends,
    settings: Settings,
    otlp: Otlp,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The data folder.
    #[error("{path}: {error}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The Store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is behind a seam.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Keys, money, limits.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Addresses, certificates, threads.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Export of traces and metrics.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// Chains of vCons.
    #[error("conversations: {0}")]
    Conversations(#[from] PipelineError),
    /// A setting that only shows when it is used.
    #[error("{0}")]
    Gateway(String),
}

impl App {
    /// Puts the parts together and serves. `admin_key` is the one from the environment. Exports, and everything
    /// that speaks to the Store, run on the current tokio runtime.
    pub async fn start(settings: Settings, admin_key: Option<&Secret>) -> Result<Self, WireError> {
        make_private(&settings.data.dir)?;
        let db = open_store(&settings).await?;
        for step in db.migrate().await? {
            tracing::info!(version = step.version, name = step.name, "migrated the store");
        }
        let roles = roles(&settings)?;
        let metrics = Metrics::new()?;
        let backends = Backends::open(&settings.data, &settings.conversations, &db, &metrics).await?;
        let (access, first_run) = Access::start(access::Parts {
            db,
            events: Arc::clone(&backends.events),
            dir: &settings.data.dir,
            admin_key,
            roles: roles.clone(),
            limits: settings.limits.clone(),
            ip: settings.ip.clone(),
            windows: backends.windows.clone(),
            keep_audit: settings.data.audit_retention.0,
            keep_requests: settings.data.usage_retention.0,
            lease_grace: settings.data.lease_grace.0,
            journal: settings.data.journal,
            rotation: settings.rotation.clone(),
            version: BUILD.version,
        })
        .await?;
        access.set_tokens(tokens(&settings, &roles)?);
        let resource = Resource::new(&settings.telemetry, BUILD.version);
        let (tracer, otlp) = Otlp::start(&settings.telemetry.otlp, &metrics, &resource)?;
        let file = file_configuration(&settings);
        let from_file = file.gateway_settings().map_err(WireError::Gateway)?;
        let gateway =
            Gateway::new(&from_file, &access, &metrics, tracer.clone()).map_err(WireError::Gateway)?;
        let conversations =
            Self::start_conversations(&settings, &access, &backends, &gateway, &metrics, &tracer);
        let conversations = Arc::new(conversations.await?);
        let server = Server::start(Parts {
            conversations: Some(Arc::clone(&conversations)),
            settings: settings.server.clone(),
            file,
            gateway,
            access: Arc::clone(&access),
            dependencies: backends.dependencies(),
            metrics,
            tracer,
            build: BUILD,
        })
        .await?;
        Ok(App { server, conversations, access, backends, first_run, settings, otlp })
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How the pool of database connections stands.
    pub fn pool(&self) -> PoolState {
        self.access.db().pool()
    }

    /// How many consumers this process has at RabbitMQ.
    pub fn consumers(&self) -> usize {
        self.backends.consumers()
    }

    /// Puts new settings in force, as far as that goes without a restart. Returns the ones that wait for it.
    pub fn reload(&mut self, settings: Settings) -> Result<Vec<&'static str>, String> {
        self.server.reload(&settings.server, file_configuration(&settings))?;
        self.access.door().reload(&settings.ip);
        self.access.set_rotation(settings.rotation.clone());
        if settings.conversations != self.settings.conversations {
            self.conversations.reload(settings.conversations.clone()).map_err(|e| e.to_string())?;
        }
        let waiting = restart_needed(&self.settings, &settings);
        self.settings = settings;
        Ok(waiting)
    }

    /// Stops as the settings say. Returns how many calls were cut off.
    pub async fn shutdown(self) -> u32 {
        let server = &self.settings.server;
        let (cut_off, _) = tokio::join!(
            self.server.shutdown(server.drain_delay.0, server.shutdown_grace.0),
            self.conversations.shutdown()
        );
        self.access.stop().await;
        self.backends.close().await;
        self.otlp.shutdown(EXPORT_GRACE).await;
        cut_off
    }
}

/// The roles of the settings file.
fn roles(settings: &Settings) -> Result<Roles, WireError> {
    let made = Roles::of_settings(&settings.roles, &settings.rbac);
    let wrong = |errors: Vec<(String, RoleError)>| {
        let texts: Vec<String> = errors.iter().map(|(path, error)| format!("{path}: {error}")).collect();
        WireError::Gateway(texts.join("; "))
    };
    let (roles, notes) = made.map_err(wrong)?;
    for note in notes {
        tracing::info!(note, "roles");
    }
    Ok(roles)
}

/// Who checks the tokens of the settings' identity provider.
fn tokens(settings: &Settings, roles: &Roles) -> Result<Option<TokenVerifier>, WireError> {
    let verifier = TokenVerifier::new(&settings.auth, roles);
    verifier.map_err(|e| WireError::Gateway(format!("auth: {e}")))
}

/// The folder of everything that is kept, readable by its owner only, also when it was there before.
fn make_private(dir: &Path) -> Result<(), WireError> {
    let folder_error = |error| WireError::Folder { path: dir.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(folder_error)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(folder_error)
}

/// The Store of the settings, not migrated.
pub async fn open_store(settings: &Settings) -> Result<Db, StoreError> {
    let data = &settings.data;
    let url = match data.store.expose() {
        "sqlite" => {
            let path = data.dir.join("trunkline.db");
            // Made here for its owner only; SQLite gives the files beside it the same mode.
            let made = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
            made.map_err(|error| StoreError::Schema(format!("{}: {error}", path.display())))?;
            Db::sqlite_url(&path)
        }
        url => url.to_owned(),
    };
    Db::open(&url, data.store_replica.as_ref().map(Secret::expose), &data.pool).await
}

/// What the settings file says of what the admin API may add to.
fn file_configuration(settings: &Settings) -> FileConfiguration {
    FileConfiguration {
        providers: settings.providers.clone(),
        models: settings.models.clone(),
        resilience: settings.resilience.clone(),
        prices: settings.prices.clone(),
        roles: settings.roles.clone(),
        rbac: settings.rbac.clone(),
        limits: settings.limits.clone(),
        max_concurrent_requests: settings.server.max_concurrent_requests,
    }
}
