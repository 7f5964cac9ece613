//! One case of the suite: played against the application, and checked on every side.

use serde_json::Value;
use testkit::{Behaviour, Fault, Response, Upstream, chat};

use super::expected::{Expectation, Name, Seen, Spent, expectation};
use super::{CHAT, INPUT_TOKENS, STREAMED, WHOLE, error_body, error_event, first_content};
use crate::app::{PATIENCE, TestApp, alias};

/// How the alias is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The faulty target alone.
    One,
    /// The faulty target, then a healthy one.
    Fallback,
}

/// A fault, where and how it is met.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub fault: Fault,
    pub setting: Setting,
    pub stream: bool,
}

/// The answer of the healthy target: another text than the faulty one's.
const FALLBACK: &str = "Hello from the fallback.";

/// One retry. Time is for a loaded machine to answer in; only what never answers uses it up.
const RESILIENCE: &str = "{retries: 1, backoff: 5ms, first_token_timeout: 1s, idle_timeout: 500ms, \
                           request_timeout: 3s}";

impl Case {
    /// Flapping takes several calls to be seen.
    fn calls(self) -> usize {
        if self.fault == Fault::Flapping { 3 } else { 1 }
    }

    fn body(self) -> &'static str {
        if self.stream { STREAMED } else { WHOLE }
    }
}

/// The application with its providers.
struct Scene {
    case: Case,
    expected: Expectation,
    app: TestApp,
    /// The faulty one, and the healthy one if there is one.
    upstreams: Vec<Upstream>,
}

/// Plays a case and checks what the client, the log, the metrics and the providers saw.
pub async fn play(case: Case) {
    let upstreams: Vec<Upstream> = match case.setting {
        Setting::One => vec![Upstream::start()],
        Setting::Fallback => vec![Upstream::start(), Upstream::start()],
    };
    let (script, after) = case.fault.script();
    upstreams[0].script(script);
    upstreams[0].set_default(after);
    if let Some(healthy) = upstreams.get(1) {
        healthy.set_default(Behaviour::ok_text(FALLBACK));
    }
    let urls: Vec<String> = upstreams.iter().map(Upstream::base_url).collect();
    let app = TestApp::start(&alias(&urls, RESILIENCE)).await;
    let mut scene = Scene { case, expected: expectation(case), app, upstreams };
    for call in 0..case.calls() {
        let id = format!("suite-{:?}-{:?}-{}-{call}", case.fault, case.setting, case.stream);
        scene.call(&id).await;
        scene.app.settle().await;
        scene.check_record(&id).await;
    }
    scene.check_metrics().await;
    scene.check_upstreams().await;
}

impl Scene {
    /// Makes the call, and checks what the client sees of it.
    async fn call(&self, id: &str) {
        let (app, case) = (&self.app, self.case);
        match &self.expected.seen {
            Seen::Left => self.leave(id).await,
            Seen::Answer(name) if case.stream => {
                let mut stream = app.stream(CHAT, id, STREAMED).await;
                let events = stream.collect(PATIENCE).await;
                assert_eq!(
                    (stream.status, events),
                    (200, self.good(*name).expected_events(false)),
                    "{case:?}"
                );
                assert!(stream.ended_cleanly() && stream.leftover().is_empty(), "{case:?}");
                assert_eq!(stream.header("x-trunkline-target"), Some(name.target()), "{case:?}");
            }
            Seen::Broken { events, message, code } => {
                let mut stream = app.stream(CHAT, id, STREAMED).await;
                let mut sent = chat::events(false);
                sent.truncate(*events);
                sent.push(error_event(message, code));
                let seen = stream.collect(PATIENCE).await;
                // Nothing after the error event: no `[DONE]`.
                assert_eq!((stream.status, seen), (200, sent), "{case:?}");
                assert!(stream.ended_cleanly() && stream.leftover().is_empty(), "{case:?}");
            }
            seen => {
                let answer = app.post(CHAT, id, case.body()).await;
                self.check_whole(seen, &answer);
            }
        }
    }

    fn check_whole(&self, seen: &Seen, answer: &Response) {
        let case = self.case;
        let (status, body, retry_after) = match seen {
            Seen::Answer(name) => (200, self.good(*name).expected_body(), None),
            Seen::Refusal { status } => (*status, case.fault.behaviour().expected_body(), None),
            Seen::Error { status, message, class, code, retry_after } => {
                (*status, error_body(message, class, None, code).into_bytes(), *retry_after)
            }
            Seen::Broken { .. } | Seen::Left => unreachable!("handled where they are read"),
        };
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        assert_eq!((answer.status, text(&answer.body)), (status, text(&body)), "{case:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{case:?}");
        assert_eq!(answer.header("retry-after"), retry_after, "{case:?}");
        let attempts = self.attempts().to_string();
        assert_eq!(answer.header("x-trunkline-attempts"), Some(attempts.as_str()), "{case:?}");
        assert_eq!(answer.header("x-trunkline-target"), Some(self.expected.seen.target()), "{case:?}");
    }

    /// Goes away: after the first content of a stream, else once the provider has the request.
    async fn leave(&self, id: &str) {
        if self.case.stream {
            let mut stream = self.app.stream(CHAT, id, STREAMED).await;
            first_content(&mut stream).await;
            stream.abort();
        } else {
            tokio::select! {
                answer = self.app.post(CHAT, id, WHOLE) => panic!("an answer: {answer:?}"),
                _ = self.upstreams[0].wait_for_requests(1, PATIENCE) => {}
            }
        }
    }

    fn good(&self, name: Name) -> Behaviour {
        match name {
            Name::A => Behaviour::ok(),
            Name::B => Behaviour::ok_text(FALLBACK),
        }
    }

    /// Of one call.
    fn attempts(&self) -> usize {
        (self.expected.asked.0 + self.expected.asked.1) / self.case.calls()
    }

    /// The access log: one line, and one warning for each attempt that failed.
    async fn check_record(&self, id: &str) {
        let (case, expected, seen) = (self.case, &self.expected, &self.expected.seen);
        let record = self.app.record(id).await;
        let text = |name: &str| record[name].as_str().map(str::to_owned);
        assert_eq!(text("outcome").as_deref(), Some(seen.outcome()), "{case:?} {record}");
        assert_eq!(text("error_type").as_deref(), expected.error_type, "{case:?} {record}");
        assert_eq!(text("routed_to").as_deref(), Some(seen.target()), "{case:?} {record}");
        assert_eq!(record["attempts"], self.attempts(), "{case:?} {record}");
        assert_eq!(record["status"], seen.status(case.stream), "{case:?} {record}");
        assert_eq!(record["stream"], case.stream, "{case:?} {record}");
        assert_eq!((text("model"), text("operation")), (Some("m".into()), Some("chat".into())));
        let first_token = case.stream && matches!(seen, Seen::Answer(_) | Seen::Broken { .. } | Seen::Left);
        assert_eq!(record["first_token_us"].is_u64(), first_token, "{case:?} {record}");
        let finish = matches!(seen, Seen::Answer(_)).then(|| "stop".to_owned());
        assert_eq!(text("finish_reason"), finish, "{case:?} {record}");
        let (input, output, estimated) = expected.spent.tokens();
        let usage = (&record["input_tokens"], &record["output_tokens"], &record["usage_estimated"]);
        assert_eq!(usage, (&input.into(), &output.into(), &estimated.into()), "{case:?} {record}");

        let lines = self.app.lines(id);
        let warned = lines.iter().filter(|line| line.contains(r#""attempt failed""#)).count();
        let failed: usize = expected.results.iter().filter(|(_, r, _)| *r != "ok").map(|(_, _, n)| n).sum();
        assert_eq!(warned, failed / case.calls(), "{case:?} {lines:#?}");
    }

    async fn check_metrics(&self) {
        let (case, app, seen) = (self.case, &self.app, &self.expected.seen);
        let of_call = [("operation", "chat"), ("target", seen.target()), ("outcome", seen.outcome())];
        let calls = case.calls() as f64;
        assert_eq!(app.metric("trunkline_calls_total", &of_call).await, calls, "{case:?}");
        assert_eq!(app.metric("trunkline_calls_total", &[]).await, calls, "{case:?}");

        for (name, result, count) in &self.expected.results {
            let labels = [("provider", name.provider()), ("model", name.model()), ("result", result)];
            let counted = app.metric("trunkline_attempts_total", &labels).await;
            assert_eq!(counted, *count as f64, "{case:?} {name:?} {result}");
        }
        let all: usize = self.expected.results.iter().map(|(_, _, count)| count).sum();
        assert_eq!(app.metric("trunkline_attempts_total", &[]).await, all as f64, "{case:?}");

        let (input, output, estimated) = self.expected.spent.tokens();
        let (source, other) = if estimated { ("estimate", "provider") } else { ("provider", "estimate") };
        for (kind, count) in [("input", input), ("output", output)] {
            let labels = [("type", kind), ("source", source)];
            let counted = app.metric("trunkline_tokens_total", &labels).await;
            assert_eq!(counted, count as f64 * calls, "{case:?} {kind}");
        }
        assert_eq!(app.metric("trunkline_tokens_total", &[("source", other)]).await, 0.0, "{case:?}");
        let first_tokens = app.metric("gen_ai_server_time_to_first_token_seconds_count", &[]).await;
        let streamed = !matches!(seen, Seen::Refusal { .. } | Seen::Error { .. }) && case.stream;
        assert_eq!(first_tokens, if streamed { calls } else { 0.0 }, "{case:?}");
    }

    /// How often each provider was asked, for which model, and how many answers we gave up.
    async fn check_upstreams(&self) {
        let (case, (a, b)) = (self.case, self.expected.asked);
        for (upstream, (name, count)) in self.upstreams.iter().zip([(Name::A, a), (Name::B, b)]) {
            let requests = upstream.requests();
            let models: Vec<Value> = requests.iter().map(|request| request.json()["model"].clone()).collect();
            assert_eq!(models, vec![Value::from(name.model()); count], "{case:?}");
        }
        if let Some(cancelled) = self.expected.cancelled {
            self.upstreams[0].wait_for_cancelled(cancelled, PATIENCE).await;
            assert_eq!(self.upstreams[0].cancelled(), cancelled, "{case:?}");
        }
    }
}

impl Spent {
    /// Input, output, and whether that is our estimate.
    fn tokens(&self) -> (u64, u64, bool) {
        match self {
            Spent::Nothing => (0, 0, false),
            Spent::Exact => (chat::PROMPT_TOKENS, chat::COMPLETION_TOKENS, false),
            Spent::Estimated { output } => (INPUT_TOKENS, *output, true),
        }
    }
}
