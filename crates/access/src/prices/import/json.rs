//! JSON lists, read row by row: a row that is wrong must not hide the others, and has to be told by its line.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{ImportError, Imported, MAX_ROWS};
use crate::prices::Price;

/// What the reader says when there are too many rows, to be told from what it says of wrong JSON.
const TOO_MANY: &str = "too many rows";

/// Our own form.
pub(super) fn import(text: &str) -> Result<Imported, ImportError> {
    let rows = object(text, "an object of prices by provider/model")?;
    let mut imported = Imported::default();
    for row in rows {
        let price: Result<Price, _> = serde_json::from_str(row.value.get());
        imported.row(row.line, &row.name, price.map_err(|error| sentence(&error)));
    }
    Ok(imported)
}

/// A row of a list: its name, if the list is an object, its text and its line.
pub(super) struct Row<'t> {
    pub(super) name: String,
    pub(super) value: &'t RawValue,
    pub(super) line: u64,
}

/// The rows of an object.
pub(super) fn object<'t>(text: &'t str, expected: &'static str) -> Result<Vec<Row<'t>>, ImportError> {
    let Pairs(pairs) = read(text, expected)?;
    Ok(with_lines(text, pairs))
}

/// The rows of an array.
pub(super) fn array<'t>(text: &'t str, expected: &'static str) -> Result<Vec<Row<'t>>, ImportError> {
    let Items(items) = read(text, expected)?;
    Ok(with_lines(text, items.into_iter().map(|value| (String::new(), value)).collect()))
}

/// The fields of one row. Empty if it is no object.
pub(super) fn fields(value: &RawValue) -> Vec<(String, &RawValue)> {
    serde_json::from_str(value.get()).map(|Pairs(pairs)| pairs).unwrap_or_default()
}

/// What a number or a string says, as text; nothing for everything else.
pub(super) fn scalar(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).ok(),
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Some(value.get().into()),
        _ => None,
    }
}

/// What the reader says of one row; its line and column count from the row, so they are left out.
pub(super) fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => message.into(),
        None => text,
    }
}

fn read<'t, T: Deserialize<'t>>(text: &'t str, expected: &'static str) -> Result<T, ImportError> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        if message.starts_with(TOO_MANY) {
            ImportError::TooManyRows
        } else {
            ImportError::Json { expected, message }
        }
    })
}

/// The line of each row. The rows lie in the text in their order, so the lines are counted once.
fn with_lines<'t>(text: &'t str, rows: Vec<(String, &'t RawValue)>) -> Vec<Row<'t>> {
    let (mut line, mut counted) = (1, 0);
    let place = |(name, value): (String, &'t RawValue)| {
        let at = (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let passed = text.as_bytes().get(counted..at).unwrap_or_default();
        line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = at;
        Row { name, value, line }
    };
    rows.into_iter().map(place).collect()
}

struct Pairs<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Pairs<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if pairs.len() == MAX_ROWS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Read).map(Pairs)
    }
}

struct Items<'t>(Vec<&'t RawValue>);

impl<'de: 't, 't> Deserialize<'de> for Items<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<&'de RawValue>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MAX_ROWS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(Read).map(Items)
    }
}
