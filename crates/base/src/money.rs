//! Amounts of money, exact.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount in nano-dollars (10⁻⁹ US dollars), from −9 to +9 billion dollars. A decimal string in JSON and in
/// settings, as `"12.5"`: a float would not be exact. Arithmetic saturates at the bounds of `i64`, which no sum of
/// amounts that were accepted reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

/// Nano-dollars of a dollar.
const DOLLAR: i64 = 1_000_000_000;
/// The largest amount that is read, in dollars.
const LARGEST: i64 = 9_000_000_000;

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// The largest amount.
    pub const MAX: Money = Money(LARGEST * DOLLAR);

    /// From nano-dollars.
    pub const fn nanos(nanos: i64) -> Self {
        Money(nanos)
    }

    /// From nano-dollars in a wider sum; what does not fit becomes the nearest that does.
    pub fn from_wide(nanos: i128) -> Self {
        Money(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }

    /// From whole dollars.
    pub const fn dollars(dollars: i64) -> Self {
        Money(dollars.saturating_mul(DOLLAR))
    }

    /// In nano-dollars.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not digits with at most one point.
    #[error("an amount is a decimal number of dollars without exponent, as \"12.5\"")]
    Malformed,
    /// Finer than we count.
    #[error("an amount has at most 9 decimals")]
    TooFine,
    /// Beyond what we keep.
    #[error("an amount is at most 9000000000 dollars")]
    TooLarge,
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let lone_point = digits.contains('.') && fraction.is_empty();
        if whole.is_empty() || lone_point || !all_digits(whole) || !all_digits(fraction) {
            return Err(MoneyError::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err(MoneyError::TooFine);
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > 10 {
            return Err(MoneyError::TooLarge);
        }
        let whole: i64 =
            if whole.is_empty() { 0 } else { whole.parse().map_err(|_| MoneyError::TooLarge)? };
        let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| MoneyError::Malformed)?;
        if whole > LARGEST || (whole == LARGEST && fraction > 0) {
            return Err(MoneyError::TooLarge);
        }
        let nanos = whole * DOLLAR + fraction;
        Ok(Money(if negative { -nanos } else { nanos }))
    }
}

impl fmt::Display for Money {
    /// Digits by hand: an answer tells of money three times, and the formatter would be slower than all the rest of
    /// a header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A sign, ten digits, a point, nine digits.
        let mut text = [0; 21];
        let mut at = text.len();
        let mut push = |byte: u8| {
            at -= 1;
            text[at] = byte;
        };
        let nanos = self.0.unsigned_abs();
        let (mut whole, mut fraction) = (nanos / DOLLAR as u64, nanos % DOLLAR as u64);
        if fraction != 0 {
            let mut left = 9;
            while fraction.is_multiple_of(10) {
                (fraction, left) = (fraction / 10, left - 1);
            }
            for _ in 0..left {
                push(b'0' + (fraction % 10) as u8);
                fraction /= 10;
            }
            push(b'.');
        }
        loop {
            push(b'0' + (whole % 10) as u8);
            whole /= 10;
            if whole == 0 {
                break;
            }
        }
        if self.0 < 0 {
            push(b'-');
        }
        f.write_str(std::str::from_utf8(&text[at..]).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Money;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount in dollars as a decimal string, as \"12.5\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Money, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, dollars: u64) -> Result<Money, E> {
                dollars.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, dollars: i64) -> Result<Money, E> {
                dollars.to_string().parse().map_err(E::custom)
            }
            // The shortest decimal that reads back as this number: what the person wrote, up to 15 digits.
            fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Money, E> {
                dollars.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,9})?$",
            "description": "An amount in US dollars, as a decimal string."
        })
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Money;
    fn sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }
}

impl Neg for Money {
    type Output = Money;
    fn neg(self) -> Money {
        Money(self.0.saturating_neg())
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        *self = *self + other;
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Money) {
        *self = *self - other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        Money::from_wide(amounts.map(|amount| i128::from(amount.0)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_decimals_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("12.5", 12_500_000_000),
            ("-0.000000001", -1),
            ("9000000000", 9_000_000_000_000_000_000),
            ("0.1", 100_000_000),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!((money.as_nanos(), money.to_string().as_str()), (nanos, text));
        }
        assert_eq!("007.50".parse::<Money>().unwrap().to_string(), "7.5");
        assert_eq!(serde_json::from_str::<Money>("0.003").unwrap(), Money::nanos(3_000_000));
        assert_eq!(serde_json::from_str::<Money>("25").unwrap(), Money::dollars(25));
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for bad in ["", "-", ".5", "5.", "1e3", "NaN", "inf", "1,5", " 1", "+1", "--1", "1.2.3"] {
            assert_eq!(bad.parse::<Money>(), Err(MoneyError::Malformed), "{bad}");
        }
        assert_eq!("0.0000000001".parse::<Money>(), Err(MoneyError::TooFine));
        for large in ["9000000000.1", "99999999999", "1000000000000000000000000000000"] {
            assert_eq!(large.parse::<Money>(), Err(MoneyError::TooLarge), "{large}");
        }
        for bad in ["1e300", "null", "true", "[]", "\"abc\""] {
            assert!(serde_json::from_str::<Money>(bad).is_err(), "{bad}");
        }
    }
}
