//! The one composition root: settings in, a running application out.

use std::sync::Arc;
use std::time::Duration;

use access::{FirstRun, Keyring, KeyringError};
use base::Secret;
use gateway::{Gateway, GatewaySettings};
use server::{Build, Parts, Server, StartError};
use telemetry::{Metrics, Otlp, Resource};

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
    settings: Settings,
    otlp: Otlp,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The data folder or the keys in it.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Addresses, certificates, threads.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Export of traces and metrics.
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    /// A setting that only shows when it is used.
    #[error("{0}")]
    Gateway(String),
}

impl App {
    /// Puts the parts together and serves. `admin_key` is the one from the environment. Exports run on the
    /// current tokio runtime.
    pub fn start(settings: Settings, admin_key: Option<&Secret>) -> Result<Self, WireError> {
        let (keyring, first_run) = Keyring::open(&settings.data.dir, admin_key)?;
        let metrics = Metrics::new()?;
        let resource = Resource::new(&settings.telemetry, BUILD.version);
        let (tracer, otlp) = Otlp::start(&settings.telemetry.otlp, &metrics, &resource)?;
        let gateway = Gateway::new(&gateway_settings(&settings), &metrics, tracer.clone())
            .map_err(WireError::Gateway)?;
        let server = Server::start(Parts {
            settings: settings.server.clone(),
            gateway,
            keyring: Arc::new(keyring),
            metrics,
            tracer,
            build: BUILD,
        })?;
        Ok(App { server, first_run, settings, otlp })
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Puts new settings in force, as far as that goes without a restart. Returns the ones that wait for it.
    pub fn reload(&mut self, settings: Settings) -> Result<Vec<&'static str>, String> {
        self.server.reload(&settings.server, &gateway_settings(&settings))?;
        let waiting = restart_needed(&self.settings, &settings);
        self.settings = settings;
        Ok(waiting)
    }

    /// Stops as the settings say. Returns how many calls were cut off.
    pub async fn shutdown(self) -> u32 {
        let server = &self.settings.server;
        let cut_off = self.server.shutdown(server.drain_delay.0, server.shutdown_grace.0).await;
        self.otlp.shutdown(EXPORT_GRACE).await;
        cut_off
    }
}

fn gateway_settings(settings: &Settings) -> GatewaySettings {
    GatewaySettings {
        providers: settings.providers.clone(),
        models: settings.models.clone(),
        resilience: settings.resilience.clone(),
        max_concurrent_requests: settings.server.max_concurrent_requests,
    }
}
