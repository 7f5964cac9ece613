//! Options as they are written into a vCon (`vendor_schema`): without secrets.

use serde_json::Value;

/// Parts of names whose values stay with us: credentials, and addresses, which may carry some.
const SECRET: &[&str] =
    &["key", "token", "secret", "password", "authorization", "url", "headers", "credential"];

/// The options without what must not leave.
pub(in crate::links) fn without_secrets(options: &Value) -> Value {
    match options {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(name, _)| {
                    let name = name.to_ascii_lowercase();
                    !SECRET.iter().any(|secret| name.contains(secret))
                })
                .map(|(name, value)| (name.clone(), without_secrets(value)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        other => other.clone(),
    }
}

/// The options over the defaults, as they were before they were read.
pub(in crate::links) fn over(defaults: Value, options: &Value) -> Value {
    let (Value::Object(mut merged), Value::Object(options)) = (defaults, options) else {
        return options.clone();
    };
    for (name, value) in options {
        merged.insert(name.clone(), value.clone());
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_secret_and_no_address_is_left() {
        let options = json!({"DEEPGRAM_KEY": "s3", "api": {"model": "nova-3", "callback_url": "s3", "x": [{"Token": "s3"}]},
            "LITELLM_MASTER_KEY": "s3", "minimum_duration": 60});
        let clean = without_secrets(&over(json!({"minimum_duration": 30, "a": 1}), &options));
        assert_eq!(clean, json!({"api": {"model": "nova-3", "x": [{}]}, "minimum_duration": 60, "a": 1}));
    }
}
