//! The table of links as a whole.

use std::collections::BTreeSet;

use super::*;
use crate::testing;

/// The page, and what stands on it before the first link: options that several links have.
fn page() -> (String, String) {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/links.md")).unwrap();
    let shared = page.split("\n## `links.").next().unwrap().to_owned();
    (page, shared)
}

#[test]
fn the_page_tells_every_link_and_every_option() {
    let (page, shared) = page();
    let told: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    assert_eq!(told, modules().collect::<BTreeSet<_>>());
    let mut missing = Vec::new();
    for module in modules() {
        let (_, rest) = page.split_once(&format!("\n## `{module}`\n")).unwrap();
        let section = rest.split("\n## ").next().unwrap();
        for option in options_of(module) {
            let word = format!("`{option}`");
            if !section.contains(&word) && !shared.contains(&word) {
                missing.push(format!("{module}: {option}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/links.md does not tell {missing:#?}");
}

#[test]
fn promise_v13_every_link_of_the_guide_is_made_by_its_name() {
    // Fails when a row is taken out of the table.
    let names = [
        "tag",
        "tag_router",
        "sampler",
        "jq_link",
        "jq",
        "webhook",
        "diet",
        "expire_vcon",
        "delay",
        "analyze",
        "analyze_and_label",
        "analyze_vcon",
        "check_and_tag",
        "detect_engagement",
        "hugging_llm_link",
        "transcribe",
        "openai_transcribe",
        "deepgram_link",
        "groq_whisper",
        "hugging_face_whisper",
        "wtf_transcribe",
        "post_analysis_to_slack",
        "scitt",
        "datatrails",
        "mask",
        "http",
        "exec",
        "python",
    ];
    let environment = testing::environment();
    for name in names {
        for module in [format!("links.{name}"), name.to_owned()] {
            if let Err(error) = make(&module, Value::Null, &environment) {
                // What needs an option says so; what is not there says that.
                assert!(!error.to_string().contains("there is no link module"), "{error}");
            }
        }
    }
    assert!(
        make("links.nonesuch", Value::Null, &environment)
            .is_err_and(|error| error.to_string().contains("links.tag"))
    );
}
