use std::sync::{Arc, Mutex};

use testkit::{Received, Reply, Web};

use super::*;
use crate::storages::conformance::{self, Refusing, SECRET, Silent, uuid};
use crate::testing;

/// The documents, by index and id.
type Kept = Arc<Mutex<BTreeMap<(String, String), Value>>>;

fn answer(status: u16, body: &Value) -> Reply {
    Reply::whole(status, "application/json", body.to_string())
}

/// Whether a query of ours finds a document.
fn finds(query: &Value, index: &str, id: &str, document: &Value) -> bool {
    let (kind, what) = query.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "bool" => {
            let all = |key: &str| what[key].as_array().cloned().unwrap_or_default();
            let one = |query: &Value| finds(query, index, id, document);
            all("filter").iter().all(one)
                && !all("must_not").iter().any(one)
                && (all("should").is_empty() || all("should").iter().any(one))
        }
        "term" => {
            let (field, value) = what.as_object().unwrap().iter().next().unwrap();
            match field.as_str() {
                "_index" => value == index,
                // As the dynamic mapping has it: the text is cut into words, the keyword is whole.
                "vcon_id.keyword" => document["vcon_id"] == *value,
                "vcon_id" => document["vcon_id"].as_str().unwrap().split('-').any(|word| value == word),
                other => panic!("{other}"),
            }
        }
        "ids" => what["values"].as_array().unwrap().iter().any(|value| value == id),
        other => panic!("{other}"),
    }
}

/// Elasticsearch, as far as it is asked here; an index whose name ends in `strict` takes no document.
fn service() -> (Web, Kept) {
    let kept = Kept::default();
    let shared = Arc::clone(&kept);
    let web = Web::start(move |request: &Received| {
        let mut kept = shared.lock().unwrap();
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("authorization"), Some(format!("ApiKey {SECRET}").as_str()));
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        match path {
            "/_bulk" => {
                assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
                assert!(request.body.ends_with(b"\n"));
                let text = request.text();
                let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                let mut items = Vec::new();
                while let (Some(action), Some(document)) = (lines.next(), lines.next()) {
                    let text = |key: &str| action["index"][key].as_str().unwrap().to_owned();
                    let (index, id) = (text("_index"), text("_id"));
                    if index.ends_with("strict") {
                        let reason = format!("failed to parse, preview: '{document}'");
                        items.push(json!({"index": {"_index": index, "_id": id, "status": 400,
                            "error": {"type": "document_parsing_exception", "reason": reason}}}));
                        continue;
                    }
                    let old = kept.insert((index.clone(), id.clone()), document);
                    let (status, result) = if old.is_some() { (200, "updated") } else { (201, "created") };
                    items.push(
                        json!({"index": {"_index": index, "_id": id, "status": status, "result": result}}),
                    );
                }
                answer(200, &json!({"errors": false, "items": items}))
            }
            "/pre-vcon*/_refresh" => answer(200, &json!({})),
            "/pre-vcon*/_delete_by_query" => {
                assert!(query.contains("refresh=true") && query.contains("conflicts=proceed"), "{query}");
                let query = &request.json()["query"];
                let before = kept.len();
                kept.retain(|(index, id), document| {
                    !(index.starts_with("pre-vcon") && finds(query, index, id, document))
                });
                answer(200, &json!({"deleted": before - kept.len(), "failures": []}))
            }
            other => panic!("{other}"),
        }
    });
    (web, kept)
}

fn storage(web: &Web) -> Box<dyn Storage> {
    let options = json!({"url": web.url(), "api_key": SECRET, "index_prefix": " pre-"});
    make(options, &testing::environment()).unwrap()
}

fn names(kept: &Kept) -> Vec<String> {
    kept.lock().unwrap().keys().map(|(index, id)| format!("{index}/{id}")).collect()
}

#[tokio::test]
async fn the_layout_is_the_conserver_s() {
    let (web, kept) = service();
    let uuid = uuid();
    let mut vcon = conformance::vcon(&uuid, "x");
    vcon.add_attachment("Tenant", json!({"id": 7}), "none");
    vcon.add_attachment("tenant", json!({"id": 7}), "none");
    let analysis = |kind, body| crate::vcon::Analysis {
        kind,
        dialog: json!(0),
        vendor: "v",
        body,
        encoding: "none",
        extra: vec![],
    };
    vcon.add_analysis(analysis("transcript", json!({"text": "Good morning"})));
    vcon.add_analysis(analysis("a summary", json!("short")));
    storage(&web).save(&vcon, &testing::storage_context()).await.unwrap();
    let expected = [
        ("analysis_a_summary", 1),
        ("analysis_transcript", 0),
        ("attachments_tenant", 0),
        ("attachments_tenant", 1),
        ("dialog", 0),
        ("parties_agent", 1),
        ("parties_customer", 0),
    ];
    assert_eq!(names(&kept), expected.map(|(index, id)| format!("pre-vcon_{index}/{uuid}_{id}")));
    assert_eq!(web.requests().len(), 1, "all in one request");
    let kept = kept.lock().unwrap();
    let document =
        |index: &str, id: usize| kept[&(format!("pre-vcon_{index}"), format!("{uuid}_{id}"))].clone();
    let start = "2026-11-20T10:00:00+00:00";
    let party = json!({"tel": "+15551234567", "name": "Ann", "role": "customer", "vcon_id": uuid,
        "started_at": start, "tenant_id": 7});
    assert_eq!(document("parties_customer", 0), party);
    assert_eq!(document("analysis_transcript", 0)["body"], json!({"text": "Good morning"}));
    assert_eq!(document("analysis_a_summary", 1)["body"], "short");
    assert_eq!(document("dialog", 0)["body"], "Good morning.");
}

#[tokio::test]
async fn saved_again_leaves_nothing_of_before_and_deleting_takes_no_others() {
    let (web, kept) = service();
    let storage = storage(&web);
    let (one, other) = (uuid(), uuid());
    // Of one that has a part of its uuid in common.
    let other = format!("{}{}", &one[..24], &other[24..]);
    storage.save(&conformance::vcon(&other, "other"), &testing::storage_context()).await.unwrap();
    let mut vcon = conformance::vcon(&one, "first");
    vcon.add_attachment("a", json!("x"), "none");
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    assert_eq!(names(&kept).len(), 3 + 4);

    vcon.list_mut(List::Parties).truncate(1);
    vcon.list_mut(List::Parties)[0].set("role", "seller");
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    let of_one: Vec<String> = names(&kept).into_iter().filter(|name| name.contains(&one)).collect();
    let expected = ["attachments_a", "dialog", "parties_seller"];
    assert_eq!(of_one, expected.map(|index| format!("pre-vcon_{index}/{one}_0")));

    assert!(storage.delete(&one.to_uppercase()).await.unwrap());
    assert!(!storage.delete(&one).await.unwrap());
    assert!(names(&kept).iter().all(|name| name.contains(&other)) && names(&kept).len() == 3);
    assert!(storage.get(&other).await.unwrap().is_none(), "it only takes");
}

#[tokio::test]
async fn the_huge_goes_in_several_requests_and_without_dialog_nothing_does() {
    let (web, kept) = service();
    let storage = storage(&web);
    let mut vcon = conformance::vcon(&uuid(), "x");
    for _ in 0..3 {
        vcon.add_attachment("audio", Value::String("QUJD".repeat(1 << 20)), "base64url");
    }
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    assert!(web.take().len() > 1 && names(&kept).len() == 6);
    let mut silent = conformance::vcon(&uuid(), "x");
    silent.list_mut(List::Dialog).clear();
    storage.save(&silent, &testing::storage_context()).await.unwrap();
    assert_eq!((web.take().len(), names(&kept).len()), (0, 6));
}

#[tokio::test]
async fn a_document_that_is_not_taken_is_told_without_what_is_in_it() {
    let (web, _) = service();
    let mut vcon = testing::vcon();
    vcon.list_mut(List::Parties)[0].set("role", "strict");
    let error = storage(&web).save(&vcon, &testing::storage_context()).await.unwrap_err();
    let text = error.to_string();
    assert!(!error.is_temporary() && !text.contains("+1555") && !text.contains("Ann"), "{text}");
    assert!(
        text.contains("pre-vcon_parties_strict") && text.contains("document_parsing_exception"),
        "{text}"
    );
}

#[tokio::test]
async fn the_legacy_form_is_written_where_it_is_asked_for() {
    let (web, kept) = service();
    let mut environment = testing::environment();
    environment.legacy_format = true;
    let options = json!({"url": web.url(), "api_key": SECRET, "index_prefix": "pre-"});
    let mut vcon = testing::vcon();
    vcon.add_tag("a", "b");
    make(options, &environment).unwrap().save(&vcon, &testing::storage_context()).await.unwrap();
    let kept = kept.lock().unwrap();
    let (_, document) = kept.iter().find(|((index, _), _)| index == "pre-vcon_attachments_tags").unwrap();
    assert_eq!((&document["type"], &document["body"]), (&json!("tags"), &json!(["a:b"])));
}

#[tokio::test]
async fn fails_for_now() {
    let (refusing, silent) = (Refusing::new(), Silent::new());
    let failing = Web::start(|_| answer(503, &json!({"error": {"type": format!("unavailable {SECRET}")}})));
    for port in [refusing.port(), silent.port(), failing.port()] {
        let url = format!("http://127.0.0.1:{port}");
        let options = json!({"url": url, "username": "elastic", "password": SECRET, "timeout": 0.2});
        let storage = make(options, &testing::environment()).unwrap();
        for error in [
            storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err(),
            storage.delete(&uuid()).await.unwrap_err(),
        ] {
            assert!(error.is_temporary() && !error.to_string().contains(SECRET), "{error}");
        }
    }
}

#[test]
fn options_are_read_as_the_conserver_reads_them() {
    // `name:base64("eu.example.com:9243$abc$def")`
    let cloud = format!("my:{}", BASE64_STANDARD.encode("eu.example.com:9243$abc$def"));
    assert_eq!(cloud_url(&cloud).unwrap(), "https://abc.eu.example.com:9243");
    assert_eq!(cloud_url(&format!("x:{}", BASE64_STANDARD.encode("h$a$"))).unwrap(), "https://a.h:443");
    let told = |options: Value| make(options, &testing::environment()).err().unwrap().to_string();
    for (options, word) in [
        (json!({}), "url"),
        (json!({"cloud_id": "x"}), "cloud_id"),
        (json!({"url": "x"}), "url"),
        (json!({"url": "http://x", "index_prefix": "a*"}), "index_prefix"),
        (json!({"url": "http://x", "ca_certs": "/no/such/file"}), "ca_certs"),
    ] {
        assert!(told(options).contains(word));
    }
    assert_eq!((name("A b/ü"), name(&"ü".repeat(200)).len()), ("a_b_ü".to_owned(), 200));
}
