//! Which target answers, and with which of a provider's keys.

mod keys;
mod strategies;

use testkit::{Response, Upstream};

use crate::app::TestApp;

/// The settings of one alias over several fakes, each a provider `p0`, `p1` …
fn alias(strategy: &str, upstreams: &[&Upstream], targets: &[&str]) -> String {
    let providers = upstreams.iter().enumerate().map(|(at, upstream)| {
        format!("  p{at}: {{kind: openai-compatible, base_url: \"{}\"}}\n", upstream.base_url())
    });
    let providers: String = providers.collect();
    let targets: String = targets.iter().map(|target| format!("      - {{{target}}}\n")).collect();
    format!(
        "resilience: {{retries: 0}}\nproviders:\n{providers}models:\n  m:\n    strategy: {strategy}\n    targets:\n{targets}"
    )
}

/// Says something to the alias.
async fn ask(app: &TestApp, body: &str) -> Response {
    app.client().post_json("/v1/chat/completions", &[("authorization", &app.auth().1)], body).await
}

const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
