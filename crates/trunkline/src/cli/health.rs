//! `trunkline health`: the probe for containers that have no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use trunkline::settings::{self, Env, Flags, Settings};

/// Which server to ask, and what.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// The server's URL. Default: where the settings say that it listens.
    #[arg(long)]
    url: Option<String>,
    /// The settings file. Default: `TRUNKLINE_CONFIG`, or `trunkline.yaml` when it is there.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Ask whether it can serve (`/health/ready`), not only whether it is alive.
    #[arg(long)]
    ready: bool,
    /// How many seconds to wait for the answer.
    #[arg(long, default_value_t = 3)]
    timeout: u64,
}

/// Asks; says why not on stderr.
pub fn run(args: &HealthArgs, env: &Env) -> ExitCode {
    match check(args, env) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("unhealthy: {why}");
            ExitCode::FAILURE
        }
    }
}

fn check(args: &HealthArgs, env: &Env) -> Result<(), String> {
    let base = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let file = settings::find_file(args.config.as_deref(), env);
            let loaded = settings::load_offline(file.as_deref(), env, &Flags::default())
                .map_err(|problems| problems.first().map_or_else(String::new, ToString::to_string))?;
            local_url(&loaded.settings)
        }
    };
    let url = format!("{base}{}", if args.ready { "/health/ready" } else { "/health" });
    let runtime = super::runtime().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let client = super::loopback_client(Duration::from_secs(args.timeout)).map_err(|e| e.to_string())?;
        let answer = client.get(&url).send().await.map_err(|e| format!("{url}: {e}"))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("{url} answered {status}")),
        }
    })
}

/// The first listener, on the loopback address when it listens on all.
fn local_url(settings: &Settings) -> String {
    let listeners = settings.server.effective_listeners();
    let Some(listener) = listeners.first() else { return "http://127.0.0.1:8080".into() };
    let ip = match listener.addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, listener.addr.port()))
}
