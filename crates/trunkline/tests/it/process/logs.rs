//! Where the log goes, and what is in it.

use serde_json::Value;
use testkit::{Behaviour, Upstream};

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

#[test]
fn the_status_line_tells_memory_and_connections() {
    let process = Program::serve("").env("LOG_FORMAT", "json").start();
    let line: Value = serde_json::from_str(&process.wait_for_line(&["memory", "connection"])).unwrap();
    assert!(line["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{line}");
    assert!(line["connections"].is_u64() && line["calls_in_flight"] == 0, "{line}");
}
