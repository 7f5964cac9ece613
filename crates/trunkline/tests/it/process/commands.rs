//! Commands that do their work and end: `config`, `demo`, and `serve` when it cannot.

use std::sync::Arc;

use serde_json::Value;

use super::{Finished, Program};

const WRONG: &str = "server:\n  lissten: 127.0.0.1:8080\n  threads: many\nresilience: {retries: 99}\n\
    providers: {lab: {kind: openai-compatible}}\n";

fn in_file(command: &[&str], yaml: &str) -> Finished {
    let program = Program::new(command);
    std::fs::write(program.dir().join("trunkline.yaml"), yaml).unwrap();
    program.run()
}

#[test]
fn wrong_settings_end_it_with_64_and_every_problem() {
    let served = in_file(&["serve"], WRONG);
    assert_eq!((served.code(), served.stdout.as_str()), (64, ""), "{served:?}");
    let problems: Vec<&str> = served.stderr.lines().collect();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    for (place, words) in [
        ("trunkline.yaml:2:3", "did you mean `listen`?"),
        ("trunkline.yaml:3:12", "server.threads"),
        ("trunkline.yaml:4:23", "resilience.retries"),
        ("trunkline.yaml:5:", "base_url"),
    ] {
        let found = problems.iter().any(|line| line.contains(place) && line.contains(words));
        assert!(found, "{place} … {words} in {problems:#?}");
    }
    // Nothing was begun.
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let variables = Program::within(Arc::clone(&folder), &["serve"]);
    let served = variables.env("TRUNKLINE_SERVER__THREADS", "0").env("MAX_RETRIES", "few").run();
    assert_eq!((served.code(), served.stderr.lines().count()), (64, 2), "{served:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// `cargo run` gives the program what the build script told the compiler, which must not look like settings.
#[test]
fn it_starts_from_cargo_run() {
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_trunkline")).args(["config", "show"]).output();
    let shown = shown.unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
}

#[test]
fn wrong_flags_and_a_missing_file_are_said_too() {
    let served = Program::new(&["serve", "--listen", "nowhere", "--role", "captain"]).run();
    assert_eq!(served.code(), 64, "{served:?}");
    assert!(served.stderr.contains("--listen") && served.stderr.contains("--role"), "{served:?}");
    let served = Program::new(&["serve", "--config", "missing.yaml"]).run();
    assert_eq!(served.code(), 64, "{served:?}");
    assert!(served.stderr.contains("missing.yaml"), "{served:?}");
    let unknown = Program::new(&["serve", "--lissten", "127.0.0.1:0"]).run();
    assert_eq!(unknown.code(), 2, "{unknown:?}");
    assert!(unknown.stderr.contains("--listen"), "{unknown:?}");
}

#[test]
fn a_port_that_is_taken_is_said_in_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--metrics"] {
        let other = if flag == "--listen" { "--metrics" } else { "--listen" };
        let served = Program::new(&["serve", flag, &address, other, "127.0.0.1:0"]).run();
        assert_eq!((served.code(), served.stdout.as_str()), (1, ""), "{served:?}");
        let said: Vec<&str> = served.stderr.lines().filter(|line| line.contains("ERROR")).collect();
        assert_eq!(said.len(), 1, "{served:?}");
        assert!(said[0].contains(&format!("cannot listen on {address}: Address already in use")), "{said:?}");
    }
}

#[test]
fn config_check_prints_every_problem_or_ok() {
    let bad = in_file(&["config", "check", "trunkline.yaml"], WRONG);
    assert_eq!((bad.code(), bad.stdout.lines().count(), bad.stderr.as_str()), (1, 4, ""), "{bad:?}");
    let good = in_file(&["config", "check", "trunkline.yaml"], "providers: {lab: {kind: demo}}\n");
    assert_eq!((good.code(), good.stdout.as_str()), (0, "trunkline.yaml: ok (1 provider, 0 models)\n"));
    assert_eq!(Program::new(&["config", "check", "missing.yaml"]).run().code(), 1);
}

#[test]
fn config_show_tells_each_value_and_its_origin() {
    let program = Program::new(&["config", "show"])
        .env("REQUEST_TIMEOUT", "7")
        .env("TRUNKLINE_TELEMETRY__SERVICE", "edge-1")
        .env("LAB_KEY", "sk-lab-secret");
    let yaml = "providers:\n  lab: {kind: openai, api_key: '${LAB_KEY}'}\n";
    std::fs::write(program.dir().join("trunkline.yaml"), yaml).unwrap();
    let shown = program.run();
    assert_eq!(shown.code(), 0, "{shown:?}");
    for words in [
        ["resilience.request_timeout", "7s", "REQUEST_TIMEOUT"],
        ["telemetry.service", "edge-1", "TRUNKLINE_TELEMETRY__SERVICE"],
        ["providers.lab.api_key", "***", "trunkline.yaml:2"],
        ["resilience.retries", "3", "default"],
    ] {
        let found = shown.stdout.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("sk-lab-secret"));
    let json = in_file(&["config", "show", "--json"], yaml.replace("${LAB_KEY}", "x").as_str());
    let rows: Vec<Value> = serde_json::from_str(&json.stdout).unwrap();
    assert!(rows.iter().any(|row| row["path"] == "providers.lab.api_key" && row["value"] == "***"));
}

#[test]
fn config_schema_describes_every_section() {
    let printed = Program::new(&["config", "schema"]).run();
    let schema: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!((printed.code(), printed.stderr.as_str()), (0, ""));
    for section in ["server", "data", "providers", "models", "resilience", "telemetry"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn the_demo_makes_real_calls_offline_and_leaves_nothing_behind() {
    // Neither what is set nor what lies about changes it: with this proxy any call outside would fail.
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let demo = Program::within(Arc::clone(&folder), &["demo"])
        .env("TMPDIR", std::env::temp_dir())
        .env("OPENAI_API_KEY", "sk-unused")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("TRUNKLINE_SERVER__LISTEN", "nonsense");
    let demo = demo.run();
    assert_eq!(demo.code(), 0, "{demo:?}");
    for shown in [
        "> GET /v1/models",
        "> POST /v1/chat/completions",
        "\"stream\":true",
        "chat.completion.chunk",
        "tool_calls",
        "> POST /v1/embeddings",
        "All calls answered as they should",
    ] {
        assert!(demo.stdout.contains(shown), "{shown} in {}", demo.stdout);
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "the demo wrote into the current folder"
    );
}
