//! An nginx of a test's own, to stand in front of what is tested.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tempfile::TempDir;

use super::missing;
use super::place::{self, free_port, program};
use super::process::{Process, Recipe};

/// How long it may take to listen.
const READY: Duration = Duration::from_secs(20);

/// An nginx server. It is killed when it is dropped.
#[derive(Debug)]
pub struct PrivateNginx {
    // Before its folder, so that it is gone when the folder is removed.
    process: Process,
    ports: Vec<u16>,
    folder: TempDir,
}

impl PrivateNginx {
    /// Starts one with these directives within `http {}`, made for so many free ports of 127.0.0.1 to listen on.
    /// `files` are put beside its configuration, so that it finds them by their names alone. `None` when there is
    /// no nginx.
    pub fn start<const PORTS: usize>(
        files: &[(&str, &str)],
        http: impl FnOnce([u16; PORTS]) -> String,
    ) -> Option<PrivateNginx> {
        let Some(nginx) = program("nginx", &[]) else {
            return missing::skip("no nginx on this machine", missing::required());
        };
        let folder = place::folder("nginx");
        let dir = folder.path().display();
        let ports = [(); PORTS].map(|()| free_port());
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("write a file for nginx");
        }
        let own: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {dir}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off;\npid {dir}/nginx.pid;\nerror_log stderr notice;\nworker_processes 2;\n\
             events {{ worker_connections 512; }}\nhttp {{\n    access_log {dir}/access.log;\n{own}{}}}\n",
            http(ports)
        );
        let config = folder.path().join("nginx.conf");
        fs::write(&config, text).expect("write the configuration of nginx");
        let process = Process::start(Recipe {
            name: format!("nginx on {ports:?}"),
            program: nginx,
            args: vec![
                "-p".into(),
                folder.path().into(),
                "-c".into(),
                config.into(),
                "-e".into(),
                "stderr".into(),
            ],
            env: Vec::new(),
            user: None,
            log: folder.path().join("server.log"),
            stop_signal: "QUIT",
        });
        for port in ports {
            process.wait_until(READY, || {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                TcpStream::connect(address).map(drop).map_err(|error| error.to_string())
            });
        }
        Some(PrivateNginx { process, ports: ports.to_vec(), folder })
    }

    /// The URL of one of its ports, without TLS.
    pub fn url(&self, index: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[index])
    }

    /// One of its ports.
    pub fn port(&self, index: usize) -> u16 {
        self.ports[index]
    }

    /// What it has served, a line a request.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }

    /// The end of what it has said of itself.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
