//! The alerts of Conduit's guide, judged by Prometheus' own program on the series that we expose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testkit::{Behaviour, Client, Upstream, services};

use crate::app::PATIENCE;
use crate::money::yaml;
use crate::process::program::{Process, Program};

/// Series with their values, as they were scraped.
type Series = BTreeMap<String, f64>;

async fn scrape(process: &Process) -> (String, Series) {
    let text = Client::new(process.url()).get("/metrics", &[]).await.text().to_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    let series = series.collect();
    (text, series)
}

/// The labels of a series, without its braces.
fn labels(series: &str) -> BTreeMap<&str, &str> {
    let Some((_, rest)) = series.split_once('{') else { return BTreeMap::new() };
    let pairs = rest.trim_end_matches('}').split("\",").map(|pair| pair.trim_end_matches('"'));
    pairs.filter_map(|pair| pair.split_once("=\"")).collect()
}

fn promtool(program: &Path, args: &[&str], dir: &Path, input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// An alert that must fire.
struct Firing<'a> {
    alert: &'a str,
    severity: &'a str,
    summary: &'a str,
    labels: Vec<BTreeMap<&'a str, &'a str>>,
}

/// A file for `promtool test rules`: an hour of these series, and after 20 minutes just these alerts.
fn rules_test(alerts: &str, series: &BTreeMap<String, String>, firing: &[Firing<'_>]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut file =
        format!("rule_files: [{}]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n", quoted(alerts));
    file += "    input_series:\n";
    for (name, values) in series {
        writeln!(file, "      - {{series: {}, values: {}}}", quoted(name), quoted(values)).unwrap();
    }
    file += "    alert_rule_test:\n";
    for one in firing {
        writeln!(file, "      - eval_time: 20m\n        alertname: {}\n        exp_alerts:", one.alert)
            .unwrap();
        for labels in &one.labels {
            let all = labels.iter().map(|(name, value)| format!("{name}: {}", quoted(value)));
            let all: Vec<String> = all.chain([format!("severity: {}", one.severity)]).collect();
            writeln!(file, "          - exp_labels: {{{}}}", all.join(", ")).unwrap();
            writeln!(file, "            exp_annotations: {{summary: {}}}", quoted(one.summary)).unwrap();
        }
        if one.labels.is_empty() {
            file.truncate(file.trim_end().len());
            file += " []\n";
        }
    }
    file
}

/// Mutation: a metric that is renamed, or loses its label `status` or its buckets, leaves its alert without series.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_c08_the_guides_rules_fire_on_the_series_that_are_exposed() {
    let Some(program) = services::tool("promtool") else { return };
    let (Some(database), Some(vhost)) = (services::postgres(), services::rabbitmq()) else { return };
    let upstream = Upstream::start();
    let process = Program::serve(&yaml(&upstream, ""))
        .env("TRUNKLINE_DATA__STORE", database.url())
        .env("CONDUITLLM__DATABASE__MAXPOOLSIZE", "5")
        .env("TRUNKLINE_DATA__RABBITMQ__URL", vhost.url())
        .start();
    let deadline = Instant::now() + PATIENCE;
    let mut before = scrape(&process).await;
    while !before.1.keys().any(|name| name.starts_with("rabbitmq_queue_messages{")) {
        assert!(Instant::now() < deadline, "no depth of a queue: {}", before.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        before = scrape(&process).await;
    }
    upstream.set_default(Behaviour::delay(Duration::from_millis(1_100), Behaviour::error(500, None)));
    let calls: Vec<_> = (0..12).map(|_| process.chat("m")).collect();
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 502);
    }
    let (text, after) = scrape(&process).await;
    assert_eq!(after["postgres_connections_max"], 5.0);

    // Each minute as the one in which the calls failed; queues and connections at their limits.
    let starts = |names: &'static [&'static str]| {
        move |(series, _): &(&String, &f64)| names.iter().any(|name| series.starts_with(name))
    };
    let counted =
        after.iter().filter(starts(&["http_requests_total{", "http_request_duration_seconds_bucket{"]));
    let minutes = |(series, value): (&String, &f64)| {
        let step = value - before.1.get(series).copied().unwrap_or_default();
        (series.clone(), format!("0+{step}x60"))
    };
    let mut busy: BTreeMap<String, String> = counted.map(minutes).collect();
    let mut quiet: BTreeMap<String, String> =
        busy.keys().map(|series| (series.clone(), "7x60".to_owned())).collect();
    let gauges = ["rabbitmq_queue_messages{", "postgres_connections_active", "postgres_connections_max"];
    let gauges: Vec<_> =
        after.iter().filter(|(series, _)| gauges.iter().any(|name| series.starts_with(name))).collect();
    assert_eq!(gauges.len(), 3, "{gauges:?}");
    for (series, value) in &gauges {
        let full = if series.starts_with("rabbitmq") { 1_001.0 } else { 5.0 };
        busy.insert((*series).clone(), format!("{full}x60"));
        quiet.insert((*series).clone(), format!("{value}x60"));
    }
    let failed: Vec<_> = after
        .keys()
        .filter(|name| name.starts_with("http_requests_total{") && name.contains("status=\"502\""))
        .map(|name| labels(name))
        .collect();
    assert_eq!((failed.len(), failed[0]["route"]), (1, "/v1/chat/completions"));
    let slow = BTreeMap::from([("method", "POST"), ("route", "/v1/chat/completions")]);
    let queue: Vec<_> =
        gauges.iter().filter(|(name, _)| name.contains("rabbit")).map(|(name, _)| labels(name)).collect();
    let summary = |alert: &str| {
        let rules = crate::house::text("deploy/prometheus/alerts.yml");
        let of = rules.split_once(&format!("alert: {alert}\n")).unwrap().1;
        of.split_once("summary: ").unwrap().1.lines().next().unwrap().to_owned()
    };
    let [errors, latency, depth, connections] =
        ["HighErrorRate", "HighLatency", "RabbitMQQueueDepth", "DatabaseConnections"].map(summary);
    let expected = |fires: bool| {
        let when = |labels: Vec<BTreeMap<_, _>>| if fires { labels } else { Vec::new() };
        let one =
            |alert, severity, summary, labels| Firing { alert, severity, summary, labels: when(labels) };
        [
            one("HighErrorRate", "critical", errors.as_str(), failed.clone()),
            one("HighLatency", "warning", latency.as_str(), vec![slow.clone()]),
            one("RabbitMQQueueDepth", "warning", depth.as_str(), queue.clone()),
            one("DatabaseConnections", "warning", connections.as_str(), vec![BTreeMap::new()]),
        ]
    };
    let deploy = crate::house::root().join("deploy/prometheus");
    let rules = deploy.join("alerts.yml").display().to_string();
    let dir = tempfile::tempdir().unwrap();
    for (name, series, fires) in [("busy.yml", &busy, true), ("quiet.yml", &quiet, false)] {
        std::fs::write(dir.path().join(name), rules_test(&rules, series, &expected(fires))).unwrap();
        let tested = promtool(&program, &["test", "rules", name], dir.path(), "");
        let file = std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(tested.status.success(), "{}\n{file}", String::from_utf8_lossy(&tested.stderr));
    }
    let checked = promtool(&program, &["check", "config", "prometheus.yml"], &deploy, "");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    // 3 says that it would name something otherwise; that it can be read is what counts.
    let read = promtool(&program, &["check", "metrics"], dir.path(), &text);
    assert!(matches!(read.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&read.stderr));
}

/// V11: the four alerts of the Conserver's guide. Mutation: `conserver_ingress_list_length` without its label `kind`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_v11_the_guides_alerts_fire_on_the_series_that_are_exposed() {
    let Some(program) = services::tool("promtool") else { return };
    let chains = "conversations: {access: open, chains: {main: {links: [], ingress_lists: [calls]}}}\n";
    let process = Program::serve(chains).start();
    let vcon = r#"{"vcon":"0.4.0","uuid":"018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11","created_at":"2026-11-20"}"#;
    assert_eq!(process.client().post_json("/vcon", &[], vcon).await.status, 201);
    let deadline = Instant::now() + PATIENCE;
    let mut seen = scrape(&process).await;
    while !seen.1.keys().any(|name| name.starts_with("conserver_ingress_list_length{")) {
        assert!(Instant::now() < deadline, "no length of a list: {}", seen.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = scrape(&process).await;
    }
    let one = |starts: &str, holds: &str| {
        let found = seen.1.keys().find(|name| name.starts_with(starts) && name.contains(holds));
        found.unwrap_or_else(|| panic!("no {starts} with {holds}: {}", seen.0)).clone()
    };
    let waiting = one("conserver_ingress_list_length{", "kind=\"ingress\"");
    let dead = one("conserver_ingress_list_length{", "kind=\"dlq\"");
    let fine = one("http_requests_total{", "route=\"/vcon\"");
    let failed = fine.replace("\"201\"", "\"503\"");
    let buckets: Vec<String> = seen
        .1
        .keys()
        .filter(|name| {
            name.starts_with("http_request_duration_seconds_bucket{") && name.contains("\"/vcon\"")
        })
        .cloned()
        .collect();
    let bound = |name: &str| labels(name)["le"].parse::<f64>().unwrap_or(f64::INFINITY);
    let series = |depth: u32, letters: u32, errors: u32, slow: f64| {
        let mut all = BTreeMap::from([
            (waiting.clone(), format!("{depth}x60")),
            (dead.clone(), format!("{letters}x60")),
            (fine.clone(), "0+100x60".to_owned()),
            (failed.clone(), format!("0+{errors}x60")),
        ]);
        all.extend(buckets.iter().map(|name| {
            let count = if bound(name) > slow { 100 } else { 0 };
            (name.clone(), format!("0+{count}x60"))
        }));
        all
    };
    let rules = crate::house::text("deploy/prometheus/conserver-alerts.yml");
    let summary = |alert: &str| {
        let of = rules.split_once(&format!("alert: {alert}\n")).unwrap().1;
        of.split_once("summary: ").unwrap().1.lines().next().unwrap().to_owned()
    };
    let names = ["VconQueueDepth", "VconDeadLetters", "VconApiLatency", "VconApiErrors"];
    let summaries = names.map(summary);
    let place = crate::house::root().join("deploy/prometheus/conserver-alerts.yml").display().to_string();
    let dir = tempfile::tempdir().unwrap();
    for (name, series, fires) in
        [("busy.yml", series(1_001, 101, 6, 5.0), true), ("quiet.yml", series(1_000, 100, 5, 0.5), false)]
    {
        let found =
            [vec![labels(&waiting)], vec![labels(&dead)], vec![BTreeMap::new()], vec![BTreeMap::new()]];
        let firing: Vec<Firing<'_>> = names
            .iter()
            .zip(["warning", "critical", "warning", "critical"])
            .zip(&summaries)
            .zip(found)
            .map(|(((alert, severity), summary), labels)| Firing {
                alert,
                severity,
                summary,
                labels: if fires { labels } else { Vec::new() },
            })
            .collect();
        std::fs::write(dir.path().join(name), rules_test(&place, &series, &firing)).unwrap();
        let tested = promtool(&program, &["test", "rules", name], dir.path(), "");
        let file = std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(tested.status.success(), "{}\n{file}", String::from_utf8_lossy(&tested.stderr));
    }
}
