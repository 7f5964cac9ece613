//! `trunkline demo`: everything that works, shown by real calls over HTTP, offline.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use trunkline::settings::{self, Env, Flags};
use trunkline::wire::App;

/// For one call of the demo.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the demo; exit code 0 when every call answered as it should.
pub fn run() -> ExitCode {
    let done = super::runtime().map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(demo()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("the demo failed: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), String> {
    let folder = Folder::new()?;
    let flags = Flags {
        listen: Some("127.0.0.1:0".into()),
        metrics: Some("127.0.0.1:0".into()),
        data_dir: Some(folder.0.join("data").display().to_string()),
        roles: None,
    };
    // The demo is the same everywhere: neither the environment nor a file in this folder changes it.
    let file = folder.write_settings()?;
    let loaded = settings::load(Some(&file), &Env::default(), &flags)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let app = App::start(loaded.settings, None).await.map_err(|e| e.to_string())?;
    let keys = app.first_run.as_ref().ok_or("a fresh folder has keys already")?;
    println!(
        "Trunkline answers at {} with its built-in demo models; nothing leaves this machine.",
        app.server.url()
    );
    let caller = Caller {
        client: super::loopback_client(PATIENCE).map_err(text)?,
        url: app.server.url(),
        key: keys.key.expose().to_owned(),
    };
    caller.everything().await?;
    app.shutdown().await;
    println!("\nAll calls answered as they should. Start your own with `trunkline serve`.");
    Ok(())
}

/// A folder that is gone when the demo is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|e| e.to_string())?;
        let path = std::env::temp_dir().join(format!("trunkline-demo-{}", hex::encode(random)));
        std::fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Folder(path))
    }

    /// An alias whose first target is a closed port, so that fallback has something to do.
    fn write_settings(&self) -> Result<PathBuf, String> {
        let path = self.0.join("trunkline.yaml");
        let text = "server: {drain_delay: 0s}\n\
            providers:\n  demo: {kind: demo}\n  closed: {kind: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\n\
            models:\n  assistant: {targets: [{provider: demo, model: chat}]}\n  \
            resilient: {targets: [{provider: closed, model: any}, {provider: demo, model: chat}], resilience: {retries: 0}}\n";
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays behind does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Calls the server as any client would.
struct Caller {
    client: Client,
    url: String,
    key: String,
}

impl Caller {
    async fn everything(&self) -> Result<(), String> {
        self.models().await?;
        let hello =
            json!({"model": "assistant", "messages": [{"role": "user", "content": "Hello, who are you?"}]});
        let answer = self.chat("A chat", &hello).await?;
        expect(&answer, "/choices/0/message/content")?;
        self.stream().await?;
        self.tools().await?;
        self.structured().await?;
        self.embeddings().await?;
        let resilient =
            json!({"model": "resilient", "messages": [{"role": "user", "content": "Still there?"}]});
        let answer =
            self.chat("Fallback: the first target of this alias is a closed port", &resilient).await?;
        expect(&answer, "/choices/0/message/content")?;
        self.refusals().await
    }

    async fn models(&self) -> Result<(), String> {
        title("The models");
        println!("> GET /v1/models");
        let answer = self.client.get(format!("{}/v1/models", self.url)).bearer_auth(&self.key).send();
        let answer: Value = answer.await.map_err(text)?.json().await.map_err(text)?;
        expect(&answer, "/data/0/id")?;
        println!("< {answer}");
        Ok(())
    }

    async fn chat(&self, what: &str, body: &Value) -> Result<Value, String> {
        title(what);
        let answer = self.post("/v1/chat/completions", body, &self.key).await?;
        let target = header(&answer, "x-trunkline-target");
        let attempts = header(&answer, "x-trunkline-attempts");
        let status = answer.status();
        let value: Value = answer.json().await.map_err(text)?;
        println!("< {status}, answered by {target}, attempts: {attempts}\n< {value}");
        if status.is_success() { Ok(value) } else { Err(format!("{what}: {status}")) }
    }

    async fn stream(&self) -> Result<(), String> {
        title("A stream, as it arrives");
        let body = json!({
            "model": "assistant", "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "Count to three."}],
        });
        let answer = self.post("/v1/chat/completions", &body, &self.key).await?;
        let mut pieces = answer.bytes_stream();
        let mut all = String::new();
        while let Some(piece) = pieces.next().await {
            let piece = String::from_utf8_lossy(&piece.map_err(text)?).into_owned();
            for line in piece.lines().filter(|line| !line.is_empty()) {
                println!("< {line}");
            }
            all += &piece;
        }
        if all.ends_with("data: [DONE]\n\n") { Ok(()) } else { Err("the stream had no end".into()) }
    }

    async fn tools(&self) -> Result<(), String> {
        let tool = json!({"type": "function", "function": {
            "name": "weather", "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }});
        let question = json!({"role": "user", "content": "What is the weather in Lisbon?"});
        let body = json!({"model": "assistant", "tools": [tool], "messages": [question]});
        let answer = self.chat("A tool: the model asks for it", &body).await?;
        let call = expect(&answer, "/choices/0/message/tool_calls/0")?.clone();
        let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "22 degrees, sunny"});
        let asked = answer["choices"][0]["message"].clone();
        let body = json!({"model": "assistant", "tools": [tool], "messages": [question, asked, result]});
        let answer = self.chat("The tool's result goes back", &body).await?;
        expect(&answer, "/choices/0/message/content").map(drop)
    }

    async fn structured(&self) -> Result<(), String> {
        let schema = json!({
            "type": "object", "required": ["city", "degrees"], "additionalProperties": false,
            "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
        });
        let body = json!({
            "model": "assistant",
            "messages": [{"role": "user", "content": "Lisbon has 22 degrees."}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "weather", "strict": true, "schema": schema}},
        });
        let answer = self.chat("Structured output", &body).await?;
        let content = expect(&answer, "/choices/0/message/content")?.as_str().unwrap_or_default().to_owned();
        let value: Value = serde_json::from_str(&content).map_err(text)?;
        expect(&value, "/city").map(drop)
    }

    async fn embeddings(&self) -> Result<(), String> {
        title("Embeddings");
        let body = json!({"model": "demo/embedding", "input": ["a cat", "a kitten"], "dimensions": 4});
        let answer: Value =
            self.post("/v1/embeddings", &body, &self.key).await?.json().await.map_err(text)?;
        println!("< {answer}");
        expect(&answer, "/data/1/embedding/3").map(drop)
    }

    async fn refusals(&self) -> Result<(), String> {
        title("What is refused, and how");
        let good = json!({"model": "assistant", "messages": [{"role": "user", "content": "Hi"}]});
        let mut unknown = good.clone();
        unknown["model"] = json!("no-such-model");
        for (body, key, expected) in
            [(&good, "not-a-key", 401), (&unknown, &*self.key, 404), (&json!({}), &*self.key, 400)]
        {
            let answer = self.post("/v1/chat/completions", body, key).await?;
            let status = answer.status().as_u16();
            println!("< {status} {}", answer.text().await.map_err(text)?);
            if status != expected {
                return Err(format!("expected {expected}, got {status}"));
            }
        }
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value, key: &str) -> Result<Response, String> {
        println!("> POST {path}\n> {body}");
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(key);
        let request = request.header("content-type", "application/json").body(body.to_string());
        request.send().await.map_err(text)
    }
}

fn title(what: &str) {
    println!("\n== {what}");
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned()
}

fn expect<'a>(answer: &'a Value, pointer: &str) -> Result<&'a Value, String> {
    answer.pointer(pointer).ok_or_else(|| format!("the answer has no {pointer}: {answer}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
