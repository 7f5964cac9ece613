//! Signatures of reasoning on their way through another dialect.
//!
//! A signature means something to the provider that made it and makes any other refuse the request. The
//! dialects have no place to say whose it is, so one that travels through a foreign dialect carries a prefix;
//! it is taken off on the way back.

use crate::Dialect;

const PREFIX: &str = "tl:";

/// A signature for a client that speaks `spoken`: as it is when `origin` is the same dialect, else with the
/// origin written before it.
pub fn seal(origin: Dialect, spoken: Dialect, signature: &str) -> String {
    // One that came with a prefix belongs to whoever the prefix names.
    if origin == spoken || signature.starts_with(PREFIX) {
        return signature.to_owned();
    }
    format!("{PREFIX}{}:{signature}", origin.as_str())
}

/// Whose a signature is that a client sent in the dialect `spoken`, and the signature as its maker wrote it.
pub fn unseal(spoken: Dialect, signature: &str) -> (Dialect, &str) {
    let sealed = signature.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':'));
    match sealed.and_then(|(name, signature)| Some((Dialect::from_name(name)?, signature))) {
        Some((origin, signature)) => (origin, signature),
        None => (spoken, signature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_comes_back_as_its_maker_wrote_it() {
        for signature in ["", "abc", "a:b:c", "tl", "EqoB+/="] {
            let sent = seal(Dialect::Gemini, Dialect::Messages, signature);
            assert_eq!(unseal(Dialect::Messages, &sent), (Dialect::Gemini, signature));
            assert_eq!(seal(Dialect::Gemini, Dialect::Gemini, signature), signature);
            assert_eq!(unseal(Dialect::Messages, signature), (Dialect::Messages, signature));
        }
        assert_eq!(unseal(Dialect::Messages, "tl:nobody:x"), (Dialect::Messages, "tl:nobody:x"));
    }
}
