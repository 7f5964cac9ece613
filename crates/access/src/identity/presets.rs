//! What differs between the issuers people use: where roles stand in a token, and how an issuer is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `auth.provider`: whose tokens these are. It only chooses defaults; everything can be set by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenIssuerKind {
    /// Any issuer with OpenID Connect discovery or a JWKS URL.
    #[default]
    Generic,
    /// Auth0.
    Auth0,
    /// Okta.
    Okta,
    /// Microsoft Entra ID.
    Entra,
    /// Keycloak.
    Keycloak,
    /// Google.
    Google,
}

impl TokenIssuerKind {
    /// How its issuer is written, for a message.
    pub(super) fn example(self) -> &'static str {
        match self {
            TokenIssuerKind::Generic => "https://id.example.com",
            TokenIssuerKind::Auth0 => "https://TENANT.REGION.auth0.com/",
            TokenIssuerKind::Okta => "https://ORG.okta.com/oauth2/default",
            TokenIssuerKind::Entra => "https://login.microsoftonline.com/TENANT-ID/v2.0",
            TokenIssuerKind::Keycloak => "https://HOST/realms/REALM",
            TokenIssuerKind::Google => "https://accounts.google.com",
        }
    }

    /// The claim that holds roles.
    pub(super) fn roles_claim(self) -> &'static str {
        match self {
            TokenIssuerKind::Keycloak => "realm_access.roles",
            _ => "roles",
        }
    }
}
