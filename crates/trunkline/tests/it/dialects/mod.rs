//! Clients and providers of different dialects.

mod bedrock;
mod faults;
mod gemini;
mod messages;
mod messages_errors;

use serde_json::Value;
use testkit::{StreamResponse, Upstream};

use crate::app::PATIENCE;

/// Settings with one alias `m` that leads to `model` at a provider of this kind.
fn settings(kind: &str, upstream: &Upstream, model: &str) -> String {
    let url = upstream.base_url();
    let credential = match kind {
        "bedrock" => {
            "aws: {region: eu-west-1, access_key_id: AKIDEXAMPLE, secret_access_key: wJalrXUtnFEMI-EXAMPLE}"
        }
        _ => "api_key: sk-upstream-secret",
    };
    format!(
        "providers:\n  up: {{kind: {kind}, base_url: \"{url}\", {credential}}}\nmodels:\n  m: {{targets: [{{provider: up, model: \"{model}\"}}]}}\nresilience: {{retries: 0, breaker: {{failures: 1000}}}}\n"
    )
}

/// The data of each event of a stream; `[DONE]` is left out.
async fn data(stream: &mut StreamResponse) -> Vec<Value> {
    let events = stream.collect(PATIENCE).await;
    let data = events.iter().filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// What a chat stream says, and why it ends.
fn said(chunks: &[Value]) -> (String, String) {
    let choices = || chunks.iter().map(|chunk| &chunk["choices"][0]);
    let text = choices().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
    let reason = choices().filter_map(|choice| choice["finish_reason"].as_str()).collect();
    (text, reason)
}
