//! Signatures of what we send, by which the receiver knows that it is ours: Standard Webhooks
//! (<https://www.standardwebhooks.com>), HMAC-SHA256 over id, time and body.

use base::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The headers: names and values.
pub(in crate::links) fn sign(
    secret: &Secret,
    id: &str,
    seconds: i64,
    body: &[u8],
) -> [(&'static str, String); 3] {
    // A secret of this form is base64; any other is taken as it is.
    let key = match secret.expose().strip_prefix("whsec_").map(|text| STANDARD.decode(text)) {
        Some(Ok(key)) => key,
        _ => secret.expose().as_bytes().to_vec(),
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    let signature = STANDARD.encode(context.sign().as_ref());
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_standard_s_example() {
        let secret = Secret::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let headers =
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(headers[2].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
