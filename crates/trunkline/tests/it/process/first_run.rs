//! The first run: keys made once, shown once, kept as hashes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use testkit::{Client, Upstream};

use super::program::{chat_body, signal};
use super::{Process, Program};
use crate::app::PATIENCE;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The status that `/metrics` answers when it asks for the admin key.
async fn as_admin(process: &Process, key: &str) -> u16 {
    process.client().get("/metrics", &[("x-api-key", key)]).await.status
}

const ASK_FOR_KEY: &str = "server: {metrics_access: key}\n";

#[tokio::test]
async fn keys_are_made_once_and_stored_hashed() {
    let mut first = Program::serve(ASK_FOR_KEY).start();
    let ready = first.dir().join("ready.read");
    assert_eq!(mode(&ready), 0o600);
    let fields: Vec<&String> = first.ready.as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 5, "{fields:?}");
    assert!(
        first.url().starts_with("http://127.0.0.1:") && first.metrics_url().starts_with("http://127.0.0.1:")
    );
    assert_ne!(first.url(), first.metrics_url());
    let data = first.dir().join(first.ready["data_dir"].as_str().unwrap());
    assert_eq!(data.canonicalize().unwrap(), first.dir().join("trunkline-data").canonicalize().unwrap());
    assert_eq!(mode(&data), 0o700);

    let (key, admin) = (first.ready["key"].clone(), first.ready["admin_key"].clone());
    let (key, admin) = (key.as_str().unwrap(), admin.as_str().unwrap());
    assert_eq!(first.chat("demo/chat").await.status, 200);
    assert_eq!((as_admin(&first, admin).await, as_admin(&first, key).await), (200, 403));
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                assert_eq!(mode(&path), 0o700, "{}", path.display());
                folders.push(path);
                continue;
            }
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            let bytes = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(key) && !text.contains(admin), "{} holds a key", path.display());
        }
    }
    // They are in the ready file only: neither the log nor the output has them, for there is no terminal.
    assert_eq!(first.stop(), Some(0));
    let printed = first.stdout().into_iter().chain(first.stderr()).collect::<String>();
    assert!(!printed.contains(key) && !printed.contains(admin), "{printed}");

    let second = Program::serve_within(first.folder(), ASK_FOR_KEY).start();
    assert!(second.ready["key"].is_null() && second.ready["admin_key"].is_null(), "{}", second.ready);
    let auth = format!("Bearer {key}");
    let answer = second
        .client()
        .post_json("/v1/chat/completions", &[("authorization", &auth)], chat_body("demo/chat", false))
        .await;
    assert_eq!((answer.status, as_admin(&second, admin).await), (200, 200));
}

#[tokio::test]
async fn the_admin_key_comes_from_the_environment_or_a_file() {
    let process = Program::serve(ASK_FOR_KEY).env("TRUNKLINE_ADMIN_KEY", "my-own-admin-key").start();
    assert_eq!(process.ready["admin_key"], "my-own-admin-key");
    assert_eq!((as_admin(&process, "my-own-admin-key").await, as_admin(&process, "other").await), (200, 401));
    // It takes the place of the one that is stored.
    let folder = process.folder();
    drop(process);
    let file = folder.path().join("admin-key");
    std::fs::write(&file, "another-admin-key\n").unwrap();
    let process = Program::serve_within(folder, ASK_FOR_KEY).env("TRUNKLINE_ADMIN_KEY_FILE", &file).start();
    assert!(process.ready["admin_key"].is_null());
    let answers =
        (as_admin(&process, "another-admin-key").await, as_admin(&process, "my-own-admin-key").await);
    assert_eq!(answers, (200, 401));
}

#[test]
fn an_admin_key_that_is_too_short_is_refused_without_being_shown() {
    let served = Program::serve("").env("TRUNKLINE_ADMIN_KEY", "hunter2").run();
    assert_eq!(served.code(), 1, "{served:?}");
    assert!(served.stderr.contains("TRUNKLINE_ADMIN_KEY has fewer than 8 characters"), "{served:?}");
    assert!(!served.stderr.contains("hunter2"));
}

#[test]
fn without_a_terminal_and_a_ready_file_it_says_how_to_get_the_keys() {
    let process = Program::serve("").spawn();
    let line = process.wait_for_line(&["keys were made"]);
    assert!(line.contains("--ready-file"), "{line}");
}

#[tokio::test]
async fn on_a_terminal_it_shows_the_keys_once_and_a_line_that_works() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("no `script` here: what a terminal shows is not checked");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shown = on_a_terminal(folder.path());
    let url = shown.split_once("answers at ").unwrap().1.split_once("/v1").unwrap().0;
    let key = shown.split_once("virtual key").unwrap().1.split_whitespace().next().unwrap();
    assert!(shown.contains("admin key    tl-admin-") && key.starts_with("sk-tl-"), "{shown}");
    assert!(
        shown.contains(&format!("curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}'")),
        "{shown}"
    );
    assert!(shown.contains(r#"-d '{"model":"demo/chat","#), "{shown}");
    let again = on_a_terminal(folder.path());
    assert!(!again.contains("sk-tl-") && !again.contains("tl-admin-"), "{again}");
    assert!(again.contains("Bearer $TRUNKLINE_KEY"), "{again}");
}

/// What `serve` shows on a terminal by the time it has told how to try it; it is stopped then.
fn on_a_terminal(folder: &Path) -> String {
    let serve = format!(
        "echo $$ > id; exec {} serve --listen 127.0.0.1:0 --metrics 127.0.0.1:0",
        env!("CARGO_BIN_EXE_trunkline")
    );
    let transcript = folder.join("transcript");
    drop(std::fs::remove_file(&transcript));
    let mut script = Command::new("script")
        .args(["-q", "-f", "-c", &serve, "transcript"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("SHELL", "/bin/sh")
        .env("TRUNKLINE_SERVER__DRAIN_DELAY", "0s")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let shown = loop {
        let text = std::fs::read_to_string(&transcript).unwrap_or_default();
        if text.contains("\"Hello\"}]}'") {
            break text.replace('\r', "");
        }
        assert!(started.elapsed() < PATIENCE, "{text}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    signal(std::fs::read_to_string(folder.join("id")).unwrap().trim().parse().unwrap(), "TERM");
    script.wait().unwrap();
    shown
}

#[tokio::test]
async fn with_a_key_in_the_environment_openai_models_work_and_without_any_the_demo_does() {
    let upstream = Upstream::start();
    let process = Program::serve("")
        .env("OPENAI_API_KEY", "sk-from-environment")
        .env("OPENAI_BASE_URL", upstream.base_url())
        .start();
    let answer = process.chat("openai/gpt-x").await;
    assert_eq!((answer.status, answer.header("x-trunkline-target")), (200, Some("openai/gpt-x")));
    let received = &upstream.requests()[0];
    assert_eq!(received.header("authorization"), Some("Bearer sk-from-environment"));
    assert_eq!(received.json()["model"], "gpt-x");
    assert_eq!(process.chat("demo/chat").await.status, 404);

    let demo = Program::serve("").start();
    let answer = demo.chat("demo/chat").await;
    assert_eq!((answer.status, answer.header("x-trunkline-target")), (200, Some("demo/chat")));
    let (name, value) = demo.auth();
    let models = Client::new(demo.url()).get("/v1/models", &[(name, &value)]).await.json();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert!(names.contains(&"demo/chat".into()), "{names:?}");
}

#[tokio::test]
async fn the_flags_say_where_and_what() {
    let settings = "server: {listen: '127.0.0.1:1', metrics: '127.0.0.1:1', roles: [gateway, admin]}\n\
                    models: {mine: {targets: [{provider: demo, model: chat}]}}\nproviders: {demo: {kind: demo}}\n";
    let program = Program::new(&["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
        .args(&["--data-dir", "elsewhere", "--role", "admin", "--config", "mine.yaml"])
        .env("TRUNKLINE_SERVER__DRAIN_DELAY", "0s");
    std::fs::write(program.dir().join("mine.yaml"), settings).unwrap();
    let process = program.start();
    assert!(process.dir().join("elsewhere/trunkline.db").exists());
    // With the role `admin` alone there are no models here.
    assert_eq!((process.chat("mine").await.status, process.get("/health").await.status), (404, 200));
    let other = Program::within(
        process.folder(),
        &["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--role", "gateway"],
    );
    let other = other.args(&["--config", "mine.yaml", "--data-dir", "third"]);
    let other = other.env("TRUNKLINE_SERVER__DRAIN_DELAY", "0s").start();
    assert_eq!(other.chat("mine").await.status, 200);
}
