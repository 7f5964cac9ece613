//! The keys this installation knows, by their hashes.
//!
//! Keys are 256 random bits, so a plain SHA-256 is as hard to turn back as the key is to guess; slow hashes
//! protect short passwords, which these are not. The file holds hashes only: a key is shown once, when it
//! is made, and never again.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base::{Principal, Role, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const FILE: &str = "keys.json";
/// The longest credential we look at.
const MAX_PRESENTED: usize = 512;
/// The shortest admin key we take from the environment.
const MIN_ADMIN: usize = 8;

type Hash = [u8; 32];

/// The keys in force.
#[derive(Debug)]
pub struct Keyring {
    by_hash: HashMap<Hash, (Hash, Principal), foldhash::fast::RandomState>,
}

/// The keys made on the first run: shown once.
#[derive(Debug)]
pub struct FirstRun {
    /// The admin (master) key.
    pub admin_key: Secret,
    /// The default virtual key.
    pub key: Secret,
}

/// Why the keys cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A file or folder.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not what we wrote.
    #[error("{path}: {error}; restore it from a backup, or remove it to make new keys")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where it is wrong.
        error: String,
    },
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// The admin key from the environment.
    #[error("TRUNKLINE_ADMIN_KEY has fewer than {MIN_ADMIN} characters")]
    WeakAdminKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    admin_sha256: String,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    name: String,
    sha256: String,
}

impl Keyring {
    /// Reads the keys of a data folder, or makes them on the first run (the folder too, for its owner only).
    /// `admin_key`, from the environment, takes the place of the stored admin key.
    pub fn open(dir: &Path, admin_key: Option<&Secret>) -> Result<(Self, Option<FirstRun>), KeyringError> {
        if admin_key.is_some_and(|key| key.expose().len() < MIN_ADMIN) {
            return Err(KeyringError::WeakAdminKey);
        }
        let path = dir.join(FILE);
        let io_error = |error| KeyringError::Io { path: path.clone(), error };
        make_private(dir)?;
        let (stored, first) = match fs::read_to_string(&path) {
            Ok(text) => (serde_json::from_str(&text).map_err(|e| malformed(&path, &e))?, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (stored, first) = first_run(admin_key)?;
                write_new(dir, &path, &stored).map_err(io_error)?;
                (stored, Some(first))
            }
            Err(error) => return Err(io_error(error)),
        };
        Ok((Self::from_stored(&stored, admin_key, &path)?, first))
    }

    fn from_stored(stored: &Stored, admin_key: Option<&Secret>, path: &Path) -> Result<Self, KeyringError> {
        let admin = match admin_key {
            Some(key) => hash(key.expose()),
            None => parse_hash(&stored.admin_sha256, path)?,
        };
        let mut by_hash = HashMap::default();
        for key in &stored.keys {
            let digest = parse_hash(&key.sha256, path)?;
            by_hash
                .insert(digest, (digest, Principal { key_id: key.id.as_str().into(), role: Role::Caller }));
        }
        by_hash.insert(admin, (admin, Principal { key_id: "admin".into(), role: Role::Admin }));
        Ok(Keyring { by_hash })
    }

    /// Whose key this is. What is looked up is the hash, so that the time it takes tells nothing about keys;
    /// the last comparison is constant-time all the same.
    pub fn authenticate(&self, presented: &str) -> Option<Principal> {
        if presented.is_empty() || presented.len() > MAX_PRESENTED {
            return None;
        }
        let digest = hash(presented);
        let (stored, principal) = self.by_hash.get(&digest)?;
        bool::from(stored.ct_eq(&digest)).then(|| principal.clone())
    }
}

fn first_run(admin_key: Option<&Secret>) -> Result<(Stored, FirstRun), KeyringError> {
    let admin_key = match admin_key {
        Some(key) => key.clone(),
        None => random_key("tl-admin-")?,
    };
    let key = random_key("sk-tl-")?;
    let stored = Stored {
        admin_sha256: hex::encode(hash(admin_key.expose())),
        keys: vec![StoredKey {
            id: "default".into(),
            name: "default".into(),
            sha256: hex::encode(hash(key.expose())),
        }],
    };
    Ok((stored, FirstRun { admin_key, key }))
}

fn random_key(prefix: &str) -> Result<Secret, KeyringError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| KeyringError::Random(e.to_string()))?;
    Ok(Secret::from(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

fn parse_hash(text: &str, path: &Path) -> Result<Hash, KeyringError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|e| malformed(path, &e))?;
    Ok(digest)
}

fn malformed(path: &Path, error: &dyn std::fmt::Display) -> KeyringError {
    KeyringError::Malformed { path: path.to_owned(), error: error.to_string() }
}

/// The folder, readable by its owner only, also when it was there before.
fn make_private(dir: &Path) -> Result<(), KeyringError> {
    let io_error = |error| KeyringError::Io { path: dir.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io_error)
}

/// Writes the file whole or not at all. Two first runs at once: the second fails instead of replacing the
/// keys that the first has shown.
fn write_new(dir: &Path, path: &Path, stored: &Stored) -> io::Result<()> {
    let temporary = dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    serde_json::to_writer_pretty(&mut file, stored)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_keys_once_and_keeps_only_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let (ring, first) = Keyring::open(&data, None).unwrap();
        let first = first.unwrap();
        let admin = ring.authenticate(first.admin_key.expose()).unwrap();
        assert_eq!((&*admin.key_id, admin.role), ("admin", Role::Admin));
        assert_eq!(ring.authenticate(first.key.expose()).unwrap().role, Role::Caller);
        for wrong in ["", "sk-tl-", first.key.expose().trim_end_matches(|_| true), "\u{0}", &"x".repeat(600)]
        {
            assert!(ring.authenticate(wrong).is_none());
        }
        let text = fs::read_to_string(data.join(FILE)).unwrap();
        assert!(!text.contains(first.key.expose()) && !text.contains(first.admin_key.expose()));
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(data.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);

        let (again, none) = Keyring::open(&data, None).unwrap();
        assert!(none.is_none(), "shown once");
        assert!(again.authenticate(first.key.expose()).is_some());
    }

    #[test]
    fn the_environment_sets_the_admin_key() {
        let dir = tempfile::tempdir().unwrap();
        let own = Secret::from("my-own-admin-key".to_owned());
        let (ring, _) = Keyring::open(dir.path(), Some(&own)).unwrap();
        assert_eq!(ring.authenticate("my-own-admin-key").unwrap().role, Role::Admin);
        let weak = Secret::from("short".to_owned());
        assert!(matches!(Keyring::open(dir.path(), Some(&weak)), Err(KeyringError::WeakAdminKey)));
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = Keyring::open(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("keys.json"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "{");
    }
}
