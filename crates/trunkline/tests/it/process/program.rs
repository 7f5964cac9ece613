//! A process of the program, with its output.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Client;

use crate::app::PATIENCE;

/// How often we look at what cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);

/// How the program is started. Nothing of the test's own environment reaches it.
pub struct Program {
    command: Command,
    dir: Arc<tempfile::TempDir>,
}

impl Program {
    /// `trunkline` with these arguments, in an empty folder.
    pub fn new(args: &[&str]) -> Self {
        Self::within(Arc::new(tempfile::tempdir().unwrap()), args)
    }

    /// The same, in a folder that is there already.
    pub fn within(dir: Arc<tempfile::TempDir>, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        command.args(args).env_clear().current_dir(dir.path()).stdin(Stdio::null());
        Program { command, dir }
    }

    /// `trunkline serve` on free ports, with this settings file. It drains for no longer than it must.
    pub fn serve(yaml: &str) -> Self {
        Self::serve_within(Arc::new(tempfile::tempdir().unwrap()), yaml)
    }

    /// The same, in a folder that is there already.
    pub fn serve_within(dir: Arc<tempfile::TempDir>, yaml: &str) -> Self {
        std::fs::write(dir.path().join("trunkline.yaml"), yaml).unwrap();
        let listen: &[&str] = if yaml.contains("listeners:") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let drain = if yaml.contains("drain_delay:") { &[][..] } else { &["TRUNKLINE_SERVER__DRAIN_DELAY"] };
        let program = Self::within(dir, &["serve", "--metrics", "127.0.0.1:0"]).args(listen);
        drain.iter().fold(program, |program, name| program.env(name, "0s"))
    }

    /// Further arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs it to its end, as commands that do not serve are.
    pub fn run(mut self) -> Finished {
        let output = self.command.output().unwrap();
        Finished {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Process {
        let path = self.dir.path().join("ready.json");
        let ready_file = path.clone();
        let args = ["--ready-file".into(), path.display().to_string()];
        let mut process = self.args(&args.each_ref().map(String::as_str)).spawn();
        let started = Instant::now();
        while !ready_file.exists() {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", process.output());
            }
            assert!(started.elapsed() < PATIENCE, "it is not ready: {}", process.output());
            std::thread::sleep(LOOK);
        }
        process.ready = serde_json::from_slice(&std::fs::read(&ready_file).unwrap()).unwrap();
        std::fs::rename(&ready_file, ready_file.with_extension("read")).unwrap();
        process
    }

    /// Starts it without waiting.
    pub fn spawn(mut self) -> Process {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Output::default(), Output::default());
        stdout.read(child.stdout.take().unwrap());
        stderr.read(child.stderr.take().unwrap());
        Process { child, ready: Value::Null, stdout, stderr, dir: self.dir }
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Finished {
    /// The exit code.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap()
    }
}

/// The program while it runs. Dropping it kills it.
pub struct Process {
    child: Child,
    /// What the ready file said.
    pub ready: Value,
    stdout: Output,
    stderr: Output,
    dir: Arc<tempfile::TempDir>,
}

impl Process {
    /// Where the API is.
    pub fn url(&self) -> String {
        self.ready["url"].as_str().unwrap().to_owned()
    }

    /// Where metrics are.
    pub fn metrics_url(&self) -> String {
        self.ready["metrics_url"].as_str().unwrap().to_owned()
    }

    /// A client for its API.
    pub fn client(&self) -> Client {
        Client::new(self.url())
    }

    /// The header with the virtual key of its first run.
    pub fn auth(&self) -> (&'static str, String) {
        ("authorization", format!("Bearer {}", self.ready["key"].as_str().unwrap()))
    }

    /// Gets a path without a key.
    pub async fn get(&self, path: &str) -> testkit::Response {
        self.client().get(path, &[]).await
    }

    /// A chat with this model.
    pub async fn chat(&self, model: &str) -> testkit::Response {
        let (name, value) = self.auth();
        self.client().post_json("/v1/chat/completions", &[(name, &value)], chat_body(model, false)).await
    }

    /// A streamed chat with this model.
    pub async fn stream(&self, model: &str) -> testkit::StreamResponse {
        let (name, value) = self.auth();
        self.client().stream("/v1/chat/completions", &[(name, &value)], chat_body(model, true)).await
    }

    /// Its folder.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The folder, to start it there again.
    pub fn folder(&self) -> Arc<tempfile::TempDir> {
        Arc::clone(&self.dir)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `INT`, `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until a line of its log has all these parts, and returns the line.
    pub fn wait_for_line(&self, parts: &[&str]) -> String {
        self.wait_for_lines(parts, 1).remove(0)
    }

    /// Waits until so many lines have all these parts.
    pub fn wait_for_lines(&self, parts: &[&str], count: usize) -> Vec<String> {
        let has = |line: &String| parts.iter().all(|part| line.contains(part));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.stderr.lines().into_iter().chain(self.stdout.lines());
            let found: Vec<_> = lines.filter(has).collect();
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < deadline, "{count} lines with {parts:?} in: {}", self.output());
            std::thread::sleep(LOOK);
        }
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lines()
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lines()
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end and for all of its output. The exit code; `None` when a signal killed it.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while self.runs() {
            assert!(Instant::now() < deadline, "it does not end: {}", self.output());
            std::thread::sleep(LOOK);
        }
        self.stdout.wait();
        self.stderr.wait();
        self.child.wait().unwrap().code()
    }

    /// Ends it as an orchestrator does. The exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    fn output(&self) -> String {
        format!("stdout {:#?}\nstderr {:#?}", self.stdout.lines(), self.stderr.lines())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended by itself in most tests.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a process that the test started.
pub fn signal(id: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name} {id}");
}

/// The body of a chat.
pub fn chat_body(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"stream":{stream}}}"#)
}

/// The lines of a pipe, read by a thread of its own so that the program never waits for us.
#[derive(Clone, Default)]
struct Output(Arc<(Mutex<Read>, Condvar)>);

/// What was read of a pipe so far.
#[derive(Default)]
struct Read {
    lines: Vec<String>,
    ended: bool,
}

impl Output {
    fn read(&self, pipe: impl std::io::Read + Send + 'static) {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                output.0.0.lock().unwrap().lines.push(text);
                line.clear();
            }
            output.0.0.lock().unwrap().ended = true;
            output.0.1.notify_all();
        });
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Waits for its end.
    fn wait(&self) {
        let state = self.0.0.lock().unwrap();
        let (_state, waited) = self.0.1.wait_timeout_while(state, PATIENCE, |read| !read.ended).unwrap();
        assert!(!waited.timed_out(), "the pipe of an ended program stays open");
    }
}
