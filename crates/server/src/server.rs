//! Starting and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use access::Access;
use access::sealing::Sealer;
use arc_swap::ArcSwap;
use conversations::Conversations;
use gateway::Gateway;
use telemetry::{Metrics, Tracer};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::configuration::{Configuration, ConfigurationError, FileConfiguration};
use crate::dependencies::{Dependencies, Dependency};
use crate::listen::{self, Listener, bind};
use crate::router::{metrics_router, router};
use crate::routes::ephemeral::Made;
use crate::settings::{Role, ServerSettings};
use crate::state::{
    App, Build, ConversationSurface, DatabaseProbe, HttpMetrics, Limits, PoolMetrics, Shared,
};
use crate::workers::{Phase, Post, Surface, Workers};

/// What a server is made of.
pub struct Parts {
    /// `server:`.
    pub settings: ServerSettings,
    /// What the settings file says of what the admin API may add to.
    pub file: FileConfiguration,
    /// The way to models.
    pub gateway: Gateway,
    /// Who may do what, and how much.
    pub access: Arc<Access>,
    /// The pipeline of vCons.
    pub conversations: Option<Arc<Conversations>>,
    /// What readiness looks at, beside the Store.
    pub dependencies: Vec<Dependency>,
    /// The application's metrics.
    pub metrics: Metrics,
    /// Where spans go.
    pub tracer: Tracer,
    /// Which build this is.
    pub build: Build,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address that we cannot have.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// A certificate.
    #[error("cannot serve TLS on {addr}: {reason}")]
    Tls {
        /// On which address.
        addr: SocketAddr,
        /// What is wrong.
        reason: String,
    },
    /// Threads or runtimes.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// Metrics that were declared before.
    #[error(transparent)]
    Metrics(#[from] telemetry::Error),
    /// What is configured.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

/// A server that is running. [`Server::shutdown`] ends it; dropping it ends it without waiting.
pub struct Server {
    shared: Arc<Shared>,
    gateway: Gateway,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
    listeners: Vec<(SocketAddr, Vec<Role>, bool)>,
    metrics_addr: Option<SocketAddr>,
}

impl Server {
    /// Puts what the API has configured in force, opens every address, then serves. What speaks to the Store is
    /// done on the current tokio runtime.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { settings, file, gateway, access, metrics, tracer, build, dependencies, conversations } =
            parts;
        let configuration = Configuration::start(file, &access, gateway.control()).await?;
        let at_the_door = Arc::clone(&access);
        configuration.when_changed(move |limits, rules| {
            let door = at_the_door.door();
            door.set_rules(rules.to_vec());
            if let Err(error) = door.set_limits(limits.clone()) {
                tracing::error!(%error, "limits not changed");
            }
        });
        let shared = Arc::new(Shared {
            admin: Arc::new(Admin::new(access.db().clone(), Some(Arc::clone(&access)), own_sealer()?)),
            conversations: conversations.map(ConversationSurface::new),
            configuration,
            control: tokio::runtime::Handle::current(),
            dependencies: Dependencies::watch(access.db().clone(), dependencies),
            http: HttpMetrics::new(&metrics)?,
            pool: PoolMetrics::new(&metrics, access.db())?,
            metrics,
            tracer,
            limits: ArcSwap::from_pointee(Limits::from(&settings)),
            shown: ArcSwap::default(),
            build,
            draining: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            database: DatabaseProbe::default(),
            ephemeral: Made::default(),
            access,
        });
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        for listener in settings.effective_listeners() {
            let (socket, addr) =
                bind(listener.addr).map_err(|error| StartError::Listen { addr: listener.addr, error })?;
            let tls = listener.tls.as_ref().map(crate::tls::acceptor).transpose();
            let tls = tls.map_err(|reason| StartError::Tls { addr, reason })?;
            sockets.push(socket);
            listeners.push(Listener { addr, roles: listener.roles, tls });
        }
        let metrics_socket =
            settings.metrics.map(|addr| bind(addr).map_err(|error| StartError::Listen { addr, error }));
        let metrics_socket = metrics_socket.transpose()?;

        let (phase, watching) = watch::channel(Phase::Open);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = settings.threads.map_or(cores, usize::from);
        let post = |metrics: bool| -> std::io::Result<Post> {
            let app = Arc::new(App { gateway: gateway.for_worker()?, shared: Arc::clone(&shared) });
            let api = listeners
                .iter()
                .map(|l| Surface { router: router(Arc::clone(&app), &l.roles), tls: l.tls.clone() });
            let surfaces = match metrics {
                true => vec![Surface { router: metrics_router(Arc::clone(&app)), tls: None }],
                false => api.collect(),
            };
            Ok(Post { app, surfaces, header_timeout: settings.header_timeout.0 })
        };
        let (workers, mut threads) =
            Workers::start((0..count).map(|_| post(false)).collect::<Result<_, _>>()?, &watching)?;
        let addresses = listeners.iter().map(|l| (l.addr, l.roles.clone(), l.tls.is_some())).collect();
        threads.push(accept_on(sockets, workers, "accept", &watching)?);
        let metrics_addr = match metrics_socket {
            None => None,
            Some((socket, addr)) => {
                // A thread of its own, so that probes and scrapes are answered however busy the workers are.
                let (workers, more) = Workers::start(vec![post(true)?], &watching)?;
                threads.extend(more);
                threads.push(accept_on(vec![socket], workers, "accept-metrics", &watching)?);
                Some(addr)
            }
        };
        Ok(Server { shared, gateway, phase, threads, listeners: addresses, metrics_addr })
    }

    /// The URL of the first listener that serves the gateway, else of the first.
    pub fn url(&self) -> String {
        let gateway = self.listeners.iter().find(|(_, roles, _)| roles.contains(&Role::Gateway));
        gateway.or(self.listeners.first()).map(|(addr, _, tls)| url(*addr, *tls)).unwrap_or_default()
    }

    /// The URL of every listener, with its roles.
    pub fn urls(&self) -> Vec<(String, Vec<Role>)> {
        self.listeners.iter().map(|(addr, roles, tls)| (url(*addr, *tls), roles.clone())).collect()
    }

    /// The URL of the metrics address.
    pub fn metrics_url(&self) -> Option<String> {
        self.metrics_addr.map(|addr| url(addr, false))
    }

    /// Open connections of clients.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Model calls in progress.
    pub fn calls_in_flight(&self) -> u32 {
        self.gateway.in_flight()
    }

    /// What `GET /api/settings` shows from now on: path, value and origin of every setting, secrets hidden.
    pub fn show_settings(&self, shown: Vec<(String, String, String)>) {
        self.shared.shown.store(Arc::new(shown));
    }

    /// Puts new settings in force for requests that begin from now on. On error everything stays as it was.
    pub fn reload(&self, server: &ServerSettings, file: FileConfiguration) -> Result<(), String> {
        self.shared.configuration.reload(file, &self.shared.control)?;
        self.shared.limits.store(Arc::new(Limits::from(server)));
        Ok(())
    }

    /// Readiness turns false and the listeners keep answering for `drain_delay`; then nothing new is
    /// accepted and what is in flight has `grace` to finish. Returns how many calls were cut off.
    pub async fn shutdown(mut self, drain_delay: Duration, grace: Duration) -> u32 {
        self.shared.draining.store(true, Ordering::Release);
        tokio::time::sleep(drain_delay).await;
        self.phase.send_replace(Phase::Closing);
        let idle = async {
            let mut poll = tokio::time::interval(Duration::from_millis(10));
            while !self.threads.iter().all(JoinHandle::is_finished) {
                poll.tick().await;
            }
        };
        let cut_off = match tokio::time::timeout(grace, idle).await {
            Ok(()) => 0,
            Err(_) => self.gateway.in_flight(),
        };
        self.phase.send_replace(Phase::Over);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        if joined.await.unwrap_or(1) > 0 {
            tracing::error!("a thread ended with a panic");
        }
        cut_off
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Over);
    }
}

/// A thread that accepts on these sockets for these workers.
fn accept_on(
    sockets: Vec<std::net::TcpListener>,
    workers: Workers,
    name: &str,
    phase: &watch::Receiver<Phase>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let listeners: Vec<_> =
        sockets.into_iter().map(tokio::net::TcpListener::from_std).collect::<Result<_, _>>()?;
    drop(entered);
    let (workers, phase) = (Arc::new(workers), phase.clone());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(async move {
            let accepting = listeners.into_iter().enumerate().map(|(index, listener)| {
                tokio::spawn(listen::accept(listener, index, Arc::clone(&workers), phase.clone()))
            });
            for task in accepting.collect::<Vec<_>>() {
                if task.await.is_err() {
                    tracing::error!("an accepting task panicked");
                }
            }
        });
    })
}

/// Seals what this process alone must open again: the answers kept for repeated requests, where there is no
/// master key to seal with.
fn own_sealer() -> std::io::Result<Sealer> {
    // The data key is random whatever this is; it would wrap it, and is not kept.
    let master = base::Secret::from("this process, and no other before or after it".to_owned());
    let made = Sealer::create(&master).map_err(std::io::Error::other)?;
    Ok(made.0)
}

fn url(addr: SocketAddr, tls: bool) -> String {
    format!("{}://{addr}", if tls { "https" } else { "http" })
}
