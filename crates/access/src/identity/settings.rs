//! The section `auth:`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use base::Duration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::permissions::Pattern;
use super::presets::TokenIssuerKind;
use super::roles::Roles;

/// The most that clocks may differ: more would keep expired tokens alive.
const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// The shortest time between two looks at the issuer's keys.
const MIN_REFRESH: Duration = Duration::from_secs(10);

/// `auth:`, bearer tokens of an OpenID Connect or OAuth2 issuer. Without an `issuer` none are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// What the tokens are: `oauth2` access tokens or `oidc` ID tokens; both are checked alike.
    #[serde(rename = "type")]
    pub kind: AuthKind,
    /// Whose tokens: chooses where roles are looked for.
    pub provider: TokenIssuerKind,
    /// The issuer, as the tokens' `iss` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Whom the tokens must be meant for (`aud`): one name or several.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub audience: OneOrMany<String>,
    /// Where the issuer's keys are. Default: as its `/.well-known/openid-configuration` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Further certificate authorities for the issuer, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<std::path::PathBuf>,
    /// The signature algorithms that are accepted. There is no `none` and no shared-secret one.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The scopes (and entries of the permissions claim) that count; each grants the permission of its name, or
    /// what `scope_permissions` says. Scopes that stand in neither grant nothing.
    pub scopes: Vec<String>,
    /// What a scope grants, where its name is not a permission.
    pub scope_permissions: BTreeMap<String, Vec<Pattern>>,
    /// The issuer's role names and ours. When there are any, roles that are not among them grant nothing; else
    /// a role of the token is ours of the same name.
    pub role_map: BTreeMap<String, String>,
    /// The role of a token that has none of ours. Default: none, so it grants no more than its scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_role: Option<String>,
    /// The names of claims.
    pub claims: ClaimNames,
    /// How far the issuer's clock and ours may differ, at most `5m`.
    pub leeway: Duration,
    /// How often the issuer's keys are read anew.
    pub refresh: Duration,
    /// How long keys are used after the issuer was last reached.
    pub stale_after: Duration,
}

impl Default for AuthSettings {
    fn default() -> Self {
        AuthSettings {
            kind: AuthKind::default(),
            provider: TokenIssuerKind::default(),
            issuer: None,
            audience: OneOrMany::default(),
            jwks_url: None,
            ca_file: None,
            algorithms: TokenAlgorithm::ALL.to_vec(),
            scopes: Vec::new(),
            scope_permissions: BTreeMap::new(),
            role_map: BTreeMap::new(),
            default_role: None,
            claims: ClaimNames::default(),
            leeway: Duration::from_secs(60),
            refresh: Duration::from_secs(600),
            stale_after: Duration::from_secs(86_400),
        }
    }
}

/// What kind of token; for the reader of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthKind {
    /// OAuth2 access tokens (JWT).
    #[default]
    Oauth2,
    /// OpenID Connect ID tokens.
    Oidc,
}

/// Where in a token things stand. A name may be a path, as `realm_access.roles`; a claim whose whole name it is
/// wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimNames {
    /// The user, for limits per user, logs and the audit. Default: `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name of the group whose budget pays. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The roles. Default: the provider's, mostly `roles`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<String>,
    /// The scopes. Default: `scope` and `scp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<String>,
    /// Permissions, read as scopes are. Default: `permissions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
}

/// A signature algorithm with a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 and say it all")]
pub enum TokenAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl TokenAlgorithm {
    /// All of them.
    pub const ALL: [TokenAlgorithm; 9] = [
        TokenAlgorithm::RS256,
        TokenAlgorithm::RS384,
        TokenAlgorithm::RS512,
        TokenAlgorithm::PS256,
        TokenAlgorithm::PS384,
        TokenAlgorithm::PS512,
        TokenAlgorithm::ES256,
        TokenAlgorithm::ES384,
        TokenAlgorithm::EdDSA,
    ];

    pub(super) fn jwt(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as A;
        match self {
            TokenAlgorithm::RS256 => A::RS256,
            TokenAlgorithm::RS384 => A::RS384,
            TokenAlgorithm::RS512 => A::RS512,
            TokenAlgorithm::PS256 => A::PS256,
            TokenAlgorithm::PS384 => A::PS384,
            TokenAlgorithm::PS512 => A::PS512,
            TokenAlgorithm::ES256 => A::ES256,
            TokenAlgorithm::ES384 => A::ES384,
            TokenAlgorithm::EdDSA => A::EdDSA,
        }
    }

    /// The algorithm of a JOSE name; `None` for `none`, shared secrets and what we do not know.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name_of = |algorithm: &Self| match algorithm {
            TokenAlgorithm::RS256 => "RS256",
            TokenAlgorithm::RS384 => "RS384",
            TokenAlgorithm::RS512 => "RS512",
            TokenAlgorithm::PS256 => "PS256",
            TokenAlgorithm::PS384 => "PS384",
            TokenAlgorithm::PS512 => "PS512",
            TokenAlgorithm::ES256 => "ES256",
            TokenAlgorithm::ES384 => "ES384",
            TokenAlgorithm::EdDSA => "EdDSA",
        };
        Self::ALL.into_iter().find(|algorithm| name_of(algorithm) == name)
    }
}

impl AuthSettings {
    /// What is wrong with the section: the path of the setting and what to write instead. It says nothing
    /// about a section without an issuer, which is valid and accepts no tokens (see [`Self::note`]).
    pub fn check(&self, roles: &Roles) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |path: String, message: String| wrong.push((path, message));
        for (path, url) in [("issuer", &self.issuer), ("jwks_url", &self.jwks_url)] {
            if url.as_deref().is_some_and(|url| !is_http(url)) {
                say(format!("auth.{path}"), format!("write a URL, as `{}`", self.provider.example()));
            }
        }
        if self.issuer.is_some() && self.audience.is_empty() {
            let why = "the key `audience` is missing: name whom the tokens are meant for, else the issuer's \
                       tokens for any other service would be taken here";
            say("auth".into(), why.into());
        }
        if self.issuer.is_none() && self.jwks_url.is_some() {
            say("auth".into(), "the key `issuer` is missing: write what the tokens' `iss` says".into());
        }
        if self.audience.0.iter().any(String::is_empty) {
            say("auth.audience".into(), "an audience cannot be empty".into());
        }
        if self.algorithms.is_empty() {
            say("auth.algorithms".into(), "name at least one, as `[RS256]`, or leave it out".into());
        }
        for (at, scope) in self.scopes.iter().enumerate() {
            if !self.scope_permissions.contains_key(scope)
                && let Err(why) = Pattern::parse(scope)
            {
                let message = format!("{why}; or say what it grants in `auth.scope_permissions`");
                say(format!("auth.scopes[{at}]"), message);
            }
        }
        let ours = self.role_map.iter().map(|(theirs, role)| (format!("auth.role_map.{theirs}"), role));
        let default = self.default_role.iter().map(|role| ("auth.default_role".to_owned(), role));
        for (path, role) in ours.chain(default) {
            if roles.get(role).is_none() {
                let names: Vec<&str> = roles.iter().map(|(name, _)| name).collect();
                say(path, format!("there is no role `{role}`: there are {}", names.join(", ")));
            }
        }
        if self.leeway > MAX_LEEWAY {
            say("auth.leeway".into(), format!("at most {MAX_LEEWAY}"));
        }
        if self.refresh < MIN_REFRESH {
            say("auth.refresh".into(), format!("at least {MIN_REFRESH}"));
        }
        if self.stale_after < self.refresh {
            say("auth.stale_after".into(), "not shorter than `auth.refresh`".into());
        }
        wrong
    }

    /// A sentence for the log when the section is there but accepts nothing.
    pub fn note(&self) -> Option<String> {
        let empty = AuthSettings::default() == *self;
        (self.issuer.is_none() && !empty).then(|| {
            format!(
                "auth: no bearer token is accepted until auth.issuer (as `{}`) and auth.audience are set",
                self.provider.example()
            )
        })
    }
}

pub(super) fn is_http(url: &str) -> bool {
    let parsed = url::Url::parse(url).ok();
    parsed.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> OneOrMany<T> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany(Vec::new())
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(PhantomData)).map(OneOrMany)
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        T::deserialize(text.into_deserializer()).map(|one| vec![one])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut many = Vec::new();
        while let Some(one) = list.next_element()? {
            many.push(one);
        }
        Ok(many)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "array", "items": one }, one] })
    }
}
