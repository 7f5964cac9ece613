//! The whole pipeline in one process, on SQLite.

use std::path::Path;
use std::time::Duration;

use base::vcons::Query;
use serde_json::{Value, json};
use store::settings::PoolSettings;
use store::{Db, StoreQueue, StoreVcons};
use tempfile::TempDir;

use super::*;
use crate::testing;

struct Rig {
    pipeline: Conversations,
    folder: TempDir,
}

/// A pipeline over this file; `FOLDER` in it is a folder of its own.
async fn rig(file: &str) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let db =
        Db::open(&Db::sqlite_url(&folder.path().join("t.db")), None, &PoolSettings::default()).await.unwrap();
    db.migrate().await.unwrap();
    let config = folder.path().join("config.yml");
    std::fs::write(&config, file.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    let settings = ConversationSettings {
        config_file: Some(config),
        attempts: 2,
        backoff: base::Duration(Duration::from_millis(10)),
        ..ConversationSettings::default()
    };
    let environment = Environment { queue: Arc::new(StoreQueue::new(db.clone())), ..testing::environment() };
    let parts = Parts {
        settings,
        environment,
        vcons: Arc::new(StoreVcons::new(db)),
        keep: None,
        tracer: Tracer::disabled(),
        work: true,
    };
    Rig { pipeline: Conversations::start(parts).await.unwrap(), folder }
}

fn uuid(n: u32) -> String {
    format!("018e3d10-0c1f-8d8c-9b1a-{n:012}")
}

fn vcon(n: u32, more: Value) -> Bytes {
    let mut vcon = json!({"vcon": "0.0.1", "uuid": uuid(n), "created_at": "2026-11-20T10:00:00Z",
        "parties": [{"tel": "+15551234567", "name": format!("P{n}")}],
        "dialog": [{"type": "text", "body": "hello world", "parties": [0]}]});
    let Value::Object(more) = more else { panic!() };
    for (key, value) in more {
        vcon[key] = value;
    }
    vcon.to_string().into()
}

impl Rig {
    async fn post(&self, vcon: Bytes, list: &str) -> Posted {
        self.pipeline.post(vcon, vec![list.into()], None, "new").await.unwrap()
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Conversations) -> bool) {
        for _ in 0..600 {
            if holds(&self.pipeline).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {what}");
    }
}

fn file(folder: &Path, n: u32) -> std::path::PathBuf {
    folder.join(format!("out/2026/11/20/{}.json", uuid(n)))
}

const FILE: &str = "links: {tag: {module: links.tag, options: {tags: [a]}}}\n\
    storages: {file: {module: storage.file, options: {path: FOLDER/out}}}\n\
    chains: {main: {links: [tag], ingress_lists: [in], storages: [file], egress_lists: [out], enabled: 1}}\n";

#[tokio::test]
async fn a_vcon_goes_through_its_chain_into_its_storage_and_out() {
    let rig = rig(FILE).await;
    let posted = rig.post(vcon(1, json!({"mine": 1})), "in").await;
    assert!(!posted.same);
    rig.until("it is out", async |p| p.depth("out").await.unwrap() == 1).await;
    let saved: Value = serde_json::from_slice(&std::fs::read(file(rig.folder.path(), 1)).unwrap()).unwrap();
    assert_eq!((saved["vcon"].as_str(), saved["mine"].as_i64()), (Some("0.4.0"), Some(1)));
    let kept: Value = serde_json::from_slice(&rig.pipeline.get(&uuid(1)).await.unwrap().unwrap()).unwrap();
    assert_eq!(kept, saved);
    let tagged =
        Query { terms: vec!["tag:a:a".into(), "tel:+15551234567".into()], limit: 9, ..Query::default() };
    assert_eq!(rig.pipeline.find(&tagged).await.unwrap(), [uuid(1)]);
    // The same again: nothing is done. Other content: all of it.
    assert!(rig.post(vcon(1, json!({"mine": 1})), "in").await.same);
    assert!(!rig.post(vcon(1, json!({"mine": 2})), "in").await.same);
    rig.until("it is out again", async |p| p.depth("out").await.unwrap() == 2).await;
    assert_eq!(rig.pipeline.pop("out", 5).await.unwrap(), [uuid(1), uuid(1)]);
    assert_eq!(rig.pipeline.shutdown().await, 0);
}

#[tokio::test]
async fn a_storage_that_fails_makes_a_dead_letter_and_its_replay_a_saved_vcon() {
    let rig = rig(&FILE.replace("FOLDER/out", "FOLDER/blocked/out")).await;
    let blocked = rig.folder.path().join("blocked");
    std::fs::write(&blocked, "a file where a folder should be").unwrap();
    rig.post(vcon(1, json!({})), "in").await;
    rig.until("it is dead", async |p| p.dead_depth("in").await.unwrap() == 1).await;
    let letter = &rig.pipeline.dead("in", 0, 10).await.unwrap()[0];
    assert!(letter.reason.starts_with("storage file: ") && letter.attempts == 2, "{letter:?}");
    assert_eq!((letter.body.as_ref(), rig.pipeline.depth("out").await.unwrap()), (uuid(1).as_bytes(), 0));
    std::fs::remove_file(&blocked).unwrap();
    assert_eq!(rig.pipeline.replay("in", &Which::All).await.unwrap(), 1);
    rig.until("it is out", async |p| p.depth("out").await.unwrap() == 1).await;
    assert!(blocked.join(format!("out/2026/11/20/{}.json", uuid(1))).is_file());
    // What a storage has is found when we have it no more.
    assert!(rig.pipeline.core.vcons.delete(&uuid(1)).await.unwrap());
    assert!(rig.pipeline.get(&uuid(1)).await.unwrap().is_some());
    assert!(rig.pipeline.delete(&uuid(1)).await.unwrap());
    assert!(rig.pipeline.get(&uuid(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn many_at_once_all_arrive_and_a_busy_list_starves_none() {
    let two = FILE.replace(
        "enabled: 1}}",
        "enabled: 1}, other: {links: [], ingress_lists: [late], storages: [file], egress_lists: [late_out]}}",
    );
    let rig = rig(&two).await;
    let posts = (0..200).map(|n| rig.post(vcon(n, json!({})), "in"));
    futures_util::future::join_all(posts).await;
    rig.post(vcon(900, json!({})), "late").await;
    rig.until("the late one is out", async |p| p.depth("late_out").await.unwrap() == 1).await;
    rig.until("all are out", async |p| p.depth("out").await.unwrap() == 200).await;
    assert!((0..200).all(|n| file(rig.folder.path(), n).is_file()));
    assert_eq!(rig.pipeline.dead_depth("in").await.unwrap(), 0);
}

#[tokio::test]
async fn a_configuration_is_replaced_with_its_secrets_kept() {
    let with_secret = format!("{FILE}ingress_auth: {{partner: hunter2}}\n");
    let rig = rig(&with_secret).await;
    let shown = rig.pipeline.configuration();
    assert_eq!(shown["ingress_auth"]["partner"], "***");
    assert!(rig.pipeline.opens_list("partner", Some("hunter2")).is_ok());
    let mut changed = shown.clone();
    changed["chains"]["main"]["ingress_lists"] = json!(["elsewhere"]);
    rig.pipeline.configure(changed.to_string().as_bytes()).unwrap();
    assert_eq!(rig.pipeline.lists(), ["elsewhere"]);
    assert!(rig.pipeline.opens_list("partner", Some("hunter2")).is_ok());
    assert_eq!(
        rig.pipeline.opens_list("partner", Some("x")).unwrap_err(),
        "Invalid API Key for ingress list 'partner'"
    );
    let Err(Configure::Wrong(why)) = rig.pipeline.configure(
        br#"{"links": {"l": {"module": "links.none"}},
        "chains": {"c": {"links": ["l"]}}}"#,
    ) else {
        panic!()
    };
    assert!(why.iter().any(|text| text.contains("links.none")), "{why:?}");
    assert_eq!(rig.pipeline.lists(), ["elsewhere"]);
}
