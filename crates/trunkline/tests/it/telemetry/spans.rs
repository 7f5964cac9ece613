//! Traces over OTLP: a call is one server span, and a client span for each attempt.

use std::time::Duration;

use testkit::{Behaviour, Collector, Upstream, attribute};

use super::{hello, to};
use crate::app::{PATIENCE, TestApp, alias};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// `SpanKind` and `Status.code` of OTLP.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

/// A span as the tests look at it.
#[derive(Debug)]
struct Seen {
    name: String,
    kind: i32,
    trace: String,
    id: String,
    parent: String,
    error: bool,
    start: u64,
    end: u64,
    attributes: Box<dyn Attributes>,
}

trait Attributes: std::fmt::Debug {
    fn get(&self, key: &str) -> Option<String>;
}

impl Seen {
    fn get(&self, key: &str) -> Option<String> {
        self.attributes.get(key)
    }

    fn lasted(&self) -> Duration {
        Duration::from_nanos(self.end - self.start)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! seen {
    ($spans:expr) => {{
        #[derive(Debug)]
        struct Of<T>(T);
        $spans
            .into_iter()
            .map(|span| {
                let attributes = span.attributes.clone();
                Seen {
                    name: span.name,
                    kind: span.kind,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    error: span.status.is_some_and(|status| status.code == ERROR),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    attributes: Box::new(attributes),
                }
            })
            .collect::<Vec<Seen>>()
    }};
}
