//! The strategies of an alias.

use std::time::Duration;

use testkit::{Behaviour, Upstream};

use super::{HELLO, alias, ask};
use crate::app::TestApp;

fn counts(upstreams: &[&Upstream]) -> Vec<usize> {
    upstreams.iter().map(|upstream| upstream.requests().len()).collect()
}

#[tokio::test]
async fn round_robin_takes_each_in_turn_and_goes_on_past_a_failing_one() {
    let (a, b, c) = (Upstream::start(), Upstream::start(), Upstream::start());
    let targets = ["provider: p0, model: x", "provider: p1, model: y", "provider: p2, model: z"];
    let app = TestApp::start(&alias("round-robin", &[&a, &b, &c], &targets)).await;
    for _ in 0..9 {
        assert_eq!(ask(&app, HELLO).await.status, 200);
    }
    assert_eq!(counts(&[&a, &b, &c]), [3, 3, 3]);
    b.set_default(Behaviour::error(500, None));
    for _ in 0..3 {
        assert_eq!(ask(&app, HELLO).await.status, 200);
    }
    assert_eq!(counts(&[&a, &b, &c]), [4, 4, 5], "the turn of the second went to the third");
}

/// Mutation that made it fail: the weight left out of the sort.
#[tokio::test]
async fn weighted_goes_by_the_shares() {
    let (a, b, c) = (Upstream::start(), Upstream::start(), Upstream::start());
    let targets =
        ["provider: p0, model: x, weight: 9", "provider: p1, model: y", "provider: p2, model: z, weight: 0"];
    let app = TestApp::start(&alias("weighted", &[&a, &b, &c], &targets)).await;
    for _ in 0..200 {
        assert_eq!(ask(&app, HELLO).await.status, 200);
    }
    let [first, second, third] = counts(&[&a, &b, &c])[..] else { unreachable!() };
    // 180 and 20 are expected; ten standard deviations lie between 138 and the first, 62 and the second.
    assert!(first > 138 && (1..62).contains(&second) && third == 0, "{first}, {second}, {third}");
    a.set_default(Behaviour::error(503, None));
    b.set_default(Behaviour::error(503, None));
    assert_eq!(ask(&app, HELLO).await.status, 200, "the one without a share when no other can answer");
}

#[tokio::test]
async fn least_latency_prefers_who_answers_sooner() {
    let (slow, fast) = (Upstream::start(), Upstream::start());
    slow.set_default(Behaviour::delay(Duration::from_millis(300), Behaviour::ok()));
    let targets = ["provider: p0, model: x", "provider: p1, model: y"];
    let app = TestApp::start(&alias("least-latency", &[&slow, &fast], &targets)).await;
    for _ in 0..40 {
        assert_eq!(ask(&app, HELLO).await.status, 200);
    }
    // Each is measured once; of the rest one in twenty explores, half of them at the slow one.
    let [slow, fast] = counts(&[&slow, &fast])[..] else { unreachable!() };
    assert!(slow >= 1 && fast > 25, "{slow} slow, {fast} fast");
}

#[tokio::test]
async fn least_cost_prefers_the_cheaper_and_never_the_unknown() {
    let (unknown, dear, cheap) = (Upstream::start(), Upstream::start(), Upstream::start());
    let targets = ["provider: p0, model: x", "provider: p1, model: y", "provider: p2, model: z"];
    let prices = "prices: {p1/y: {input: 5, output: 5}, p2/z: {input: 1, output: 1}}\n";
    let yaml = prices.to_owned() + &alias("least-cost", &[&unknown, &dear, &cheap], &targets);
    let app = TestApp::start(&yaml).await;
    for _ in 0..3 {
        assert_eq!(ask(&app, HELLO).await.status, 200);
    }
    assert_eq!(counts(&[&unknown, &dear, &cheap]), [0, 0, 3]);
    cheap.set_default(Behaviour::error(500, None));
    assert_eq!(ask(&app, HELLO).await.status, 200);
    assert_eq!(counts(&[&unknown, &dear, &cheap]), [0, 1, 4]);
}

#[tokio::test]
async fn least_busy_prefers_who_has_less_in_hand() {
    let (a, b) = (Upstream::start(), Upstream::start());
    a.set_default(Behaviour::no_response());
    let targets = ["provider: p0, model: x", "provider: p1, model: y"];
    let app = TestApp::start(&alias("least-busy", &[&a, &b], &targets)).await;
    let (client, auth) = (app.client(), app.auth().1);
    let stuck = tokio::spawn(async move {
        let headers = [("authorization", auth.as_str())];
        client.try_send("POST", "/v1/chat/completions", &headers, HELLO.as_bytes()).await.ok()
    });
    a.wait_for_requests(1, crate::app::PATIENCE).await;
    for _ in 0..5 {
        assert_eq!(ask(&app, HELLO).await.status, 200);
    }
    assert_eq!(counts(&[&a, &b]), [1, 5]);
    stuck.abort();
    a.wait_for_cancelled(1, crate::app::PATIENCE).await;
}

/// Mutation that made it fail: `complexity` always simple.
#[tokio::test]
async fn simple_and_complex_requests_go_to_their_models() {
    let (small, large) = (Upstream::start(), Upstream::start());
    let targets = ["provider: p0, model: x, serves: simple", "provider: p1, model: y, serves: complex"];
    let app = TestApp::start(&alias("complexity", &[&small, &large], &targets)).await;
    assert_eq!(ask(&app, HELLO).await.status, 200);
    assert_eq!(counts(&[&small, &large]), [1, 0]);
    let long = HELLO.replace("hi", &"Compare these. ".repeat(400));
    let tool = r#""tools":[{"type":"function","function":{"name":"f"}}],"messages""#;
    for complex in [long, HELLO.replace("\"messages\"", tool)] {
        assert_eq!(ask(&app, &complex).await.status, 200);
    }
    assert_eq!(counts(&[&small, &large]), [1, 2]);
    large.set_default(Behaviour::error(500, None));
    assert_eq!(ask(&app, &HELLO.replace("\"messages\"", tool)).await.status, 200, "better than nothing");
    assert_eq!(counts(&[&small, &large]), [2, 3]);
}
