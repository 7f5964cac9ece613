//! Versions as entity tags.

use http::header::IF_MATCH;
use http::{HeaderMap, HeaderValue};

/// A version that nothing ever has.
const NEVER: i64 = -1;

/// `ETag` of a version.
pub(crate) fn etag(version: i64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}

/// The version that `If-Match` asks for; none when any will do. What is not a tag of ours is a version that
/// nothing has: the change is then refused, as it has to be, instead of being made without the condition.
pub(crate) fn if_match(headers: &HeaderMap) -> Option<i64> {
    let mut given = headers.get_all(IF_MATCH).iter();
    let first = given.next()?;
    let text = if given.next().is_some() { "" } else { first.to_str().unwrap_or_default().trim() };
    if text == "*" {
        return None;
    }
    let digits = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let plain = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    Some(plain.and_then(|digits| digits.parse().ok()).filter(|version| *version > 0).unwrap_or(NEVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_never_lost() {
        let of = |text: &'static str| {
            if_match(&HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(text))]))
        };
        assert_eq!(if_match(&HeaderMap::new()), None);
        assert_eq!(of("*"), None);
        assert_eq!(of("\"7\""), Some(7));
        assert_eq!(etag(7).unwrap(), "\"7\"");
        for alien in
            ["7", "W/\"7\"", "\"7\", \"8\"", "\"0\"", "\"-1\"", "\"x\"", "", "\"99999999999999999999\""]
        {
            assert_eq!(of(alien), Some(NEVER), "{alien}");
        }
    }
}
