//! The log in memory, for tests of whole applications.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry};

use super::layer::{FormatLayer, Output};
use super::line::Formatter;
use crate::settings::LogFormat;

/// Everything our own crates say, and what others warn of. `it` is the integration test binary.
const DIRECTIVES: &str = "warn,base=trace,chat=trace,llm=trace,gateway=trace,access=trace,telemetry=trace,\
                          server=trace,trunkline=trace,testkit=trace,it=trace";

/// All lines logged by this process since [`capture`] was first called. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    lines: Arc<Mutex<Vec<String>>>,
}

/// Sends the log of this process, as JSON at the most detailed level, to memory. The log of a process can
/// be set up once: later calls return the same lines, and after [`super::init`] there are none. All tests
/// of a binary share it, so look for what is yours with [`Capture::find`].
pub fn capture() -> Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    let install = || {
        let capture = Capture::default();
        let formatter = Formatter::new(LogFormat::Json, false);
        let subscriber = Registry::default()
            .with(EnvFilter::new(DIRECTIVES))
            .with(FormatLayer::new(formatter, Output::Memory(capture.clone())));
        // Already set up: then the lines go elsewhere, as documented.
        let _ = tracing::subscriber::set_global_default(subscriber);
        capture
    };
    CAPTURE.get_or_init(install).clone()
}

impl Capture {
    /// Every line so far, without its newline.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines whose field `request_id` is this one.
    pub fn find(&self, request_id: &str) -> Vec<String> {
        let field = format!(r#""request_id":"{request_id}""#);
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains(&field)).cloned().collect()
    }

    pub(super) fn push(&self, line: &str) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }
}
