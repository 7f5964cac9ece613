//! Secrets Manager's API as its documentation has it.

use base::Secret;
use base::sigv4::{Credentials, Request, Scope, sign};

use super::*;

const VARIABLES: [(&str, &str); 4] = [
    ("AWS_REGION", "eu-central-1"),
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
    ("AWS_SESSION_TOKEN", "session-token"),
];

fn variables(url: &str) -> Env {
    Env::from_iter(VARIABLES.into_iter().chain([("AWS_ENDPOINT_URL", url)]))
}

/// Seconds since the epoch of an `x-amz-date`, which is near now.
fn time_of(stamp: &str) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let nothing = Credentials {
        access_key: String::new(),
        secret_key: Secret::from(String::new()),
        session_token: None,
    };
    let request = Request { method: "GET", host: "h", path: "/", query: &[], headers: &[], body: b"" };
    let stamp_of = |time| sign(&nothing, &Scope { region: "r", service: "s", time }, &request).remove(0).1;
    (now - 60..=now).find(|time| stamp_of(*time) == stamp).unwrap()
}

use std::time::{SystemTime, UNIX_EPOCH};

/// The guide's ExternalSecret names `paladin/prod/openai-api-key`.
///
/// Mutations that made it fail: another target; no session token; the port left out of the host that is signed.
#[test]
fn promise_p02_aws_secrets_manager_is_asked_with_a_signed_request() {
    let manager = Manager::start();
    let text = r#"{"ARN": "arn:…", "Name": "n", "SecretString": "{\"api_key\": \"sk-aws\", \"n\": 1}", "VersionId": "v"}"#;
    manager.answer("POST /", "200 OK", text);
    let env = variables(&manager.url());
    let secrets = Secrets::new(&env);
    assert_eq!(secrets.get("aws-sm:paladin/prod/openai-api-key#api_key"), Some(Ok("sk-aws".into())));
    assert_eq!(secrets.get("aws-sm:paladin/prod/openai-api-key#n"), Some(Ok("1".into())));
    let whole = secrets.get("aws-sm:paladin/prod/openai-api-key");
    assert_eq!(whole, Some(Ok(r#"{"api_key": "sk-aws", "n": 1}"#.into())), "as it was stored");
    let missing = error(&secrets, "aws-sm:paladin/prod/openai-api-key#none");
    assert!(missing.contains("has no field `none`") && !missing.contains("sk-aws"), "{missing}");

    let seen = manager.requests();
    assert_eq!(seen.len(), 1, "asked once");
    let (seen, body) = (&seen[0], r#"{"SecretId":"paladin/prod/openai-api-key"}"#);
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("POST /", body));
    let headers =
        [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "secretsmanager.GetSecretValue")];
    for (name, value) in headers.into_iter().chain([("x-amz-security-token", "session-token")]) {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    // Signed again from what came over the wire, with the signer that the published vectors prove.
    let host = seen.header("host").unwrap();
    assert_eq!(host, manager.address());
    let credentials = Credentials {
        access_key: VARIABLES[1].1.into(),
        secret_key: Secret::from(VARIABLES[2].1.to_owned()),
        session_token: Some(Secret::from(VARIABLES[3].1.to_owned())),
    };
    let scope = Scope {
        region: "eu-central-1",
        service: "secretsmanager",
        time: time_of(seen.header("x-amz-date").unwrap()),
    };
    let request =
        Request { method: "POST", host, path: "/", query: &[], headers: &headers, body: body.as_bytes() };
    let expected = sign(&credentials, &scope, &request);
    assert_eq!(seen.header("authorization"), Some(expected.last().unwrap().1.as_str()));
    assert!(seen.header("authorization").unwrap().contains(
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="
    ));
}

#[test]
fn an_arn_is_asked_for_in_its_own_region() {
    let manager = Manager::start();
    manager.answer("POST /", "200 OK", r#"{"SecretString": "plain text"}"#);
    let env = variables(&manager.url());
    let secrets = Secrets::new(&env);
    let arn = "aws-sm:arn:aws:secretsmanager:us-west-2:123456789012:secret:prod/openai-AbCdEf";
    assert_eq!(secrets.get(arn), Some(Ok("plain text".into())));
    assert!(
        manager.requests()[0]
            .header("authorization")
            .unwrap()
            .contains("/us-west-2/secretsmanager/aws4_request")
    );
    assert!(error(&secrets, &format!("{arn}#field")).contains("has no fields"));
    assert!(error(&secrets, "aws-sm:arn:aws:x:evil.example/:1:secret:a").contains("region is not one"));
}

#[test]
fn what_is_wrong_is_named_and_no_value_is() {
    for (status, body, expected) in [
        (
            "400 Bad Request",
            r#"{"__type": "ResourceNotFoundException", "Message": "sk-leak"}"#,
            "has no secret `app`",
        ),
        (
            "400 Bad Request",
            r#"{"__type": "com.amazon#AccessDeniedException"}"#,
            "secretsmanager:GetSecretValue",
        ),
        ("400 Bad Request", r#"{"__type": "UnrecognizedClientException"}"#, "AWS_ACCESS_KEY_ID"),
        ("400 Bad Request", r#"{"__type": "Odd<script>Exception"}"#, "OddscriptException (status 400)"),
        ("500 Internal Server Error", "sk-leak", "status 500"),
        ("200 OK", r#"{"SecretBinary": "c2stbGVhaw=="}"#, "is binary"),
        ("200 OK", "sk-leak", "is binary"),
    ] {
        let manager = Manager::start();
        manager.answer("POST /", status, body);
        let env = variables(&manager.url());
        let said = error(&Secrets::new(&env), "aws-sm:app");
        assert!(said.contains(expected) && said.starts_with("AWS Secrets Manager at http://127."), "{said}");
        assert!(
            !said.contains("leak") && !said.contains("wJalr") && !said.contains("session-token"),
            "{said}"
        );
    }
    let manager = Manager::start();
    manager.answer("POST /", "400 Bad Request", r#"{"__type": "ResourceNotFoundException"}"#);
    let with_default = variables(&manager.url());
    assert_eq!(Secrets::new(&with_default).get("aws-sm:app:-none"), Some(Ok("none".into())));
    for (env, expected) in [
        (env(&[]), "set AWS_REGION"),
        (env(&[("AWS_REGION", "eu-central-1")]), "set AWS_ACCESS_KEY_ID"),
        (env(&[("AWS_REGION", "a/b")]), "region is not one"),
    ] {
        let said = error(&Secrets::new(&env), "aws-sm:app:-none");
        assert!(said.contains(expected), "{said}");
    }
}
