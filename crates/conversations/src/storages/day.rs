//! The folder of a vCon by the day it was made, as the Conserver names it: the day that `created_at` says, in its
//! own offset from UTC.

use crate::vcon::Vcon;

/// `2026/11/20`; none when the vCon does not say when it was made.
pub(super) fn folder(vcon: &Vcon) -> Option<String> {
    let date = match vcon.created_at() {
        Some(text) => {
            // What is no time at all has no day.
            vcon.created_ms()?;
            let text = text.trim();
            let date: jiff::civil::Date = text.get(..10).unwrap_or(text).parse().ok()?;
            date
        }
        None => {
            let at = jiff::Timestamp::from_millisecond(vcon.created_ms()?).ok()?;
            at.to_zoned(jiff::tz::TimeZone::UTC).date()
        }
    };
    Some(of(date))
}

/// `2026/11/20`.
pub(super) fn of(date: jiff::civil::Date) -> String {
    format!("{:04}/{:02}/{:02}", date.year(), date.month(), date.day())
}

/// The days that a vCon of this uuid was likely made on. The first 48 bits of a uuid of version 7, and of the
/// version 8 that vCons have, are the time it was made.
pub(super) fn likely(uuid: &str) -> Vec<String> {
    if !matches!(uuid.as_bytes().get(14), Some(b'7' | b'8')) {
        return Vec::new();
    }
    let digits: String = uuid.chars().filter(|c| *c != '-').take(12).collect();
    let Ok(at) = i64::from_str_radix(&digits, 16).map(jiff::Timestamp::from_millisecond) else {
        return Vec::new();
    };
    let Ok(at) = at else { return Vec::new() };
    let day = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    // Offsets from UTC move it by one.
    let around = [Some(day), day.yesterday().ok(), day.tomorrow().ok()];
    around.into_iter().flatten().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(created_at: &str) -> Option<String> {
        let text = format!(r#"{{"uuid":"018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11","created_at":{created_at}}}"#);
        folder(&Vcon::parse(text).unwrap())
    }

    #[test]
    fn the_day_is_the_one_that_is_written() {
        for (created_at, expected) in [
            (r#""2024-05-06T23:30:00.123456-05:00""#, Some("2024/05/06")),
            (r#""2024-05-06T23:30:00Z""#, Some("2024/05/06")),
            (r#""2024-05-06T23:30:00""#, Some("2024/05/06")),
            ("0", Some("1970/01/01")),
            (r#""yesterday""#, None),
            (r#""2024-13-06T23:30:00Z""#, None),
            (r#""../../etc/passwd""#, None),
            ("null", None),
        ] {
            assert_eq!(made(created_at).as_deref(), expected, "{created_at}");
        }
    }

    #[test]
    fn a_uuid_tells_its_day() {
        let days = likely("018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11");
        assert_eq!(days, ["2024/03/14", "2024/03/13", "2024/03/15"]);
        assert!(likely("018e3d10-0c1f-4d8c-9b1a-5f9b1c6f0a11").is_empty());
        assert!(likely("ffffffff-ffff-7d8c-9b1a-5f9b1c6f0a11").is_empty());
    }
}
