//! What the API asks of a vCon: the checks of the Conserver, and its way of telling what is wrong.
//!
//! An error has the form of FastAPI's (<https://fastapi.tiangolo.com/tutorial/handling-errors/>):
//! `{"type", "loc", "msg", "input"}`.

use serde_json::{Value, json};

use super::{List, MAX_DEPTH, Object, Vcon, VconError, is_uuid, parse_time, raw};

/// How many mistakes are told at once.
const MAX_ERRORS: usize = 50;
/// The longest input that is sent back, in bytes.
const MAX_INPUT: usize = 2_000;

/// Reads a vCon as the API takes it. The error is the list of what is wrong, as FastAPI tells it.
pub fn read(text: &bytes::Bytes) -> Result<Vcon, Vec<Value>> {
    match Vcon::parse(text.clone()) {
        Ok(mut vcon) => {
            let errors = check(&mut vcon, text);
            if errors.is_empty() { Ok(vcon) } else { Err(errors) }
        }
        Err(VconError::Json(why)) => Err(vec![json!({
            "type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error", "input": {},
            "ctx": {"error": why},
        })]),
        Err(VconError::Depth) => Err(vec![json!({
            "type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error", "input": {},
            "ctx": {"error": format!("nested deeper than {MAX_DEPTH} levels")},
        })]),
        Err(VconError::Form(_)) => Err(without_uuid(text)),
    }
}

/// What is wrong with JSON that has no uuid, or is no object.
fn without_uuid(text: &[u8]) -> Vec<Value> {
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        return vec![error("json_invalid", &["body".into()], "JSON decode error", Value::Null)];
    };
    let Some(map) = value.as_object() else {
        let text = "Input should be a valid dictionary or object to extract fields from";
        return vec![error("model_attributes_type", &["body".into()], text, value)];
    };
    let mut errors = Vec::new();
    for key in ["vcon", "uuid", "created_at"] {
        match map.get(key) {
            None => errors.push(missing(key, Value::Null)),
            Some(given) if key == "uuid" => errors.push(uuid_error(given.clone())),
            Some(_) => {}
        }
    }
    errors
}

fn missing(key: &str, input: Value) -> Value {
    error("missing", &["body".into(), key.into()], "Field required", input)
}

fn uuid_error(given: Value) -> Value {
    let loc = ["body".into(), "uuid".into()];
    match given {
        Value::String(_) => error("uuid_parsing", &loc, "Input should be a valid UUID", given),
        _ => error("uuid_type", &loc, "UUID input should be a string, bytes or UUID object", given),
    }
}

fn error(kind: &str, loc: &[Value], text: &str, input: Value) -> Value {
    let input = match input.to_string().len() > MAX_INPUT {
        true => Value::from("(too long to be repeated)"),
        false => input,
    };
    json!({"type": kind, "loc": loc, "msg": text, "input": input})
}

/// One that a check of ours found.
fn refused(loc: &[Value], text: &str, input: Value) -> Value {
    let mut refused = error("value_error", loc, &format!("Value error, {text}"), input);
    refused["ctx"] = json!({"error": {}});
    refused
}

fn check(vcon: &mut Vcon, text: &[u8]) -> Vec<Value> {
    let mut errors = Vec::new();
    match vcon.value("vcon") {
        None => errors.push(missing("vcon", shown(text))),
        Some(Value::String(_)) => {}
        Some(other) => {
            errors.push(error(
                "string_type",
                &["body".into(), "vcon".into()],
                "Input should be a valid string",
                other,
            ));
        }
    }
    match vcon.value("created_at") {
        None => errors.push(missing("created_at", shown(text))),
        Some(given) => match time(&given) {
            Some(normal) if given.as_str() == Some(&normal) => {}
            Some(normal) => vcon.set("created_at", normal),
            None => {
                let text = "Input should be a valid datetime";
                errors.push(error("datetime_parsing", &["body".into(), "created_at".into()], text, given));
            }
        },
    }
    for list in [List::Parties, List::Dialog, List::Analysis, List::Attachments] {
        // What could not be opened as a list of objects is kept as it came.
        if let Some(given) = vcon.value(list.as_str()) {
            not_a_list(list, given, &mut errors);
        }
    }
    if let Some(given) = vcon.value("group").filter(|given| !given.is_array()) {
        errors.push(error(
            "list_type",
            &["body".into(), "group".into()],
            "Input should be a valid list",
            given,
        ));
    }
    if let Some(given) = vcon.value("redacted").filter(|given| !given.is_object()) {
        let text = "Input should be a valid dictionary";
        errors.push(error("dict_type", &["body".into(), "redacted".into()], text, given));
    }
    let parties = vcon.parties().len();
    for (index, party) in vcon.parties().iter().enumerate() {
        check_party(index, party, &mut errors);
    }
    let mut numbers = Vec::new();
    for (index, dialog) in vcon.dialog().iter().enumerate() {
        check_dialog(index, dialog, parties, &mut errors);
        if let Some(Value::String(text)) = dialog.value("duration")
            && let Ok(number) = text.trim().parse::<f64>()
        {
            numbers.push((index, number));
        }
        if errors.len() >= MAX_ERRORS {
            break;
        }
    }
    for (index, number) in numbers {
        vcon.list_mut(List::Dialog)[index].set("duration", number);
    }
    errors.truncate(MAX_ERRORS);
    errors
}

fn shown(text: &[u8]) -> Value {
    match text.len() <= MAX_INPUT {
        true => serde_json::from_slice(text).unwrap_or_default(),
        false => Value::from("(too long to be repeated)"),
    }
}

/// A time as it is stored: `+00:00` where it was `Z`, text where it was a number.
fn time(given: &Value) -> Option<String> {
    match given {
        Value::String(text) => {
            if let Ok(seconds) = text.parse::<f64>() {
                return epoch(seconds);
            }
            parse_time(text)?;
            Some(match text.strip_suffix(['Z', 'z']) {
                Some(text) => format!("{text}+00:00"),
                None => text.clone(),
            })
        }
        Value::Number(number) => epoch(number.as_f64()?),
        _ => None,
    }
}

fn epoch(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    // As pydantic: large numbers are milliseconds.
    let seconds = if number.abs() > 2e10 { number / 1e3 } else { number };
    let micros = (seconds * 1e6).round();
    let time = jiff::Timestamp::from_microsecond(micros as i64).ok()?;
    let format = if time.subsec_microsecond() == 0 {
        "%Y-%m-%dT%H:%M:%S+00:00"
    } else {
        "%Y-%m-%dT%H:%M:%S%.6f+00:00"
    };
    (micros.abs() < 2.5e17).then(|| time.strftime(format).to_string())
}

fn not_a_list(list: List, given: Value, errors: &mut Vec<Value>) {
    let name = list.as_str();
    let Value::Array(items) = given else {
        return errors.push(error(
            "list_type",
            &["body".into(), name.into()],
            "Input should be a valid list",
            given,
        ));
    };
    for (index, item) in items.into_iter().enumerate().filter(|(_, item)| !item.is_object()).take(MAX_ERRORS)
    {
        let loc = ["body".into(), name.into(), index.into()];
        errors.push(error("dict_type", &loc, "Input should be a valid dictionary", item));
    }
}

fn check_party(index: usize, party: &Object, errors: &mut Vec<Value>) {
    let Some(given) = party.value("tel").filter(|given| !given.is_null()) else { return };
    let loc = ["body".into(), "parties".into(), index.into(), "tel".into()];
    match &given {
        Value::String(tel) if is_tel(tel) => {}
        Value::String(_) => errors.push(refused(&loc, "Invalid telephone number format", given)),
        _ => errors.push(error("string_type", &loc, "Input should be a valid string", given)),
    }
}

/// `+`, a digit or `(`, and then at least four of digits and what people write between them.
fn is_tel(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|c| c == '+' || c == '(' || c.is_ascii_digit());
    let rest: Vec<char> = characters.collect();
    first && rest.len() >= 4 && rest.iter().all(|c| c.is_ascii_digit() || " -().+xX#*".contains(*c))
}

fn check_dialog(index: usize, dialog: &Object, parties: usize, errors: &mut Vec<Value>) {
    let loc = |key: &str| [Value::from("body"), "dialog".into(), index.into(), key.into()];
    let given = |key: &str| dialog.value(key).filter(|given| !given.is_null());
    if let Some(duration) = given("duration") {
        let number = match &duration {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number >= 0.0 && number.is_finite() => {}
            Some(_) => errors.push(refused(&loc("duration"), "Duration must be non-negative", duration)),
            None => errors.push(error(
                "float_parsing",
                &loc("duration"),
                "Input should be a valid number",
                duration,
            )),
        }
    }
    text_check(dialog, "url", &loc("url"), is_url, "Invalid URL format", errors);
    text_check(dialog, "mimetype", &loc("mimetype"), is_media_type, "Invalid MIME type format", errors);
    text_check(dialog, "alg", &loc("alg"), is_algorithm, "Unknown algorithm", errors);
    if let Some(named) = given("parties") {
        let Value::Array(places) = &named else {
            return errors.push(error("list_type", &loc("parties"), "Input should be a valid list", named));
        };
        for (place, party) in places.iter().enumerate() {
            let [a, b, c, d] = loc("parties");
            let loc = [a, b, c, d, place.into()];
            match party.as_u64() {
                Some(party) if (party as usize) < parties => {}
                Some(_) => errors.push(refused(&loc, "Party index is out of range", party.clone())),
                None => {
                    errors.push(error("int_type", &loc, "Input should be a valid integer", party.clone()));
                }
            }
            if errors.len() >= MAX_ERRORS {
                return;
            }
        }
    }
}

fn text_check(
    dialog: &Object,
    key: &str,
    loc: &[Value],
    fine: fn(&str) -> bool,
    text: &str,
    errors: &mut Vec<Value>,
) {
    let Some(given) = dialog.value(key).filter(|given| !given.is_null()) else { return };
    match &given {
        Value::String(value) if fine(value) => {}
        Value::String(_) => errors.push(refused(loc, text, given)),
        _ => errors.push(error("string_type", loc, "Input should be a valid string", given)),
    }
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
        && !rest.is_empty()
}

fn is_media_type(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    text.split_once('/').is_some_and(|(kind, of)| part(kind) && part(of))
}

fn is_algorithm(text: &str) -> bool {
    let (family, size) = match text.strip_prefix("SHA-") {
        Some(size) => ("SHA", size),
        None if text.is_char_boundary(2) && text.len() == 5 => text.split_at(2),
        None => return false,
    };
    ["SHA", "HS", "RS", "ES", "PS"].contains(&family) && ["256", "384", "512"].contains(&size)
}

impl Vcon {
    /// Adds what is absent as the Conserver stores it: `subject: null`, a party's `tel: null`, …
    pub fn materialise(&mut self) {
        for (key, value) in [
            ("subject", Value::Null),
            ("redacted", json!({})),
            ("appended", Value::Null),
            ("group", json!([])),
        ] {
            if !self.keys().any(|known| known == key) {
                self.set(key, value);
            }
        }
        for (list, keys) in [
            (List::Parties, &["tel"][..]),
            (List::Dialog, &["duration", "start", "parties", "url", "mimetype", "alg"]),
            (List::Analysis, &[]),
            (List::Attachments, &[]),
        ] {
            let missing = |object: &Object| keys.iter().any(|key| !object.has(key));
            let is_there = self.keys().any(|known| known == list.as_str());
            if is_there && !self.list(list).iter().any(missing) {
                continue;
            }
            for object in self.list_mut(list) {
                for key in keys.iter() {
                    if !object.has(key) {
                        object.set_raw(key, raw(&Value::Null));
                    }
                }
            }
        }
    }
}

/// Refuses a text that is no UUID, as FastAPI does for a path.
pub fn path_uuid(text: &str) -> Result<String, Value> {
    if is_uuid(text) {
        return Ok(text.to_ascii_lowercase());
    }
    let loc = ["path".into(), "vcon_uuid".into()];
    Err(error("uuid_parsing", &loc, "Input should be a valid UUID", text.into()))
}

#[cfg(test)]
mod tests;
