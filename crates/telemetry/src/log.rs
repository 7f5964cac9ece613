//! The log: `tracing` events, each one line of JSON or text.
//!
//! The subscriber belongs to the process; everything else in this crate belongs to an application. Spans
//! of `tracing` are not printed: traces are [`crate::otlp`]'s, and a line says with its own fields which
//! request it belongs to.

mod capture;
mod escape;
mod layer;
mod line;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::Error;
use crate::settings::{LogFormat, LogSettings};
pub use capture::{Capture, capture};
use layer::{FormatLayer, Output};
use line::Formatter;
use writer::Writer;

/// The log of this process, once set up. Dropping it writes what is still buffered; lines logged later are
/// still written, by the same background thread.
pub struct LogHandle {
    writer: Arc<Writer>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Sets up the log of this process: text to stderr, JSON to stdout, or either to the file named.
///
/// Fails when the level cannot be read, the file cannot be opened, or a log is already set up.
pub fn init(settings: &LogSettings) -> Result<LogHandle, Error> {
    let filter = parse_level(&settings.level)?;
    let (sink, colour): (Box<dyn Write + Send>, bool) = match (&settings.file, settings.format) {
        (Some(path), _) => (Box::new(open(path)?), false),
        (None, LogFormat::Json) => (Box::new(std::io::stdout()), false),
        (None, LogFormat::Text) => (Box::new(std::io::stderr()), std::io::stderr().is_terminal()),
    };
    let formatter = Formatter::new(settings.format, colour);
    let writer = Writer::start(sink, formatter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let output = Output::Writer(Arc::clone(&writer));
    let subscriber = Registry::default().with(filter).with(FormatLayer::new(formatter, output));
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        writer.close();
        return Err(Error::Installed);
    }
    Ok(LogHandle { writer, filter: handle })
}

/// Whether [`init`] and [`LogHandle::set_level`] would take this level, for checking settings.
pub fn check_level(level: &str) -> Result<(), Error> {
    parse_level(level).map(drop)
}

impl LogHandle {
    /// Changes the level at once, for all threads. A level that cannot be read changes nothing.
    pub fn set_level(&self, level: &str) -> Result<(), Error> {
        let wrong = |reason: reload::Error| Error::Level { level: level.into(), reason: reason.to_string() };
        self.filter.reload(parse_level(level)?).map_err(wrong)
    }

    /// Waits until what was logged so far is written. Gives up after five seconds when the other end of
    /// the pipe reads nothing, so that a stuck reader cannot keep a process from ending.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Lines lost since the start, because the buffer was full or the sink refused them.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.flush();
    }
}

/// `EnvFilter` takes a word it does not know for the name of a target, and would then silence all the
/// others: `level: inof` must be an error instead. It also does not like spaces after commas; people do.
fn parse_level(level: &str) -> Result<EnvFilter, Error> {
    let wrong = |reason: String| Error::Level { level: level.into(), reason };
    let directives: Vec<&str> = level.split(',').map(str::trim).collect();
    let unknown = |word: &&&str| {
        word.is_empty() || (!word.contains(['=', '[']) && word.parse::<LevelFilter>().is_err())
    };
    if let Some(word) = directives.iter().find(unknown) {
        return Err(wrong(format!("`{word}` is not a level")));
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| wrong(error.to_string()))
}

/// Opens for appending. What we create only its owner can read: a log names keys and callers.
fn open(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| Error::LogFile { path: path.into(), source })
}
