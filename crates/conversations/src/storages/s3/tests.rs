use serde_json::json;
use testkit::services::PrivateS3;

use super::*;
use crate::storages::conformance::{self, Refusing, SECRET, Silent, uuid};
use crate::testing;

fn options(server: &PrivateS3) -> Value {
    json!({"aws_access_key_id": "AKIATEST", "aws_secret_access_key": SECRET, "aws_bucket": "vcons",
        "aws_region": "eu-west-1", "endpoint_url": server.url()})
}

/// The bucket as somebody else sees it.
fn bucket(server: &PrivateS3) -> AmazonS3 {
    let builder = AmazonS3Builder::new().with_access_key_id("AKIAOTHER").with_secret_access_key("other");
    let builder = builder.with_bucket_name("vcons").with_endpoint(server.url()).with_allow_http(true);
    builder.build().unwrap()
}

async fn object(server: &PrivateS3, key: &str) -> Option<String> {
    let bytes = bucket(server).get(&Path::from(key)).await.ok()?.bytes().await.unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn put(server: &PrivateS3, key: &str, body: &str) {
    bucket(server).put(&Path::from(key), body.to_owned().into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_and_has_the_layout_of_the_conserver() {
    let Some(server) = PrivateS3::start() else { return };
    server.make_bucket("vcons").await;
    for path in [None, Some("some/path/")] {
        let mut options = options(&server);
        options["s3_path"] = json!(path);
        let storage = make(options, &testing::environment()).unwrap();
        conformance::keeps(&*storage).await;

        let vcon = testing::vcon();
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
        let path = path.unwrap_or_default();
        let text = object(&server, &format!("{path}2026/11/20/{}.vcon", vcon.uuid())).await;
        assert_eq!(text.unwrap().as_bytes(), &vcon.to_bytes()[..]);
        let lookup = format!("{path}lookup/{}.txt", vcon.uuid());
        assert_eq!(object(&server, &lookup).await.as_deref(), Some("2026/11/20"));
        assert!(storage.delete(vcon.uuid()).await.unwrap());
        assert_eq!(object(&server, &lookup).await, None);
    }

    // What the Conserver wrote: its lookup ends in a line feed when somebody repaired it by hand.
    let uuid = uuid();
    let text = format!(r#"{{"uuid": "{uuid}", "vcon": "0.0.1"}}"#);
    put(&server, &format!("2021/02/03/{uuid}.vcon"), &text).await;
    put(&server, &format!("lookup/{uuid}.txt"), "2021/02/03\n").await;
    let storage = make(options(&server), &testing::environment()).unwrap();
    assert_eq!(storage.get(&uuid.to_uppercase()).await.unwrap().unwrap().to_bytes(), text);

    // A lookup leads nowhere else.
    put(&server, &format!("lookup/{uuid}.txt"), "../../other").await;
    assert!(!storage.get(&uuid).await.unwrap_err().is_temporary());

    // Without a day.
    let mut vcon = testing::vcon();
    vcon.set("created_at", "some day");
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    assert!(object(&server, &format!("{}.vcon", vcon.uuid())).await.is_some());
    assert!(storage.get(vcon.uuid()).await.unwrap().is_some());

    let mut environment = testing::environment();
    environment.legacy_format = true;
    let legacy = make(options(&server), &environment).unwrap();
    legacy.save(&testing::vcon(), &testing::storage_context()).await.unwrap();
    assert_eq!(legacy.get(testing::vcon().uuid()).await.unwrap().unwrap().text("vcon").unwrap(), "0.0.1");

    let mut nowhere = options(&server);
    nowhere["aws_bucket"] = json!("no-such-bucket");
    let nowhere = make(nowhere, &testing::environment()).unwrap();
    let error = nowhere.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err();
    assert!(error.is_temporary() && !error.to_string().contains(SECRET), "{error}");
}

#[tokio::test]
async fn fails_for_now() {
    let (refusing, silent) = (Refusing::new(), Silent::new());
    for port in [refusing.port(), silent.port()] {
        let options = json!({"aws_access_key_id": "AKIATEST", "aws_secret_access_key": SECRET, "aws_bucket": "vcons",
            "endpoint_url": format!("http://127.0.0.1:{port}"), "timeout": 0.2});
        conformance::fails_for_now(&*make(options, &testing::environment()).unwrap()).await;
    }
}

#[test]
fn options_that_cannot_work_are_told() {
    let told = |options: Value| make(options, &testing::environment()).err().unwrap().to_string();
    assert!(told(json!({})).contains("aws_bucket"));
    assert!(told(json!({"aws_bucket": "b", "endpoint_url": "minio"})).contains("endpoint_url"));
    assert!(told(json!({"aws_bucket": "b", "s3_path": "a//b"})).contains("s3_path"));
    assert!(told(json!({"aws_bucket": "b", "timeout": 0})).contains("timeout"));
}
