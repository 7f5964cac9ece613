//! Settings that change while it serves.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use super::{Process, Program};
use crate::app::PATIENCE;

/// One alias of the demo provider, by a name of one letter: all such files have one length.
fn one_alias(name: char) -> String {
    format!(
        "providers: {{demo: {{kind: demo}}}}\nmodels: {{{name}: {{targets: [{{provider: demo, model: chat}}]}}}}\n"
    )
}

/// Waits until a model is known, or is known no more.
async fn wait_for(process: &Process, model: &str, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    while process.chat(model).await.status != status {
        assert!(Instant::now() < deadline, "{model} does not answer {status}: {:#?}", process.stderr());
    }
}

fn settings(process: &Process) -> std::path::PathBuf {
    process.dir().join("trunkline.yaml")
}

#[tokio::test]
async fn a_changed_file_is_in_force_without_a_restart() {
    let process = Program::serve(&one_alias('a')).start();
    assert_eq!((process.chat("a").await.status, process.chat("b").await.status), (200, 404));
    fs::write(settings(&process), one_alias('b')).unwrap();
    wait_for(&process, "b", 200).await;
    assert_eq!(process.chat("a").await.status, 404);
    process.wait_for_line(&["settings reloaded"]);
}

#[tokio::test]
async fn an_edit_that_leaves_length_and_time_as_they_were_is_noticed() {
    let process = Program::serve(&one_alias('a')).start();
    let file = settings(&process);
    let before = fs::metadata(&file).unwrap();
    fs::write(&file, one_alias('b')).unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(before.modified().unwrap()).unwrap();
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
    wait_for(&process, "b", 200).await;
}

#[tokio::test]
async fn a_hangup_reloads_at_once_and_reads_secrets_in_files_again() {
    let upstream = testkit::Upstream::start();
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let secret = folder.path().join("key");
    fs::write(&secret, "sk-first").unwrap();
    let yaml = format!(
        "providers: {{up: {{kind: openai-compatible, base_url: '{}', api_key: '${{UP_KEY}}'}}}}\n",
        upstream.base_url()
    );
    let process = Program::serve_within(folder, &yaml).env("UP_KEY_FILE", &secret).start();
    assert_eq!(process.chat("up/m").await.status, 200);
    fs::write(&secret, "sk-second").unwrap();
    // The settings file is the same: nobody would look without being told.
    process.signal("HUP");
    process.wait_for_line(&["settings reloaded"]);
    assert_eq!(process.chat("up/m").await.status, 200);
    let keys: Vec<_> =
        upstream.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(keys, ["Bearer sk-first", "Bearer sk-second"]);
}

#[tokio::test]
async fn a_bad_file_is_told_with_every_mistake_and_changes_nothing() {
    let process = Program::serve(&one_alias('a')).start();
    fs::write(settings(&process), format!("{}server: {{lissten: x, threads: 0}}\n", one_alias('b'))).unwrap();
    process.wait_for_line(&["ERROR", "settings not reloaded", "trunkline.yaml:3", "did you mean `listen`?"]);
    process.wait_for_line(&["ERROR", "settings not reloaded", "server.threads"]);
    assert_eq!((process.chat("a").await.status, process.chat("b").await.status), (200, 404));
    fs::write(settings(&process), one_alias('c')).unwrap();
    wait_for(&process, "c", 200).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_or_away_for_a_moment_is_followed() {
    let process = Program::serve(&one_alias('a')).start();
    let file = settings(&process);
    fs::write(file.with_extension("new"), one_alias('b')).unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    wait_for(&process, "b", 200).await;
    fs::remove_file(&file).unwrap();
    process.signal("HUP");
    process.wait_for_line(&["ERROR", "settings not reloaded"]);
    assert_eq!(process.chat("b").await.status, 200, "what was in force stays so");
    fs::write(&file, one_alias('c')).unwrap();
    wait_for(&process, "c", 200).await;
}

/// As the kubelet updates a ConfigMap: `trunkline.yaml` → `..data/trunkline.yaml`, and `..data` is a link to a
/// folder, swapped by a rename.
#[tokio::test]
async fn a_config_map_is_followed_through_its_links() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let mount = folder.path().join("config");
    let publish = |version: &str, yaml: &str| {
        fs::create_dir_all(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("trunkline.yaml"), yaml).unwrap();
        symlink(version, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    publish("..1", &one_alias('a'));
    symlink("..data/trunkline.yaml", mount.join("trunkline.yaml")).unwrap();
    let process = Program::within(folder, &["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
        .args(&["--config", "config/trunkline.yaml"])
        .env("TRUNKLINE_SERVER__DRAIN_DELAY", "0s")
        .start();
    assert_eq!(process.chat("a").await.status, 200);
    publish("..2", &one_alias('b'));
    fs::remove_dir_all(Path::new(&process.dir()).join("config/..1")).unwrap();
    wait_for(&process, "b", 200).await;
}

#[tokio::test]
async fn what_waits_for_a_restart_is_named() {
    let process = Program::serve(&one_alias('a')).start();
    let changed = format!("{}server: {{threads: 7, metrics_access: key}}\n", one_alias('a'));
    fs::write(settings(&process), changed).unwrap();
    process.wait_for_line(&["WARN", "these changes wait for a restart", "server.threads"]);
    // The rest of the same file is in force.
    assert_eq!(process.get("/metrics").await.status, 401);
}

#[tokio::test]
async fn the_log_level_follows_the_file() {
    let process = Program::serve(&one_alias('a')).start();
    fs::write(settings(&process), format!("{}telemetry: {{log: {{level: debug}}}}\n", one_alias('a')))
        .unwrap();
    process.wait_for_line(&["settings reloaded"]);
    process.get("/health").await;
    process.wait_for_line(&["DEBUG", "access", "/health"]);
}
