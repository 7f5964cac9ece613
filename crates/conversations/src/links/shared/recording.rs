//! The recording of a dialog: its bytes, from wherever they are, checked against the hash that the vCon gives.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use ring::digest;

use crate::fetch::Fetched;
use crate::link::{LinkContext, LinkError};
use crate::vcon::{Object, Vcon};

/// How long a recording may take to arrive.
pub(in crate::links) const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// Audio, and what is known of it.
#[derive(Clone, Debug)]
pub(in crate::links) struct Recording {
    pub(in crate::links) audio: Bytes,
    pub(in crate::links) file_name: String,
    pub(in crate::links) media_type: String,
}

/// A dialog that waits for its transcript.
#[derive(Clone, Debug)]
pub(in crate::links) struct Waiting {
    /// Its place among the dialogs.
    pub(in crate::links) index: usize,
    pub(in crate::links) dialog: Object,
    /// In seconds.
    pub(in crate::links) duration: Option<f64>,
}

impl Waiting {
    /// Where its recording is, when it is not inside.
    pub(in crate::links) fn url(&self) -> Option<String> {
        let filled = |key| self.dialog.text(key).filter(|text| !text.is_empty()).map(Cow::into_owned);
        match filled("body") {
            // So the link `diet` leaves what it moved.
            Some(body) if self.dialog.text("body_type").as_deref() == Some("url") => Some(body),
            Some(_) => None,
            None => filled("url"),
        }
    }

    /// Its media type, as the vCon has it.
    pub(in crate::links) fn media_type(&self) -> Option<String> {
        let known = ["mediatype", "mimetype"].into_iter().find_map(|key| self.dialog.text(key));
        known.map(Cow::into_owned).filter(|text| !text.is_empty())
    }

    /// Its recording; an error when it cannot be had or is not what the vCon says.
    pub(in crate::links) async fn load(
        &self,
        context: &LinkContext,
        timeout: Duration,
    ) -> Result<Recording, LinkError> {
        let fetched = match self.url() {
            Some(url) => {
                let fetched = context.environment.fetch.get(&url, timeout).await?;
                check_hash(&self.dialog, &fetched.body).map_err(|reason| self.broken(&reason))?;
                fetched
            }
            None => {
                let body = self.dialog.text("body").unwrap_or_default();
                let limit = context.environment.fetch.max_media();
                if body.len() as u64 / 4 * 3 > limit {
                    return Err(self.broken("its recording is larger than `max_media`"));
                }
                let encoding = self.dialog.text("encoding");
                let audio = decode(&body, encoding.as_deref()).map_err(|reason| self.broken(&reason))?;
                Fetched { body: audio.into(), media_type: None, file_name: None }
            }
        };
        if fetched.body.is_empty() {
            return Err(self.broken("its recording is empty"));
        }
        let named = self.dialog.text("filename").filter(|name| !name.is_empty()).map(Cow::into_owned);
        let by_name = named.as_deref().or(fetched.file_name.as_deref()).and_then(type_of);
        let served =
            fetched.media_type.filter(|kind| kind.starts_with("audio/") || kind.starts_with("video/"));
        let media_type = self.media_type().or_else(|| by_name.map(str::to_owned)).or(served);
        let media_type = media_type.unwrap_or_else(|| "audio/wav".into());
        let with_end = |name: &String| type_of(name).is_some();
        let file_name = named.filter(with_end).or(fetched.file_name.filter(with_end));
        let file_name =
            file_name.unwrap_or_else(|| format!("audio_{}.{}", self.index, ending_of(&media_type)));
        Ok(Recording { audio: fetched.body, file_name, media_type })
    }

    fn broken(&self, reason: &str) -> LinkError {
        LinkError::permanent(format!("dialog {}: {reason}", self.index))
    }
}

/// The recordings of a vCon that have no analysis of this type, and are not known to be shorter than this.
pub(in crate::links) fn waiting(vcon: &Vcon, made: &str, minimum: f64) -> Vec<Waiting> {
    let has = |dialog: &Object, key| dialog.text(key).is_some_and(|text| !text.is_empty());
    vcon.dialog()
        .iter()
        .enumerate()
        .filter(|(_, dialog)| dialog.text("type").as_deref() == Some("recording"))
        .filter(|(_, dialog)| has(dialog, "body") || has(dialog, "url"))
        .filter(|(index, _)| vcon.find_analysis(*index, made).is_none())
        .map(|(index, dialog)| Waiting { index, dialog: dialog.clone(), duration: duration(dialog) })
        .filter(|waiting| waiting.duration.is_none_or(|duration| duration >= minimum))
        .collect()
}

fn duration(dialog: &Object) -> Option<f64> {
    dialog.read("duration").or_else(|| dialog.text("duration")?.parse().ok())
}

/// Bytes in a body. Without an encoding it is base64, as old writers have it; line breaks are passed over.
fn decode(body: &str, encoding: Option<&str>) -> Result<Vec<u8>, String> {
    let engine = match encoding {
        Some("base64url") => &URL_SAFE,
        None | Some("base64") => &STANDARD,
        Some(other) => return Err(format!("its body has the encoding `{other}`, which holds no recording")),
    };
    let text: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    // Some write the one alphabet and name the other; the characters say which it is.
    let engine = match text.contains(['-', '_']) {
        true => &URL_SAFE,
        false if text.contains(['+', '/']) => &STANDARD,
        false => engine,
    };
    engine.decode(text).map_err(|_| "its body is not the base64 that its encoding says".to_owned())
}

/// Compares with `content_hash` (`sha512-…`, one or several), or with `signature` and `alg` of earlier drafts.
fn check_hash(dialog: &Object, content: &[u8]) -> Result<(), String> {
    let mut expected: Vec<(String, String)> = Vec::new();
    match dialog.value("content_hash") {
        Some(serde_json::Value::String(text)) => expected.extend(hash_of(&text)),
        Some(serde_json::Value::Array(texts)) => {
            expected.extend(texts.iter().filter_map(|text| hash_of(text.as_str()?)));
        }
        _ => {}
    }
    let old = ["signature", "content_hash"].into_iter().find_map(|key| dialog.text(key));
    if let (Some(algorithm), Some(hash), true) = (dialog.text("alg"), old, expected.is_empty()) {
        expected.push((algorithm.to_ascii_lowercase().replace('-', ""), hash.into_owned()));
    }
    for (algorithm, hash) in expected {
        let algorithm = match algorithm.as_str() {
            "sha512" => &digest::SHA512,
            "sha384" => &digest::SHA384,
            "sha256" => &digest::SHA256,
            // A signature's algorithm, or one of the future: not ours to check.
            _ => continue,
        };
        let engine = if hash.contains(['+', '/']) { &STANDARD } else { &URL_SAFE };
        let wanted = engine.decode(hash).map_err(|_| "its content hash is not base64url".to_owned())?;
        if digest::digest(algorithm, content).as_ref() != wanted {
            return Err(
                "its recording differs from its content hash: it was changed, or is another one".into()
            );
        }
    }
    Ok(())
}

/// `sha512-…` in its two parts.
fn hash_of(text: &str) -> Option<(String, String)> {
    let (algorithm, hash) = text.split_once('-')?;
    matches!(algorithm, "sha256" | "sha384" | "sha512").then(|| (algorithm.to_owned(), hash.to_owned()))
}

/// Endings of names and their media types; of several endings the first is the one that is written.
const TYPES: &[(&str, &str)] = &[
    ("wav", "audio/wav"),
    ("wav", "audio/x-wav"),
    ("wav", "audio/wave"),
    ("wav", "audio/vnd.wave"),
    ("mp3", "audio/mpeg"),
    ("mp3", "audio/mp3"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/opus"),
    ("m4a", "audio/mp4"),
    ("m4a", "audio/x-m4a"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("flac", "audio/x-flac"),
    ("webm", "audio/webm"),
    ("webm", "video/webm"),
    ("mp4", "video/mp4"),
];

fn type_of(name: &str) -> Option<&'static str> {
    let (_, end) = name.rsplit_once('.')?;
    TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(end)).map(|(_, kind)| *kind)
}

fn ending_of(media_type: &str) -> &'static str {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    TYPES.iter().find(|(_, kind)| kind.eq_ignore_ascii_case(essence)).map_or("wav", |(end, _)| end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::{Behaviour, Reply, Upstream};

    use super::*;
    use crate::testing;
    use crate::vcon::List;

    fn dialog(value: serde_json::Value) -> Waiting {
        let serde_json::Value::Object(map) = value else { panic!("an object") };
        let dialog = Object::from(map);
        Waiting { index: 0, duration: duration(&dialog), dialog }
    }

    #[tokio::test]
    async fn an_inline_body_is_read_in_either_alphabet() {
        for (body, encoding) in [
            ("-_8", json!("base64url")),
            ("+/8=", json!("base64")),
            ("+/\r\n8=", json!(null)),
            ("-_8=", json!("base64")),
        ] {
            let waiting = dialog(json!({"body": body, "encoding": encoding, "filename": "a.MP3"}));
            let recording = waiting.load(&testing::context(), FETCH_TIMEOUT).await.unwrap();
            assert_eq!(&recording.audio[..], [0xfb, 0xff]);
            assert_eq!((&*recording.file_name, &*recording.media_type), ("a.MP3", "audio/mpeg"));
        }
        for (body, encoding) in [("a*b", "base64"), ("hello", "none"), ("", "base64"), ("{}", "json")] {
            let waiting = dialog(json!({"body": body, "encoding": encoding}));
            let error = waiting.load(&testing::context(), FETCH_TIMEOUT).await.unwrap_err();
            assert!(matches!(error, LinkError::Permanent(_)), "{body} {error}");
        }
    }

    #[tokio::test]
    async fn what_an_address_gives_is_checked_against_every_form_of_hash() {
        let upstream = Upstream::start();
        upstream.set_default(Behaviour::custom("audio", |_| Reply::whole(200, "audio/flac", "abc")));
        let url = format!("http://127.0.0.1:{}/r", upstream.port());
        let sha512 = "3a81oZNherrMQXNJriBBMRLm-k6JqX6iCp7u5ktV05ohkpkqJ0_BqDa6PCOj_uu9RU1EI2Q86A4qmslPpUyknw";
        for good in [
            json!({"url": url}),
            json!({"url": url, "content_hash": format!("sha512-{sha512}")}),
            json!({"url": url, "content_hash": [format!("sha512-{sha512}"), "sha256-ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"]}),
            json!({"url": url, "alg": "SHA-512", "signature": format!("{sha512}==")}),
            json!({"url": url, "alg": "RS256", "signature": "x"}),
            json!({"body": url, "body_type": "url", "encoding": "none"}),
        ] {
            let recording = dialog(good.clone()).load(&testing::context(), FETCH_TIMEOUT).await.unwrap();
            assert_eq!(
                (&recording.audio[..], &*recording.file_name),
                (&b"abc"[..], "audio_0.flac"),
                "{good}"
            );
        }
        for bad in [
            json!({"url": url, "content_hash": "sha512-AAAA"}),
            json!({"url": url, "content_hash": ["sha256-ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0", "sha512-AAAA"]}),
            json!({"url": url, "alg": "SHA-512", "signature": "AAAA"}),
        ] {
            let error = dialog(bad).load(&testing::context(), FETCH_TIMEOUT).await.unwrap_err();
            assert!(matches!(&error, LinkError::Permanent(text) if text.contains("hash")), "{error}");
        }
    }

    #[test]
    fn only_long_enough_recordings_without_a_transcript_wait() {
        let mut vcon = testing::vcon();
        for value in [
            json!({"type": "recording", "body": "AA", "duration": 5}),
            json!({"type": "recording", "url": "http://a/", "duration": "60.5", "body": null}),
            json!({"type": "recording", "url": "http://a/"}),
            json!({"type": "recording", "duration": 100}),
            json!({"type": "text", "body": "AA", "duration": 100}),
        ] {
            vcon.list_mut(List::Dialog).push(dialog(value).dialog);
        }
        let indexes =
            |vcon: &Vcon| waiting(vcon, "transcript", 30.0).iter().map(|w| w.index).collect::<Vec<_>>();
        assert_eq!(indexes(&vcon), [2, 3]);
        vcon.add_analysis(crate::vcon::Analysis {
            kind: "transcript",
            dialog: json!(2),
            vendor: "x",
            body: json!({}),
            encoding: "json",
            extra: vec![],
        });
        assert_eq!(indexes(&vcon), [3]);
    }
}
