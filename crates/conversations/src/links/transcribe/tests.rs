//! Each vendor against a service on a socket: the very bytes that are asked, the analysis that is written.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use testkit::{Behaviour, Received, Reply, Upstream};

use super::super::make as make_link;
use super::super::shared::testing::{Scripted, analysis, reply, service, with, with_dialog};
use super::*;
use crate::environment::Variables;
use crate::testing;

const AUDIO: &[u8] = b"RIFF\0\xff\r\n--";

/// A vCon with this recording inside.
fn inline() -> Vcon {
    let body = URL_SAFE_NO_PAD.encode(AUDIO);
    with_dialog(json!({"type": "recording", "duration": 90, "body": body, "encoding": "base64url",
        "mediatype": "audio/wav", "filename": "call.wav"}))
}

/// A vCon with its recording at an address.
fn at(url: &str) -> Vcon {
    with_dialog(json!({"type": "recording", "duration": 90.5, "url": url, "body": null}))
}

/// A form as it must be on the wire.
fn form(fields: &[(&str, &str)], file: (&str, &str, &str)) -> Vec<u8> {
    let boundary = "trunkline-3f1b8a52c6d94e07";
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .into_bytes(),
        );
    }
    let (name, file_name, kind) = file;
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: {kind}\r\n\r\n"
    );
    body.extend(head.into_bytes());
    body.extend(AUDIO);
    body.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    body
}

async fn run(
    module: &str,
    options: Value,
    vcon: &mut Vcon,
    environment: &Environment,
) -> (Result<Next, LinkError>, LinkContext) {
    let link = make_link(module, options, environment).unwrap();
    let context = testing::context_in(environment.clone());
    let next = link.run(vcon, &context).await;
    (next, context)
}

fn only(upstream: &Upstream) -> Received {
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    requests.into_iter().next().unwrap()
}

fn body(analysis: &Value) -> Value {
    serde_json::from_str(analysis["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn openai_gets_a_form_and_the_answer_is_kept_whole() {
    let answer = json!({"text": "hello", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 2, "total_tokens": 16}});
    let (upstream, base) = service(200, answer.clone());
    let environment = testing::environment();
    for (module, wrap) in [("links.openai_transcribe", false), ("links.transcribe", true)] {
        let own = json!({"OPENAI_API_KEY": "sk-x", "base_url": format!("{base}/v1"), "cache_ttl": "0s", "send_ai_usage_data_to_url": ""});
        let options = if wrap { json!({"vendor": "openai", "vendor_options": own}) } else { own };
        let mut vcon = inline();
        run(module, options, &mut vcon, &environment).await.0.unwrap();
        let request = upstream.requests().pop().unwrap();
        assert_eq!(
            (&*request.path, request.header("authorization")),
            ("/v1/audio/transcriptions", Some("Bearer sk-x"))
        );
        assert_eq!(
            request.header("content-type"),
            Some("multipart/form-data; boundary=trunkline-3f1b8a52c6d94e07")
        );
        assert_eq!(request.body, form(&[("model", "gpt-4o-transcribe")], ("file", "call.wav", "audio/wav")));
        let made = analysis(&vcon, 0);
        assert_eq!(
            (&made["type"], &made["dialog"], &made["vendor"], &made["encoding"]),
            (&json!("transcript"), &json!(1), &json!("openai"), &json!("json"))
        );
        assert_eq!(body(&made), answer);
        let opts = &made["vendor_schema"]["opts"];
        assert_eq!(
            (&opts["model"], &opts["max_chunk_duration"], &opts["minimum_duration"]),
            (&json!("gpt-4o-transcribe"), &json!(480), &json!(3.0))
        );
        assert!(!made.to_string().contains("sk-x") && !made.to_string().contains(&base), "{made}");
    }
}

#[tokio::test]
async fn azure_and_litellm_have_their_own_addresses() {
    let (upstream, base) = service(200, json!({"text": "hello"}));
    for (options, path, header) in [
        (
            json!({"AZURE_OPENAI_ENDPOINT": base, "AZURE_OPENAI_API_KEY": "k"}),
            "/openai/deployments/gpt-4o-transcribe/audio/transcriptions?api-version=2024-10-21",
            ("api-key", "k"),
        ),
        (
            json!({"LITELLM_PROXY_URL": base, "LITELLM_MASTER_KEY": "k"}),
            "/audio/transcriptions",
            ("authorization", "Bearer k"),
        ),
    ] {
        run("links.openai_transcribe", options, &mut inline(), &testing::environment()).await.0.unwrap();
        let request = upstream.requests().pop().unwrap();
        assert_eq!((&*request.path, request.header(header.0)), (path, Some(header.1)));
    }
}

#[tokio::test]
async fn without_credentials_the_gateway_hears_it_and_the_same_recording_is_heard_once() {
    let models = Scripted::new([Ok(json!({"text": "hello"})), Ok(json!({"text": "again"}))]);
    let environment = with(&models);
    let mut hits = Vec::new();
    for module in ["links.transcribe", "links.transcribe", "links.openai_transcribe"] {
        let mut vcon = inline();
        let (next, context) = run(
            module,
            json!({"vendor_options": {"model": "ears", "language": "de", "send_language": true}}),
            &mut vcon,
            &environment,
        )
        .await;
        next.unwrap();
        hits.push(context.was_cache_hit());
        assert_eq!(vcon.analysis().len(), 1);
    }
    assert_eq!(hits, [Some(false), Some(true), Some(false)], "another vendor's transcript is another one");
    let heard = models.heard.lock().unwrap();
    assert_eq!(heard.len(), 2);
    assert_eq!(
        (&*heard[0].model, &heard[0].audio[..], &*heard[0].file_name, &*heard[0].media_type),
        ("ears", AUDIO, "call.wav", "audio/wav")
    );
    assert_eq!(heard[0].fields, [("language".to_owned(), "de".to_owned())]);
}

#[tokio::test]
async fn groq_gets_its_model_and_form() {
    let (upstream, base) = service(200, json!({"text": "hello", "x_groq": {"id": "1"}}));
    let mut environment = testing::environment();
    environment.variables = Variables::new(move |name| match name {
        "GROQ_BASE_URL" => Some(base.clone()),
        "GROQ_API_KEY" => Some("gsk".into()),
        _ => None,
    });
    let mut vcon = inline();
    run("links.groq_whisper", json!({}), &mut vcon, &environment).await.0.unwrap();
    let request = only(&upstream);
    assert_eq!(
        (&*request.path, request.header("authorization")),
        ("/openai/v1/audio/transcriptions", Some("Bearer gsk"))
    );
    let fields = [("model", "whisper-large-v3-turbo"), ("response_format", "json")];
    assert_eq!(request.body, form(&fields, ("file", "call.wav", "audio/wav")));
    let made = analysis(&vcon, 0);
    assert_eq!(
        (&made["vendor"], body(&made)),
        (&json!("groq_whisper"), json!({"text": "hello", "x_groq": {"id": "1"}}))
    );
    assert_eq!(made["vendor_schema"], json!({"opts": {"minimum_duration": 30.0}}));
    assert!(make_link("links.groq_whisper", json!({}), &testing::environment()).is_err(), "a key is needed");
}

#[tokio::test]
async fn hugging_face_gets_the_very_recording() {
    let (upstream, base) = service(200, json!({"text": "hello"}));
    let options =
        json!({"API_URL": format!("{base}/whisper"), "API_KEY": "Bearer hf_x", "Content-Type": "audio/wav"});
    let mut vcon = inline();
    run("links.hugging_face_whisper", options, &mut vcon, &testing::environment()).await.0.unwrap();
    let request = only(&upstream);
    assert_eq!((&*request.path, request.body.as_slice()), ("/whisper", AUDIO));
    let header = |name| request.header(name).unwrap();
    assert_eq!(
        [header("authorization"), header("content-type"), header("accept")],
        ["Bearer hf_x", "audio/wav", "application/json"]
    );
    let made = analysis(&vcon, 0);
    assert_eq!((&made["vendor"], body(&made)), (&json!("hugging_face_whisper"), json!({"text": "hello"})));
    assert_eq!(made["vendor_schema"], json!({"opts": {"Content-Type": "audio/wav", "minimum_duration": 30}}));
}

fn deepgram(confidence: f64) -> Value {
    json!({"metadata": {"duration": 90.4}, "results": {"channels": [{"detected_language": "de", "alternatives": [
        {"transcript": "hallo", "confidence": confidence, "words": [], "paragraphs": {"transcript": "Hallo."}}]}]}})
}

#[tokio::test]
async fn deepgram_is_given_the_address() {
    let (upstream, base) = service(200, deepgram(0.9));
    let options = json!({"DEEPGRAM_KEY": "dg", "base_url": base, "api": {"model": "nova-3", "smart_format": true, "keyterm": ["a b", "c"]}});
    let mut vcon = at("https://files.example.com/call.wav?sig=1");
    run("links.deepgram_link", options, &mut vcon, &testing::environment()).await.0.unwrap();
    let request = only(&upstream);
    assert_eq!(request.path, "/v1/listen?keyterm=a+b&keyterm=c&model=nova-3&smart_format=true");
    assert_eq!(request.header("authorization"), Some("Token dg"));
    assert_eq!(request.body, br#"{"url":"https://files.example.com/call.wav?sig=1"}"#);
    let made = analysis(&vcon, 0);
    assert_eq!(made["vendor"], "deepgram");
    assert_eq!(
        body(&made),
        json!({"transcript": "hallo", "confidence": 0.9, "words": [], "paragraphs": {"transcript": "Hallo."}, "detected_language": "de"})
    );
    let opts = json!({"api": {"model": "nova-3", "smart_format": true, "keyterm": ["a b", "c"]}, "minimum_confidence": 0.5, "minimum_duration": 60});
    assert_eq!(made["vendor_schema"]["opts"], redact::without_secrets(&opts));
}

#[tokio::test]
async fn deepgram_is_sent_what_has_no_address_and_keeps_only_what_it_is_sure_of() {
    for (confidence, kept) in [(0.9, 1), (0.4, 0)] {
        let (upstream, base) = service(200, deepgram(confidence));
        let mut vcon = inline();
        let options = json!({"DEEPGRAM_KEY": "dg", "base_url": base});
        run("links.deepgram_link", options, &mut vcon, &testing::environment()).await.0.unwrap();
        let request = only(&upstream);
        assert_eq!((request.body.as_slice(), request.header("content-type")), (AUDIO, Some("audio/wav")));
        assert_eq!(vcon.analysis().len(), kept);
    }
    let (upstream, base) = service(200, json!({"text": "hallo"}));
    let options = json!({"LITELLM_PROXY_URL": base, "LITELLM_MASTER_KEY": "k"});
    let mut vcon = inline();
    run("links.deepgram_link", options, &mut vcon, &testing::environment()).await.0.unwrap();
    assert_eq!(only(&upstream).body, form(&[("model", "nova-3")], ("file", "call.wav", "audio/wav")));
    assert_eq!(body(&analysis(&vcon, 0)), json!({"transcript": "hallo"}));
}

#[tokio::test]
async fn a_recording_at_an_address_is_fetched_and_checked() {
    let files = Upstream::start();
    files.set_default(Behaviour::custom("audio", |_| Reply::whole(200, "audio/mpeg", AUDIO)));
    let models = Scripted::new([Ok(json!({"text": "hello"}))]);
    let environment = with(&models);
    let mut vcon = at(&format!("http://127.0.0.1:{}/a/call.mp3", files.port()));
    run("links.transcribe", Value::Null, &mut vcon, &environment).await.0.unwrap();
    let heard = models.heard.lock().unwrap().clone();
    assert_eq!(
        (&*heard[0].file_name, &*heard[0].media_type, &heard[0].audio[..]),
        ("call.mp3", "audio/mpeg", AUDIO)
    );
    vcon = at(&format!("http://127.0.0.1:{}/a/call.mp3", files.port()));
    vcon.list_mut(crate::vcon::List::Dialog)[1].set("content_hash", "sha512-AAAA");
    let error = run("links.transcribe", Value::Null, &mut vcon, &environment).await.0.unwrap_err();
    assert!(matches!(error, LinkError::Permanent(_)), "{error}");
}

#[tokio::test]
async fn what_fails_is_told_and_nothing_is_written() {
    let (upstream, base) = service(500, json!({}));
    let options = json!({"api_key": "k", "base_url": base, "attempts": 2, "retry_wait": "1ms"});
    let mut vcon = inline();
    let error =
        run("links.openai_transcribe", options, &mut vcon, &testing::environment()).await.0.unwrap_err();
    assert!(matches!(error, LinkError::Temporary { .. }) && vcon.analysis().is_empty(), "{error}");
    assert_eq!(upstream.requests().len(), 2);
    upstream.set_default(reply(200, &json!({"no": "text"})));
    let options = json!({"api_key": "k", "base_url": base});
    assert!(run("links.openai_transcribe", options, &mut vcon, &testing::environment()).await.0.is_err());
}

#[tokio::test]
async fn short_ones_and_those_that_have_a_transcript_are_left() {
    let environment = with(&Scripted::new([]));
    let mut vcon = inline();
    let (next, context) =
        run("links.openai_transcribe", json!({"minimum_duration": 91}), &mut vcon, &environment).await;
    assert!(next.is_ok() && context.was_skipped() && context.was_cache_hit().is_none());
    assert!(make_link("links.transcribe", json!({"vendor": "nobody"}), &environment).is_err());
}
