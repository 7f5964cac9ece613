//! Reads one HTTP/1.1 response as it arrives, doing only what the benchmark needs: status, framing, payload.
//!
//! It knows nothing of sockets, so that blocking and asynchronous connections share it.

use crate::Outcome;

/// A response being read. `reset` makes it ready for the next one without giving back its memory.
#[derive(Default)]
pub struct Reply {
    raw: Vec<u8>,
    /// Where parsing goes on in `raw`.
    at: usize,
    state: State,
    status: u16,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Head,
    Length(usize),
    ChunkSize,
    ChunkData(usize),
    Trailer,
    Done,
}

impl Reply {
    /// Takes the bytes that arrived. Fails on what is not HTTP/1.1, and on bytes after the response's end.
    pub fn feed(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.raw.extend_from_slice(bytes);
        while self.step()? {}
        if self.state == State::Done && self.at != self.raw.len() {
            return Err(format!("{} bytes follow the end of a response", self.raw.len() - self.at));
        }
        Ok(())
    }

    /// Whether the response is complete.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// The body so far, chunk framing taken off.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The status, 0 before the head has arrived.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Fails unless this is a complete 200 whose body is `expected`, byte for byte.
    pub fn check(&self, expected: &[u8]) -> Outcome<()> {
        if self.status != 200 {
            return Err(format!(
                "status {}, expected 200; the body: {}",
                self.status,
                excerpt(&self.payload)
            ));
        }
        if self.payload != expected {
            let same = self.payload.iter().zip(expected).take_while(|(a, b)| a == b).count();
            return Err(format!(
                "a wrong body: {} bytes, expected {}; they differ from byte {same} on\n  got:      {}\n  expected: {}",
                self.payload.len(),
                expected.len(),
                excerpt(&self.payload[same.min(self.payload.len())..]),
                excerpt(&expected[same.min(expected.len())..]),
            ));
        }
        Ok(())
    }

    /// Forgets this response.
    pub fn reset(&mut self) {
        self.raw.clear();
        self.payload.clear();
        self.at = 0;
        self.status = 0;
        self.state = State::Head;
    }

    /// Parses one piece; false when it needs more bytes.
    fn step(&mut self) -> Outcome<bool> {
        match self.state {
            State::Head => self.head(),
            State::Length(left) => Ok(self.take(left, State::Length, State::Done)),
            State::ChunkData(left) => Ok(self.take(left, State::ChunkData, State::ChunkSize)),
            State::ChunkSize => self.chunk_size(),
            State::Trailer => Ok(match self.line() {
                Some([]) => {
                    self.state = State::Done;
                    false
                }
                line => line.is_some(),
            }),
            State::Done => Ok(false),
        }
    }

    /// Moves up to `left` bytes into the payload, then goes on with `rest` or, at the end, `next`.
    fn take(&mut self, left: usize, rest: fn(usize) -> State, next: State) -> bool {
        let got = left.min(self.raw.len() - self.at);
        self.payload.extend_from_slice(&self.raw[self.at..self.at + got]);
        self.at += got;
        self.state = if got == left { next } else { rest(left - got) };
        got == left
    }

    fn line(&mut self) -> Option<&[u8]> {
        let start = self.at;
        let length = find(&self.raw[start..], b"\r\n")?;
        self.at = start + length + 2;
        Some(&self.raw[start..start + length])
    }

    fn chunk_size(&mut self) -> Outcome<bool> {
        let Some(mut line) = self.line() else { return Ok(false) };
        if line.is_empty() {
            // The line break after the data of the chunk before.
            line = match self.line() {
                Some(line) => line,
                None => {
                    self.at -= 2;
                    return Ok(false);
                }
            };
        }
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size =
            std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        self.state = match size {
            Some(0) => State::Trailer,
            Some(size) => State::ChunkData(size),
            None => return Err(format!("not a chunk size: {}", excerpt(digits))),
        };
        Ok(true)
    }

    fn head(&mut self) -> Outcome<bool> {
        let Some(end) = find(&self.raw, b"\r\n\r\n") else { return Ok(false) };
        let head = &self.raw[..end];
        self.status = head
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok())
            .ok_or_else(|| format!("not an HTTP/1.1 response: {}", excerpt(head)))?;
        self.state = if let Some(length) = header(head, b"content-length") {
            let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
            State::Length(length.ok_or("content-length is not a number")?)
        } else if header(head, b"transfer-encoding").is_some_and(|coding| coding == b"chunked") {
            State::ChunkSize
        } else {
            return Err("a response with neither content-length nor chunks".into());
        };
        self.at = end + 4;
        Ok(true)
    }
}

/// The value of the header `name` (lower case) in an HTTP/1.1 head.
pub fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (key, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// Where `needle` begins in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n";
    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\nContent-Length: 12\r\n\r\nhello, world";

    #[test]
    fn reads_both_framings_however_the_bytes_are_cut() {
        for bytes in [CHUNKED, PLAIN] {
            for size in 1..bytes.len() {
                let mut reply = Reply::default();
                for (index, piece) in bytes.chunks(size).enumerate() {
                    assert!(!reply.done(), "size {size}: done before piece {index}");
                    reply.feed(piece).unwrap();
                }
                assert!(reply.done(), "size {size}");
                reply.check(b"hello, world").unwrap();
            }
        }
    }

    #[test]
    fn a_wrong_status_or_body_is_told() {
        let mut reply = Reply::default();
        reply.feed(PLAIN).unwrap();
        assert!(reply.check(b"hello, worms").unwrap_err().contains("from byte 10"));
        assert!(reply.check(b"hello").unwrap_err().contains("12 bytes, expected 5"));
        reply.reset();
        reply.feed(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert!(reply.check(b"no").unwrap_err().contains("status 502"));
    }

    #[test]
    fn nonsense_is_an_error() {
        let cases: [&[u8]; 4] = [
            b"SSH-2.0-hello\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab",
        ];
        for bytes in cases {
            assert!(Reply::default().feed(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
