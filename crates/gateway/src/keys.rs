//! The API keys of one provider: taken in turn, and left alone for a while when refused or limited.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use llm::Provider;

use crate::failure::{ErrorAnswer, Failure};

/// How long a key is left alone that was refused: long enough not to trouble every request, short enough that one
/// which was mended at the provider is found again.
const REFUSED_FOR: Duration = Duration::from_secs(300);
/// How long a key is left alone that is limited, when the provider does not say.
const LIMITED_FOR: Duration = Duration::from_secs(5);
/// The longest that a provider can ask for.
const LONGEST: Duration = Duration::from_secs(600);

/// A provider as it is reached with each of its keys; one at least.
pub(crate) struct Keys {
    ways: Vec<Way>,
    turn: AtomicUsize,
    born: Instant,
}

struct Way {
    provider: Box<dyn Provider>,
    /// Milliseconds after `born`.
    cool_until: AtomicU64,
}

impl Keys {
    pub(crate) fn new(first: Box<dyn Provider>, others: Vec<Box<dyn Provider>>) -> Self {
        let way = |provider| Way { provider, cool_until: AtomicU64::new(0) };
        let ways = std::iter::once(first).chain(others).map(way).collect();
        Keys { ways, turn: AtomicUsize::new(0), born: Instant::now() }
    }

    /// The provider, for what is the same with every key.
    pub(crate) fn any(&self) -> &dyn Provider {
        self.at(0)
    }

    /// The provider with this key.
    pub(crate) fn at(&self, key: usize) -> &dyn Provider {
        // A number comes from `next`, which gives none that is not there.
        &*self.ways[key % self.ways.len()].provider
    }

    /// The key whose turn it is; among several, one that is not left alone if there is any.
    pub(crate) fn next(&self, now: Instant) -> usize {
        if self.ways.len() == 1 {
            return 0;
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let order = (0..self.ways.len()).map(|step| (start.wrapping_add(step)) % self.ways.len());
        let now = self.millis(now);
        // Where all are left alone, the one that is so for the shortest time.
        order
            .min_by_key(|key| self.ways[*key].cool_until.load(Ordering::Relaxed).saturating_sub(now))
            .unwrap_or(0)
    }

    /// An attempt with this key failed. Whether another key is there that may do better.
    pub(crate) fn failed(&self, key: usize, failure: &Failure, now: Instant) -> bool {
        let Failure::Status(ErrorAnswer { status, retry_after, .. }) = failure else { return false };
        let wait = match *status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => REFUSED_FOR,
            StatusCode::TOO_MANY_REQUESTS => retry_after.unwrap_or(LIMITED_FOR).min(LONGEST),
            _ => return false,
        };
        if self.ways.len() == 1 {
            return false;
        }
        let until = self.millis(now + wait);
        self.ways[key % self.ways.len()].cool_until.fetch_max(until, Ordering::Relaxed);
        let now = self.millis(now);
        self.ways.iter().any(|way| way.cool_until.load(Ordering::Relaxed) <= now)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use llm::Dialect;
    use llm::providers::Local;

    use super::*;

    fn keys(count: usize) -> Keys {
        let one = || -> Box<dyn Provider> { Box::new(Local::demo()) };
        Keys::new(one(), (1..count).map(|_| one()).collect())
    }

    fn status(code: u16, retry_after: Option<u64>) -> Failure {
        Failure::Status(ErrorAnswer {
            status: StatusCode::from_u16(code).unwrap(),
            dialect: Dialect::Chat,
            content_type: None,
            retry_after: retry_after.map(Duration::from_secs),
            body: bytes::Bytes::new(),
        })
    }

    /// Mutation that made it fail: `min_by_key` replaced by taking the first of the order.
    #[test]
    fn keys_take_turns_and_a_refused_one_rests() {
        let (keys, now) = (keys(3), Instant::now());
        assert_eq!([0, 1, 2, 3].map(|_| keys.next(now)), [0, 1, 2, 0]);
        assert!(keys.failed(1, &status(401, None), now), "two others are fresh");
        assert!((0..6).all(|_| keys.next(now) != 1));
        assert!(keys.failed(0, &status(429, Some(2)), now));
        assert!((0..6).all(|_| keys.next(now) == 2));
        assert!(!keys.failed(2, &status(429, Some(60)), now), "nobody is left");
        assert_eq!(keys.next(now), 0, "the one that rests for the shortest time");
        let later = now + Duration::from_secs(3);
        assert!((0..6).all(|_| keys.next(later) == 0));
        let much_later = now + REFUSED_FOR + Duration::from_secs(1);
        assert!((0..6).map(|_| keys.next(much_later)).any(|key| key == 1));
    }

    #[test]
    fn one_key_alone_is_always_taken() {
        let (keys, now) = (keys(1), Instant::now());
        assert!(!keys.failed(0, &status(401, None), now));
        assert_eq!(keys.next(now), 0);
    }

    #[test]
    fn other_failures_are_not_the_keys() {
        let (keys, now) = (keys(2), Instant::now());
        assert!(!keys.failed(0, &status(500, None), now));
        assert!(!keys.failed(0, &Failure::Slow, now));
        assert_eq!([0, 1].map(|_| keys.next(now)), [0, 1]);
    }
}
