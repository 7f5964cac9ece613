//! Feeds the reader of vCons any bytes, and holds it to what the pipeline relies on: what is not changed stays byte for
//! byte, what is changed can be read again, the canonical form is reached once, and every form can be checked.

#![no_main]

use bytes::Bytes;
use conversations::Vcon;
use conversations::vcon::validate;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus { check(input) });

fn check(input: &[u8]) -> Corpus {
    let text = Bytes::copy_from_slice(input);
    if let Err(errors) = validate::read(&text) {
        assert!(!errors.is_empty(), "refused without a reason");
    }
    let Ok(mut vcon) = Vcon::parse(text.clone()) else { return Corpus::Keep };
    assert_eq!(vcon.to_bytes(), text, "read and written is another text");
    let uuid = vcon.uuid().to_owned();
    vcon.canonicalise();
    let canonical = vcon.settle();
    let mut again = Vcon::parse(canonical.clone()).expect("what we write can be read");
    assert_eq!(again.uuid(), uuid);
    again.canonicalise();
    assert_eq!(again.to_bytes(), canonical, "the canonical form of the canonical form is another");
    again.materialise();
    again.add_tag("a", "b");
    assert_eq!(again.tag("a").as_deref(), Some("b"));
    let legacy = again.to_legacy().to_bytes();
    assert!(Vcon::parse(legacy).is_ok(), "the legacy form cannot be read");
    Corpus::Keep
}
