//! A client that does no more than it must: one blocking connection that stays open.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Outcome;

/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The header that opens the API.
pub const TOKEN: &str = "token-of-the-benchmark";

pub struct Client {
    socket: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Client {
    pub fn open(address: SocketAddr) -> Outcome<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).and_then(|socket| {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| format!("cannot connect to {address}: {error}"))?;
        Ok(Client { socket, address, buffer: Vec::new() })
    }

    /// One exchange; the body of the answer, whose status must be this one.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8], status: u16) -> Outcome<Vec<u8>> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nx-conserver-api-token: {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        let failed = |error: &dyn std::fmt::Display| format!("{method} {path}: {error}");
        self.socket.write_all(&request).map_err(|error| failed(&error))?;
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive().map_err(|error| failed(&error))?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let given: u16 = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = match (length, given) {
            (Some(length), _) => length,
            (None, 204) => 0,
            (None, _) => return Err(failed(&"an answer without its length")),
        };
        while self.buffer.len() < head + length {
            self.receive().map_err(|error| failed(&error))?;
        }
        let answer: Vec<u8> = self.buffer.drain(..head + length).skip(head).collect();
        match given == status {
            true => Ok(answer),
            false => Err(failed(&format!("{given}: {}", String::from_utf8_lossy(&answer)))),
        }
    }

    fn receive(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 16 << 10];
        let count = self.socket.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(())
    }
}
