//! The pipeline of vCons from outside, as a Conserver's users know it.

mod api;
mod fixtures;
mod guide;
mod kills;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Client;

use crate::app::PATIENCE;

/// A uuid by a number.
pub fn uuid(n: usize) -> String {
    format!("018e3d10-0c1f-8d8c-9b1a-{n:012}")
}

/// A vCon by a number.
pub fn vcon(n: usize) -> Value {
    json!({"vcon": "0.0.1", "uuid": uuid(n), "created_at": "2026-11-20T10:00:00Z", "x-mine": {"kept": [1.50, n]},
        "parties": [{"tel": "+15551234567", "name": format!("P{n}")}, {"mailto": "bob@example.com"}],
        "dialog": [{"type": "text", "start": "2026-11-20T10:00:00Z", "parties": [0, 1], "mimetype": "text/plain",
            "body": format!("good morning number{n}")}],
        "analysis": [{"type": "note", "dialog": 0, "body": {"mood": "fine"}}]})
}

/// The token of the tests.
pub const TOKEN: &str = "t0ken-of-the-tests";

/// Headers with the token.
pub const AUTH: [(&str, &str); 1] = [("x-conserver-api-token", TOKEN)];

/// Waits until a path answers with this JSON.
pub async fn until(client: &Client, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.get(path, &AUTH).await;
        let shown = answer.text().to_owned();
        if let Ok(value) = serde_json::from_str::<Value>(&shown)
            && answer.status == 200
            && holds(&value)
        {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: {path} says {} {shown}", answer.status);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
