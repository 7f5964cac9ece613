//! Between `tracing` and the sink: one event in, one line out.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::capture::Capture;
use super::line::{Formatter, Scratch};
use super::writer::Writer;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Where lines go.
pub(super) enum Output {
    /// To the background thread.
    Writer(Arc<Writer>),
    /// Into memory, at once.
    Memory(Capture),
}

/// Formats each event into the thread's buffer and hands the line on.
pub(super) struct FormatLayer {
    formatter: Formatter,
    output: Output,
}

impl FormatLayer {
    pub(super) fn new(formatter: Formatter, output: Output) -> Self {
        FormatLayer { formatter, output }
    }

    fn write(&self, scratch: &mut Scratch, event: &Event<'_>) {
        let line = self.formatter.event(scratch, SystemTime::now(), event);
        match &self.output {
            Output::Writer(writer) => writer.push(line.as_bytes(), *event.metadata().level() == Level::ERROR),
            Output::Memory(capture) => capture.push(line.trim_end_matches('\n')),
        }
        scratch.shrink();
    }
}

impl<S: Subscriber> Layer<S> for FormatLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // The buffer is in use when a value logs while it is being formatted, and gone when a thread logs
        // while it ends. Both are rare: they get a buffer of their own.
        let done = SCRATCH.try_with(|scratch| {
            let mut scratch = scratch.try_borrow_mut().ok()?;
            self.write(&mut scratch, event);
            Some(())
        });
        if !matches!(done, Ok(Some(()))) {
            self.write(&mut Scratch::default(), event);
        }
    }
}
