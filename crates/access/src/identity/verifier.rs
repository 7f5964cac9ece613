//! Checking tokens.
//!
//! What a token says about itself is believed only where it narrows: its algorithm must be one the settings
//! accept *and* one the issuer's key of that id can have made. No key makes shared-secret signatures, so a token
//! "signed" with HMAC over the public key finds no key, and `none` is refused before anything is looked up.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

use super::cache::Verified;
use super::claims::{Claims, Grants, TokenPrincipal};
use super::error::{IdentityError, TokenError};
use super::keys::KeySet;
use super::refresh::{Pace, Source};
use super::roles::Roles;
use super::settings::{AuthSettings, TokenAlgorithm};

/// The longest token that is read.
const MAX_TOKEN: usize = 16 << 10;
/// How many checked tokens are remembered.
const REMEMBERED: usize = 16_384;

/// Checks bearer tokens of one issuer. Cheap to clone; a change of settings makes a new one.
#[derive(Clone)]
pub struct TokenVerifier(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) algorithms: Vec<TokenAlgorithm>,
    /// The issuer with and without `/` at its end: people write both, and mean one.
    issuers: HashSet<String>,
    audience: HashSet<String>,
    /// What tokens grant, with a number that grows whenever roles change.
    grants: ArcSwap<(u64, Grants)>,
    /// For when roles change.
    settings: AuthSettings,
    verified: Verified,
    stale_after: Duration,
    pub(super) keys: ArcSwapOption<KeySet>,
    pub(super) source: Source,
    pub(super) refresh: Duration,
    pub(super) pace: Pace,
    /// Counts attempts to read the keys, for those who wait for one.
    pub(super) attempts: watch::Sender<u64>,
    /// Somebody has a token with a key we do not know.
    pub(super) wanted: Notify,
    pub(super) started: Instant,
    /// Milliseconds after `started`, plus one; 0 for never.
    pub(super) last_attempt: AtomicU64,
    pub(super) in_flight: AtomicBool,
}

/// The two clocks: tokens say when they end by the wall, and how old our keys are must not jump with it.
#[derive(Clone, Copy)]
pub(super) struct Now {
    /// Milliseconds since the epoch.
    pub(super) wall: i64,
    pub(super) steady: Instant,
}

impl Now {
    fn get() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX), steady: Instant::now() }
    }
}

/// Whether a credential looks like a token and not like a key of ours.
pub fn looks_like_token(credential: &str) -> bool {
    credential.starts_with("ey") && credential.bytes().filter(|byte| *byte == b'.').count() == 2
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl TokenVerifier {
    /// A verifier for these settings; `None` without an issuer, when no token is accepted. It knows no keys yet:
    /// spawn [`Self::run`], which reads them.
    pub fn new(settings: &AuthSettings, roles: &Roles) -> Result<Option<Self>, IdentityError> {
        Self::with_pace(settings, roles, Pace::default())
    }

    pub(super) fn with_pace(
        settings: &AuthSettings,
        roles: &Roles,
        pace: Pace,
    ) -> Result<Option<Self>, IdentityError> {
        if let Some((path, message)) = settings.check(roles).into_iter().next() {
            return Err(IdentityError::Setting { path, message });
        }
        let Some(issuer) = &settings.issuer else { return Ok(None) };
        let bare = issuer.trim_end_matches('/');
        Ok(Some(TokenVerifier(Arc::new(Inner {
            issuers: HashSet::from([bare.to_owned(), format!("{bare}/")]),
            audience: settings.audience.0.iter().cloned().collect(),
            grants: ArcSwap::from_pointee((0, Grants::new(settings, roles))),
            settings: settings.clone(),
            verified: Verified::new(REMEMBERED),
            stale_after: settings.stale_after.0,
            algorithms: settings.algorithms.clone(),
            keys: ArcSwapOption::empty(),
            source: Source::new(settings)?,
            refresh: settings.refresh.0,
            pace,
            attempts: watch::Sender::new(0),
            wanted: Notify::new(),
            started: Instant::now(),
            last_attempt: AtomicU64::new(0),
            in_flight: AtomicBool::new(false),
        }))))
    }

    /// Checks a token with the keys at hand; never waits.
    pub fn verify(&self, token: &str) -> Result<Arc<TokenPrincipal>, TokenError> {
        self.verify_at(token, Now::get())
    }

    /// Checks a token. One whose key is not known waits, for a bounded time, for one look at the issuer's keys,
    /// which all who wait share and which happens at most every ten seconds.
    pub async fn verify_or_refresh(&self, token: &str) -> Result<Arc<TokenPrincipal>, TokenError> {
        // Subscribed before the check: keys that come in between are not missed.
        let attempt = self.0.attempts.subscribe();
        match self.verify(token) {
            Err(error) if error.may_pass_with_fresh_keys() && self.wait_for(attempt).await => {
                self.verify(token)
            }
            answer => answer,
        }
    }

    /// Grants what these roles grant from now on, also to tokens that were checked before.
    pub fn set_roles(&self, roles: &Roles) {
        let new = Grants::new(&self.0.settings, roles);
        self.0.grants.rcu(|old| (old.0 + 1, new.clone()));
    }

    pub(super) fn verify_at(&self, token: &str, now: Now) -> Result<Arc<TokenPrincipal>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let inner = &*self.0;
        let keys = inner
            .keys
            .load_full()
            .filter(|keys| now.steady.saturating_duration_since(keys.confirmed) <= inner.stale_after);
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let granted = inner.grants.load();
        let (changes, grants) = &**granted;
        if let Some(keys) = &keys
            && let Some(principal) = inner.verified.get(&hash, (keys.generation, *changes), now.wall)
        {
            return Ok(principal);
        }
        let (kid, algorithm) = inner.header(token)?;
        let keys = keys.ok_or(TokenError::KeysUnavailable)?;
        let Some(key) = keys.find(kid.as_deref(), algorithm) else {
            return Err(inner.stranger(token));
        };
        let mut validation = Validation::new(algorithm.jwt());
        // Times are checked with the leeway and clock of ours.
        validation.validate_exp = false;
        validation.iss = Some(inner.issuers.clone());
        validation.aud = Some(inner.audience.clone());
        validation.required_spec_claims = HashSet::from(["iss".to_owned(), "aud".to_owned()]);
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &validation);
        let claims = decoded.map_err(|error| refusal(error.kind()))?.claims;
        let principal = Arc::new(grants.principal(&claims, now.wall)?);
        let until = grants.until(principal.expires_at);
        inner.verified.put(hash, (keys.generation, *changes), until, now.wall, Arc::clone(&principal));
        Ok(principal)
    }
}

impl Inner {
    /// The key id and algorithm of a token that may be worth a look.
    fn header(&self, token: &str) -> Result<(Option<String>, TokenAlgorithm), TokenError> {
        let mut parts = token.split('.');
        let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let json = URL_SAFE_NO_PAD.decode(head).map_err(|_| TokenError::Malformed)?;
        let header: Header = serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)?;
        if header.alg.eq_ignore_ascii_case("none") {
            return Err(TokenError::Unsigned);
        }
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let algorithm = TokenAlgorithm::named(&header.alg).filter(|known| self.algorithms.contains(known));
        Ok((header.kid, algorithm.ok_or(TokenError::Algorithm)?))
    }

    /// A token whose key is not known: when it does not even claim to be from our issuer, there is no use in
    /// asking the issuer for new keys.
    fn stranger(&self, token: &str) -> TokenError {
        match jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token) {
            Err(_) => TokenError::Malformed,
            Ok(claims) => match claims.get("iss").and_then(|issuer| issuer.as_str()) {
                Some(issuer) if self.issuers.contains(issuer) => TokenError::UnknownKey,
                Some(_) => TokenError::Issuer,
                None => TokenError::MissingClaim("iss"),
            },
        }
    }
}

/// The library's error, as ours.
fn refusal(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::MissingClaim("aud"),
        ErrorKind::MissingRequiredClaim(_) => TokenError::MissingClaim("iss"),
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("issuers", &self.0.issuers).finish_non_exhaustive()
    }
}
