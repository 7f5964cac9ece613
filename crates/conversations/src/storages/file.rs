//! `storage.file`: one file for each vCon, `YYYY/MM/DD/<uuid>.json` by the day it was made.
//!
//! A file is written beside its place, synced and moved there, so whoever reads sees a whole file, old or new, and
//! what was acknowledged is still there after the power failed. Permissions are set on what is made here, never on
//! folders that were there before.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::Value;

use super::day;
use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.file";
pub(super) const OPTIONS: &[&str] =
    &["path", "organize_by_date", "compression", "max_file_size", "file_permissions", "dir_permissions"];

/// The largest file that is read, in bytes of JSON: one that is larger was not written by us.
const MAX_READ: u64 = 1 << 30;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    path: PathBuf,
    organize_by_date: bool,
    compression: bool,
    max_file_size: u64,
    #[serde(deserialize_with = "mode")]
    file_permissions: u32,
    #[serde(deserialize_with = "mode")]
    dir_permissions: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            path: "/data/vcons".into(),
            organize_by_date: true,
            compression: false,
            max_file_size: 10 << 20,
            file_permissions: 0o644,
            dir_permissions: 0o755,
        }
    }
}

/// Permissions as people write them: `0o644`, `"0644"`, `644`, or the number that a reader of older YAML made of
/// `0644` (420).
fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let digits = |text: &str| {
        let text = text.trim();
        let text = text.strip_prefix("0o").or_else(|| text.strip_prefix("0O")).unwrap_or(text);
        u32::from_str_radix(text, 8).ok()
    };
    let mode = match Value::deserialize(deserializer)? {
        // No permissions of everyday are beyond 0o777 = 511: a larger number was meant as octal digits.
        Value::Number(number) => match number.as_u64() {
            Some(number @ 0..=0o777) => u32::try_from(number).ok(),
            Some(number) => digits(&number.to_string()),
            None => None,
        },
        Value::String(text) => digits(&text),
        _ => None,
    };
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| serde::de::Error::custom("permissions must be octal, as \"0644\" or 0o644"))
}

struct Files {
    options: Options,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    if options.path.as_os_str().is_empty() {
        return Err(OptionsError::new("`path` must name a folder"));
    }
    Ok(Box::new(Arc::new(Files { options })))
}

impl Files {
    /// The endings of files, ours first.
    fn endings(&self) -> [&'static str; 2] {
        match self.options.compression {
            true => ["json.gz", "json"],
            false => ["json", "json.gz"],
        }
    }

    fn folder(&self, vcon: &Vcon) -> PathBuf {
        match day::folder(vcon).filter(|_| self.options.organize_by_date) {
            Some(day) => self.options.path.join(day),
            None => self.options.path.clone(),
        }
    }

    fn write(&self, folder: &Path, uuid: &str, text: &[u8]) -> io::Result<()> {
        let [ours, other] = self.endings();
        let place = folder.join(format!("{uuid}.{ours}"));
        let beside = folder.join(format!(".{uuid}.{:016x}.tmp", fastrand::u64(..)));
        let mut file = match create(&beside, self.options.file_permissions) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_folders(folder, self.options.dir_permissions)?;
                create(&beside, self.options.file_permissions)?
            }
            made => made?,
        };
        let written = (|| {
            match self.options.compression {
                true => {
                    let mut gzip = GzEncoder::new(&mut file, Compression::default());
                    gzip.write_all(text)?;
                    gzip.finish()?;
                }
                false => file.write_all(text)?,
            }
            // What the umask took away.
            file.set_permissions(fs::Permissions::from_mode(self.options.file_permissions))?;
            file.sync_all()?;
            fs::rename(&beside, &place)
        })();
        if written.is_err() {
            drop(fs::remove_file(&beside));
            return written;
        }
        // One of before `compression` was changed would be the older of two.
        remove(&folder.join(format!("{uuid}.{other}")))?;
        // The name is durable once its folder is.
        fs::File::open(folder)?.sync_all()
    }

    /// The file of a vCon: its name is known, its day is not. Where it likely is comes first; then all days, the
    /// last first.
    fn find(&self, uuid: &str) -> io::Result<Option<PathBuf>> {
        let top = &self.options.path;
        let likely = day::likely(uuid).into_iter().map(|day| top.join(day));
        for folder in std::iter::once(top.clone()).chain(likely) {
            if let Some(file) = self.in_folder(&folder, uuid) {
                return Ok(Some(file));
            }
        }
        let mut found = None;
        self.walk(uuid, &mut |file| {
            found = Some(file);
            false
        })?;
        Ok(found)
    }

    /// Shows every file of a vCon in the folders by day, until `more` says no.
    fn walk(&self, uuid: &str, more: &mut dyn FnMut(PathBuf) -> bool) -> io::Result<()> {
        for year in numbered(&self.options.path, 4)? {
            for month in numbered(&year, 2)? {
                for day in numbered(&month, 2)? {
                    if let Some(file) = self.in_folder(&day, uuid)
                        && !more(file)
                    {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn in_folder(&self, folder: &Path, uuid: &str) -> Option<PathBuf> {
        let files = self.endings().map(|ending| folder.join(format!("{uuid}.{ending}")));
        files.into_iter().find(|file| file.is_file())
    }

    fn read(&self, uuid: &str) -> io::Result<Option<Bytes>> {
        let Some(file) = self.find(uuid)? else { return Ok(None) };
        let zipped = file.extension().is_some_and(|ending| ending == "gz");
        let file = match fs::File::open(&file) {
            // Removed since it was found.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        let read = match zipped {
            true => MultiGzDecoder::new(file).take(MAX_READ + 1).read_to_end(&mut text)?,
            false => file.take(MAX_READ + 1).read_to_end(&mut text)?,
        };
        if read as u64 > MAX_READ {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "the file is larger than a vCon can be"));
        }
        Ok(Some(text.into()))
    }

    fn forget(&self, uuid: &str) -> io::Result<bool> {
        let mut files = Vec::new();
        for ending in self.endings() {
            files.push(self.options.path.join(format!("{uuid}.{ending}")));
        }
        self.walk(uuid, &mut |file| {
            let folder = file.parent().unwrap_or(&file);
            files.extend(self.endings().map(|ending| folder.join(format!("{uuid}.{ending}"))));
            true
        })?;
        let mut removed = false;
        for file in files {
            if !remove(&file)? {
                continue;
            }
            removed = true;
            // Folders that are empty now go too; one that is not stops it.
            let mut folder = file.parent();
            while let Some(at) = folder.filter(|at| *at != self.options.path) {
                if fs::remove_dir(at).is_err() {
                    break;
                }
                folder = at.parent();
            }
            let left = folder.unwrap_or(&self.options.path);
            fs::File::open(left)?.sync_all()?;
        }
        Ok(removed)
    }
}

fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Makes the folders that are not there, durably and with this mode; those that are there are left alone.
fn make_folders(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_folders(parent, mode)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(mode))?,
        // Somebody else made it now; or a file is in the way.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        Err(error) => return Err(error),
    }
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes a file; whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The folders within one whose names are so many digits, the highest first.
fn numbered(folder: &Path, digits: usize) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let fits =
            name.as_encoded_bytes().len() == digits && name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if fits {
            found.push(folder.join(name));
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StorageError::temporary("it was interrupted")),
    }
}

#[async_trait]
impl Storage for Arc<Files> {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, _: &StorageContext) -> Result<(), StorageError> {
        let (text, limit) = (vcon.to_bytes(), self.options.max_file_size);
        if text.len() as u64 > limit {
            let reason = format!("the vCon has {} bytes, and max_file_size is {limit}", text.len());
            return Err(StorageError::permanent(reason));
        }
        let (files, folder, uuid) = (Arc::clone(self), self.folder(vcon), vcon.uuid().to_owned());
        blocking(move || files.write(&folder, &uuid, &text)).await
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        if !is_uuid(uuid) {
            return Ok(None);
        }
        let (files, uuid) = (Arc::clone(self), uuid.to_ascii_lowercase());
        let text = blocking(move || files.read(&uuid)).await?;
        text.map(Vcon::parse).transpose().map_err(|error| StorageError::permanent(error.to_string()))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        if !is_uuid(uuid) {
            return Ok(false);
        }
        let (files, uuid) = (Arc::clone(self), uuid.to_ascii_lowercase());
        blocking(move || files.forget(&uuid)).await
    }
}

#[cfg(test)]
mod tests;
