use access::sealing::Sealer;
use base::Secret;
use gateway::settings::{ModelSettings, ProviderSettings};
use store::Resource;

use super::file::FileConfiguration;
use super::merge::{Documents, InForce, merge};
use super::section::Section;
use super::*;

fn document(kind: &str, name: &str, body: &str) -> Resource {
    Resource {
        id: 1,
        kind: kind.into(),
        name: name.into(),
        body: body.into(),
        created_at: 0,
        updated_at: 0,
        version: 1,
    }
}

fn merged(file: &FileConfiguration, documents: &[(&str, &str, &str)]) -> InForce {
    let documents = documents.iter().map(|(kind, name, body)| document(kind, name, body)).collect();
    merge(file, &Documents::of(documents), None).unwrap()
}

fn with_demo() -> FileConfiguration {
    let demo = serde_json::from_str(r#"{"kind": "demo"}"#).unwrap();
    FileConfiguration { providers: [("demo".to_owned(), demo)].into(), ..FileConfiguration::default() }
}

#[test]
fn documents_stand_beside_the_file() {
    let merged = merged(
        &with_demo(),
        &[
            ("provider", "lab", r#"{"kind": "openai-compatible", "base_url": "http://127.0.0.1:1/v1"}"#),
            (
                "model",
                "fast",
                r#"{"targets": [{"provider": "lab", "model": "m"}, {"provider": "demo", "model": "d"}]}"#,
            ),
            ("price", "lab/m", r#"{"input": "1"}"#),
            ("role", "ops", r#"{"permissions": ["keys:*"]}"#),
            ("ip_rule", "deny 10.0.0.0/8", r#"{"action": "deny", "cidr": "10.0.0.0/8"}"#),
            ("settings", "limits", r#"{"per_key": {"rpm": 5}}"#),
        ],
    );
    assert_eq!(merged.left_out, []);
    assert_eq!(merged.gateway.providers.keys().collect::<Vec<_>>(), ["demo", "lab"]);
    assert_eq!(merged.gateway.models["fast"].targets.len(), 2);
    assert!(merged.gateway.prices.lookup("lab", "openai-compatible", "m").is_some());
    assert!(merged.roles.get("ops").unwrap().allows("keys:write"));
    assert_eq!(merged.ip_rules.len(), 1);
    assert_eq!(serde_json::to_value(merged.limits.per_key).unwrap()["requests_per_minute"], 5);
}

/// Mutation: without the check of each document by itself, `Snapshot::build` refuses all of them.
#[test]
fn a_document_that_is_no_good_does_not_take_the_others_down() {
    let merged = merged(
        &with_demo(),
        &[
            ("provider", "newer", r#"{"kind": "of-a-newer-version"}"#),
            ("provider", "nowhere", r#"{"kind": "openai-compatible", "base_url": "ftp://x"}"#),
            ("model", "lost", r#"{"targets": [{"provider": "newer", "model": "m"}]}"#),
            ("model", "good", r#"{"targets": [{"provider": "demo", "model": "m"}]}"#),
            ("price", "no-slash", r#"{"input": "1"}"#),
            ("role", "admin", r#"{"permissions": ["keys:read"]}"#),
            ("settings", "limits", r#"{"of_a_newer_version": 1}"#),
            ("ip_rule", "x", "{}"),
        ],
    );
    let names: Vec<&str> = merged.left_out.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["newer", "nowhere", "lost", "no-slash", "admin", "limits", "x"]);
    assert!(merged.gateway.models.contains_key("good") && merged.gateway.models.len() == 1);
    assert!(refuse_twice(&merged).is_ok());
}

#[test]
fn the_file_wins_and_a_start_is_refused() {
    let limits = serde_json::from_str(r#"{"per_key": {"rpm": 7}}"#).unwrap();
    let file = FileConfiguration { limits, ..with_demo() };
    let merged = merged(
        &file,
        &[
            ("provider", "demo", r#"{"kind": "openai", "api_key": "x"}"#),
            ("settings", "limits", r#"{"per_key": {"rpm": 5}}"#),
        ],
    );
    assert_eq!(merged.gateway.providers["demo"].kind, llm::Kind::DEMO);
    assert_eq!(merged.limits, file.limits);
    let error = refuse_twice(&merged).unwrap_err().to_string();
    assert!(error.contains("provider `demo`, settings `limits`"), "{error}");
}

#[test]
fn secrets_are_kept_sealed_and_open_only_where_they_belong() {
    let (sealer, _) = Sealer::create(&Secret::from("a master key".to_owned())).unwrap();
    let given = r#"{"kind": "openai", "api_key": "sk-very-secret", "headers": {"x-team": "also-secret"}}"#;
    let settings: ProviderSettings = serde_json::from_str(given).unwrap();
    let body = settings.write("openai", Some(&sealer)).unwrap().to_string();
    assert!(!body.contains("secret\""), "{body}");
    assert_eq!(ProviderSettings::read("openai", &body, Some(&sealer)).unwrap(), settings);
    assert!(ProviderSettings::read("other", &body, Some(&sealer)).is_err(), "moved to another row");
    assert!(ProviderSettings::read("openai", &body, None).is_err());
    assert!(settings.write("openai", None).unwrap_err().to_string().contains("TRUNKLINE_ADMIN_KEY"));
    let plain: ProviderSettings = serde_json::from_value(settings.plain().unwrap()).unwrap();
    assert_eq!(plain, settings);
}

#[test]
fn a_mistake_is_told_with_its_field() {
    let now = merged(
        &with_demo(),
        &[("model", "a", r#"{"targets": [{"provider": "demo", "model": "m"}], "context_fallback": "b"}"#)],
    );
    let provider = |name: &str, body: &str| {
        serde_json::from_str::<ProviderSettings>(body)
            .unwrap()
            .check(name, &now)
            .err()
            .map(|(field, _)| field)
    };
    for (name, body, field) in [
        ("ok", r#"{"kind": "demo"}"#, None),
        ("Not Ok", r#"{"kind": "demo"}"#, Some("name")),
        ("x", r#"{"kind": "demo", "api_key": "k"}"#, Some("api_key")),
        ("x", r#"{"kind": "openai"}"#, Some("api_key")),
        ("x", r#"{"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}"#, None),
        ("x", r#"{"kind": "openai-compatible"}"#, Some("base_url")),
        ("x", r#"{"kind": "openai-compatible", "base_url": "nonsense"}"#, Some("base_url")),
        ("x", r#"{"kind": "openai-compatible", "base_url": "http://u:p@h/v1"}"#, Some("base_url")),
        ("x", r#"{"kind": "openai", "api_key": "k", "headers": {"host": "a"}}"#, Some("headers.host")),
        (
            "x",
            r#"{"kind": "openai", "api_key": "k", "max_concurrent_requests": 0}"#,
            Some("max_concurrent_requests"),
        ),
    ] {
        assert_eq!(provider(name, body).as_deref(), field, "{body}");
    }
    let model = |name: &str, body: &str| {
        serde_json::from_str::<ModelSettings>(body).unwrap().check(name, &now).err().map(|(field, _)| field)
    };
    let demo = r#""targets": [{"provider": "demo", "model": "m"}]"#;
    for (name, rest, field) in [
        ("b", "", None),
        ("a/b", "", Some("name")),
        ("b", r#", "context_fallback": "demo/m""#, None),
        ("b", r#", "context_fallback": "a""#, Some("context_fallback")),
        ("b", r#", "context_fallback": "none""#, Some("context_fallback")),
        ("b", r#", "resilience": {"retries": 21}"#, Some("resilience.retries")),
        ("b", r#", "resilience": {"idle_timeout": "0s"}"#, Some("resilience.idle_timeout")),
    ] {
        assert_eq!(model(name, &format!("{{{demo}{rest}}}")).as_deref(), field, "{rest}");
    }
    assert_eq!(model("b", r#"{"targets": []}"#).as_deref(), Some("targets"));
    let nobody = r#"{"targets": [{"provider": "nobody", "model": "m"}]}"#;
    assert_eq!(model("b", nobody).as_deref(), Some("targets[0].provider"));
    assert!(ProviderSettings::needed_by("demo", &now).is_some());
    assert!(ModelSettings::needed_by("b", &now).is_some() && ModelSettings::needed_by("a", &now).is_none());
}
