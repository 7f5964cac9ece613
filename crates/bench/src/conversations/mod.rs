//! The pipeline of vCons: what it costs to take one durably, and to bring it through a chain into a storage.
//!
//! Everything is asked of `trunkline serve` over HTTP, with the Conserver's own API and `config.yml`, as it was of the
//! Conserver.

mod client;
mod report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::client::{Client, TOKEN};
use self::report::{Row, Target, percentile};
use crate::Outcome;
use crate::gateway::process::{self, Process};
use crate::gateway::{cpu, trunkline};

/// The list that the chain takes from, and the one that it ends in.
const INGRESS: &str = "incoming";
const EGRESS: &str = "done";
/// How long a part of the run may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What `bench conversations` is told.
#[derive(clap::Args)]
pub struct Options {
    /// A short run, to see that all works; its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take the release program that is there.
    #[arg(long)]
    skip_build: bool,
    /// Take this program; a debug build tells nothing but that all works.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The links of the chain, in their order.
    #[arg(long, value_delimiter = ',', value_name = "LINK,…", default_values_t = ["tag".to_owned(), "jq".to_owned(), "sampler".to_owned()])]
    links: Vec<String>,
    /// Keep vCons and queues in this Redis alone, as the Conserver does.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Exit with 2 when a target is missed.
    #[arg(long)]
    pub gate: bool,
}

/// The links that a chain here can have.
const LINKS: &[(&str, &str)] = &[
    ("tag", "{module: links.tag, options: {tags: [bench]}}"),
    ("jq", "{module: links.jq_link, options: {filter: '.parties | length > 0', forward_matches: true}}"),
    ("sampler", "{module: links.sampler, options: {method: percentage, value: 100}}"),
];

/// What the Conserver was measured at (docs/benchmarks.md), by concurrency: posts a second, p50 and p99 in ms, CPU of
/// the API and of Redis in ms.
const CONSERVER: &[(usize, [f64; 4])] =
    &[(1, [300.0, 2.6, 14.7, 2.8]), (8, [491.0, 14.3, 40.0, 2.1]), (32, [581.0, 52.0, 93.0, 2.0])];

/// Measures and prints; whether no target was missed. An error means that the run is invalid.
pub fn run(options: &Options) -> Outcome<bool> {
    process::allow_open_files(8192)?;
    process::end_on_signal()?;
    let program = match (&options.program, options.skip_build) {
        (Some(program), _) => {
            program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?
        }
        (None, true) => trunkline::program()?,
        (None, false) => {
            trunkline::build()?;
            trunkline::program()?
        }
    };
    let dir = tempfile::Builder::new().prefix("trunkline-bench-").tempdir();
    let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
    let rows = match measure(options, &program, dir.path()) {
        Ok(rows) => rows,
        Err(reason) => {
            return Err(format!("{reason}\nlogs and settings of the run: {}", dir.keep().display()));
        }
    };
    println!("{}", report::table(&rows));
    println!("the Conserver's figures are of another run on a machine of two cores; compare CPU per vCon");
    if let Some(file) = &options.json {
        let report = serde_json::json!({"quick": options.quick, "links": options.links, "rows": rows});
        std::fs::write(file, format!("{report:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    let met = rows.iter().all(|row| row.met != Some(false));
    if !met {
        println!("one or more targets were missed");
    }
    Ok(met)
}

/// What `--ready-file` tells, as far as it matters here.
#[derive(Deserialize)]
struct Ready {
    url: String,
}

/// A server under test.
struct Server {
    process: Process,
    address: SocketAddr,
    files: PathBuf,
}

impl Server {
    fn start(options: &Options, program: &Path, dir: &Path) -> Outcome<Server> {
        let write = |name: &str, text: &str| {
            let file = dir.join(name);
            std::fs::write(&file, text)
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            Ok::<_, String>(file)
        };
        let files = dir.join("files");
        let config = write("config.yml", &configuration(&options.links, &files)?)?;
        let log = dir.join("trunkline.log");
        let settings = format!(
            "server: {{listen: \"127.0.0.1:0\", metrics: \"127.0.0.1:0\"}}\n\
             telemetry:\n  log: {{level: info, format: json, file: \"{}\"}}\n",
            log.display()
        );
        let (settings, ready) = (write("trunkline.yaml", &settings)?, dir.join("ready.json"));
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(settings).arg("--ready-file").arg(&ready);
        // Settings of whoever runs the benchmark must not change what is measured.
        command.arg("--data-dir").arg(dir.join("data")).current_dir(dir).env_clear();
        command.env("CONSERVER_CONFIG_FILE", config).env("CONSERVER_API_TOKEN", TOKEN);
        command.env("CONSERVER_VCON_CONCURRENCY", "16");
        if let Some(url) = &options.redis {
            command.env("REDIS_URL", url);
        }
        let mut process = Process::start("trunkline", &mut command, dir)?;
        let ready: Ready = process.wait_for(Duration::from_secs(30), || {
            serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
        })?;
        let address = ready.url.strip_prefix("http://").unwrap_or_default().trim_end_matches('/');
        let address =
            address.parse().map_err(|_| format!("not the http URL of an address: {}", ready.url))?;
        Ok(Server { process, address, files })
    }

    fn cpu(&self) -> Outcome<Duration> {
        cpu::used(&self.process.family()?)
    }
}

/// The Conserver's `config.yml`.
fn configuration(links: &[String], files: &Path) -> Outcome<String> {
    let mut text = "links:\n".to_owned();
    for link in links {
        let known = LINKS.iter().find(|(name, _)| name == link);
        let (name, options) =
            known.ok_or_else(|| format!("there is no link {link} here: tag, jq, sampler"))?;
        text.push_str(&format!("  {name}: {options}\n"));
    }
    text.push_str(&format!(
        "storages:\n  files: {{module: storage.file, options: {{path: \"{}\"}}}}\n\
         chains:\n  main: {{links: [{}], ingress_lists: [{INGRESS}], egress_lists: [{EGRESS}], storages: [files], enabled: 1}}\n",
        files.display(),
        links.join(", ")
    ));
    Ok(text)
}

/// A uuid by a number, of the version that vCons have.
fn uuid(number: usize) -> String {
    format!("019a0000-{:04x}-8000-9000-{number:012x}", number & 0xffff)
}

/// A vCon of 4.4 KB, as a call of six minutes: parties, recording by address, transcript.
fn vcon(number: usize) -> Vec<u8> {
    let words = "the customer asks about the invoice of last month and the agent explains each line of it "
        .repeat(41);
    let value = serde_json::json!({
        "vcon": "0.4.0", "uuid": uuid(number), "created_at": "2026-11-20T10:00:00+00:00", "subject": "A call",
        "parties": [
            {"tel": "+15551234567", "name": format!("Customer {number}"), "role": "customer"},
            {"mailto": "agent@example.com", "name": "Agent", "role": "agent"},
        ],
        "dialog": [{"type": "recording", "start": "2026-11-20T10:00:00+00:00", "duration": 361.5, "parties": [0, 1],
            "mediatype": "audio/wav", "url": format!("https://media.example.com/{number}.wav"),
            "content_hash": "sha512-GLy6IPaIUM1GqzZqfIPZlWjaDsNgNvZM0iCONNThnH0a75fhUM6cYzLZ5GynSURREvZwmOh54-2lRRieyj82UQ"}],
        "analysis": [{"type": "transcript", "dialog": 0, "vendor": "acme", "encoding": "json",
            "body": serde_json::json!({"text": words, "confidence": 0.98}).to_string()}],
        "attachments": [{"purpose": "tags", "encoding": "json", "body": "[\"queue:billing\",\"language:en\"]"}],
    });
    value.to_string().into_bytes()
}

fn measure(options: &Options, program: &Path, dir: &Path) -> Outcome<Vec<Row>> {
    let pick = |quick: usize, full: usize| if options.quick { quick } else { full };
    let server = Server::start(options, program, dir)?;
    let next = AtomicUsize::new(0);
    let mut rows = vec![Row::new("memory, idle", "MB", memory(&server)?, Some(154.0), None)];
    for (concurrency, conserver) in CONSERVER {
        let count = pick(100, 1000) * if *concurrency == 1 { 2 } else { 10 };
        rows.extend(posts(&server, *concurrency, count, &next, conserver)?);
    }
    rows.extend(pipeline(&server, pick(200, 2000), &next)?);
    rows.extend(end_to_end(&server, pick(20, 200), &next)?);
    rows.push(Row::new("memory, after all", "MB", memory(&server)?, None, None));
    Ok(rows)
}

fn memory(server: &Server) -> Outcome<f64> {
    Ok(cpu::resident(&server.process.family()?)? as f64 / 1e6)
}

/// Posts to durable, by so many connections at once; all that were taken must be there.
fn posts(
    server: &Server,
    concurrency: usize,
    count: usize,
    next: &AtomicUsize,
    conserver: &[f64; 4],
) -> Outcome<Vec<Row>> {
    let first = next.fetch_add(count, Ordering::Relaxed);
    let bodies: Vec<Vec<u8>> = (first..first + count).map(vcon).collect();
    let (taken, cpu_before, began) = (AtomicUsize::new(0), server.cpu()?, Instant::now());
    let results: Vec<Outcome<Vec<f64>>> = std::thread::scope(|scope| {
        let work = || {
            let mut client = Client::open(server.address)?;
            let mut times = Vec::new();
            while let Some(body) = bodies.get(taken.fetch_add(1, Ordering::Relaxed)) {
                let sent = Instant::now();
                client.ask("POST", "/api/vcon", body, 201)?;
                times.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            Ok(times)
        };
        let threads: Vec<_> = (0..concurrency).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err("a connection's thread panicked".to_owned());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), server.cpu()?.saturating_sub(cpu_before));
    let mut times: Vec<f64> = results.into_iter().collect::<Outcome<Vec<_>>>()?.concat();
    let mut client = Client::open(server.address)?;
    for number in (first..first + count).step_by((count / 20).max(1)) {
        client.ask("GET", &format!("/api/vcon/{}", uuid(number)), b"", 200)?;
    }
    let name = |what: &str| format!("{concurrency} connections: {what}");
    let (rate, cpu) = (count as f64 / elapsed, cpu.as_secs_f64() * 1e3 / count as f64);
    let least = (concurrency == 32).then_some(Target::AtLeast(5000.0));
    Ok(vec![
        Row::new(name("posts"), "/s", rate, Some(conserver[0]), least),
        Row::new(name("p50"), "ms", percentile(&mut times, 0.50), Some(conserver[1]), None),
        Row::new(name("p99"), "ms", percentile(&mut times, 0.99), Some(conserver[2]), None),
        Row::new(name("CPU per vCon"), "ms", cpu, Some(conserver[3]), Some(Target::AtMost(0.15))),
    ])
}

/// How many vCons are in a list.
fn depth(client: &mut Client, list: &str) -> Outcome<usize> {
    let answer = client.ask("GET", &format!("/api/vcon/count?egress_list={list}"), b"", 200)?;
    let text = String::from_utf8_lossy(&answer);
    text.trim().parse().map_err(|_| format!("the count of {list} is {text}"))
}

/// So many vCons that are here already, queued at once, through the chain into files. Each must be there, tagged.
fn pipeline(server: &Server, count: usize, next: &AtomicUsize) -> Outcome<Vec<Row>> {
    let first = next.fetch_add(count, Ordering::Relaxed);
    let mut client = Client::open(server.address)?;
    for number in first..first + count {
        client.ask("POST", "/api/vcon", &vcon(number), 201)?;
    }
    let before = depth(&mut client, EGRESS)?;
    let uuids: Vec<String> = (first..first + count).map(uuid).collect();
    let body = serde_json::json!(uuids).to_string();
    let (cpu_before, began) = (server.cpu()?, Instant::now());
    client.ask("POST", &format!("/api/vcon/ingress?ingress_list={INGRESS}"), body.as_bytes(), 204)?;
    while depth(&mut client, EGRESS)? < before + count {
        if began.elapsed() > LIMIT {
            let through = depth(&mut client, EGRESS)?.saturating_sub(before);
            return Err(format!("{through} of {count} vCons came through the chain within {LIMIT:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), server.cpu()?.saturating_sub(cpu_before));
    for uuid in &uuids {
        let file = server.files.join(format!("2026/11/20/{uuid}.json"));
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        if !text.contains("bench:bench") {
            return Err(format!("{} did not come through the chain", file.display()));
        }
    }
    let dead = client.ask("GET", &format!("/api/dlq?ingress_list={INGRESS}"), b"", 200)?;
    if dead != b"[]" {
        return Err(format!("dead letters: {}", String::from_utf8_lossy(&dead)));
    }
    client.ask(
        "GET",
        &format!("/api/vcon/egress?egress_list={EGRESS}&limit={}", before + count),
        b"",
        200,
    )?;
    let cpu = cpu.as_secs_f64() * 1e3 / count as f64;
    Ok(vec![
        Row::new(format!("{count} vCons through the chain"), "/s", count as f64 / elapsed, Some(95.6), None),
        Row::new("through the chain: CPU per vCon", "ms", cpu, Some(9.8), Some(Target::AtMost(0.4))),
    ])
}

/// From the post to the end of the chain, one vCon after the other.
fn end_to_end(server: &Server, count: usize, next: &AtomicUsize) -> Outcome<Vec<Row>> {
    let mut client = Client::open(server.address)?;
    let mut times = Vec::new();
    for _ in 0..count {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (body, sent) = (vcon(number), Instant::now());
        client.ask("POST", &format!("/api/vcon?ingress_lists={INGRESS}"), &body, 201)?;
        loop {
            let answer = client.ask("GET", &format!("/api/vcon/egress?egress_list={EGRESS}"), b"", 200)?;
            if String::from_utf8_lossy(&answer).contains(&uuid(number)) {
                break;
            }
            if sent.elapsed() > LIMIT {
                return Err(format!("a vCon did not come through the chain within {LIMIT:?}"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        times.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    let row = |what: &str, value, conserver| {
        Row::new(format!("post to egress: {what}"), "ms", value, Some(conserver), None)
    };
    Ok(vec![
        row("p50", percentile(&mut times, 0.50), 13.0),
        row("p95", percentile(&mut times, 0.95), 20.2),
        row("p99", percentile(&mut times, 0.99), 24.0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vcon_has_the_size_of_the_conserver_s_run() {
        let size = vcon(1).len();
        assert!((4300..=4500).contains(&size), "{size}");
    }

    #[test]
    fn the_configuration_names_what_it_is_asked_for() {
        let text = configuration(&["tag".into(), "jq".into()], Path::new("/files")).unwrap();
        assert!(text.contains("links: [tag, jq]") && text.contains("links.jq_link"), "{text}");
        assert!(configuration(&["brew".into()], Path::new("/files")).is_err());
    }
}
