//! An S3 server of a test's own: moto, from PyPI.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::missing;
use super::place::{self, free_port};
use super::process::{Process, Recipe};

/// How long it may take to start: Python has much to read.
const READY: Duration = Duration::from_secs(60);

/// An S3 server on a port of its own, empty at first, any keys accepted. It is killed when it is dropped.
#[derive(Debug)]
pub struct PrivateS3 {
    // Before its folder, so that it is gone when the folder is removed.
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl PrivateS3 {
    /// Starts one. It is installed into `target/moto-venv` when it is not there; `None` when it cannot be had.
    pub fn start() -> Option<PrivateS3> {
        let Some(venv) = installed() else {
            return missing::skip("no moto: it cannot be had from PyPI", missing::required());
        };
        let folder = place::folder("s3");
        let port = free_port();
        let process = Process::start(Recipe {
            name: format!("moto on {port}"),
            program: venv.join("bin/python"),
            args: vec![
                venv.join("bin/moto_server").into(),
                "-H".into(),
                "127.0.0.1".into(),
                "-p".into(),
                port.to_string().into(),
            ],
            env: Vec::new(),
            user: None,
            log: folder.path().join("server.log"),
            stop_signal: "TERM",
        });
        let server = PrivateS3 { process, port, _folder: folder };
        server.process.wait_until(READY, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        Some(server)
    }

    /// Its address: `http://127.0.0.1:PORT`; buckets are the first part of the path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket. Panics when it cannot.
    pub async fn make_bucket(&self, name: &str) {
        let client = crate::Client::new(self.url());
        let answer = client.try_send("PUT", &format!("/{name}"), &[], b"").await.expect("moto answers");
        assert_eq!(answer.status, 200, "moto makes no bucket\n{}", self.process.log());
    }
}

/// The environment of Python that has moto. One process makes it; others wait.
fn installed() -> Option<PathBuf> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let venv = target.join("moto-venv");
    std::fs::create_dir_all(&target).ok()?;
    let lock = std::fs::File::create(target.join("moto-venv.lock")).ok()?;
    lock.lock().ok()?;
    if !venv.join("bin/moto_server").exists() {
        let run = |command: &mut Command| {
            command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            && run(Command::new(venv.join("bin/pip")).args(["install", "-q", "moto[s3,server]"]));
        if !made {
            return None;
        }
    }
    venv.canonicalize().ok()
}
