//! Who a bearer token speaks for, and what a role may do.
//!
//! Three things that belong together: [`Permissions`] (what somebody may do), [`Roles`] (names for
//! permissions) and [`TokenVerifier`] (an OpenID Connect or OAuth2 access token becomes a
//! [`TokenPrincipal`] with permissions). Virtual keys get their permissions from the same roles, so that the
//! rest of the house asks one question, [`Permissions::allows`], whoever is asking.
//!
//! Checking a token never waits for the network when its key is known: the issuer's keys are a snapshot that a
//! background task ([`TokenVerifier::run`]) keeps fresh, and a token that was checked once is remembered until
//! it expires or the keys change.

mod cache;
mod claims;
mod error;
pub mod http;
mod keys;
mod permissions;
mod presets;
mod refresh;
mod roles;
mod settings;
mod verifier;

pub use claims::TokenPrincipal;
pub use error::{IdentityError, TokenError};
pub use permissions::{AREAS, Pattern, Permissions};
pub use presets::TokenIssuerKind;
pub use roles::{RbacSettings, RoleError, RoleErrors, RoleSettings, Roles};
pub use settings::{AuthKind, AuthSettings, ClaimNames, OneOrMany, TokenAlgorithm};
pub use verifier::{TokenVerifier, looks_like_token};

#[cfg(test)]
mod tests;
