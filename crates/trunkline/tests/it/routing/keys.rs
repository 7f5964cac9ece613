//! Several keys of one provider.

use testkit::{Behaviour, Upstream};

use super::{HELLO, ask};
use crate::app::TestApp;

fn settings(upstream: &Upstream) -> String {
    format!(
        "resilience: {{retries: 0}}\nproviders:\n  p: {{kind: openai-compatible, base_url: \"{}\", api_key: key-one, \
         api_keys: [key-two, key-three]}}\nmodels:\n  m: {{targets: [{{provider: p, model: x}}]}}\n",
        upstream.base_url()
    )
}

fn keys(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests();
    requests
        .iter()
        .map(|request| request.header("authorization").unwrap().replace("Bearer key-", ""))
        .collect()
}

#[tokio::test]
async fn keys_take_turns() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings(&upstream)).await;
    for _ in 0..6 {
        assert_eq!(ask(&app, HELLO).await.status, 200);
    }
    assert_eq!(keys(&upstream), ["one", "two", "three", "one", "two", "three"]);
}

/// Mutation that made it fail: `failed` telling that no other key is there.
#[tokio::test]
async fn a_refused_or_limited_key_rests_and_the_call_goes_on_with_another() {
    for status in [401, 403, 429] {
        let upstream = Upstream::start();
        let app = TestApp::start(&settings(&upstream)).await;
        upstream.script([Behaviour::error(status, (status == 429).then_some("60"))]);
        for _ in 0..5 {
            assert_eq!(ask(&app, HELLO).await.status, 200, "{status}");
        }
        let used = keys(&upstream);
        assert_eq!((used.len(), used[0].as_str()), (6, "one"), "{status}");
        assert!(used[1..].iter().all(|key| key != "one"), "{status}: {used:?}");
        assert!(["two", "three"].iter().all(|key| used.contains(&(*key).to_owned())), "{status}: {used:?}");
    }
}

#[tokio::test]
async fn when_every_key_is_refused_the_client_is_told_once_each_was_tried() {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::error(401, None));
    let app = TestApp::start(&settings(&upstream)).await;
    let answer = ask(&app, HELLO).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(keys(&upstream), ["one", "two", "three"]);
    assert!(!answer.text().contains("key-"));
}
