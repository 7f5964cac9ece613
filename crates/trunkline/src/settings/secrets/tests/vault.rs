//! Vault's API as its documentation has it.

use super::*;

/// Version 2 of key/value, as `vault kv put secret/paladin/prod openai_api_key=… deepseek_api_key=…` of the
/// guide leaves it.
const V2: &str = r#"{"request_id": "r", "lease_id": "", "data": {
    "data": {"openai_api_key": "sk-one", "deepseek_api_key": "sk-two", "port": 8200, "on": true, "list": []},
    "metadata": {"created_time": "2026-01-01T00:00:00Z", "version": 3, "destroyed": false}}}"#;

fn variables<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Env {
    let mut all = vec![("VAULT_ADDR", url), ("VAULT_TOKEN", "hvs.token")];
    all.extend_from_slice(more);
    env(&all)
}

/// Mutations that made it fail: no token header; the path without `v1`; fields read one level too high.
#[test]
fn promise_p02_vault_is_asked_once_for_all_fields_of_a_secret() {
    let manager = Manager::start();
    manager.answer("GET /v1/secret/data/paladin/prod", "200 OK", V2);
    let (url, address) = (manager.url(), manager.address());
    let env = variables(&url, &[("VAULT_NAMESPACE", "team-a")]);
    let secrets = Secrets::new(&env);
    for (field, expected) in
        [("openai_api_key", "sk-one"), ("deepseek_api_key", "sk-two"), ("port", "8200"), ("on", "true")]
    {
        let value = secrets.get(&format!("vault:secret/data/paladin/prod#{field}"));
        assert_eq!(value, Some(Ok(expected.into())), "{field}");
    }
    let seen = manager.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].line.as_str(), seen[0].body.as_str()), ("GET /v1/secret/data/paladin/prod", ""));
    for (name, value) in [
        ("x-vault-token", "hvs.token"),
        ("x-vault-namespace", "team-a"),
        ("x-vault-request", "true"),
        ("host", &address),
    ] {
        assert_eq!(seen[0].header(name), Some(value), "{name}");
    }
    assert!(error(&secrets, "vault:secret/data/paladin/prod#list").contains("not a text, number or boolean"));
    let said = error(&secrets, "vault:secret/data/paladin/prod#nothing");
    assert_eq!(said, "Vault: the secret `secret/data/paladin/prod` has no field `nothing`");
    let default = secrets.get("vault:secret/data/paladin/prod#nothing:-none");
    assert_eq!(default, Some(Ok("none".into())));
}

/// The guide reads `vault kv get -field=api_key secret/openai`: the command leaves `data` out, and so may people.
#[test]
fn promise_p02_both_versions_and_the_guide_s_paths_are_read() {
    let manager = Manager::start();
    manager.answer("GET /v1/kv/openai", "200 OK", r#"{"data": {"api_key": "sk-v1"}}"#);
    manager.answer(
        "GET /v1/secret/data/openai",
        "200 OK",
        r#"{"data": {"data": {"api_key": "sk-v2"}, "metadata": {}}}"#,
    );
    manager.answer("GET /v1/secret/openai", "403 Forbidden", r#"{"errors": ["permission denied"]}"#);
    manager.answer("GET /v1/kv/data", "200 OK", r#"{"data": {"data": "x", "api_key": "odd"}}"#);
    let url = manager.url();
    let env = variables(&url, &[]);
    let secrets = Secrets::new(&env);
    assert_eq!(secrets.get("vault:kv/openai#api_key"), Some(Ok("sk-v1".into())));
    assert_eq!(secrets.get("vault:secret/openai#api_key"), Some(Ok("sk-v2".into())));
    assert_eq!(secrets.get("vault:kv/data#api_key"), Some(Ok("odd".into())), "version 1 with a field `data`");
}

#[test]
fn promise_p02_vault_takes_the_logins_of_applications() {
    let logged_in = r#"{"auth": {"client_token": "hvs.session", "lease_duration": 60}}"#;
    let dir = tempfile::tempdir().unwrap();
    let jwt = dir.path().join("token");
    std::fs::write(&jwt, "eyJ.service.account\n").unwrap();
    let jwt = jwt.to_str().unwrap();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 3] = [
        (
            &[("VAULT_ROLE_ID", "r-1"), ("VAULT_SECRET_ID", "s-1")],
            "POST /v1/auth/approle/login",
            r#"{"role_id":"r-1","secret_id":"s-1"}"#,
        ),
        (
            &[("VAULT_ROLE", "trunkline"), ("VAULT_JWT_FILE", jwt)],
            "POST /v1/auth/kubernetes/login",
            r#"{"jwt":"eyJ.service.account","role":"trunkline"}"#,
        ),
        (
            &[("VAULT_ROLE", "trunkline"), ("VAULT_JWT_FILE", jwt), ("VAULT_AUTH_MOUNT", "clusters/blue")],
            "POST /v1/auth/clusters/blue/login",
            r#"{"jwt":"eyJ.service.account","role":"trunkline"}"#,
        ),
    ];
    for (variables, line, body) in cases {
        let manager = Manager::start();
        manager.answer(line, "200 OK", logged_in);
        manager.answer("GET /v1/kv/a", "200 OK", r#"{"data": {"k": "v"}}"#);
        manager.answer("GET /v1/kv/b", "200 OK", r#"{"data": {"k": "w"}}"#);
        let url = manager.url();
        let mut all = vec![("VAULT_ADDR", url.as_str())];
        all.extend_from_slice(variables);
        let env = env(&all);
        let secrets = Secrets::new(&env);
        assert_eq!(secrets.get("vault:kv/a#k"), Some(Ok("v".into())), "{line}");
        assert_eq!(secrets.get("vault:kv/b#k"), Some(Ok("w".into())), "{line}");
        let seen = manager.requests();
        let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
        assert_eq!(lines, [line, "GET /v1/kv/a", "GET /v1/kv/b"], "one login");
        assert_eq!((seen[0].body.as_str(), seen[0].header("x-vault-token")), (body, None));
        assert_eq!(seen[2].header("x-vault-token"), Some("hvs.session"));
    }
}

/// Mutation that made it fail: a source that is down asked again.
#[test]
fn what_is_wrong_is_named_and_no_value_is() {
    let manager = Manager::start();
    manager.answer("GET /v1/kv/forbidden", "403 Forbidden", r#"{"errors": ["1 error: sk-leak"]}"#);
    manager.answer("GET /v1/kv/data/forbidden", "403 Forbidden", r#"{"errors": ["sk-leak"]}"#);
    manager.answer("GET /v1/kv/odd", "200 OK", "sk-leak");
    manager.answer("GET /v1/kv/large", "200 OK", &"x".repeat(MAX_ANSWER + 1));
    let url = manager.url();
    let env_up = variables(&url, &[]);
    let secrets = Secrets::new(&env_up);
    for (inside, expected) in [
        ("vault:kv/none#k", "has no secret `kv/none`"),
        ("vault:kv/forbidden#k", "policy of it allow `read`"),
        ("vault:kv/odd#k", "something that is no secret"),
        ("vault:kv/large#k", "larger than"),
    ] {
        let said = error(&secrets, inside);
        assert!(said.contains(expected) && said.starts_with("Vault at http://127.0.0.1:"), "{said}");
        assert!(!said.contains("sk-leak") && !said.contains("hvs.token"), "{said}");
    }

    let before = manager.requests().len();
    manager.answer("GET /v1/kv/sealed", "503 Service Unavailable", "{}");
    let secrets = Secrets::new(&env_up);
    for name in ["sealed", "another", "third"] {
        assert!(
            error(&secrets, &format!("vault:kv/{name}#k:-default")).contains("is sealed"),
            "no default for that"
        );
    }
    assert_eq!(manager.requests().len(), before + 1, "asked once");

    drop(manager);
    let cases: [(Env, &str); 5] = [
        (env(&[]), "set VAULT_ADDR"),
        (env(&[("VAULT_ADDR", "vault:8200")]), "VAULT_ADDR is not a URL"),
        (env(&[("VAULT_ADDR", &url)]), "set VAULT_TOKEN, or VAULT_ROLE_ID"),
        (env(&[("VAULT_ADDR", &url), ("VAULT_ROLE", "r")]), "service account"),
        (variables(&url, &[]), "cannot be reached"),
    ];
    for (env, expected) in cases {
        let said = error(&Secrets::new(&env), "vault:kv/a#k:-default");
        assert!(said.contains(expected) && said.starts_with("Vault"), "{said}");
    }
}
