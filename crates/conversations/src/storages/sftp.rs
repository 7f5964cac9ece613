//! `storage.sftp`: a file for each vCon on an SFTP server, `<path>/<filename>_<uuid>[_<time>].<extension>`.
//!
//! The Conserver's own names have no uuid, so that what is read there is whichever file is the last. Here each name
//! has it: what is read is what was asked for. A file is written under another name and then renamed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use russh::client::{self, AuthResult, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key};
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use super::http::cleaned;
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.sftp";
pub(super) const OPTIONS: &[&str] = &[
    "url",
    "port",
    "username",
    "password",
    "private_key",
    "private_key_path",
    "passphrase",
    "host_key",
    "path",
    "filename",
    "extension",
    "add_timestamp_to_filename",
    "timeout",
];

/// The most connections.
const CONNECTIONS: usize = 4;
/// How much is written or read at once: what every server takes.
const PIECE: usize = 32 << 10;
/// The most names of one folder that are looked through.
const MAX_NAMES: usize = 5_000_000;
/// The largest file that is read.
const MAX_FILE: usize = 1 << 30;
/// Renames over what is there, as OpenSSH and most others know it.
const POSIX_RENAME: &str = "posix-rename@openssh.com";

#[derive(Deserialize)]
#[serde(default)]
struct Options {
    url: String,
    port: Option<u16>,
    username: String,
    password: Option<Secret>,
    private_key: Option<Secret>,
    private_key_path: Option<String>,
    passphrase: Option<Secret>,
    host_key: Option<String>,
    path: String,
    filename: String,
    extension: String,
    add_timestamp_to_filename: bool,
    timeout: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            url: "sftp://localhost".into(),
            port: None,
            username: "username".into(),
            password: None,
            private_key: None,
            private_key_path: None,
            passphrase: None,
            host_key: None,
            path: ".".into(),
            filename: "vcon".into(),
            extension: "json".into(),
            add_timestamp_to_filename: true,
            timeout: 30.0,
        }
    }
}

struct Sftp {
    host: String,
    port: u16,
    options: Options,
    key: Option<Arc<PrivateKey>>,
    timeout: Duration,
    secrets: Vec<Secret>,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

/// A connection, its SFTP session, and whether the server can rename over what is there.
struct Connection {
    sftp: RawSftpSession,
    replaces: bool,
    // Closes the connection when it is dropped.
    _ssh: Handle<HostKey>,
}

/// A connection in use.
struct Taken<'a> {
    connection: Connection,
    _permit: SemaphorePermit<'a>,
}

/// Checks the key of the host.
struct HostKey {
    host: String,
    expected: Option<String>,
}

impl client::Handler for HostKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let shown = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256).to_string(),
            PublicKeyOrCertificate::Certificate(certificate) => {
                certificate.public_key().fingerprint(HashAlg::Sha256).to_string()
            }
        };
        match &self.expected {
            Some(expected) if *expected == shown => Ok(true),
            Some(_) => {
                tracing::error!(
                    host = self.host,
                    fingerprint = shown,
                    "the SFTP server shows another `host_key`"
                );
                Ok(false)
            }
            None => {
                tracing::warn!(
                    host = self.host,
                    fingerprint = shown,
                    "the SFTP server is believed without proof; set this fingerprint as `host_key`"
                );
                Ok(true)
            }
        }
    }
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let timeout = super::http::seconds("timeout", options.timeout)?;
    // `sftp://host`, or as the Conserver's library takes it, a host alone.
    let given = options.url.trim();
    let whole = if given.contains("://") { given.to_owned() } else { format!("sftp://{given}") };
    let url = url::Url::parse(&whole).ok().filter(|url| url.scheme() == "sftp" && url.username().is_empty());
    let host = url.as_ref().and_then(|url| Some(url.host_str()?.trim_matches(['[', ']']).to_owned()));
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Err(OptionsError::new("`url` must be a host, as sftp://host or host"));
    };
    let port = options.port.or_else(|| url?.port()).unwrap_or(22);
    for (name, text) in [("filename", &options.filename), ("extension", &options.extension)] {
        if text.contains(['/', '\0']) || text.len() > 100 {
            return Err(OptionsError::new(format!("`{name}` must be a part of a file's name")));
        }
    }
    let key = private_key(&options)?;
    let secrets =
        [&options.password, &options.private_key, &options.passphrase].into_iter().flatten().cloned();
    let secrets = secrets.collect();
    let (permits, idle) = (Semaphore::new(CONNECTIONS), Mutex::default());
    Ok(Box::new(Sftp { host, port, options, key, timeout, secrets, permits, idle }))
}

fn private_key(options: &Options) -> Result<Option<Arc<PrivateKey>>, OptionsError> {
    let text = match (&options.private_key, &options.private_key_path) {
        (Some(key), _) => key.clone(),
        (None, Some(file)) => {
            let read = std::fs::read_to_string(file);
            let read =
                read.map_err(|error| OptionsError::new(format!("`private_key_path`: {file}: {error}")))?;
            Secret::from(read)
        }
        (None, None) => return Ok(None),
    };
    let passphrase = options.passphrase.as_ref().map(Secret::expose);
    match decode_secret_key(text.expose(), passphrase) {
        Ok(key) => Ok(Some(Arc::new(key))),
        Err(_) => Err(OptionsError::new(
            "`private_key` is no private key in PEM or OpenSSH form, or `passphrase` does not open it",
        )),
    }
}

impl Sftp {
    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> StorageError {
        StorageError::temporary(format!("SFTP: {what}: {}", cleaned(&error.to_string(), &self.secrets)))
    }

    async fn connect(&self) -> Result<Connection, StorageError> {
        let config = client::Config {
            nodelay: true,
            keepalive_interval: Some(Duration::from_secs(30)),
            inactivity_timeout: Some(Duration::from_secs(300)),
            ..client::Config::default()
        };
        let expected = self.options.host_key.clone().filter(|key| !key.is_empty());
        let checks = HostKey { host: self.host.clone(), expected };
        let connecting = client::connect(Arc::new(config), (self.host.as_str(), self.port), checks);
        let mut ssh = connecting.await.map_err(|error| self.failed("no connection", &error))?;
        self.log_in(&mut ssh).await?;
        let refused = |error: russh::Error| self.failed("no session", &error);
        let channel = ssh.channel_open_session().await.map_err(refused)?;
        channel.request_subsystem(true, "sftp").await.map_err(refused)?;
        let sftp = RawSftpSession::new(channel.into_stream());
        sftp.set_timeout(self.timeout.as_secs().max(1));
        let version = sftp.init().await.map_err(|error| self.failed("no session", &error))?;
        let replaces = version.extensions.contains_key(POSIX_RENAME);
        Ok(Connection { sftp, replaces, _ssh: ssh })
    }

    async fn log_in(&self, ssh: &mut Handle<HostKey>) -> Result<(), StorageError> {
        let user = &self.options.username;
        let refused = |error: russh::Error| self.failed("no login", &error);
        if let Some(key) = &self.key {
            let hash = ssh.best_supported_rsa_hash().await.map_err(refused)?.flatten();
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
            if let AuthResult::Success = ssh.authenticate_publickey(user, key).await.map_err(refused)? {
                return Ok(());
            }
        }
        if let Some(password) = &self.options.password {
            let answer = ssh.authenticate_password(user, password.expose()).await.map_err(refused)?;
            if let AuthResult::Success = answer {
                return Ok(());
            }
        }
        Err(StorageError::temporary(
            "SFTP: the server does not let us in: check `username` and `password` or `private_key`",
        ))
    }

    /// Does one piece of work within the time there is.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(StorageError::temporary(format!("SFTP: no answer within {:?}", self.timeout))),
        }
    }

    /// A connection, when there is room for one. It is closed unless it is given back.
    async fn take(&self) -> Result<Taken<'_>, StorageError> {
        let closed = |_| StorageError::temporary("the storage is closed");
        let permit = self.permits.acquire().await.map_err(closed)?;
        // One that was idle may be gone: then a new one is made, and its failure counts.
        while let Some(connection) = self.next_idle().await {
            if connection.sftp.realpath(".").await.is_ok() {
                return Ok(Taken { connection, _permit: permit });
            }
        }
        Ok(Taken { connection: self.connect().await?, _permit: permit })
    }

    async fn next_idle(&self) -> Option<Connection> {
        self.idle.lock().await.pop()
    }

    async fn give_back(&self, taken: Taken<'_>) {
        self.idle.lock().await.push(taken.connection);
    }

    fn name(&self, uuid: &str) -> String {
        let Options { filename, extension, add_timestamp_to_filename, .. } = &self.options;
        let time = match add_timestamp_to_filename {
            // So that names sort as their times; no two are the same.
            true => format!("_{}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9f")),
            false => String::new(),
        };
        format!("{filename}_{uuid}{time}.{extension}")
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.options.path.trim_end_matches('/'))
    }

    async fn write(&self, at: &Connection, name: &str, text: &[u8]) -> Result<(), StorageError> {
        let (path, beside) =
            (self.path(name), self.path(&format!(".{name}.{:016x}.part", fastrand::u64(..))));
        let written = async {
            let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
            let file = at.sftp.open(&beside, flags, FileAttributes::empty()).await?.handle;
            let mut offset = 0_u64;
            for piece in text.chunks(PIECE) {
                at.sftp.write(&file, offset, piece.to_vec()).await?;
                offset += piece.len() as u64;
            }
            // Where the server cannot, what its system does has to do.
            match at.sftp.fsync(&file).await {
                Err(SftpError::Status(status)) if status.status_code == StatusCode::OpUnsupported => {}
                synced => drop(synced?),
            }
            at.sftp.close(file).await?;
            if at.replaces {
                return replace(&at.sftp, &beside, &path).await;
            }
            match at.sftp.remove(&path).await {
                Err(SftpError::Status(status)) if status.status_code == StatusCode::NoSuchFile => {}
                removed => drop(removed?),
            }
            at.sftp.rename(&beside, &path).await.map(drop)
        };
        let written: Result<(), SftpError> = written.await;
        if let Err(error) = written {
            drop(at.sftp.remove(&beside).await);
            return Err(self.failed("not written", &error));
        }
        Ok(())
    }

    /// The files of a vCon, the newest last.
    async fn names(&self, at: &Connection, uuid: &str) -> Result<Vec<String>, SftpError> {
        let start = format!("{}_{uuid}", self.options.filename);
        let end = format!(".{}", self.options.extension);
        let folder = at.sftp.opendir(&self.options.path).await?.handle;
        let (mut found, mut seen) = (Vec::new(), 0);
        let listed = loop {
            match at.sftp.readdir(&folder).await {
                Ok(names) => {
                    seen += names.files.len();
                    let names = names.files.into_iter().map(|file| file.filename);
                    found.extend(names.filter(|name| name.starts_with(&start) && name.ends_with(&end)));
                    if seen > MAX_NAMES {
                        break Err(SftpError::Limited(format!("the folder has more than {MAX_NAMES} names")));
                    }
                }
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(at.sftp.close(folder).await);
        listed?;
        found.sort_unstable();
        Ok(found)
    }

    async fn read(&self, at: &Connection, name: &str) -> Result<Vec<u8>, SftpError> {
        let file = at.sftp.open(self.path(name), OpenFlags::READ, FileAttributes::empty()).await?.handle;
        let mut text = Vec::new();
        let read = loop {
            match at.sftp.read(&file, text.len() as u64, PIECE as u32).await {
                Ok(piece) => text.extend(piece.data),
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => break Ok(text),
                Err(error) => break Err(error),
            }
            if text.len() > MAX_FILE {
                break Err(SftpError::Limited(format!("the file is larger than {MAX_FILE} bytes")));
            }
        };
        drop(at.sftp.close(file).await);
        read
    }
}

/// Renames over what is there.
async fn replace(sftp: &RawSftpSession, from: &str, to: &str) -> Result<(), SftpError> {
    let mut data = Vec::new();
    for path in [from, to] {
        let length =
            u32::try_from(path.len()).map_err(|_| SftpError::Limited("a path is too long".into()))?;
        data.extend(length.to_be_bytes());
        data.extend(path.as_bytes());
    }
    match sftp.extended(POSIX_RENAME, data).await? {
        Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
        Packet::Status(status) => Err(SftpError::Status(status)),
        _ => Err(SftpError::UnexpectedPacket),
    }
}

#[async_trait]
impl Storage for Sftp {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, _: &StorageContext) -> Result<(), StorageError> {
        let (name, text) = (self.name(vcon.uuid()), vcon.to_bytes());
        self.within(async {
            let taken = self.take().await?;
            self.write(&taken.connection, &name, &text).await?;
            self.give_back(taken).await;
            Ok(())
        })
        .await
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(None);
        }
        let failed = |error: SftpError| self.failed("not read", &error);
        let text = self
            .within(async {
                let taken = self.take().await?;
                let at = &taken.connection;
                let text = match self.names(at, &uuid).await.map_err(failed)?.last() {
                    Some(name) => Some(self.read(at, name).await.map_err(failed)?),
                    None => None,
                };
                self.give_back(taken).await;
                Ok(text)
            })
            .await?;
        text.map(Vcon::parse).transpose().map_err(|error| StorageError::permanent(error.to_string()))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        let uuid = uuid.to_ascii_lowercase();
        if !is_uuid(&uuid) {
            return Ok(false);
        }
        let failed = |error: SftpError| self.failed("not removed", &error);
        self.within(async {
            let taken = self.take().await?;
            let at = &taken.connection;
            let names = self.names(at, &uuid).await.map_err(failed)?;
            for name in &names {
                at.sftp.remove(self.path(name)).await.map_err(failed)?;
            }
            self.give_back(taken).await;
            Ok(!names.is_empty())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
