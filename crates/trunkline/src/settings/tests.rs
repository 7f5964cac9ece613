use std::path::Path as FilePath;

use super::*;

fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trunkline.yaml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn repository() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn without_anything_there_is_the_demo() {
    let loaded = load(None, &Env::default(), &Flags::default()).unwrap();
    assert_eq!(loaded.settings.providers["demo"].kind, llm::Kind::DEMO);
    let expected = Settings { providers: loaded.settings.providers.clone(), ..Settings::default() };
    assert_eq!(loaded.settings, expected);
    let row = ("providers.demo.kind".into(), "demo".into(), "default (no provider configured)".into());
    assert!(loaded.show().contains(&row));
    assert!(loaded.notes.is_empty());
}

#[test]
fn each_layer_is_stronger_than_the_one_before() {
    let (_dir, file) = write("server: {listen: '1.1.1.1:1', metrics: '1.1.1.1:2'}\ndata: {dir: /file}\n");
    let env = Env::from_iter([("TRUNKLINE_SERVER__METRICS", "2.2.2.2:2"), ("TRUNKLINE_DATA__DIR", "/env")]);
    let flags =
        Flags { data_dir: Some("/flag".into()), roles: Some(vec!["admin".into()]), ..Flags::default() };
    let loaded = load(Some(&file), &env, &flags).unwrap();
    let shown = loaded.show();
    let row = |path: &str| {
        shown.iter().find(|row| row.0 == path).map(|row| (row.1.as_str(), row.2.as_str())).unwrap()
    };
    let name = file.display();
    assert_eq!(row("server.listen"), ("1.1.1.1:1", format!("{name}:1").as_str()));
    assert_eq!(row("server.metrics"), ("2.2.2.2:2", "env TRUNKLINE_SERVER__METRICS"));
    assert_eq!(row("data.dir"), ("/flag", "--data-dir"));
    assert_eq!(row("server.roles"), ("[admin]", "--role"));
    assert_eq!(row("server.max_body"), ("20MiB", "default"));
}

#[test]
fn a_stronger_listen_replaces_listeners() {
    let (_dir, file) = write("server: {listeners: [{addr: '1.1.1.1:1', roles: [gateway]}]}");
    let flags = Flags { listen: Some("127.0.0.1:0".into()), ..Flags::default() };
    let loaded = load(Some(&file), &Env::default(), &flags).unwrap();
    assert_eq!(loaded.settings.server.listeners, None);
    assert_eq!(loaded.notes, ["--listen replaces server.listeners"]);
    let env = Env::from_iter([("TRUNKLINE_SERVER__LISTEN", "127.0.0.1:1")]);
    assert_eq!(load(Some(&file), &env, &Flags::default()).unwrap().settings.server.listeners, None);
    let roles = Flags { roles: Some(vec!["admin".into()]), ..Flags::default() };
    let problems = load(Some(&file), &Env::default(), &roles).unwrap_err();
    assert!(lines(&problems).starts_with("--role: server.roles: is for `listen`"), "{}", lines(&problems));
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let (_dir, file) = write(
        "server:\n  lissten: x\n  threads: many\nproviders:\n  lab: {kind: openai-compatible}\n  \
         key: {kind: openai, api_key: '${NOT_SET}'}\nserver: {}\n",
    );
    let env = Env::from_iter([("MAX_RETRIES", "x"), ("TRUNKLINE_DATA__DIRR", "x")]);
    let flags = Flags { listen: Some("here".into()), ..Flags::default() };
    let problems = load(Some(&file), &env, &flags).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.line().unwrap_or(0)).collect();
    assert_eq!(places, [2, 3, 5, 6, 7, 0, 0, 0], "{}", lines(&problems));
    let text = lines(&problems);
    for part in [
        ":2:3: server.lissten: unknown key `lissten` in `server`: did you mean `listen`?",
        ":6:32: providers.key.api_key: the variable NOT_SET is not set",
        "env MAX_RETRIES: must be a whole number",
        "env TRUNKLINE_DATA__DIRR: no setting has the name TRUNKLINE_DATA__DIRR: did you mean TRUNKLINE_DATA__DIR?",
        "--listen: server.listen: expected an IP address with its port",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn not_more_is_told_than_somebody_would_read() {
    let (_dir, file) = write(&"a: 1\n".repeat(5000));
    let problems = load(Some(&file), &Env::default(), &Flags::default()).unwrap_err();
    assert_eq!(problems.len(), 101);
    assert!(lines(&problems).ends_with("more problems are not shown"), "{}", problems[100]);
}

#[test]
fn an_unresolved_value_does_not_matter_once_it_is_replaced() {
    let (_dir, file) = write("providers: {openai: {kind: openai, api_key: '${NOT_SET}'}}");
    let env = Env::from_iter([("TRUNKLINE_PROVIDERS__OPENAI__API_KEY", "sk-1")]);
    let loaded = load(Some(&file), &env, &Flags::default()).unwrap();
    assert_eq!(loaded.settings.providers["openai"].api_key.as_ref().unwrap().expose(), "sk-1");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let missing =
        load(Some(FilePath::new("/nonexistent.yaml")), &Env::default(), &Flags::default()).unwrap_err();
    assert!(lines(&missing).starts_with("/nonexistent.yaml:1:1: cannot be read: "));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(
        lines(&load(Some(&file), &Env::default(), &Flags::default()).unwrap_err()).contains("is not UTF-8")
    );
    std::fs::write(&file, vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(
        lines(&load(Some(&file), &Env::default(), &Flags::default()).unwrap_err())
            .contains("larger than 4 MiB")
    );
}

#[test]
fn secrets_are_in_no_output() {
    let (_dir, file) = write(
        "providers: {openai: {kind: openai, api_key: '${KEY}', headers: {x-a: sk-file}}}\n\
         server: {tls: {pkcs12: a.pfx, password: sk-file}}\n",
    );
    let env = Env::from_iter([
        ("KEY", "sk-env"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=sk-env"),
        ("DATADOG_API_KEY", "sk-env"),
    ]);
    let loaded = load(Some(&file), &env, &Flags::default()).unwrap();
    let everything = format!("{:?} {:?} {:?} {env:?}", loaded.show(), loaded.notes, loaded.settings);
    assert!(everything.contains("***") && !everything.contains("sk-"), "{everything}");
    assert!(!format!("{loaded:?}").contains("sk-env"));
}

#[test]
fn restart_is_asked_for_only_where_needed() {
    let old = Settings::default();
    let mut new = old.clone();
    new.resilience.retries = 9;
    new.server.max_concurrent_requests = 1;
    assert!(restart_needed(&old, &new).is_empty());
    new.server.threads = Some(2);
    new.data.dir = "/other".into();
    new.telemetry.otlp.sample_ratio = 0.5;
    assert_eq!(restart_needed(&old, &new), ["server.threads", "data", "telemetry.otlp"]);
}

#[test]
fn the_file_is_found_by_flag_then_variable() {
    let env = Env::from_iter([("TRUNKLINE_CONFIG", "/env.yaml")]);
    assert_eq!(find_file(Some(FilePath::new("/flag.yaml")), &env), Some("/flag.yaml".into()));
    assert_eq!(find_file(None, &env), Some("/env.yaml".into()));
}

#[test]
fn every_example_loads() {
    let env =
        Env::from_iter([("OPENAI_API_KEY", "sk-1"), ("OPENAI_ORGANIZATION", "org"), ("OTLP_TOKEN", "t")]);
    let mut seen = 0;
    for entry in std::fs::read_dir(repository().join("examples/settings")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let loaded = load(Some(&path), &env, &Flags::default());
            let loaded = loaded.unwrap_or_else(|problems| panic!("{}", lines(&problems)));
            assert!(loaded.settings.providers.contains_key("openai"), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn the_schema_is_for_editors() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "Trunkline settings");
    assert_eq!(schema["$id"], "urn:trunkline:settings");
    assert_eq!(schema["additionalProperties"], false);
    let all = env::paths(&schema);
    for path in ["server.listen", "models.<name>.targets[].provider", "telemetry.otlp.headers"] {
        assert!(all.iter().any(|known| known == path), "{path} in {all:?}");
    }
}

/// The documentation names every key, every legacy name and every variable that is not a setting.
#[test]
fn the_documentation_is_complete() {
    let doc = std::fs::read_to_string(repository().join("docs/settings.md")).unwrap();
    let missing = |what: &str| !doc.contains(&format!("`{what}`"));
    let keys: Vec<_> =
        env::paths(&schema()).into_iter().filter(|path| missing(path) && !is_repeated(path)).collect();
    assert!(keys.is_empty(), "not in docs/settings.md: {keys:#?}");
    let names = legacy::rows().map(|row| row.name).chain(env::NOT_SETTINGS.iter().map(|(name, _)| *name));
    let names: Vec<_> = names.filter(|name| missing(name)).collect();
    assert!(names.is_empty(), "not in docs/settings.md: {names:#?}");
}

/// Whether the path is inside a section that stands in the documentation once, where it is at home.
fn is_repeated(path: &str) -> bool {
    let known = env::paths(&schema());
    let at_home = |marker: &str, home: &str| {
        path.split_once(marker).is_some_and(|(_, key)| known.contains(&format!("{home}.{key}")))
    };
    path.starts_with("models.") && at_home(".resilience.", "resilience")
        || at_home("listeners[].tls.", "server.tls")
}
