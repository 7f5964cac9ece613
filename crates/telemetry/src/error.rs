//! What can go wrong while telemetry is set up. Once it runs, a failure is logged and counted, and never
//! reaches a request.

use std::path::PathBuf;

use base::Kind;

/// A mistake in the settings of telemetry, or a place we cannot write to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `telemetry.log.level` is neither a level nor a list of directives.
    #[error(
        "`{level}` is not a log level: write `error`, `warn`, `info`, `debug`, `trace` or `off`, \
         or directives as in `info,gateway=debug` ({reason})"
    )]
    Level {
        /// What was written.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `telemetry.log.file` cannot be opened.
    #[error("cannot open the log file {}: {source}", path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The thread that writes the log could not be started.
    #[error("cannot start the log writer: {0}")]
    Thread(std::io::Error),
    /// This process already has a log: there is one for all applications in it.
    #[error("the log of this process is already set up")]
    Installed,
    /// A metric was declared twice, or its name or a label is not one Prometheus accepts.
    #[error("metric `{name}`: {reason}")]
    Metric {
        /// The family's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting under `telemetry.otlp` cannot be used. Never holds a header's value.
    #[error("telemetry.otlp.{setting}: {reason}")]
    Otlp {
        /// The setting's name.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Seen from the caller's side: a wrong setting is `Invalid`, the rest is `Internal`.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Level { .. } | Error::Otlp { .. } => Kind::Invalid,
            _ => Kind::Internal,
        }
    }
}
