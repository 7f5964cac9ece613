//! Where spans are handed in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::SpanRecord;
use crate::metrics::Counter;

/// The most spans of one export.
pub(super) const BATCH: usize = 512;
/// The most spans that wait.
const CAPACITY: usize = 8 * 1024;
/// A trace id ends in 56 random bits (W3C trace context, level 2); sampling looks at these.
const RANDOM_BITS: u32 = 56;

/// Takes finished spans. Cheap to clone; without an endpoint it is disabled, and costs a comparison.
#[derive(Clone)]
pub struct Tracer {
    queue: Option<Arc<Queue>>,
}

impl Tracer {
    /// A tracer that records nothing.
    pub fn disabled() -> Self {
        Tracer { queue: None }
    }

    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Tracer { queue: Some(queue) }
    }

    /// Whether anything is recorded. Ask before a span is put together.
    pub fn enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether to record this trace. The caller's decision is kept; else the settings' `sample_ratio`
    /// decides by the trace id, so that replicas decide alike. Never, when disabled and nobody decided.
    pub fn sample(&self, trace_id: [u8; 16], remote_parent_sampled: Option<bool>) -> bool {
        match (remote_parent_sampled, &self.queue) {
            (Some(decided), _) => decided,
            (None, Some(queue)) => random_part(trace_id) >= queue.threshold,
            (None, None) => false,
        }
    }

    /// Queues a span of a sampled trace, to be sent within about a second. Never waits: when the queue is
    /// full the span is dropped and counted.
    pub fn record(&self, span: SpanRecord) {
        if let Some(queue) = &self.queue {
            queue.push(span);
        }
    }
}

/// Spans on their way to the task that sends them.
pub(super) struct Queue {
    spans: Mutex<VecDeque<SpanRecord>>,
    full: Notify,
    dropped: Counter,
    threshold: u64,
}

impl Queue {
    pub(super) fn new(sample_ratio: f64, dropped: Counter) -> Self {
        Queue { spans: Mutex::default(), full: Notify::new(), dropped, threshold: threshold(sample_ratio) }
    }

    fn push(&self, span: SpanRecord) {
        let mut spans = self.lock();
        if spans.len() >= CAPACITY {
            drop(spans);
            return self.dropped.inc();
        }
        spans.push_back(span);
        // The task is woken once a batch, not once a span: a wake is a system call.
        let full = spans.len().is_multiple_of(BATCH);
        drop(spans);
        if full {
            self.full.notify_one();
        }
    }

    /// Wakes when there is a full batch.
    pub(super) fn full(&self) -> &Notify {
        &self.full
    }

    /// The oldest spans, at most `count`.
    pub(super) fn take(&self, count: usize) -> Vec<SpanRecord> {
        let mut spans = self.lock();
        let count = count.min(spans.len());
        spans.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SpanRecord>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A trace is recorded when the random part of its id is not below this: all of them at 1, none at 0.
fn threshold(ratio: f64) -> u64 {
    let all = 1u64 << RANDOM_BITS;
    all - (ratio.clamp(0.0, 1.0) * all as f64) as u64
}

fn random_part(trace_id: [u8; 16]) -> u64 {
    u128::from_be_bytes(trace_id) as u64 & ((1 << RANDOM_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use base::TraceContext;

    use super::*;
    use crate::otlp::SpanKind;

    fn tracer(ratio: f64) -> (Tracer, Counter) {
        let dropped = Counter::new("dropped_total", "Dropped.").unwrap();
        (Tracer::new(Arc::new(Queue::new(ratio, dropped.clone()))), dropped)
    }

    #[test]
    fn the_caller_decides_first_and_the_ratio_after() {
        let new = || TraceContext::from_header(None).trace_id;
        let share = |ratio: f64| (0..4000).filter(|_| tracer(ratio).0.sample(new(), None)).count();
        assert_eq!((share(0.0), share(1.0)), (0, 4000));
        assert!((800..1200).contains(&share(0.25)), "{}", share(0.25));
        assert!(tracer(0.0).0.sample(new(), Some(true)) && !tracer(1.0).0.sample(new(), Some(false)));
        // One trace is decided alike everywhere, and a larger ratio records all that a smaller one does.
        let mut low = [0; 16];
        low[15] = 1;
        let mut high = [0; 16];
        high[9..].fill(0xff);
        assert!(!tracer(0.5).0.sample(low, None) && tracer(0.5).0.sample(high, None));
        assert!(tracer(1e-9).0.sample(high, None));
    }

    #[test]
    fn a_disabled_tracer_takes_nothing_but_keeps_the_callers_decision() {
        let tracer = Tracer::disabled();
        assert!(!tracer.enabled() && !tracer.sample([1; 16], None) && tracer.sample([1; 16], Some(true)));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (tracer, dropped) = tracer(1.0);
        let context = TraceContext::from_header(None);
        let span = SpanRecord::new(&context, "span", SpanKind::Internal, SystemTime::now());
        for _ in 0..CAPACITY + 3 {
            tracer.record(span.clone());
        }
        assert_eq!(dropped.get(), 3);
        let queue = tracer.queue.as_ref().unwrap();
        let batches = std::iter::repeat_with(|| queue.take(BATCH).len()).take_while(|&count| count > 0);
        assert_eq!(batches.collect::<Vec<_>>(), [BATCH; CAPACITY / BATCH]);
    }
}
