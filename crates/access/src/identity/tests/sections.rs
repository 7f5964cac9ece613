//! What is said about wrong settings.

use super::*;

fn read(json: Value) -> AuthSettings {
    serde_json::from_value(json).unwrap()
}

#[test]
fn wrong_settings_are_named_with_what_to_write() {
    let url = "https://id.example.com";
    for (settings, path, expected) in [
        (json!({"issuer": url}), "auth", "`audience` is missing"),
        (json!({"issuer": "id.example.com", "audience": "a"}), "auth.issuer", "https://id.example.com"),
        (json!({"issuer": "ftp://x", "audience": "a", "provider": "auth0"}), "auth.issuer", "auth0.com"),
        (json!({"issuer": "https://u:p@x", "audience": "a"}), "auth.issuer", "write a URL"),
        (json!({"jwks_url": url}), "auth", "`issuer` is missing"),
        (json!({"issuer": url, "audience": ["a", ""]}), "auth.audience", "empty"),
        (json!({"algorithms": []}), "auth.algorithms", "[RS256]"),
        (json!({"scopes": ["paladin:read", "api.call"]}), "auth.scopes[1]", "scope_permissions"),
        (json!({"default_role": "none"}), "auth.default_role", "there are admin, caller, viewer"),
        (json!({"role_map": {"a": "none"}}), "auth.role_map.a", "no role `none`"),
        (json!({"leeway": "10m"}), "auth.leeway", "at most 5m"),
        (json!({"refresh": "1s"}), "auth.refresh", "at least 10s"),
        (json!({"stale_after": "1m"}), "auth.stale_after", "not shorter"),
    ] {
        let found = read(settings.clone()).check(&Roles::built_in());
        assert_eq!(found.len(), 1, "{settings}: {found:?}");
        assert!(found[0].0 == path && found[0].1.contains(expected), "{settings}: {found:?}");
        assert!(TokenVerifier::new(&read(settings), &Roles::built_in()).is_err());
    }
    for algorithm in ["none", "HS256", "hs512", "rs256"] {
        assert!(
            serde_json::from_value::<AuthSettings>(json!({"algorithms": [algorithm]})).is_err(),
            "{algorithm}"
        );
    }
    assert!(serde_json::from_value::<AuthSettings>(json!({"isuer": url})).is_err());
}

/// A section without an issuer is the guide's: it loads, accepts nothing, and says so.
#[test]
fn without_an_issuer_no_token_is_accepted() {
    let roles = Roles::built_in();
    let guide = read(json!({"type": "oauth2", "provider": "auth0", "scopes": ["paladin:read"]}));
    assert_eq!(guide.check(&roles), []);
    assert!(TokenVerifier::new(&guide, &roles).unwrap().is_none());
    let note = guide.note().unwrap();
    assert!(note.contains("auth.issuer") && note.contains("https://TENANT.REGION.auth0.com/"), "{note}");
    assert_eq!(AuthSettings::default().note(), None);
}

#[test]
fn a_file_of_authorities_must_hold_some() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, "nothing").unwrap();
    let with_ca = AuthSettings { ca_file: Some(path), ..settings("https://id.example.com") };
    let error = TokenVerifier::new(&with_ca, &Roles::built_in()).unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("holds no certificate"), "{error}");
}
