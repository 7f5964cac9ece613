//! A PostgreSQL of a test's own.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::missing;
use super::place::{self, free_port, program, versions};
use super::postgres::execute;
use super::process::{Process, Recipe, finish, run};

/// How long it may take to be ready; recovery after a kill included.
const READY: Duration = Duration::from_secs(30);
/// Whom it runs as when the test runs as root, which PostgreSQL refuses.
const USER: &str = "postgres";

/// Small, quick, and only for this test. What is written survives the end of the server, not that of the machine.
const CONFIG: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 32MB
autovacuum = off
";

/// A PostgreSQL server on a port and with data of its own. It is killed when it is dropped.
#[derive(Debug)]
pub struct PrivatePostgres {
    // Before its folder, so that it is gone when the folder is removed.
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl PrivatePostgres {
    /// Makes and starts one. `None` when PostgreSQL is not installed.
    pub fn start() -> Option<PrivatePostgres> {
        PrivatePostgres::start_with(&[])
    }

    /// Makes and starts one with these lines of configuration over the usual ones: `fsync = on`.
    pub fn start_with(config: &[&str]) -> Option<PrivatePostgres> {
        let places = versions("/usr/lib/postgresql", "bin");
        let (Some(initdb), Some(server)) = (program("initdb", &places), program("postgres", &places)) else {
            return missing::skip("no postgres on this machine", missing::required());
        };
        let folder = place::folder("postgres");
        let user = match fs::metadata(folder.path()).expect("the folder for PostgreSQL").uid() {
            0 => {
                if program("setpriv", &[]).is_none() {
                    let what = "no setpriv on this machine, to run postgres as another user than root";
                    return missing::skip(what, missing::required());
                }
                give(folder.path());
                Some(USER.to_owned())
            }
            _ => None,
        };
        let data = folder.path().join("data");
        let recipe = |name: String, program: PathBuf, args: Vec<OsString>| Recipe {
            name,
            program,
            args,
            env: vec![("LC_ALL".to_owned(), "C".into())],
            user: user.clone(),
            log: folder.path().join("server.log"),
            // TERM would wait until the last client leaves; INT closes their connections.
            stop_signal: "INT",
        };
        let flag = |text: &str| OsString::from(text);
        let mut args = vec![flag("-D"), data.clone().into(), flag("-U"), flag("postgres"), flag("-A")];
        args.extend(["trust", "--no-sync", "--encoding=UTF8", "--locale=C"].map(flag));
        finish(&recipe("initdb".to_owned(), initdb, args));

        let port = free_port();
        let mut file =
            OpenOptions::new().append(true).open(data.join("postgresql.conf")).expect("postgresql.conf");
        let text = format!("{CONFIG}port = {port}\n{}\n", config.join("\n"));
        file.write_all(text.as_bytes()).expect("write postgresql.conf");
        let args = vec![flag("-D"), data.into()];
        let process = Process::start(recipe(format!("postgres on {port}"), server, args));
        let postgres = PrivatePostgres { process, port, _folder: folder };
        postgres.wait_ready();
        Some(postgres)
    }

    /// The URL of its database `postgres`, the same after every start.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Runs statements in the database. Panics when one fails.
    pub fn execute(&self, sql: &str) {
        execute(&self.url(), sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Stops it in order and waits until it has: the connections are closed, what runs is rolled back. The signal
    /// is SIGINT, PostgreSQL's "fast" stop, because SIGTERM waits until every client has left.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Kills it with all its processes (SIGKILL), and waits until they are gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again on the same port and data, and waits until it is ready.
    pub fn start_again(&self) {
        self.process.start_again();
        self.wait_ready();
    }

    /// Waits until it runs statements. Panics with its log when it ends, or does not within 30 seconds.
    pub fn wait_ready(&self) {
        self.process
            .wait_until(READY, || execute(&self.url(), "SELECT 1").map_err(|error| error.to_string()));
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }
}

/// Gives the folder to the user that the server runs as.
fn give(folder: &Path) {
    let number = |flag: &str| {
        let text =
            run(Command::new("id").args([flag, USER])).unwrap_or_else(|error| panic!("id {USER}: {error}"));
        text.trim().parse::<u32>().expect("id prints a number")
    };
    chown(folder, Some(number("-u")), Some(number("-g"))).expect("give the folder to the user of the server");
}
