//! Where the log goes, and what is in it.

use serde_json::Value;
use testkit::{Behaviour, Upstream, services};

use super::Program;
use crate::app::alias;

#[tokio::test]
async fn people_read_stderr() {
    let mut process = Program::serve("").start();
    process.chat("demo/chat").await;
    process.stop();
    assert_eq!(process.stdout(), Vec::<String>::new());
    let request = process.wait_for_line(&["INFO access: request ", "operation=chat", "status=200"]);
    assert!(request.contains("routed_to=demo/chat") && request.contains("request_id="), "{request}");
    assert!(!process.stderr().iter().any(|line| line.contains('\u{1b}')), "colours go to terminals only");
}

#[tokio::test]
async fn programs_read_stdout_where_every_line_is_json() {
    let upstream = Upstream::start();
    upstream.script([Behaviour::html_error(500), Behaviour::ok(), Behaviour::cut_late()]);
    let settings = alias(&[upstream.base_url()], "{backoff: 1ms}");
    let mut process = Program::serve(&settings).env("LOG_FORMAT", "json").env("RUST_LOG", "trace").start();
    process.chat("m").await;
    process.stream("m").await.collect(crate::app::PATIENCE).await;
    process.chat("no such model\u{7}\\n").await;
    process.get("/nowhere").await;
    process.signal("HUP");
    process.stop();
    assert_eq!(process.stderr(), Vec::<String>::new());
    let lines: Vec<Value> = process
        .stdout()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "target"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    assert_eq!(requests.len(), 4, "{requests:#?}");
    for line in lines.iter().filter(|l| l["message"] == "request" || l["message"] == "attempt failed") {
        assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
    }
    let failed = |error: &str| requests.iter().any(|line| line["error_type"] == error);
    assert!(failed("stream_broken") && failed("invalid_request"), "{requests:#?}");
    assert!(requests.iter().any(|line| line["attempts"] == 2), "{requests:#?}");
}

#[test]
fn a_file_takes_the_log_instead() {
    let mut process = Program::serve("telemetry: {log: {file: server.log, format: json}}\n").start();
    process.stop();
    assert!(process.stdout().is_empty() && process.stderr().iter().all(|line| !line.contains("listening")));
    let log = std::fs::read_to_string(process.dir().join("server.log")).unwrap();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
    assert!(log.contains(r#""message":"listening""#) && log.contains(r#""message":"stopped""#), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c17_the_status_line_tells_memory_connections_and_consumers() {
    let process = Program::serve("").env("LOG_FORMAT", "json").start();
    let line: Value =
        serde_json::from_str(&process.wait_for_line(&["memory", "connection", "consumer"])).unwrap();
    assert!(line["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{line}");
    assert!(line["connections"].is_u64() && line["calls_in_flight"] == 0, "{line}");
    // SQLite: one writer, four readers; no RabbitMQ, so nobody consumes.
    assert_eq!((&line["pool_max"], &line["consumers"]), (&5.into(), &0.into()), "{line}");
    assert!(line["pool_open"].as_u64().is_some_and(|open| (1..=5).contains(&open)), "{line}");

    let (Some(database), Some(vhost)) = (services::postgres(), services::rabbitmq()) else { return };
    let process = Program::serve("telemetry: {log: {format: json}}\n")
        .env("TRUNKLINE_DATA__STORE", database.url())
        .env("TRUNKLINE_DATA__POOL__MAX_CONNECTIONS", "4")
        .env("TRUNKLINE_DATA__RABBITMQ__URL", vhost.url())
        .start();
    process.wait_for_line(&["\"consumers\":", "\"pool_max\":4"]);
    // It connects in its own time; the line comes every minute, the metric whenever somebody asks.
    let deadline = std::time::Instant::now() + crate::app::PATIENCE;
    while !process.get("/metrics").await.text().contains("\nrabbitmq_consumers 1\n") {
        assert!(std::time::Instant::now() < deadline, "{}", process.get("/metrics").await.text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
