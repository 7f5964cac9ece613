//! The text that a model is asked about: found in an analysis, by a path into its body.

use serde::Deserialize;
use serde_json::Value;

use crate::vcon::{Object, Vcon};

/// Where the text is.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(in crate::links) struct Source {
    /// The type of the analysis.
    pub(in crate::links) analysis_type: String,
    /// The path to the text, as `body.paragraphs.transcript`.
    pub(in crate::links) text_location: String,
}

impl Default for Source {
    fn default() -> Self {
        Source { analysis_type: "transcript".into(), text_location: "body.paragraphs.transcript".into() }
    }
}

impl Source {
    /// The dialogs that have the text and no analysis of the type `made` yet.
    pub(in crate::links) fn open(&self, vcon: &Vcon, made: &str) -> Vec<(usize, String)> {
        (0..vcon.dialog().len())
            .filter(|dialog| vcon.find_analysis(*dialog, made).is_none())
            .filter_map(|dialog| {
                let analysis = vcon.find_analysis(dialog, &self.analysis_type);
                let text = analysis.and_then(|analysis| text_at(&decoded(analysis), &self.text_location));
                if text.is_none() {
                    tracing::debug!(vcon = vcon.uuid(), dialog, "there is no text to ask about");
                }
                Some((dialog, text?))
            })
            .collect()
    }
}

/// An analysis or attachment as a value, its body read when it is the text of JSON.
pub(in crate::links) fn decoded(object: &Object) -> Value {
    let mut map = serde_json::Map::new();
    for (key, value) in object.iter() {
        map.insert(key.to_owned(), serde_json::from_str(value.get()).unwrap_or_default());
    }
    if map.get("encoding").and_then(Value::as_str) == Some("json")
        && let Some(body) = map.get("body").and_then(Value::as_str)
        && let Ok(body) = serde_json::from_str(body)
    {
        map.insert("body".into(), body);
    }
    Value::Object(map)
}

/// What stands at a path; numbers are places in lists. None when it is not there or empty.
fn text_at(value: &Value, path: &str) -> Option<String> {
    let found = path.split('.').try_fold(value, |value, part| match value {
        Value::Object(map) => map.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })?;
    match found {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Bool(false) => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_through_objects_and_lists() {
        let value = json!({"body": {"a": [{"t": "x"}], "empty": "", "list": [1, 2], "no": false}});
        assert_eq!(text_at(&value, "body.a.0.t").as_deref(), Some("x"));
        assert_eq!(text_at(&value, "body.list").as_deref(), Some("[1,2]"));
        for none in ["body.empty", "body.no", "body.a.1.t", "body.a.t", "other", ""] {
            assert_eq!(text_at(&value, none), None, "{none}");
        }
    }
}
