//! Tokens that must not pass.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

/// A token with any header, signed by nobody.
fn by_hand(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[tokio::test]
async fn a_good_token_passes_with_every_algorithm() {
    let (verifier, issuer) = ready(&[RSA_ONE, P256, P384, ED25519]).await;
    let good = claims(&issuer.url(), json!({}));
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let token = RSA_ONE.sign_as(algorithm.parse().unwrap(), &good);
        assert_eq!(&*verifier.verify(&token).unwrap().subject, "user-1", "{algorithm}");
    }
    for pair in [P256, P384, ED25519] {
        assert_eq!(&*verifier.verify(&pair.sign(&good)).unwrap().subject, "user-1", "{}", pair.kid);
    }
    // Audiences and issuers as people write them.
    for over in [json!({"aud": ["other", AUDIENCE]}), json!({"iss": format!("{}/", issuer.url())})] {
        assert!(verifier.verify(&P256.sign(&claims(&issuer.url(), over))).is_ok());
    }
}

/// Mutations that made it fail: `header` without the check for `none`; without the one for `crit`;
/// `required_spec_claims` without `aud`; audiences not looked at; `principal` without the check of `exp`, of `nbf`.
#[tokio::test]
async fn each_bad_token_is_refused_for_its_own_cause() {
    let (verifier, issuer) = ready(&[P256]).await;
    let url = issuer.url();
    let with = |over: Value| P256.sign(&claims(&url, over));
    let good = claims(&url, json!({}));
    let now = seconds();
    let signed = with(json!({}));
    let (body, signature) = signed.rsplit_once('.').unwrap();
    let other = P256.sign(&claims(&url, json!({"sub": "admin"})));
    let swapped = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    let kid = |alg: &str| json!({"alg": alg, "kid": "p256"});
    let cases = [
        ("alg none", by_hand(&kid("none"), &good, ""), TokenError::Unsigned),
        ("alg nOnE", by_hand(&kid("nOnE"), &good, signature), TokenError::Unsigned),
        ("alg none with a signature", by_hand(&kid("none"), &good, signature), TokenError::Unsigned),
        ("no alg", by_hand(&json!({"kid": "p256"}), &good, signature), TokenError::Malformed),
        ("unknown alg", by_hand(&kid("ES999"), &good, signature), TokenError::Algorithm),
        ("alg of another kind of key", by_hand(&kid("RS256"), &good, signature), TokenError::UnknownKey),
        (
            "crit",
            by_hand(&json!({"alg": "ES256", "kid": "p256", "crit": ["b64"]}), &good, signature),
            TokenError::Critical,
        ),
        (
            "kid that is a number",
            by_hand(&json!({"alg": "ES256", "kid": 1}), &good, signature),
            TokenError::Malformed,
        ),
        ("no signature", format!("{body}."), TokenError::Signature),
        ("another's signature", swapped, TokenError::Signature),
        (
            "unknown kid",
            by_hand(&json!({"alg": "ES256", "kid": "x"}), &good, signature),
            TokenError::UnknownKey,
        ),
        ("wrong audience", with(json!({"aud": "https://other.example"})), TokenError::Audience),
        (
            "audience that begins as ours",
            with(json!({"aud": format!("{AUDIENCE}.evil.example")})),
            TokenError::Audience,
        ),
        ("no audience", with(json!({"aud": null})), TokenError::MissingClaim("aud")),
        ("empty audiences", with(json!({"aud": []})), TokenError::Audience),
        ("wrong issuer", with(json!({"iss": "https://evil.example"})), TokenError::Issuer),
        ("no issuer", with(json!({"iss": null})), TokenError::MissingClaim("iss")),
        ("expired", with(json!({"exp": now - 61})), TokenError::Expired),
        ("no exp", with(json!({"exp": null})), TokenError::MissingClaim("exp")),
        ("exp that is a text", with(json!({"exp": "9999999999"})), TokenError::BadClaim("exp")),
        ("exp beyond time", with(json!({"exp": 1e300})), TokenError::BadClaim("exp")),
        ("negative exp", with(json!({"exp": -1})), TokenError::BadClaim("exp")),
        ("not yet valid", with(json!({"nbf": now + 3600})), TokenError::NotYetValid),
        ("nbf that is a text", with(json!({"nbf": "0"})), TokenError::BadClaim("nbf")),
        ("no subject", with(json!({"sub": null})), TokenError::MissingClaim("sub")),
        ("empty subject", with(json!({"sub": ""})), TokenError::BadClaim("sub")),
        ("subject with a line end", with(json!({"sub": "a\r\nx-role: admin"})), TokenError::BadClaim("sub")),
        ("long subject", with(json!({"sub": "x".repeat(257)})), TokenError::BadClaim("sub")),
        ("overlong", with(json!({"pad": "x".repeat(17 << 10)})), TokenError::TooLong),
    ];
    for (case, token, expected) in cases {
        let error = verifier.verify(&token).unwrap_err();
        assert_eq!(error, expected, "{case}");
        let said = error.to_string();
        assert!(!said.contains(AUDIENCE) && !said.contains(&url) && !said.contains("p256"), "{case}: {said}");
        assert_eq!(verifier.verify(&token).unwrap_err(), expected, "{case}, again: nothing is remembered");
    }
    // Within the leeway.
    assert!(verifier.verify(&with(json!({"exp": now - 50, "nbf": now + 50}))).is_ok());
}

#[tokio::test]
async fn garbage_is_malformed() {
    let (verifier, issuer) = ready(&[P256]).await;
    let good = P256.sign(&claims(&issuer.url(), json!({})));
    for text in ["", ".", "..", "...", "a.b.c", "ey.ey.ey", "sk-tl-abc", "\u{0}.\u{0}.\u{0}", "ü.ü.ü"] {
        let error = verifier.verify(text).unwrap_err();
        assert_eq!(error, TokenError::Malformed, "{text:?}");
    }
    let empty = "eyJhbGciOiJFUzI1NiJ9..";
    assert_eq!(verifier.verify(empty).unwrap_err(), TokenError::Signature);
    for odd in [
        format!("{good}."),
        format!("{good}.x"),
        format!(" {good}"),
        format!("{good}\n"),
        good.replace('.', "=."),
    ] {
        assert!(verifier.verify(&odd).is_err(), "{odd}");
    }
    assert!(looks_like_token(&good));
    assert!(!looks_like_token("sk-tl-abc.def.ghi") && !looks_like_token("eyJ") && !looks_like_token(""));
}

/// The attack: a public key is known to all, so everybody can make an HMAC with it. Two walls stand before it, and
/// either holds alone: our names of algorithms have no HS (with `HS256` read as RS256 the test still passes), and the
/// library takes only the algorithm that the key is for.
#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let (verifier, issuer) = ready(&[RSA_ONE]).await;
    let public = include_str!("keys/rsa_one_public.pem");
    let modulus = RSA_ONE.public()["n"].as_str().unwrap().to_owned();
    for secret in [public, public.trim_end(), &modulus] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let mut header = Header::new(algorithm);
            header.kid = Some("one".into());
            let key = EncodingKey::from_secret(secret.as_bytes());
            let token = jsonwebtoken::encode(&header, &claims(&issuer.url(), json!({})), &key).unwrap();
            assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::Algorithm);
        }
    }
}

/// A key set that publishes a shared secret (RFC 7517 allows `oct`) gives nobody a way in.
#[tokio::test]
async fn only_listed_algorithms_are_accepted() {
    let issuer = fake::Issuer::start();
    let keys = json!({"keys": [RSA_ONE.public(), P256.public(), {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"}]});
    issuer.publish(&keys.to_string());
    let narrow = AuthSettings { algorithms: vec![TokenAlgorithm::ES256], ..settings(&issuer.url()) };
    let verifier = verifier(&narrow);
    verifier.refresh().await.unwrap();
    let good = claims(&issuer.url(), json!({}));
    assert!(verifier.verify(&P256.sign(&good)).is_ok());
    assert_eq!(verifier.verify(&RSA_ONE.sign(&good)).unwrap_err(), TokenError::Algorithm);
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("s".into());
    let forged = jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(b"secret")).unwrap();
    assert_eq!(verifier.verify(&forged).unwrap_err(), TokenError::Algorithm);
}
