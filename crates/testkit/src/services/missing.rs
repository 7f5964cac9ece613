//! What happens when a service or a program is not there: skip, or fail where it must be there.

/// Whether a missing service fails the test, as CI asks.
pub(super) fn required() -> bool {
    std::env::var("TRUNKLINE_REQUIRE_SERVICES").is_ok_and(|value| value == "1")
}

/// `None` after saying on stderr what is missing; panics when it is `required`.
pub(super) fn skip<T>(what: &str, required: bool) -> Option<T> {
    let sentence = format!("skipped: {what}");
    assert!(!required, "{sentence}; TRUNKLINE_REQUIRE_SERVICES=1 does not allow that: start or install it");
    eprintln!("{sentence}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_skipped() {
        assert_eq!(skip::<()>("no such thing", false), None);
    }

    #[test]
    #[should_panic(expected = "skipped: no such thing; TRUNKLINE_REQUIRE_SERVICES=1 does not allow that")]
    fn what_is_missing_and_required_fails() {
        skip::<()>("no such thing", true);
    }
}
