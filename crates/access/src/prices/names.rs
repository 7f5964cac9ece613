//! Names of prices: `provider/model`, where either part may be a pattern.

use super::PriceError;

/// The longest name.
const LONGEST: usize = 300;

/// Whether `name` may name a price.
pub fn check(name: &str) -> Result<(), PriceError> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    match split(name) {
        Some((provider, model))
            if !provider.is_empty()
                && !model.is_empty()
                && name.chars().count() <= LONGEST
                && name.chars().all(plain) =>
        {
            Ok(())
        }
        _ => Err(PriceError::Name),
    }
}

/// Provider and model. Models may contain `/`, providers may not.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('/')
}

/// Whether `text` is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

/// How much of a pattern must be there literally: the longest of two patterns is the one with more of this.
pub(super) fn weight(pattern: &str) -> usize {
    pattern.bytes().filter(|b| *b != b'*').count()
}

/// Whether `text` fits `pattern`, in which `*` stands for anything, also nothing.
///
/// Goes back only to the last `*`: whatever the pattern, the work is bounded by the product of the two lengths.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&wanted) if wanted == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

/// The family of a dated model: `gpt-4.1` of `gpt-4.1-2025-04-14`, `claude-opus-4-5` of `claude-opus-4-5-20251101`.
pub(super) fn family(model: &str) -> Option<&str> {
    let ends_with = |form: &str| {
        let (family, tail) = model.split_at_checked(model.len().checked_sub(form.len())?)?;
        let same = |(have, want): (u8, u8)| if want == b'0' { have.is_ascii_digit() } else { have == want };
        let is_date = tail.bytes().zip(form.bytes()).all(same);
        // The year keeps a build number from being taken for a date.
        (is_date && tail.starts_with("-20") && !family.is_empty()).then_some(family)
    };
    ends_with("-0000-00-00").or_else(|| ends_with("-00000000"))
}

/// The base of a fine-tuned OpenAI model: `ft:gpt-4.1-2025-04-14` of `ft:gpt-4.1-2025-04-14:acme::abc`.
pub(super) fn tuned_from(model: &str) -> Option<&str> {
    let rest = model.strip_prefix("ft:")?;
    let base = rest.find(':')?;
    model.get(.."ft:".len() + base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in
            ["openai/gpt-4.1", "lab/*", "*/*", "together/meta-llama/Llama-3.3", "bedrock/a.b-v1:0", "x/ö"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = format!("a/{}", "b".repeat(300));
        for bad in ["", "gpt-4.1", "/gpt", "openai/", "a b/c", "a/b\n", "a/b\u{7f}", "*", long.as_str()] {
            assert_eq!(check(bad), Err(PriceError::Name), "{bad}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything/at all", true),
            ("gpt-4.1*", "gpt-4.1", true),
            ("gpt-4.1*", "gpt-4.1-mini", true),
            ("gpt-4.1*", "gpt-4o", false),
            ("*mini", "gpt-4.1-mini", true),
            ("*mini", "gpt-4.1-mini-2", false),
            ("g*-*i", "gpt-4-mini", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("**", "x", true),
            ("a.c", "abc", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
        assert!(weight("gpt-4.1*") > weight("gpt-*"));
    }

    #[test]
    fn families() {
        assert_eq!(family("gpt-4.1-2025-04-14"), Some("gpt-4.1"));
        assert_eq!(family("claude-opus-4-5-20251101"), Some("claude-opus-4-5"));
        for none in
            ["gpt-4.1", "grok-4-0709", "-2025-04-14", "x-99999999", "x-2025-4-14", "2025-04-14", "ö-20251"]
        {
            assert_eq!(family(none), None, "{none}");
        }
        assert_eq!(tuned_from("ft:gpt-4o-mini-2024-07-18:acme::abc"), Some("ft:gpt-4o-mini-2024-07-18"));
        assert_eq!(tuned_from("ft:gpt-4o-mini-2024-07-18"), None);
        assert_eq!(tuned_from("gpt-4o:x"), None);
    }
}
