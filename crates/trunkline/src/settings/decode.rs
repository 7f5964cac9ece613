//! From the tree to typed settings, collecting every mistake.
//!
//! Serde stops at the first error. So each error is recorded with its place, the value it is about is
//! marked, and the tree is read again without it, until it can be read or nothing can be left out.

use std::fmt::Display;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};

use super::problem::{Origin, Path, Problem, Step, did_you_mean};
use super::tree::{Entry, Node, Scalar, Value};

/// After so many problems we stop looking: somebody has given us another kind of file.
pub const MAX_PROBLEMS: usize = 100;

/// Reads `T` from the tree. Every mistake is added to `problems` and marked bad in the tree; what is
/// returned is the rest, or nothing when there is no rest.
pub fn decode<T: DeserializeOwned>(tree: &mut Node, problems: &mut Vec<Problem>) -> Option<T> {
    let mut found = 0;
    loop {
        let failure = match T::deserialize(De(tree)) {
            Ok(value) => return Some(value),
            Err(failure) => failure,
        };
        let path = Path(failure.steps.iter().rev().cloned().collect());
        if !failure.follows_from_another(tree, &path) {
            problems.push(failure.problem(tree, &path));
            found += 1;
        }
        if found > MAX_PROBLEMS {
            return None;
        }
        if path.0.is_empty() || !tree.discard(&path) {
            return None;
        }
    }
}

/// One error on its way up; each level adds its step.
#[derive(Debug)]
struct Failure {
    /// The way to the value, innermost step first.
    steps: Vec<Step>,
    origin: Option<Origin>,
    what: What,
}

#[derive(Debug)]
enum What {
    UnknownKey { key: String, accepted: &'static [&'static str] },
    UnknownChoice { given: Option<String>, accepted: &'static [&'static str] },
    Missing(&'static str),
    Wrong { given: Option<String>, expected: String },
    Other(String),
}

impl Failure {
    fn new(what: What) -> Self {
        Failure { steps: Vec::new(), origin: None, what }
    }

    /// Adds the step from a collection into `node`. The innermost level also knows the place, and what must
    /// not be repeated.
    fn within(mut self, step: Step, node: &Node, key_at: Option<&Origin>) -> Self {
        if self.origin.is_none() {
            self.origin = Some(match (&node.value, key_at) {
                (Value::Scalar(_), _) | (_, None) => node.origin.clone(),
                (_, Some(at)) => at.clone(),
            });
            if let Value::Scalar(scalar) = &node.value
                && scalar.hidden
            {
                self.what.hide(scalar);
            }
        }
        self.steps.push(step);
        self
    }

    /// A key that cannot be missed because it is there, only wrong, and was reported.
    fn follows_from_another(&self, tree: &Node, path: &Path) -> bool {
        matches!(self.what, What::Missing(key) if tree.find(&path.key(key)).is_some_and(|node| node.bad))
    }

    fn problem(self, tree: &Node, path: &Path) -> Problem {
        let origin = self.origin.unwrap_or_else(|| tree.origin.clone());
        let new = |message: String| Problem::new(origin, path, message);
        match self.what {
            What::UnknownKey { key, accepted } => {
                let parent = path.parent();
                let place = if parent.0.is_empty() { String::new() } else { format!(" in `{parent}`") };
                let problem = new(format!("unknown key `{key}`{place}"));
                match did_you_mean(&key, accepted) {
                    Some(suggestion) => problem.suggest(suggestion),
                    None => problem,
                }
            }
            What::UnknownChoice { given, accepted } => {
                let choices: Vec<_> = accepted.iter().map(|choice| format!("`{choice}`")).collect();
                let expected = format!("expected {}", choices.join(" or "));
                match given {
                    Some(given) => {
                        let problem = new(format!("`{given}` is not accepted: {expected}"));
                        match super::problem::nearest(&given, accepted.iter().copied()) {
                            Some(near) => problem.suggest(format!("did you mean `{near}`?")),
                            None => problem,
                        }
                    }
                    None => new(format!("the value is not accepted: {expected}")),
                }
            }
            What::Missing(key) => new(format!("the key `{key}` is missing")),
            What::Wrong { given, expected } => match given {
                Some(given) => new(format!("expected {expected}, found {given}")),
                None => new(format!("expected {expected}")),
            },
            What::Other(message) => new(message),
        }
    }
}

impl What {
    /// Takes a value from the environment out of the message.
    fn hide(&mut self, scalar: &Scalar) {
        match self {
            What::UnknownChoice { given, .. } | What::Wrong { given, .. } => *given = None,
            What::Other(message) => {
                let open = message.replace(&format!("`{}`", scalar.text), "the value");
                // A message that repeats the text in another way is dropped whole: better vague than leaking.
                let repeats = scalar.text.len() > 3 && open.contains(&scalar.text);
                *message = if repeats { "the value is not accepted".into() } else { open };
            }
            What::UnknownKey { .. } | What::Missing(_) => {}
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        let message = message.to_string();
        Failure::new(match message.as_str() {
            "invalid socket address syntax" => What::Wrong {
                given: None,
                expected: "an IP address with its port, as `127.0.0.1:8080` or `[::]:8080`".into(),
            },
            _ => What::Other(message),
        })
    }

    fn invalid_type(given: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Failure::new(What::Wrong { given: Some(spoken(&given)), expected: human(&expected.to_string()) })
    }

    fn invalid_value(given: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(given, expected)
    }

    fn unknown_variant(given: &str, accepted: &'static [&'static str]) -> Self {
        Failure::new(What::UnknownChoice { given: Some(given.to_owned()), accepted })
    }

    fn unknown_field(key: &str, accepted: &'static [&'static str]) -> Self {
        Failure::new(What::UnknownKey { key: key.to_owned(), accepted })
    }

    fn missing_field(key: &'static str) -> Self {
        Failure::new(What::Missing(key))
    }
}

/// What was given, in the operator's words.
fn spoken(given: &Unexpected<'_>) -> String {
    match given {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map of keys".into(),
        other => other.to_string(),
    }
}

/// What serde expects, in the operator's words.
fn human(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "u64" | "usize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a sequence" => "a list".into(),
        "a map" => "a map of keys".into(),
        "path string" => "a path".into(),
        "socket address" => "an IP address with its port, as `127.0.0.1:8080`".into(),
        text if text.starts_with("struct ") => "a map of keys".into(),
        text if text.starts_with("enum ") => "one word".into(),
        text => text.into(),
    }
}

/// Reads a node as whatever is asked for.
struct De<'a>(&'a Node);

impl<'a> De<'a> {
    fn unexpected(&self) -> Unexpected<'a> {
        match &self.0.value {
            Value::Map(_) => Unexpected::Map,
            Value::List(_) => Unexpected::Seq,
            Value::Scalar(scalar) if scalar.is_null() => Unexpected::Unit,
            Value::Scalar(scalar) => Unexpected::Str(&scalar.text),
        }
    }

    fn wrong<T>(&self, expected: &dyn Expected) -> Result<T, Failure> {
        Err(de::Error::invalid_type(self.unexpected(), expected))
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Value::Scalar(scalar) = &self.0.value else { return self.wrong(&visitor) };
        if !scalar.plain && number_of(&scalar.text).is_some() {
            let expected = human(&(&visitor as &dyn Expected).to_string());
            let given = Some("a text: leave out the quotes".into());
            return Err(Failure::new(What::Wrong { given, expected }));
        }
        match number_of(&scalar.text) {
            Some(Number::Unsigned(value)) => visitor.visit_u64(value),
            Some(Number::Signed(value)) => visitor.visit_i64(value),
            Some(Number::Float(value)) => visitor.visit_f64(value),
            None => self.wrong(&visitor),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Scalar(scalar) if !scalar.is_null() => visitor.visit_str(&scalar.text),
            _ => self.wrong(&visitor),
        }
    }
}

enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// A decimal number; `inf`, `nan`, octal and hexadecimal are texts.
fn number_of(text: &str) -> Option<Number> {
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Ok(value) = text.parse() {
        return Some(Number::Unsigned(value));
    }
    if let Ok(value) = text.parse() {
        return Some(Number::Signed(value));
    }
    text.parse().ok().map(Number::Float)
}

fn boolean_of(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

macro_rules! forward {
    ($to:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.$to(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Failure;

    forward!(number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);
    forward!(text: deserialize_char deserialize_str deserialize_string deserialize_identifier
        deserialize_bytes deserialize_byte_buf);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Map(_) => self.deserialize_map(visitor),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Scalar(scalar) if scalar.is_null() => visitor.visit_unit(),
            Value::Scalar(scalar) if !scalar.plain => visitor.visit_str(&scalar.text),
            Value::Scalar(scalar) => match (boolean_of(&scalar.text), number_of(&scalar.text)) {
                (Some(value), _) => visitor.visit_bool(value),
                (None, Some(_)) => self.number(visitor),
                (None, None) => visitor.visit_str(&scalar.text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Scalar(scalar) if scalar.plain => match boolean_of(&scalar.text) {
                Some(value) => visitor.visit_bool(value),
                None => self.wrong(&visitor),
            },
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.0.is_null() { visitor.visit_unit() } else { self.wrong(&visitor) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::List(items) => visitor.visit_seq(List { items: items.iter().enumerate() }),
            // A key whose lines are all commented out.
            _ if self.0.is_null() => visitor.visit_seq(List { items: [].iter().enumerate() }),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Map(entries) => visitor.visit_map(Map { entries: entries.iter(), next: None }),
            _ if self.0.is_null() => visitor.visit_map(Map { entries: [].iter(), next: None }),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        accepted: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.0.text() {
            Some(text) => visitor.visit_enum(text.into_deserializer()),
            None => {
                let expected = format!("one of {}", accepted.join(", "));
                Err(Failure::new(What::Wrong { given: Some(spoken(&self.unexpected())), expected }))
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }
}

struct Map<'a> {
    entries: std::slice::Iter<'a, Entry>,
    next: Option<&'a Entry>,
}

impl<'de> de::MapAccess<'de> for Map<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.next = self.entries.by_ref().find(|entry| !entry.node.bad);
        let Some(entry) = self.next else { return Ok(None) };
        let key: de::value::StrDeserializer<'_, Failure> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mut failure| {
            failure.origin = Some(entry.at.clone());
            failure.within(Step::Key(entry.key.clone()), &entry.node, Some(&entry.at))
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let Some(entry) = self.next else { return Err(de::Error::custom("a value without its key")) };
        seed.deserialize(De(&entry.node))
            .map_err(|failure| failure.within(Step::Key(entry.key.clone()), &entry.node, Some(&entry.at)))
    }
}

struct List<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for List<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some((index, node)) = self.items.by_ref().find(|(_, node)| !node.bad) else { return Ok(None) };
        seed.deserialize(De(node)).map(Some).map_err(|failure| failure.within(Step::Index(index), node, None))
    }
}

#[cfg(test)]
mod tests;
