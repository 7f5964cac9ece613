//! Moderation, rerank, pictures and sound: what goes out byte for byte, what comes back, what it costs.

mod json;
mod sound;

use testkit::{Behaviour, Reply, Response, Upstream};

use crate::app::TestApp;

/// A fake that answers every request so.
fn fake(content_type: &'static str, body: &'static [u8]) -> Upstream {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::custom("media", move |_| Reply::whole(200, content_type, body)));
    upstream
}

async fn app(upstream: &Upstream, price: &str) -> TestApp {
    let yaml = format!(
        "resilience: {{retries: 0}}\nproviders:\n  lab: {{kind: openai-compatible, base_url: \"{}\"}}\n  demo: {{kind: demo}}\n\
         models:\n  m: {{targets: [{{provider: lab, model: real}}]}}\nprices: {{lab/real: {price}}}\n",
        upstream.base_url()
    );
    TestApp::start(&yaml).await
}

async fn post(app: &TestApp, path: &str, content_type: &str, body: &[u8]) -> Response {
    let auth = app.auth().1;
    let headers = [("authorization", auth.as_str()), ("content-type", content_type)];
    app.client().try_send("POST", path, &headers, body).await.unwrap()
}

const JSON: &str = "application/json";
