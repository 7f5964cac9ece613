//! Fields that are bounded by their type: what the schema says is what is checked.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The largest `metadata`, written as JSON.
const MAX_METADATA: usize = 16 << 10;
/// The most names in it.
const MAX_METADATA_NAMES: usize = 64;

/// Defines how a bounded text reads and what its schema is.
macro_rules! text {
    ($(#[$doc:meta])* $type:ident<$min:ident, $max:ident>, $allowed:expr, $pattern:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub(crate) struct $type<const $min: usize, const $max: usize>(String);

        impl<const $min: usize, const $max: usize> $type<$min, $max> {
            /// The text itself.
            pub(crate) fn into_inner(self) -> String {
                self.0
            }

            /// Reads it, within its bounds.
            pub(crate) fn parse(text: String) -> Result<Self, String> {
                let allowed: fn(&str) -> bool = $allowed;
                match text.chars().count() {
                    n if n < $min => Err(format!("expected at least {} characters", $min)),
                    n if n > $max => Err(format!("expected at most {} characters", $max)),
                    _ if !allowed(&text) => Err($what.to_owned()),
                    _ => Ok($type(text)),
                }
            }
        }

        impl<const $min: usize, const $max: usize> Deref for $type<$min, $max> {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl<'de, const $min: usize, const $max: usize> Deserialize<'de> for $type<$min, $max> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl<const $min: usize, const $max: usize> JsonSchema for $type<$min, $max> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                format!("{}_{}_{}", stringify!($type), $min, $max).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "minLength": $min, "maxLength": $max, "pattern": $pattern})
            }
        }
    };
}

text!(
    /// A text of bounded length. PostgreSQL keeps no NUL, so there is none.
    Text<MIN, MAX>,
    |text| !text.contains('\0'),
    "^[^\\u0000]*$",
    "expected a text without the character U+0000"
);

text!(
    /// A text on one line, as names are: no control characters, no space at its ends.
    Line<MIN, MAX>,
    |text| !text.chars().any(|c| c < ' ' || c == '\u{7f}') && !text.starts_with(' ') && !text.ends_with(' '),
    "^([^\\u0000-\\u0020\\u007f]([^\\u0000-\\u001f\\u007f]*[^\\u0000-\\u0020\\u007f])?)?$",
    "expected no control characters, and no space at the beginning or the end"
);

/// A name.
pub(crate) type Name = Line<1, 100>;

/// The id of a row: a whole number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Id(pub(crate) i64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            id if id >= 1 => Ok(Id(id)),
            _ => Err(D::Error::custom("expected an id: a whole number from 1")),
        }
    }
}

impl JsonSchema for Id {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX})
    }
}

/// `{id}` in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct IdPath {
    /// Its id.
    pub(crate) id: Id,
}

/// `{name}` in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct NamePath {
    /// Its name; a slash in it may be written as `%2F`.
    pub(crate) name: Line<1, 300>,
}

/// How much of a list is answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(usize);

impl Limit {
    const MAX: usize = 1000;

    pub(crate) fn get(self) -> usize {
        self.0
    }

    /// How many rows to ask for: one more tells whether there are more.
    pub(crate) fn and_one(self) -> i64 {
        self.0 as i64 + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Limit(100)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = i64::deserialize(deserializer)?;
        match usize::try_from(given) {
            Ok(limit @ 1..=Limit::MAX) => Ok(Limit(limit)),
            _ => Err(D::Error::custom(format_args!("expected a whole number from 1 to {}", Limit::MAX))),
        }
    }
}

impl JsonSchema for Limit {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": Limit::MAX, "default": 100})
    }
}

/// A field of a PATCH that `null` clears. Mark it `#[serde(default)]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// It was not mentioned.
    #[default]
    Keep,
    /// It was `null`.
    Clear,
    /// It was given.
    Set(T),
}

impl<T> Change<T> {
    /// What it is after the change.
    pub(crate) fn apply(self, before: Option<T>) -> Option<T> {
        match self {
            Change::Keep => before,
            Change::Clear => None,
            Change::Set(value) => Some(value),
        }
    }

    /// The same change of what `f` makes of a value.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Change::Keep => Change::Keep,
            Change::Clear => Change::Clear,
            Change::Set(value) => Change::Set(f(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Change::Clear, Change::Set))
    }
}

impl<T: JsonSchema> JsonSchema for Change<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// A field of a PATCH that cannot be cleared. Mark it `#[serde(default)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given<T>(pub(crate) Option<T>);

impl<T> Given<T> {
    /// What it is after the change.
    pub(crate) fn or(self, before: T) -> T {
        self.0.unwrap_or(before)
    }
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Given(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Given(Some(value)))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A list of bounded length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct List<T, const MAX: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<T>::deserialize(deserializer)?;
        match items.len() {
            n if n > MAX => Err(D::Error::custom(format_args!("expected at most {MAX} entries"))),
            _ => Ok(List(items)),
        }
    }
}

impl<T: JsonSchema, const MAX: usize> JsonSchema for List<T, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("List_of_{}_{MAX}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        json_schema!({"type": "array", "items": items, "maxItems": MAX})
    }
}

/// An operator's own notes: a small JSON object.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Metadata(pub(crate) Map<String, Value>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::<String, Value>::deserialize(deserializer)?;
        let text = serde_json::to_string(&map).map_err(D::Error::custom)?;
        if map.len() > MAX_METADATA_NAMES || text.len() > MAX_METADATA {
            return Err(D::Error::custom(format_args!(
                "expected at most {MAX_METADATA_NAMES} names and {MAX_METADATA} bytes"
            )));
        }
        Ok(Metadata(map))
    }
}

impl JsonSchema for Metadata {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": MAX_METADATA_NAMES,
            "additionalProperties": true,
            "description": "Your own notes: a JSON object of at most 16 KiB."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_its_pattern_says() {
        let name = |text: &str| Name::parse(text.to_owned());
        for good in ["a", "a b", "é", "team/a (prod)", &"x".repeat(100)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a ", "a\nb", "\0", "\u{7f}", &"x".repeat(101)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert!(Text::<0, 10>::parse("a\nb".into()).is_ok() && Text::<0, 10>::parse("a\0".into()).is_err());
    }

    #[test]
    fn a_field_that_is_not_mentioned_is_not_one_that_is_cleared() {
        #[derive(Deserialize)]
        struct Edit {
            #[serde(default)]
            user: Change<Name>,
            #[serde(default)]
            name: Given<Name>,
        }
        let user = |text: &str| serde_json::from_str::<Edit>(text).unwrap().user.map(Name::into_inner);
        assert_eq!(user("{}").apply(Some("b".into())), Some("b".into()));
        assert_eq!(user(r#"{"user": null}"#).apply(Some("b".into())), None);
        assert_eq!(user(r#"{"user": "a"}"#).apply(Some("b".into())), Some("a".into()));
        assert!(serde_json::from_str::<Edit>(r#"{"name": null}"#).is_err());
        assert!(serde_json::from_str::<Edit>("{}").unwrap().name.0.is_none());
    }

    #[test]
    fn lists_notes_and_limits_are_bounded() {
        let list = |n: usize| serde_json::from_value::<List<u8, 3>>(vec![1; n].into());
        assert!(list(3).is_ok() && list(4).is_err());
        let notes = |text: String| serde_json::from_value::<Metadata>(serde_json::json!({"a": text}));
        assert!(notes("x".repeat(1000)).is_ok() && notes("x".repeat(MAX_METADATA)).is_err());
        for (text, fits) in [("1", true), ("1000", true), ("0", false), ("1001", false), ("-1", false)] {
            assert_eq!(serde_json::from_str::<Limit>(text).is_ok(), fits, "{text}");
        }
        assert!(serde_json::from_str::<Id>("1").is_ok() && serde_json::from_str::<Id>("0").is_err());
    }
}
