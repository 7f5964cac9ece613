//! Hiding what may be a secret in options that we do not know, and finding it again.

use serde_json::Value;

use super::Ordered;

/// What stands in the place of a secret.
pub const MASKED: &str = "***";

/// Parts of a name that say that a secret follows.
const WORDS: &[&str] = &[
    "key",
    "keys",
    "apikey",
    "token",
    "tokens",
    "secret",
    "password",
    "passwd",
    "pwd",
    "pass",
    "pem",
    "credential",
    "credentials",
    "authorization",
    "auth",
    "dsn",
    "cookie",
];

fn is_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
        || ["apikey", "token", "secret", "password"].iter().any(|end| lower.ends_with(end))
}

/// A URL without the password that it may hold.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (user, _) = rest[..end].rsplit_once('@')?;
    let (name, _) = user.split_once(':')?;
    Some(format!("{scheme}://{name}:{MASKED}@{}", &rest[user.len() + 1..]))
}

/// Hides the secrets of a whole file.
pub fn mask(value: &Ordered) -> Ordered {
    hide(value, false, true)
}

fn hide(value: &Ordered, secret: bool, top: bool) -> Ordered {
    match value {
        Ordered::Map(entries) => Ordered::Map(
            entries
                .iter()
                .map(|(key, value)| {
                    // The keys of partners stand under the names of lists.
                    let secret = secret || (top && key == "ingress_auth") || (!top && is_secret(key));
                    (key.clone(), hide(value, secret, false))
                })
                .collect(),
        ),
        Ordered::List(items) => Ordered::List(items.iter().map(|item| hide(item, secret, false)).collect()),
        Ordered::Text(text) if secret && !text.is_empty() => Ordered::Text(MASKED.into()),
        Ordered::Int(_) | Ordered::Float(_) if secret => Ordered::Text(MASKED.into()),
        Ordered::Text(text) => Ordered::Text(without_password(text).unwrap_or_else(|| text.clone())),
        other => other.clone(),
    }
}

/// Puts the secrets of `old` where `new` has them masked, each at its own place. The error names the places at
/// which there is none.
pub fn unmask(new: Ordered, old: &Ordered) -> Result<Ordered, Vec<String>> {
    let mut missing = Vec::new();
    let found = find(new, Some(old), &mut String::new(), &mut missing);
    if missing.is_empty() { Ok(found) } else { Err(missing) }
}

fn find(new: Ordered, old: Option<&Ordered>, path: &mut String, missing: &mut Vec<String>) -> Ordered {
    let length = path.len();
    match new {
        Ordered::Map(entries) => Ordered::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    path.push_str(if length == 0 { "" } else { "." });
                    path.push_str(&key);
                    let value = find(value, old.and_then(|old| old.get(&key)), path, missing);
                    path.truncate(length);
                    (key, value)
                })
                .collect(),
        ),
        Ordered::List(items) => Ordered::List(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    path.push_str(&format!("[{index}]"));
                    let old = match old {
                        Some(Ordered::List(items)) => items.get(index),
                        _ => None,
                    };
                    let item = find(item, old, path, missing);
                    path.truncate(length);
                    item
                })
                .collect(),
        ),
        Ordered::Text(text) if text == MASKED => match old {
            Some(old @ (Ordered::Text(_) | Ordered::Int(_) | Ordered::Float(_))) => old.clone(),
            _ => {
                missing.push(path.clone());
                Ordered::Text(text)
            }
        },
        Ordered::Text(text) if text.contains(MASKED) => match old {
            // Only the password of a URL was hidden: it is back when the rest is as it was.
            Some(Ordered::Text(before)) if without_password(before).as_deref() == Some(&*text) => {
                Ordered::Text(before.clone())
            }
            _ => {
                missing.push(path.clone());
                Ordered::Text(text)
            }
        },
        other => other,
    }
}

/// The same for options: a copy without secrets.
pub(super) fn masked(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let hidden = match value {
                        Value::String(text) if is_secret(key) && !text.is_empty() => MASKED.into(),
                        Value::Array(items) if is_secret(key) => items.iter().map(|_| MASKED).collect(),
                        Value::Number(_) if is_secret(key) => MASKED.into(),
                        other => masked(other),
                    };
                    (key.clone(), hidden)
                })
                .collect(),
        ),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::String(text) => without_password(text).unwrap_or_else(|| text.clone()).into(),
        other => other.clone(),
    }
}
