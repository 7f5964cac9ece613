//! Options of links and storages.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with options; the text says what to change and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(pub String);

impl OptionsError {
    /// An error of this text.
    pub fn new(text: impl Into<String>) -> Self {
        OptionsError(text.into())
    }
}

/// Reads options. None at all means the defaults. Keys that are not known are told in the log and change nothing:
/// files written for the Conserver may have them.
pub fn read<T: DeserializeOwned>(module: &str, options: Value, known: &[&str]) -> Result<T, OptionsError> {
    let options = match options {
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other,
    };
    let Value::Object(map) = &options else {
        return Err(OptionsError::new("options must be a map of names and values"));
    };
    for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
        tracing::warn!(module, option = key.as_str(), "this option is not known and has no effect");
    }
    // The words of serde name the field and the type, never the value of a text that could be a secret.
    serde_json::from_value(options).map_err(|error| OptionsError::new(without_value(&error.to_string())))
}

/// `invalid type: string "secret", expected u32` without what was in quotes.
fn without_value(text: &str) -> String {
    match (text.find("string \""), text.rfind("\", expected")) {
        (Some(start), Some(end)) if start + 8 <= end => {
            format!("{}string{}", &text[..start], &text[end + 1..])
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default)]
    struct Options {
        seconds: u32,
    }

    impl Default for Options {
        fn default() -> Self {
            Options { seconds: 5 }
        }
    }

    #[test]
    fn missing_options_are_the_defaults_and_wrong_ones_are_told_without_their_value() {
        let read = |value| read::<Options>("links.x", value, &["seconds"]);
        assert_eq!(read(Value::Null).unwrap().seconds, 5);
        assert_eq!(read(json!({"other": 1})).unwrap().seconds, 5);
        let error = read(json!({"seconds": "hunter2"})).unwrap_err().to_string();
        assert!(error.contains("expected u32") && !error.contains("hunter2"), "{error}");
        assert!(read(json!([1])).is_err());
    }
}
