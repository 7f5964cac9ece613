//! The pipeline of vCons: what stands behind its seams.

use std::sync::Arc;
use std::time::Duration;

use access::Access;
use base::seams::Queue;
use base::vcons::Vcons;
use conversations::{Conversations, Environment, Fetcher, Meters, Parts, UrlPolicy, Variables};
use gateway::Gateway;
use store::StoreVcons;
use telemetry::{Metrics, Tracer};

use super::backends::Backends;
use super::models::GatewayModels;
use super::{App, BUILD, WireError};
use crate::settings::{Env, Settings};

/// For making a connection to whatever a link or storage calls.
const CONNECT: Duration = Duration::from_secs(10);

impl App {
    /// Starts the pipeline on the current runtime.
    pub(super) async fn start_conversations(
        settings: &Settings,
        access: &Arc<Access>,
        backends: &Backends,
        gateway: &Gateway,
        metrics: &Metrics,
        tracer: &Tracer,
    ) -> Result<Conversations, WireError> {
        // Whoever runs us as a library may have chosen one before.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
            .build();
        let http = client.map_err(|error| WireError::Gateway(format!("an HTTP client: {error}")))?;
        let env = Env::of_process();
        let variables = Variables::new(move |name| env.get(name).ok().flatten().map(|found| found.value));
        let gateway = gateway.for_worker().map_err(|error| WireError::Gateway(error.to_string()))?;
        let (vcons, queue, keep): (Arc<dyn Vcons>, Arc<dyn Queue>, _) = match &backends.redis_only {
            Some(redis) => {
                (Arc::clone(&redis.vcons), Arc::clone(&redis.queue), Some(Duration::from_secs(3_600)))
            }
            None => (Arc::new(StoreVcons::new(access.db().clone())), Arc::clone(&backends.queue), None),
        };
        tracing::debug!(
            backend = vcons.backend(),
            queue = queue.backend(),
            version = BUILD.version,
            "conversations"
        );
        let environment = Environment {
            variables,
            http,
            fetch: Fetcher::new(UrlPolicy::default()).map_err(WireError::Gateway)?,
            models: Arc::new(GatewayModels::new(gateway, Arc::clone(access))),
            cache: Arc::clone(&backends.cache),
            queue,
            meters: Meters::new(metrics.clone()),
            legacy_format: settings.conversations.legacy_format(),
            data_dir: settings.data.dir.clone(),
        };
        let parts = Parts {
            settings: settings.conversations.clone(),
            environment,
            vcons,
            keep,
            tracer: tracer.clone(),
            work: settings.server.works(),
        };
        Ok(Conversations::start(parts).await?)
    }
}
