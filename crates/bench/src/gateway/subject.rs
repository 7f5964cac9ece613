//! What is measured: a system under load, what it has been sent, and whether its own records agree.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cpu;
use super::load::{Connection, Run};
use super::process::Process;
use crate::Outcome;

/// Log writers may lag behind the answers by so much.
const LOG_PATIENCE: Duration = Duration::from_secs(15);

/// Whom the requests go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// The mock provider itself.
    Direct,
    /// nginx in front of it.
    Nginx,
    /// Trunkline in front of it.
    Trunkline,
}

impl System {
    /// Every system, in the order of the table's columns.
    pub const ALL: [System; 3] = [System::Direct, System::Nginx, System::Trunkline];

    /// Its name in the output.
    pub fn name(self) -> &'static str {
        match self {
            System::Direct => "direct",
            System::Nginx => "nginx",
            System::Trunkline => "trunkline",
        }
    }
}

/// A running system.
pub struct Subject {
    /// Which one.
    pub system: System,
    /// Where it takes requests.
    pub address: SocketAddr,
    process: Option<Process>,
    log: Option<Log>,
    metrics: Option<SocketAddr>,
    /// Requests it has answered.
    sent: u64,
}

impl Subject {
    /// `process` is `None` for the direct way, whose cost is not of interest.
    pub fn new(
        system: System,
        address: SocketAddr,
        process: Option<Process>,
        log: Option<Log>,
        metrics: Option<SocketAddr>,
    ) -> Self {
        Subject { system, address, process, log, metrics, sent: 0 }
    }

    /// Its processes; none for the direct way.
    pub fn pids(&self) -> Outcome<Vec<u32>> {
        self.process.as_ref().map_or(Ok(Vec::new()), Process::family)
    }

    /// Puts a load on it: what the load gave, and the microseconds of CPU that each request cost.
    pub fn measure(&mut self, load: impl FnOnce(SocketAddr) -> Outcome<Run>) -> Outcome<(Run, Option<f64>)> {
        let pids = self.pids()?;
        let before = cpu::used(&pids)?;
        let run = load(self.address).map_err(|error| format!("{}: {error}", self.system.name()))?;
        let spent = cpu::used(&pids)? - before;
        self.count(run.sent);
        let each = spent.as_secs_f64() * 1e6 / run.sent as f64;
        Ok((run, (!pids.is_empty()).then_some(each)))
    }

    /// Notes that it answered `requests` more.
    pub fn count(&mut self, requests: u64) {
        self.sent += requests;
    }

    /// Fails unless its log and its metrics tell of exactly the requests it answered.
    pub fn audit(&mut self) -> Outcome<()> {
        let sent = self.sent;
        let name = self.system.name();
        if let Some(log) = &mut self.log {
            let lines = log.count_until(sent)?;
            if lines != sent {
                return Err(format!("{name} answered {sent} requests and logged {lines} of them"));
            }
        }
        if let Some(metrics) = self.metrics {
            let request = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/plain\r\n\r\n";
            let text = Connection::open(metrics)?.fetch(request.as_bytes());
            let text = text.map_err(|error| format!("{name}'s metrics: {error}"))?;
            let counted = counted(&String::from_utf8_lossy(&text));
            // It may count the scrape itself.
            if counted != Some(sent) && counted != Some(sent + 1) {
                let counted = counted.map_or("nothing".into(), |count| count.to_string());
                return Err(format!(
                    "{name} answered {sent} requests and http_requests_total says {counted}"
                ));
            }
        }
        Ok(())
    }
}

/// The sum of `http_requests_total` over its labels but those of the admin API, in Prometheus's text format; `None`
/// when it is not there.
fn counted(text: &str) -> Option<u64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("http_requests_total")?;
        let value = match rest.strip_prefix('{') {
            Some(labels) if labels.contains("route=\"/api/") => return None,
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0) + value as u64))
}

/// A growing log file, in which the lines of requests are counted.
pub struct Log {
    path: PathBuf,
    is_request: fn(&str) -> bool,
    reader: Option<BufReader<File>>,
    line: String,
    count: u64,
}

impl Log {
    /// `is_request` tells the line of a request from others.
    pub fn new(path: PathBuf, is_request: fn(&str) -> bool) -> Self {
        Log { path, is_request, reader: None, line: String::new(), count: 0 }
    }

    /// Reads until `wanted` lines were counted and the file has no more, or patience ends; what was counted.
    fn count_until(&mut self, wanted: u64) -> Outcome<u64> {
        let started = Instant::now();
        loop {
            self.read().map_err(|error| format!("cannot read {}: {error}", self.path.display()))?;
            if self.count >= wanted || started.elapsed() > LOG_PATIENCE {
                return Ok(self.count);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads to the end of the file. A line without its end yet is kept for the next time.
    fn read(&mut self) -> std::io::Result<()> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(BufReader::new(File::open(&self.path)?)),
        };
        while reader.read_line(&mut self.line)? > 0 {
            if self.line.ends_with('\n') {
                self.count += u64::from((self.is_request)(&self.line));
                self.line.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# TYPE http_requests_total counter\n\
                    http_requests_total{status=\"200\",path=\"/v1/{x}\"} 40\n\
                    http_requests_total{route=\"/api/keys\",status=\"201\"} 5\n\
                    http_requests_total{status=\"500\"} 2 1750000000\n\
                    http_requests_total_more 7\nother{http_requests_total=\"1\"} 9\n";
        assert_eq!(counted(text), Some(42));
        assert_eq!(counted("http_requests_total 5\n"), Some(5));
        assert_eq!(counted("other 5\n"), None);
    }

    #[test]
    fn a_log_is_counted_as_it_grows() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::create(&path).unwrap();
        let mut log = Log::new(path, |line| line.starts_with("request"));
        file.write_all(b"request 1\nother\nreq").unwrap();
        assert_eq!(log.count_until(1), Ok(1));
        file.write_all(b"uest 2\nrequest 3\n").unwrap();
        assert_eq!(log.count_until(2), Ok(3));
    }
}
