//! One sliding window: never more than N within any span of its length.
//!
//! Time is cut into slots; what was charged in a slot counts until every span that could touch the slot is
//! over. So the sum over the slots is never less than the truth, and the limit holds for every span, not
//! only for those that begin with a full minute. The price is that a charge may count a little longer than
//! the span: by one slot.
//!
//! Only slots with something in them are kept. A limit of up to [`EXACT`] has slots of one millisecond and
//! not more entries than its number; a larger one has 60 slots to its span. Either way a window never takes
//! more than about half a kibibyte.

use std::collections::VecDeque;

/// Limits up to this are kept to the millisecond.
const EXACT: u64 = 64;
/// Slots to a span for larger limits.
const SLOTS: u64 = 60;

/// How a window cuts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The length of a slot, in milliseconds.
    pub(crate) slot_ms: u32,
    /// For how many slots a charge counts, its own included.
    pub(crate) slots: u32,
}

impl Shape {
    /// For spans of `length_ms` that admit `max`, charged one by one or (tokens) in lumps.
    pub(crate) fn new(length_ms: u64, max: u64, lumps: bool) -> Self {
        let length = length_ms.clamp(1, u64::from(u32::MAX / 4));
        let slot = if max <= EXACT && !lumps { 1 } else { length.div_ceil(SLOTS) };
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        // A span that begins within a slot ends that many slots later at most, and touches that one too.
        Shape { slot_ms: narrow(slot), slots: narrow(length.div_ceil(slot) + 1) }
    }

    fn slot_at(self, now_ms: u64) -> u64 {
        now_ms / u64::from(self.slot_ms)
    }

    /// Until a charge in `slot` counts no longer.
    fn leaves_in(self, slot: u64, now_ms: u64) -> u64 {
        ((slot + u64::from(self.slots)) * u64::from(self.slot_ms)).saturating_sub(now_ms)
    }
}

/// What was charged in one slot. Slots are counted modulo 2³², which suffices because only their distances
/// matter; a sum beyond 2³² takes several entries.
#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: u32,
    amount: u32,
}

/// How long to wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// There is room.
    None,
    /// So many milliseconds.
    Millis(u64),
    /// No waiting helps: it is more than the limit by itself.
    Forever,
}

/// How a window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What counts now.
    pub(crate) used: u64,
    /// Until there is room for what was asked.
    pub(crate) wait: Wait,
    /// Until the oldest of it counts no longer: some room comes back.
    pub(crate) frees_ms: u64,
    /// Until none of it counts any longer.
    pub(crate) full_ms: u64,
    /// Until what is charged now counts no longer.
    pub(crate) fresh_ms: u64,
}

/// What was charged lately.
#[derive(Debug)]
pub(crate) struct Window {
    shape: Shape,
    entries: VecDeque<Entry>,
    sum: u64,
    /// The slot of the last entry, or of the last look.
    newest: u64,
    /// When it began to count: what was admitted before was not charged here.
    since_ms: u64,
}

impl Window {
    pub(crate) fn new(shape: Shape, now_ms: u64) -> Self {
        let newest = shape.slot_at(now_ms);
        Window { shape, entries: VecDeque::new(), sum: 0, newest, since_ms: now_ms }
    }

    /// Forgets what counts no longer. A clock that went back stands still until it has caught up.
    fn advance(&mut self, now_ms: u64) {
        let slot = self.shape.slot_at(now_ms).max(self.newest);
        if slot - self.newest >= u64::from(self.shape.slots) {
            self.entries.clear();
            self.sum = 0;
        }
        self.newest = slot;
        while let Some(oldest) = self.entries.front() {
            if self.age(*oldest) < self.shape.slots {
                break;
            }
            self.sum -= u64::from(oldest.amount);
            self.entries.pop_front();
        }
    }

    fn age(&self, entry: Entry) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "distances of slots are taken modulo 2^32")]
        let newest = self.newest as u32;
        newest.wrapping_sub(entry.slot)
    }

    /// How it stands, and whether `amount` more fits below `max`.
    pub(crate) fn read(&mut self, now_ms: u64, max: u64, amount: u64) -> Reading {
        self.advance(now_ms);
        let leaves = |entry: &Entry| {
            let slot = self.newest.saturating_sub(u64::from(self.age(*entry)));
            self.shape.leaves_in(slot, now_ms)
        };
        Reading {
            used: self.sum,
            wait: self.wait(max, amount, leaves),
            frees_ms: self.entries.front().map_or(0, leaves),
            full_ms: self.entries.back().map_or(0, leaves),
            fresh_ms: self.shape.leaves_in(self.newest, now_ms),
        }
    }

    fn wait(&self, max: u64, amount: u64, leaves: impl Fn(&Entry) -> u64) -> Wait {
        if amount > max {
            return Wait::Forever;
        }
        let Some(mut over) = (self.sum.saturating_add(amount)).checked_sub(max).filter(|over| *over > 0)
        else {
            return Wait::None;
        };
        for entry in &self.entries {
            over = over.saturating_sub(u64::from(entry.amount));
            if over == 0 {
                return Wait::Millis(leaves(entry).max(1));
            }
        }
        Wait::Forever
    }

    /// Counts `amount` from now on.
    pub(crate) fn charge(&mut self, now_ms: u64, amount: u64) {
        self.advance(now_ms);
        #[expect(clippy::cast_possible_truncation, reason = "slots are counted modulo 2^32")]
        let slot = self.newest as u32;
        self.sum = self.sum.saturating_add(amount);
        let mut left = amount;
        if let Some(last) = self.entries.back_mut().filter(|last| last.slot == slot) {
            let fits = left.min(u64::from(u32::MAX - last.amount));
            last.amount += u32::try_from(fits).unwrap_or(0);
            left -= fits;
        }
        while left > 0 {
            let amount = u32::try_from(left).unwrap_or(u32::MAX);
            self.entries.push_back(Entry { slot, amount });
            left -= u64::from(amount);
        }
    }

    /// Takes back `amount` of what was charged at `at_ms`, as far as it still counts.
    pub(crate) fn refund(&mut self, at_ms: u64, now_ms: u64, amount: u64) {
        self.advance(now_ms);
        let at = self.shape.slot_at(at_ms);
        let age = self.newest.saturating_sub(at);
        if at_ms < self.since_ms || age >= u64::from(self.shape.slots) {
            return;
        }
        let mut left = amount;
        let newest = self.newest;
        for entry in &mut self.entries {
            #[expect(clippy::cast_possible_truncation, reason = "distances of slots are taken modulo 2^32")]
            let entry_age = u64::from((newest as u32).wrapping_sub(entry.slot));
            if entry_age <= age {
                let back = left.min(u64::from(entry.amount));
                entry.amount -= u32::try_from(back).unwrap_or(0);
                self.sum -= back;
                left -= back;
            }
        }
        self.entries.retain(|entry| entry.amount > 0);
    }

    /// Takes another shape, when a limit was changed. What is there counts as if charged at its slot's end.
    pub(crate) fn reshape(&mut self, shape: Shape, now_ms: u64) {
        if self.shape == shape {
            return;
        }
        self.advance(now_ms);
        let old = std::mem::replace(self, Window::new(shape, now_ms));
        self.since_ms = old.since_ms;
        let mut moved: Vec<(u64, u64)> = Vec::with_capacity(old.entries.len());
        for entry in &old.entries {
            let slot = old.newest.saturating_sub(u64::from(old.age(*entry)));
            let last_ms = ((slot + 1) * u64::from(old.shape.slot_ms) - 1).min(now_ms);
            moved.push((last_ms, u64::from(entry.amount)));
        }
        self.newest = moved.first().map_or(self.newest, |(ms, _)| shape.slot_at(*ms));
        for (ms, amount) in moved {
            self.charge(ms, amount);
        }
        self.advance(now_ms);
    }

    /// Until nothing counts any longer.
    pub(crate) fn empty_at(&self) -> u64 {
        if self.entries.is_empty() {
            return 0;
        }
        (self.newest + u64::from(self.shape.slots)) * u64::from(self.shape.slot_ms)
    }
}

#[cfg(test)]
mod tests;
