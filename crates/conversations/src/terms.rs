//! What a vCon is found by.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::vcon::Vcon;

/// The most terms of one vCon.
const MAX_TERMS: usize = 1_000;
/// The longest term, in bytes; what is longer is not found by it.
const MAX_TERM: usize = 500;
/// The most text of one vCon that can be searched, in bytes.
const MAX_WORDS: usize = 1 << 20;

/// The terms of a vCon: each party's tel, mailto and name, and the tags.
pub fn terms(vcon: &Vcon) -> Vec<String> {
    let mut terms = Vec::new();
    for party in vcon.parties() {
        for key in ["tel", "mailto", "name"] {
            if let Some(value) = party.text(key).filter(|value| !value.is_empty()) {
                terms.push(format!("{key}:{value}"));
            }
        }
    }
    terms.extend(vcon.tags().into_iter().map(|(name, value)| format!("tag:{name}:{value}")));
    // PostgreSQL keeps no NUL.
    terms.retain(|term| term.len() <= MAX_TERM && !term.contains('\0'));
    terms.truncate(MAX_TERMS);
    terms
}

/// The words of a vCon: its subject, the texts of its dialog and what analysis says.
pub fn words(text: &[u8]) -> String {
    let Ok(vcon) = Vcon::parse(text.to_vec()) else { return String::new() };
    let mut words = String::new();
    let mut add = |text: &str| {
        let room = MAX_WORDS.saturating_sub(words.len());
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        words.extend(text[..end].chars().map(|c| if c == '\0' { ' ' } else { c }));
        words.push('\n');
    };
    if let Some(subject) = vcon.text("subject") {
        add(&subject);
    }
    for dialog in vcon.dialog() {
        let media = dialog.text("mediatype").or_else(|| dialog.text("mimetype"));
        let is_text =
            dialog.text("type").as_deref() == Some("text") || media.is_some_and(|m| m.starts_with("text/"));
        if is_text && let Some(body) = dialog.text("body") {
            add(&body);
        }
    }
    for analysis in vcon.analysis() {
        if analysis.text("encoding").as_deref() == Some("base64url") {
            continue;
        }
        match analysis.value("body") {
            Some(Value::String(text)) => match serde_json::from_str::<Value>(&text) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => add_texts(&value, &mut add),
                _ => add(&text),
            },
            Some(value) => add_texts(&value, &mut add),
            None => {}
        }
    }
    words
}

fn add_texts(value: &Value, add: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => add(text),
        Value::Array(items) => items.iter().for_each(|item| add_texts(item, add)),
        Value::Object(map) => map.values().for_each(|value| add_texts(value, add)),
        _ => {}
    }
}

/// Names a content.
pub fn content(text: &[u8]) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn terms_and_words_are_what_people_look_for() {
        let mut vcon = testing::vcon();
        vcon.add_tag("a", "b:c");
        let found = terms(&vcon);
        assert_eq!(
            found,
            ["tel:+15551234567", "name:Ann", "mailto:bob@example.com", "name:Bob", "tag:a:b:c"]
        );
        let analysis = serde_json::json!({"summary": "They greet", "score": 3});
        vcon.add_analysis(crate::Analysis {
            kind: "summary",
            dialog: 0.into(),
            vendor: "x",
            body: analysis,
            encoding: "none",
            extra: Vec::new(),
        });
        let words = words(&vcon.to_bytes());
        for word in ["A call", "Good morning.", "They greet"] {
            assert!(words.contains(word), "{words}");
        }
    }
}
