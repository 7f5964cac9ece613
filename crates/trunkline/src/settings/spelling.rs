//! Other ways to write a setting, rewritten as the one way.
//!
//! Serde could read most of them, but then the environment, which knows each setting by one name, would lay
//! its value beside and not over what the file has, and `config show` would not find where it was written.

use super::problem::{Path, Problem};
use super::tree::{Entry, Node, Value};

/// Sections that are mostly one word: `cache: memory` is short for `cache: {backend: memory}`.
const SHORT: [&str; 4] = ["data.cache", "data.queue", "data.events", "data.blobs"];
/// The names of Rodger's guide, and the short ones, below `limits`.
const SCOPES: [(&str, &str); 2] = [("perUser", "per_user"), ("perIP", "per_ip")];
const LIMITED: [&str; 6] = ["global", "per_key", "per_user", "per_group", "per_ip", "per_ip_admin"];
const LIMITS: [(&str, &str); 8] = [
    ("rpm", "requests_per_minute"),
    ("rph", "requests_per_hour"),
    ("rpd", "requests_per_day"),
    ("tpm", "tokens_per_minute"),
    ("tph", "tokens_per_hour"),
    ("tpd", "tokens_per_day"),
    ("max_parallel_requests", "concurrent_requests"),
    ("blockDuration", "block"),
];

/// Rewrites what the file says.
pub fn settle(tree: &mut Node, problems: &mut Vec<Problem>) {
    rename(tree, &Path::default(), ("rateLimiting", "limits"), problems);
    let limits = Path::of("limits");
    for names in SCOPES {
        rename(tree, &limits, names, problems);
    }
    for scope in LIMITED {
        for names in LIMITS {
            // Only addresses are blocked; elsewhere the key stays unknown, under the name it was written with.
            if names.1 != "block" || scope.starts_with("per_ip") {
                rename(tree, &limits.key(scope), names, problems);
            }
        }
    }
    spread(tree);
}

/// Writes out the sections that are one word, so that what is laid over can reach into them.
pub fn spread(tree: &mut Node) {
    for section in SHORT.map(Path::of) {
        let Some(node) = tree.find(&section).filter(|node| node.text().is_some() && !node.bad) else {
            continue;
        };
        let origin = node.origin.clone();
        let entry = Entry { key: "backend".into(), at: origin.clone(), node: node.clone() };
        // The place is there, as just seen: this cannot fail.
        let _ = tree.set(&section, Node { value: Value::Map(vec![entry]), origin, bad: false });
    }
}

fn rename(tree: &mut Node, at: &Path, (from, to): (&str, &str), problems: &mut Vec<Problem>) {
    let (old, new) = (at.key(from), at.key(to));
    if tree.find(&old).is_none_or(|node| node.bad) {
        return;
    }
    if tree.find(&new).is_some() {
        let message = format!("`{from}` is another name of `{to}`, which is there as well: keep one");
        problems.push(Problem::new(tree.origin_of(&old), &old, message));
        tree.discard(&old);
    } else if let Some(node) = tree.remove(&old) {
        // A key was just taken out there: this cannot fail.
        let _ = tree.set(&new, node);
    }
}

#[cfg(test)]
mod tests;
