//! The key that seals secrets in the Store, and its rotation.

use std::io;
use std::sync::Arc;

use store::StoreError;

use super::{Access, AccessError, DATA_KEYS, sealer};
use crate::sealing::{Sealer, WrappedKeys};

impl Access {
    /// Makes a new data key, which seals from now on, on every replica; the one before it still opens. What is
    /// sealed with that is to be sealed anew by who knows it. `None`: there is no master key to keep it with, or
    /// another replica rotates at this moment.
    pub async fn rotate_data_key(&self) -> Result<Option<Arc<Sealer>>, AccessError> {
        let Some(root) = &self.root else { return Ok(None) };
        let Some(before) = self.db.meta(DATA_KEYS).await? else { return Ok(None) };
        let wrapped: WrappedKeys = serde_json::from_str(&before)
            .map_err(|_| StoreError::Schema(format!("meta.{DATA_KEYS} is damaged")))?;
        let root = root.clone();
        // A short master key is stretched, which takes a while.
        let made = tokio::task::spawn_blocking(move || {
            // Everything was sealed anew with the present key when that was made: those before it open nothing.
            let (now, _) = Sealer::new(&root, &wrapped)?.retire_old(&root)?;
            now.rotate(&root)
        });
        let (new, wrapped) = made.await.map_err(io::Error::other)??;
        let text = serde_json::to_string(&wrapped).map_err(io::Error::other)?;
        if !self.db.replace_meta(DATA_KEYS, &before, &text, DATA_KEYS).await? {
            return Ok(None);
        }
        let new = Arc::new(new);
        self.sealer.store(Some(Arc::clone(&new)));
        self.announce().await;
        Ok(Some(new))
    }

    /// Takes over the data keys that another replica has made.
    pub(super) async fn reload_sealer(&self) {
        match sealer(&self.db, self.root.as_ref()).await {
            Ok(Some(sealer)) => self.sealer.store(Some(Arc::new(sealer))),
            // What opens today is better than nothing; the log says why it cannot be read.
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the data keys cannot be read; those known stay"),
        }
    }
}
