//! An SFTP server of a test's own: OpenSSH's `sshd`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::missing;
use super::place::{self, free_port, program};
use super::process::{Process, Recipe};

/// How long it may take to start.
const READY: Duration = Duration::from_secs(20);

/// An `sshd` on a port of its own that knows the user of the test by a key. It is killed when it is dropped.
#[derive(Debug)]
pub struct PrivateSftp {
    // Before its folder, so that it is gone when the folder is removed.
    process: Process,
    port: u16,
    folder: TempDir,
}

impl PrivateSftp {
    /// Starts one. `None` when there is no `sshd`.
    pub fn start() -> Option<PrivateSftp> {
        let (Some(sshd), Some(keygen)) = (program("sshd", &[]), program("ssh-keygen", &[])) else {
            return missing::skip(
                "no sshd on this machine: Debian has it in openssh-server",
                missing::required(),
            );
        };
        let folder = place::folder("sftp");
        let file = |name: &str| folder.path().join(name);
        for name in ["host_key", "user_key"] {
            let made = Command::new(&keygen)
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(file(name))
                .stdout(Stdio::null())
                .status();
            assert!(made.is_ok_and(|status| status.success()), "ssh-keygen makes no key");
        }
        fs::copy(file("user_key.pub"), file("authorized_keys")).expect("copy the key");
        fs::create_dir(file("files")).expect("a folder for the files");
        if sshd.starts_with("/usr") {
            // Where it separates privileges when it runs as root.
            let _ = fs::create_dir_all("/run/sshd");
        }
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n",
            file("host_key").display(),
            file("authorized_keys").display()
        );
        fs::write(file("sshd_config"), config).expect("write the configuration of sshd");
        let process = Process::start(Recipe {
            name: format!("sshd on {port}"),
            program: sshd,
            args: vec!["-D".into(), "-e".into(), "-f".into(), file("sshd_config").into()],
            env: Vec::new(),
            user: None,
            log: file("server.log"),
            stop_signal: "TERM",
        });
        let server = PrivateSftp { process, port, folder };
        server.wait_ready();
        Some(server)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user that it knows.
    pub fn user(&self) -> String {
        let id = Command::new("id").arg("-un").output().expect("id");
        String::from_utf8_lossy(&id.stdout).trim().to_owned()
    }

    /// The file of the user's private key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("user_key")
    }

    /// The fingerprint of the host's key: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        let key = self.folder.path().join("host_key.pub");
        let shown = Command::new("ssh-keygen").arg("-lf").arg(key).output().expect("ssh-keygen");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        shown.split(' ').nth(1).expect("a fingerprint").to_owned()
    }

    /// A folder for files.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// The same folder, as another name of [`PrivateSftp::files`] for paths sent to the server.
    pub fn path(&self) -> String {
        Path::new(&self.files()).display().to_string()
    }

    /// Kills it (SIGKILL), the connections it serves too, and waits until it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again on the same port, and waits until it is ready.
    pub fn start_again(&self) {
        self.process.start_again();
        self.wait_ready();
    }

    fn wait_ready(&self) {
        self.process.wait_until(READY, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port))
                .map(drop)
                .map_err(|error| error.to_string())
        });
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
