//! Reasoning in chat messages and deltas.

use serde_json::{Map, Value, json};

use crate::Dialect;
use crate::form::{Reasoning, seal, unseal};

const DETAILS: &str = "reasoning_details";
/// The names under which providers write the text.
const TEXTS: [&str; 2] = ["reasoning_content", "reasoning"];

/// The reasoning of a message, taken out of its further fields. `origin` is whose an unmarked signature is.
pub(super) fn take(extra: &mut Map<String, Value>) -> Vec<Reasoning> {
    let text = TEXTS.iter().find_map(|name| match extra.remove(*name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    });
    // The second name may stand beside the first, with the same text.
    TEXTS.iter().for_each(|name| drop(extra.remove(*name)));
    let details = match extra.remove(DETAILS) {
        Some(Value::Array(details)) => details,
        _ => Vec::new(),
    };
    let mut all: Vec<Reasoning> = details.iter().filter_map(detail).collect();
    match (text, all.iter_mut().find(|reasoning| !reasoning.redacted)) {
        (Some(text), None) => all.insert(0, Reasoning { text, ..Reasoning::default() }),
        (Some(text), Some(first)) if first.text.is_empty() => first.text = text,
        _ => {}
    }
    all
}

fn detail(value: &Value) -> Option<Reasoning> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let id = text("id").map(str::to_owned);
    let (words, sealed, redacted) = match value.get("type")?.as_str()? {
        "reasoning.text" => (text("text"), text("signature"), false),
        "reasoning.summary" => (text("summary"), text("signature"), false),
        "reasoning.encrypted" => (None, Some(text("data")?), true),
        _ => return None,
    };
    let (origin, signature) = match sealed.map(|sealed| unseal(Dialect::Chat, sealed)) {
        Some((origin, signature)) => (Some(origin), Some(signature.to_owned())),
        None => (None, None),
    };
    Some(Reasoning { text: words.unwrap_or_default().to_owned(), signature, redacted, origin, id })
}

/// One piece of reasoning as an element of `reasoning_details`; `None` when its text says everything.
pub(super) fn detail_of(reasoning: &Reasoning, origin: Dialect) -> Option<Value> {
    let signature = reasoning.signature.as_deref()?;
    let sealed = seal(reasoning.origin.unwrap_or(origin), Dialect::Chat, signature);
    let mut detail = match reasoning.redacted {
        true => json!({"type": "reasoning.encrypted", "data": sealed}),
        false => json!({"type": "reasoning.text", "text": reasoning.text, "signature": sealed}),
    };
    if let (Some(id), Some(members)) = (&reasoning.id, detail.as_object_mut()) {
        members.insert("id".into(), id.as_str().into());
    }
    Some(detail)
}

/// Writes reasoning into a message's further fields.
pub(super) fn put(extra: &mut Map<String, Value>, all: &[&Reasoning], origin: Dialect) {
    let text: Vec<&str> = all.iter().map(|r| r.text.as_str()).filter(|text| !text.is_empty()).collect();
    if !text.is_empty() {
        extra.insert(TEXTS[0].into(), text.join("\n").into());
    }
    let details: Vec<Value> = all.iter().filter_map(|reasoning| detail_of(reasoning, origin)).collect();
    if !details.is_empty() {
        extra.insert(DETAILS.into(), details.into());
    }
}
