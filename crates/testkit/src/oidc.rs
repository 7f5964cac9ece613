//! A fake OpenID Connect issuer: discovery, a key set, tokens that are right, and tokens that must be refused.
//!
//! [`Issuer`] listens on a free port of 127.0.0.1. Its keys are an RSA key for RS256 and a P-256 key for ES256; it
//! replaces both with [`Issuer::rotate`]. [`Forgery`] names the tokens that a verifier must refuse, [`Mischief`] the
//! ways in which the issuer itself may misbehave. What verifiers have asked for is counted.

mod forgery;
mod keys;
mod serve;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

pub use forgery::Forgery;
use keys::Keys;
pub use serve::Mischief;

use crate::server::Server;

/// How long a token is good when its claims do not say, in seconds.
const LIFETIME: u64 = 300;

/// What signs a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256, 2048 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// Its name in the header of a token.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
        }
    }
}

#[derive(Debug)]
struct State {
    /// Those published, the newest last; that one signs.
    published: Vec<Keys>,
    /// How many there have been; it makes the key ids.
    made: usize,
    mischief: Mischief,
    discoveries: usize,
    key_sets: usize,
    others: Vec<String>,
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fake issuer. It stops when it is dropped.
#[derive(Debug)]
pub struct Issuer {
    server: Server,
    state: Shared,
}

impl Issuer {
    /// Starts on a free port, with a fresh pair of keys.
    pub fn start() -> Issuer {
        let state = Arc::new(Mutex::new(State {
            published: vec![Keys::new(0)],
            made: 1,
            mischief: Mischief::None,
            discoveries: 0,
            key_sets: 0,
            others: Vec::new(),
        }));
        let shared = state.clone();
        let server =
            Server::start("testkit-issuer", move |stream, gate| serve::serve(stream, gate, shared.clone()));
        Issuer { server, state }
    }

    /// What stands in `iss`: `http://127.0.0.1:PORT`. The discovery document is at
    /// `/.well-known/openid-configuration` under it, the key set at `/jwks`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// A token signed with RS256 by the newest key. `iss`, `iat` and `exp` (in five minutes) are added unless
    /// `claims` has them; a claim that is `null` is left out, those three too.
    pub fn token(&self, claims: &Value) -> String {
        self.token_by(Algorithm::Rs256, claims)
    }

    /// The same, signed with this algorithm.
    pub fn token_by(&self, algorithm: Algorithm, claims: &Value) -> String {
        self.token_with_header(algorithm, &json!({}), claims)
    }

    /// The same, with these members of the header over `alg`, `typ` and `kid`; one that is `null` is left out.
    pub fn token_with_header(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let claims = self.claims(claims);
        self.with_keys(|keys| {
            let usual = json!({ "alg": algorithm.name(), "typ": "JWT", "kid": keys.kid(algorithm) });
            keys.sign(algorithm, &laid_over(usual, header), &claims)
        })
    }

    /// A token with these claims that no verifier may accept.
    pub fn forged(&self, forgery: Forgery, claims: &Value) -> String {
        let claims = self.claims(claims);
        self.with_keys(|keys| forgery::forge(forgery, keys, &claims))
    }

    /// Replaces both keys; the old ones leave the key set, so that the tokens they signed are stale.
    pub fn rotate(&self) {
        let mut state = lock(&self.state);
        let keys = Keys::new(state.made);
        state.made += 1;
        state.published = vec![keys];
    }

    /// Adds new keys, which sign from now on; the old ones stay in the key set. [`Issuer::retire_old_keys`] ends that.
    pub fn rotate_with_overlap(&self) {
        let mut state = lock(&self.state);
        let keys = Keys::new(state.made);
        state.made += 1;
        state.published.push(keys);
    }

    /// Takes all keys but the newest from the key set.
    pub fn retire_old_keys(&self) {
        let mut state = lock(&self.state);
        let old = state.published.len() - 1;
        state.published.drain(..old);
    }

    /// The id of the key that signs with this algorithm now.
    pub fn kid(&self, algorithm: Algorithm) -> String {
        self.with_keys(|keys| keys.kid(algorithm))
    }

    /// The RSA key of now, as PEM of a SubjectPublicKeyInfo.
    pub fn public_pem(&self) -> String {
        self.with_keys(Keys::public_pem)
    }

    /// The key set as it is published now.
    pub fn jwks(&self) -> Value {
        serve::jwks(&lock(&self.state).published)
    }

    /// Refuses connections and closes those that are idle.
    pub fn down(&self) {
        self.server.listen(false);
    }

    /// Accepts connections again, on the same port.
    pub fn up(&self) {
        self.server.listen(true);
    }

    /// Misbehaves from now on, until [`Mischief::None`].
    pub fn misbehave(&self, mischief: Mischief) {
        lock(&self.state).mischief = mischief;
    }

    /// How many requests were made in all.
    pub fn requests(&self) -> usize {
        let state = lock(&self.state);
        state.discoveries + state.key_sets + state.others.len()
    }

    /// How many requests for the discovery document were made.
    pub fn discovery_requests(&self) -> usize {
        lock(&self.state).discoveries
    }

    /// How many requests for the key set were made.
    pub fn jwks_requests(&self) -> usize {
        lock(&self.state).key_sets
    }

    /// The first lines of requests for anything else; they were answered 404.
    pub fn other_requests(&self) -> Vec<String> {
        lock(&self.state).others.clone()
    }

    fn with_keys<T>(&self, f: impl FnOnce(&Keys) -> T) -> T {
        f(lock(&self.state).published.last().expect("there is always a newest pair of keys"))
    }

    fn claims(&self, claims: &Value) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
        laid_over(json!({ "iss": self.url(), "iat": now, "exp": now + LIFETIME }), claims)
    }
}

/// The members of `over` in place of those of `base`; `null` takes one away.
fn laid_over(base: Value, over: &Value) -> Value {
    let (Value::Object(base), Value::Object(over)) = (base, over) else {
        panic!("claims and headers are JSON objects, not {over}");
    };
    let mut all: Map<String, Value> = base;
    all.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
    all.retain(|_, value| !value.is_null());
    Value::Object(all)
}

#[cfg(test)]
mod tests;
