//! The JSON Schema that editors use is the one of the settings there are.

use super::{sources, text};

#[test]
fn the_schema_for_editors_is_current() {
    let kept: serde_json::Value = serde_json::from_str(&text("docs/settings.schema.json")).unwrap();
    assert!(
        kept == trunkline::settings::schema(),
        "docs/settings.schema.json is old: write it anew with `cargo run -- config schema > docs/settings.schema.json`"
    );
}

#[test]
fn the_examples_name_it() {
    let line = "# yaml-language-server: $schema=../../docs/settings.schema.json";
    let examples = sources(&["examples/settings"], &[".yaml"]);
    assert!(!examples.is_empty());
    for example in examples {
        assert_eq!(text(&example).lines().next(), Some(line), "{}", example.display());
    }
}
