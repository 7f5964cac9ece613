//! AWS Signature Version 4: the header that proves to an AWS service who is asking.
//!
//! Pure: the caller gives the time and sends the request. Small, because the SDK costs more than a minute of
//! building: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::fmt::Write as _;

use ring::{digest, hmac};

use crate::Secret;

/// Whose request it is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: Secret,
    /// `AWS_SESSION_TOKEN`, of temporary credentials.
    pub session_token: Option<Secret>,
}

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The host as it is sent, with the port when that is not the scheme's own.
    pub host: &'a str,
    /// The path as it is sent, percent-encoded once. Services other than S3 want it encoded once more for the
    /// signature, which is done here.
    pub path: &'a str,
    /// The query's names and values, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Further headers to sign; names in lower case. `host` and `x-amz-*` of the signature are added.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// Where and when a signature is valid.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// As `us-east-1`.
    pub region: &'a str,
    /// As `secretsmanager` or `bedrock`.
    pub service: &'a str,
    /// Seconds since the epoch.
    pub time: u64,
}

/// The headers to add to the request: `x-amz-date`, `x-amz-security-token` when there is a session, and
/// `authorization`.
pub fn sign(
    credentials: &Credentials,
    scope: &Scope<'_>,
    request: &Request<'_>,
) -> Vec<(&'static str, String)> {
    let stamp = timestamp(scope.time);
    let day = stamp.get(..8).unwrap_or_default();
    let mut added = vec![("x-amz-date", stamp.clone())];
    if let Some(token) = &credentials.session_token {
        added.push(("x-amz-security-token", token.expose().to_owned()));
    }
    let mut headers: Vec<(&str, String)> = vec![("host", request.host.to_owned())];
    headers.extend(request.headers.iter().map(|(name, value)| (*name, squeeze(value))));
    headers.extend(added.iter().map(|(name, value)| (*name, squeeze(value))));
    headers.sort();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let canonical = canonical(request, &headers, &names);
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{place}\n{}", hash(canonical.as_bytes()));
    let key = signing_key(&credentials.secret_key, day, scope);
    let signature = hex(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    let who = &credentials.access_key;
    added.push((
        "authorization",
        format!("AWS4-HMAC-SHA256 Credential={who}/{place}, SignedHeaders={names}, Signature={signature}"),
    ));
    added
}

fn canonical(request: &Request<'_>, headers: &[(&str, String)], names: &str) -> String {
    let path = if request.path.is_empty() { "/" } else { request.path };
    let mut query: Vec<(String, String)> =
        request.query.iter().map(|(name, value)| (encode(name, false), encode(value, false))).collect();
    query.sort();
    let query = query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let mut text = format!("{}\n{}\n{query}\n", request.method, encode(path, true));
    for (name, value) in headers {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{names}\n{}", hash(request.body));
    text
}

fn signing_key(secret: &Secret, day: &str, scope: &Scope<'_>) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{}", secret.expose()).as_bytes());
    for part in [day, scope.region, scope.service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

/// A header's value with single spaces and none at its ends.
fn squeeze(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Percent-encoding as AWS has it: everything but letters, digits and `-._~`, and in paths `/`.
fn encode(text: &str, path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (path && byte == b'/') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `20150830T123600Z`. The days are counted as Howard Hinnant's `civil_from_days` does.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    //! The facts of AWS's published test suite for Signature Version 4.

    use super::*;

    /// 2015-08-30T12:36:00Z.
    const TIME: u64 = 1_440_938_160;

    fn credentials() -> Credentials {
        Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: Secret::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: None,
        }
    }

    fn signature(request: &Request<'_>, service: &str) -> String {
        let scope = Scope { region: "us-east-1", service, time: TIME };
        let headers = sign(&credentials(), &scope, request);
        let (_, authorization) = headers.last().unwrap();
        authorization.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    const VANILLA: Request<'static> = Request {
        method: "GET",
        host: "example.amazonaws.com",
        path: "/",
        query: &[],
        headers: &[],
        body: b"",
    };

    #[test]
    fn signs_as_the_published_test_suite() {
        let sort = &[("Param2", "value2"), ("Param1", "value1")];
        let form = &[("content-type", "application/x-www-form-urlencoded")];
        let cases = [
            ("get-vanilla", VANILLA, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "get-vanilla-query-order-key-case",
                Request { query: sort, ..VANILLA },
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-vanilla",
                Request { method: "POST", ..VANILLA },
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-x-www-form-urlencoded",
                Request { method: "POST", headers: form, body: b"Param1=value1", ..VANILLA },
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ];
        for (name, request, expected) in cases {
            assert_eq!(signature(&request, "service"), expected, "{name}");
        }
    }

    #[test]
    fn signs_as_the_documentation_s_example() {
        let request = Request {
            host: "iam.amazonaws.com",
            query: &[("Action", "ListUsers"), ("Version", "2010-05-08")],
            headers: &[("content-type", "application/x-www-form-urlencoded;  charset=utf-8")],
            ..VANILLA
        };
        let expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(signature(&request, "iam"), expected);
        let scope = Scope { region: "us-east-1", service: "iam", time: TIME };
        let headers = sign(&credentials(), &scope, &request);
        assert_eq!(headers[0], ("x-amz-date", "20150830T123600Z".to_owned()));
        assert_eq!(
            headers[1].1,
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, Signature={expected}"
            )
        );
    }

    #[test]
    fn a_session_token_is_sent_and_signed() {
        let session = Credentials { session_token: Some(Secret::from("tok".to_owned())), ..credentials() };
        let scope = Scope { region: "us-east-1", service: "service", time: TIME };
        let headers = sign(&session, &scope, &VANILLA);
        assert_eq!(headers[1], ("x-amz-security-token", "tok".to_owned()));
        assert!(headers[2].1.contains("SignedHeaders=host;x-amz-date;x-amz-security-token"), "{headers:?}");
        assert!(!format!("{session:?}").contains("tok\""));
    }

    #[test]
    fn knows_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (TIME, "20150830T123600Z"),
            (1_795_219_199, "20261120T235959Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    #[test]
    fn encodes_as_aws_does() {
        assert_eq!(encode("a b/ü~*", true), "a%20b/%C3%BC~%2A");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
