//! How a line looks.
//!
//! JSON: `{"timestamp":"2026-11-20T19:00:00.123456Z","level":"INFO","target":"gateway","message":"…",…}`.
//! Text: `2026-11-20T19:00:00.123Z  INFO gateway: message key=value …`.

use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::escape::{Escaped, escape, is_bare};
use crate::settings::LogFormat;

/// A buffer that grew over this many bytes for one line is given back.
const KEEP: usize = 64 << 10;

/// What a thread keeps between lines, so that a line costs no allocation.
#[derive(Default)]
pub(super) struct Scratch {
    line: String,
    value: String,
    clock: Clock,
}

impl Scratch {
    /// Gives memory back after an unusually long line.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.line, &mut self.value] {
            if buffer.capacity() > KEEP {
                buffer.clear();
                buffer.shrink_to(KEEP);
            }
        }
    }
}

/// The current second as text. A calendar is computed once a second and thread, not once a line.
#[derive(Default)]
struct Clock {
    second: Option<u64>,
    text: String,
}

impl Clock {
    /// `2026-11-20T19:00:00`, and the nanoseconds within that second.
    fn read(&mut self, now: SystemTime) -> (&str, u32) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text.clear();
            let second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            let stamp = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX);
            // A `String` takes everything.
            let _ = write!(self.text, "{stamp:.0}");
            self.text.truncate(self.text.len().saturating_sub(1));
        }
        (&self.text, since.subsec_nanos())
    }
}

/// Turns an event into a line.
#[derive(Clone, Copy)]
pub(super) struct Formatter {
    format: LogFormat,
    colour: bool,
}

impl Formatter {
    /// `colour` for a terminal; JSON has none.
    pub(super) fn new(format: LogFormat, colour: bool) -> Self {
        Formatter { format, colour: colour && format == LogFormat::Text }
    }

    /// The line with its newline. The message comes first, also in text when a call site put it elsewhere.
    pub(super) fn event<'s>(&self, scratch: &'s mut Scratch, now: SystemTime, event: &Event<'_>) -> &'s str {
        let Scratch { line, value, clock } = scratch;
        line.clear();
        let metadata = event.metadata();
        self.head(line, clock.read(now), *metadata.level(), metadata.target());
        match self.format {
            LogFormat::Json => {
                // The macros put the message first, where it belongs: one pass is enough.
                event.record(&mut JsonFields { out: line });
                line.push('}');
            }
            LogFormat::Text => {
                event.record(&mut TextFields { out: line, value, message: true });
                event.record(&mut TextFields { out: line, value, message: false });
            }
        }
        line.push('\n');
        line
    }

    /// A line of the log about the log, made without an event: appends it, with its newline.
    pub(super) fn dropped(&self, out: &mut Vec<u8>, now: SystemTime, count: u64) {
        let mut line = String::new();
        self.head(&mut line, Clock::default().read(now), Level::WARN, "telemetry::log");
        // A `String` takes everything.
        let _ = match self.format {
            LogFormat::Json => writeln!(line, r#","message":"log lines were dropped","dropped":{count}}}"#),
            LogFormat::Text => writeln!(line, " log lines were dropped dropped={count}"),
        };
        out.extend_from_slice(line.as_bytes());
    }

    fn head(&self, out: &mut String, (second, nanos): (&str, u32), level: Level, target: &str) {
        match self.format {
            LogFormat::Json => {
                out.push_str(r#"{"timestamp":""#);
                out.push_str(second);
                push_fraction(out, nanos / 1_000, 6);
                out.push_str(r#"Z","level":""#);
                out.push_str(level.as_str());
                out.push_str(r#"","target":""#);
                escape(out, target, true);
                out.push('"');
            }
            LogFormat::Text => {
                let (dim, paint, plain) = if self.colour { paint(level) } else { ("", "", "") };
                out.push_str(dim);
                out.push_str(second);
                push_fraction(out, nanos / 1_000_000, 3);
                out.push('Z');
                out.push_str(plain);
                out.push_str(if level.as_str().len() == 4 { "  " } else { " " });
                out.push_str(paint);
                out.push_str(level.as_str());
                out.push_str(plain);
                out.push(' ');
                escape(out, target, false);
                out.push(':');
            }
        }
    }
}

/// ANSI: dim, the level's colour, and back to plain.
fn paint(level: Level) -> (&'static str, &'static str, &'static str) {
    let colour = match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        _ => "\x1b[35m",
    };
    ("\x1b[2m", colour, "\x1b[0m")
}

/// `.` and `value` with leading zeros.
fn push_fraction(out: &mut String, value: u32, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    out.push('.');
    out.extend(std::iter::repeat_n('0', digits.saturating_sub(text.len())));
    out.push_str(text);
}

/// The field's name without the `r#` of a raw identifier.
fn name(field: &Field) -> &'static str {
    field.name().strip_prefix("r#").unwrap_or(field.name())
}

/// An error and its causes, as `outer: inner`.
struct Chain<'a>(&'a (dyn StdError + 'static));

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Appends fields as `,"key":value`.
struct JsonFields<'a> {
    out: &'a mut String,
}

impl JsonFields<'_> {
    /// Writes the key. Field names are written by programmers, in the source: they need no escapes.
    fn key(&mut self, field: &Field) {
        self.out.push_str(",\"");
        let name = name(field);
        self.out.push_str(name);
        // A key of the line itself may not appear twice: parsers differ in which one they keep.
        let taken = matches!(name, "timestamp" | "level" | "target");
        self.out.push_str(if taken { "_\":" } else { "\":" });
    }

    /// A JSON literal; text in a field `error`, whose type should not change from line to line.
    fn literal(&mut self, field: &Field, literal: &str) {
        self.key(field);
        let quote = if field.name() == "error" { "\"" } else { "" };
        self.out.push_str(quote);
        self.out.push_str(literal);
        self.out.push_str(quote);
    }
}

impl Visit for JsonFields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if !value.is_finite() {
            self.literal(field, "null");
        } else {
            self.key(field);
            let quote = if field.name() == "error" { "\"" } else { "" };
            // A `String` takes everything.
            let _ = write!(self.out, "{quote}{value}{quote}");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.literal(field, itoa::Buffer::new().format(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.literal(field, itoa::Buffer::new().format(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.literal(field, itoa::Buffer::new().format(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.literal(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.literal(field, if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.key(field);
        self.out.push('"');
        escape(self.out, value, true);
        self.out.push('"');
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.record_debug(field, &Chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.key(field);
        self.out.push('"');
        // A `String` takes everything; a value whose own `Debug` fails is cut short.
        let _ = write!(Escaped { out: self.out, quoted: true }, "{value:?}");
        self.out.push('"');
    }
}

/// Appends fields as ` key=value`, and the message as it is: only the message, or all but the message.
struct TextFields<'a> {
    out: &'a mut String,
    value: &'a mut String,
    message: bool,
}

impl TextFields<'_> {
    fn text(&mut self, field: &Field, value: &str) {
        if (field.name() == "message") != self.message {
            return;
        }
        self.out.push(' ');
        if self.message {
            return escape(self.out, value, false);
        }
        escape(self.out, name(field), false);
        if is_bare(value) {
            self.out.push('=');
            self.out.push_str(value);
        } else {
            self.out.push_str("=\"");
            escape(self.out, value, true);
            self.out.push('"');
        }
    }
}

impl Visit for TextFields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.text(field, itoa::Buffer::new().format(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.text(field, itoa::Buffer::new().format(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.record_debug(field, &Chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if (field.name() == "message") != self.message {
            return;
        }
        // Whether it needs quotes is known only when it is whole.
        let mut whole = std::mem::take(self.value);
        whole.clear();
        // A `String` takes everything; a value whose own `Debug` fails is cut short.
        let _ = write!(whole, "{value:?}");
        self.text(field, &whole);
        *self.value = whole;
    }
}
