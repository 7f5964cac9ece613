//! Blobs as files below one folder. A write goes to a file of its own, is synced and then renamed into its
//! place, so that no reader sees a part and no crash leaves one. Only our user can read them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use base::seams::{Backend, BlobInfo, BlobPage, Blobs, Body, SeamError, check_blob_key};
use bytes::Bytes;

use super::{beyond, check_list, check_range, missing};

/// How much is read at once.
const PIECE: usize = 256 << 10;
/// What the name of an unfinished file begins with.
const UNFINISHED: &str = ".trunkline-";
/// An unfinished file that nobody has written to for so long was left by a crash.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// The most entries of one folder that a listing looks at.
const MAX_FOLDER: usize = 1_000_000;

/// Blobs as files.
#[derive(Clone, Debug)]
pub struct LocalBlobs {
    dir: PathBuf,
    max_size: u64,
}

impl LocalBlobs {
    /// Makes the folder (0700) if it is not there, and removes what a crash left unfinished in it.
    pub async fn open(dir: &Path, max_size: u64) -> Result<Self, SeamError> {
        let folder = dir.to_owned();
        blocking(move || {
            make_folder(&folder)?;
            remove_unfinished(&folder.join(UNFINISHED_DIR))
        })
        .await
        .map_err(|error| failed("the folder of blobs", &error))?;
        Ok(LocalBlobs { dir: dir.to_owned(), max_size })
    }

    fn path(&self, key: &str) -> Result<PathBuf, SeamError> {
        check_blob_key(key)?;
        Ok(self.dir.join(key))
    }

    async fn open_file(&self, key: &str) -> Result<(BlobInfo, std::fs::File), SeamError> {
        let path = self.path(key)?;
        let name = key.to_owned();
        let opened = blocking(move || {
            let file = std::fs::File::open(&path)?;
            let info = info(name, &file.metadata()?)?;
            Ok((info, file))
        });
        opened.await.map_err(|error| of_key(key, &error))
    }
}

/// The folder of unfinished files. No key can name it.
const UNFINISHED_DIR: &str = ".trunkline-unfinished";

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

fn failed(what: &str, error: &io::Error) -> SeamError {
    SeamError::Unavailable { backend: "local", reason: format!("{what}: {error}") }
}

fn of_key(key: &str, error: &io::Error) -> SeamError {
    match error.kind() {
        // A folder of other blobs is not a blob.
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => missing(key),
        _ => failed(&format!("the blob {key}"), error),
    }
}

fn info(key: String, metadata: &std::fs::Metadata) -> io::Result<BlobInfo> {
    if !metadata.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(BlobInfo { key, size: metadata.len(), modified_at: crate::time::millis(modified) })
}

fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_unfinished(folder: &Path) -> io::Result<()> {
    make_folder(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A younger one may be another process' that shares the folder.
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > ABANDONED {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A file on its way to its place; removed if it does not get there.
struct Unfinished {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl Unfinished {
    fn create(folder: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = folder.join(format!("{UNFINISHED}{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Unfinished { path, file: Some(file) })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        match &mut self.file {
            Some(file) => file.write_all(piece),
            None => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn finish(mut self, path: &Path) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all()?;
        }
        let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
        make_folder(folder)?;
        std::fs::rename(&self.path, path)?;
        self.path = PathBuf::new();
        // The name is durable once its folder is.
        std::fs::File::open(folder)?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// A file read piece by piece.
struct Reading {
    file: Option<std::fs::File>,
    left: u64,
}

#[async_trait]
impl Body for Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, SeamError> {
        use std::io::Read as _;
        let Some(mut file) = self.file.take() else { return Ok(None) };
        let most = self.left.min(PIECE as u64);
        let read = blocking(move || {
            let mut piece = Vec::new();
            let count = (&mut file).take(most).read_to_end(&mut piece)?;
            Ok((file, piece, count))
        });
        let (file, piece, count) = read.await.map_err(|error| failed("a blob", &error))?;
        if count == 0 {
            return Ok(None);
        }
        self.left -= count as u64;
        self.file = Some(file);
        Ok(Some(piece.into()))
    }
}

#[async_trait]
impl Backend for LocalBlobs {
    fn backend(&self) -> &'static str {
        "local"
    }

    async fn ping(&self) -> Result<(), SeamError> {
        let dir = self.dir.clone();
        let there = blocking(move || std::fs::metadata(dir)).await;
        there.map(drop).map_err(|error| failed("the folder of blobs", &error))
    }
}

#[async_trait]
impl Blobs for LocalBlobs {
    async fn put(&self, key: &str, mut body: Box<dyn Body>) -> Result<u64, SeamError> {
        let path = self.path(key)?;
        let folder = self.dir.join(UNFINISHED_DIR);
        let wrong = |error: io::Error| failed(&format!("the blob {key}"), &error);
        let mut unfinished = blocking(move || Unfinished::create(&folder)).await.map_err(wrong)?;
        let mut size = 0_u64;
        while let Some(piece) = body.next().await? {
            size += piece.len() as u64;
            if size > self.max_size {
                return Err(SeamError::TooLarge { what: "a blob", size, limit: self.max_size });
            }
            unfinished =
                blocking(move || unfinished.write(&piece).map(|()| unfinished)).await.map_err(wrong)?;
        }
        let finished = blocking(move || unfinished.finish(&path)).await;
        finished.map_err(|error| match error.kind() {
            ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => SeamError::Invalid(
                format!("{key} cannot be a blob here: a file cannot have the name of a folder, nor a folder that of a file"),
            ),
            _ => wrong(error),
        })?;
        Ok(size)
    }

    async fn get(&self, key: &str) -> Result<(BlobInfo, Box<dyn Body>), SeamError> {
        let (info, file) = self.open_file(key).await?;
        let left = info.size;
        Ok((info, Box::new(Reading { file: Some(file), left })))
    }

    async fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Box<dyn Body>, SeamError> {
        use std::io::Seek as _;
        check_range(&range)?;
        let (info, mut file) = self.open_file(key).await?;
        if range.start >= info.size {
            return Err(beyond(key, info.size));
        }
        file.seek(io::SeekFrom::Start(range.start)).map_err(|error| of_key(key, &error))?;
        Ok(Box::new(Reading { file: Some(file), left: range.end.min(info.size) - range.start }))
    }

    async fn head(&self, key: &str) -> Result<BlobInfo, SeamError> {
        let path = self.path(key)?;
        let name = key.to_owned();
        blocking(move || info(name, &std::fs::metadata(path)?)).await.map_err(|error| of_key(key, &error))
    }

    async fn delete(&self, key: &str) -> Result<(), SeamError> {
        let path = self.path(key)?;
        let top = self.dir.clone();
        let removed = blocking(move || {
            std::fs::remove_file(&path)?;
            // Folders that are empty now go too; one that is not stops it.
            let mut folder = path.parent();
            while let Some(at) = folder.filter(|at| *at != top && at.starts_with(&top)) {
                if std::fs::remove_dir(at).is_err() {
                    break;
                }
                folder = at.parent();
            }
            Ok(())
        });
        match removed.await.map_err(|error| of_key(key, &error)) {
            Ok(()) | Err(SeamError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage, SeamError> {
        check_list(prefix, after, limit)?;
        let (dir, prefix, after) = (self.dir.clone(), prefix.to_owned(), after.map(str::to_owned));
        let listing = blocking(move || {
            let mut listing = Listing { prefix, after, most: limit + 1, found: Vec::new() };
            listing.walk(&dir, "")?;
            Ok(listing.found)
        });
        let mut blobs = listing.await.map_err(|error| failed("the folder of blobs", &error))?;
        let more = blobs.len() > limit;
        blobs.truncate(limit);
        let next = blobs.last().filter(|_| more).map(|blob| blob.key.clone());
        Ok(BlobPage { blobs, next })
    }

    async fn signed_url(&self, key: &str, _: Duration) -> Result<Option<String>, SeamError> {
        check_blob_key(key)?;
        Ok(None)
    }
}

/// A walk through the folders in the order of the keys' bytes, without looking where nothing can be.
struct Listing {
    prefix: String,
    after: Option<String>,
    most: usize,
    found: Vec<BlobInfo>,
}

impl Listing {
    /// `path` is the folder whose keys begin with `base`, which is empty or ends in `/`.
    fn walk(&mut self, path: &Path, base: &str) -> io::Result<()> {
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            // Removed since its name was read.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(UNFINISHED) {
                continue;
            }
            let folder = entry.file_type()?.is_dir();
            // With its `/` a folder stands where its keys do.
            let name = format!("{base}{name}{}", if folder { "/" } else { "" });
            if self.may_hold(&name, folder) {
                names.push(name);
            }
            if names.len() > MAX_FOLDER {
                return Err(io::Error::other(format!("a folder has more than {MAX_FOLDER} entries")));
            }
        }
        names.sort_unstable();
        for name in names {
            if self.found.len() >= self.most {
                break;
            }
            let path = path.join(&name[base.len()..]);
            if name.ends_with('/') {
                self.walk(&path, &name)?;
            } else if let Ok(metadata) = std::fs::metadata(&path)
                && let Ok(info) = info(name, &metadata)
            {
                self.found.push(info);
            }
        }
        Ok(())
    }

    /// Whether a key of this name, or one below this folder, is asked for.
    fn may_hold(&self, name: &str, folder: bool) -> bool {
        let prefixed = name.starts_with(&self.prefix) || (folder && self.prefix.starts_with(name));
        let later =
            self.after.as_deref().is_none_or(|after| name > after || (folder && after.starts_with(name)));
        prefixed && later
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn conforms() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(&dir.path().join("blobs"), 24 << 20).await.unwrap();
        crate::conformance::blobs(&blobs, "run", 24 << 20).await.unwrap();
        let left: Vec<_> =
            std::fs::read_dir(dir.path().join("blobs")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [UNFINISHED_DIR], "empty folders are removed");
        assert_eq!(std::fs::read_dir(dir.path().join("blobs").join(UNFINISHED_DIR)).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn only_we_can_read_them_and_a_crash_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(dir.path(), 100).await.unwrap();
        blobs.put("a/b", <dyn Body>::whole("x")).await.unwrap();
        let mode =
            |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("a/b")), (0o700, 0o600));
        assert!(blobs.put("a", <dyn Body>::whole("x")).await.is_err(), "a folder stays one");
        assert!(blobs.put("a/b/c", <dyn Body>::whole("x")).await.is_err(), "a file stays one");
        assert!(matches!(blobs.get("a").await.map(drop), Err(SeamError::NotFound { .. })));

        let crashed = dir.path().join(UNFINISHED_DIR).join(".trunkline-0");
        std::fs::write(&crashed, "half").unwrap();
        LocalBlobs::open(dir.path(), 100).await.unwrap();
        assert!(crashed.exists(), "somebody may be writing it");
        let old = std::time::SystemTime::now() - ABANDONED - Duration::from_secs(1);
        std::fs::File::options().write(true).open(&crashed).unwrap().set_modified(old).unwrap();
        LocalBlobs::open(dir.path(), 100).await.unwrap();
        assert!(!crashed.exists());
    }
}
