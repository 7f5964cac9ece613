use testkit::{Behaviour, Reply, Upstream};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn fetcher(policy: UrlPolicy) -> Fetcher {
    drop(rustls::crypto::ring::default_provider().install_default());
    Fetcher::new(policy).unwrap()
}

fn open() -> Fetcher {
    fetcher(UrlPolicy { allow_urls: vec!["127.0.0.1".into()], ..UrlPolicy::default() })
}

fn answers(reply: Reply) -> Upstream {
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::custom("file", move |_| reply.clone()));
    upstream
}

fn at(upstream: &Upstream, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", upstream.port())
}

#[test]
fn only_the_public_internet_is_public() {
    for public in
        ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
    {
        assert!(address::is_public(public.parse().unwrap()), "{public}");
    }
    for private in [
        "0.0.0.0",
        "10.1.2.3",
        "127.0.0.1",
        "127.1.2.3",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::7f00:1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "3fff::1",
        "100::1",
    ] {
        assert!(!address::is_public(private.parse().unwrap()), "{private}");
    }
}

#[test]
fn what_is_allowed_is_read_or_refused() {
    let allowed = Allowed::read(false, &["10.1.0.0/16".into(), "files.corp".into(), "::1".into()]).unwrap();
    assert!(allowed.address("10.1.2.3".parse().unwrap()) && !allowed.address("10.2.0.1".parse().unwrap()));
    assert!(allowed.address("::1".parse().unwrap()) && !allowed.address("::".parse().unwrap()));
    assert!(allowed.address("::ffff:10.1.0.9".parse().unwrap()));
    assert!(allowed.name("FILES.corp.") && !allowed.name("other.corp"));
    for wrong in ["10.0.0.0/33", "10.0.0.0/x", "http://a", "", "a b"] {
        assert!(Allowed::read(false, &[wrong.into()]).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_private_address_is_refused_however_it_is_written() {
    let upstream = answers(Reply::whole(200, "audio/wav", "secret"));
    let fetcher = fetcher(UrlPolicy::default());
    let port = upstream.port();
    for host in
        ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "127.0.0.1."]
    {
        let error = fetcher.get(&format!("http://{host}:{port}/a.wav"), LONG).await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Refused(text) if text.contains("allow_urls")),
            "{host}: {error}"
        );
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_refused() {
    let inside = answers(Reply::whole(200, "audio/wav", "secret"));
    let mut redirect = Reply::whole(302, "text/plain", "");
    redirect.set_header("location", &format!("http://127.0.0.2:{}/a.wav", inside.port()));
    let outside = answers(redirect);
    let error = open().get(&at(&outside, "/"), LONG).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused(_)), "{error}");
    assert_eq!((outside.requests().len(), inside.connections()), (1, 0));

    let mut redirect = Reply::whole(302, "text/plain", "");
    redirect.set_header("location", "file:///etc/passwd");
    outside.set_default(Behaviour::custom("file", move |_| redirect.clone()));
    assert!(matches!(open().get(&at(&outside, "/"), LONG).await, Err(FetchError::Refused(_))));

    let mut circle = Reply::whole(302, "text/plain", "");
    circle.set_header("location", "/again");
    outside.set_default(Behaviour::custom("circle", move |_| circle.clone()));
    assert!(matches!(open().get(&at(&outside, "/"), LONG).await, Err(FetchError::Refused(_))));
    assert_eq!(outside.requests().len(), 2 + 1 + MAX_HOPS);
}

#[tokio::test]
async fn it_brings_the_content_its_type_and_its_name() {
    let mut reply = Reply::whole(200, "Audio/WAV; rate=8000", vec![0u8, 159, 146, 150]);
    reply.set_header("content-disposition", "attachment; filename=\"x/../call 1.wav\"; size=4");
    let upstream = answers(reply);
    let fetched = open().get(&at(&upstream, "/download?token=s3cret"), LONG).await.unwrap();
    assert_eq!(&fetched.body[..], [0, 159, 146, 150]);
    assert_eq!(fetched.media_type.as_deref(), Some("audio/wav"));
    assert_eq!(fetched.file_name.as_deref(), Some("call 1.wav"));

    let upstream = answers(Reply::whole(404, "text/plain", "no"));
    let error = open().get(&at(&upstream, "/download?token=s3cret"), LONG).await.unwrap_err();
    assert!(matches!(&error, FetchError::Refused(text) if text.contains("404") && !text.contains("s3cret")));
    let upstream = answers(Reply::whole(503, "text/plain", "later"));
    assert!(matches!(open().get(&at(&upstream, "/"), LONG).await, Err(FetchError::Failed(_))));
}

#[tokio::test]
async fn it_stops_at_its_limits() {
    let upstream = answers(Reply::whole(200, "audio/wav", vec![0u8; 1025]));
    let small =
        fetcher(UrlPolicy { allow_private_urls: true, max_media: ByteSize(1024), ..UrlPolicy::default() });
    assert!(matches!(small.get(&at(&upstream, "/"), LONG).await, Err(FetchError::Refused(_))));
    upstream.set_default(Behaviour::no_response());
    let error = open().get(&at(&upstream, "/"), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, FetchError::Failed(_)), "{error}");
    assert!(matches!(open().get("gopher://a/", LONG).await, Err(FetchError::Refused(_))));
}

#[tokio::test]
async fn files_are_read_from_the_named_folders_alone() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(folder.path().join("a.wav"), "RIFF").unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("out.wav")).unwrap();
    let url = |name: &str| format!("file://{}/{name}", folder.path().display());
    let fetcher = fetcher(UrlPolicy { file_folders: vec![folder.path().into()], ..UrlPolicy::default() });
    assert_eq!(&fetcher.get(&url("a.wav"), LONG).await.unwrap().body[..], b"RIFF");
    for bad in [url("out.wav"), url("none.wav"), url("../x"), format!("file://{}", outside.path().display())]
    {
        assert!(matches!(fetcher.get(&bad, LONG).await, Err(FetchError::Refused(_))), "{bad}");
    }
    assert!(matches!(open().get(&url("a.wav"), LONG).await, Err(FetchError::Refused(_))));
}
