//! Trunkline as it would run in production: keys checked, limits counted, a prepaid budget charged and every call
//! written down, metrics counted, one INFO line per request in a file.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::load::Connection;
use super::process::Process;
use super::subject::{Log, Subject, System};
use crate::Outcome;

const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Builds the release program.
pub fn build() -> Outcome<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "-p", "trunkline"]).current_dir(root()).stdin(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("cannot start cargo: {error}"))?;
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("trunkline does not build: cargo ended with {status}")),
            None if started.elapsed() > BUILD_LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("trunkline was not built within {BUILD_LIMIT:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Where the release program is: under `CARGO_TARGET_DIR`, or `target` of the workspace.
pub fn program() -> Outcome<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let program = root().join(target).join("release/trunkline");
    if program.is_file() { Ok(program) } else { Err(format!("{} is not there: build it", program.display())) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `--ready-file` tells, as far as it matters here.
#[derive(Deserialize)]
struct Ready {
    url: String,
    metrics_url: String,
    key: String,
    admin_key: String,
}

/// An answer of the admin API, as far as it matters here.
#[derive(Deserialize)]
struct Made {
    id: u64,
    key: Option<String>,
}

/// Who pays for the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// The group of the first run, which spends without a balance: it is there at once.
    FirstRun,
    /// A group with a balance, by a key that has limits.
    Prepaid,
}

/// A line of its log, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    level: String,
    target: String,
    message: String,
    operation: Option<String>,
}

/// Starts `program` in `dir`, with a data directory of its own, in front of `upstream`; gives its key too.
pub fn start(program: &Path, dir: &Path, upstream: SocketAddr, payer: Payer) -> Outcome<(Subject, String)> {
    std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    let (config, ready, log) =
        (dir.join("trunkline.yaml"), dir.join("ready.json"), dir.join("trunkline.log"));
    std::fs::write(&config, configuration(upstream, &log)).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(&config).arg("--ready-file").arg(&ready);
    // Settings and provider keys of whoever runs the benchmark must not change what is measured.
    command.arg("--data-dir").arg(dir.join("data")).current_dir(dir).env_clear();
    let mut process = Process::start("trunkline", &mut command, dir)?;
    let ready: Ready = process.wait_for(Duration::from_secs(20), || {
        let text = std::fs::read(&ready).ok()?;
        serde_json::from_slice(&text).ok()
    })?;
    let log = Log::new(log, |line| {
        serde_json::from_str(line).is_ok_and(|line: Line| {
            let call = line.target == "access" && line.message == "request" && line.operation.is_some();
            call && line.level.eq_ignore_ascii_case("info")
        })
    });
    let (address, metrics) = (socket(&ready.url)?, socket(&ready.metrics_url)?);
    let subject = Subject::new(System::Trunkline, address, Some(process), Some(log), Some(metrics));
    let key = match payer {
        Payer::FirstRun => ready.key,
        Payer::Prepaid => prepaid_key(address, &ready.admin_key)?,
    };
    Ok((subject, key))
}

/// Makes a group with a balance and a key with limits, both larger than anything that is measured.
fn prepaid_key(address: SocketAddr, admin_key: &str) -> Outcome<String> {
    let mut connection = Connection::open(address)?;
    let mut make = |path: &str, body: &str| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {admin_key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = connection.fetch(request.as_bytes()).map_err(|error| format!("POST {path}: {error}"))?;
        serde_json::from_slice::<Made>(&answer).map_err(|error| format!("POST {path}: {error}"))
    };
    let group = make("/api/groups", r#"{"name":"bench","balance":"1000000"}"#)?;
    let limits = r#"{"requests_per_minute":1000000000,"tokens_per_minute":1000000000000}"#;
    let body = format!(r#"{{"name":"bench","group_id":{},"limits":{limits}}}"#, group.id);
    make("/api/keys", &body)?.key.ok_or_else(|| "a key was made and not told".to_owned())
}

/// The address of a URL without a path.
fn socket(url: &str) -> Outcome<SocketAddr> {
    let address = url.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
    address
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| format!("not the http URL of an address: {url}"))
}

fn configuration(upstream: SocketAddr, log: &Path) -> String {
    let mut models = String::new();
    for (alias, model) in [(super::fixtures::FAST, "gpt-4.1"), (super::fixtures::SLOW, super::fixtures::SLOW)]
    {
        let _ = writeln!(models, "  {alias}: {{targets: [{{provider: mock, model: {model}}}]}}");
    }
    format!(
        r#"server: {{listen: "127.0.0.1:0", metrics: "127.0.0.1:0"}}
providers:
  mock: {{kind: openai-compatible, base_url: "http://{upstream}/v1"}}
prices: {{"mock/*": {{input: 2.00, cached_input: 0.50, output: 8.00}}}}
models:
{models}telemetry:
  log: {{level: info, format: json, file: "{}"}}
"#,
        log.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_from_urls() {
        assert_eq!(socket("http://127.0.0.1:80/").unwrap(), SocketAddr::from(([127, 0, 0, 1], 80)));
        assert_eq!(socket("http://127.0.0.1:80").unwrap(), SocketAddr::from(([127, 0, 0, 1], 80)));
        assert!(socket("https://127.0.0.1:80").is_err() && socket("http://localhost").is_err());
    }
}
