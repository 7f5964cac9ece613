//! Times: RFC 3339 outside, milliseconds since the epoch within.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest text that is looked at.
const MAX_LEN: usize = 64;
/// From 0001-01-01 to almost the end of 9999: the years that RFC 3339 writes, wherever one is.
const RANGE: std::ops::Range<i64> = -62_135_596_800_000..253_402_207_200_000;

/// A moment, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) i64);

impl Time {
    /// Reads `2026-11-20T22:00:00Z`, with any offset; or `2026-11-20`, its first moment in UTC.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a time as `2026-11-20T22:00:00Z`, or a day as `2026-11-20`".to_owned();
        if text.len() > MAX_LEN {
            return Err(wrong());
        }
        let millis = match text.len() {
            10 => {
                let day: Date = text.parse().map_err(|_| wrong())?;
                let first = day.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
                first.timestamp().as_millisecond()
            }
            _ => text.parse::<Timestamp>().map_err(|_| wrong())?.as_millisecond(),
        };
        if RANGE.contains(&millis) { Ok(Time(millis)) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Timestamp::from_millisecond(self.0.clamp(RANGE.start, RANGE.end - 1)) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => Err(std::fmt::Error),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time", "examples": ["2026-11-20T22:00:00Z"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for (text, shown) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2026-11-20T22:00:00.123Z", "2026-11-20T22:00:00.123Z"),
            ("2026-11-20T22:00:00+01:00", "2026-11-20T21:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("9999-12-30T21:59:59Z", "9999-12-30T21:59:59Z"),
        ] {
            assert_eq!(Time::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(Time::parse("1970-01-01T00:00:01Z"), Ok(Time(1000)));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for bad in [
            "",
            "now",
            "2026-13-01",
            "2026-11-20T22:00:00",
            "1763676000",
            "2026-02-30T00:00:00Z",
            "-000001-01-01T00:00:00Z",
            &"9".repeat(100),
        ] {
            assert!(Time::parse(bad).is_err(), "{bad}");
        }
    }
}
