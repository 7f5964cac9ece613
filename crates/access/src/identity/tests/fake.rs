//! An issuer over HTTP/1.1: discovery and JWKS, on a thread of its own.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(super) const JWKS: &str = "/keys";

#[derive(Default)]
struct State {
    /// By path: status line and headers, and body.
    answers: Mutex<HashMap<String, (String, String)>>,
    requests: AtomicUsize,
    stop: AtomicBool,
}

pub(super) struct Issuer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Issuer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let _ = answer(stream.unwrap(), &shared);
            }
        });
        let issuer = Issuer { address, state, thread: Some(thread) };
        let url = issuer.url();
        issuer.answer(
            DISCOVERY,
            "200 OK",
            &json!({"issuer": url, "jwks_uri": format!("{url}{JWKS}")}).to_string(),
        );
        issuer
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn publish(&self, jwks: &str) {
        self.answer(JWKS, "200 OK", jwks);
    }

    pub(super) fn answer(&self, path: &str, status: &str, body: &str) {
        self.state.answers.lock().unwrap().insert(path.into(), (status.into(), body.into()));
    }

    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    // A client that never gets to its request (its runtime has stopped) must not keep us.
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    state.requests.fetch_add(1, Ordering::SeqCst);
    let path = first.split(' ').nth(1).unwrap_or_default();
    let known = state.answers.lock().unwrap().get(path).cloned();
    let (status, body) = known.unwrap_or_else(|| ("404 Not Found".into(), String::new()));
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
