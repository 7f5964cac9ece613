//! Who gets in, and how often: limits, addresses, bans, tokens of an identity provider.

use serde_json::{Value, json};
use testkit::oidc::{Algorithm, Forgery, Issuer};
use testkit::{Client, Upstream};

use crate::admin::Admin;
use crate::app::TestApp;
use crate::money::{chat, yaml};

/// Asks for the models with a credential, as if for somebody at an address.
async fn models(app: &TestApp, credential: &str, address: &str) -> testkit::Response {
    let auth = format!("Bearer {credential}");
    let headers = [("authorization", auth.as_str()), ("x-forwarded-for", address)];
    app.client().get("/v1/models", &headers).await
}

/// Mutation: a limiter that checks and charges in two steps lets more than three of many at once pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_admits_exactly_so_many_and_says_when_to_come_again() {
    let upstream = Upstream::start();
    let app = TestApp::start(&yaml(&upstream, "limits: {per_key: {requests_per_minute: 3}}\n")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "1").await;
    let key = admin.key("k", group).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (url, key) = (app.url.clone(), key.clone());
        calls.spawn(async move { chat(&url, &key, false).await });
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 3);
    let refused = answers.iter().find(|answer| answer.status != 200).unwrap();
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("3"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(upstream.requests().len(), 3);
    // What was refused cost nothing, and another key has a limit of its own, which may be wider.
    let seen = admin.get(&format!("/api/groups/{group}")).await;
    assert_eq!(seen["spent"], "0.003");
    let body = json!({"name": "wide", "group_id": group, "limits": {"requests_per_minute": 5}});
    let wide = admin.must("POST", "/api/keys", body).await["key"].as_str().unwrap().to_owned();
    let mut passed = 0;
    while chat(&app.url, &wide, false).await.status == 200 {
        passed += 1;
    }
    assert_eq!(passed, 5);
}

#[tokio::test]
async fn limits_made_by_the_api_hold_at_once() {
    let upstream = Upstream::start();
    let app = TestApp::start(&yaml(&upstream, "")).await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "1").await;
    let key = admin.key("k", group).await;
    assert_eq!(chat(&app.url, &key, false).await.status, 200);
    admin.must("PUT", "/api/settings/limits", json!({"per_group": {"requests_per_minute": 1}})).await;
    assert_eq!(chat(&app.url, &key, false).await.status, 200);
    assert_eq!(chat(&app.url, &key, true).await.status, 429);
}

#[tokio::test]
async fn a_forwarded_address_counts_from_a_trusted_proxy_only() {
    let rules = "ip: {filter: {deny: ['203.0.113.0/24', '2001:db8::/32']}";
    let app = TestApp::start(&format!("{rules}, trusted_proxies: ['127.0.0.0/8']}}\n")).await;
    for (address, status) in [
        ("198.51.100.1", 200),
        ("203.0.113.9", 403),
        ("2001:db8::1", 403),
        // The one nearest to us that we do not trust is the client; what it says of others is its own word.
        ("203.0.113.9, 198.51.100.1", 200),
        ("198.51.100.1, 203.0.113.9", 403),
        ("not an address", 200),
    ] {
        let answer = models(&app, &app.key, address).await;
        assert_eq!(answer.status, status, "{address}: {}", answer.text());
    }
    let app = TestApp::start(&format!("{rules}}}\n")).await;
    assert_eq!(models(&app, &app.key, "203.0.113.9").await.status, 200, "anybody can write a header");
}

#[tokio::test]
async fn wrong_keys_ban_their_address_for_a_while() {
    let app = TestApp::start("ip: {trusted_proxies: ['127.0.0.0/8'], bans: {failures: 3}}\n").await;
    for _ in 0..3 {
        assert_eq!(models(&app, "sk-guess", "198.51.100.7").await.status, 401);
    }
    let banned = models(&app, &app.key, "198.51.100.7").await;
    assert_eq!((banned.status, &banned.json()["error"]["code"]), (403, &json!("address_banned")));
    assert!(banned.header("retry-after").is_some());
    assert_eq!(models(&app, &app.key, "198.51.100.8").await.status, 200, "others are not");
    assert_eq!(app.client().get("/health", &[("x-forwarded-for", "198.51.100.7")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_the_identity_provider_are_taken_and_forged_ones_are_not() {
    let issuer = Issuer::start();
    let settings = format!(
        "auth: {{issuer: '{}', audience: trunkline, scopes: ['models:call', 'groups:read']}}\n",
        issuer.url()
    );
    let app = TestApp::start(&settings).await;
    let claims = |audience: &str, scope: &str| json!({"sub": "ada", "aud": audience, "scope": scope});
    let groups = async |token: &str| {
        let auth = format!("Bearer {token}");
        Client::new(&app.url).get("/api/groups", &[("authorization", &auth)]).await
    };
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let token = issuer.token_by(algorithm, &claims("trunkline", "groups:read"));
        let answer = groups(&token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(groups(&issuer.token(&claims("trunkline", "models:call"))).await.status, 403, "not its scope");
    assert_eq!(groups(&issuer.token(&claims("another", "groups:read"))).await.status, 401, "not for us");
    let expired = json!({"sub": "ada", "aud": "trunkline", "scope": "groups:read", "exp": 1});
    assert_eq!(groups(&issuer.token(&expired)).await.status, 401);
    for forgery in Forgery::ALL {
        let answer = groups(&issuer.forged(forgery, &claims("trunkline", "groups:read"))).await;
        assert_eq!(answer.status, 401, "{forgery:?}: {}", answer.text());
        assert!(answer.json()["error"]["code"].is_string());
    }
}

#[tokio::test]
async fn amounts_and_names_that_are_none_are_refused() {
    let app = TestApp::start("").await;
    let admin = Admin::new(&app.url, &app.admin_key);
    let group = admin.group("team", "1").await;
    for amount in ["-1", "NaN", "1e3", "99999999999", "0.0000000001", ""] {
        let path = format!("/api/groups/{group}/credits");
        let answer = admin.send("POST", &path, &json!({"amount": amount})).await;
        assert_eq!(answer.status, 400, "{amount}: {}", answer.text());
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.len() > 10));
    }
    assert_eq!(admin.send("POST", "/api/groups", &json!({"name": "team"})).await.status, 409);
    let hostile = "x'; DROP TABLE groups; --";
    let id = admin.group(hostile, "0").await;
    assert_eq!(admin.get(&format!("/api/groups/{id}")).await["name"], hostile);
    for name in [json!("a\u{0}b"), json!(""), json!(7), Value::Null] {
        let answer = admin.send("POST", "/api/groups", &json!({"name": name})).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    // Two who read the same version: the second is told.
    let path = format!("/api/groups/{group}");
    let headers = [("if-match", "\"1\"")];
    let body = json!({"description": "first"});
    assert_eq!(admin.send_with("PATCH", &path, &headers, &body).await.status, 200);
    assert_eq!(admin.send_with("PATCH", &path, &headers, &body).await.status, 412);
}
