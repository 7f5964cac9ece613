use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base::{Kind, ModelCaller, ModelError, Models, Transcription};
use bytes::Bytes;
use testkit::{Received, Reply, Web};

use super::*;
use crate::storages::conformance::{self, Refusing, SECRET, Silent, uuid};
use crate::testing;

/// Rows, and the collections that were made.
#[derive(Default)]
struct Kept {
    rows: Vec<Value>,
    made: Option<Value>,
}

fn answer(body: &Value) -> Reply {
    Reply::whole(200, "application/json", body.to_string())
}

/// Milvus' REST API, as far as it is asked here.
fn service(there: bool) -> (Web, Arc<Mutex<Kept>>) {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let shared = Arc::clone(&kept);
    let web = Web::start(move |request: &Received| {
        let mut kept = shared.lock().unwrap();
        assert_eq!(request.header("authorization"), Some(format!("Bearer root:{SECRET}").as_str()));
        let mut body = request.json();
        assert_eq!((&body["collectionName"], &body["dbName"]), (&json!("calls"), &json!("main")));
        let uuid = |body: &Value| {
            let filter = body["filter"].as_str().unwrap();
            filter.strip_prefix("vcon_uuid == '").unwrap().strip_suffix('\'').unwrap().to_owned()
        };
        let data = match request.path.strip_prefix("/v2/vectordb/").unwrap() {
            "collections/has" => json!({"has": there || kept.made.is_some()}),
            "collections/create" => {
                kept.made = Some(body);
                json!({})
            }
            "collections/load" => json!({}),
            "entities/query" => {
                assert_eq!(body["consistencyLevel"], "Strong");
                let uuid = uuid(&body);
                kept.rows.iter().filter(|row| row["vcon_uuid"] == uuid.as_str()).cloned().collect()
            }
            "entities/delete" => {
                let uuid = uuid(&body);
                kept.rows.retain(|row| row["vcon_uuid"] != uuid.as_str());
                json!({})
            }
            "entities/insert" => {
                let row = body["data"][0].take();
                if row["subject"] == "too long" {
                    let message = format!("length of varchar field text exceeds max length, token {SECRET}");
                    return answer(&json!({"code": 1100, "message": message}));
                }
                kept.rows.push(row);
                json!({"insertCount": 1})
            }
            other => panic!("{other}"),
        };
        answer(&json!({"code": 0, "data": data}))
    });
    (web, kept)
}

/// Models whose embedding is the length of the text; longer ones they refuse.
struct Lengths(usize);

#[async_trait]
impl Models for Lengths {
    async fn chat(&self, _: &ModelCaller, _: Bytes) -> Result<Bytes, ModelError> {
        panic!("not asked")
    }

    async fn embeddings(&self, caller: &ModelCaller, body: Bytes) -> Result<Bytes, ModelError> {
        assert!(caller.trace.is_some());
        let body: Value = serde_json::from_slice(&body).unwrap();
        let length = body["input"].as_str().unwrap().len();
        if length > self.0 {
            return Err(ModelError {
                kind: Kind::Invalid,
                code: "context_length_exceeded".into(),
                message: "too long".into(),
                retry_after: None,
            });
        }
        Ok(json!({"data": [{"embedding": [length, 0.5]}], "model": body["model"]}).to_string().into())
    }

    async fn transcribe(&self, _: &ModelCaller, _: Transcription) -> Result<Bytes, ModelError> {
        panic!("not asked")
    }
}

fn storage(web: &Web, more: &Value, longest: usize) -> Box<dyn Storage> {
    let mut options = json!({"host": "127.0.0.1", "port": web.port().to_string(), "user": "root", "password": SECRET,
        "db_name": "main", "collection_name": "calls", "embedding_dim": 2});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut environment = testing::environment();
    environment.models = Arc::new(Lengths(longest));
    make(options, &environment).unwrap()
}

#[tokio::test]
async fn the_row_is_the_conserver_s() {
    let (web, kept) = service(true);
    let mut vcon = conformance::vcon(&uuid(), "A subject");
    let analysis = |kind, body| crate::vcon::Analysis {
        kind,
        dialog: json!(0),
        vendor: "v",
        body,
        encoding: "none",
        extra: vec![],
    };
    vcon.add_analysis(analysis("transcript", json!({"text": "What was said."})));
    vcon.add_analysis(analysis("summary", json!("In short.")));
    storage(&web, &json!({}), 1 << 20).save(&vcon, &testing::storage_context()).await.unwrap();
    let text = "What was said. In short. Party: customer Ann. Party: agent Bob. Good morning.";
    let expected = json!({"vcon_uuid": vcon.uuid(), "party_id": "tel:+15551234567", "text": text,
        "created_at": "", "updated_at": "", "subject": "A subject", "metadata_title": "", "has_transcript": true,
        "has_summary": true, "party_count": 2, "embedding": [text.len() as f32, 0.5],
        "embedding_model": "text-embedding-3-small", "embedding_version": "1.0"});
    assert_eq!(kept.lock().unwrap().rows, [expected]);
}

#[tokio::test]
async fn one_that_is_there_is_skipped_or_replaced_and_can_be_removed() {
    let (web, kept) = service(true);
    let first = conformance::vcon(&uuid(), "first");
    let second = conformance::vcon(first.uuid(), "second");
    let subjects =
        || -> Vec<Value> { kept.lock().unwrap().rows.iter().map(|row| row["subject"].clone()).collect() };
    let skips = storage(&web, &json!({}), 1 << 20);
    skips.save(&first, &testing::storage_context()).await.unwrap();
    skips.save(&second, &testing::storage_context()).await.unwrap();
    assert_eq!(subjects(), ["first"]);
    let replaces = storage(&web, &json!({"skip_if_exists": false}), 1 << 20);
    replaces.save(&second, &testing::storage_context()).await.unwrap();
    assert_eq!(subjects(), ["second"]);
    assert!(skips.get(first.uuid()).await.unwrap().is_none(), "the whole vCon is not there");
    assert!(skips.delete(first.uuid()).await.unwrap());
    assert!(!skips.delete(first.uuid()).await.unwrap());
}

#[tokio::test]
async fn the_collection_is_made_where_that_is_asked_for() {
    let (web, kept) = service(false);
    let vcon = testing::vcon();
    let error =
        storage(&web, &json!({}), 1 << 20).save(&vcon, &testing::storage_context()).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("create_collection_if_missing"), "{error}");
    let more = json!({"create_collection_if_missing": true, "index_type": "HNSW", "metric_type": "COSINE"});
    storage(&web, &more, 1 << 20).save(&vcon, &testing::storage_context()).await.unwrap();
    let kept = kept.lock().unwrap();
    let made = kept.made.as_ref().unwrap();
    let fields = made["schema"]["fields"].as_array().unwrap();
    assert_eq!((fields.len(), &made["schema"]["autoId"]), (14, &json!(true)));
    assert_eq!(fields[4]["elementTypeParams"], json!({"dim": "2"}));
    let index = json!([{"fieldName": "embedding", "indexName": "embedding", "metricType": "COSINE",
        "indexType": "HNSW", "params": {"M": 16, "efConstruction": 200}}]);
    assert_eq!(made["indexParams"], index);
    // Every column of a row is one of the collection.
    for column in kept.rows[0].as_object().unwrap().keys() {
        assert!(fields.iter().any(|field| field["fieldName"] == column.as_str()), "{column}");
    }
}

#[tokio::test]
async fn long_texts_are_cut_to_what_the_model_and_the_column_take() {
    let (web, kept) = service(true);
    let mut vcon = conformance::vcon(&uuid(), &"s".repeat(1000));
    vcon.list_mut(crate::vcon::List::Dialog)[0].set("body", "ü".repeat(100_000));
    storage(&web, &json!({}), 5000).save(&vcon, &testing::storage_context()).await.unwrap();
    let kept = kept.lock().unwrap();
    let (text, subject) = (kept.rows[0]["text"].as_str().unwrap(), kept.rows[0]["subject"].as_str().unwrap());
    assert!(text.len() <= text::LONG && text.len() > text::LONG - 4 && subject.len() == text::LINE);
    let embedded = kept.rows[0]["embedding"][0].as_f64().unwrap();
    assert!((2000.0..=5000.0).contains(&embedded), "{embedded}");
}

#[tokio::test]
async fn an_account_in_the_options_is_used() {
    let (web, kept) = service(true);
    let provider = Web::start(|request| {
        assert_eq!(request.json()["model"], "text-embedding-3-small");
        answer(&json!({"data": [{"embedding": [1, 2]}]}))
    });
    for (more, path, header, value) in [
        (
            json!({"api_key": "sk-1", "base_url": format!("{}/v1", provider.url())}),
            "/v1/embeddings",
            "authorization",
            "Bearer sk-1",
        ),
        (
            json!({"LITELLM_PROXY_URL": provider.url(), "LITELLM_MASTER_KEY": "sk-2"}),
            "/embeddings",
            "authorization",
            "Bearer sk-2",
        ),
        (
            json!({"AZURE_OPENAI_ENDPOINT": provider.url(), "AZURE_OPENAI_API_KEY": "sk-3"}),
            "/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21",
            "api-key",
            "sk-3",
        ),
    ] {
        storage(&web, &more, 0)
            .save(&conformance::vcon(&uuid(), "x"), &testing::storage_context())
            .await
            .unwrap();
        let asked = provider.take();
        assert_eq!((asked[0].path.as_str(), asked[0].header(header)), (path, Some(value)));
    }
    assert!(kept.lock().unwrap().rows.iter().all(|row| row["embedding"] == json!([1.0, 2.0])));
}

#[tokio::test]
async fn what_it_does_not_take_is_refused_for_good_without_secrets() {
    let (web, _) = service(true);
    let vcon = conformance::vcon(&uuid(), "too long");
    let error =
        storage(&web, &json!({}), 1 << 20).save(&vcon, &testing::storage_context()).await.unwrap_err();
    let text = error.to_string();
    assert!(!error.is_temporary() && text.contains("1100") && !text.contains(SECRET), "{text}");
    let wrong = storage(&web, &json!({"embedding_dim": 3}), 1 << 20);
    let error = wrong.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err();
    assert!(!error.is_temporary() && error.to_string().contains("embedding_dim"), "{error}");
    // Without an embedding nothing is written: the Conserver writes zeros.
    let none = storage(&web, &json!({}), 0).save(&testing::vcon(), &testing::storage_context()).await;
    assert!(none.is_err());
}

#[tokio::test]
async fn fails_for_now() {
    let (refusing, silent) = (Refusing::new(), Silent::new());
    for port in [refusing.port(), silent.port()] {
        let options = json!({"host": "127.0.0.1", "port": port, "token": SECRET, "timeout": 0.2});
        let storage = make(options, &testing::environment()).unwrap();
        for error in [
            storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err(),
            storage.delete(&uuid()).await.unwrap_err(),
        ] {
            assert!(error.is_temporary() && !error.to_string().contains(SECRET), "{error}");
        }
    }
}
