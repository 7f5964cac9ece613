//! A virtual host of a test's own on the shared RabbitMQ.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::missing;
use super::place::{program, random_name};
use super::process::run;
use super::url;

/// How long the greeting of a server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A place of the test's own on the shared RabbitMQ. Where `rabbitmqctl` may be used (as root) it is a virtual host,
/// which is removed with all that is in it when the value is dropped. Elsewhere it is `/`, and only the names keep
/// tests apart: take them from [`Vhost::name`] and let what you declare delete itself.
#[derive(Debug)]
pub struct Vhost {
    url: String,
    prefix: String,
    own: bool,
}

/// A virtual host on 127.0.0.1:5672 (user `guest`), or on the server of `TRUNKLINE_TEST_RABBITMQ`; `None` when it
/// is not there.
pub fn rabbitmq() -> Option<Vhost> {
    let usual = "amqp://guest:guest@127.0.0.1:5672";
    let server = std::env::var("TRUNKLINE_TEST_RABBITMQ").unwrap_or_else(|_| usual.to_owned());
    rabbitmq_at(&server, missing::required())
}

pub(super) fn rabbitmq_at(server: &str, required: bool) -> Option<Vhost> {
    let address = url::address(server, 5672);
    match greeting(address) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return missing::skip(&format!("no RabbitMQ at {address}"), required);
        }
        Err(error) => panic!("RabbitMQ at {address}: {error}"),
    }
    let prefix = random_name();
    let (user, _) = url::credentials(server).unwrap_or(("guest", ""));
    let own = match ctl(&["add_vhost", &prefix]) {
        Ok(_) => true,
        Err(why) => {
            eprintln!("no virtual host of its own for this test, it uses /: {why}");
            false
        }
    };
    let path = if own { prefix.as_str() } else { "%2f" };
    let vhost = Vhost { url: url::with_path(server, path), prefix, own };
    if own {
        let allowed = ctl(&["set_permissions", "-p", &vhost.prefix, user, ".*", ".*", ".*"]);
        allowed.unwrap_or_else(|why| panic!("{user} may not use the new virtual host: {why}"));
    }
    Some(vhost)
}

impl Vhost {
    /// The URL: `amqp://guest:guest@127.0.0.1:5672/trunkline_test_…`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The name of a queue or exchange that no other test uses.
    pub fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Whether it is a virtual host of its own, and not `/`.
    pub fn is_own(&self) -> bool {
        self.own
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if self.own
            && let Err(why) = ctl(&["delete_vhost", &self.prefix])
        {
            eprintln!("the virtual host {} stays on the shared RabbitMQ: {why}", self.prefix);
        }
    }
}

/// Asks the node of this machine, with the cookie that its own tools use.
pub(super) fn ctl(args: &[&str]) -> Result<String, String> {
    let rabbitmqctl = program("rabbitmqctl", &[]).ok_or("there is no rabbitmqctl")?;
    run(Command::new(rabbitmqctl).args(["--silent", "--timeout", "30"]).args(args))
}

/// Says hello in AMQP 0-9-1 and reads the first byte of `Connection.Start`: the server takes clients.
pub(super) fn greeting(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    match kind {
        [1] => Ok(()),
        [other] => Err(io::Error::other(format!("it greets with the byte {other}, which is not AMQP 0-9-1"))),
    }
}
