//! A RabbitMQ of a test's own.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::missing;
use super::place::{self, free_port, program, versions};
use super::process::{Process, Recipe, run};
use super::rabbit::greeting;

/// How long it may take to start. It takes 4 s on an idle machine.
const READY: Duration = Duration::from_secs(90);

/// A RabbitMQ node on a port and with data of its own, without plugins. It is killed when it is dropped.
#[derive(Debug)]
pub struct PrivateRabbit {
    // Before their folder, so that they are gone when the folder is removed.
    node: Process,
    // Erlang's register of nodes. Without one of its own the node would start one that stays for ever.
    _register: Process,
    port: u16,
    ctl: PathBuf,
    env: Vec<(String, OsString)>,
    _folder: TempDir,
}

impl PrivateRabbit {
    /// Starts one, with user `guest` and the virtual host `/`. `None` when RabbitMQ is not installed.
    pub fn start() -> Option<PrivateRabbit> {
        // Debian's /usr/sbin/rabbitmq-server only starts the one node of the machine; the real script lies here.
        let mut places = versions("/usr/lib/rabbitmq/lib", "sbin");
        places.push(PathBuf::from("/opt/rabbitmq/sbin"));
        let erlang = [PathBuf::from("/usr/lib/erlang/bin")];
        let (Some(server), Some(ctl)) =
            (program("rabbitmq-server", &places), program("rabbitmqctl", &places))
        else {
            return missing::skip("no rabbitmq-server on this machine", missing::required());
        };
        let Some(epmd) = program("epmd", &erlang) else {
            return missing::skip("no epmd (Erlang) on this machine", missing::required());
        };

        let folder = place::folder("rabbit");
        let (port, register_port) = (free_port(), free_port());
        let env = environment(&folder, port, register_port);
        fs::write(folder.path().join("plugins"), "[].\n").expect("write the list of plugins");
        let recipe = |name: String, program: PathBuf, args: Vec<OsString>, log: &str| Recipe {
            name,
            program,
            args,
            env: env.clone(),
            user: None,
            log: folder.path().join(log),
            stop_signal: "TERM",
        };
        let args = vec!["-port".into(), register_port.to_string().into()];
        let register = Process::start(recipe(format!("epmd on {register_port}"), epmd, args, "epmd.log"));
        register.wait_until(READY, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, register_port))
                .map(drop)
                .map_err(|error| error.to_string())
        });
        let node = Process::start(recipe(format!("rabbitmq on {port}"), server, Vec::new(), "server.log"));
        let rabbit = PrivateRabbit { node, _register: register, port, ctl, env, _folder: folder };
        rabbit.wait_ready();
        Some(rabbit)
    }

    /// Its URL, of the virtual host `/`; the same after every start.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What `rabbitmqctl` prints for these arguments: `["list_queues", "name", "messages"]`. Panics when it fails.
    pub fn ctl(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.ctl);
        command.args(["--silent", "--timeout", "30"]).args(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        run(&mut command).unwrap_or_else(|why| panic!("rabbitmqctl {args:?}: {why}"))
    }

    /// Stops it in order (SIGTERM) and waits until it has.
    pub fn stop(&self) {
        self.node.stop();
    }

    /// Kills it with all its processes (SIGKILL), and waits until they are gone.
    pub fn kill(&self) {
        self.node.kill();
    }

    /// Starts it again on the same port and data, and waits until it is ready.
    pub fn start_again(&self) {
        self.node.start_again();
        self.wait_ready();
    }

    /// Waits until it greets clients. Panics with its log when it ends, or does not within 90 seconds.
    pub fn wait_ready(&self) {
        self.node.wait_until(READY, || greeting(self.address()).map_err(|error| error.to_string()));
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.node.log()
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> [Option<u32>; 2] {
        [self.node.id(), self._register.id()]
    }
}

/// A node that shares nothing with another on this machine: name, ports, data, plugins, cookie, register.
fn environment(folder: &TempDir, port: u16, register_port: u16) -> Vec<(String, OsString)> {
    let inside = |name: &str| folder.path().join(name).into_os_string();
    let named = |name: &str, value: OsString| (name.to_owned(), value);
    vec![
        named("HOME", folder.path().into()),
        named("LANG", "C.UTF-8".into()),
        named("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        named("ERL_EPMD_PORT", register_port.to_string().into()),
        named("RABBITMQ_NODENAME", format!("testkit{port}@localhost").into()),
        named("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
        named("RABBITMQ_NODE_PORT", port.to_string().into()),
        named("RABBITMQ_DIST_PORT", free_port().to_string().into()),
        named("RABBITMQ_MNESIA_BASE", inside("mnesia")),
        named("RABBITMQ_LOG_BASE", inside("log")),
        named("RABBITMQ_LOGS", "-".into()),
        named("RABBITMQ_GENERATED_CONFIG_DIR", inside("generated")),
        named("RABBITMQ_FEATURE_FLAGS_FILE", inside("feature_flags")),
        named("RABBITMQ_ENABLED_PLUGINS_FILE", inside("plugins")),
        // Not those of the machine's own node.
        named("RABBITMQ_CONF_ENV_FILE", inside("no-such-file")),
        named("RABBITMQ_CONFIG_FILE", inside("no-such-file")),
        // With this the script becomes the node instead of watching over it, so that signals reach the node.
        named("RABBITMQ_ALLOW_INPUT", "1".into()),
        named(
            "RABBITMQ_SERVER_START_ARGS",
            "-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}".into(),
        ),
    ]
}
