//! The same in Conduit's spelling, as its SDK and its guides send it.

use serde_json::{Value, json};
use testkit::Upstream;

use super::plain;
use crate::money::chat;

#[tokio::test]
async fn a_team_is_set_up_in_conduits_words() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    let headers = [("x-master-key", app.admin_key.as_str())];
    let post = async |path: &str, body: Value| {
        let answer = app.client().post_json(path, &headers, body.to_string()).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        answer.json()
    };
    let provider = json!({
        "ProviderName": "Lab", "providerType": "OpenAICompatible", "baseUrl": upstream.base_url(),
        "apiKey": "sk-a-long-secret-of-the-lab", "isEnabled": true, "unheardOf": 1,
    });
    let provider = post("/api/ProviderCredentials", provider).await;
    assert_eq!((&provider["providerName"], &provider["apiKey"]), (&json!("lab"), &json!("****-lab")));
    let mapping = json!({"modelAlias": "m", "providerId": provider["id"], "providerModelId": "x"});
    let mapping = post("/api/modelprovidermapping", mapping).await;
    assert_eq!((&mapping["providerId"], &mapping["modelAlias"]), (&provider["id"], &json!("m")));
    let cost = json!({"modelIdPattern": "lab/*", "inputCostPerMillionTokens": 2.5, "outputCostPerMillionTokens": 10});
    let cost = post("/api/ModelCosts", cost).await;
    assert_eq!((&cost["costName"], &cost["inputCostPerMillionTokens"]), (&json!("lab/*"), &json!(2.5)));

    let group = post("/api/VirtualKeyGroups", json!({"groupName": "team", "initialBalance": 10.5})).await;
    assert_eq!((&group["balance"], &group["virtualKeyCount"]), (&json!(10.5), &json!(0)));
    let key = json!({
        "keyName": "alice", "virtualKeyGroupId": group["id"], "allowedModels": "m, gpt-4*", "rateLimitRpm": 60,
        "metadata": "{\"team\":\"a\"}",
    });
    let made = post("/API/virtualkeys", key).await;
    let key = made["virtualKey"].as_str().unwrap();
    assert!(key.starts_with("condt_"), "{made}");
    let info = &made["keyInfo"];
    assert_eq!(
        (&info["allowedModels"], &info["rateLimitRpm"], &info["metadata"], &info["isEnabled"]),
        (&json!("m,gpt-4*"), &json!(60), &json!("{\"team\":\"a\"}"), &json!(true))
    );
    assert_eq!(chat(&app.url, key, false).await.status, 200);

    let path = format!("/api/VirtualKeyGroups/{}", group["id"]);
    let adjusted = admin
        .must("POST", &format!("{path}/adjust-balance"), json!({"amount": -0.5, "description": "x"}))
        .await;
    assert!(adjusted["balance"].as_f64().unwrap() <= 10.0, "{adjusted}");
    let listed = admin.get(&format!("{path}/transactions?page=1&pageSize=1")).await;
    assert_eq!((&listed["totalCount"], &listed["totalPages"]), (&json!(2), &json!(2)), "{listed}");
    let newest = &listed["items"][0];
    assert_eq!((&newest["transactionType"], &newest["amount"]), (&json!("Debit"), &json!(-0.5)));
    assert_eq!(admin.get(&format!("{path}/keys")).await[0]["keyName"], "alice");
    assert_eq!(admin.send("DELETE", &path, &Value::Null).await.status, 400, "a group with keys");

    let asked =
        admin.must("POST", "/api/VirtualKeys/validate", json!({"key": key, "requestedModel": "other"})).await;
    assert_eq!((&asked["isValid"], &asked["virtualKeyId"]), (&json!(false), &info["id"]));
    let of_key = format!("/api/VirtualKeys/{}", info["id"]);
    let put = admin.send("PUT", &of_key, &json!({"isEnabled": false})).await;
    assert_eq!((put.status, put.body.len()), (204, 0));
    assert_eq!(chat(&app.url, key, false).await.status, 401);
    assert_eq!(admin.get(&of_key).await["allowedModels"], "m,gpt-4*", "what is not named stays");
    assert_eq!(admin.send("DELETE", &of_key, &Value::Null).await.status, 204);
    assert_eq!(admin.send("GET", &of_key, &Value::Null).await.status, 404);
    assert_eq!(admin.send("DELETE", &path, &Value::Null).await.status, 204);
}

#[tokio::test]
async fn conduits_refusals_have_its_bodies() {
    let (app, admin) = plain().await;
    let answer = app.client().get("/api/VirtualKeys", &[]).await;
    assert_eq!((answer.status, answer.body.len()), (401, 0));
    let answer = admin.send("POST", "/api/VirtualKeys", &json!({"keyName": "x"})).await;
    let problem = answer.json();
    assert_eq!((answer.status, &problem["status"]), (400, &json!(400)), "{problem}");
    assert!(problem["errors"]["virtualKeyGroupId"][0].is_string(), "{problem}");
    let answer = admin.send("GET", "/api/VirtualKeys/999", &Value::Null).await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"].is_string());
    let refused = admin.send("POST", "/api/ProviderCredentials", &json!({"providerType": 99})).await;
    assert!(refused.json()["errors"]["providerType"][0].is_string(), "{}", refused.text());
}

#[tokio::test]
async fn costs_and_filters_are_made_changed_and_removed() {
    let (app, admin) = plain().await;
    let filter =
        json!({"filterType": "blacklist", "ipAddressOrCidr": "203.0.113.0/24", "description": "abuse"});
    let made = admin.must("POST", "/api/IpFilter", filter).await;
    let path = format!("/api/ipfilter/{}", made["id"]);
    admin.must("PUT", &path, json!({"isEnabled": false})).await;
    assert_eq!(admin.get("/api/IpFilter/enabled").await, json!([]));
    assert_eq!(admin.get(&path).await["description"], "abuse");
    admin.must("DELETE", &path, Value::Null).await;

    let list = json!([
        {"costName": "a", "modelIdPattern": "lab/a", "inputCostPerMillionTokens": 1.25, "outputCostPerMillionTokens": 2},
        {"costName": "nothing"},
    ]);
    let done = admin.must("POST", "/api/ModelCosts/import/json", list).await;
    assert_eq!((&done["successCount"], &done["failureCount"]), (&json!(1), &json!(1)), "{done}");
    let costs = admin.get("/api/ModelCosts").await;
    let path = format!("/api/ModelCosts/{}", costs[0]["id"]);
    admin.must("PUT", &path, json!({"inputCostPerMillionTokens": 3})).await;
    let shown = admin.get(&path).await;
    let rates = (&shown["inputCostPerMillionTokens"], &shown["outputCostPerMillionTokens"]);
    assert_eq!(rates, (&json!(3.0), &Value::Null));
    let exported = admin.get("/api/ModelCosts/export/json").await;
    admin.must("DELETE", &path, Value::Null).await;
    let done = admin.must("POST", "/api/ModelCosts/import/json", exported).await;
    assert_eq!(done["successCount"], 1, "{done}");
    drop(app);
}

#[tokio::test]
async fn lists_previews_and_checks_of_conduit_answer() {
    let upstream = Upstream::start();
    let (app, admin) = plain().await;
    super::add_lab(&admin, &upstream).await;
    let lab = admin.get("/api/ProviderCredentials").await[0]["id"].clone();
    let group = admin.group("team", "1").await;
    let body = json!({"keyName": "k", "virtualKeyGroupId": group, "allowedModels": "m*"});
    let made = admin.must("POST", "/api/VirtualKeys", body).await;
    let (key, id) = (made["virtualKey"].as_str().unwrap(), &made["keyInfo"]["id"]);

    let rows = json!({"mappings": [
        {"modelAlias": "m2", "providerId": lab, "providerModelId": "y"},
        {"modelAlias": "m2", "providerId": lab, "providerModelId": "z"},
        {"modelAlias": "other", "providerName": "lab", "providerModelId": "z"},
        {"modelAlias": "n", "providerId": 999, "providerModelId": "z"},
    ]});
    let done = admin.must("POST", "/api/ModelProviderMapping/bulk", rows).await;
    assert_eq!(
        (&done["successCount"], &done["failureCount"], &done["isSuccess"]),
        (&json!(2), &json!(2), &json!(false))
    );
    assert_eq!(
        (&done["failed"][0]["index"], &done["failed"][1]["modelAlias"]),
        (&json!(1), &json!("n")),
        "{done}"
    );
    let seen = admin.get(&format!("/api/VirtualKeys/{id}/discovery-preview")).await;
    let ids: Vec<_> = seen["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert_eq!((ids, &seen["count"]), (vec![json!("m"), json!("m2")], &json!(2)), "not what it may not call");
    let none =
        admin.get(&format!("/api/VirtualKeys/{id}/discovery-preview?capability=video_generation")).await;
    assert_eq!(none["count"], 0);

    let cost =
        json!({"modelIdPattern": "lab/*", "inputCostPerMillionTokens": 1, "outputCostPerMillionTokens": 1});
    admin.must("POST", "/api/ModelCosts", cost).await;
    assert_eq!(chat(&app.url, key, false).await.status, 200);
    let used = admin
        .get(&format!("/api/VirtualKeys/usage/by-key/{}", key.replace('/', "%2F").replace('+', "%2B")))
        .await;
    assert_eq!(
        (&used["keyId"], &used["totalRequests"], &used["keyName"]),
        (id, &json!(1), &json!("k")),
        "{used}"
    );
    assert!(
        used["totalCost"].as_f64().unwrap() > 0.0 && used["groupBalance"].as_f64().unwrap() < 1.0,
        "{used}"
    );
    assert_eq!(
        admin.send("GET", "/api/VirtualKeys/usage/by-key/condt_nobody", &Value::Null).await.status,
        404
    );
    let overview = admin.get("/api/ModelCosts/overview").await;
    assert_eq!(
        (&overview[0]["provider"], &overview[0]["requestCount"]),
        (&json!("lab"), &json!(1)),
        "{overview}"
    );
    assert_eq!(overview[0]["totalCost"], used["totalCost"]);
    assert_eq!(admin.get("/api/ModelCosts/name/lab/*").await["costName"], "lab/*");
    assert_eq!(admin.get(&format!("/api/ModelCosts/provider/{lab}")).await[0]["costName"], "lab/*");
    let csv = admin.send("GET", "/api/ModelCosts/export/csv", &Value::Null).await;
    assert!(
        csv.text().starts_with("Model Pattern,") && csv.text().contains("\nlab/*,1,1,"),
        "{}",
        csv.text()
    );
    let auth = format!("Bearer {}", app.admin_key);
    let headers = [("authorization", auth.as_str()), ("content-type", "text/csv")];
    let again =
        app.client().try_send("POST", "/api/ModelCosts/import/csv", &headers, &csv.body).await.unwrap();
    assert_eq!(again.json()["successCount"], 1, "{}", again.text());

    let filter = json!({"filterType": "blacklist", "ipAddressOrCidr": "203.0.113.0/24"});
    admin.must("POST", "/api/IpFilter", filter).await;
    let settings = admin.get("/api/IpFilter/settings").await;
    assert_eq!(settings["blacklistFilters"].as_array().unwrap().len(), 1, "{settings}");
    let same = json!({"isEnabled": settings["isEnabled"], "filterMode": settings["filterMode"]});
    assert_eq!(admin.send("PUT", "/api/IpFilter/settings", &same).await.status, 204);
    let other = json!({"isEnabled": !settings["isEnabled"].as_bool().unwrap()});
    assert_eq!(admin.send("PUT", "/api/IpFilter/settings", &other).await.status, 409);
    for (ip, allowed) in [("203.0.113.7", false), ("198.51.100.7", true)] {
        assert_eq!(admin.get(&format!("/api/IpFilter/check/{ip}")).await["isAllowed"], allowed, "{ip}");
    }
    assert_eq!(admin.send("GET", "/api/IpFilter/check/nowhere", &Value::Null).await.status, 400);

    // A key for one request, in the header where Conduit's client puts it.
    let made = app.client().post_json("/v1/auth/ephemeral-key", &[("x-api-key", key)], "{}").await.json();
    let once = made["ephemeralKey"].as_str().unwrap();
    let ask = async || {
        let body = crate::process::program::chat_body("m", false);
        app.client().post_json("/v1/chat/completions", &[("x-ephemeral-key", once)], body).await.status
    };
    assert_eq!((ask().await, ask().await), (200, 401));
}
