//! A small client of Redis (RESP2), for tests that look at a server or clean up after themselves.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::url;

/// How long connecting, and the answer to one command, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest string and the longest list that is read.
const MAX_LENGTH: i64 = 64 * 1024 * 1024;

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(String),
    /// `-ERR …`
    Error(String),
    /// `:1`
    Integer(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
    /// A list.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a status, an error, a number or a string; `None` for the rest.
    pub fn text(&self) -> Option<String> {
        match self {
            Reply::Status(text) | Reply::Error(text) => Some(text.clone()),
            Reply::Integer(number) => Some(number.to_string()),
            Reply::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// The texts of a list, those of its members that have one.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Reply::Array(members) => members.iter().filter_map(Reply::text).collect(),
            _ => Vec::new(),
        }
    }
}

/// One connection to Redis. It blocks.
#[derive(Debug)]
pub struct RedisClient {
    stream: BufReader<TcpStream>,
}

impl RedisClient {
    /// Connects to the server, user and database of `url`: `redis://[user:password@]host[:port][/db]`.
    pub fn connect(url: &str) -> io::Result<RedisClient> {
        let mut client = RedisClient::connect_to(url::address(url, 6379))?;
        let (user, password) = url::credentials(url).unwrap_or_default();
        let login = match user {
            "" => vec!["AUTH", password],
            user => vec!["AUTH", user, password],
        };
        let database = url::path(url);
        for (wanted, command) in
            [(!password.is_empty(), login), (!database.is_empty(), vec!["SELECT", database])]
        {
            if wanted && let Reply::Error(why) = client.command(&command)? {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
        Ok(client)
    }

    /// Connects to a server without a password.
    pub fn connect_to(address: SocketAddr) -> io::Result<RedisClient> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(RedisClient { stream: BufReader::new(stream) })
    }

    /// Sends a command and reads its answer, which may be a [`Reply::Error`].
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        let mut message = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            message.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            message.extend_from_slice(arg);
            message.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&message)?;
        read(&mut self.stream)
    }

    /// Removes every key that begins with `prefix`; returns how many there were.
    pub fn remove_all(&mut self, prefix: &str) -> io::Result<usize> {
        let pattern = format!("{}*", escape(prefix));
        let mut cursor = "0".to_owned();
        let mut removed = 0;
        loop {
            let page = self.command(&["SCAN", &cursor, "MATCH", &pattern, "COUNT", "1000"])?;
            let Reply::Array(parts) = &page else { return Err(unexpected(&page)) };
            let [next, keys] = parts.as_slice() else { return Err(unexpected(&page)) };
            let mut command = vec!["UNLINK".to_owned()];
            command.extend(keys.texts());
            removed += command.len() - 1;
            if command.len() > 1 {
                self.command(&command)?;
            }
            cursor = next.text().unwrap_or_default();
            if cursor == "0" {
                return Ok(removed);
            }
        }
    }
}

/// A text as a pattern that matches only itself.
fn escape(text: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn read(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = Vec::new();
    stream.by_ref().take(64 * 1024).read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let Some(line) = line.strip_suffix("\r\n") else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
    let number = || match rest.parse::<i64>() {
        Ok(number) if number <= MAX_LENGTH || kind == ":" => Ok(number),
        _ => Err(unexpected(&line)),
    };
    match kind {
        "+" => Ok(Reply::Status(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => number().map(Reply::Integer),
        "$" => match usize::try_from(number()?) {
            Err(_) => Ok(Reply::Nil),
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Ok(Reply::Bulk(bytes))
            }
        },
        "*" => match usize::try_from(number()?) {
            Err(_) => Ok(Reply::Nil),
            Ok(length) => (0..length).map(|_| read(stream)).collect::<io::Result<_>>().map(Reply::Array),
        },
        _ => Err(unexpected(&line)),
    }
}

fn unexpected(what: &impl std::fmt::Debug) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("Redis answers {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_kind_are_read() {
        let wire = b"*7\r\n+OK\r\n-ERR no\r\n:-5\r\n$4\r\na\r\nb\r\n$-1\r\n*-1\r\n*1\r\n$0\r\n\r\n";
        let expected = Reply::Array(vec![
            Reply::Status("OK".to_owned()),
            Reply::Error("ERR no".to_owned()),
            Reply::Integer(-5),
            Reply::Bulk(b"a\r\nb".to_vec()),
            Reply::Nil,
            Reply::Nil,
            Reply::Array(vec![Reply::Bulk(Vec::new())]),
        ]);
        assert_eq!(read(&mut &wire[..]).unwrap(), expected);
        for cut in 0..wire.len() {
            assert!(read(&mut &wire[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_redis_is_an_error() {
        for wire in
            [&b"HTTP/1.1 200 OK\r\n"[..], b"\r\n", b"$x\r\n", b"$99999999999\r\n", b"*99999999999\r\n"]
        {
            assert_eq!(read(&mut &wire[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(escape("a*[b]?"), "a\\*\\[b\\]\\?");
    }
}
