//! Keys of providers under their own names.

use llm::Kind;

use super::read;

/// Mutation that made it fail: `break` left out after the first variable of a kind.
#[test]
fn every_kind_is_found_by_the_variables_of_its_own_documentation() {
    for kind in Kind::all() {
        for name in kind.env() {
            let loaded = read("", &[(name, "k-1")]).unwrap();
            let provider = &loaded.settings.providers[kind.as_str()];
            assert_eq!((provider.kind, provider.api_key.as_ref().unwrap().expose()), (kind, "k-1"), "{name}");
        }
        if let [first, second, ..] = kind.env() {
            let loaded = read("", &[(first, "k-1"), (second, "k-2")]).unwrap();
            assert_eq!(loaded.settings.providers[kind.as_str()].api_key.as_ref().unwrap().expose(), "k-1");
        }
    }
}

#[test]
fn a_provider_in_the_file_is_given_the_key_it_has_not() {
    let file = "providers: {groq: {kind: groq, base_url: http://127.0.0.1:1/v1}}";
    let loaded = read(file, &[("GROQ_API_KEY", "k-1")]).unwrap();
    assert_eq!(loaded.settings.providers["groq"].api_key.as_ref().unwrap().expose(), "k-1");
    let other = "providers: {groq: {kind: openai-compatible, base_url: http://127.0.0.1:1/v1}}";
    let loaded = read(other, &[("GROQ_API_KEY", "k-1")]).unwrap();
    assert_eq!(loaded.settings.providers["groq"].api_key, None);
    assert!(loaded.notes.iter().any(|note| note.starts_with("GROQ_API_KEY is not used")));
}
