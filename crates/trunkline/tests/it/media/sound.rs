//! What is asked in a form: sound to be written down, pictures to be changed.

use testkit::{Behaviour, Ending, Reply, Upstream};

use super::{app, fake, post};

const TYPE: &str = "multipart/form-data; boundary=XyZ";

fn form(fields: &[(&str, &str)], file: (&str, &[u8])) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes(),
        );
    }
    let head = format!(
        "--XyZ\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n",
        file.0
    );
    body.extend(head.bytes());
    body.extend(file.1);
    body.extend(b"\r\n--XyZ--\r\n");
    body
}

/// Mutation that made it fail: the form's name written as JSON.
#[tokio::test]
async fn a_form_goes_out_byte_for_byte_but_for_the_model() {
    let sound: &[u8] = b"RIFF\r\n--Xy\x00\xff";
    for (path, file, answer, price, cost) in [
        (
            "/audio/transcriptions",
            "file",
            &br#"{"text":"hi","usage":{"type":"duration","seconds":3}}"#[..],
            "{second: 0.0001}",
            "0.0003",
        ),
        ("/audio/translations", "file", br#"{"text":"hi","duration":"2.5"}"#, "{second: 0.0001}", "0.00025"),
        ("/images/edits", "image[]", br#"{"data":[{"url":"x"}]}"#, "{image: 0.02}", "0.02"),
        ("/images/variations", "image", br#"{"data":[{"url":"x"}]}"#, "{image: 0.02}", "0.02"),
    ] {
        let upstream = fake("application/json", answer);
        let app = app(&upstream, price).await;
        let ask = form(&[("model", "m"), ("prompt", "p"), ("language", "de")], (file, sound));
        let got = post(&app, &format!("/v1{path}"), TYPE, &ask).await;
        assert_eq!(
            (got.status, &got.body[..]),
            (200, answer),
            "{path}: {:?}",
            String::from_utf8_lossy(&got.body)
        );
        assert_eq!(got.header("x-trunkline-cost"), Some(cost), "{path}");
        let sent = upstream.requests().pop().unwrap();
        assert_eq!(
            (sent.path.as_str(), sent.header("content-type")),
            (format!("/v1{path}").as_str(), Some(TYPE))
        );
        assert_eq!(
            sent.body[..],
            form(&[("model", "real"), ("prompt", "p"), ("language", "de")], (file, sound)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn text_and_subtitles_come_back_as_they_are() {
    let upstream = fake("text/plain; charset=utf-8", b"1\n00:00:00,000 --> 00:00:01,000\nhi\n");
    let app = app(&upstream, "{second: 0.0001}").await;
    let ask = form(&[("model", "m"), ("response_format", "srt")], ("file", &[0; 2_000]));
    let got = post(&app, "/v1/audio/transcriptions", TYPE, &ask).await;
    assert_eq!((got.status, got.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!(got.text(), "1\n00:00:00,000 --> 00:00:01,000\nhi\n");
    assert_eq!(
        got.header("x-trunkline-cost"),
        Some("0.0002"),
        "by its size, since nobody says how long it lasts"
    );
}

#[tokio::test]
async fn a_stream_is_watched_to_its_end() {
    let upstream = Upstream::start();
    let events = [
        "event: transcript.text.delta\ndata: {\"type\":\"transcript.text.delta\",\"delta\":\"hi\"}",
        "data: {\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{\"type\":\"duration\",\"seconds\":4}}",
    ];
    let whole = events.map(|event| event.to_owned() + "\n\n").concat();
    upstream.set_default(Behaviour::custom("transcript", move |_| Reply::events(events.map(str::to_owned))));
    let app = app(&upstream, "{second: 0.0001}").await;
    let ask = form(&[("model", "m"), ("stream", "true")], ("file", b"RIFF"));
    let got = post(&app, "/v1/audio/transcriptions", TYPE, &ask).await;
    assert_eq!((got.status, got.text()), (200, whole.as_str()));

    let first = events[0].to_owned();
    upstream.set_default(Behaviour::custom("cut", move |_| Reply {
        ending: Ending::Close,
        ..Reply::events([first.clone()])
    }));
    let got = post(&app, "/v1/audio/transcriptions", TYPE, &ask).await;
    assert!(got.text().starts_with(events[0]) && got.text().contains("stream_broken"), "{}", got.text());
}

#[tokio::test]
async fn a_form_that_is_wrong_is_refused_with_what_to_change() {
    let upstream = Upstream::start();
    let app = app(&upstream, "{second: 0.0001}").await;
    let file: (&str, &[u8]) = ("file", b"RIFF");
    for (body, says) in [
        (form(&[], file), "provide a `model`"),
        (form(&[("model", "m"), ("model", "m")], file), "names `model` twice"),
        (form(&[("model", "")], file), "`model` is empty"),
        (form(&[("model", "m")], ("other", b"x")), "`file` must be"),
        (form(&[("model", "m")], ("file", b"")), "`file` must be"),
        (form(&[("model", "m"), ("stream", "perhaps")], file), "`stream` must be"),
        (b"--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm".to_vec(), "cut off"),
        (Vec::new(), "cut off"),
    ] {
        let got = post(&app, "/v1/audio/transcriptions", TYPE, &body).await;
        assert_eq!(got.status, 400, "{says}");
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{says}: {message}");
    }
    let no_boundary = post(&app, "/v1/audio/transcriptions", "multipart/form-data", b"x").await;
    assert!(no_boundary.status == 400 && no_boundary.text().contains("boundary"));
    assert!(upstream.requests().is_empty());
}
