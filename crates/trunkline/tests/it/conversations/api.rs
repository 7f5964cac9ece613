//! Every row of the Conserver's API, at the root and under `/api`, with its bugs mended.

use std::path::Path;

use serde_json::{Value, json};

use super::{AUTH, TOKEN, until, uuid, vcon};
use crate::app::TestApp;
use crate::process::program::Program;

fn config(folder: &Path) -> String {
    format!(
        "links:\n  tag:\n    module: links.tag\n    ingress-lists: []\n    options: {{tags: [a]}}\n\
         storages:\n  file: {{module: storage.file, options: {{path: '{0}/out'}}}}\n\
         chains:\n  main: {{links: [tag], ingress_lists: [in], storages: [file], egress_lists: [out], enabled: 1}}\n\
         ingress_auth: {{in: [partner-one, partner-two], other: 5}}\ntracers:\n",
        folder.display()
    )
}

/// The same with a chain whose storage fails: its folder is within a file.
fn with_broken(folder: &Path) -> String {
    let broken = format!(
        "  broken: {{module: storage.file, options: {{path: '{}/config.yml/x'}}}}\n",
        folder.display()
    );
    let dying = "  dying: {links: [], ingress_lists: [doomed], storages: [broken], enabled: 1}\n";
    config(folder).replace("chains:\n", &format!("{broken}chains:\n{dying}"))
}

struct Rig {
    app: TestApp,
    folder: tempfile::TempDir,
}

async fn rig(more: &str) -> Rig {
    rig_of(config, more).await
}

async fn rig_of(config: impl Fn(&Path) -> String, more: &str) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    std::fs::write(&file, config(folder.path())).unwrap();
    let yaml = format!(
        "conversations: {{config_file: '{}', api_token: {TOKEN}, attempts: 2, backoff: 10ms{more}}}\n",
        file.display()
    );
    Rig { app: TestApp::start(&yaml).await, folder }
}

impl Rig {
    async fn get(&self, path: &str) -> testkit::Response {
        self.app.client().get(path, &AUTH).await
    }

    async fn post(&self, path: &str, body: &Value) -> testkit::Response {
        self.app.client().post_json(path, &AUTH, body.to_string()).await
    }
}

/// V03: every endpoint. Mutations: a route left out of `vcons::router`; `GET /vcon/count` behind `/vcon/{uuid}`;
/// terms joined by OR.
#[tokio::test]
async fn promise_v03_every_endpoint_answers_at_the_root_and_under_the_prefix() {
    let rig = rig("").await;
    for (n, prefix) in [(1, ""), (2, "/api")] {
        let posted = rig.post(&format!("{prefix}/vcon?ingress_lists=in"), &vcon(n)).await;
        assert_eq!(posted.status, 201, "{}", posted.text());
        let shown = posted.json();
        assert_eq!((&shown["x-mine"], &shown["subject"]), (&vcon(n)["x-mine"], &Value::Null));
        assert!(posted.text().contains("\"kept\":[1.5"), "as it was sent: {}", posted.text());
        assert!(posted.header("x-vcon-server-version").is_some());
        until(&rig.app.client(), &format!("{prefix}/vcon/count?egress_list=out"), "it is out", |v| *v == n)
            .await;
        let kept = rig.get(&format!("{prefix}/vcon/{}", uuid(n))).await;
        let kept = kept.json();
        assert_eq!(
            (kept["vcon"].as_str(), kept["attachments"][0]["body"].as_str()),
            (Some("0.4.0"), Some("[\"a:a\"]"))
        );
    }
    let client = rig.app.client();
    assert_eq!(rig.get("/vcon").await.json(), json!([uuid(2), uuid(1)]));
    assert_eq!(rig.get("/vcon?page=2&size=1").await.json(), json!([uuid(1)]));
    assert_eq!(rig.get("/vcon?page=0").await.json(), json!([]));
    assert_eq!(
        rig.get("/vcon?since=2026-11-20T10:00:00%2B00:00&until=2026-11-20T10:00:00Z")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(rig.get("/vcon?since=2026-11-21").await.json(), json!([]));
    assert_eq!(rig.get("/vcon?since=soon").await.status, 422);
    let nowhere = uuid(9);
    let several = rig.get(&format!("/vcons?vcon_uuids={}&vcon_uuids={nowhere}", uuid(1))).await.json();
    assert_eq!((several[0]["uuid"].as_str(), &several[1]), (Some(uuid(1).as_str()), &Value::Null));
    assert_eq!(rig.get("/vcons").await.status, 422, "no unhandled error");
    let search = async |query: &str| rig.get(&format!("/api/vcons/search?{query}")).await.json();
    assert_eq!(search("tel=%2B15551234567").await.as_array().unwrap().len(), 2);
    assert_eq!(search("tel=%2B15551234567&name=P1").await, json!([uuid(1)]));
    assert_eq!(search("tel=%2B15551234567&name=nobody").await, json!([]), "all must hold");
    assert_eq!(search("tel=0&name=nobody").await, json!([]), "and nothing is no error");
    assert_eq!(search("tag=a:a&mailto=bob@example.com").await.as_array().unwrap().len(), 2);
    until(&client, "/vcons/search?q=number2", "words are found", |found| *found == json!([uuid(2)])).await;
    let refused = rig.get("/vcons/search").await;
    assert_eq!(
        (refused.status, refused.json()["detail"].as_str()),
        (400, Some("At least one search parameter must be provided"))
    );
    // Out in the order they came in, at first lent and then for good.
    let lent = rig.get("/vcon/egress?egress_list=out&lease=60").await.json();
    assert_eq!((lent[0]["uuid"].as_str(), lent.as_array().unwrap().len()), (Some(uuid(1).as_str()), 1));
    let receipts = json!({"receipts": [lent[0]["receipt"]], "done": false});
    assert_eq!(rig.post("/vcon/egress/settle?egress_list=out", &receipts).await.json(), json!({"lost": []}));
    assert_eq!(rig.get("/vcon/egress?egress_list=out&limit=5").await.json(), json!([uuid(1), uuid(2)]));
    assert_eq!(rig.get("/vcon/egress?egress_list=out").await.json(), json!([]));
    // In again by a bare array; what is not known is passed over.
    assert_eq!(rig.post("/vcon/ingress?ingress_list=in", &json!([uuid(1), nowhere])).await.status, 204);
    until(&client, "/vcon/count?egress_list=out", "it is out again", |v| *v == 1).await;
    assert_eq!(rig.get("/index_vcons").await.json(), json!(2));
    // Gone everywhere, and gone again is no error.
    for _ in 0..2 {
        let gone = client.try_send("DELETE", &format!("/vcon/{}", uuid(1)), &AUTH, b"").await.unwrap();
        assert_eq!((gone.status, gone.body.len()), (204, 0));
    }
    let missing = rig.get(&format!("/vcon/{}", uuid(1))).await;
    assert_eq!((missing.status, missing.json()), (404, json!({"detail": "vCon not found"})));
    assert_eq!(rig.get("/vcon").await.json(), json!([uuid(2)]), "the index knows");
    assert_eq!(rig.get("/vcon/no-uuid").await.status, 422);
    let wrong = client.try_send("PUT", "/vcon", &AUTH, b"{}").await.unwrap();
    assert_eq!((wrong.status, wrong.json()["detail"].as_str()), (405, Some("Method Not Allowed")));
    // What was sent before is known: nothing is done again.
    assert_eq!(rig.post("/vcon?ingress_lists=in", &vcon(2)).await.status, 201);
    assert_eq!(rig.get("/stats/queue?list_name=in").await.json()["depth"], 0);
}

/// V04: open at the root, whatever the prefix. Mutation: `Needs::Read` in `lists::stats`.
#[tokio::test]
async fn promise_v04_health_version_and_depth_need_no_token() {
    let rig = rig(", root_path: /other").await;
    let client = rig.app.client();
    let health = client.get("/health", &[]).await.json();
    assert_eq!(health["status"], "healthy");
    for key in ["version", "git_commit", "build_time"] {
        assert_eq!(health["version"][key], client.get("/version", &[]).await.json()[key]);
    }
    let depth = client.get("/stats/queue?list_name=in", &[]).await;
    assert_eq!(depth.json(), json!({"list_name": "in", "depth": 0}));
    assert_eq!(client.get("/stats/queue", &[]).await.status, 422);
    assert_eq!(client.get("/other/vcon", &AUTH).await.status, 200);
    assert_eq!(client.get("/other/vcon", &[]).await.status, 403);
}

/// V06: listed, replayed, with reason and attempts; a storage's failures are there too. Mutation: `Ended::Finished`
/// after a storage failed.
#[tokio::test]
async fn promise_v06_dead_letters_are_listed_with_reasons_and_replayed() {
    let rig = rig_of(with_broken, "").await;
    for n in 1..=3 {
        assert_eq!(rig.post("/vcon?ingress_lists=doomed", &vcon(n)).await.status, 201);
    }
    let client = rig.app.client();
    let all = |v: &Value| v.as_array().is_some_and(|letters| letters.len() == 3);
    let dead = until(&client, "/api/dlq?ingress_list=doomed", "all are dead", all).await;
    assert!(dead.as_array().unwrap().contains(&json!(uuid(1))));
    let detail = rig.get("/dlq?ingress_list=doomed&detail=true").await.json();
    let letter = &detail[0];
    assert_eq!((letter["storage"].as_str(), letter["attempts"].as_u64()), (Some("broken"), Some(2)));
    assert!(letter["reason"].as_str().unwrap().starts_with("storage broken: ") && letter["died_at"].is_i64());
    assert_eq!(rig.get("/stats/queue?list_name=DLQ:doomed").await.json()["depth"], 3);
    assert_eq!(rig.get("/stats/queue?list_name=doomed:dlq").await.json()["depth"], 3);
    // One is forgotten; the others are replayed after the cause is gone.
    assert_eq!(
        rig.post(&format!("/dlq/purge?ingress_list=doomed&uuid={}", uuid(2)), &json!(null)).await.json(),
        1
    );
    let file = rig.folder.path().join("config.yml");
    let mended = with_broken(rig.folder.path()).replace("config.yml/x", "mended");
    std::fs::write(&file, mended).unwrap();
    until(&client, "/config", "it is read again", |v| !v.to_string().contains("config.yml/x")).await;
    assert_eq!(rig.post("/dlq/reprocess?ingress_list=doomed&count=0", &json!(null)).await.status, 422);
    assert_eq!(rig.post("/api/dlq/reprocess?ingress_list=doomed", &json!(null)).await.json(), 2);
    for n in [1, 3] {
        let file = rig.folder.path().join(format!("mended/2026/11/20/{}.json", uuid(n)));
        until(&client, "/dlq?ingress_list=doomed", "it is saved", |_| file.is_file()).await;
    }
    assert_eq!(rig.get("/dlq?ingress_list=doomed").await.json(), json!([]));
}

/// V07: the token, the partners' keys, and their rotation. Mutations: tokens read once; a partner's list not looked at.
#[tokio::test]
async fn promise_v07_tokens_open_and_are_rotated_without_a_restart() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "one\r\n\n  two  \n").unwrap();
    let rig = rig(&format!(", api_token_file: '{}'", tokens.path().display())).await;
    let client = rig.app.client();
    let with = async |token: &str| client.get("/api/vcon", &[("x-conserver-api-token", token)]).await.status;
    assert_eq!((with(TOKEN).await, with("one").await, with("two").await), (200, 200, 200));
    let refused = client.get("/api/vcon", &[]).await;
    assert_eq!((refused.status, refused.json()), (403, json!({"detail": "Invalid API Key"})));
    assert_eq!(with("Bearer one").await, 403);
    let (name, admin) = ("authorization", format!("Bearer {}", rig.app.admin_key));
    assert_eq!(client.get("/api/vcon", &[(name, &admin)]).await.status, 200, "an administrator's key");
    let (name, key) = rig.app.auth();
    assert_eq!(client.get("/api/vcon", &[(name, &key)]).await.status, 403, "no key for models");
    let external = async |list: &str, key: Option<&str>, body: String| {
        let header = key.map(|key| ("x-conserver-api-token", key));
        let answer = client
            .post_json(&format!("/vcon/external-ingress?ingress_list={list}"), header.as_slice(), body)
            .await;
        let detail = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["detail"].clone();
        (answer.status, detail.as_str().unwrap_or_default().to_owned())
    };
    let good = vcon(1).to_string();
    assert_eq!(external("in", Some("partner-two"), good.clone()).await, (204, String::new()));
    for (list, key, text) in [
        ("in", None, "API Key required"),
        ("in", Some(TOKEN), "Invalid API Key for ingress list 'in'"),
        ("out", Some("partner-one"), "Ingress list 'out' not configured"),
        ("other", Some("partner-one"), "Invalid configuration for ingress list 'other'"),
    ] {
        assert_eq!(external(list, key, good.clone()).await, (403, text.to_owned()));
    }
    assert_eq!(external("in", None, "{}".into()).await.0, 422, "the vCon is looked at first");
    std::fs::write(tokens.path(), "three").unwrap();
    let deadline = std::time::Instant::now() + crate::app::PATIENCE;
    while with("three").await != 200 || with("one").await != 403 {
        assert!(std::time::Instant::now() < deadline, "the tokens are not rotated");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// V14: the configuration is shown without secrets and restored with them. Mutation: `unmask` left out.
#[tokio::test]
async fn promise_v14_the_configuration_is_a_backup_that_restores() {
    let rig = rig("").await;
    let shown = rig.get("/api/config").await;
    assert!(!shown.text().contains("partner-"), "{}", shown.text());
    let mut backup = shown.json();
    assert_eq!(backup["ingress_auth"]["in"], json!(["***", "***"]));
    backup["chains"]["main"]["egress_lists"] = json!(["elsewhere"]);
    assert_eq!(rig.post("/api/config", &backup).await.status, 204);
    let file = rig.folder.path().join("config.yml");
    assert!(std::fs::read_to_string(&file).unwrap().contains("partner-one"));
    assert_eq!(rig.get("/config").await.json()["chains"]["main"]["egress_lists"], json!(["elsewhere"]));
    rig.post("/vcon?ingress_lists=in", &vcon(1)).await;
    until(&rig.app.client(), "/vcon/count?egress_list=elsewhere", "in force at once", |v| *v == 1).await;
    let wrong = rig
        .post(
            "/config",
            &json!({"links": {"x": {"module": "links.none"}}, "chains": {"c": {"links": ["x"]}}}),
        )
        .await;
    assert!(wrong.status == 422 && wrong.text().contains("links.none"), "{}", wrong.text());
    // The same with a backup whose secret stands where there is none.
    backup["ingress_auth"]["new"] = json!("***");
    let unknown = rig.post("/config", &backup).await;
    assert!(unknown.status == 422 && unknown.text().contains("ingress_auth.new"), "{}", unknown.text());
    let mut mode = std::fs::metadata(&file).unwrap().permissions();
    mode.set_readonly(true);
    std::fs::set_permissions(&file, mode).unwrap();
    let fixed = rig.post("/config", &rig.get("/config").await.json()).await;
    assert!(fixed.status == 409 && fixed.text().contains("config.yml"), "{}", fixed.text());
}

/// V10: lines of JSON with id, time, error and vCon. Mutation: `vcon_uuid` left out of the line of a dead letter.
#[test]
fn promise_v10_the_log_tells_which_vcon_and_why() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let file = folder.path().join("config.yml");
    std::fs::write(&file, with_broken(folder.path())).unwrap();
    let program = Program::serve_within(folder, "conversations: {attempts: 1}\n")
        .env("CONSERVER_CONFIG_FILE", &file)
        .env("CONSERVER_API_TOKEN", TOKEN)
        .env("LOG_FORMAT", "json");
    let process = program.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let headers = [AUTH[0], ("x-request-id", "req-of-v10")];
        let posted =
            process.client().post_json("/vcon?ingress_lists=doomed", &headers, vcon(1).to_string()).await;
        assert_eq!(posted.status, 201);
    });
    let line = process.wait_for_line(&["req-of-v10", "\"status\":201"]);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["duration_us"].is_u64(), "{line}");
    let line: Value = serde_json::from_str(&process.wait_for_line(&[&uuid(1), "dead letter"])).unwrap();
    assert_eq!((line["vcon_uuid"].as_str(), line["chain"].as_str()), (Some(uuid(1).as_str()), Some("dying")));
    assert!(line["reason"].as_str().unwrap().starts_with("storage broken: "), "{line}");
}

/// Many at once, one line each; what is wrong with one leaves the others alone.
#[tokio::test]
async fn a_bulk_of_lines_is_answered_line_by_line() {
    let rig = rig("").await;
    let mut lines: Vec<String> = (0..50).map(|n| vcon(n).to_string()).collect();
    lines.insert(7, "{\"vcon\": 1}".into());
    lines.push(vcon(3).to_string());
    let answer = rig.app.client().post_json("/vcons/bulk?ingress_lists=in", &AUTH, lines.join("\n")).await;
    let answers: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((answer.status, answers.len()), (200, 52));
    assert_eq!(
        (answers[7]["status"].as_u64(), answers[8]["uuid"].as_str()),
        (Some(422), Some(uuid(7).as_str()))
    );
    assert_eq!(answers[51]["same"], true);
    until(&rig.app.client(), "/vcon/count?egress_list=out", "all are out", |v| *v == 50).await;
}

/// The legacy form goes out, where it is asked for.
#[tokio::test]
async fn the_legacy_form_goes_out_where_it_is_asked_for() {
    let rig = rig(", egress_format: 0.0.1").await;
    rig.post("/vcon?ingress_lists=in", &vcon(1)).await;
    until(&rig.app.client(), "/vcon/count?egress_list=out", "it is out", |v| *v == 1).await;
    let legacy = rig.get(&format!("/vcon/{}", uuid(1))).await.json();
    assert_eq!(
        (legacy["vcon"].as_str(), legacy["attachments"][0]["type"].as_str()),
        (Some("0.0.1"), Some("tags"))
    );
    assert_eq!(legacy["dialog"][0]["mimetype"], "text/plain");
}
