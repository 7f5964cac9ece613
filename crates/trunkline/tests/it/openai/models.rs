//! Names of models: the list, single models, aliases, `provider/model` with no declaration.

use serde_json::json;
use testkit::{Response, Upstream};

use super::refusal::assert_refused;
use crate::app::TestApp;

const CHAT: &str = "/v1/chat/completions";

async fn get(app: &TestApp, path: &str) -> Response {
    let (name, value) = app.auth();
    app.client().get(path, &[(name, &value)]).await
}

fn settings(upstream: &Upstream) -> String {
    let url = upstream.base_url();
    format!(
        "providers:\n  lab: {{kind: openai-compatible, base_url: \"{url}/\"}}\n  demo: {{kind: demo}}\n\
         models:\n  smart: {{targets: [{{provider: lab, model: big}}]}}\n  demo: {{targets: [{{provider: lab, model: other}}]}}\n"
    )
}

#[tokio::test]
async fn the_list_has_aliases_and_what_providers_are_known_to_have() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings(&upstream)).await;
    let answer = get(&app, "/v1/models").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let model = |id: &str, owner: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": owner});
    let expected = [
        model("demo", "trunkline"),
        model("smart", "trunkline"),
        model("demo/chat", "demo"),
        model("demo/embedding", "demo"),
    ];
    assert_eq!(answer.json(), json!({"object": "list", "data": expected}));
    for (path, id, owner) in [
        ("smart", "smart", "trunkline"),
        ("smart?x=1", "smart", "trunkline"),
        ("%73mart", "smart", "trunkline"),
        ("demo/chat", "demo/chat", "demo"),
        ("demo%2Fchat", "demo/chat", "demo"),
        // A provider that takes any name: whether it has the model is for it to say.
        ("lab/anything", "lab/anything", "lab"),
        ("lab/org/model:tag", "lab/org/model:tag", "lab"),
        ("lab%2Forg%2Fmodel%3Atag", "lab/org/model:tag", "lab"),
    ] {
        assert_eq!(get(&app, &format!("/v1/models/{path}")).await.json(), model(id, owner), "{path}");
    }
    for path in [
        "unknown",
        "SMART",
        "smart/",
        "smart%20",
        "lab",
        "lab/",
        "other/x",
        "demo/other",
        "team",
        "%2e%2e",
        ".",
    ] {
        let answer = get(&app, &format!("/v1/models/{path}")).await;
        assert_refused(path, &answer, 404, "model_not_found", "does not exist");
        assert_eq!(answer.json()["error"]["param"], "model", "{path}");
    }
    assert_eq!(upstream.requests().len(), 0, "nobody was asked");
}

#[tokio::test]
async fn a_name_leads_to_the_providers_own() {
    let upstream = Upstream::start();
    let app = TestApp::start(&settings(&upstream)).await;
    for (model, sent, target) in [
        ("smart", "big", "lab/big"),
        // An alias may be called as a provider is.
        ("demo", "other", "lab/other"),
        ("lab/qwen3", "qwen3", "lab/qwen3"),
        ("lab/org/model:tag", "org/model:tag", "lab/org/model:tag"),
        ("lab/a/b/c@2024-05-01", "a/b/c@2024-05-01", "lab/a/b/c@2024-05-01"),
        ("lab/lab/x", "lab/x", "lab/lab/x"),
        ("lab//x", "/x", "lab//x"),
        ("lab/with space", "with space", "lab/with space"),
    ] {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#);
        let answer = app.post(CHAT, "names", &body).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(answer.header("x-trunkline-target"), Some(target));
        let expected = body.replace(&format!("\"{model}\""), &format!("\"{sent}\""));
        assert_eq!(upstream.requests().last().unwrap().text(), expected, "{model}");
    }
    // Beyond ASCII.
    let answer = app.post(CHAT, "umlaut", r#"{"model":"lab/m\u00f6dell","messages":[1]}"#).await;
    assert_eq!((answer.status, answer.header("x-trunkline-target")), (200, Some("lab/mödell")));
    assert_eq!(upstream.requests().last().unwrap().text(), r#"{"model":"mödell","messages":[1]}"#);
    let paths: Vec<_> = upstream.requests().into_iter().map(|r| r.path).collect();
    assert!(paths.iter().all(|path| path == "/v1/chat/completions"), "{paths:?}");
}

#[tokio::test]
async fn without_settings_the_demo_models_are_there() {
    let app = TestApp::start("").await;
    let list = get(&app, "/v1/models").await.json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["demo/chat", "demo/embedding"]);
    for (path, body) in [
        (CHAT, r#"{"model":"demo/chat","messages":[{"role":"user","content":"hi"}]}"#),
        ("/v1/embeddings", r#"{"model":"demo/embedding","input":"hi"}"#),
    ] {
        assert_eq!(app.post(path, "demo", body).await.status, 200);
    }
    let wrong = app
        .post(CHAT, "demo-wrong", r#"{"model":"demo/gpt","messages":[{"role":"user","content":"hi"}]}"#)
        .await;
    assert_refused("a model that the provider has not", &wrong, 404, "model_not_found", "`chat`");
}
