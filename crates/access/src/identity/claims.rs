//! From the claims of a checked token to who it is and what it may do.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::TokenError;
use super::permissions::{Pattern, Permissions};
use super::roles::Roles;
use super::settings::AuthSettings;

/// The longest subject, user or group, in bytes.
const MAX_NAME: usize = 256;
/// The last second that we believe in: the end of the year 9999.
const MAX_SECONDS: f64 = 253_402_300_799.0;

/// Who a bearer token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPrincipal {
    /// The issuer's own name for whom it is (`sub`). Without control characters: safe to log.
    pub subject: Arc<str>,
    /// The user, as `auth.claims.user` says; else the subject.
    pub user: Arc<str>,
    /// The name of the group whose budget pays, when `auth.claims.group` is set and the token has it.
    pub group: Option<String>,
    /// What it may do: the sum of its roles and scopes.
    pub permissions: Permissions,
    /// When the token ends, in milliseconds since the epoch, without the leeway.
    pub expires_at: i64,
}

/// What tokens grant, worked out once from the settings.
#[derive(Clone)]
pub(super) struct Grants {
    roles: Roles,
    role_map: BTreeMap<String, String>,
    default_role: Option<String>,
    scopes: HashMap<String, Permissions>,
    claims: Names,
    /// Milliseconds.
    leeway: i64,
}

#[derive(Clone)]
struct Names {
    user: Option<String>,
    group: Option<String>,
    roles: String,
    scopes: Vec<String>,
}

pub(super) type Claims = Map<String, Value>;

impl Grants {
    /// The settings must have been checked.
    pub(super) fn new(settings: &AuthSettings, roles: &Roles) -> Self {
        let given = &settings.claims;
        let scope_claims = match &given.scopes {
            Some(name) => vec![name.clone()],
            None => vec!["scope".into(), "scp".into()],
        };
        let permissions_claim = given.permissions.clone().unwrap_or_else(|| "permissions".into());
        let mut scopes: HashMap<String, Permissions> = HashMap::new();
        for (scope, patterns) in &settings.scope_permissions {
            scopes.insert(scope.clone(), Permissions::new(patterns.iter().cloned()));
        }
        for scope in &settings.scopes {
            if let (false, Ok(pattern)) = (scopes.contains_key(scope), Pattern::parse(scope)) {
                scopes.insert(scope.clone(), Permissions::new([pattern]));
            }
        }
        Grants {
            roles: roles.clone(),
            role_map: settings.role_map.clone(),
            default_role: settings.default_role.clone(),
            scopes,
            claims: Names {
                user: given.user.clone(),
                group: given.group.clone(),
                roles: given.roles.clone().unwrap_or_else(|| settings.provider.roles_claim().into()),
                scopes: scope_claims.into_iter().chain([permissions_claim]).collect(),
            },
            leeway: i64::try_from(settings.leeway.0.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Until when a token that ends then is taken.
    pub(super) fn until(&self, expires_at: i64) -> i64 {
        expires_at.saturating_add(self.leeway)
    }

    /// Who a token with these claims speaks for, at `now` (milliseconds since the epoch).
    pub(super) fn principal(&self, claims: &Claims, now: i64) -> Result<TokenPrincipal, TokenError> {
        let expires_at = seconds(claims, "exp")?.ok_or(TokenError::MissingClaim("exp"))?;
        if now >= self.until(expires_at) {
            return Err(TokenError::Expired);
        }
        if seconds(claims, "nbf")?.is_some_and(|begins| begins > now.saturating_add(self.leeway)) {
            return Err(TokenError::NotYetValid);
        }
        let subject: Arc<str> = match claims.get("sub") {
            None => return Err(TokenError::MissingClaim("sub")),
            Some(value) => name(value).ok_or(TokenError::BadClaim("sub"))?.into(),
        };
        let user = match self.claims.user.as_deref().and_then(|path| find(claims, path)) {
            Some(value) => name(value).ok_or(TokenError::BadClaim("user"))?.into(),
            None => Arc::clone(&subject),
        };
        let group = match self.claims.group.as_deref().and_then(|path| find(claims, path)) {
            Some(value) => Some(name(value).ok_or(TokenError::BadClaim("group"))?.to_owned()),
            None => None,
        };
        Ok(TokenPrincipal { subject, user, group, permissions: self.permissions(claims), expires_at })
    }

    fn permissions(&self, claims: &Claims) -> Permissions {
        let mut sum: Vec<&Permissions> = Vec::new();
        let mut has_role = false;
        for role in find(claims, &self.claims.roles).map(words).unwrap_or_default() {
            let ours = match self.role_map.is_empty() {
                true => Some(role),
                false => self.role_map.get(role).map(String::as_str),
            };
            if let Some(permissions) = ours.and_then(|role| self.roles.get(role)) {
                has_role = true;
                sum.push(permissions);
            }
        }
        if let (false, Some(role)) = (has_role, &self.default_role) {
            sum.extend(self.roles.get(role));
        }
        for claim in &self.claims.scopes {
            let scopes = find(claims, claim).map(words).unwrap_or_default();
            sum.extend(scopes.into_iter().filter_map(|scope| self.scopes.get(scope)));
        }
        Permissions::new(sum.into_iter().flat_map(|permissions| permissions.patterns().iter().cloned()))
    }
}

/// The claim of this name, or what the path leads to.
fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, key| value.get(key))
}

/// The words of a list, or of one text with spaces between them.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A text that is fit for logs and headers.
fn name(value: &Value) -> Option<&str> {
    let text = value.as_str()?;
    let good = !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control);
    good.then_some(text)
}

/// A time claim in milliseconds.
fn seconds(claims: &Claims, claim: &'static str) -> Result<Option<i64>, TokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => Ok(Some((seconds * 1000.0) as i64)),
            _ => Err(TokenError::BadClaim(claim)),
        },
    }
}
