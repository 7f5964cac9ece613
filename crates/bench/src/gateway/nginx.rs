//! nginx as a plain reverse proxy: the floor to compare with.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::subject::{Log, Subject, System};
use crate::Outcome;

/// nginx's program and version.
pub struct Nginx {
    program: PathBuf,
    /// As it tells it, for example `nginx/1.22.1`.
    pub version: String,
}

/// Looks for nginx in `PATH` and in `/usr/sbin`.
pub fn find() -> Outcome<Nginx> {
    for program in ["nginx", "/usr/sbin/nginx"] {
        if let Ok(output) = Command::new(program).arg("-v").output() {
            let told = String::from_utf8_lossy(&output.stderr);
            let version = told.trim().trim_start_matches("nginx version: ").to_owned();
            return Ok(Nginx { program: program.into(), version });
        }
    }
    Err("nginx is not here, and without it the figures have nothing to be compared with.\n\
         Install it with: apt-get install --no-install-recommends nginx"
        .into())
}

impl Nginx {
    /// Starts it in `dir` in front of `upstream`.
    pub fn start(&self, dir: &Path, upstream: SocketAddr) -> Outcome<Subject> {
        std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        // nginx cannot tell which port it took, so a free one is looked for first.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no free port: {error}"))?;
        let file = dir.join("nginx.conf");
        std::fs::write(&file, configuration(dir, address, upstream)).map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.program);
        command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg(dir.join("error.log"));
        let mut process = Process::start("nginx", &mut command, dir)?;
        process.wait_for(Duration::from_secs(10), || TcpStream::connect(address).ok())?;
        let log = Log::new(dir.join("access.log"), |line| line.contains("\"POST /v1/chat/completions "));
        Ok(Subject::new(System::Nginx, address, Some(process), Some(log), None))
    }
}

/// Upstream connections are kept, nothing is buffered to disk, one access line per request is written at once.
fn configuration(dir: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        r#"daemon off;
pid "{dir}/nginx.pid";
error_log "{dir}/error.log" warn;
worker_processes auto;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log "{dir}/access.log" combined;
    client_body_temp_path "{dir}/body";
    proxy_temp_path "{dir}/proxy";
    fastcgi_temp_path "{dir}/fastcgi";
    uwsgi_temp_path "{dir}/uwsgi";
    scgi_temp_path "{dir}/scgi";
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    upstream provider {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"#
    )
}
