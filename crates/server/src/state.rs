//! What a request can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use access::Access;
use arc_swap::ArcSwap;
use conversations::Conversations;
use gateway::Gateway;
use store::{Db, Engine, PoolState};
use telemetry::metrics::{DURATION_BUCKETS, Gauge};
use telemetry::{BoundedCounterVec, BoundedHistogramVec, Family, Metrics, Tracer};

use crate::admin::Admin;
use crate::configuration::Configuration;
use crate::dependencies::Dependencies;
use crate::routes::ephemeral::Made;
use crate::settings::{MetricsAccess, ResponsesSettings, ServerSettings};

/// Which build is running.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
    /// The commit it was built from.
    pub git_commit: &'static str,
    /// When it was built, RFC 3339.
    pub build_time: &'static str,
}

/// A worker's state: its own way to the models, and what all workers share.
pub(crate) struct App {
    pub(crate) gateway: Gateway,
    pub(crate) shared: Arc<Shared>,
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) access: Arc<Access>,
    /// What admin requests share.
    pub(crate) admin: Arc<Admin>,
    /// The pipeline of vCons.
    pub(crate) conversations: Option<ConversationSurface>,
    /// What is configured, by the file and by the API.
    pub(crate) configuration: Arc<Configuration>,
    /// The runtime on which the Store is spoken to.
    pub(crate) control: tokio::runtime::Handle,
    pub(crate) metrics: Metrics,
    pub(crate) dependencies: Arc<Dependencies>,
    pub(crate) http: HttpMetrics,
    pub(crate) pool: Option<PoolMetrics>,
    pub(crate) tracer: Tracer,
    pub(crate) limits: ArcSwap<Limits>,
    /// The settings in effect, as people are shown them: path, value, origin.
    pub(crate) shown: ArcSwap<Vec<(String, String, String)>>,
    pub(crate) build: Build,
    /// We are shutting down: readiness says so.
    pub(crate) draining: AtomicBool,
    pub(crate) connections: AtomicUsize,
    /// How the database answered when somebody last asked.
    pub(crate) database: DatabaseProbe,
    /// Who made keys for one request.
    pub(crate) ephemeral: Made,
}

/// The pipeline of vCons, and where its API answers.
pub(crate) struct ConversationSurface {
    pub(crate) pipeline: Arc<Conversations>,
    /// The prefix beside the root; empty for none.
    pub(crate) root: String,
}

impl ConversationSurface {
    pub(crate) fn new(pipeline: Arc<Conversations>) -> Self {
        let root = pipeline.settings().root_path.trim_matches('/').to_owned();
        let root = if root.is_empty() { root } else { format!("/{root}") };
        ConversationSurface { pipeline, root }
    }
}

/// When the database was last asked, and how fast it answered, if it did.
pub(crate) type DatabaseProbe = tokio::sync::Mutex<Option<(Instant, Option<Duration>)>>;

impl Shared {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The settings that a request meets, and that a reload may change.
pub(crate) struct Limits {
    pub(crate) max_body: usize,
    pub(crate) max_upload: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) responses: ResponsesSettings,
    pub(crate) metrics_access: MetricsAccess,
    pub(crate) metrics_enabled: bool,
    pub(crate) health_enabled: bool,
}

impl From<&ServerSettings> for Limits {
    fn from(settings: &ServerSettings) -> Self {
        Limits {
            max_body: usize::try_from(settings.max_body.0).unwrap_or(usize::MAX),
            max_upload: usize::try_from(settings.max_upload.0).unwrap_or(usize::MAX),
            body_timeout: settings.body_timeout.0,
            responses: settings.responses,
            metrics_access: settings.metrics_access,
            metrics_enabled: settings.metrics_enabled,
            health_enabled: settings.health_enabled,
        }
    }
}

/// How the pool of database connections stands, under the names of Conduit's guide, read when somebody looks.
pub(crate) struct PoolMetrics {
    active: Gauge,
    max: Gauge,
}

impl PoolMetrics {
    /// None where the database is no server: nobody's exporter would show it, and there is nothing to run out of.
    pub(crate) fn new(metrics: &Metrics, db: &Db) -> Result<Option<Self>, telemetry::Error> {
        if db.engine() != Engine::Postgres {
            return Ok(None);
        }
        let gauge =
            |name, help| Ok::<_, telemetry::Error>(metrics.gauge(&Family::new(name, help))?.with(&[]));
        Ok(Some(PoolMetrics {
            active: gauge("postgres_connections_active", "Connections to PostgreSQL that are at work.")?,
            max: gauge(
                "postgres_connections_max",
                "The most connections to PostgreSQL that this replica makes.",
            )?,
        }))
    }

    pub(crate) fn observe(&self, pool: PoolState) {
        self.active.set(f64::from(pool.open.saturating_sub(pool.idle)));
        self.max.set(f64::from(pool.max));
    }
}

/// The metrics of every request, under the names that Conduit's guide alerts on.
pub(crate) struct HttpMetrics {
    requests: BoundedCounterVec,
    duration: BoundedHistogramVec,
}

impl HttpMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Result<Self, telemetry::Error> {
        let labels = &["method", "route", "status"];
        Ok(HttpMetrics {
            requests: metrics.counter(
                &Family::new("http_requests_total", "Requests by method, route and status.").labels(labels),
            )?,
            duration: metrics.histogram(
                &Family::new(
                    "http_request_duration_seconds",
                    "From a request's arrival to the head of its answer, by method and route.",
                )
                .labels(&labels[..2]),
                DURATION_BUCKETS,
            )?,
        })
    }

    pub(crate) fn observe(&self, method: &str, route: &str, status: u16, duration: Duration) {
        let mut text = itoa::Buffer::new();
        self.requests.with(&[method, route, text.format(status)]).inc();
        self.duration.with(&[method, route]).observe(duration.as_secs_f64());
    }
}
