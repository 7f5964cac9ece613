//! What happens within a stream: before its first content, at its end, and when it takes too long.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Behaviour, Cut, Ending, Piece, Reply, chat};

use super::{CHAT, INPUT_TOKENS, STREAMED, error_event, upstream};
use crate::app::{PATIENCE, TestApp, alias};

const BROKEN: (&str, &str) = ("The provider's answer broke off.", "stream_broken");
const TWO_CHOICES: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"n":2}"#;
const WITH_USAGE: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#;

/// A stream of these events, with this ending.
fn events(name: &str, events: Vec<String>, ending: Ending) -> Behaviour {
    Behaviour::custom(name, move |_| Reply { ending, ..Reply::events(events.clone()) })
}

/// The usual stream with so many bytes of comments after its role, then so many of its other events.
fn commented(bytes: usize, rest: usize, ending: Ending) -> Behaviour {
    let mut all = chat::events(false);
    all.truncate(1 + rest);
    let comment = format!(": {}", "x".repeat(1020));
    all.splice(1..1, vec![comment; bytes / 1024]);
    events("commented", all, ending)
}

/// A chunk of choice `index`.
fn choice(index: usize, delta: &str, finish: Option<&str>) -> String {
    chat::chunk(delta, finish).replace(r#""index":0"#, &format!(r#""index":{index}"#))
}

async fn collect(app: &TestApp, id: &str, body: &str) -> Vec<String> {
    let mut stream = app.stream(CHAT, id, body).await;
    assert_eq!(stream.status, 200, "{id}");
    let events = stream.collect(PATIENCE).await;
    assert!(stream.ended_cleanly() && stream.leftover().is_empty(), "{id}: {events:?}");
    events
}

#[tokio::test]
async fn what_comes_before_the_first_content_is_held_and_then_forwarded_whole() {
    let a = upstream(commented(8 << 10, 7, Ending::Complete));
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let seen = collect(&app, "held-whole", STREAMED).await;
    assert_eq!(seen, commented(8 << 10, 7, Ending::Complete).expected_events(false));
    assert_eq!(app.record("held-whole").await["outcome"], "ok");
}

#[tokio::test]
async fn what_breaks_while_it_is_held_is_hidden() {
    let held = [
        commented(60 << 10, 0, Ending::Complete),
        commented(60 << 10, 0, Ending::Reset),
        Behaviour::cut_after_events(1, Cut::Reset),
        Behaviour::cut_after_events(1, Cut::ChunkedEnd),
        Behaviour::cut_after_events(0, Cut::ChunkedEnd),
        Behaviour::error_event_after(0),
        Behaviour::error_event_after(1),
        Behaviour::malformed_chunk_after(1),
        Behaviour::ignores_stream(),
        Behaviour::not_json(),
        Behaviour::raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-str"),
    ];
    for (n, behaviour) in held.into_iter().enumerate() {
        let (a, b) = (upstream(behaviour.clone()), upstream(Behaviour::ok()));
        let settings = "{retries: 1, backoff: 1ms}";
        let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], settings)).await;
        let id = format!("hidden-{n}");
        let mut stream = app.stream(CHAT, &id, STREAMED).await;
        assert_eq!(stream.header("x-trunkline-target"), Some("b/up-b"), "{behaviour:?}");
        assert_eq!(stream.collect(PATIENCE).await, chat::events(false), "{behaviour:?}");
        assert_eq!((a.requests().len(), b.requests().len()), (2, 1), "{behaviour:?}");
        let record = app.record(&id).await;
        assert_eq!((&record["outcome"], &record["output_tokens"]), (&"ok".into(), &7.into()));

        // With nobody to fall back to, the status still tells the truth.
        let alone = TestApp::start(&alias(&[a.base_url()], settings)).await;
        let answer = alone.post(CHAT, &format!("{id}-alone"), STREAMED).await;
        assert_eq!((answer.status, super::code(&answer)), (502, "upstream_failed".into()), "{behaviour:?}");
    }
}

#[tokio::test]
async fn no_more_than_64_kib_are_held() {
    let (a, b) = (upstream(commented(80 << 10, 0, Ending::Silence)), upstream(Behaviour::ok()));
    let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{idle_timeout: 500ms}")).await;
    let seen = collect(&app, "held-much", STREAMED).await;
    let mut sent = commented(80 << 10, 0, Ending::Silence).expected_events(false);
    sent.push(error_event("The provider fell silent.", "stream_stalled"));
    assert_eq!(seen.len(), sent.len());
    assert!(seen == sent, "what was held is forwarded, then the break is told");
    assert_eq!(b.requests().len(), 0, "what was sent cannot be taken back");
    assert_eq!(app.record("held-much").await["outcome"], "failed");
}

#[tokio::test]
async fn what_breaks_after_the_first_content_is_told_in_our_words() {
    let broken = [
        Behaviour::cut_after_events(4, Cut::Clean),
        Behaviour::cut_after_events(4, Cut::Reset),
        Behaviour::cut_after_events(4, Cut::ChunkedEnd),
        Behaviour::error_event_after(4),
        Behaviour::malformed_chunk_after(4),
    ];
    for (n, behaviour) in broken.into_iter().enumerate() {
        let (a, b) = (upstream(behaviour.clone()), upstream(Behaviour::ok()));
        let app = TestApp::start(&alias(&[a.base_url(), b.base_url()], "{}")).await;
        let id = format!("told-{n}");
        let mut sent = chat::events(false)[..4].to_vec();
        sent.push(error_event(BROKEN.0, BROKEN.1));
        assert_eq!(collect(&app, &id, STREAMED).await, sent, "{behaviour:?}");
        assert_eq!(b.requests().len(), 0, "{behaviour:?}");
        let record = app.record(&id).await;
        assert_eq!((&record["outcome"], &record["error_type"]), (&"failed".into(), &BROKEN.1.into()));
        assert_eq!(record["status"], 200);
        let used = (&record["input_tokens"], &record["output_tokens"], &record["usage_estimated"]);
        assert_eq!(used, (&INPUT_TOKENS.into(), &3.into(), &true.into()), "{behaviour:?}");
    }
}

#[tokio::test]
async fn what_the_provider_says_of_an_error_goes_to_the_log() {
    let a = upstream(Behaviour::error_event_after(4));
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let seen = collect(&app, "said", STREAMED).await;
    assert!(seen.iter().all(|event| !event.contains(chat::ERROR_EVENT_MESSAGE)), "{seen:?}");
    let record = app.record("said").await;
    assert!(record["error"].as_str().unwrap().contains(chat::ERROR_EVENT_MESSAGE), "{record}");
}

#[tokio::test]
async fn every_choice_must_have_come_to_its_end() {
    let hello = r#"{"content":"Hello"}"#;
    let both = vec![choice(0, hello, None), choice(1, hello, None), choice(0, "{}", Some("stop"))];
    let mut whole = both.clone();
    whole.push(choice(1, "{}", Some("length")));
    let a = upstream(Behaviour::ok());
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;

    a.script([events("one of two", both.clone(), Ending::Complete)]);
    let mut sent = both;
    sent.push(error_event(BROKEN.0, BROKEN.1));
    assert_eq!(collect(&app, "choices-one", TWO_CHOICES).await, sent);
    assert_eq!(app.record("choices-one").await["outcome"], "failed");

    a.script([events("both", whole.clone(), Ending::Complete)]);
    whole.push(chat::DONE.to_owned());
    assert_eq!(collect(&app, "choices-two", TWO_CHOICES).await, whole);
    let record = app.record("choices-two").await;
    assert_eq!((&record["outcome"], &record["finish_reason"]), (&"ok".into(), &"length".into()));
}

#[tokio::test]
async fn usage_that_the_client_wants_and_the_provider_does_not_send_is_counted_and_says_so() {
    let a = upstream(Behaviour::without_usage());
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    let mut seen = collect(&app, "usage-wanted", WITH_USAGE).await;
    let mut sent = chat::events(false);
    let (last, usage) = (seen.pop().unwrap(), seen.pop().unwrap());
    assert_eq!((last, sent.pop().unwrap().as_str()), (chat::DONE.to_owned(), chat::DONE));
    assert_eq!(seen, sent);
    let usage: Value = serde_json::from_str(usage.strip_prefix("data: ").unwrap()).unwrap();
    let output = 5;
    let counted = json!({
        "prompt_tokens": INPUT_TOKENS, "completion_tokens": output, "total_tokens": INPUT_TOKENS + output,
        "estimated": true,
    });
    assert_eq!((&usage["usage"], &usage["choices"]), (&counted, &json!([])));
    assert_eq!((&usage["object"], &usage["model"]), (&"chat.completion.chunk".into(), &chat::MODEL.into()));

    // The same is recorded, also where nobody wanted to see it.
    assert_eq!(collect(&app, "usage-unwanted", STREAMED).await, chat::events(false));
    let whole = app.post(CHAT, "usage-whole", super::WHOLE).await;
    assert_eq!(whole.body, Behaviour::without_usage().expected_body());
    for id in ["usage-wanted", "usage-unwanted", "usage-whole"] {
        let record = app.record(id).await;
        let used = (&record["input_tokens"], &record["output_tokens"], &record["usage_estimated"]);
        assert_eq!(used, (&INPUT_TOKENS.into(), &output.into(), &true.into()), "{id}");
        assert_eq!(record["outcome"], "ok", "{id}");
    }
    let estimated = [("source", "estimate"), ("type", "output")];
    assert_eq!(app.metric("trunkline_tokens_total", &estimated).await, 3.0 * output as f64);
}

#[tokio::test]
async fn usage_that_the_provider_sends_is_forwarded_to_who_wants_it() {
    let a = upstream(Behaviour::null_usage());
    let app = TestApp::start(&alias(&[a.base_url()], "{}")).await;
    assert_eq!(collect(&app, "usage-sent", WITH_USAGE).await, Behaviour::null_usage().expected_events(true));
    assert_eq!(app.record("usage-sent").await["usage_estimated"], false);
}

#[tokio::test]
async fn a_stream_may_not_last_longer_than_stream_timeout() {
    // Never silent for long, and never at its end. `idle_timeout` is the default: half a minute.
    let endless = Behaviour::custom("endless", |_| {
        let piece = |n: usize| Piece {
            after: Duration::from_millis(if n == 0 { 0 } else { 20 }),
            bytes: format!("{}\n\n", chat::chunk(r#"{"content":"x"}"#, None)).into(),
        };
        Reply { pieces: (0..1000).map(piece).collect(), ..Reply::events([]) }
    });
    let a = upstream(endless);
    let app = TestApp::start(&alias(&[a.base_url()], "{stream_timeout: 300ms}")).await;
    let began = Instant::now();
    let seen = collect(&app, "endless", STREAMED).await;
    let took = began.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(8)).contains(&took), "{took:?}");
    let told = error_event("The stream took longer than it may.", "stream_timeout");
    assert_eq!(seen.last(), Some(&told));
    assert!(seen.len() > 2 && !seen.contains(&chat::DONE.to_owned()), "{} events", seen.len());
    a.wait_for_cancelled(1, Duration::from_secs(1)).await;
    let record = app.record("endless").await;
    assert_eq!((&record["outcome"], &record["error_type"]), (&"failed".into(), &"stream_timeout".into()));
}

#[tokio::test]
async fn a_silence_within_bounds_is_no_stall() {
    let a = upstream(Behaviour::slow_body(Duration::from_millis(200)));
    let app = TestApp::start(&alias(&[a.base_url()], "{idle_timeout: 1s}")).await;
    let began = Instant::now();
    assert_eq!(collect(&app, "slow-steady", STREAMED).await, chat::events(false));
    assert!(began.elapsed() > Duration::from_secs(1), "longer in all than one silence may be");
}
