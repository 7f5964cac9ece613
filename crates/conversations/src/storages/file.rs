//! `storage.file`: one file for each vCon, `YYYY/MM/DD/<uuid>.json` by the day it was made.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::options::{self, OptionsError};
use crate::storage::{Storage, StorageContext, StorageError};
use crate::vcon::{Vcon, is_uuid};

pub(super) const MODULE: &str = "storage.file";

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The folder.
    path: PathBuf,
    /// In folders by day, or all in one.
    organize_by_date: bool,
    /// The largest vCon that is taken, in bytes.
    max_file_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { path: "/data/vcons".into(), organize_by_date: true, max_file_size: 10 << 20 }
    }
}

struct Files {
    options: Options,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Storage>, OptionsError> {
    let known = ["path", "organize_by_date", "max_file_size"];
    Ok(Box::new(std::sync::Arc::new(Files { options: options::read(MODULE, options, &known)? })))
}

impl Files {
    fn place(&self, vcon: &Vcon) -> PathBuf {
        let day = vcon
            .created_ms()
            .filter(|_| self.options.organize_by_date)
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let folder = match day {
            Some(day) => self.options.path.join(day.strftime("%Y/%m/%d").to_string()),
            None => self.options.path.clone(),
        };
        folder.join(format!("{}.json", vcon.uuid()))
    }

    /// Where the file is: its name is known, its day is not.
    fn find(&self, uuid: &str) -> io::Result<Option<PathBuf>> {
        let name = format!("{uuid}.json");
        let mut folders = vec![(self.options.path.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let file = folder.join(&name);
            if file.is_file() {
                return Ok(Some(file));
            }
            if depth == 3 {
                continue;
            }
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push((entry.path(), depth + 1));
                }
            }
        }
        Ok(None)
    }
}

/// Writes beside the place and moves there, so that who reads sees a whole file, old or new.
fn write(place: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write as _;

    let folder = place.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let beside = place.with_extension(format!("{:016x}.tmp", fastrand::u64(..)));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside)?;
        file.write_all(text)?;
        file.sync_data()?;
        fs::rename(&beside, place)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        drop(fs::remove_file(&beside));
    }
    written
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
impl Storage for std::sync::Arc<Files> {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn save(&self, vcon: &Vcon, _: &StorageContext) -> Result<(), StorageError> {
        let (text, limit) = (vcon.to_bytes(), self.options.max_file_size);
        if text.len() as u64 > limit {
            let reason = format!("the vCon has {} bytes, and max_file_size is {limit}", text.len());
            return Err(StorageError::permanent(reason));
        }
        let place = self.place(vcon);
        blocking(move || write(&place, &text)).await
    }

    async fn get(&self, uuid: &str) -> Result<Option<Vcon>, StorageError> {
        if !is_uuid(uuid) {
            return Ok(None);
        }
        let (files, uuid) = (std::sync::Arc::clone(self), uuid.to_owned());
        let text = blocking(move || files.find(&uuid)?.map(fs::read).transpose()).await?;
        text.map(Vcon::parse).transpose().map_err(|error| StorageError::permanent(error.to_string()))
    }

    async fn delete(&self, uuid: &str) -> Result<bool, StorageError> {
        if !is_uuid(uuid) {
            return Ok(false);
        }
        let (files, uuid) = (std::sync::Arc::clone(self), uuid.to_owned());
        blocking(move || {
            let Some(file) = files.find(&uuid)? else { return Ok(false) };
            fs::remove_file(file).map(|()| true)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn what_is_saved_is_read_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let storage = make(json!({"path": dir.path().join("a")}), &testing::environment()).unwrap();
        let vcon = testing::vcon();
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
        assert!(dir.path().join(format!("a/2026/11/20/{}.json", vcon.uuid())).is_file());
        assert_eq!(storage.get(vcon.uuid()).await.unwrap().unwrap().to_bytes(), vcon.to_bytes());
        assert!(storage.delete(vcon.uuid()).await.unwrap());
        assert!(storage.get(vcon.uuid()).await.unwrap().is_none());
        assert!(!storage.delete(vcon.uuid()).await.unwrap());
    }

    #[tokio::test]
    async fn one_that_is_too_large_is_refused_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let options = json!({"path": dir.path(), "max_file_size": 10});
        let storage = make(options, &testing::environment()).unwrap();
        let error = storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err();
        assert!(!error.is_temporary(), "{error}");
    }
}
