//! The admin API, as tests speak to it.

use serde_json::{Value, json};
use testkit::{Client, Response};

/// An administrator of one replica.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    key: String,
}

impl Admin {
    /// With the master key, or any other that may.
    pub fn new(url: &str, key: &str) -> Self {
        Admin { client: Client::new(url), key: key.to_owned() }
    }

    /// Any request; a body is sent as JSON.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        self.send_with(method, path, &[], body).await
    }

    /// The same with more headers.
    pub async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        let auth = format!("Bearer {}", self.key);
        let mut all = vec![("authorization", auth.as_str())];
        all.extend_from_slice(headers);
        let bytes = match body {
            Value::Null => Vec::new(),
            body => {
                all.push(("content-type", "application/json"));
                serde_json::to_vec(body).unwrap()
            }
        };
        let sent = self.client.try_send(method, path, &all, &bytes).await;
        sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request that must do what it says.
    pub async fn must(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, &body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// What is at a path.
    pub async fn get(&self, path: &str) -> Value {
        self.must("GET", path, Value::Null).await
    }

    /// A group with a balance. Its id.
    pub async fn group(&self, name: &str, balance: &str) -> i64 {
        let group = self.must("POST", "/api/groups", json!({"name": name, "balance": balance})).await;
        group["id"].as_i64().unwrap()
    }

    /// A key of a group: the key itself.
    pub async fn key(&self, name: &str, group: i64) -> String {
        let key = self.must("POST", "/api/keys", json!({"name": name, "group_id": group})).await;
        key["key"].as_str().unwrap().to_owned()
    }
}
