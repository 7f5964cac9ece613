//! The guide's own deployment: the API and workers as processes of their own, with nothing but a Redis and the file.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use testkit::services::PrivateRedis;

use super::{AUTH, TOKEN, until, uuid, vcon};
use crate::process::program::{Process, Program};

/// A Conserver's file whose vCons end in this folder.
pub fn config(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("config.yml");
    let text = format!(
        "links:\n  tag: {{module: links.tag, options: {{tags: [done]}}}}\n\
         storages:\n  file: {{module: storage.file, options: {{path: '{}/out'}}}}\n\
         chains:\n  main: {{links: [tag], ingress_lists: [incoming_calls], storages: [file], egress_lists: [out], enabled: 1}}\n",
        folder.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// A process of the guide's compose file: `conversations` for the API, `worker` for a worker.
pub fn process(redis: &PrivateRedis, config: &Path, role: &str) -> Process {
    Program::serve_within(
        Arc::new(tempfile::tempdir().unwrap()),
        "conversations: {attempts: 20, backoff: 100ms, lease: 2s}\n",
    )
    .args(&["--role", role])
    .env("REDIS_URL", redis.url())
    .env("CONSERVER_CONFIG_FILE", config)
    .env("CONSERVER_API_TOKEN", TOKEN)
    .env("CONSERVER_WORKERS", "2")
    .start()
}

/// V01, V05: the file as it is, and nothing but Redis between the processes; what `redis-cli` sees and other programs
/// do. Mutations: vCons in a database of each process; `redis_alone` false.
#[test]
fn promise_v05_processes_share_nothing_but_redis() {
    let Some(redis) = PrivateRedis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path());
    let api = process(&redis, &file, "conversations");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seen = redis.client();
    runtime.block_on(async {
        for n in 0..5 {
            let path = "/api/vcon?ingress_lists=incoming_calls";
            assert_eq!(api.client().post_json(path, &AUTH, vcon(n).to_string()).await.status, 201);
        }
    });
    // Nobody works yet: all wait, in plain commands.
    assert_eq!(seen.command(&["LLEN", "incoming_calls"]).unwrap().text().as_deref(), Some("5"));
    let waiting = seen.command(&["LRANGE", "incoming_calls", "0", "10"]).unwrap().texts();
    assert_eq!(waiting, (0..5).map(uuid).collect::<Vec<_>>());
    assert_eq!(
        seen.command(&["TYPE", &format!("vcon:{}", uuid(1))]).unwrap().text().as_deref(),
        Some("string")
    );
    // Another program puts one in, of which it keeps the text itself.
    seen.command(&["SET", &format!("vcon:{}", uuid(9)), &vcon(9).to_string()]).unwrap();
    seen.command(&["RPUSH", "incoming_calls", &uuid(9)]).unwrap();
    let workers: Vec<Process> = (0..2).map(|_| process(&redis, &file, "worker")).collect();
    runtime.block_on(until(&api.client(), "/vcon/count?egress_list=out", "all are out", |v| *v == 6));
    for n in [0, 1, 2, 3, 4, 9] {
        let saved = folder.path().join(format!("out/2026/11/20/{}.json", uuid(n)));
        let text = std::fs::read_to_string(saved).unwrap();
        assert!(text.contains("done:done"), "{text}");
    }
    assert_eq!(seen.command(&["LLEN", "incoming_calls"]).unwrap().text().as_deref(), Some("0"));
    // Dead letters show under both names.
    seen.command(&["RPUSH", "incoming_calls", "no uuid"]).unwrap();
    let dead =
        runtime.block_on(until(&api.client(), "/dlq?ingress_list=incoming_calls", "it is dead", |v| {
            v.as_array().is_some_and(|letters| letters.len() == 1)
        }));
    assert_eq!(dead, json!(["no uuid"]));
    for list in ["incoming_calls:dlq", "DLQ:incoming_calls"] {
        assert_eq!(seen.command(&["LLEN", list]).unwrap().text().as_deref(), Some("1"), "{list}");
    }
    for mut worker in workers {
        assert_eq!(worker.stop(), Some(0));
    }
}

/// V15: the guide's own Redis settings can lose what waits; that is said. Mutation: no lists among the dependencies.
#[test]
fn promise_v15_a_redis_that_forgets_is_reported() {
    let guide = ["appendonly yes", "appendfsync everysec", "maxmemory 2gb", "maxmemory-policy allkeys-lru"];
    let Some(redis) = PrivateRedis::start_with(&guide) else { return };
    let folder = tempfile::tempdir().unwrap();
    let api = process(&redis, &config(folder.path()), "conversations");
    api.wait_for_line(&["allkeys-lru", "noeviction"]);
    api.wait_for_line(&["appendfsync"]);
}
