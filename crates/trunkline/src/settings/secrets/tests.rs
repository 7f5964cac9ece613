//! Against fakes that show every byte they were sent.

mod aws;
mod fake;
mod guide;
mod vault;

use super::*;
use fake::Manager;

fn env(vars: &[(&str, &str)]) -> Env {
    Env::from_iter(vars.iter().copied())
}

fn error(secrets: &Secrets<'_>, inside: &str) -> String {
    secrets.get(inside).unwrap().unwrap_err()
}

#[test]
fn promise_p02_a_secret_may_stand_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    // As Kubernetes mounts the guide's ExternalSecret.
    let file = dir.path().join("openai-api-key");
    std::fs::write(&file, "sk-in-file\r\n\n").unwrap();
    let (path, missing) = (file.to_str().unwrap(), dir.path().join("none"));
    let (env, missing) = (env(&[]), missing.to_str().unwrap());
    let secrets = Secrets::new(&env);
    assert_eq!(secrets.get(&format!("file:{path}")), Some(Ok("sk-in-file".into())));
    assert_eq!(secrets.get(&format!("file:{missing}:-none")), Some(Ok("none".into())));
    let said = error(&secrets, &format!("file:{missing}"));
    assert!(said.starts_with(&format!("the file `{missing}` cannot be read")), "{said}");
    std::fs::write(&file, vec![b'x'; (MAX_FILE + 1) as usize]).unwrap();
    assert!(error(&secrets, &format!("file:{path}:-x")).contains("larger than 1 MiB"));
    assert_eq!(secrets.get("NAME"), None);
    assert_eq!(secrets.get("NAME:-default"), None);
}

#[test]
fn only_looking_at_settings_asks_nobody() {
    let manager = Manager::start();
    let env = env(&[("VAULT_ADDR", &manager.url()), ("VAULT_TOKEN", "t")]);
    let secrets = Secrets::offline(&env);
    assert_eq!(secrets.get("vault:a/b#c"), Some(Ok(String::new())));
    assert_eq!(secrets.get("aws-sm:a"), Some(Ok(String::new())));
    assert!(secrets.get("vault:a").unwrap().is_err(), "what is written wrong is said");
    assert!(manager.requests().is_empty());
}

/// A reload happens within a runtime, and drops what it used there.
#[tokio::test]
async fn settings_may_be_read_within_a_runtime() {
    let manager = Manager::start();
    manager.answer("GET /v1/kv/app", "200 OK", r#"{"data": {"key": "v"}}"#);
    let env = env(&[("VAULT_ADDR", &manager.url()), ("VAULT_TOKEN", "t")]);
    let secrets = Secrets::new(&env);
    assert_eq!(secrets.get("vault:kv/app#key"), Some(Ok("v".into())));
    drop(secrets);
}
