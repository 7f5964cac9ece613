//! The seam to where vCons are kept while chains work on them, and until they are no longer wanted.

use async_trait::async_trait;
use bytes::Bytes;

use crate::seams::{Backend, SeamError};

/// The most vCons in one call.
pub const MAX_VCONS: usize = 200;

/// A vCon to be kept.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Its uuid, in lower case.
    pub uuid: String,
    /// When it was made, in milliseconds since the epoch.
    pub created_at: i64,
    /// Its text.
    pub body: Bytes,
    /// Names the content that was sent, so that the same one sent again is known.
    pub content: String,
    /// What it is found by: `tel:…`, `mailto:…`, `name:…`, `tag:…`.
    pub terms: Vec<String>,
    /// The lists that it is about to be put into.
    pub lists: Vec<String>,
    /// The trace that it came with (`traceparent`).
    pub trace: Option<String>,
    /// When it may be forgotten, in milliseconds since the epoch.
    pub expires_at: Option<i64>,
}

/// What became of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// This very content was kept before; nothing was changed.
    pub same: bool,
    /// The lists of the draft that this very content was put into before.
    pub queued: Vec<String>,
}

/// A content that was put into a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The vCon.
    pub uuid: String,
    /// The list.
    pub list: String,
    /// The content.
    pub content: String,
}

/// What a chain did to a vCon.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Its uuid.
    pub uuid: String,
    /// Its new text; none when it is as it was.
    pub body: Option<Bytes>,
    /// What it is found by from now on, with a new text.
    pub terms: Vec<String>,
    /// The list whose chain is done with it.
    pub done: Option<String>,
    /// When it may be forgotten, in milliseconds since the epoch. It is not, while a list still waits for it.
    pub expires_at: Option<i64>,
}

/// A vCon as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its uuid.
    pub uuid: String,
    /// Its text.
    pub body: Bytes,
    /// The trace that it came with.
    pub trace: Option<String>,
}

/// Which vCons. All conditions hold together; the newest come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Terms that each must have.
    pub terms: Vec<String>,
    /// Words that each must say, in dialog or analysis.
    pub text: Option<String>,
    /// Made then or later, in milliseconds since the epoch.
    pub since: Option<i64>,
    /// Made then or earlier.
    pub until: Option<i64>,
    /// How many to leave out.
    pub skip: u64,
    /// At most so many.
    pub limit: usize,
}

/// Where vCons are kept.
#[async_trait]
pub trait Vcons: Backend {
    /// Keeps vCons, over what was kept of the same uuid; durable when this returns. Each uuid at most once, at
    /// most [`MAX_VCONS`]. One that was kept with this very content stays as it is.
    async fn put(&self, drafts: &[Draft]) -> Result<Vec<Kept>, SeamError>;

    /// Notes that contents were put into lists. It need not be durable: what is forgotten is put again.
    async fn posted(&self, posted: &[Posted]) -> Result<(), SeamError>;

    /// The vCons of these uuids, of those that are there, in any order.
    async fn get(&self, uuids: &[String]) -> Result<Vec<Stored>, SeamError>;

    /// Makes changes; durable when this returns. What is not there any more is left alone. Each uuid at most
    /// once, at most [`MAX_VCONS`].
    async fn change(&self, changes: &[Change]) -> Result<(), SeamError>;

    /// Forgets a vCon and all that was noted about it; whether it was there.
    async fn delete(&self, uuid: &str) -> Result<bool, SeamError>;

    /// The uuids of vCons.
    async fn find(&self, query: &Query) -> Result<Vec<String>, SeamError>;

    /// Does what was put off: forgets some of what has expired, makes some of what is new findable by its words.
    /// `words` gives the words of a text. Returns whether there is more to do.
    async fn tidy(
        &self,
        words: &(dyn for<'a> Fn(&'a [u8]) -> String + Send + Sync),
    ) -> Result<bool, SeamError>;

    /// Whether [`Query::text`] is understood.
    fn has_full_text(&self) -> bool;
}
