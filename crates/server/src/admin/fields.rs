//! Names and values out of paths and queries.

use super::refusal::Refusal;

/// The most parameters of one query.
const MAX_PARAMETERS: usize = 64;

/// A text as it was before it was written into a URL. `None` when that is not UTF-8.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let encoded = text.as_bytes();
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut at = 0;
    while let Some(&byte) = encoded.get(at) {
        let hex = encoded.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(hex_byte);
        decoded.push(match hex {
            Some(value) => value,
            None if byte == b'+' && plus_is_space => b' ',
            None => byte,
        });
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).ok()
}

/// The byte that two hexadecimal digits stand for.
fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(digits.first()?)? * 16 + digit(digits.get(1)?)?).ok()
}

/// The parameters of a query, in order.
pub(crate) fn query(query: Option<&str>) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs = Vec::new();
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        if pairs.len() == MAX_PARAMETERS {
            let text = format!("A query has at most {MAX_PARAMETERS} parameters.");
            return Err(Refusal::new(base::Kind::Invalid, "invalid_query", text));
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match (percent_decode(name, true), percent_decode(value, true)) {
            (Some(name), Some(value)) => pairs.push((name, value)),
            _ => {
                let text = "The query is not UTF-8: percent-encode the UTF-8 bytes of names and values.";
                return Err(Refusal::new(base::Kind::Invalid, "invalid_query", text));
            }
        }
    }
    Ok(pairs)
}

/// The parameters of a path.
pub(crate) fn path(found: &[(&'static str, &str)]) -> Result<Vec<(String, String)>, Refusal> {
    let decode = |&(name, value): &(&'static str, &str)| {
        let text = "The path is not UTF-8: percent-encode the UTF-8 bytes of names.";
        let value = percent_decode(value, false)
            .ok_or_else(|| Refusal::new(base::Kind::Invalid, "invalid_path", text).at(name))?;
        Ok((name.to_owned(), value))
    };
    found.iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_is_well_formed_and_keeps_the_rest() {
        for (text, decoded) in [("a%2Fb", "a/b"), ("%c3%A9", "é"), ("100%", "100%"), ("%zz%4", "%zz%4")] {
            assert_eq!(percent_decode(text, false).unwrap(), decoded);
        }
        assert_eq!(percent_decode("a+b", true).unwrap(), "a b");
        assert_eq!(percent_decode("a+b", false).unwrap(), "a+b");
        assert_eq!(percent_decode("%ff", false), None);
    }

    #[test]
    fn a_query_is_bounded_utf8() {
        let pairs = query(Some("a=1&&b&c=x%3Dy=z")).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("c", "x=y=z")]);
        assert!(query(Some("a=%ff")).is_err());
        assert!(query(Some(&"a&".repeat(MAX_PARAMETERS))).is_ok());
        assert!(query(Some(&"a&".repeat(MAX_PARAMETERS + 1))).is_err());
    }
}
