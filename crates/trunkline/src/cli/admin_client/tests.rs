//! Commands against a server that answers as scripted: what is sent, what is printed, what is said of failures.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use clap::Parser as _;
use serde_json::{Value, json};
use testkit::{Behaviour, Ending, Framing, Received, Reply, Upstream};
use trunkline::settings::Env;

use super::{Admin, Failure, Run};
use crate::cli::audit::AuditCommand;
use crate::cli::groups::GroupsCommand;
use crate::cli::keys::KeysCommand;
use crate::cli::models::ModelsCommand;
use crate::cli::output::printable;
use crate::cli::prices::PricesCommand;
use crate::cli::providers::ProvidersCommand;
use crate::cli::usage::UsageCommand;

const ADMIN: &str = "tl-admin-0123456789abcdef";

#[derive(Debug, clap::Parser)]
struct Line<C: clap::Subcommand> {
    #[command(flatten)]
    admin: Admin<C>,
}

#[derive(Clone, Default)]
struct Printed(Rc<RefCell<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a command did.
struct Done {
    printed: String,
    result: Result<(), Failure>,
    requests: Vec<Received>,
}

impl Done {
    fn ok(self) -> (String, Vec<Received>) {
        self.result.unwrap();
        (self.printed, self.requests)
    }

    fn failure(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }
}

fn answer(status: u16, body: &Value) -> Behaviour {
    let body = body.to_string();
    Behaviour::custom(format!("{status}"), move |_| Reply::whole(status, "application/json", body.clone()))
}

fn refusal(status: u16, code: &str, message: &str, field: Option<&str>) -> Behaviour {
    let error = json!({"code": code, "message": message, "field": field});
    answer(status, &json!({"error": error, "request_id": "r"}))
}

/// A good answer whose connection breaks half way.
fn cut() -> Behaviour {
    Behaviour::custom("cut", |_| Reply {
        framing: Framing::Declared(1000),
        ending: Ending::Close,
        ..Reply::whole(200, "text/csv", "day,cost\n")
    })
}

fn page(rows: &[i64], next: Option<i64>) -> Behaviour {
    let rows: Vec<_> = rows.iter().map(|id| json!({"id": id, "name": format!("row-{id}")})).collect();
    answer(200, &json!({"data": rows, "next": next}))
}

/// Runs `trunkline AREA WORDS…` where `C` is the area.
async fn run<C: clap::Subcommand + Run>(script: Vec<Behaviour>, words: &[&str]) -> Done {
    let upstream = Upstream::start();
    upstream.set_default(refusal(404, "not_found", "the script is over", None));
    upstream.script(script);
    let env = Env::from_iter([("TRUNKLINE_ADMIN_KEY", ADMIN), ("LAB_KEY", "sk-lab-secret")]);
    // Below a path, as behind a proxy.
    let url = upstream.base_url();
    let line = Line::<C>::try_parse_from([&["x", "--url", &url], words].concat()).unwrap();
    let to = Printed::default();
    let result = line.admin.run_into(&env, Box::new(to.clone())).await;
    let printed = String::from_utf8(to.0.borrow().clone()).unwrap();
    Done { printed, result, requests: upstream.requests() }
}

fn paths(requests: &[Received]) -> Vec<String> {
    requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

#[tokio::test]
async fn a_list_goes_through_all_pages() {
    let script = || vec![page(&[1, 2], Some(2)), page(&[7], None)];
    let (printed, requests) = run::<GroupsCommand>(script(), &["list", "--json"]).await.ok();
    assert_eq!(paths(&requests), ["GET /v1/api/groups?limit=1000", "GET /v1/api/groups?limit=1000&after=2"]);
    assert_eq!(requests[0].header("authorization"), Some(format!("Bearer {ADMIN}").as_str()));
    let document: Value = serde_json::from_str(&printed).unwrap();
    let ids: Vec<_> = document["data"].as_array().unwrap().iter().map(|row| row["id"].as_i64()).collect();
    assert_eq!((ids, &document["next"]), (vec![Some(1), Some(2), Some(7)], &Value::Null));

    let (printed, _) = run::<GroupsCommand>(script(), &["list"]).await.ok();
    assert!(printed.contains("row-1") && printed.contains("row-7"), "{printed}");
}

#[tokio::test]
async fn a_list_ends_at_its_limit() {
    let done = run::<GroupsCommand>(vec![page(&[1, 2], Some(2))], &["list", "--limit", "2", "--json"]).await;
    let (printed, requests) = done.ok();
    assert_eq!(paths(&requests), ["GET /v1/api/groups?limit=2"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["next"], 2);
    let (printed, _) =
        run::<GroupsCommand>(vec![page(&[1, 2], Some(2))], &["list", "--limit", "2"]).await.ok();
    assert!(printed.contains("There may be more"), "{printed}");
}

#[tokio::test]
async fn an_empty_list_is_a_document_too() {
    let (printed, _) = run::<GroupsCommand>(vec![page(&[], None)], &["list", "--json"]).await.ok();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), json!({"data": [], "next": null}));
    let (printed, _) = run::<GroupsCommand>(vec![page(&[], None)], &["list"]).await.ok();
    assert_eq!(printed, "none\n");
}

#[tokio::test]
async fn a_list_that_leads_nowhere_ends() {
    let script = vec![page(&[1], Some(1)), page(&[1], Some(1))];
    let done = run::<GroupsCommand>(script, &["list"]).await;
    assert!(done.failure().contains("not as Trunkline's admin API does"), "{}", done.failure());
    assert_eq!(done.requests.len(), 2);
}

#[tokio::test]
async fn names_become_ids_and_stay_single_path_segments() {
    let script = vec![page(&[12, 7], None), answer(200, &json!({"id": 7, "name": "row-7"}))];
    let (printed, requests) = run::<GroupsCommand>(script, &["show", "row-7"]).await.ok();
    assert_eq!(paths(&requests), ["GET /v1/api/groups?name=row-7&limit=1000", "GET /v1/api/groups/7"]);
    assert!(printed.contains("row-7"));
    let done = run::<GroupsCommand>(vec![page(&[], None)], &["show", "nobody"]).await;
    assert_eq!(done.failure(), "there is no group named `nobody`: `trunkline groups list` shows them all");

    let done = run::<PricesCommand>(vec![answer(200, &json!({}))], &["show", "lab/a?b/../*"]).await;
    assert_eq!(paths(&done.requests), ["GET /v1/api/prices/lab%2Fa%3Fb%2F..%2F*"]);
    for nasty in ["..", ".", ""] {
        let done = run::<ModelsCommand>(vec![], &["remove", nasty]).await;
        assert_eq!((done.failure(), done.requests.len()), (format!("`{nasty}` is no name"), 0));
    }
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let show = ["show", "7"];
    for (behaviour, words) in [
        (
            refusal(401, "invalid_key", "The key is unknown.", None),
            &["The key is unknown.", "TRUNKLINE_ADMIN_KEY"][..],
        ),
        (refusal(403, "forbidden", "Needs groups:read.", None), &["Needs groups:read.", "roles list"]),
        (
            refusal(400, "invalid_value", "Expected a number.", Some("limits.burst")),
            &["limits.burst: Expected a number."],
        ),
        (refusal(404, "not_found", "There is no group 7.", None), &["There is no group 7."]),
        (refusal(500, "internal_error", "bad \u{1b}[2J", None), &["bad \\u{1b}[2J"]),
        (
            answer(404, &json!({"error": {"message": "See /v1/models.", "type": "x"}})),
            &["answered 404", "role `admin`"],
        ),
        (Behaviour::html_error(502), &["answered 502", "role `admin`"]),
        (answer(200, &json!("text")), &[]),
        (Behaviour::not_json(), &["answered 200"]),
        (Behaviour::redirect(302), &["leads to", "--url"]),
        (cut(), &["http://127.0.0.1:"]),
    ] {
        let name = behaviour.name().to_owned();
        let done = run::<GroupsCommand>(vec![behaviour], &show).await;
        assert_eq!(done.requests.len(), 1, "{name}");
        if words.is_empty() {
            continue;
        }
        for word in words {
            assert!(done.failure().contains(word), "{name}: {word} in {}", done.failure());
        }
        assert!(!done.failure().contains(ADMIN), "{name}");
        assert_eq!(done.printed, "", "{name}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_place() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let line = Line::<GroupsCommand>::try_parse_from(["x", "list", "--url", &url]).unwrap();
    let env = Env::from_iter([("TRUNKLINE_ADMIN_KEY", ADMIN)]);
    let failure = line.admin.run_into(&env, Box::new(Printed::default())).await.unwrap_err().to_string();
    assert!(failure.contains(&format!("nothing answers at {url}: Connection refused")), "{failure}");
    assert!(failure.contains("TRUNKLINE_URL"), "{failure}");
}

#[tokio::test]
async fn a_creation_that_is_lost_is_sent_again_as_the_same() {
    let made = answer(201, &json!({"id": 7, "name": "a"}));
    let busy = refusal(409, "idempotency_key_in_use", "It is under way.", None);
    let script = vec![Behaviour::close_before_response(), busy, made];
    let (_, requests) = run::<GroupsCommand>(script, &["create", "a", "--balance", "12.50"]).await.ok();
    assert_eq!(requests.len(), 3);
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key").unwrap()).collect();
    assert!(keys[0].len() > 16 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(requests[2].json(), json!({"name": "a", "balance": "12.5", "unlimited": false}));

    // When nothing is ever heard, people get the key to go on with.
    let lost = || vec![Behaviour::close_before_response(); 3];
    let done = run::<GroupsCommand>(lost(), &["credit", "7", "5", "--idempotency-key", "invoice-12"]).await;
    assert_eq!(done.requests.len(), 3);
    assert!(done.failure().contains("--idempotency-key invoice-12"), "{}", done.failure());
    // An edit is not known to be harmless twice.
    let done = run::<GroupsCommand>(lost(), &["edit", "7", "--name", "b"]).await;
    assert_eq!(done.requests.len(), 1);
}

#[tokio::test]
async fn money_goes_to_the_group_it_was_meant_for() {
    let done =
        answer(201, &json!({"id": 3, "kind": "adjustment", "amount": "-0.5", "balance_after": "1234.5"}));
    let line = ["adjust", "7", "-0.50", "--description", "typo"];
    let (printed, requests) = run::<GroupsCommand>(vec![done], &line).await.ok();
    assert_eq!(paths(&requests), ["POST /v1/api/groups/7/adjustments"]);
    assert_eq!(requests[0].json(), json!({"amount": "-0.5", "description": "typo"}));
    assert!(printed.contains("1,234.50") && printed.contains("-0.50"), "{printed}");
}

#[tokio::test]
async fn a_new_key_is_printed_once_with_the_sentence() {
    let made = json!({"id": 9, "name": "app", "group_id": 7, "hint": "sk-tl-…a1b2", "key": "sk-tl-secret"});
    let script = || vec![page(&[7], None), answer(201, &made)];
    let create = ["create", "app", "--group", "row-7", "--model", "gpt-4*,openai/*", "--limits", "burst=5"];
    let (printed, requests) = run::<KeysCommand>(script(), &create).await.ok();
    assert_eq!(
        requests[1].json(),
        json!({"name": "app", "group_id": 7, "allowed_models": ["gpt-4*", "openai/*"],
            "limits": {"burst": 5}, "single_use": false})
    );
    assert_eq!(printed.matches("sk-tl-secret").count(), 1, "{printed}");
    assert!(printed.contains("This key is not shown again"), "{printed}");
    let (printed, _) = run::<KeysCommand>(script(), &[&create[..], &["--json"]].concat()).await.ok();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), made);
    // One that was taken over by its hash has nothing to show.
    let taken = json!({"id": 9, "name": "app"});
    let (printed, _) =
        run::<KeysCommand>(vec![answer(201, &taken)], &["create", "app", "--group", "7"]).await.ok();
    assert!(!printed.contains("not shown again"), "{printed}");
}

#[tokio::test]
async fn keys_are_imported_in_parts_but_not_those_that_were_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.csv");
    let hash = "ab".repeat(32);
    let rows: String = (0..501).map(|at| format!("k{at},,{hash},t\n")).collect();
    std::fs::write(&file, format!("KeyName,VirtualKeyGroupId,KeyHash,IsEnabled\nold,,{hash},f\n{rows}"))
        .unwrap();
    let skipped = json!({"created": 499, "skipped": [{"name": "k3", "reason": "It exists already."}]});
    let script = vec![answer(200, &skipped), answer(200, &json!({"created": 1, "skipped": []}))];
    let line = ["import", file.to_str().unwrap(), "--group", "7"];
    let (printed, requests) = run::<KeysCommand>(script, &line).await.ok();
    let sizes: Vec<_> =
        requests.iter().map(|request| request.json()["keys"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [500, 1]);
    assert_eq!(requests[1].json()["keys"][0], json!({"name": "k500", "group_id": 7, "key_sha256": hash}));
    assert!(printed.starts_with("500 of 502 keys are imported"), "{printed}");
    assert!(printed.contains("It exists already.") && printed.contains("It is disabled."), "{printed}");
}

#[tokio::test]
async fn setting_makes_what_is_not_there() {
    let script = vec![refusal(404, "not_found", "no", None), answer(201, &json!({"name": "smart"}))];
    let line = ["set", "smart", "--target", "openai/gpt-4.1"];
    let (_, requests) = run::<ModelsCommand>(script, &line).await.ok();
    assert_eq!(paths(&requests), ["PATCH /v1/api/models/smart", "POST /v1/api/models"]);
    let targets = json!([{"provider": "openai", "model": "gpt-4.1"}]);
    assert_eq!(requests[0].json(), json!({"targets": targets}));
    assert_eq!(requests[1].json(), json!({"name": "smart", "targets": targets}));
    let done = run::<ModelsCommand>(vec![refusal(409, "set_in_file", "In the file.", None)], &line).await;
    assert_eq!((done.failure().as_str(), done.requests.len()), ("In the file.", 1));
}

#[tokio::test]
async fn a_providers_key_comes_from_a_file_or_a_variable() {
    let made = || vec![answer(201, &json!({"name": "lab", "api_key": "***"}))];
    let line = ["add", "lab", "--kind", "openai", "--api-key-env", "LAB_KEY"];
    let done = run::<ProvidersCommand>(made(), &line).await;
    assert_eq!(done.requests[0].json(), json!({"name": "lab", "kind": "openai", "api_key": "sk-lab-secret"}));
    assert!(!done.printed.contains("sk-lab-secret"), "{}", done.printed);
    let line = ["add", "lab", "--kind", "openai", "--api-key-env", "NO_KEY"];
    assert_eq!(run::<ProvidersCommand>(made(), &line).await.failure(), "NO_KEY is not set");
}

#[tokio::test]
async fn a_provider_that_fails_its_test_fails_the_command() {
    let good = json!({"ok": true, "latency_ms": 12, "models": ["a", "b"]});
    let (printed, requests) = run::<ProvidersCommand>(vec![answer(200, &good)], &["test", "lab"]).await.ok();
    assert_eq!(paths(&requests), ["POST /v1/api/providers/lab/test"]);
    assert_eq!(printed, "lab answers in 12 ms and has 2 models\n");
    let bad = json!({"ok": false, "latency_ms": 3, "error": "401 from the provider"});
    let done = run::<ProvidersCommand>(vec![answer(200, &bad)], &["test", "lab"]).await;
    assert_eq!(done.failure(), "lab: 401 from the provider");
    let done = run::<ProvidersCommand>(vec![answer(200, &bad)], &["test", "lab", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&done.printed).unwrap(), bad);
    assert!(matches!(done.result, Err(Failure::Told)));
}

#[tokio::test]
async fn a_broken_audit_log_fails_the_command() {
    let whole = json!({"ok": true, "rows": 1234});
    let (printed, _) = run::<AuditCommand>(vec![answer(200, &whole)], &["verify"]).await.ok();
    assert_eq!(printed, "the audit log is whole: 1234 rows\n");
    let broken = json!({"ok": false, "rows": 16, "first_bad": {"seq": 17, "why": "was changed"}});
    let done = run::<AuditCommand>(vec![answer(200, &broken)], &["verify"]).await;
    assert!(done.failure().starts_with("the audit log is broken: row 17 was changed"), "{}", done.failure());
    let done = run::<AuditCommand>(vec![answer(200, &broken)], &["verify", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&done.printed).unwrap(), broken);
    assert!(matches!(done.result, Err(Failure::Told)));
}

#[tokio::test]
async fn a_summary_ends_with_its_total() {
    let row = |day: &str, cost: &str| json!({"day": day, "model": "m", "requests": 2, "input_tokens": 12345, "cost": cost});
    let summary = json!({"data": [row("2026-11-19", "0.5"), row("2026-11-20", "10.25")], "total": {"requests": 4, "input_tokens": 24690, "cost": "10.75"}});
    let line = ["summary", "--by", "day,model", "--from", "2026-11-01", "--model", "m"];
    let (printed, requests) = run::<UsageCommand>(vec![answer(200, &summary)], &line).await.ok();
    assert_eq!(
        paths(&requests),
        ["GET /v1/api/usage?from=2026-11-01T00%3A00%3A00Z&model=m&group_by=day%2Cmodel"]
    );
    let last: Vec<&str> = printed.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((last[0], last[2], last[4]), ("total", "4", "24,690"), "{printed}");
    assert!(last.contains(&"10.75"), "{printed}");
}

#[tokio::test]
async fn an_export_is_there_as_a_whole_or_not_at_all() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.csv");
    let line = ["export", "-o", file.to_str().unwrap()];
    let csv = Behaviour::custom("csv", |_| Reply::whole(200, "text/csv", "day,cost\n2026-11-20,1\n"));
    let (printed, requests) = run::<UsageCommand>(vec![csv.clone()], &line).await.ok();
    assert_eq!(paths(&requests), ["GET /v1/api/usage?group_by=day&format=csv"]);
    assert_eq!(printed, "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "day,cost\n2026-11-20,1\n");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (printed, _) = run::<UsageCommand>(vec![csv], &["export"]).await.ok();
    assert_eq!(printed, "day,cost\n2026-11-20,1\n");

    std::fs::remove_file(&file).unwrap();
    let done = run::<UsageCommand>(vec![cut()], &line).await;
    assert!(done.result.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_audit_log_is_exported_line_by_line() {
    let script = vec![page(&[3, 2], Some(2)), page(&[1], None)];
    let (printed, _) = run::<AuditCommand>(script, &["export"]).await.ok();
    let ids: Vec<_> =
        printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids, [3, 2, 1]);
}

#[tokio::test]
async fn prices_are_sent_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.json");
    std::fs::write(&file, "{\"gpt-4\": {}}").unwrap();
    let done =
        json!({"imported": 0, "skipped": [{"line": 1, "name": "gpt-4", "reason": "It prices nothing."}]});
    let line = ["import", file.to_str().unwrap(), "--format", "litellm"];
    let (printed, requests) = run::<PricesCommand>(vec![answer(200, &done)], &line).await.ok();
    assert_eq!(paths(&requests), ["POST /v1/api/prices/import?format=litellm"]);
    assert_eq!(requests[0].text(), "{\"gpt-4\": {}}");
    assert!(printed.contains("It prices nothing."), "{printed}");
}

#[test]
fn printable_text_keeps_letters() {
    assert_eq!(printable("Größe 7 – ok"), "Größe 7 – ok");
}
