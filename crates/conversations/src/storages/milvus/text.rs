//! What of a vCon is looked through by its meaning: the text that is embedded, and the columns beside it.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::vcon::{Object, Vcon};

/// The longest text, in bytes.
pub(super) const LONG: usize = 65_535;
/// The longest line.
pub(super) const LINE: usize = 255;
/// The longest name.
pub(super) const SHORT: usize = 100;
/// The longest time.
pub(super) const TIME: usize = 30;

/// The columns that are texts and counts.
pub(super) struct Row {
    pub(super) text: String,
    party_id: String,
    created_at: String,
    updated_at: String,
    subject: String,
    title: String,
    has_transcript: bool,
    has_summary: bool,
    party_count: usize,
}

impl Row {
    pub(super) fn of(vcon: &Vcon) -> Row {
        let metadata = vcon.value("metadata").unwrap_or_default();
        let meta = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let has = |kind: &str| vcon.analysis().iter().any(|part| part.text("type").as_deref() == Some(kind));
        Row {
            text: cut(&text(vcon, &metadata), LONG).to_owned(),
            party_id: party_id(vcon, &metadata),
            created_at: meta("created_at"),
            updated_at: meta("updated_at"),
            subject: vcon.text("subject").unwrap_or_default().into_owned(),
            title: meta("title"),
            has_transcript: vcon.get("transcript").is_some() || has("transcript"),
            has_summary: has("summary"),
            party_count: vcon.parties().len(),
        }
    }

    pub(super) fn into_json(self, uuid: &str) -> Value {
        json!({
            "vcon_uuid": uuid,
            "party_id": cut(&self.party_id, SHORT),
            "text": self.text,
            "created_at": cut(&self.created_at, TIME),
            "updated_at": cut(&self.updated_at, TIME),
            "subject": cut(&self.subject, LINE),
            "metadata_title": cut(&self.title, LINE),
            "has_transcript": self.has_transcript,
            "has_summary": self.has_summary,
            "party_count": self.party_count.min(32_767),
        })
    }
}

/// The beginning of a text, at most so many bytes.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The body of a part, opened where it is JSON in a string.
fn body(part: &Object) -> Value {
    let body = part.value("body").unwrap_or_default();
    match (&body, part.text("encoding").as_deref()) {
        (Value::String(text), Some("json")) => serde_json::from_str(text).unwrap_or(body),
        _ => body,
    }
}

/// In the order of the Conserver: transcripts, summaries, parties, metadata, what was written.
fn text(vcon: &Vcon, metadata: &Value) -> String {
    let mut texts = Vec::new();
    if let Some(Value::Array(entries)) = vcon.value("transcript") {
        texts.extend(entries.iter().filter_map(|entry| entry["text"].as_str().map(str::to_owned)));
    }
    for kind in ["transcript", "summary"] {
        for part in vcon.analysis().iter().filter(|part| part.text("type").as_deref() == Some(kind)) {
            match body(part) {
                Value::String(text) if kind == "summary" => texts.push(text),
                other => texts.extend(other["text"].as_str().map(str::to_owned)),
            }
        }
    }
    for party in vcon.parties() {
        let of = |key: &str| party.text(key).filter(|text| !text.is_empty());
        let name = of("name").or_else(|| of("partyId"));
        if let (None, None) = (&name, of("role")) {
            continue;
        }
        let role = of("role").map(|role| format!("{role} ")).unwrap_or_default();
        texts.push(format!("Party: {role}{}.", name.unwrap_or_default()));
    }
    for (key, title) in [("title", "Title"), ("description", "Description"), ("created", "Created")] {
        texts.extend(metadata[key].as_str().map(|text| format!("{title}: {text}.")));
    }
    for dialog in vcon.dialog().iter().filter(|dialog| dialog.text("type").as_deref() == Some("text")) {
        texts.extend(dialog.text("body").map(Cow::into_owned));
    }
    texts.join(" ").trim().to_owned()
}

/// What tells the first party that tells anything.
fn party_id(vcon: &Vcon, metadata: &Value) -> String {
    for party in vcon.parties() {
        let of = |key: &str| party.text(key).filter(|text| !text.is_empty());
        let found = of("uuid")
            .map(Cow::into_owned)
            .or_else(|| of("tel").map(|tel| format!("tel:{tel}")))
            .or_else(|| of("mailto").map(|mail| format!("mailto:{mail}")))
            .or_else(|| match (of("role"), of("name")) {
                (Some(role), Some(name)) => Some(format!("{role}:{name}")),
                (Some(one), None) | (None, Some(one)) => Some(one.into_owned()),
                (None, None) => None,
            });
        let others = ["partyId", "PartyId", "party_id", "id", "userID", "userId"];
        if let Some(found) = found.or_else(|| others.into_iter().find_map(of).map(Cow::into_owned)) {
            return found;
        }
    }
    match (vcon.parties().is_empty(), metadata["creator"].as_str()) {
        (false, _) => "party_index:0".into(),
        (true, Some(creator)) => creator.to_owned(),
        (true, None) => "no_party_info".into(),
    }
}
