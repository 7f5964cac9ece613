use serde_json::json;

use super::*;
use crate::testing;

/// The section of the documentation about a module.
fn section(module: &str) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/storages.md");
    let page = std::fs::read_to_string(file).unwrap();
    let heading = format!("\n## `{module}`\n");
    let (_, after) =
        page.split_once(&heading).unwrap_or_else(|| panic!("docs/storages.md has no {heading:?}"));
    after.split("\n## ").next().unwrap().to_owned()
}

#[test]
fn every_module_and_option_is_told_in_the_documentation() {
    for row in TABLE {
        let section = section(row.name);
        for option in row.options {
            assert!(section.contains(&format!("`{option}`")), "docs/storages.md: `{option}` of {}", row.name);
        }
    }
}

#[test]
fn no_other_module_is_told_of() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/storages.md")).unwrap();
    let told: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    let mut known: Vec<&str> = modules().collect();
    let mut sorted = told.clone();
    known.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(sorted, known);
}

#[tokio::test]
async fn promise_v12_every_storage_is_made_by_its_name() {
    let promised = [
        ("storage.postgres", json!({})),
        ("storage.s3", json!({"aws_bucket": "b"})),
        ("storage.elasticsearch", json!({"url": "http://localhost:9200"})),
        ("storage.milvus", json!({})),
        ("storage.redis_storage", json!({"redis_url": "redis://localhost"})),
        ("storage.file", json!({})),
        ("storage.mongo", json!({})),
        ("storage.sftp", json!({})),
        ("storage.webhook", json!({"webhook-urls": ["http://localhost/"]})),
    ];
    for (module, options) in promised {
        let storage = make(module, options.clone(), &testing::environment()).unwrap();
        assert_eq!(storage.module(), module);
        let short = module.strip_prefix("storage.").unwrap();
        assert_eq!(make(short, options, &testing::environment()).unwrap().module(), module);
    }
    let error = make("storage.floppy", Value::Null, &testing::environment()).err().unwrap().to_string();
    assert!(error.contains("storage.floppy") && error.contains("storage.s3"), "{error}");
}

#[tokio::test]
async fn promise_v12_what_is_saved_is_read_back_overwritten_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut storages =
        vec![make("storage.file", json!({"path": dir.path()}), &testing::environment()).unwrap()];
    let redis = testkit::services::redis();
    if let Some(space) = &redis {
        let options = json!({"redis_url": space.url(), "prefix": format!("{}v12", space.prefix())});
        storages.push(make("storage.redis_storage", options, &testing::environment()).unwrap());
    }
    let postgres = testkit::services::postgres();
    if let Some(database) = &postgres {
        let url = url::Url::parse(&database.url()).unwrap();
        let options = json!({"host": url.host_str(), "port": url.port().unwrap_or(5432), "user": url.username(),
            "password": url.password().unwrap_or(""), "database": database.name()});
        storages.push(make("storage.postgres", options, &testing::environment()).unwrap());
    }
    for storage in &storages {
        conformance::keeps(&**storage).await;
    }
}
