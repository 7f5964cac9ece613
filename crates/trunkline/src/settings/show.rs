//! The effective settings as a flat table.

use serde_json::Value as Json;

use super::Settings;
use super::problem::{Origin, Path};
use super::tree::Node;

/// Path, value and origin of every setting in effect. Secrets hide themselves when they are serialized.
pub fn flatten(settings: &Settings, tree: &Node) -> Vec<(String, String, String)> {
    let mut rows = Vec::new();
    if let Ok(json) = serde_json::to_value(settings) {
        walk(&json, &Path::default(), tree, &mut rows);
    }
    rows
}

fn walk(json: &Json, path: &Path, tree: &Node, rows: &mut Vec<(String, String, String)>) {
    match json {
        Json::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                walk(value, &path.key(key), tree, rows);
            }
        }
        Json::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &path.index(index), tree, rows);
            }
        }
        _ => {
            let origin = match tree.find(path) {
                Some(node) => node.origin.short(),
                None => Origin::Default("").short(),
            };
            rows.push((path.to_string(), text(json), origin));
        }
    }
}

fn text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
