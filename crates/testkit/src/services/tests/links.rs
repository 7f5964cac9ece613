//! A link is whole, stalled, muted, cut and mended.

use super::*;

/// A service that takes one connection at a time, in the hands of the test.
struct Service(TcpListener);

impl Service {
    fn start() -> (Service, Link) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link::to(listener.local_addr().unwrap());
        (Service(listener), link)
    }

    fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Nothing arrives for a while.
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let kind = stream.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
}

#[test]
fn a_whole_link_forwards_both_ways_and_ends_in_order() {
    let (service, link) = Service::start();
    let mut client = connect(link.address());
    let mut served = service.accept();
    client.write_all(b"ask").unwrap();
    assert_eq!(read(&mut served, 3), b"ask");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(served.read(&mut [0]).unwrap(), 0, "the service sees the end");
    // More than the buffers of the sockets hold, so that a reset at the end would lose some of it.
    let answer = vec![7; 8 * 1024 * 1024];
    let sent = answer.clone();
    let writer = std::thread::spawn(move || served.write_all(&sent));
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(received == answer, "{} bytes of {}", received.len(), answer.len());
    assert_eq!(link.accepted(), 1);
}

#[test]
fn a_cut_link_resets_and_refuses_until_it_is_mended() {
    let (service, link) = Service::start();
    let mut client = connect(link.address());
    let mut served = service.accept();
    client.write_all(b"x").unwrap();
    read(&mut served, 1);
    assert_eq!(link.open(), 1);
    link.cut();
    assert_eq!(link.open(), 0);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(link.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(served.read(&mut [0]), Ok(0) | Err(_)), "the service loses its client");
    link.mend();
    let mut client = connect(link.address());
    client.write_all(b"y").unwrap();
    assert_eq!(read(&mut service.accept(), 1), b"y");
    assert_eq!(link.accepted(), 2);
}

#[test]
fn a_stalled_link_accepts_and_holds_everything_back() {
    let (service, link) = Service::start();
    let mut old = connect(link.address());
    let mut served = service.accept();
    old.write_all(b"a").unwrap();
    assert_eq!(read(&mut served, 1), b"a");
    link.stall();
    old.write_all(b"b").unwrap();
    served.write_all(b"c").unwrap();
    let mut new = connect(link.address());
    new.write_all(b"d").unwrap();
    let mut served_new = service.accept();
    assert_silent(&mut served);
    assert_silent(&mut old);
    assert_silent(&mut served_new);
    link.mend();
    assert_eq!(read(&mut served, 1), b"b");
    assert_eq!(read(&mut old, 1), b"c");
    assert_eq!(read(&mut served_new, 1), b"d");
}

#[test]
fn a_muted_link_brings_no_answers() {
    let (service, link) = Service::start();
    let mut client = connect(link.address());
    let mut served = service.accept();
    link.mute();
    client.write_all(b"pay").unwrap();
    assert_eq!(read(&mut served, 3), b"pay");
    served.write_all(b"paid").unwrap();
    assert_silent(&mut client);
    link.cut();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_link_to_nobody_resets_its_clients() {
    let link = Link::to(nowhere());
    let mut client = connect(link.address());
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
