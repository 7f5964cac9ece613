//! The issuer's keys change, and the issuer goes away.

use std::time::{Duration, Instant};

use super::*;

fn wall() -> i64 {
    seconds() * 1000
}

/// Waits until `run` has looked at the keys once.
async fn looked(verifier: &TokenVerifier) {
    let mut attempts = verifier.0.attempts.subscribe();
    attempts.wait_for(|attempts| *attempts > 0).await.unwrap();
}

/// Mutation that made it fail: `verify_or_refresh` that does not wait.
#[tokio::test]
async fn a_new_key_is_found_when_a_token_brings_it() {
    let issuer = fake::Issuer::start();
    issuer.publish(&jwks(&[P256]));
    let verifier = verifier(&settings(&issuer.url()));
    let task = tokio::spawn(verifier.clone().run());
    looked(&verifier).await;

    let new = P384.sign(&claims(&issuer.url(), json!({})));
    assert_eq!(verifier.verify_or_refresh(&new).await.unwrap_err(), TokenError::UnknownKey);
    issuer.publish(&jwks(&[P256, P384]));
    assert_eq!(verifier.verify(&new).unwrap_err(), TokenError::UnknownKey, "nothing by itself");
    assert_eq!(&*verifier.verify_or_refresh(&new).await.unwrap().subject, "user-1");
    task.abort();
}

/// Mutation that made it fail: the cache without the generation.
#[tokio::test]
async fn a_key_that_is_withdrawn_takes_its_tokens_with_it() {
    let (verifier, issuer) = ready(&[P256, P384]).await;
    let token = P384.sign(&claims(&issuer.url(), json!({})));
    let first = verifier.verify(&token).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &verifier.verify(&token).unwrap()), "remembered");
    verifier.refresh().await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &verifier.verify(&token).unwrap()), "the same keys again");
    issuer.publish(&jwks(&[P256]));
    verifier.refresh().await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::UnknownKey);
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_expires() {
    let (verifier, issuer) = ready(&[P256]).await;
    let token = P256.sign(&claims(&issuer.url(), json!({"exp": seconds() + 100})));
    let at = |after: i64| Now { wall: wall() + after * 1000, steady: Instant::now() };
    assert!(verifier.verify_at(&token, at(0)).is_ok());
    assert!(verifier.verify_at(&token, at(150)).is_ok(), "leeway");
    assert_eq!(verifier.verify_at(&token, at(161)).unwrap_err(), TokenError::Expired);
    // A clock that is set back makes no token longer than it is, and one set forward no keys stale.
    assert!(verifier.verify_at(&token, at(-86_400)).is_ok());
    let later = P256.sign(&claims(&issuer.url(), json!({"exp": seconds() + 400 * 86_400})));
    assert!(verifier.verify_at(&later, at(300 * 86_400)).is_ok());
}

/// Mutation that made it fail: keys dropped when a refresh fails; `stale_after` not looked at for remembered
/// tokens.
#[tokio::test]
async fn old_keys_serve_while_the_issuer_is_down_but_not_for_ever() {
    let (verifier, issuer) = ready(&[P256]).await;
    let url = issuer.url();
    let token = P256.sign(&claims(&url, json!({"exp": seconds() + 7 * 86_400})));
    drop(issuer);
    let error = verifier.refresh().await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains(&url), "{error}");
    assert!(verifier.verify(&token).is_ok());
    let at = |hours: u64| Now { wall: wall(), steady: Instant::now() + Duration::from_secs(hours * 3600) };
    assert!(verifier.verify_at(&token, at(23)).is_ok());
    assert_eq!(verifier.verify_at(&token, at(25)).unwrap_err(), TokenError::KeysUnavailable);
    assert_eq!(TokenError::KeysUnavailable.kind(), base::Kind::Unavailable);
    assert_eq!(verifier.keys().unwrap().0, 1);
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_found_later() {
    let issuer = fake::Issuer::start();
    issuer.answer(fake::DISCOVERY, "503 Service Unavailable", "");
    issuer.publish(&jwks(&[P256]));
    let verifier = verifier(&settings(&issuer.url()));
    let token = P256.sign(&claims(&issuer.url(), json!({})));
    assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::KeysUnavailable);
    assert_eq!(verifier.verify("garbage").unwrap_err(), TokenError::Malformed, "said without keys");
    let task = tokio::spawn(verifier.clone().run());
    looked(&verifier).await;
    assert!(verifier.keys().is_none());
    let url = issuer.url();
    let document = json!({"issuer": url, "jwks_uri": format!("{url}{}", fake::JWKS)});
    issuer.answer(fake::DISCOVERY, "200 OK", &document.to_string());
    assert!(verifier.verify_or_refresh(&token).await.is_ok());
    task.abort();
}

/// Mutation that made it fail: `is_too_soon` that is always false.
#[tokio::test]
async fn invented_key_ids_do_not_make_us_ask_the_issuer() {
    let issuer = fake::Issuer::start();
    issuer.publish(&jwks(&[P256]));
    let pace = Pace { between: Duration::from_secs(3600), ..EAGER };
    let direct =
        AuthSettings { jwks_url: Some(format!("{}{}", issuer.url(), fake::JWKS)), ..settings(&issuer.url()) };
    let verifier = TokenVerifier::with_pace(&direct, &Roles::built_in(), pace).unwrap().unwrap();
    let task = tokio::spawn(verifier.clone().run());
    looked(&verifier).await;
    assert_eq!(issuer.requests(), 1);
    let stranger = P384.sign(&claims(&issuer.url(), json!({})));
    for _ in 0..50 {
        assert_eq!(verifier.verify_or_refresh(&stranger).await.unwrap_err(), TokenError::UnknownKey);
    }
    assert_eq!(issuer.requests(), 1);
    task.abort();
}

#[tokio::test]
async fn many_who_wait_share_one_look() {
    let issuer = fake::Issuer::start();
    issuer.publish(&jwks(&[P256]));
    let direct =
        AuthSettings { jwks_url: Some(format!("{}{}", issuer.url(), fake::JWKS)), ..settings(&issuer.url()) };
    let verifier = verifier(&direct);
    let task = tokio::spawn(verifier.clone().run());
    looked(&verifier).await;
    issuer.publish(&jwks(&[P256, P384]));
    let new = P384.sign(&claims(&issuer.url(), json!({})));
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), new.clone());
            tokio::spawn(async move { verifier.verify_or_refresh(&token).await })
        })
        .collect();
    for answer in waiting {
        assert!(answer.await.unwrap().is_ok());
    }
    // One at the start and one for all of them; a wish that came while it ran may have cost another.
    assert!(issuer.requests() <= 3, "{}", issuer.requests());
    task.abort();
}

/// A token that does not claim to be from our issuer is no reason to ask it for keys.
#[tokio::test]
async fn a_stranger_s_token_is_refused_at_once() {
    let (verifier, issuer) = ready(&[P256]).await;
    let before = issuer.requests();
    let foreign = P384.sign(&claims("https://other.example", json!({})));
    assert_eq!(verifier.verify_or_refresh(&foreign).await.unwrap_err(), TokenError::Issuer);
    assert_eq!(issuer.requests(), before);
}

#[tokio::test]
async fn an_issuer_that_answers_badly_is_named_with_what_is_wrong() {
    let issuer = fake::Issuer::start();
    issuer.publish(&jwks(&[P256]));
    let url = issuer.url();
    let verifier = verifier(&settings(&url));
    let large = "x".repeat(513 << 10);
    let document = |issuer: &str, keys: &str| json!({"issuer": issuer, "jwks_uri": keys}).to_string();
    let cases = [
        (fake::DISCOVERY, "200 OK", "<html>".to_owned(), "no discovery document"),
        (fake::DISCOVERY, "200 OK", document("https://evil.example", "http://127.0.0.1/"), "another name"),
        (fake::DISCOVERY, "200 OK", document(&url, "file:///etc/passwd"), "not `https`"),
        (fake::DISCOVERY, "500 Internal Server Error", String::new(), "status 500"),
        (fake::DISCOVERY, "302 Found\r\nlocation: http://127.0.0.1:1/", String::new(), "redirect"),
        (fake::DISCOVERY, "200 OK", large, "larger than"),
        (fake::DISCOVERY, "200 OK", document(&url, &format!("{url}/keys")), ""),
        (fake::JWKS, "200 OK", "{}".to_owned(), "no JWKS"),
        (fake::JWKS, "200 OK", json!({"keys": []}).to_string(), "publishes no key"),
    ];
    for (path, status, body, expected) in cases {
        issuer.answer(path, status, &body);
        match verifier.refresh().await {
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
            Ok(()) => assert_eq!(expected, ""),
        }
    }
    assert_eq!(verifier.keys().unwrap().0, 1, "those that were read once stay");
}
