//! [`Blobs`](base::seams::Blobs) as files, and in the buckets of S3, Google Cloud Storage and Azure.

mod local;
mod object;

use base::seams::{MAX_BLOB_PAGE, SeamError, check_blob_key};

pub use local::LocalBlobs;
pub use object::ObjectBlobs;

/// Refuses a page that is too large, and a prefix that leaves the store.
fn check_list(prefix: &str, after: Option<&str>, limit: usize) -> Result<(), SeamError> {
    if limit == 0 || limit > MAX_BLOB_PAGE {
        return Err(SeamError::Invalid(format!("a page has 1 to {MAX_BLOB_PAGE} blobs")));
    }
    let whole = prefix.strip_suffix('/').unwrap_or(prefix);
    if !whole.is_empty() {
        check_blob_key(whole)?;
    } else if !prefix.is_empty() {
        check_blob_key(prefix)?;
    }
    after.map_or(Ok(()), check_blob_key)
}

fn missing(key: &str) -> SeamError {
    SeamError::NotFound { what: format!("the blob {key}") }
}

fn check_range(range: &std::ops::Range<u64>) -> Result<(), SeamError> {
    if range.start < range.end {
        return Ok(());
    }
    Err(SeamError::Invalid("the range is empty".into()))
}

fn beyond(key: &str, size: u64) -> SeamError {
    SeamError::Invalid(format!("the range begins beyond the end of the blob {key}, which has {size} bytes"))
}
