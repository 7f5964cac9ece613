//! The seams to what keeps and carries our state: [`Cache`], [`Queue`], [`Events`], [`Blobs`].
//!
//! A domain knows these traits alone; the composition root chooses what stands behind them. All of them are
//! object safe, all sizes are bounded, and every implementation passes one conformance suite, so that moving
//! from a file on a laptop to servers changes a URL and nothing else.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Kind;

/// The longest name of a queue or topic, and the longest partition key, in bytes.
pub const MAX_NAME: usize = 200;
/// The longest key of a cache entry, in bytes.
pub const MAX_CACHE_KEY: usize = 1_024;
/// The largest value of a cache entry, in bytes.
pub const MAX_CACHE_VALUE: usize = 8 << 20;
/// The largest body of a queue message, in bytes.
pub const MAX_MESSAGE: usize = 8 << 20;
/// The most messages in one call of [`Queue::push`] and [`Queue::pull`].
pub const MAX_BATCH: usize = 1_000;
/// The most text of a failure's reason that is kept, in bytes; more is cut.
pub const MAX_REASON: usize = 2_000;
/// The largest event, topic and payload together, in bytes: what PostgreSQL carries in one notification.
pub const MAX_EVENT: usize = 7_990;
/// The longest key of a blob, in bytes.
pub const MAX_BLOB_KEY: usize = 900;
/// The most blobs in one page of a listing.
pub const MAX_BLOB_PAGE: usize = 1_000;

/// Why a backend did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SeamError {
    /// It cannot be reached. Asking again later may help; nothing has to be restarted.
    #[error("{backend} cannot be reached: {reason}")]
    Unavailable {
        /// Which one, as `redis`.
        backend: &'static str,
        /// What the client library said, without passwords.
        reason: String,
    },
    /// It did not answer in time. What was asked may have been done.
    #[error("{backend} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// Which one, as `redis`.
        backend: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// It answered, and said no.
    #[error("{backend} refused: {reason}")]
    Refused {
        /// Which one, as `rabbitmq`.
        backend: &'static str,
        /// Its words.
        reason: String,
    },
    /// What was asked for cannot be; the text says what to change.
    #[error("{0}")]
    Invalid(String),
    /// What was given is larger than is taken.
    #[error("{what} of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// What, as `a message`.
        what: &'static str,
        /// Its size, as far as it was read.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not there.
    #[error("{what} is not there")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The lease on a message ended before this call: somebody else may have it now.
    #[error("the lease on message {id} of queue {queue} has ended: its work may be done again elsewhere")]
    LeaseLost {
        /// The queue.
        queue: String,
        /// The message.
        id: String,
    },
}

impl SeamError {
    /// Its kind, the bridge to a status.
    pub fn kind(&self) -> Kind {
        match self {
            SeamError::Unavailable { .. } | SeamError::Refused { .. } => Kind::Unavailable,
            SeamError::TimedOut { .. } => Kind::Timeout,
            SeamError::Invalid(_) => Kind::Invalid,
            SeamError::TooLarge { .. } => Kind::TooLarge,
            SeamError::NotFound { .. } => Kind::NotFound,
            SeamError::LeaseLost { .. } => Kind::Internal,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(self, SeamError::Unavailable { .. } | SeamError::TimedOut { .. } | SeamError::Refused { .. })
    }

    /// Refuses what is larger than its limit.
    pub fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), SeamError> {
        if size <= limit {
            return Ok(());
        }
        Err(SeamError::TooLarge { what, size: size as u64, limit: limit as u64 })
    }

    /// Refuses the name of a queue or topic, or a partition key, that not every backend can carry: 1 to
    /// [`MAX_NAME`] bytes without white space, control characters and `{}`.
    pub fn check_name(what: &'static str, name: &str) -> Result<(), SeamError> {
        let fine = |c: char| !c.is_control() && !c.is_whitespace() && c != '{' && c != '}';
        if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(fine) {
            return Ok(());
        }
        Err(SeamError::Invalid(format!(
            "{what} must be 1 to {MAX_NAME} bytes without white space, control characters and `{{}}`"
        )))
    }
}

/// What every backend answers, for readiness and for the operator.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name in logs and metrics: `memory`, `redis`, `rabbitmq`, `postgresql`, …
    fn backend(&self) -> &'static str;

    /// Whether it answers now.
    async fn ping(&self) -> Result<(), SeamError>;

    /// What is dangerous in how it is set up, in sentences for the operator, for the log at start and for
    /// readiness. None when all is well or nothing can be learnt.
    async fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Values for a time. What is in it may be gone at any moment.
#[async_trait]
pub trait Cache: Backend {
    /// The value, if it is there and has not expired.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, SeamError>;

    /// Keeps a value, for `ttl` if one is given.
    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), SeamError>;

    /// Keeps a value where none is; whether it did. Of several callers at once exactly one does.
    async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<bool, SeamError>;

    /// Forgets a value; whether one was there.
    async fn delete(&self, key: &str) -> Result<bool, SeamError>;

    /// Adds to a counter and returns the sum. A counter that is not there begins at 0 and then lives for
    /// `ttl`, if one is given; adding does not prolong it. A value that is not a whole number is
    /// [`SeamError::Invalid`].
    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, SeamError>;
}

/// What is put into a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The body, at most [`MAX_MESSAGE`] bytes.
    pub body: Bytes,
    /// Messages with the same key are handed out one after another, in the order they were pushed; the next
    /// one only when the one before is acknowledged or dead.
    pub partition: Option<String>,
    /// Not before this time has passed. Not together with a partition, where it would hold up the others.
    pub delay: Duration,
}

impl Message {
    /// A message without order and delay.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Message { body: body.into(), ..Self::default() }
    }

    /// In order with the others of this key.
    #[must_use]
    pub fn in_order(self, partition: impl Into<String>) -> Self {
        Message { partition: Some(partition.into()), ..self }
    }

    /// Not before `delay` has passed.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Message { delay, ..self }
    }

    /// Refuses what not every backend can carry.
    pub fn check(&self) -> Result<(), SeamError> {
        SeamError::check_size("a message", self.body.len(), MAX_MESSAGE)?;
        let Some(partition) = &self.partition else { return Ok(()) };
        SeamError::check_name("a partition key", partition)?;
        if self.delay.is_zero() {
            return Ok(());
        }
        Err(SeamError::Invalid("a message has either a partition or a delay, not both".into()))
    }
}

/// A message handed out under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its queue.
    pub queue: String,
    /// Names the message, the same at each attempt.
    pub id: String,
    /// The body.
    pub body: Bytes,
    /// Its partition key.
    pub partition: Option<String>,
    /// How often it has been handed out, this time included. Also counts attempts that died with their
    /// process, so a consumer that looks at it first cannot be killed by one message for ever.
    pub attempt: u32,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// When it was pushed, in milliseconds since the epoch, where that is known.
    pub enqueued_at: Option<i64>,
    /// Names this lease. For the backend alone.
    pub receipt: String,
}

/// What becomes of a message that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It failed: again after this time.
    After(Duration),
    /// It failed for good: to the dead letters.
    Never,
    /// It was not tried (shutting down): at once to somebody else. The attempt does not count, and the reason
    /// is not kept.
    Release,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names the message.
    pub id: String,
    /// The body.
    pub body: Bytes,
    /// Its partition key.
    pub partition: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// When it was pushed, in milliseconds since the epoch, where that is known.
    pub enqueued_at: Option<i64>,
    /// When it was given up, in milliseconds since the epoch.
    pub died_at: i64,
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// The oldest so many.
    Oldest(u64),
    /// Those of these ids.
    Ids(Vec<String>),
}

/// How many messages a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be handed out, or waiting for an earlier one of their partition.
    pub waiting: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// Handed out and not yet acknowledged.
    pub leased: u64,
    /// Given up.
    pub dead: u64,
}

/// Named queues that lose nothing: a message is there until it is acknowledged, and may come more than once.
///
/// A message comes again when its lease ends, when its process dies, and when the backend restarts. Whoever
/// takes it checks [`Delivery::attempt`] and gives up with [`Retry::Never`]. Queues come into being when they
/// are first used.
#[async_trait]
pub trait Queue: Backend {
    /// Adds messages at the end, all or none as far as the backend can; when this returns they are durable.
    /// At most [`MAX_BATCH`].
    async fn push(&self, queue: &str, messages: &[Message]) -> Result<(), SeamError>;

    /// Takes up to `max` messages, oldest first, each under a lease; waits up to `wait` for the first. None
    /// came if the list is empty.
    async fn pull(
        &self,
        queue: &str,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, SeamError>;

    /// It is done and never comes again.
    async fn ack(&self, delivery: &Delivery) -> Result<(), SeamError>;

    /// Several are done and never come again; one whose lease has ended is passed over.
    async fn ack_all(&self, deliveries: &[Delivery]) -> Result<(), SeamError> {
        for delivery in deliveries {
            match self.ack(delivery).await {
                Err(SeamError::LeaseLost { .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// It is not done. The reason is kept, cut to [`MAX_REASON`].
    async fn nack(&self, delivery: &Delivery, retry: Retry, reason: &str) -> Result<(), SeamError>;

    /// The lease ends this much from now instead of when it would have.
    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), SeamError>;

    /// How many messages there are.
    async fn depth(&self, queue: &str) -> Result<Depth, SeamError>;

    /// Dead letters, oldest first, `limit` of them after the first `skip`.
    async fn dead(&self, queue: &str, skip: u64, limit: usize) -> Result<Vec<DeadLetter>, SeamError>;

    /// Puts dead letters back into their queue, their attempts forgotten; how many.
    async fn replay(&self, queue: &str, which: &Which) -> Result<u64, SeamError>;

    /// Forgets dead letters for good; how many.
    async fn purge_dead(&self, queue: &str, which: &Which) -> Result<u64, SeamError>;

    /// Forgets the messages that wait, delayed ones included, for good; how many. Those handed out and the
    /// dead ones stay.
    async fn purge(&self, queue: &str) -> Result<u64, SeamError>;
}

/// A message that the Store keeps for a broker until its time comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Names the message. Parking the same one again replaces it.
    pub id: String,
    /// The body.
    pub body: Bytes,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// When it was pushed, in milliseconds since the epoch, where that is known.
    pub enqueued_at: Option<i64>,
    /// When it may be handed out, in milliseconds since the epoch.
    pub due_at: i64,
}

/// What is known of the failures of a message that its broker keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Names the message.
    pub id: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// When it may be handed out again, in milliseconds since the epoch.
    pub due_at: i64,
}

/// What a broker's queue leaves to the Store: delays, attempts and dead letters.
///
/// Brokers lose or lack these. A message without a partition that must wait is *parked*: it moves here, and is
/// served from here, as from any queue, once due. One with a partition stays with its broker, so that it keeps
/// its place in the order; its failures are *noted* here.
#[async_trait]
pub trait Ledger: Queue {
    /// Keeps messages of a queue until they are due.
    async fn park(&self, queue: &str, messages: &[Parked]) -> Result<(), SeamError>;

    /// Notes the failures of a message that stays with its broker; replaces an earlier note.
    async fn note(&self, queue: &str, note: &Note) -> Result<(), SeamError>;

    /// The notes on these messages, of those that have one.
    async fn notes(&self, queue: &str, ids: &[String]) -> Result<Vec<Note>, SeamError>;

    /// Forgets the note on a message.
    async fn forget(&self, queue: &str, id: &str) -> Result<(), SeamError>;

    /// Adds a dead letter, and forgets the note on it. Burying the same one again changes nothing.
    async fn bury(&self, queue: &str, letter: &DeadLetter) -> Result<(), SeamError>;

    /// Of these ids, those that are among the dead letters.
    async fn buried(&self, queue: &str, ids: &[String]) -> Result<Vec<String>, SeamError>;
}

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody published this.
    Published(String),
    /// Some were lost: the connection was gone for a time, or this subscriber was too slow. Whoever keeps
    /// something by these events reads it anew.
    Missed,
}

/// What comes of a subscription.
#[async_trait]
pub trait Subscription: Send {
    /// The next event; `None` when the backend was closed.
    async fn next(&mut self) -> Option<Event>;
}

/// Broadcast between replicas, to whoever listens at the moment: for making known that something changed, not
/// for carrying it. Order is kept per publisher. A publisher hears itself.
#[async_trait]
pub trait Events: Backend {
    /// Tells every subscriber of a topic. Topic and payload have at most [`MAX_EVENT`] bytes together, and no
    /// NUL.
    async fn publish(&self, topic: &str, payload: &str) -> Result<(), SeamError>;

    /// Listens to a topic, from now on. Reconnects by itself, and says [`Event::Missed`] after it did.
    async fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscription>, SeamError>;
}

/// Refuses an event that not every backend can carry.
pub fn check_event(topic: &str, payload: &str) -> Result<(), SeamError> {
    SeamError::check_name("a topic", topic)?;
    SeamError::check_size("an event", topic.len() + payload.len(), MAX_EVENT)?;
    if payload.contains('\0') {
        return Err(SeamError::Invalid("an event cannot hold the character NUL".into()));
    }
    Ok(())
}

/// Bytes that come piece by piece.
#[async_trait]
pub trait Body: Send {
    /// The next piece, at most some MiB; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, SeamError>;
}

/// Bytes that are all there.
#[async_trait]
impl Body for Option<Bytes> {
    async fn next(&mut self) -> Result<Option<Bytes>, SeamError> {
        Ok(self.take().filter(|bytes| !bytes.is_empty()))
    }
}

impl dyn Body {
    /// A body of bytes that are all there.
    pub fn whole(bytes: impl Into<Bytes>) -> Box<dyn Body> {
        Box::new(Some(bytes.into()))
    }

    /// Everything, if it is at most `limit` bytes.
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, SeamError> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            SeamError::check_size("a body", all.len() + piece.len(), limit)?;
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }
}

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modified_at: i64,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobPage {
    /// Blobs in the order of their keys' bytes.
    pub blobs: Vec<BlobInfo>,
    /// Give this as `after` for the next page; `None` when this was the last.
    pub next: Option<String>,
}

/// Files by key: media, backups, recordings. A blob is there whole or not at all; a later write replaces it.
///
/// A key is 1 to [`MAX_BLOB_KEY`] bytes: parts of `A-Z a-z 0-9 . _ - = + @ ,` joined by `/`, none of them `.`
/// or `..` or beginning with `.trunkline-`, so that it means the same in a folder and in a bucket.
#[async_trait]
pub trait Blobs: Backend {
    /// Writes a blob; how large it was. A body larger than the limit of the settings, or one that fails, leaves
    /// what was there before.
    async fn put(&self, key: &str, body: Box<dyn Body>) -> Result<u64, SeamError>;

    /// Reads a blob.
    async fn get(&self, key: &str) -> Result<(BlobInfo, Box<dyn Body>), SeamError>;

    /// Reads `range` of a blob; what lies beyond its end is left out, and a range that begins there is
    /// [`SeamError::Invalid`].
    async fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Box<dyn Body>, SeamError>;

    /// What is known of a blob.
    async fn head(&self, key: &str) -> Result<BlobInfo, SeamError>;

    /// Removes a blob. That it was not there is no error.
    async fn delete(&self, key: &str) -> Result<(), SeamError>;

    /// Blobs whose keys begin with `prefix` and come after `after`, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage, SeamError>;

    /// An address at which anybody can read the blob for a time; `None` where the backend has none.
    async fn signed_url(&self, key: &str, ttl: Duration) -> Result<Option<String>, SeamError>;
}

/// Refuses a blob's key that does not mean the same everywhere.
pub fn check_blob_key(key: &str) -> Result<(), SeamError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-=+@,".contains(&b);
    let part = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.starts_with(".trunkline-") && part.bytes().all(fine)
    };
    if key.len() <= MAX_BLOB_KEY && key.split('/').all(|p| part(p) && p.len() <= MAX_NAME) {
        return Ok(());
    }
    Err(SeamError::Invalid(format!(
        "a blob's key must be 1 to {MAX_BLOB_KEY} bytes: parts of at most {MAX_NAME} from `A-Z a-z 0-9 . _ - = + @ ,` joined by `/`, none of them `.` or `..`"
    )))
}

/// A reason as it is kept: without control characters, cut to [`MAX_REASON`] at a character.
pub fn cut_reason(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].chars().map(|c| if c == '\0' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_key_cannot_leave_its_folder() {
        for good in ["a", "a/b.txt", "2026/11/20/x=1.parquet", "..a", ".hidden"] {
            assert!(check_blob_key(good).is_ok(), "{good}");
        }
        let long = "a/".repeat(451);
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/..",
            "a\\b",
            "a\0b",
            "é",
            "a b",
            "x/.trunkline-t",
            &long,
        ] {
            assert!(check_blob_key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_one_that_every_backend_carries() {
        for good in ["incoming_calls", "webhook-delivery", "a:b/c", "é"] {
            assert!(SeamError::check_name("a queue", good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\n", "{a}", &"x".repeat(201)] {
            assert!(SeamError::check_name("a queue", bad).is_err(), "{bad:?}");
        }
        assert!(Message::new("x").in_order("p").after(Duration::from_secs(1)).check().is_err());
        assert!(check_event("t", "a\0b").is_err());
        assert!(check_event("t", &"x".repeat(MAX_EVENT)).is_err());
        assert!(check_event("t", &"x".repeat(MAX_EVENT - 1)).is_ok());
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let cut = cut_reason(&"é".repeat(MAX_REASON));
        assert!(cut.len() <= MAX_REASON && cut.ends_with('é'));
        assert_eq!(cut_reason("a\0b"), "a b");
    }
}
