//! The services do what they promise to other tests: they are there, they go, and they leave nothing behind.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::postgres::{execute, postgres_at};
use super::process::{Process, Recipe, alive};
use super::*;

mod links;
mod private;
mod shared;

/// A socket that gives up after a while.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// An address where nothing listens.
fn nowhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, place::free_port()).into()
}
