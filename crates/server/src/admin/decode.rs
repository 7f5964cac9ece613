//! Bodies, queries and paths into typed values, saying which field is wrong and how.
//!
//! Serde's own readers of JSON and of queries tell a mistake as a sentence. Ours keeps the place and the kind of
//! it, so that the answer can name the field and suggest the one that was meant. One reader serves all three: in
//! a query and a path every value is a text, which is read as what its type asks for. What was given is never
//! repeated: it may be a secret.

use std::fmt::Display;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Visitor};
use serde_json::{Map, Value};

use super::refusal::{Form, Refusal};

/// The longest name of a field that an answer repeats, in characters.
const MAX_SHOWN: usize = 64;

/// Reads a JSON body.
pub(crate) fn json<T: DeserializeOwned>(value: &Value, form: Form) -> Result<T, Refusal> {
    T::deserialize(De { node: Node::Json(value), form }).map_err(|failure| failure.refusal("field"))
}

/// Reads the parameters of a query or a path.
pub(crate) fn parameters<T: DeserializeOwned>(pairs: &[(String, String)], form: Form) -> Result<T, Refusal> {
    for (at, (name, _)) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|(other, _)| other == name) {
            let name = shown(name);
            return Err(Refusal::invalid(name.clone(), format!("The parameter `{name}` is given twice.")));
        }
    }
    T::deserialize(De { node: Node::Pairs(pairs), form }).map_err(|failure| failure.refusal("parameter"))
}

/// One mistake on its way up; each level adds its step.
#[derive(Debug)]
struct Failure {
    /// The way to the value, innermost step first.
    steps: Vec<Step>,
    what: What,
}

#[derive(Debug)]
enum Step {
    Name(String),
    Index(usize),
}

#[derive(Debug)]
enum What {
    Unknown { name: String, accepted: &'static [&'static str] },
    Choice { given: String, accepted: &'static [&'static str] },
    Missing(&'static str),
    Wrong { given: &'static str, expected: String },
    Other(String),
}

impl Failure {
    fn new(what: What) -> Self {
        Failure { steps: Vec::new(), what }
    }

    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// `noun` is what is read: a `field` or a `parameter`.
    fn refusal(self, noun: &str) -> Refusal {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Name(name) if path.is_empty() => path = shown(name),
                Step::Name(name) => path = format!("{path}.{}", shown(name)),
                Step::Index(index) => path = format!("{path}[{index}]"),
            }
        }
        let below = |name: &str| match path.as_str() {
            "" => shown(name),
            path => format!("{path}.{}", shown(name)),
        };
        let subject = if path.is_empty() { "The body".to_owned() } else { format!("`{path}`") };
        let (code, field, message) = match self.what {
            What::Unknown { name, accepted } => {
                let field = below(&name);
                let hint = did_you_mean(&name, accepted);
                ("unknown_field", field.clone(), format!("There is no {noun} `{field}`{hint}"))
            }
            What::Missing(name) => {
                let field = below(name);
                ("missing_field", field.clone(), format!("The {noun} `{field}` is missing."))
            }
            What::Choice { given, accepted } => {
                let near = nearest(&given, accepted).map(|near| format!(" Did you mean `{near}`?"));
                let choices: Vec<_> = accepted.iter().map(|choice| format!("`{choice}`")).collect();
                let text = format!("{subject}: expected {}.", choices.join(", "));
                ("invalid_value", path, text + &near.unwrap_or_default())
            }
            What::Wrong { given, expected } => {
                ("invalid_value", path, format!("{subject}: expected {expected}, found {given}."))
            }
            What::Other(message) => ("invalid_value", path, format!("{subject}: {message}.")),
        };
        let refusal = Refusal::new(base::Kind::Invalid, code, message);
        if field.is_empty() { refusal } else { refusal.at(field) }
    }
}

/// As much of a name as an answer repeats.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// The candidate most like `word`, when one is near enough to have been meant.
fn nearest(word: &str, candidates: &'static [&'static str]) -> Option<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.'], "");
    let word = plain(&shown(word));
    let scored = candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), *candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + word.len() / 5).then_some(candidate)
}

/// What was meant, else what is accepted (when that is short enough to help).
fn did_you_mean(word: &str, accepted: &'static [&'static str]) -> String {
    match nearest(word, accepted) {
        Some(near) => format!(": did you mean `{near}`?"),
        None if accepted.is_empty() => ": none are taken here.".into(),
        None if accepted.len() <= 20 => format!(": there are {}.", accepted.join(", ")),
        None => ".".into(),
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Failure::new(What::Other(message.to_string()))
    }

    fn invalid_type(given: de::Unexpected<'_>, expected: &dyn Expected) -> Self {
        let given = match given {
            de::Unexpected::Bool(_) => "true or false",
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) => "another number",
            de::Unexpected::Float(_) => "a number with decimals",
            de::Unexpected::Str(_) | de::Unexpected::Char(_) => "a text",
            de::Unexpected::Unit | de::Unexpected::Option => "null",
            de::Unexpected::Seq => "a list",
            de::Unexpected::Map => "an object",
            _ => "something else",
        };
        Failure::new(What::Wrong { given, expected: human(&expected.to_string()) })
    }

    fn invalid_value(given: de::Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(given, expected)
    }

    fn unknown_variant(given: &str, accepted: &'static [&'static str]) -> Self {
        Failure::new(What::Choice { given: given.to_owned(), accepted })
    }

    fn unknown_field(name: &str, accepted: &'static [&'static str]) -> Self {
        Failure::new(What::Unknown { name: name.to_owned(), accepted })
    }

    fn missing_field(name: &'static str) -> Self {
        Failure::new(What::Missing(name))
    }
}

/// What serde expects, in words of JSON.
fn human(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "u64" | "usize" => "a whole number from 0".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" => "a text".into(),
        "a sequence" => "a list".into(),
        "a map" => "an object".into(),
        text if text.starts_with("struct ") => "an object".into(),
        text if text.starts_with("enum ") => "one word".into(),
        text => text.into(),
    }
}

/// What is read.
#[derive(Clone, Copy)]
enum Node<'a> {
    Json(&'a Value),
    /// A parameter's value.
    Text(&'a str),
    Pairs(&'a [(String, String)]),
}

impl Node<'_> {
    fn wrong<T>(self, expected: &dyn Expected) -> Result<T, Failure> {
        Err(de::Error::invalid_type(
            match self {
                Node::Json(Value::Null) => de::Unexpected::Unit,
                Node::Json(Value::Bool(value)) => de::Unexpected::Bool(*value),
                Node::Json(Value::Number(number)) if number.is_f64() => de::Unexpected::Float(0.0),
                Node::Json(Value::Number(_)) => de::Unexpected::Signed(0),
                Node::Json(Value::Array(_)) => de::Unexpected::Seq,
                Node::Json(Value::Object(_)) | Node::Pairs(_) => de::Unexpected::Map,
                Node::Json(Value::String(_)) | Node::Text(_) => de::Unexpected::Str(""),
            },
            expected,
        ))
    }
}

struct De<'a> {
    node: Node<'a>,
    form: Form,
}

/// The largest whole number that a double carries exactly, and below which every other is, too.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'a> De<'a> {
    /// A text that may stand for a number or a boolean: all of a query, and what ASP.NET takes for one.
    fn loose_text(&self) -> Option<&'a str> {
        match self.node {
            Node::Text(text) => Some(text),
            Node::Json(Value::String(text)) if self.form == Form::Conduit => Some(text),
            _ => None,
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if let Node::Json(Value::Number(number)) = self.node {
            return match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                // JSON has one kind of number: 3.0 is 3.
                (.., Some(value)) if value.fract() == 0.0 && value.abs() < EXACT => {
                    visitor.visit_i64(value as i64)
                }
                (.., Some(value)) => visitor.visit_f64(value),
                _ => self.node.wrong(&visitor),
            };
        }
        let Some(text) = self.loose_text() else { return self.node.wrong(&visitor) };
        let starts = text.strip_prefix('-').unwrap_or(text).starts_with(|c: char| c.is_ascii_digit());
        match (text.parse::<u64>(), text.parse::<i64>(), text.parse::<f64>()) {
            _ if !starts => self.node.wrong(&visitor),
            (Ok(value), ..) => visitor.visit_u64(value),
            (_, Ok(value), _) => visitor.visit_i64(value),
            (.., Ok(value)) => visitor.visit_f64(value),
            _ => self.node.wrong(&visitor),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Json(Value::String(text)) => visitor.visit_str(text),
            Node::Text(text) => visitor.visit_str(text),
            node => node.wrong(&visitor),
        }
    }

    /// Its named parts: those of `fields` only, when it has to have these.
    fn named<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let mut parts: Vec<(&'a str, Node<'a>)> = match self.node {
            Node::Json(Value::Object(map)) => {
                map.iter().map(|(name, value)| (name.as_str(), Node::Json(value))).collect()
            }
            Node::Pairs(pairs) => {
                pairs.iter().map(|(name, value)| (name.as_str(), Node::Text(value))).collect()
            }
            node => return node.wrong(&visitor),
        };
        match (fields, self.form) {
            (Some(fields), Form::Native) => {
                if let Some((name, _)) = parts.iter().find(|(name, _)| !fields.contains(name)) {
                    return Err(de::Error::unknown_field(name, fields));
                }
            }
            // As ASP.NET: names in any case, the last one counts, and what is unknown is passed over.
            (Some(fields), Form::Conduit) => {
                let mut known: Vec<(&'a str, Node<'a>)> = Vec::new();
                for (name, node) in parts {
                    let same = |field: &&&'static str| field.eq_ignore_ascii_case(name);
                    if let Some(field) = fields.iter().find(same) {
                        known.retain(|(before, _)| before != field);
                        known.push((field, node));
                    }
                }
                parts = known;
            }
            (None, _) => {}
        }
        visitor.visit_map(Parts { parts: parts.into_iter(), next: None, form: self.form })
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
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_i128
        deserialize_u128);
    forward!(text: deserialize_char deserialize_str deserialize_string deserialize_identifier
        deserialize_bytes deserialize_byte_buf);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Json(Value::Null) => visitor.visit_unit(),
            Node::Json(Value::Bool(value)) => visitor.visit_bool(*value),
            Node::Json(Value::Number(_)) => self.number(visitor),
            Node::Json(Value::Array(_)) => self.deserialize_seq(visitor),
            Node::Json(Value::Object(_)) | Node::Pairs(_) => self.named(None, visitor),
            Node::Json(Value::String(_)) | Node::Text(_) => self.text(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match (self.node, self.loose_text()) {
            (Node::Json(Value::Bool(value)), _) => visitor.visit_bool(*value),
            (_, Some("true")) => visitor.visit_bool(true),
            (_, Some("false")) => visitor.visit_bool(false),
            (node, _) => node.wrong(&visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Json(Value::Null) => visitor.visit_none(),
            Node::Text("") if self.form == Form::Conduit => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Json(Value::Null) => visitor.visit_unit(),
            node => node.wrong(&visitor),
        }
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
        let items: Vec<Node<'_>> = match self.node {
            Node::Json(Value::Array(items)) => items.iter().map(Node::Json).collect(),
            Node::Text(text) => text.split(',').filter(|item| !item.is_empty()).map(Node::Text).collect(),
            node => return node.wrong(&visitor),
        };
        visitor.visit_seq(Items { items: items.into_iter().enumerate(), form: self.form })
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
        self.named(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.named(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        accepted: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.node {
            Node::Json(Value::String(text)) => visitor.visit_enum(text.as_str().into_deserializer()),
            Node::Text(text) => visitor.visit_enum(text.into_deserializer()),
            Node::Json(Value::Object(map)) if map.len() == 1 => {
                visitor.visit_enum(Variant { map, form: self.form })
            }
            node => node.wrong(&format!("one of {}", accepted.join(", ")).as_str()),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::vec::IntoIter<Node<'a>>>,
    form: Form,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let item = seed.deserialize(De { node, form: self.form });
        item.map(Some).map_err(|failure| failure.within(Step::Index(index)))
    }
}

struct Parts<'a> {
    parts: std::vec::IntoIter<(&'a str, Node<'a>)>,
    next: Option<(&'a str, Node<'a>)>,
    form: Form,
}

impl<'de> de::MapAccess<'de> for Parts<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.next = self.parts.next();
        self.next.map(|(name, _)| seed.deserialize(name.into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let Some((name, node)) = self.next.take() else {
            return Err(de::Error::custom("a value without a name"));
        };
        let value = seed.deserialize(De { node, form: self.form });
        value.map_err(|failure| failure.within(Step::Name(name.to_owned())))
    }
}

/// An enum's variant with what it holds: `{"variant": …}`.
struct Variant<'a> {
    map: &'a Map<String, Value>,
    form: Form,
}

impl<'a, 'de> de::EnumAccess<'de> for Variant<'a> {
    type Error = Failure;
    type Variant = De<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, De<'a>), Failure> {
        let Some((name, value)) = self.map.iter().next() else {
            return Err(de::Error::custom("expected one name"));
        };
        let variant = seed.deserialize(name.as_str().into_deserializer())?;
        Ok((variant, De { node: Node::Json(value), form: self.form }))
    }
}

impl<'de> de::VariantAccess<'de> for De<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        de::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.named(Some(fields), visitor)
    }
}

#[cfg(test)]
mod tests;
