//! A value of YAML or JSON whose maps keep their order, which in a Conserver's file has a meaning: lists are served
//! and storages asked in it.
//!
//! Scalars are read as the Conserver's reader does (YAML 1.1: `yes` is true, `0o644` a text).

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Serialize, Serializer, forward_to_deserialize_any};
use serde_json::Value;

/// The deepest nesting of a file.
const MAX_DEPTH: usize = 64;
/// The most values of a file, repeated aliases counted.
const MAX_VALUES: usize = 100_000;

/// A value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Ordered {
    /// Nothing.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Ordered>),
    /// A map, in its order.
    Map(Vec<(String, Ordered)>),
}

impl Ordered {
    /// Reads one YAML document. The error names the line.
    pub fn from_yaml(text: &str) -> Result<Self, String> {
        let mut builder = Builder::default();
        for next in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
            let (event, span) = next.map_err(|error| error.to_string())?;
            let line = span.start.line();
            builder.event(event).map_err(|why| format!("line {line}: {why}"))?;
        }
        Ok(builder.root.unwrap_or(Ordered::Map(Vec::new())))
    }

    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Ordered> {
        match self {
            Ordered::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// YAML that reads as this value.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    fn write(&self, text: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        match self {
            Ordered::Map(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    text.push_str(&format!("{indent}{}:", quoted(key)));
                    value.write_after(text, depth);
                }
            }
            Ordered::List(items) if !items.is_empty() => {
                for item in items {
                    text.push_str(&format!("{indent}-"));
                    item.write_after(text, depth);
                }
            }
            scalar => text.push_str(&format!("{indent}{}\n", scalar.inline())),
        }
    }

    fn write_after(&self, text: &mut String, depth: usize) {
        match self {
            Ordered::Map(entries) if !entries.is_empty() => {
                text.push('\n');
                self.write(text, depth + 1);
            }
            Ordered::List(items) if !items.is_empty() => {
                text.push('\n');
                self.write(text, depth + 1);
            }
            scalar => text.push_str(&format!(" {}\n", scalar.inline())),
        }
    }

    fn inline(&self) -> String {
        match self {
            Ordered::Null => "null".into(),
            Ordered::Bool(value) => value.to_string(),
            Ordered::Int(value) => value.to_string(),
            Ordered::Float(value) => format!("{value:?}"),
            Ordered::Text(text) => quoted(text),
            Ordered::List(_) => "[]".into(),
            Ordered::Map(_) => "{}".into(),
        }
    }
}

/// A text that YAML reads as this text.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let fine = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && matches!(scalar(text), Ordered::Text(_));
    // A JSON string is one of YAML, too.
    if fine { text.to_owned() } else { Value::from(text).to_string() }
}

/// A plain scalar, as YAML 1.1 has it.
fn scalar(text: &str) -> Ordered {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ordered::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Ordered::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Ordered::Bool(false);
        }
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        let clean = digits.replace('_', "");
        let whole = match (clean.strip_prefix("0x"), clean.strip_prefix('0')) {
            (Some(hex), _) => i64::from_str_radix(hex, 16).ok(),
            (None, Some(octal)) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
            _ => clean.parse().ok(),
        };
        if let Some(whole) = whole {
            return Ordered::Int(sign * whole);
        }
    }
    if digits.contains('.')
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && let Ok(number) = text.replace('_', "").parse::<f64>()
    {
        return Ordered::Float(number);
    }
    Ordered::Text(text.to_owned())
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Ordered>,
    values: usize,
    documents: usize,
    root: Option<Ordered>,
}

enum Open {
    List(usize, Vec<Ordered>),
    Map(usize, Vec<(String, Ordered)>, Option<String>),
}

impl Builder {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("there is a second document".into());
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
                let value = if is_text { Ordered::Text(text.into_owned()) } else { scalar(&text) };
                self.add(anchor, value)?;
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().ok_or("an alias without its anchor")?;
                self.values += value.count();
                self.add(0, value)?;
            }
            Event::SequenceStart(anchor, _) => self.open(Open::List(anchor, Vec::new()))?,
            Event::MappingStart(anchor, _) => self.open(Open::Map(anchor, Vec::new(), None))?,
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(anchor, items)) => self.add(anchor, Ordered::List(items))?,
                Some(Open::Map(anchor, entries, _)) => self.add(anchor, Ordered::Map(merged(entries)))?,
                None => return Err("an end without its beginning".into()),
            },
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.open.push(open);
        Ok(())
    }

    fn add(&mut self, anchor: usize, value: Ordered) -> Result<(), String> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::List(_, items)) => items.push(value),
            Some(Open::Map(_, entries, key)) => match (key.take(), value) {
                (Some(key), value) => {
                    match entries.iter_mut().find(|(known, _)| *known == key && key != "<<") {
                        // The last one counts, as it does for the Conserver's reader.
                        Some((_, old)) => *old = value,
                        None => entries.push((key, value)),
                    }
                }
                (None, Ordered::List(_) | Ordered::Map(_)) => return Err("a key is no text".into()),
                (None, Ordered::Text(text)) => *key = Some(text),
                (None, other) => *key = Some(other.inline()),
            },
        }
        Ok(())
    }
}

/// A map with what `<<` brings in, under what it has of its own.
fn merged(entries: Vec<(String, Ordered)>) -> Vec<(String, Ordered)> {
    if !entries.iter().any(|(key, _)| key == "<<") {
        return entries;
    }
    let (from, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key == "<<");
    let sources = from.into_iter().flat_map(|(_, value)| match value {
        Ordered::List(maps) => maps,
        other => vec![other],
    });
    for source in sources {
        let Ordered::Map(more) = source else { continue };
        for (key, value) in more {
            if !own.iter().any(|(known, _)| *known == key) {
                own.push((key, value));
            }
        }
    }
    own
}

impl Ordered {
    fn count(&self) -> usize {
        match self {
            Ordered::List(items) => 1 + items.iter().map(Ordered::count).sum::<usize>(),
            Ordered::Map(entries) => 1 + entries.iter().map(|(_, value)| value.count()).sum::<usize>(),
            _ => 1,
        }
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Ordered::Null => serializer.serialize_unit(),
            Ordered::Bool(value) => serializer.serialize_bool(*value),
            Ordered::Int(value) => serializer.serialize_i64(*value),
            Ordered::Float(value) => serializer.serialize_f64(*value),
            Ordered::Text(text) => serializer.serialize_str(text),
            Ordered::List(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Ordered::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::Null)
            }

            fn visit_none<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Ordered, D::Error> {
                Ordered::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
                Ok(Ordered::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
                Ok(Ordered::Int(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
                Ok(i64::try_from(value).map_or(Ordered::Float(value as f64), Ordered::Int))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
                Ok(Ordered::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
                Ok(Ordered::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Ordered::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered::Map(entries))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// The error of reading a type from an [`Ordered`].
type ReadError = serde::de::value::Error;

impl<'de> Deserializer<'de> for Ordered {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Ordered::Null => visitor.visit_unit(),
            Ordered::Bool(value) => visitor.visit_bool(value),
            Ordered::Int(value) => visitor.visit_i64(value),
            Ordered::Float(value) => visitor.visit_f64(value),
            Ordered::Text(text) => visitor.visit_string(text),
            Ordered::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Ordered::Map(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Ordered::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, ReadError> for Ordered {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_as_the_conserver_reads_it() {
        let text = "b: yes\na: 0o644\nmode: 0644\nn: 1_000\nf: 1.5\nt: '1'\nl: [x, ~]\nbase: &b {k: 1}\nd: {<<: *b, j: 2}\n";
        let read = Ordered::from_yaml(text).unwrap();
        let value = serde_json::to_value(&read).unwrap();
        let expected = json!({"b": true, "a": "0o644", "mode": 420, "n": 1000, "f": 1.5, "t": "1",
            "l": ["x", null], "base": {"k": 1}, "d": {"j": 2, "k": 1}});
        assert_eq!(value, expected);
        let Ordered::Map(entries) = &read else { panic!() };
        assert_eq!((entries[0].0.as_str(), entries[1].0.as_str()), ("b", "a"), "in its order");
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let text = "chains:\n  main:\n    links: [a, {b: {x: 'yes'}}]\n    empty: []\n    none: {}\n    n: null\n    f: 2.0\n    s: \"a: b # c\\n\"\n";
        let read = Ordered::from_yaml(text).unwrap();
        assert_eq!(Ordered::from_yaml(&read.to_yaml()).unwrap(), read, "{}", read.to_yaml());
    }

    #[test]
    fn hostile_files_are_refused() {
        assert!(Ordered::from_yaml(&"[".repeat(1000)).is_err());
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert!(Ordered::from_yaml(laughs).unwrap_err().contains("more than"));
        assert!(Ordered::from_yaml("a: [1").is_err());
    }
}
