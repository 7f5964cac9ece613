//! Bodies and values out of flags.
//!
//! A command's options are a struct that serializes to the body of its request: what was not given is left out,
//! so that the server's own defaults and a part of an edit are what they are.

use std::io::Read as _;
use std::path::Path;

use base::{Duration, Money};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::Failure;

/// The largest file that is sent: what the server takes at most.
const MAX_FILE: u64 = 64 << 20;

/// `name=value`.
pub type Pair = (String, Value);

/// Fields that an edit empties.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Clear {
    /// Fields to clear, by their names in the JSON, as `expires_at`.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    clear: Vec<String>,
}

/// What was given of these options.
pub fn body(options: &impl Serialize) -> Result<Map<String, Value>, Failure> {
    let value = serde_json::to_value(options).map_err(|error| Failure::setup(error.to_string()))?;
    let Value::Object(mut map) = value else { return Ok(Map::new()) };
    map.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
    Ok(map)
}

/// An edit: what was given, and what is cleared. Nothing at all is a mistake.
pub fn cleared(mut body: Map<String, Value>, clear: &Clear) -> Result<Value, Failure> {
    for field in &clear.clear {
        if body.insert(field.clone(), Value::Null).is_some() {
            return Err(Failure::Setup(format!("`{field}` is both set and cleared: leave one out")));
        }
    }
    if body.is_empty() {
        return Err(Failure::setup(
            "nothing to change: name what is to be different, as `--description TEXT`",
        ));
    }
    Ok(Value::Object(body))
}

/// Serializes pairs as an object.
pub fn named<S: Serializer>(pairs: &[Pair], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// Reads `name=value`, the value a text.
pub fn pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// The same, a whole number when it looks like one: `requests_per_minute=60`, `tokens_per_day=unlimited`.
pub fn setting(text: &str) -> Result<Pair, String> {
    let (name, value) = pair(text)?;
    let number = value.as_str().and_then(|value| value.trim().parse::<u64>().ok());
    Ok((name, number.map_or(value, Value::from)))
}

/// Reads an amount of money, so that a slip is seen before anything is sent.
pub fn amount(text: &str) -> Result<String, String> {
    text.parse::<Money>().map(|amount| amount.to_string()).map_err(|error| error.to_string())
}

/// A moment: `2026-11-20`, `2026-11-20T22:00:00Z`, or a duration before now, as `7d`.
pub fn moment_ago(text: &str) -> Result<String, String> {
    moment(text, |now, span| now - span)
}

/// The same with a duration from now on.
pub fn moment_ahead(text: &str) -> Result<String, String> {
    moment(text, |now, span| now + span)
}

fn moment(text: &str, apply: impl FnOnce(i128, i128) -> i128) -> Result<String, String> {
    let wrong = || {
        "expected a day as `2026-11-20`, a time as `2026-11-20T22:00:00Z`, or a duration as `7d`".to_owned()
    };
    if let Ok(span) = Duration::parse(text) {
        let span = i128::try_from(span.0.as_nanos()).map_err(|_| wrong())?;
        let nanos = apply(Timestamp::now().as_nanosecond(), span);
        let millis = i64::try_from(nanos / 1_000_000).map_err(|_| wrong())?;
        return Timestamp::from_millisecond(millis).map(|time| time.to_string()).map_err(|_| wrong());
    }
    if text.len() == 10 {
        return text.parse::<Date>().map(|day| format!("{day}T00:00:00Z")).map_err(|_| wrong());
    }
    text.parse::<Timestamp>().map(|time| time.to_string()).map_err(|_| wrong())
}

/// A number or a text, as it stands in a query or a table.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A file that is sent; `-` is stdin.
pub fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    let name = file.display();
    match read {
        Ok(length) if length as u64 <= MAX_FILE => Ok(bytes),
        Ok(_) => Err(Failure::Setup(format!("`{name}` is larger than 64 MiB: split it"))),
        Err(error) => Err(Failure::Setup(format!("`{name}` cannot be read: {error}"))),
    }
}

/// The same as text.
pub fn read_text(file: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read_file(file)?);
    text.map_err(|_| Failure::Setup(format!("`{}` is not UTF-8", file.display())))
}

/// The same as JSON.
pub fn parse_json(file: &Path) -> Result<Value, Failure> {
    serde_json::from_slice(&read_file(file)?)
        .map_err(|error| Failure::Setup(format!("`{}` is not JSON: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Options {
        name: Option<&'static str>,
        tags: Vec<&'static str>,
        #[serde(serialize_with = "named")]
        limits: Vec<Pair>,
        enabled: bool,
    }

    #[test]
    fn a_body_holds_what_was_given() {
        let nothing = Options { name: None, tags: vec![], limits: vec![], enabled: false };
        assert_eq!(Value::Object(body(&nothing).unwrap()), json!({"enabled": false}));
        let limits = vec![setting("requests_per_minute=60").unwrap(), setting("burst=unlimited").unwrap()];
        let some = Options { name: Some("a"), tags: vec!["x"], limits, enabled: true };
        assert_eq!(
            Value::Object(body(&some).unwrap()),
            json!({"name": "a", "tags": ["x"], "enabled": true,
                "limits": {"requests_per_minute": 60, "burst": "unlimited"}})
        );
    }

    #[test]
    fn an_edit_clears_and_is_never_empty() {
        let clear = |fields: &[&str]| Clear { clear: fields.iter().map(|&field| field.to_owned()).collect() };
        let empty = || body(&json!({"name": null})).unwrap();
        assert_eq!(
            cleared(empty(), &clear(&["expires_at", "user"])).unwrap(),
            json!({"expires_at": null, "user": null})
        );
        assert!(cleared(empty(), &clear(&[])).unwrap_err().to_string().contains("nothing to change"));
        let both = cleared(body(&json!({"user": "a"})).unwrap(), &clear(&["user"])).unwrap_err();
        assert_eq!(both.to_string(), "`user` is both set and cleared: leave one out");
    }

    #[test]
    fn pairs_need_a_name() {
        assert_eq!(pair("team=a=b").unwrap(), ("team".to_owned(), json!("a=b")));
        assert_eq!(pair("count=7").unwrap().1, json!("7"));
        assert_eq!(setting("burst=-7").unwrap().1, json!("-7"), "the server says what is wrong with it");
        assert!(pair("team").is_err() && pair("=a").is_err());
    }

    #[test]
    fn money_is_exact_or_refused() {
        assert_eq!(amount("12.50").as_deref(), Ok("12.5"));
        assert_eq!(amount("-0.000000001").as_deref(), Ok("-0.000000001"));
        for bad in ["NaN", "1e3", "", "1.0000000001", "99999999999", "$5", "1,000"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_days_times_or_durations() {
        assert_eq!(moment_ago("2026-11-20").as_deref(), Ok("2026-11-20T00:00:00Z"));
        assert_eq!(moment_ahead("2026-11-20T22:00:00+01:00").as_deref(), Ok("2026-11-20T21:00:00Z"));
        let day = |text: &str| text.parse::<Timestamp>().unwrap().as_second() / 86_400;
        let now = Timestamp::now().as_second() / 86_400;
        assert!((6..=8).contains(&(now - day(&moment_ago("7d").unwrap()))));
        assert!((89..=91).contains(&(day(&moment_ahead("90d").unwrap()) - now)));
        for bad in ["", "yesterday", "2026-13-01", "2026-11-20T22:00:00", "7", "999999999999d"] {
            assert!(moment_ago(bad).is_err(), "{bad}");
        }
    }
}
