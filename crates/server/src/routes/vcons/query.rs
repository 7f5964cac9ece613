//! Parameters of a query, read as FastAPI reads them.

use conversations::vcon::parse_time;
use serde_json::{Value, json};

use super::Refusal;
use crate::admin::percent_decode;

/// The most parameters of one query.
const MAX: usize = 2_000;

/// The parameters of a query, in order.
pub(in crate::routes) struct Query(Vec<(String, String)>);

fn wrong(kind: &str, name: &str, text: &str, input: &Value) -> Refusal {
    Refusal::input(vec![json!({"type": kind, "loc": ["query", name], "msg": text, "input": input})])
}

impl Query {
    pub(super) fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let mut pairs = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()).take(MAX + 1) {
            if pairs.len() == MAX {
                return Err(wrong(
                    "too_many",
                    "",
                    &format!("A query has at most {MAX} parameters"),
                    &Value::Null,
                ));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (percent_decode(name, true), percent_decode(value, true)) {
                (Some(name), Some(value)) => pairs.push((name, value)),
                _ => return Err(wrong("string_unicode", "", "The query is not UTF-8", &Value::Null)),
            }
        }
        Ok(Query(pairs))
    }

    /// The last value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// A parameter that must be there.
    pub(super) fn needed(&self, name: &str) -> Result<String, Refusal> {
        match self.text(name) {
            Some(text) => Ok(text.to_owned()),
            None => Err(wrong("missing", name, "Field required", &Value::Null)),
        }
    }

    /// The name of a list, which must be there and be one that every queue carries.
    pub(super) fn list(&self, name: &str) -> Result<String, Refusal> {
        let list = self.needed(name)?;
        check_list(&list)?;
        Ok(list)
    }

    /// A whole number.
    pub(super) fn whole(&self, name: &str, default: i64) -> Result<i64, Refusal> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.trim().parse().map_err(|_| {
            let what = "Input should be a valid integer, unable to parse string as an integer";
            wrong("int_parsing", name, what, &text.into())
        })
    }

    /// A whole number between two.
    pub(super) fn between(&self, name: &str, default: i64, least: i64, most: i64) -> Result<i64, Refusal> {
        let given = self.whole(name, default)?;
        if given < least {
            let text = format!("Input should be greater than or equal to {least}");
            return Err(wrong("greater_than_equal", name, &text, &given.into()));
        }
        if given > most {
            let text = format!("Input should be less than or equal to {most}");
            return Err(wrong("less_than_equal", name, &text, &given.into()));
        }
        Ok(given)
    }

    /// Yes or no.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
    }

    /// A time, in milliseconds since the epoch.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let by_number = || text.parse::<f64>().ok().map(|seconds| (seconds * 1e3) as i64);
        // A `+` that was not encoded came as a space.
        match parse_time(text).or_else(|| parse_time(&text.replace(' ', "+"))).or_else(by_number) {
            Some(time) => Ok(Some(time)),
            None => Err(wrong("datetime_parsing", name, "Input should be a valid datetime", &text.into())),
        }
    }
}

/// Refuses the name of a list that not every queue carries.
pub(super) fn check_list(list: &str) -> Result<(), Refusal> {
    base::seams::SeamError::check_name("the name of a list", list).map_err(|error| {
        Refusal::input(vec![
            json!({"type": "value_error", "loc": ["query", "list"], "msg": error.to_string(),
            "input": list}),
        ])
    })
}
