//! What a token may do.

use super::*;

/// Signs these claims and checks them under these settings; the answer's permissions and all else.
async fn granted(mut settings: AuthSettings, roles: &Roles, over: Value) -> TokenPrincipal {
    let issuer = fake::Issuer::start();
    issuer.publish(&jwks(&[P256]));
    settings.issuer = Some(issuer.url());
    settings.audience = OneOrMany(vec![AUDIENCE.into()]);
    let verifier = TokenVerifier::with_pace(&settings, roles, EAGER).unwrap().unwrap();
    verifier.refresh().await.unwrap();
    let token = P256.sign(&claims(&issuer.url(), over));
    TokenPrincipal::clone(&*verifier.verify(&token).unwrap())
}

/// The guide's two sections, as JSON; that their YAML loads is proved in `trunkline`.
fn guide() -> (AuthSettings, Roles) {
    let auth = json!({"type": "oauth2", "provider": "auth0", "scopes": ["paladin:read", "paladin:write"]});
    let rbac = json!({"roles": [
        {"admin": ["*"]}, {"user": ["paladin:execute", "garrison:read"]}, {"viewer": ["paladin:read"]},
    ]});
    let rbac: RbacSettings = serde_json::from_value(rbac).unwrap();
    let (roles, notes) = Roles::of_settings(&RoleSettings::default(), &rbac).unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    (serde_json::from_value(auth).unwrap(), roles)
}

/// Mutations that made it fail: `Grants::permissions` without the scopes; without the roles.
#[tokio::test]
async fn promise_p01_scopes_and_roles_become_permissions() {
    let (auth, roles) = guide();
    for (claims, expected) in [
        (json!({"scope": "openid paladin:read"}), "paladin:read"),
        (json!({"scp": ["paladin:read", "paladin:write"]}), "paladin:read, paladin:write"),
        (json!({"permissions": ["paladin:write"]}), "paladin:write"),
        // What the settings do not list grants nothing, be it a permission of ours or everything.
        (json!({"scope": "keys:write * paladin:* garrison:read"}), ""),
        (json!({"roles": ["admin"]}), "*"),
        (json!({"roles": ["user"]}), "garrison:read, paladin:execute"),
        (json!({"roles": "viewer"}), "paladin:read"),
        (
            json!({"roles": ["viewer", "user"], "scope": "paladin:write"}),
            "garrison:read, paladin:execute, paladin:read, paladin:write",
        ),
        (json!({"roles": ["root", "Admin", " admin"]}), ""),
        (json!({"roles": {"admin": true}, "scope": 7}), ""),
        (json!({}), ""),
    ] {
        let principal = granted(auth.clone(), &roles, claims.clone()).await;
        assert_eq!(principal.permissions.to_string(), expected, "{claims}");
    }
    let user = granted(auth, &roles, json!({"roles": ["user"]})).await.permissions;
    assert!(user.allows("paladin:execute") && user.allows("garrison:read"));
    assert!(!user.allows("paladin:write") && !user.allows("garrison:write") && !user.allows("keys:read"));
}

#[tokio::test]
async fn names_of_the_issuer_can_be_mapped_to_ours() {
    let auth: AuthSettings = serde_json::from_value(json!({
        "provider": "keycloak",
        "scopes": ["api.call"],
        "scope_permissions": {"api.call": ["models:call"], "api.keys": ["keys:*"]},
        "role_map": {"Platform Team": "admin", "staff": "viewer"},
        "default_role": "caller",
        "claims": {"user": "email", "group": "https://example.com/team"},
    }))
    .unwrap();
    let roles = Roles::built_in();
    let claims = json!({
        "realm_access": {"roles": ["staff", "admin"]}, "roles": ["admin"],
        "email": "a@example.com", "https://example.com/team": "red",
    });
    let principal = granted(auth.clone(), &roles, claims).await;
    assert_eq!(
        principal.permissions.to_string(),
        "*:read",
        "only what is mapped, only where Keycloak has it"
    );
    assert_eq!((&*principal.subject, &*principal.user), ("user-1", "a@example.com"));
    assert_eq!(principal.group.as_deref(), Some("red"));

    let none = granted(auth.clone(), &roles, json!({"scope": "api.keys"})).await;
    assert_eq!(none.permissions.to_string(), "keys:*, models:call", "the default role and a mapped scope");
    assert_eq!((&*none.user, none.group), ("user-1", None));

    let issuer = fake::Issuer::start();
    issuer.publish(&jwks(&[P256]));
    let auth =
        AuthSettings { issuer: Some(issuer.url()), audience: OneOrMany(vec![AUDIENCE.into()]), ..auth };
    let verifier = verifier(&auth);
    verifier.refresh().await.unwrap();
    for (bad, expected) in [
        (json!({"email": ["a"]}), TokenError::BadClaim("user")),
        (json!({"https://example.com/team": "red\n"}), TokenError::BadClaim("group")),
    ] {
        assert_eq!(verifier.verify(&P256.sign(&claims_of(&issuer, bad))).unwrap_err(), expected);
    }
}

fn claims_of(issuer: &fake::Issuer, over: Value) -> Value {
    claims(&issuer.url(), over)
}
