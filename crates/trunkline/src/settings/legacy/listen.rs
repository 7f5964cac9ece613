//! Legacy names that say where to listen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::convert::{self, Listen};
use super::super::env::is_service_link;
use super::super::problem::{Origin, Path};
use super::super::tree::{Node, Value};
use super::super::vars::Found;
use super::{KESTREL_PASSWORD, KESTREL_PATH, Work};

/// Sets the port of an address, whose host is `host` or stays as it is. A bare port never takes away
/// listeners that somebody wrote down with their TLS.
fn set_port(work: &mut Work<'_>, from: &Found, path: &str, host: Option<IpAddr>) -> Result<(), String> {
    if is_service_link(&from.value) {
        // Kubernetes writes `LANGCHAIN_PORT=tcp://…` for a Service of that name.
        return Ok(());
    }
    let port = convert::port(&from.value)?;
    if path == "server.listen" && work.has("server.listeners") {
        work.note(format!("{} is not used, because server.listeners says where to listen", from.name));
        return Ok(());
    }
    let now = work.text(path).and_then(|text| text.parse::<SocketAddr>().ok()).map(|now| now.ip());
    let host = host.or(now).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(host, port).to_string();
    work.set(path, &address, from)?;
    work.note(format!("{} sets {path} to {address}", from.name));
    Ok(())
}

/// `PORT=8080`: on every address, as hosting platforms mean it.
pub fn port(work: &mut Work<'_>, from: &Found) -> Result<(), String> {
    set_port(work, from, "server.listen", Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// The port of the API.
pub fn langchain_port(work: &mut Work<'_>, from: &Found) -> Result<(), String> {
    set_port(work, from, "server.listen", None)
}

/// The port of the metrics.
pub fn metrics_port(work: &mut Work<'_>, from: &Found) -> Result<(), String> {
    set_port(work, from, "server.metrics", None)
}

/// `http://+:5000;https://+:5443`: these addresses, each with every role.
pub fn aspnetcore_urls(work: &mut Work<'_>, urls: &Found) -> Result<(), String> {
    let mut items = Vec::new();
    for url in urls.value.split(';').filter(|url| !url.trim().is_empty()) {
        let listen = convert::listen_url(url)?;
        items.push(listener(work, &listen, urls)?);
    }
    work.put(&Path::of("server.listeners"), Node::list(items, Origin::Env(urls.name.clone())))?;
    work.tree.remove(&Path::of("server.tls"));
    work.note(format!("{}={} sets server.listeners", urls.name, urls.value));
    Ok(())
}

/// One more listener, with HTTPS, beside what else is listened on.
pub fn kestrel(work: &mut Work<'_>, url: &Found) -> Result<(), String> {
    let listen = convert::listen_url(&url.value)?;
    if !listen.tls {
        return Err("must be an `https://` address".into());
    }
    let more = listener(work, &listen, url)?;
    let mut items = match work.tree.remove(&Path::of("server.listeners")) {
        Some(node) if !node.is_null() => match node.value {
            Value::List(items) => items,
            // Not a list: it goes back, to be reported as it is.
            _ => return work.put(&Path::of("server.listeners"), node),
        },
        _ => vec![first_listener(work)],
    };
    let address = |node: &Node| node.find(&Path::of("addr")).and_then(Node::text).map(str::to_owned);
    if items.iter().all(|item| address(item) != address(&more)) {
        items.push(more);
    }
    work.put(&Path::of("server.listeners"), Node::list(items, Origin::Env(url.name.clone())))?;
    work.note(format!("{}={} adds a listener", url.name, url.value));
    Ok(())
}

/// What `server.listen`, `roles` and `tls` say, as the first of several listeners.
fn first_listener(work: &mut Work<'_>) -> Node {
    let default = || Origin::Default("");
    let mut node = Node::map(default());
    let mut take = |work: &mut Work<'_>, from: &str, key: &str, otherwise: Option<Node>| {
        let taken = match from {
            "server.listen" => work.tree.find(&Path::of(from)).cloned(),
            _ => work.tree.remove(&Path::of(from)),
        };
        if let Some(value) = taken.filter(|value| !value.is_null()).or(otherwise) {
            // Into a map that we have just made: this cannot fail.
            let _ = node.set(&Path::of(key), value);
        }
    };
    take(work, "server.listen", "addr", Some(Node::plain(convert::default_listen(), default())));
    take(work, "server.roles", "roles", Some(roles(&default())));
    take(work, "server.tls", "tls", None);
    node
}

fn roles(origin: &Origin) -> Node {
    let all = server::settings::Role::ALL.iter().map(|role| {
        let name = serde_json::to_value(role).ok();
        Node::plain(name.as_ref().and_then(|name| name.as_str()).unwrap_or_default(), origin.clone())
    });
    Node::list(all.collect(), origin.clone())
}

fn listener(work: &Work<'_>, listen: &Listen, from: &Found) -> Result<Node, String> {
    let origin = Origin::Env(from.name.clone());
    let mut node = Node::map(origin.clone());
    let mut parts =
        vec![("addr", Node::hidden(listen.addr.to_string(), origin.clone())), ("roles", roles(&origin))];
    if listen.tls {
        let Some(path) = work.env.get(KESTREL_PATH)? else {
            return Err(format!("https needs a certificate: set {KESTREL_PATH}"));
        };
        parts.push(("tls.pkcs12", Node::hidden(path.value, Origin::Env(path.name))));
        if let Some(password) = work.env.get(KESTREL_PASSWORD)? {
            parts.push(("tls.password", Node::hidden(password.value, Origin::Env(password.name))));
        }
    }
    for (key, value) in parts {
        // Into a map that we have just made: this cannot fail.
        let _ = node.set(&Path::of(key), value);
    }
    Ok(node)
}
