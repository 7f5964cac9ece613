//! The HTTP side of the issuer: discovery and the key set, and its ways of misbehaving.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::keys::Keys;
use super::{Shared, lock};
use crate::server::Gate;
use crate::wire::{Body, Inbound};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/jwks";

/// How the issuer answers wrongly, on every path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    /// It does not.
    None,
    /// With this status and no body.
    Status(u16),
    /// After this time.
    Slow(Duration),
    /// Never; the connection stays open.
    Silent,
    /// With a body of this many bytes, valid JSON but for its end.
    Huge(usize),
    /// With HTML.
    NotJson,
    /// With a discovery document that names another issuer.
    OtherIssuer,
    /// With a key set without keys.
    NoKeys,
}

pub(super) async fn serve(mut stream: TcpStream, mut gate: Gate, state: Shared) {
    let Ok(local) = stream.local_addr() else { return };
    let url = format!("http://{local}");
    let mut inbound = Inbound::default();
    loop {
        let one = async {
            let Some(request) = read(&mut inbound, &mut stream).await? else { return Ok(false) };
            let answer = answer(&request, &url, &state).await;
            stream.write_all(&answer).await.map(|()| true)
        };
        tokio::select! {
            _ = async { gate.wait_for(|open| !open).await.is_ok() } => return,
            served = one => if !matches!(served, Ok(true)) { return },
        }
    }
}

/// The first line of the next request.
async fn read(inbound: &mut Inbound, stream: &mut TcpStream) -> io::Result<Option<String>> {
    let Some(head) = inbound.head(stream).await? else { return Ok(None) };
    inbound.body(stream, &mut Body::of(&head.headers, Body::Done)?, &mut Vec::new()).await?;
    Ok(Some(head.start))
}

async fn answer(request: &str, url: &str, state: &Shared) -> Vec<u8> {
    let mut words = request.split(' ');
    let path = match (words.next(), words.next()) {
        (Some("GET"), Some(path)) => path.split('?').next().unwrap_or_default(),
        _ => "",
    };
    let (mischief, document) = {
        let mut state = lock(state);
        let document = match path {
            DISCOVERY => {
                state.discoveries += 1;
                Some(discovery(url, state.mischief))
            }
            JWKS => {
                state.key_sets += 1;
                let none = state.mischief == Mischief::NoKeys;
                Some(jwks(if none { &[] } else { &state.published }))
            }
            _ => {
                state.others.push(request.to_owned());
                None
            }
        };
        (state.mischief, document)
    };
    let found = || document.as_ref().map_or((404, String::new()), |document| (200, document.to_string()));
    let (status, body) = match mischief {
        Mischief::Status(status) => (status, String::new()),
        Mischief::Slow(time) => {
            tokio::time::sleep(time).await;
            found()
        }
        Mischief::Silent => std::future::pending().await,
        Mischief::Huge(length) => {
            (200, format!("{{\"keys\":[],\"x\":\"{}", "a".repeat(length.saturating_sub(16))))
        }
        Mischief::NotJson => (200, "<html><body>It works!</body></html>".to_owned()),
        Mischief::None | Mischief::OtherIssuer | Mischief::NoKeys => found(),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    (head + &body).into_bytes()
}

fn discovery(url: &str, mischief: Mischief) -> Value {
    let issuer = if mischief == Mischief::OtherIssuer { "http://127.0.0.1:1" } else { url };
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{url}{JWKS}"),
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    })
}

/// The key set of these keys.
pub(super) fn jwks(published: &[Keys]) -> Value {
    json!({ "keys": published.iter().flat_map(Keys::jwks).collect::<Vec<_>>() })
}
