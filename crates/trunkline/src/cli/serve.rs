//! `trunkline serve`.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base::Secret;
use serde_json::json;
use telemetry::LogHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use trunkline::settings::{self, Env, Flags, Loaded};
use trunkline::wire::{App, BUILD};

use super::watch::FileWatch;

/// How often the settings file is looked at.
const WATCH: Duration = Duration::from_millis(250);
/// How often the log tells how the process does.
const STATUS: Duration = Duration::from_secs(60);

/// Flags, which win over the environment and the file.
#[derive(Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// The settings file. Default: `TRUNKLINE_CONFIG`, or `trunkline.yaml` when it is there.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one.
    #[arg(long)]
    listen: Option<String>,
    /// Where metrics and health listen apart from the API.
    #[arg(long)]
    metrics: Option<String>,
    /// The folder of everything that is kept.
    #[arg(long)]
    data_dir: Option<String>,
    /// What to serve; may be given several times.
    #[arg(long = "role", num_args = 1..)]
    roles: Option<Vec<String>>,
    /// Written once the server answers: one JSON object with its URLs and, on the first run, its keys.
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

impl ServeArgs {
    fn flags(&self) -> Flags {
        Flags {
            listen: self.listen.clone(),
            metrics: self.metrics.clone(),
            data_dir: self.data_dir.clone(),
            roles: self.roles.clone(),
        }
    }
}

/// Serves until told to stop. Exit code 0 then; 64 when the settings are wrong, 1 when it cannot start.
pub fn run(args: &ServeArgs, env: &Env) -> ExitCode {
    let file = settings::find_file(args.config.as_deref(), env);
    let loaded = match settings::load(file.as_deref(), env, &args.flags()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            // EX_USAGE of sysexits.h: restarting will not help.
            return ExitCode::from(64);
        }
    };
    let log = match telemetry::init(&loaded.settings.telemetry.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("telemetry.log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let served = super::runtime()
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(serve(args, env, file.as_deref(), loaded, &log)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!(error = why.as_str(), "cannot go on");
            log.flush();
            ExitCode::FAILURE
        }
    }
}

async fn serve(
    args: &ServeArgs,
    env: &Env,
    file: Option<&Path>,
    loaded: Loaded,
    log: &LogHandle,
) -> Result<(), String> {
    // Before anything is started: a signal that comes early must not kill us half way.
    let mut signals = Signals::new().map_err(|e| e.to_string())?;
    for note in &loaded.notes {
        tracing::info!(note = note.as_str(), "settings");
    }
    let admin_key = admin_key(env)?;
    let shown = loaded.show();
    let mut app = App::start(loaded.settings, admin_key.as_ref()).await.map_err(|e| e.to_string())?;
    app.server.show_settings(shown);
    for (url, roles) in app.server.urls() {
        tracing::info!(url = url.as_str(), roles = ?roles, version = BUILD.version, "listening");
    }
    if let Some(path) = &args.ready_file {
        write_ready(path, &app).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    announce(&app, args.ready_file.is_some());
    let mut watch = FileWatch::new(file);
    let mut look = tokio::time::interval(WATCH);
    let mut status = tokio::time::interval(STATUS);
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop => break,
                Told::Reload => reload(&mut app, args, env, file, log),
            },
            _ = look.tick() => {
                if watch.changed() {
                    reload(&mut app, args, env, file, log);
                }
            }
            _ = status.tick() => tell_status(&app),
        }
    }
    tracing::info!(calls_in_flight = app.server.calls_in_flight(), "stopping");
    let cut_off = tokio::select! {
        cut_off = app.shutdown() => cut_off,
        () = signals.stop() => return Err("stopped at once by a second signal".into()),
    };
    match cut_off {
        0 => tracing::info!("stopped"),
        calls => tracing::warn!(calls, "stopped with calls cut off: server.shutdown_grace was over"),
    }
    Ok(())
}

/// The signals we live by.
struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Told {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.term.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }
}

/// The master key from the environment, or from the file that `TRUNKLINE_ADMIN_KEY_FILE` names.
pub(super) fn admin_key(env: &Env) -> Result<Option<Secret>, String> {
    Ok(env.get("TRUNKLINE_ADMIN_KEY")?.map(|found| Secret::from(found.value)))
}

/// Reads the settings again. What is wrong with them is said, and the old ones stay.
fn reload(app: &mut App, args: &ServeArgs, env: &Env, file: Option<&Path>, log: &LogHandle) {
    let loaded = match settings::load(file, env, &args.flags()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems {
                tracing::error!(problem = %problem, "settings not reloaded");
            }
            return;
        }
    };
    if loaded.settings == *app.settings() {
        return;
    }
    let (level, shown) = (loaded.settings.telemetry.log.level.clone(), loaded.show());
    match app.reload(loaded.settings) {
        Ok(waiting) => {
            if let Err(error) = log.set_level(&level) {
                tracing::error!(%error, "log level not changed");
            }
            app.server.show_settings(shown);
            tracing::info!("settings reloaded");
            if !waiting.is_empty() {
                tracing::warn!(settings = waiting.join(", "), "these changes wait for a restart");
            }
        }
        Err(error) => tracing::error!(error, "settings not reloaded"),
    }
}

/// One line that tells how the process does; Conduit's guide greps for `memory`, `connection` and `consumer`.
fn tell_status(app: &App) {
    let pool = app.pool();
    tracing::info!(
        memory_bytes = telemetry::memory_bytes(),
        connections = app.server.connections(),
        calls_in_flight = app.server.calls_in_flight(),
        pool_open = pool.open,
        pool_idle = pool.idle,
        pool_max = pool.max,
        consumers = app.consumers(),
        "status: memory, connection pool, consumers"
    );
}

/// Readable by its owner only, and there as a whole or not at all: it may hold keys.
fn write_ready(path: &Path, app: &App) -> io::Result<()> {
    let keys = app.first_run.as_ref();
    let ready = json!({
        "url": app.server.url(),
        "metrics_url": app.server.metrics_url(),
        "data_dir": app.settings().data.dir,
        "key": keys.map(|k| k.key.expose()),
        "admin_key": keys.map(|k| k.admin_key.expose()),
    });
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(format!("{ready}\n").as_bytes())?;
    std::fs::rename(&temporary, path)
}

/// On a terminal: where we are, the keys of a first run, and a line to try.
fn announce(app: &App, keys_written: bool) {
    if !io::stderr().is_terminal() {
        if app.first_run.is_some() && !keys_written {
            tracing::warn!(
                "keys were made and are shown on terminals only: start once with --ready-file FILE in a fresh data folder to get them"
            );
        }
        return;
    }
    let (url, dir) = (app.server.url(), app.settings().data.dir.display());
    let model = app.settings().models.keys().next().cloned().unwrap_or_else(|| "demo/chat".into());
    let mut text = format!("\n  Trunkline {} answers at {url}/v1\n", BUILD.version);
    let shown = match &app.first_run {
        None => "$TRUNKLINE_KEY",
        Some(first) => {
            text += &format!("\n  First run: these keys are shown once; {dir} keeps their hashes.\n");
            text += &format!("    admin key    {}\n", first.admin_key.expose());
            text += &format!("    virtual key  {}\n", first.key.expose());
            first.key.expose()
        }
    };
    text += &format!(
        "\n  Try it:\n    curl {url}/v1/chat/completions -H 'Authorization: Bearer {shown}' \\\n      -H 'Content-Type: application/json' \\\n      -d '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n"
    );
    eprintln!("{text}");
}
