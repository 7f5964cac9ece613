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

#[test]
fn bedrock_takes_what_aws_own_variables_say() {
    let env = [
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_SESSION_TOKEN", "t"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let aws = |file: &str| {
        let loaded = read(file, &env).unwrap();
        loaded.settings.providers.get("bedrock").map(|bedrock| bedrock.aws.clone().unwrap())
    };
    let taken = aws("providers: {bedrock: {kind: bedrock}}").unwrap();
    assert_eq!((taken.access_key_id.as_deref(), taken.region.as_deref()), (Some("AKID"), Some("eu-west-1")));
    assert_eq!(taken.session_token.unwrap().expose(), "t");
    let kept = aws(
        "providers: {bedrock: {kind: bedrock, aws: {region: us-west-2, access_key_id: A, secret_access_key: B}}}",
    );
    let kept = kept.unwrap();
    assert_eq!((kept.access_key_id.as_deref(), kept.region.as_deref()), (Some("A"), Some("us-west-2")));
    assert_eq!(kept.session_token, None);
    // Who has these variables may mean S3.
    assert_eq!(aws(""), None);
}
