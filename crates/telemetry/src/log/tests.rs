use std::io::{self, Write};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tracing::field::Empty;
use tracing::{debug, error, info, trace, warn};

use super::line::Scratch;
use super::*;
use crate::settings::LogFormat::{Json, Text};

/// 2026-11-20T19:00:00.123456789Z.
fn instant() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_795_201_200, 123_456_789)
}

/// What a formatter makes of the events in `log`, at a fixed time.
fn lines(format: LogFormat, colour: bool, log: impl FnOnce()) -> Vec<String> {
    struct Golden(Formatter, Arc<Mutex<Vec<String>>>);
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Golden {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            let mut scratch = Scratch::default();
            // Twice, so that what is kept between lines is exercised.
            self.0.event(&mut scratch, instant(), event);
            self.1.lock().unwrap().push(self.0.event(&mut scratch, instant(), event).to_owned());
        }
    }
    let lines = Arc::default();
    let layer = Golden(Formatter::new(format, colour), Arc::clone(&lines));
    tracing::subscriber::with_default(Registry::default().with(layer), log);
    std::mem::take(&mut *lines.lock().unwrap())
}

fn one(format: LogFormat, log: impl FnOnce()) -> String {
    let mut lines = lines(format, false, log);
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot send")]
struct Outer(#[source] io::Error);

#[test]
fn a_json_line() {
    let line = one(Json, || {
        info!(target: "gateway", request_id = "req_1", status = 200u16, delta = -3, ok = true, took = 0.25,
              "model call done");
    });
    assert_eq!(
        line,
        "{\"timestamp\":\"2026-11-20T19:00:00.123456Z\",\"level\":\"INFO\",\"target\":\"gateway\",\
         \"message\":\"model call done\",\"request_id\":\"req_1\",\"status\":200,\"delta\":-3,\"ok\":true,\
         \"took\":0.25}\n"
    );
}

#[test]
fn json_values_keep_their_types_and_are_always_valid() {
    let outer = Outer(io::Error::other("refused"));
    let line = one(Json, || {
        error!(target: "t", nan = f64::NAN, inf = f64::INFINITY, big = u64::MAX, huge = u128::MAX, tiny = 1e-300,
               none = Option::<&str>::None, later = Empty, debug = ?[1, 2], "a \"b\"\n{}", "c");
    });
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["message"], "a \"b\"\nc");
    assert_eq!((&value["nan"], &value["inf"]), (&Value::Null, &Value::Null));
    assert_eq!(value["big"], json!(u64::MAX));
    assert_eq!(value["tiny"], json!(1e-300));
    assert_eq!(value["debug"], "[1, 2]");
    assert!(line.contains(&format!("\"huge\":{}", u128::MAX)));
    assert!(!line.contains("none") && !line.contains("later"));
    // An error is text, whatever it was given as; a key of the line itself is not written twice.
    let line =
        one(Json, || warn!(target: "t", error = &outer as &dyn std::error::Error, level = 9, r#type = "x"));
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["error"], "cannot send: refused");
    assert_eq!((&value["level"], &value["level_"], &value["type"]), (&json!("WARN"), &json!(9), &json!("x")));
    let value: Value = serde_json::from_str(&one(Json, || warn!(target: "t", error = 7, "m"))).unwrap();
    assert_eq!(value["error"], "7");
}

#[test]
fn a_text_line() {
    let line = one(Text, || info!(target: "gateway", path = "/v1", took = 1.5, who = ?"a b", "served {}", 1));
    assert_eq!(
        line,
        "2026-11-20T19:00:00.123Z  INFO gateway: served 1 path=/v1 took=1.5 who=\"\\\"a b\\\"\"\n"
    );
    let line = one(Text, || error!(target: "gateway", empty = "", pair = "a=b", n = 3u64, flag = false));
    assert_eq!(line, "2026-11-20T19:00:00.123Z ERROR gateway: empty=\"\" pair=\"a=b\" n=3 flag=false\n");
}

#[test]
fn colours_are_for_terminals() {
    let coloured = lines(Text, true, || warn!(target: "t", "m"));
    assert_eq!(coloured, ["\u{1b}[2m2026-11-20T19:00:00.123Z\u{1b}[0m  \u{1b}[33mWARN\u{1b}[0m t: m\n"]);
    assert!(!lines(Json, true, || warn!(target: "t", "m"))[0].contains('\u{1b}'));
}

#[test]
fn nobody_forges_a_line() {
    let hostile = "x\n2026-11-20T19:00:00.000Z  INFO gateway: paid\r\u{1b}[2K\u{9b}1A\u{2028}";
    for format in [Json, Text] {
        let line = one(format, || info!(target: "t", value = hostile, shown = %hostile, "said {hostile}"));
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        for c in ['\r', '\u{1b}', '\u{9b}', '\u{2028}'] {
            assert!(!line.contains(c), "{line:?}");
        }
    }
    let line = one(Json, || info!(target: "t", value = hostile));
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["value"], hostile);
}

#[test]
fn levels_are_checked() {
    for good in ["info", "INFO", "off", "info,gateway=debug", "warn, server=trace", "gateway=info", "3"] {
        check_level(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for bad in ["", " ", "inof", "info,gatway", "gateway=loud", "info,"] {
        let Err(Error::Level { level, .. }) = check_level(bad) else { panic!("{bad} was taken") };
        assert_eq!(level, bad);
    }
}

#[test]
fn the_level_changes_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let formatter = Formatter::new(Json, false);
    let writer = Writer::start(Box::new(open(&path).unwrap()), formatter).unwrap();
    let (filter, reload) = reload::Layer::new(parse_level("info").unwrap());
    let layer = FormatLayer::new(formatter, Output::Writer(Arc::clone(&writer)));
    let handle = LogHandle { writer, filter: reload };
    tracing::subscriber::with_default(Registry::default().with(filter).with(layer), || {
        let say = |n: u32| {
            debug!(target: "gateway", n, "debug");
            info!(target: "gateway", n, "info");
        };
        say(1);
        handle.set_level("warn,gateway=debug").unwrap();
        say(2);
        assert!(handle.set_level("nonsense").is_err());
        say(3);
        handle.set_level("error").unwrap();
        say(4);
    });
    handle.flush();
    let text = std::fs::read_to_string(&path).unwrap();
    let found: Vec<(String, u64)> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|value| (value["message"].as_str().unwrap().to_owned(), value["n"].as_u64().unwrap()))
        .collect();
    let expected = [("info", 1), ("debug", 2), ("info", 2), ("debug", 3), ("info", 3)];
    assert_eq!(found, expected.map(|(message, n)| (message.to_owned(), n)));
    assert_eq!(handle.dropped(), 0);
}

#[test]
fn a_log_file_is_private_and_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for text in ["one\n", "two\n"] {
        let writer = Writer::start(Box::new(open(&path).unwrap()), Formatter::new(Text, false)).unwrap();
        writer.push(text.as_bytes(), false);
        writer.flush();
        writer.close();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let missing = dir.path().join("no/such/log");
    assert!(matches!(open(&missing), Err(Error::LogFile { .. })));
}

/// A sink that a test opens and closes, and that can fail.
#[derive(Clone, Default)]
struct Gate {
    inner: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: bool,
    fail: Option<io::ErrorKind>,
    written: Vec<u8>,
    writes: usize,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.inner.0.lock().unwrap());
        self.inner.1.notify_all();
    }

    /// Waits until the thread is inside `write`.
    fn entered(&self) {
        let state = self.inner.0.lock().unwrap();
        drop(self.inner.1.wait_while(state, |state| !state.waiting).unwrap());
    }

    fn text(&self) -> String {
        String::from_utf8(self.inner.0.lock().unwrap().written.clone()).unwrap()
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.inner.0.lock().unwrap();
        state.waiting = true;
        self.inner.1.notify_all();
        let mut state = self.inner.1.wait_while(state, |state| !state.open).unwrap();
        state.waiting = false;
        state.writes += 1;
        if let Some(kind) = state.fail {
            return Err(kind.into());
        }
        state.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_does_not_fit_is_dropped_counted_and_told() {
    let gate = Gate::default();
    let writer = Writer::start(Box::new(gate.clone()), Formatter::new(Json, false)).unwrap();
    writer.push(b"first\n", true);
    gate.entered();
    // The thread is stuck in its write: the buffer fills up to its limit and not beyond.
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    let fits = writer::CAPACITY / line.len();
    for _ in 0..fits + 5 {
        writer.push(&line, false);
    }
    assert_eq!(writer.dropped(), 5);
    gate.set(|state| state.open = true);
    writer.flush();
    let text = gate.text();
    assert_eq!(text.lines().count(), 1 + fits + 1);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["level"], &last["dropped"]), (&json!("WARN"), &json!(5)));
    // Told once, and there is room again.
    writer.push(b"after\n", false);
    writer.flush();
    assert!(gate.text().ends_with("}\nafter\n"));
    writer.close();
}

#[test]
fn many_lines_are_one_write() {
    let gate = Gate::default();
    let writer = Writer::start(Box::new(gate.clone()), Formatter::new(Json, false)).unwrap();
    writer.push(b"first\n", true);
    gate.entered();
    for _ in 0..1000 {
        writer.push(b"line\n", false);
    }
    gate.set(|state| state.open = true);
    writer.flush();
    assert_eq!(gate.inner.0.lock().unwrap().writes, 2);
    assert_eq!(gate.text().lines().count(), 1001);
    writer.close();
}

#[test]
fn a_sink_that_fails_for_a_while_loses_lines_and_recovers() {
    let gate = Gate::default();
    gate.set(|state| (state.open, state.fail) = (true, Some(io::ErrorKind::StorageFull)));
    let writer = Writer::start(Box::new(gate.clone()), Formatter::new(Text, false)).unwrap();
    writer.push(b"lost\nlost\n", false);
    writer.flush();
    assert_eq!(writer.dropped(), 2);
    gate.set(|state| state.fail = None);
    writer.push(b"kept\n", false);
    writer.flush();
    let text = gate.text();
    assert!(text.starts_with("kept\n"), "{text}");
    assert!(text.ends_with(" WARN telemetry::log: log lines were dropped dropped=2\n"), "{text}");
    writer.close();
}

#[test]
fn a_closed_pipe_is_not_written_to_again() {
    let gate = Gate::default();
    gate.set(|state| (state.open, state.fail) = (true, Some(io::ErrorKind::BrokenPipe)));
    let writer = Writer::start(Box::new(gate.clone()), Formatter::new(Json, false)).unwrap();
    writer.push(b"lost\n", false);
    writer.flush();
    for _ in 0..100 {
        writer.push(b"lost\n", true);
    }
    writer.flush();
    assert_eq!(writer.dropped(), 101);
    assert_eq!(gate.inner.0.lock().unwrap().writes, 1);
    writer.close();
}

#[test]
fn lines_of_many_threads_stay_whole() {
    let gate = Gate::default();
    gate.set(|state| state.open = true);
    let writer = Writer::start(Box::new(gate.clone()), Formatter::new(Json, false)).unwrap();
    let (done, wait) = mpsc::channel();
    for thread in 0..4 {
        let (writer, done) = (Arc::clone(&writer), done.clone());
        std::thread::spawn(move || {
            for n in 0..500 {
                writer.push(format!("{thread} {n} end\n").as_bytes(), n % 100 == 0);
            }
            done.send(()).unwrap();
        });
    }
    (0..4).for_each(|_| wait.recv().unwrap());
    writer.flush();
    let text = gate.text();
    assert_eq!(text.lines().count(), 2000);
    assert!(text.lines().all(|line| line.ends_with(" end") && line.split(' ').count() == 3));
    writer.close();
}

#[test]
fn a_value_that_logs_while_it_is_formatted_does_no_harm() {
    struct Chatty;
    impl std::fmt::Debug for Chatty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            trace!(target: "inner", "inner line");
            f.write_str("chatty")
        }
    }
    let gate = Gate::default();
    gate.set(|state| state.open = true);
    let formatter = Formatter::new(Text, false);
    let writer = Writer::start(Box::new(gate.clone()), formatter).unwrap();
    let layer = FormatLayer::new(formatter, Output::Writer(Arc::clone(&writer)));
    tracing::subscriber::with_default(Registry::default().with(layer), || {
        info!(target: "outer", value = ?Chatty, "outer line");
    });
    writer.flush();
    assert!(gate.text().contains("INFO outer: outer line value=chatty\n"), "{}", gate.text());
    writer.close();
}

#[test]
fn a_capture_finds_the_lines_of_a_request() {
    let log = capture();
    info!(target: "gateway", request_id = "req_capture", "one");
    trace!(target: "gateway", request_id = "req_capture", "two");
    trace!(target: "hyper", request_id = "req_capture", "not ours");
    info!(target: "gateway", request_id = "req_capture_2", "another");
    let found = log.find("req_capture");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("\"message\":\"two\"") && !found[1].ends_with('\n'));
    assert!(log.lines().len() >= 3);
    // The process has its log now.
    assert!(matches!(init(&LogSettings::default()), Err(Error::Installed)));
}
