//! Thought signatures.
//!
//! The field holds bytes, so what stands in JSON is Base64: Google's SDKs decode it and write it anew, in the
//! alphabet for URLs. A foreign signature is therefore sealed and then written in Base64 as a whole.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::Dialect;
use crate::form::{seal, unseal};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Base64 in the standard alphabet with its padding, whichever of the two it is written in; `None` when it is
/// neither.
pub(super) fn standard(text: String) -> Option<String> {
    let bytes = text.as_bytes();
    let body = bytes.len() - bytes.iter().rev().take(2).take_while(|b| **b == b'=').count();
    let mut fine = true;
    let mut foreign = false;
    for byte in &bytes[..body] {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {}
            b'-' | b'_' => foreign = true,
            _ => fine = false,
        }
    }
    if !fine || body % 4 == 1 {
        return None;
    }
    if !foreign && bytes.len().is_multiple_of(4) {
        return Some(text);
    }
    let mut out = if foreign { text.replace('-', "+").replace('_', "/") } else { text };
    out.truncate(body);
    out.extend(std::iter::repeat_n('=', (4 - body % 4) % 4));
    Some(out)
}

/// A signature for a client.
pub(super) fn sealed(origin: Dialect, signature: &str) -> String {
    let sealed = seal(origin, Dialect::Gemini, signature);
    if sealed == signature && origin == Dialect::Gemini { sealed } else { STANDARD.encode(sealed) }
}

/// Whose a signature is that a client sent, and the signature as its maker wrote it.
pub(super) fn unsealed(sent: &str) -> (Dialect, String) {
    let text = standard(sent.to_owned()).and_then(|text| LENIENT.decode(text).ok());
    match text.as_deref().map(std::str::from_utf8) {
        Some(Ok(text)) => match unseal(Dialect::Gemini, text) {
            (Dialect::Gemini, signature) if signature == text => (Dialect::Gemini, sent.to_owned()),
            (origin, signature) => (origin, signature.to_owned()),
        },
        _ => (Dialect::Gemini, sent.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_become_the_standard_one() {
        for (written, standardised) in [
            ("", Some("")),
            ("aGk=", Some("aGk=")),
            ("aGk", Some("aGk=")),
            ("-_8", Some("+/8=")),
            ("-_8=", Some("+/8=")),
            ("a", None),
            ("aGk*", None),
            ("aG k", None),
            ("====", None),
        ] {
            assert_eq!(standard(written.to_owned()).as_deref(), standardised, "{written}");
        }
    }

    #[test]
    fn a_foreign_signature_survives_an_sdk_that_decodes_it() {
        for signature in ["EqoB+/=", "sig??>", ""] {
            let sent = sealed(Dialect::Messages, signature);
            let echoed = base64::engine::general_purpose::URL_SAFE.encode(STANDARD.decode(&sent).unwrap());
            assert_eq!(unsealed(&echoed), (Dialect::Messages, signature.to_owned()));
        }
        assert_eq!(sealed(Dialect::Gemini, "CiQB_x8="), "CiQB_x8=");
        assert_eq!(unsealed("CiQB_x8="), (Dialect::Gemini, "CiQB_x8=".to_owned()));
        assert_eq!(unsealed("not base64!"), (Dialect::Gemini, "not base64!".to_owned()));
    }
}
