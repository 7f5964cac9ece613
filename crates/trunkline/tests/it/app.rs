//! The whole application in process: on free ports, with a folder of its own.

use std::time::{Duration, Instant};

use ::telemetry::Capture;
use serde_json::Value;
use testkit::Client;
use trunkline::settings::{self, Env, Flags};
use trunkline::wire::App;

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running application. Dropping it fails the test when a call was left in flight.
pub struct TestApp {
    app: Option<App>,
    /// Where the API is.
    pub url: String,
    /// Where metrics are.
    pub metrics_url: String,
    /// The default virtual key.
    pub key: String,
    /// The admin key.
    pub admin_key: String,
    log: Capture,
    _dir: tempfile::TempDir,
}

impl TestApp {
    /// Starts with these settings. Addresses and the data folder are set for it.
    pub async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, []).await
    }

    /// The same with an environment.
    pub async fn start_with<const N: usize>(yaml: &str, env: [(&str, &str); N]) -> Self {
        let log = ::telemetry::capture();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trunkline.yaml");
        std::fs::write(&file, yaml).unwrap();
        let flags = Flags {
            listen: (!yaml.contains("listeners:")).then(|| "127.0.0.1:0".into()),
            metrics: Some("127.0.0.1:0".into()),
            data_dir: Some(dir.path().join("data").display().to_string()),
            roles: None,
        };
        // One worker: what a test sees of retries, pools and breakers is then one order of events.
        let defaults = [("TRUNKLINE_SERVER__THREADS", "1"), ("TRUNKLINE_SERVER__DRAIN_DELAY", "0s")];
        let env: Env = defaults.into_iter().chain(env).collect();
        let loaded = settings::load(Some(&file), &env, &flags).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>())
        });
        let app = App::start(loaded.settings, None).await.unwrap();
        let keys = app.first_run.as_ref().unwrap();
        TestApp {
            url: app.server.url(),
            metrics_url: app.server.metrics_url().unwrap(),
            key: keys.key.expose().to_owned(),
            admin_key: keys.admin_key.expose().to_owned(),
            app: Some(app),
            log,
            _dir: dir,
        }
    }

    /// The running application, for what a test changes while it runs.
    pub fn app(&mut self) -> &mut App {
        self.app.as_mut().unwrap()
    }

    /// A client for its API. Send [`TestApp::auth`] with each call.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// The header with the virtual key.
    pub fn auth(&self) -> (&'static str, String) {
        ("authorization", format!("Bearer {}", self.key))
    }

    /// Posts JSON with the virtual key and a request id, and reads the whole answer.
    pub async fn post(&self, path: &str, request_id: &str, body: impl AsRef<[u8]>) -> testkit::Response {
        let (name, value) = self.auth();
        let headers = [(name, value.as_str()), ("x-request-id", request_id)];
        self.client().post_json(path, &headers, body).await
    }

    /// The same, read as a stream.
    pub async fn stream(
        &self,
        path: &str,
        request_id: &str,
        body: impl AsRef<[u8]>,
    ) -> testkit::StreamResponse {
        let (name, value) = self.auth();
        let headers = [(name, value.as_str()), ("x-request-id", request_id)];
        self.client().stream(path, &headers, body).await
    }

    /// The one line in the log that accounts for a request, once it is there.
    pub async fn record(&self, request_id: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.log.find(request_id);
            let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut records: Vec<Value> = lines.filter(|line| line["message"] == "request").collect();
            match records.len() {
                1 => return records.remove(0),
                0 if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(5)).await,
                count => panic!("{count} records of {request_id}"),
            }
        }
    }

    /// Every line of the log that names a request.
    pub fn lines(&self, request_id: &str) -> Vec<String> {
        self.log.find(request_id)
    }

    /// The sum of the series of a metric that have all these labels, 0 when there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.metrics().await;
        let has = |line: &str| labels.iter().all(|(k, v)| line.contains(&format!("{k}=\"{v}\"")));
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = text.lines().filter(of_name).filter(|line| has(line));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The metrics as Prometheus reads them.
    pub async fn metrics(&self) -> String {
        Client::new(&self.metrics_url).get("/metrics", &[]).await.text().to_owned()
    }

    /// Waits until no call is in flight, as after a client went away.
    pub async fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.app().server.calls_in_flight() > 0 {
            assert!(Instant::now() < deadline, "a call is still in flight");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Stops as SIGTERM would. Returns how many calls were cut off.
    pub async fn stop(mut self) -> u32 {
        self.app.take().unwrap().shutdown().await
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(app) = self.app.take().filter(|_| !std::thread::panicking()) {
            // A whole answer is on the wire a moment before its account is closed.
            let deadline = Instant::now() + PATIENCE;
            while app.server.calls_in_flight() > 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(app.server.calls_in_flight(), 0, "the test left calls in flight");
        }
    }
}

/// Settings with one alias `m` that leads to these base URLs in order, as providers `a`, `b`, …
/// `resilience` is YAML in braces.
pub fn alias(base_urls: &[String], resilience: &str) -> String {
    let names: Vec<char> = ('a'..='z').take(base_urls.len()).collect();
    let mut yaml = "providers:\n".to_owned();
    for (name, url) in names.iter().zip(base_urls) {
        yaml += &format!(
            "  {name}: {{kind: openai-compatible, base_url: \"{url}\", api_key: sk-upstream-{name}-secret}}\n"
        );
    }
    let targets: Vec<String> = names.iter().map(|n| format!("{{provider: {n}, model: up-{n}}}")).collect();
    yaml += &format!("models:\n  m: {{targets: [{}]}}\n", targets.join(", "));
    yaml += &format!("resilience: {resilience}\n");
    yaml
}
