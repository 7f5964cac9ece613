//! Who may know whom. Dependencies point one way, `trunkline → server → gateway → {access, llm} → {store, bus} →
//! telemetry → {chat, base}`, and what only one crate may use, only that one names.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{root, text};

/// Each crate, and the crates of this workspace that its code may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("chat", &[]),
    ("telemetry", &["base"]),
    ("store", &["base", "telemetry"]),
    ("bus", &["base", "telemetry"]),
    ("access", &["base", "telemetry", "store", "bus"]),
    ("guard", &[]),
    ("llm", &["base", "chat", "telemetry"]),
    ("gateway", &["base", "chat", "telemetry", "access", "llm"]),
    ("conversations", &["base", "chat", "telemetry", "store", "bus", "access", "guard"]),
    ("server", &["base", "chat", "telemetry", "store", "access", "llm", "gateway", "conversations"]),
    (
        "trunkline",
        &["base", "chat", "telemetry", "store", "bus", "access", "llm", "gateway", "conversations", "server"],
    ),
    ("testkit", &[]),
    ("bench", &[]),
];

/// What only its tests may use, in any crate: `bus` for the conformance suites of its seams.
const FOR_TESTS: &[&str] = &["testkit", "bus"];

/// A library, and the only crates that may name it. `conversations` brings those of the storages of customers, which
/// are none of ours.
const ONLY: &[(&str, &[&str])] = &[
    ("axum", &["server"]),
    ("clap", &["trunkline", "bench"]),
    ("sqlx", &["store", "testkit", "conversations"]),
    ("redis", &["bus", "conversations"]),
    ("lapin", &["bus"]),
    ("object_store", &["bus", "conversations"]),
];

/// What nobody may bring in, at any depth: there is one TLS stack, rustls on ring.
const BANNED: &[&str] = &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

/// A crate of the workspace, as `cargo metadata` tells it.
struct Member {
    name: String,
    /// Its folder, from the root.
    folder: String,
    /// What it depends on, and whether only its tests do.
    dependencies: Vec<(String, bool)>,
    /// The root files of its library and binaries.
    roots: Vec<String>,
}

fn members() -> Vec<Member> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().iter().map(member).collect()
}

fn member(package: &Value) -> Member {
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    let from_root = |value: &Value| {
        let path = PathBuf::from(string(value)).canonicalize().unwrap();
        path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
    };
    let manifest = from_root(&package["manifest_path"]);
    let targets = package["targets"].as_array().unwrap().iter();
    Member {
        name: string(&package["name"]),
        folder: manifest.trim_end_matches("/Cargo.toml").to_owned(),
        dependencies: package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dependency| (string(&dependency["name"]), dependency["kind"] == "dev"))
            .collect(),
        roots: targets
            .filter(|target| ["lib", "bin", "proc-macro"].iter().any(|kind| target["kind"][0] == *kind))
            .map(|target| from_root(&target["src_path"]))
            .collect(),
    }
}

#[test]
fn dependencies_point_one_way() {
    let members = members();
    let ours: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, known, "the crates of the workspace and those that ARROWS knows");

    let mut wrong = Vec::new();
    for member in &members {
        let (_, allowed) = ARROWS.iter().find(|(name, _)| *name == member.name).unwrap();
        for (dependency, in_tests) in &member.dependencies {
            let name = dependency.as_str();
            let fine = allowed.contains(&name) || (*in_tests && FOR_TESTS.contains(&name));
            if ours.contains(name) && !fine {
                wrong.push(format!("{} → {name}", member.name));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point the wrong way: {wrong:?}");
}

#[test]
fn a_library_that_belongs_to_one_crate_stays_there() {
    let mut wrong = Vec::new();
    for member in members() {
        for (dependency, _) in &member.dependencies {
            let owners = ONLY.iter().find(|(library, _)| library == dependency).map(|(_, owners)| *owners);
            if owners.is_some_and(|owners| !owners.contains(&member.name.as_str())) {
                wrong.push(format!("{} uses {dependency}, which belongs to {owners:?}", member.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn there_is_one_tls_stack() {
    let lock = text("Cargo.lock");
    let locked: BTreeSet<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(locked.contains("rustls"), "the lock file is read wrongly");
    let banned: Vec<_> = BANNED.iter().filter(|name| locked.contains(*name)).collect();
    assert!(banned.is_empty(), "Cargo.lock brings in {banned:?}");
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for member in members() {
        let manifest = text(format!("{}/Cargo.toml", member.folder));
        let mut lines = manifest.lines().skip_while(|line| line.trim() != "[lints]").skip(1);
        assert_eq!(
            lines.next().map(str::trim),
            Some("workspace = true"),
            "{}/Cargo.toml needs `[lints]` with `workspace = true`",
            member.folder
        );
    }
}

#[test]
fn every_crate_says_what_it_is_for() {
    for member in members() {
        assert!(!member.roots.is_empty(), "{} has neither library nor binary", member.name);
        for file in member.roots {
            let first = text(&file).lines().next().unwrap_or_default().to_owned();
            let said = first.strip_prefix("//! ").is_some_and(|sentence| sentence.contains(' '));
            assert!(said, "{file} begins with {first:?}, not with `//!` and the purpose of the crate");
        }
    }
}

#[test]
fn the_map_shows_the_crates_that_exist() {
    let map = text("ARCHITECTURE.md");
    let named: BTreeSet<String> = map
        .split("crates/")
        .skip(1)
        .map(|after| after.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect())
        .filter(|name: &String| !name.is_empty())
        .collect();
    let folders: BTreeSet<String> =
        members().iter().map(|member| member.folder.trim_start_matches("crates/").to_owned()).collect();
    assert_eq!(named, folders, "`crates/…` in ARCHITECTURE.md, and the folders there are");
}
