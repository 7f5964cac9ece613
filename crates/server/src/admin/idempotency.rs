//! Creating once, however often the request is sent.
//!
//! A client that heard nothing cannot know whether its group was made. With an `Idempotency-Key` it sends the
//! same request again and gets the answer of the first time, for 24 hours. Only what was done is kept: a refusal
//! is judged anew. An answer may hold a new key, so it is kept sealed.

use access::sealing::{Binding, Sealer};
use base::{Kind, Secret};
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::{Claim, Db, Idempotency};

use super::answer::{Answered, Content};
use super::refusal::Refusal;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key.
const MAX_KEY: usize = 255;
/// The headers of an answer that are kept with it.
const KEPT: [HeaderName; 3] = [CONTENT_TYPE, ETAG, LOCATION];

/// A request that is to be done once.
pub(crate) struct Once {
    pub(crate) actor: String,
    pub(crate) key: String,
    /// What must be the same for the request to be the same.
    pub(crate) fingerprint: String,
}

impl Once {
    fn binding(&self) -> Binding<'_> {
        Binding { kind: "idempotency", name: &self.actor, field: &self.key }
    }

    /// Takes the key, or finds the answer of the first time.
    pub(crate) async fn begin(&self, db: &Db, sealer: &Sealer) -> Result<Begun, Refusal> {
        match db.begin_idempotent(&self.actor, &self.key, &self.fingerprint).await? {
            Idempotency::Fresh(claim) => Ok(Begun::Fresh(claim)),
            Idempotency::Replay { status, answer } => {
                let opened = sealer.open(&self.binding(), &answer).map_err(|error| {
                    tracing::error!(%error, "the answer kept for an Idempotency-Key cannot be opened");
                    let text = "This was done before, but its answer cannot be read any more: look for what it made.";
                    Refusal::conflict("idempotency_answer_lost", text)
                })?;
                let again = replay(status, opened.expose()).ok_or_else(|| {
                    let text = "This was done before; its answer is not kept: look for what it made.";
                    Refusal::conflict("idempotency_answer_lost", text)
                })?;
                Ok(Begun::Done(again))
            }
            Idempotency::Conflict => {
                let text = "This `Idempotency-Key` came with another request: use a new one.";
                Err(Refusal::conflict("idempotency_key_reused", text))
            }
            Idempotency::InProgress { .. } => {
                let text = "The first request with this `Idempotency-Key` is not done, or was cut off: look for what \
                    it was to make before you send it with a new one.";
                Err(Refusal::conflict("idempotency_key_in_use", text))
            }
        }
    }

    /// Keeps the answer; after a refusal, gives the key free again.
    pub(crate) async fn finish(&self, db: &Db, sealer: &Sealer, claim: &Claim, answered: Option<&Answered>) {
        let sealed = answered.and_then(|answered| {
            let kept = Secret::from(keep(answered)?);
            let sealed = sealer.seal(&self.binding(), &kept);
            let sealed = sealed.inspect_err(|error| tracing::error!(%error, "an answer cannot be sealed"));
            Some((answered.status.as_u16(), sealed.ok()?))
        });
        let done = match (answered, &sealed) {
            (None, _) => db.forget_idempotent(claim).await,
            (Some(_), Some((status, sealed))) => db.finish_idempotent(claim, *status, sealed).await,
            // It was done, so the key stays taken.
            (Some(_), None) => Ok(()),
        };
        if let Err(error) = done {
            tracing::error!(%error, "an Idempotency-Key stays taken without an answer");
        }
    }
}

/// What is known of a key when a request comes with it.
pub(crate) enum Begun {
    /// Nothing: it is taken now.
    Fresh(Claim),
    /// The request was done; this is its answer.
    Done(Answered),
}

/// The key of a request, if it has one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let bytes = first.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= MAX_KEY && bytes.iter().all(u8::is_ascii_graphic);
    match first.to_str() {
        Ok(key) if fits && given.next().is_none() => Ok(Some(key.to_owned())),
        _ => {
            let text =
                format!("`Idempotency-Key` is one value of 1 to {MAX_KEY} ASCII characters without spaces.");
            Err(Refusal::new(Kind::Invalid, "invalid_header", text).at("Idempotency-Key"))
        }
    }
}

/// What must be the same for a request to be the same.
pub(crate) fn fingerprint(method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> String {
    let mut digest = Sha256::new();
    for part in [method.as_str().as_bytes(), path.as_bytes(), query.unwrap_or_default().as_bytes(), body] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    headers: Vec<(String, String)>,
    body: String,
}

/// What to keep of an answer. A stream, or bytes that are no text, are not kept.
fn keep(answered: &Answered) -> Option<String> {
    let Content::Whole(body) = &answered.content else { return None };
    let header = |name: &HeaderName| {
        let value = answered.headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    let headers = KEPT.iter().filter_map(header).collect();
    serde_json::to_string(&Kept { headers, body: String::from_utf8(body.to_vec()).ok()? }).ok()
}

/// The answer again, marked as such.
fn replay(status: u16, kept: &str) -> Option<Answered> {
    let Kept { headers, body } = serde_json::from_str(kept).ok()?;
    let header = |(name, value): (String, String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    let mut headers: HeaderMap = headers.into_iter().filter_map(header).collect();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    let status = StatusCode::from_u16(status).ok()?;
    Some(Answered { status, headers, content: Content::Whole(body.into()), target: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_short_word() {
        let of = |values: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            key(&headers)
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[b"a-1"]).unwrap().as_deref(), Some("a-1"));
        assert!(of(&[b""]).is_err() && of(&[b"a b"]).is_err() && of(&[b"\xff"]).is_err());
        assert!(of(&[b"a", b"a"]).is_err());
        assert!(of(&[&[b'a'; 255]]).is_ok() && of(&[&[b'a'; 256]]).is_err());
    }

    #[test]
    fn a_fingerprint_covers_every_part_apart() {
        let of = |path: &str, query: Option<&str>, body: &str| {
            fingerprint(&Method::POST, path, query, body.as_bytes())
        };
        assert_eq!(of("/a", None, "b"), of("/a", None, "b"));
        assert_ne!(of("/a", None, "b"), of("/ab", None, ""));
        assert_ne!(of("/a", Some("b"), ""), of("/a", None, "b"));
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let mut answered = Answered {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            content: Content::Whole("{\"id\":7}".into()),
            target: Some("groups/7".into()),
        };
        answered.headers.insert(ETAG, HeaderValue::from_static("\"1\""));
        let again = replay(201, &keep(&answered).unwrap()).unwrap();
        assert_eq!(
            (again.status, again.headers.get(ETAG)),
            (StatusCode::CREATED, answered.headers.get(ETAG))
        );
        assert_eq!(again.headers.get(REPLAYED).unwrap(), "true");
        assert!(matches!(again.content, Content::Whole(body) if body == "{\"id\":7}"));
        assert!(replay(201, "nonsense").is_none());
    }
}
