//! Durations and sizes as people write them in settings: `30s`, `20MiB`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration as StdDuration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, written as a number and a unit: `250ms`, `30s`, `5m`, `12h`, `90d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub StdDuration);

/// A number of bytes, written as a number and a unit: `512B`, `64KiB`, `20MiB`, `1GiB` (also `kB`, `MB`,
/// `GB` for powers of ten).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl Duration {
    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Duration(StdDuration::from_secs(secs))
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Duration(StdDuration::from_millis(millis))
    }

    /// Reads `30s`; the error says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "`{text}` is not a duration: write a whole number and a unit, as `250ms`, `30s`, `5m`, `12h` or `90d`"
            )
        };
        let millis = parse_units(text, TIME_UNITS).ok_or_else(expected)?;
        Ok(Duration::from_millis(millis))
    }
}

impl ByteSize {
    /// Reads `20MiB`; the error says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "`{text}` is not a size: write a whole number and a unit, as `512B`, `64KiB`, `20MiB` or `1GiB`"
            )
        };
        parse_units(text, SIZE_UNITS).map(ByteSize).ok_or_else(expected)
    }
}

/// `<digits><unit>`, the result in the smallest unit; `None` when malformed or too large for 64 bits.
fn parse_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The largest unit that divides the value, so that what is printed can be read back.
fn write_units(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = units.iter().filter(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let (name, factor) = fits.max_by_key(|(_, factor)| *factor).unwrap_or(&units[0]);
    write!(f, "{}{name}", value / factor)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_units(f, self.0.as_millis() as u64, TIME_UNITS)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_units(f, self.0, SIZE_UNITS)
    }
}

macro_rules! as_text {
    ($type:ident, $pattern:literal, $what:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $type::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $what })
            }
        }
    };
}

as_text!(
    Duration,
    "^[0-9]+ *(ms|s|m|h|d)$",
    "A duration with its unit, as `250ms`, `30s`, `5m`, `12h`, `90d`."
);
as_text!(ByteSize, "^[0-9]+ *(B|KiB|MiB|GiB|kB|MB|GB)$", "A size with its unit, as `64KiB`, `20MiB`.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_units() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("90d", 7_776_000_000), ("0s", 0)]
        {
            assert_eq!(Duration::parse(text).unwrap().0.as_millis(), millis);
        }
        assert_eq!(Duration::from_secs(60).to_string(), "1m");
        assert_eq!(Duration::from_millis(1500).to_string(), "1500ms");
        assert_eq!(ByteSize::parse("20MiB").unwrap(), ByteSize(20 << 20));
        assert_eq!(ByteSize(20 << 20).to_string(), "20MiB");
        assert_eq!(ByteSize(1000).to_string(), "1kB");
    }

    #[test]
    fn refuses_what_has_no_unit_or_overflows() {
        for bad in ["", "30", "s", "-1s", "1.5s", "30 weeks", "99999999999999999999s", "9999999999999999d"] {
            assert!(Duration::parse(bad).is_err(), "{bad}");
        }
        assert!(ByteSize::parse("20mb").is_err());
    }
}
