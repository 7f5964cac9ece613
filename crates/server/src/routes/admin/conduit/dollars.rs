//! Money as Conduit writes it: JSON numbers.

use std::borrow::Cow;
use std::fmt;

use base::Money;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of dollars. Sums are made with [`Money`]; this is only how it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dollars(pub(super) Money);

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The nearest double of the exact decimal, whose shortest text is the decimal again up to 15 digits.
        let nearest = self.0.to_string().parse::<f64>().map_err(serde::ser::Error::custom)?;
        serializer.serialize_f64(nearest)
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = Dollars;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of dollars")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Dollars, E> {
                text.parse().map(Dollars).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Dollars, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Dollars, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Dollars, E> {
                // Shorter than this is every amount that can be taken.
                if number.abs() > 1e12 {
                    return Err(E::custom("expected an amount of at most 9000000000 dollars"));
                }
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

impl JsonSchema for Dollars {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Dollars".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "description": "US dollars, with at most nine decimals."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_go_there_and_back() {
        for (given, shown) in [("12.5", "12.5"), ("3", "3.0"), ("-0.00000001", "-1e-8"), ("\"7.25\"", "7.25")]
        {
            let dollars: Dollars = serde_json::from_str(given).unwrap();
            assert_eq!(serde_json::to_string(&dollars).unwrap(), shown, "{given}");
        }
        for wrong in ["1e300", "true", "\"x\"", "0.00000000001"] {
            assert!(serde_json::from_str::<Dollars>(wrong).is_err(), "{wrong}");
        }
    }
}
