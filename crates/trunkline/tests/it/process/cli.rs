//! The commands of the admin API: the real program against a server of the same program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Client;

use super::program::chat_body;
use super::{Finished, Process, Program};
use crate::app::PATIENCE;

/// Long, as those that `serve` makes: a short one is stretched at start, for seconds in a debug build.
const ADMIN: &str = "tl-admin-5f0c2b9d7e4a4c1188d06b3f2a9e7715";
/// A key of Conduit's form, and its SHA-256.
const FOREIGN: &str = "condt_AbC+/9=integration";
const FOREIGN_SHA256: &str = "eebacc3e82beca02e911413f56fded61175869c9874b3922d9752e719e352a0f";

/// Prices, so that calls cost something.
const YAML: &str = "providers: {demo: {kind: demo}}\nprices: {'demo/*': {request: 0.25}}\n";

/// A server with its operator.
struct Site {
    process: Process,
}

impl Site {
    fn start(yaml: &str) -> Self {
        Site { process: Program::serve(yaml).env("TRUNKLINE_ADMIN_KEY", ADMIN).start() }
    }

    /// `trunkline …` as an operator runs it.
    fn program(&self, words: &[&str]) -> Program {
        let program = Program::within(self.process.folder(), words);
        program.env("TRUNKLINE_URL", self.process.url()).env("TRUNKLINE_ADMIN_KEY", ADMIN)
    }

    /// Runs it; it must succeed, and what it prints never holds the admin key.
    fn run(&self, words: &[&str]) -> String {
        let done = self.program(words).run();
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{words:?}: {done:?}");
        assert!(!done.stdout.contains(ADMIN), "{done:?}");
        done.stdout
    }

    /// The same with `--json`: one document.
    fn json(&self, words: &[&str]) -> Value {
        let printed = self.run(&[words, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{words:?}: {error}: {printed}"))
    }

    /// Runs it; it must fail with 1 and a message.
    fn refused(&self, words: &[&str]) -> String {
        let done = self.program(words).run();
        assert_eq!((done.code(), done.stdout.as_str()), (1, ""), "{words:?}: {done:?}");
        assert!(done.stderr.starts_with("error: ") && !done.stderr.contains(ADMIN), "{done:?}");
        done.stderr
    }

    /// A file in the folder where commands run.
    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.process.dir().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.process.dir().join(name)).unwrap()
    }

    async fn chat(&self, key: &str) -> u16 {
        let auth = format!("Bearer {key}");
        let client = Client::new(self.process.url());
        let headers = [("authorization", auth.as_str())];
        client.post_json("/v1/chat/completions", &headers, chat_body("demo/chat", false)).await.status
    }

    /// Calls until the answer is this: replicas hear of a change within a second.
    async fn chat_becomes(&self, key: &str, expected: u16) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.chat(key).await;
            if status == expected {
                return;
            }
            assert!(Instant::now() < deadline, "still {status}, not {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn strings<'v>(rows: &'v Value, field: &str) -> Vec<&'v str> {
    rows["data"].as_array().unwrap().iter().filter_map(|row| row[field].as_str()).collect()
}

#[tokio::test]
async fn a_group_is_made_paid_and_removed() {
    let site = Site::start(YAML);
    let made = site.json(&["groups", "create", "team-a", "--balance", "12.50", "--description", "first"]);
    assert_eq!((&made["name"], &made["balance"]), (&json!("team-a"), &json!("12.5")));
    let id = made["id"].to_string();
    let paid = site.json(&["groups", "credit", "team-a", "1000", "--description", "invoice 12"]);
    assert_eq!((&paid["kind"], &paid["amount"]), (&json!("credit"), &json!("1000")));
    site.run(&["groups", "refund", &id, "0.5"]);
    site.run(&["groups", "adjust", "team-a", "-13"]);
    let shown = site.json(&["groups", "show", "team-a"]);
    assert_eq!(shown["balance"], "1000");
    let kinds = site.json(&["groups", "transactions", "team-a"]);
    assert_eq!(strings(&kinds, "kind"), ["adjustment", "refund", "credit", "initial"]);
    let table = site.run(&["groups", "list"]);
    assert!(table.lines().any(|line| line.contains("team-a") && line.contains("1,000.00")), "{table}");

    // Paid twice by accident, it is paid once.
    for _ in 0..2 {
        site.run(&["groups", "credit", &id, "5", "--idempotency-key", "invoice-13"]);
    }
    assert_eq!(site.json(&["groups", "show", &id])["balance"], "1005");

    let edited =
        site.json(&["groups", "edit", &id, "--name", "team-b", "--limits", "requests_per_minute=60"]);
    assert_eq!((&edited["name"], &edited["limits"]), (&json!("team-b"), &json!({"requests_per_minute": 60})));
    let stale = made["version"].to_string();
    let late = site.refused(&["groups", "edit", &id, "--name", "team-c", "--if-version", &stale]);
    assert!(late.contains("changed"), "{late}");
    let cleared = site.json(&["groups", "edit", &id, "--clear", "limits"]);
    assert_eq!(cleared["limits"], Value::Null);

    assert!(site.refused(&["groups", "create", "team-b"]).contains("team-b"));
    site.run(&["keys", "create", "app", "--group", "team-b"]);
    assert!(site.refused(&["groups", "delete", "team-b"]).contains("key"));
    site.run(&["keys", "delete", "app"]);
    site.run(&["groups", "delete", "team-b"]);
    assert!(site.refused(&["groups", "show", &id]).contains(&id));
    assert!(site.refused(&["groups", "show", "team-b"]).contains("there is no group named `team-b`"));
}

#[tokio::test]
async fn a_key_lives_from_its_creation_to_its_end() {
    let site = Site::start(YAML);
    site.run(&["groups", "create", "team", "--balance", "100"]);
    let printed =
        site.run(&["keys", "create", "app", "--group", "team", "--model", "demo/*", "--expires", "90d"]);
    let key = printed.lines().find(|line| line.starts_with("sk-")).unwrap_or_else(|| panic!("{printed}"));
    assert!(printed.contains("This key is not shown again"), "{printed}");
    assert_eq!(site.chat(key).await, 200);
    for command in ["show", "disable"] {
        assert!(!site.run(&["keys", command, "app"]).contains(key), "{command}");
    }
    site.chat_becomes(key, 401).await;
    site.run(&["keys", "enable", "app"]);
    site.chat_becomes(key, 200).await;
    let rotated = site.json(&["keys", "rotate", "app", "--overlap", "0s"]);
    let new = rotated["key"].as_str().unwrap();
    site.chat_becomes(new, 200).await;
    site.chat_becomes(key, 401).await;
    let edited = site.json(&["keys", "edit", "app", "--model", "gpt-4*", "--tag", "a,b"]);
    assert_eq!((&edited["allowed_models"], &edited["tags"]), (&json!(["gpt-4*"]), &json!(["a", "b"])));
    site.chat_becomes(new, 403).await;
    let listed = site.json(&["keys", "list", "--group", "team"]);
    assert_eq!(strings(&listed, "name"), ["app"]);
    site.run(&["keys", "delete", "app"]);
    site.chat_becomes(new, 401).await;
}

#[tokio::test]
async fn keys_of_another_gateway_go_on_to_work() {
    let site = Site::start(YAML);
    site.run(&["groups", "create", "team", "--balance", "100"]);
    site.write(
        "keys.csv",
        &format!("KeyName,KeyHash,IsEnabled\nmobile,{FOREIGN_SHA256},true\nold,{FOREIGN_SHA256},false\n"),
    );
    let done = site.json(&["keys", "import", "keys.csv", "--group", "team"]);
    assert_eq!((&done["created"], &done["skipped"][0]["name"]), (&json!(1), &json!("old")));
    site.chat_becomes(FOREIGN, 200).await;
    // Once more does no harm.
    let again = site.json(&["keys", "import", "keys.csv", "--group", "team"]);
    assert_eq!((&again["created"], again["skipped"].as_array().unwrap().len()), (&json!(0), 2));
    assert!(site.refused(&["keys", "import", "none.csv"]).contains("`none.csv` cannot be read"));
}

#[tokio::test]
async fn lists_go_through_every_page() {
    let site = Site::start(YAML);
    site.run(&["groups", "create", "team", "--balance", "1"]);
    let rows: String = (0..1201).map(|at| format!("k{at},{at:064x}\n")).collect();
    site.write("keys.csv", &format!("name,key_sha256\n{rows}"));
    assert_eq!(site.json(&["keys", "import", "keys.csv", "--group", "team"])["created"], 1201);
    let all = site.json(&["keys", "list", "--group", "team"]);
    assert_eq!((strings(&all, "name").len(), &all["next"]), (1201, &Value::Null));
    let some = site.json(&["keys", "list", "--group", "team", "--limit", "1100"]);
    assert_eq!(strings(&some, "name").len(), 1100);
    let table = site.run(&["keys", "list", "--limit", "3"]);
    assert!(table.contains("There may be more"), "{table}");
}

#[tokio::test]
async fn aliases_prices_roles_and_providers_are_set_and_removed() {
    let site = Site::start(YAML);
    site.run(&[
        "providers",
        "add",
        "lab",
        "--kind",
        "openai-compatible",
        "--base-url",
        "http://127.0.0.1:9/v1",
    ]);
    assert!(strings(&site.json(&["providers", "list"]), "name").contains(&"lab"));
    assert!(site.refused(&["providers", "test", "lab"]).contains("lab"));
    assert!(site.run(&["providers", "test", "demo"]).starts_with("demo answers"));
    assert!(site.refused(&["providers", "remove", "demo"]).contains("file"));

    site.run(&["models", "set", "smart", "--target", "demo/chat"]);
    site.run(&["models", "set", "smart", "--target", "lab/org/model,demo/chat"]);
    let smart = site.json(&["models", "show", "smart"]);
    assert_eq!(smart["targets"][0]["model"], "org/model");
    assert!(site.run(&["models", "list"]).contains("lab/org/model, demo/chat"));
    site.run(&["models", "remove", "smart"]);
    site.refused(&["models", "show", "smart"]);
    site.run(&["providers", "remove", "lab"]);

    site.run(&["prices", "set", "lab/org/*", "--input", "2.50", "--output", "10"]);
    site.run(&["prices", "set", "lab/org/*", "--cached-input", "0.25"]);
    let price = site.json(&["prices", "show", "lab/org/*"]);
    assert_eq!((&price["input"], &price["cached_input"]), (&json!("2.5"), &json!("0.25")));
    assert!(site.run(&["prices", "list", "--source", "api"]).contains("lab/org/*"));
    site.run(&["prices", "export", "-o", "prices.csv"]);
    site.run(&["prices", "remove", "lab/org/*"]);
    site.refused(&["prices", "remove", "lab/org/*"]);
    site.run(&["prices", "import", "prices.csv", "--format", "csv"]);
    assert_eq!(site.json(&["prices", "show", "lab/org/*"])["input"], "2.5");

    site.run(&["roles", "set", "support", "keys:read", "usage:read"]);
    let roles = site.json(&["roles", "list"]);
    assert!(strings(&roles, "name").contains(&"support"));
    let token = site.json(&["keys", "create", "helper", "--role", "support"]);
    let helper = |words: &[&str]| -> Finished {
        Program::new(words)
            .env("TRUNKLINE_URL", site.process.url())
            .env("TRUNKLINE_ADMIN_KEY", token["key"].as_str().unwrap())
            .run()
    };
    assert_eq!(helper(&["keys", "list"]).code(), 0);
    let refused = helper(&["groups", "create", "mine"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("trunkline roles list"), "{refused:?}");
    site.run(&["keys", "delete", "helper"]);
    site.run(&["roles", "remove", "support"]);
}

#[tokio::test]
async fn usage_is_summed_listed_and_exported() {
    let site = Site::start(YAML);
    site.run(&["groups", "create", "team", "--balance", "100"]);
    let key = site.json(&["keys", "create", "app", "--group", "team", "--tag", "mobile"]);
    for _ in 0..3 {
        assert_eq!(site.chat(key["key"].as_str().unwrap()).await, 200);
    }
    let summary = site.json(&["usage", "summary", "--by", "key,model", "--group", "team"]);
    assert_eq!((&summary["total"]["requests"], &summary["total"]["cost"]), (&json!(3), &json!("0.75")));
    assert_eq!(summary["data"][0]["key_id"], key["id"]);
    let table = site.run(&["usage", "summary", "--by", "tag", "--from", "1d"]);
    assert!(table.contains("mobile") && table.lines().last().unwrap().contains("total"), "{table}");
    let requests = site.json(&["usage", "requests", "--key", "app"]);
    assert_eq!(requests["data"].as_array().unwrap().len(), 3);
    let csv = site.run(&["usage", "export", "--by", "model", "--group", "team"]);
    assert!(csv.starts_with("day,key_id") && csv.contains(",0.75,"), "{csv}");
    site.run(&["usage", "export", "--format", "json", "-o", "usage.json"]);
    assert!(serde_json::from_str::<Value>(&site.read("usage.json")).unwrap()["total"].is_object());
}

#[tokio::test]
async fn the_audit_log_is_listed_checked_and_exported() {
    let Some(database) = testkit::services::postgres() else { return };
    let site = Site::start(&format!("{YAML}data: {{store: '{}'}}\n", database.url()));
    site.run(&["groups", "create", "team"]);
    site.refused(&["groups", "create", "team"]);
    let all = site.json(&["audit", "list", "--action", "groups.create"]);
    assert_eq!(strings(&all, "action"), ["groups.create", "groups.create"]);
    assert!(strings(&all, "actor").iter().all(|actor| *actor == "admin"));
    assert!(site.run(&["audit", "verify"]).starts_with("the audit log is whole"));
    site.run(&["audit", "export", "-o", "audit.jsonl"]);
    assert!(
        site.read("audit.jsonl")
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).unwrap()["hash"].is_string())
    );

    database.execute("UPDATE audit SET actor = 'nobody' WHERE seq = 1");
    let broken = site.program(&["audit", "verify"]).run();
    assert_eq!((broken.code(), broken.stdout.as_str()), (1, ""), "{broken:?}");
    assert!(broken.stderr.contains("the audit log is broken: row 1 "), "{broken:?}");
    let broken = site.program(&["audit", "verify", "--json"]).run();
    assert_eq!((broken.code(), broken.stderr.as_str()), (1, ""), "{broken:?}");
    assert_eq!(serde_json::from_str::<Value>(&broken.stdout).unwrap()["first_bad"]["seq"], 1);
}

#[tokio::test]
async fn the_configuration_moves_to_another_server() {
    let from = Site::start(YAML);
    from.run(&["groups", "create", "team", "--balance", "100"]);
    from.run(&["models", "set", "smart", "--target", "demo/chat"]);
    from.run(&["prices", "set", "lab/*", "--request", "0.001"]);
    from.run(&["roles", "set", "support", "keys:read"]);
    from.run(&["config", "export", "-o", "all.json"]);
    let exported = from.read("all.json");

    let to = Site::start(YAML);
    to.write("all.json", &exported);
    to.run(&["config", "import", "all.json", "--merge"]);
    assert_eq!(to.json(&["models", "show", "smart"])["targets"][0]["provider"], "demo");
    assert!(strings(&to.json(&["roles", "list"]), "name").contains(&"support"));
}

#[tokio::test]
async fn it_says_why_it_cannot() {
    let site = Site::start(YAML);
    let url = site.process.url();
    let bare = |words: &[&str]| Program::new(words).env("TRUNKLINE_URL", &url);
    let missing = bare(&["groups", "list"]).run();
    assert_eq!(missing.code(), 1);
    assert!(
        missing.stderr.contains("TRUNKLINE_ADMIN_KEY") && missing.stderr.contains("--key-file"),
        "{missing:?}"
    );
    let wrong = bare(&["groups", "list"]).env("TRUNKLINE_ADMIN_KEY", "tl-admin-wrong-key").run();
    assert_eq!(wrong.code(), 1);
    assert!(
        wrong.stderr.contains("does not know this key") && !wrong.stderr.contains("tl-admin-wrong"),
        "{wrong:?}"
    );
    // A virtual key is known, and may not administer.
    let caller = bare(&["groups", "list"])
        .env("TRUNKLINE_ADMIN_KEY", site.process.ready["key"].as_str().unwrap())
        .run();
    assert_eq!(caller.code(), 1);
    assert!(caller.stderr.contains("permission"), "{caller:?}");
    let file = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(file.path().join("key"), format!("{ADMIN}\n")).unwrap();
    let from_file = Program::within(file, &["groups", "list", "--key-file", "key", "--url", &url]).run();
    assert_eq!(from_file.code(), 0, "{from_file:?}");

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = site.refused(&["groups", "list", "--url", &format!("http://{free}")]);
    assert!(nobody.contains("nothing answers at") && nobody.contains("Connection refused"), "{nobody}");
    let metrics = site.refused(&["groups", "list", "--url", &site.process.metrics_url()]);
    assert!(metrics.contains("--url") || metrics.contains("its URL"), "{metrics}");
    for usage in [&["groups", "credit", "team", "NaN"][..], &["groups"], &["keys", "create", "app"]] {
        let done = site.program(usage).run();
        assert_eq!((done.code(), done.stdout.as_str()), (2, ""), "{done:?}");
    }
    let bad = site.refused(&["groups", "create", "team", "--limits", "requests_per_minuet=5"]);
    assert!(bad.contains("requests_per_minute"), "a name and what it should be: {bad}");
}

#[tokio::test]
async fn https_is_verified() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let yaml = format!("{YAML}server: {{tls: {{cert: cert.pem, key: key.pem}}}}\n");
    let process = Program::serve_within(folder, &yaml).env("TRUNKLINE_ADMIN_KEY", ADMIN).start();
    let site = Site { process };
    assert!(site.process.url().starts_with("https://"));
    let stranger = site.refused(&["groups", "list"]);
    assert!(stranger.contains("certificate") && stranger.contains("--cacert"), "{stranger}");
    site.run(&["groups", "list", "--cacert", "cert.pem"]);
    assert!(site.refused(&["groups", "list", "--cacert", "key.pem"]).contains("no certificate"));
}

/// Fails when `--plan` changes the database, or when `serve` finds a migrated one not to be.
#[tokio::test]
async fn a_database_is_migrated_before_the_first_start() {
    let run = |folder: &Arc<tempfile::TempDir>, words: &[&str]| {
        let done = Program::within(Arc::clone(folder), words).run();
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{words:?}: {done:?}");
        done.stdout
    };
    let database = testkit::services::postgres();
    let stores = [Some("sqlite".to_owned()), database.as_ref().map(testkit::services::Database::url)];
    for store in stores.into_iter().flatten() {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let yaml = format!("data: {{store: '{store}'}}\n");
        std::fs::write(folder.path().join("trunkline.yaml"), &yaml).unwrap();
        for _ in 0..2 {
            let plan = run(&folder, &["migrate", "--plan"]);
            assert!(plan.contains("-- step 1 ") && plan.contains("CREATE TABLE groups"), "{plan}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a plan makes nothing");
        assert!(run(&folder, &["migrate"]).contains("done: step 1"));
        assert!(run(&folder, &["migrate"]).contains("already"));
        assert!(run(&folder, &["migrate", "--plan"]).starts_with("nothing to do"));
        let mut process = Program::serve_within(folder, &yaml).start();
        assert_eq!(process.chat("demo/chat").await.status, 200);
        assert_eq!(process.stop(), Some(0));
    }
    let wrong = Program::new(&["migrate"]).env("TRUNKLINE_DATA__STORE", "mysql://root@localhost/x").run();
    assert!([1, 64].contains(&wrong.code()), "{wrong:?}");
}
