//! The numbers a price is made of. Inside, every rate is one integer: nano-dollars per million units.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::PriceError;
use super::decimal::{self, Finer};

/// A float above this is too large for every number here.
const LARGEST_FLOAT: f64 = 1e12;

macro_rules! number {
    ($name:ident, $scale:literal, $expecting:literal, $description:literal) => {
        impl FromStr for $name {
            type Err = PriceError;

            fn from_str(text: &str) -> Result<Self, PriceError> {
                decimal::parse(text, $scale, Finer::Refuse).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&decimal::text(self.0, $scale))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    // The shortest decimal that reads back as this float is what the person wrote, up to 15 digits.
                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                        if number > LARGEST_FLOAT {
                            return Err(E::custom(PriceError::TooLarge));
                        }
                        format!("{number:e}").parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": ["number", "string"],
                    "minimum": 0,
                    "pattern": r"^[0-9]{1,10}(\.[0-9]{1,15})?$",
                    "description": $description
                })
            }
        }
    };
}

/// Dollars per million tokens, with up to 9 decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPrice(i64);

number!(TokenPrice, 9, "dollars per million tokens, as 2.50 or \"2.50\"", "US dollars per million tokens.");

/// Dollars per one unit (request, image, second …), with up to 15 decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitPrice(i64);

number!(UnitPrice, 15, "dollars per unit, as 0.04 or \"0.04\"", "US dollars per unit.");

/// What a price is multiplied with, with up to 4 decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(i64);

number!(Factor, 4, "a factor, as 0.5 or \"0.5\"", "What a price is multiplied with.");

impl TokenPrice {
    /// From nano-dollars per million tokens; a negative rate is taken as 0.
    pub const fn nanos_per_million(nanos: i64) -> Self {
        TokenPrice(if nanos < 0 { 0 } else { nanos })
    }

    /// In nano-dollars per million tokens.
    pub const fn as_nanos_per_million(self) -> i64 {
        self.0
    }
}

impl UnitPrice {
    /// No cost.
    pub const FREE: UnitPrice = UnitPrice(0);

    /// From nano-dollars per million units; a negative rate is taken as 0.
    pub const fn nanos_per_million(nanos: i64) -> Self {
        UnitPrice(if nanos < 0 { 0 } else { nanos })
    }

    /// In nano-dollars per million units.
    pub const fn as_nanos_per_million(self) -> i64 {
        self.0
    }
}

impl Factor {
    /// The factor that changes nothing.
    pub const ONE: Factor = Factor(10_000);
    /// The largest factor.
    pub(super) const MAX: Factor = Factor(1_000 * Factor::ONE.0);

    /// In ten-thousandths.
    pub(super) const fn parts(self) -> i64 {
        self.0
    }

    /// From ten-thousandths.
    pub(super) const fn of_parts(parts: i64) -> Self {
        Factor(parts)
    }
}
