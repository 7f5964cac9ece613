use serde_json::json;
use testkit::services::PrivateSftp;

use super::*;
use crate::storages::conformance::{self, Refusing, SECRET, Silent, uuid};
use crate::testing;

fn options(server: &PrivateSftp) -> Value {
    json!({"url": "sftp://127.0.0.1", "port": server.port(), "username": server.user(),
        "private_key_path": server.key(), "host_key": server.fingerprint(), "path": server.path()})
}

fn storage(options: Value) -> Box<dyn Storage> {
    make(options, &testing::environment()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(server) = PrivateSftp::start() else { return };
    let mut options = options(&server);
    conformance::keeps(&*storage(options.clone())).await;
    options["add_timestamp_to_filename"] = json!(false);
    options["private_key"] = json!(std::fs::read_to_string(server.key()).unwrap());
    conformance::keeps(&*storage(options)).await;
    assert_eq!(std::fs::read_dir(server.files()).unwrap().count(), 0, "nothing unfinished");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_the_conserver_s_and_the_uuid() {
    let Some(server) = PrivateSftp::start() else { return };
    let mut options = options(&server);
    options["filename"] = json!("call");
    options["extension"] = json!("vcon");
    let vcon = testing::vcon();
    storage(options.clone()).save(&vcon, &testing::storage_context()).await.unwrap();
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(server.files()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let name = names().remove(0);
    let time = name.strip_prefix(&format!("call_{}_", vcon.uuid())).unwrap().strip_suffix(".vcon").unwrap();
    assert!(crate::vcon::parse_time(time).is_some(), "{time}");
    assert_eq!(std::fs::read(server.files().join(&name)).unwrap(), vcon.to_bytes());
    options["add_timestamp_to_filename"] = json!(false);
    storage(options.clone()).save(&vcon, &testing::storage_context()).await.unwrap();
    assert!(names().contains(&format!("call_{}.vcon", vcon.uuid())));
    // Another one's file is never taken for it.
    assert!(storage(options).get(&uuid()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_after_the_server_was_away() {
    let Some(server) = PrivateSftp::start() else { return };
    let storage = storage(options(&server));
    let vcon = testing::vcon();
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    server.kill();
    assert!(storage.save(&vcon, &testing::storage_context()).await.unwrap_err().is_temporary());
    server.start_again();
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    assert!(storage.get(vcon.uuid()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_host_and_a_wrong_login_are_refused() {
    let Some(server) = PrivateSftp::start() else { return };
    let mut wrong_host = options(&server);
    wrong_host["host_key"] = json!("SHA256:0000000000000000000000000000000000000000000");
    conformance::fails_for_now(&*storage(wrong_host)).await;
    let mut wrong_login = options(&server);
    wrong_login["private_key_path"] = Value::Null;
    wrong_login["password"] = json!(SECRET);
    conformance::fails_for_now(&*storage(wrong_login)).await;
    assert_eq!(std::fs::read_dir(server.files()).unwrap().count(), 0);
}

#[tokio::test]
async fn fails_for_now() {
    let (refusing, silent) = (Refusing::new(), Silent::new());
    for port in [refusing.port(), silent.port()] {
        let options = json!({"url": "127.0.0.1", "port": port, "password": SECRET, "timeout": 0.3});
        conformance::fails_for_now(&*storage(options)).await;
    }
}

#[test]
fn options_that_cannot_work_are_told_without_secrets() {
    let told = |options: Value| make(options, &testing::environment()).err().unwrap().to_string();
    assert!(told(json!({"url": format!("sftp://user:{SECRET}@host")})).contains("`url`"));
    assert!(told(json!({"filename": "../x"})).contains("filename"));
    assert!(told(json!({"private_key_path": "/no/such/key"})).contains("private_key_path"));
    let text = told(json!({"private_key": SECRET}));
    assert!(text.contains("private_key") && !text.contains(SECRET), "{text}");
}
