//! The little that tests need of service URLs: who is behind one, and the same one through another door.

use std::net::{SocketAddr, ToSocketAddrs};

/// Where in `url` the host and port are.
fn authority(url: &str) -> std::ops::Range<usize> {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?']).map_or(url.len(), |at| begin + at);
    let begin = url[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
    begin..end
}

/// The same URL through another address: the user, path and options stay, the host and port become `address`.
/// For a [`Link`](super::Link): `through(&database.url(), link.address())`.
pub fn through(url: &str, address: SocketAddr) -> String {
    let place = authority(url);
    format!("{}{address}{}", &url[..place.start], &url[place.end..])
}

/// The address that `url` names; the port is `port` when it names none.
pub(super) fn address(url: &str, port: u16) -> SocketAddr {
    let place = &url[authority(url)];
    let with_port = match place.rsplit_once(':') {
        Some((_, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            place.to_owned()
        }
        _ => format!("{place}:{port}"),
    };
    let found = with_port.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.unwrap_or_else(|| panic!("{with_port:?} is not an address; change the URL of the service"))
}

/// The same URL with another path: `…/name`, options kept.
pub(super) fn with_path(url: &str, path: &str) -> String {
    let end = authority(url).end;
    let options = url[end..].find('?').map_or("", |at| &url[end + at..]);
    format!("{}/{path}{options}", &url[..end])
}

/// What follows the first `/` after the host, without options.
pub(super) fn path(url: &str) -> &str {
    let rest = url[authority(url).end..].trim_start_matches('/');
    rest.split('?').next().unwrap_or_default()
}

/// The part between `://` and the host, if any: user and password.
pub(super) fn credentials(url: &str) -> Option<(&str, &str)> {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let user = url[begin..authority(url).start].strip_suffix('@')?;
    Some(user.split_once(':').unwrap_or((user, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_goes_through_another_address() {
        let door: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for (url, expected) in [
            ("postgres://u:p@h:5432/d?sslmode=disable", "postgres://u:p@127.0.0.1:9/d?sslmode=disable"),
            ("redis://h", "redis://127.0.0.1:9"),
            ("redis://:a@b@h:1/0", "redis://:a@b@127.0.0.1:9/0"),
            ("amqp://guest:guest@h:5672/%2f", "amqp://guest:guest@127.0.0.1:9/%2f"),
            ("http://h/a@b:7", "http://127.0.0.1:9/a@b:7"),
        ] {
            assert_eq!(through(url, door), expected);
        }
    }

    #[test]
    fn a_url_says_where_and_who() {
        assert_eq!(address("redis://127.0.0.1", 6379).to_string(), "127.0.0.1:6379");
        assert_eq!(address("redis://u@127.0.0.1:1/2", 6379).to_string(), "127.0.0.1:1");
        assert_eq!(credentials("redis://:secret@h/1"), Some(("", "secret")));
        assert_eq!(credentials("postgres://u@h"), Some(("u", "")));
        assert_eq!(credentials("redis://h:1/a@b"), None);
        assert_eq!(with_path("postgres://u@h:1/a?x=y", "b"), "postgres://u@h:1/b?x=y");
        assert_eq!(with_path("amqp://h", "b"), "amqp://h/b");
        assert_eq!((path("redis://h:1/3?a=b"), path("redis://h"), path("redis://h/")), ("3", "", ""));
    }
}
