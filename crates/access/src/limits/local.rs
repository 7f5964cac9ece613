//! Limits counted in this process.
//!
//! Exact under any number of threads: a request locks everything that applies to it, always in the order of
//! [`Scope::ALL`], then checks all of it, then charges all of it or nothing. The locks are held for well
//! under a microsecond and there is no waiting within them. Somebody who is charged often (everybody
//! together, one busy key) is one lock that all threads take in turn, last of all and so for the shortest
//! time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::Clock;
use super::judge::Judge;
use super::quota::{Quota, Refusal};
use super::registry::{Age, Aged, Registry};
use super::rules::{Measure, Rule, Rules, Scope, Span};
use super::subjects::{Applicable, ip_id, ip_of};
use super::window::Window;

const SCOPES: usize = Scope::ALL.len();
/// How exact "about now" is, in milliseconds.
const LATELY_MS: u64 = 100;

/// What is counted for one subject.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    age: Age,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    windows: Vec<(Measure, Span, Window)>,
    in_flight: u64,
    blocked_until_ms: u64,
}

impl Aged for Cell {
    fn age(&self) -> &Age {
        &self.age
    }
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The window of a rule, made or brought into its shape as needed.
    fn window(&mut self, rule: &Rule, now_ms: u64) -> &mut Window {
        let same =
            |(measure, span, _): &(Measure, Span, Window)| *measure == rule.measure && *span == rule.span;
        let index = self.windows.iter().position(same).unwrap_or_else(|| {
            self.windows.push((rule.measure, rule.span, Window::new(rule.shape, now_ms)));
            self.windows.len() - 1
        });
        let window = &mut self.windows[index].2;
        window.reshape(rule.shape, now_ms);
        window
    }

    /// Drops the windows of rules that are no more.
    fn keep_only(&mut self, rules: &Rules) {
        if self.windows.len() > rules.iter().count() {
            let wanted =
                |measure, span| rules.iter().any(|rule| rule.measure == measure && rule.span == span);
            self.windows.retain(|(measure, span, _)| wanted(*measure, *span));
        }
    }

    fn busy_until(&self) -> u64 {
        let windows = self.windows.iter().map(|(_, _, window)| window.empty_at());
        windows.max().unwrap_or(0).max(self.blocked_until_ms)
    }
}

/// Everybody who was seen lately.
#[derive(Debug)]
pub(crate) struct Local {
    clock: Arc<dyn Clock>,
    ip: Registry<u128, Cell>,
    ip_admin: Registry<u128, Cell>,
    user: Registry<u128, Cell>,
    key: Registry<u128, Cell>,
    group: Registry<u128, Cell>,
    global: Arc<Cell>,
    /// About now, for those who only need the order of things: reading the clock costs as much as a lock.
    lately_ms: AtomicU64,
}

impl Local {
    pub(crate) fn new(clock: Arc<dyn Clock>, max_subjects: usize) -> Self {
        let registry = || Registry::new(max_subjects);
        Local {
            clock,
            ip: registry(),
            ip_admin: registry(),
            user: registry(),
            key: registry(),
            group: registry(),
            global: Arc::default(),
            lately_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_max(&self, max_subjects: usize) {
        for registry in [&self.ip, &self.ip_admin, &self.user, &self.key, &self.group] {
            registry.set_max(max_subjects);
        }
    }

    /// How many subjects are remembered.
    pub(crate) fn len(&self) -> usize {
        [&self.ip, &self.ip_admin, &self.user, &self.key, &self.group]
            .iter()
            .map(|registry| registry.len())
            .sum()
    }

    fn cell(&self, scope: Scope, id: u128, admin: bool, now_ms: u64) -> Arc<Cell> {
        let registry = match scope {
            Scope::Ip if admin => &self.ip_admin,
            Scope::Ip => &self.ip,
            Scope::User => &self.user,
            Scope::Key => &self.key,
            Scope::Group => &self.group,
            Scope::Global => return Arc::clone(&self.global),
        };
        registry.get_or(id, now_ms, Cell::default)
    }

    /// Charges a request, or says why not.
    pub(crate) fn admit(
        self: &Arc<Self>,
        applicable: &Applicable<'_>,
        admin: bool,
        tokens: u64,
    ) -> Result<(LocalPermit, Quota), Refusal> {
        let lately_ms = self.lately_ms.load(Ordering::Relaxed);
        let cells: [Option<Arc<Cell>>; SCOPES] = std::array::from_fn(|index| {
            applicable[index].map(|(id, _)| self.cell(Scope::ALL[index], id, admin, lately_ms))
        });
        let mut states: [Option<MutexGuard<'_, State>>; SCOPES] =
            std::array::from_fn(|index| cells[index].as_ref().map(|cell| cell.lock()));
        // Read under the locks, so that no charge is older than one that is there already.
        let now_ms = self.clock.now_ms();
        if now_ms.abs_diff(lately_ms) >= LATELY_MS {
            self.lately_ms.store(now_ms, Ordering::Relaxed);
        }

        let mut judge = Judge::default();
        for (scope, rules, state) in each(applicable, &mut states) {
            if state.blocked_until_ms > now_ms {
                return Err(Judge::blocked(state.blocked_until_ms - now_ms));
            }
            state.keep_only(rules);
            for rule in rules.iter() {
                let amount = rule.amount(tokens);
                let reading = state.window(rule, now_ms).read(now_ms, rule.max, amount);
                judge.window(scope, rule, reading, amount);
            }
            if let Some(limit) = rules.concurrent {
                judge.concurrent(scope, limit, state.in_flight);
            }
        }
        if !judge.admits() {
            return Err(self.refuse(judge, applicable, &cells, &mut states, tokens, now_ms));
        }
        for (_, rules, state) in each(applicable, &mut states) {
            for rule in rules.iter() {
                state.window(rule, now_ms).charge(now_ms, rule.amount(tokens));
            }
            state.in_flight += 1;
        }
        let mut tokens_counted = false;
        for (cell, state) in cells.iter().flatten().zip(states.iter().flatten()) {
            cell.age.keep_until(state.busy_until());
            tokens_counted |= state.windows.iter().any(|(measure, _, _)| *measure == Measure::Tokens);
        }
        drop(states);
        let quota = judge.finish(0, Quota::default)?;
        let permit = LocalPermit {
            local: Arc::clone(self),
            cells,
            at_ms: now_ms,
            tokens: tokens.max(1),
            tokens_counted,
        };
        Ok((permit, quota))
    }

    /// Nothing is charged; the address may be blocked from now on.
    fn refuse(
        &self,
        judge: Judge,
        applicable: &Applicable<'_>,
        cells: &[Option<Arc<Cell>>; SCOPES],
        states: &mut [Option<MutexGuard<'_, State>>; SCOPES],
        tokens: u64,
        now_ms: u64,
    ) -> Refusal {
        let mut block_ms = 0;
        if let (true, Some((_, rules)), Some(cell), Some(state)) =
            (judge.blocks(), applicable[0], &cells[0], &mut states[0])
            && rules.block_ms > 0
        {
            block_ms = rules.block_ms;
            state.blocked_until_ms = now_ms.saturating_add(block_ms);
            cell.age.keep_until(state.busy_until());
        }
        let standing = || {
            let mut quota = Quota::default();
            for (scope, rules, state) in each(applicable, states) {
                for rule in rules.iter() {
                    let reading = state.window(rule, now_ms).read(now_ms, rule.max, rule.amount(tokens));
                    quota.add(scope, rule, &reading, 0);
                }
            }
            quota
        };
        match judge.finish(block_ms, standing) {
            Err(refusal) => refusal,
            // It was asked only because the judge refuses.
            Ok(_) => Judge::blocked(block_ms),
        }
    }

    /// The addresses that are blocked, and for how many milliseconds more.
    pub(crate) fn blocked(&self) -> Vec<(IpAddr, u64)> {
        let now_ms = self.clock.now_ms();
        let mut out = Vec::new();
        for registry in [&self.ip, &self.ip_admin] {
            registry.for_each(|id, cell| {
                let left = cell.lock().blocked_until_ms.saturating_sub(now_ms);
                if left > 0 {
                    out.push((ip_of(*id), left));
                }
            });
        }
        out
    }

    /// Ends the block of an address, and forgets what it has sent. Whether there was one.
    pub(crate) fn unblock(&self, ip: IpAddr) -> bool {
        let now_ms = self.clock.now_ms();
        let cells = [&self.ip, &self.ip_admin].map(|registry| registry.get(&ip_id(ip), now_ms));
        let mut any = false;
        for cell in cells.iter().flatten() {
            let mut state = cell.lock();
            any |= state.blocked_until_ms > now_ms;
            state.blocked_until_ms = 0;
            state.windows.clear();
        }
        any
    }
}

/// Scope, rules and state of each subject.
fn each<'s, 'a, 'g>(
    applicable: &'s Applicable<'a>,
    states: &'s mut [Option<MutexGuard<'g, State>>; SCOPES],
) -> impl Iterator<Item = (Scope, &'a Rules, &'s mut MutexGuard<'g, State>)> {
    let both = Scope::ALL.into_iter().zip(applicable).zip(states);
    both.filter_map(|((scope, applies), state)| Some((scope, applies.as_ref()?.1, state.as_mut()?)))
}

/// What an admitted request holds. Dropped, it gives back its places.
#[derive(Debug)]
pub(crate) struct LocalPermit {
    local: Arc<Local>,
    cells: [Option<Arc<Cell>>; SCOPES],
    at_ms: u64,
    /// The tokens it is charged.
    tokens: u64,
    /// Whether tokens are limited at all.
    tokens_counted: bool,
}

impl LocalPermit {
    /// The true number of tokens takes the place of the estimate.
    pub(crate) fn correct(&mut self, tokens: u64) {
        let charged = std::mem::replace(&mut self.tokens, tokens);
        if !self.tokens_counted || tokens == charged {
            return;
        }
        self.change(|window, measure, at_ms, now_ms| match measure {
            Measure::Tokens if tokens > charged => window.charge(now_ms, tokens - charged),
            Measure::Tokens => window.refund(at_ms, now_ms, charged - tokens),
            Measure::Requests => {}
        });
    }

    /// Takes everything back.
    pub(crate) fn cancel(&mut self) {
        let charged = std::mem::take(&mut self.tokens);
        self.change(|window, measure, at_ms, now_ms| match measure {
            Measure::Tokens => window.refund(at_ms, now_ms, charged),
            Measure::Requests => window.refund(at_ms, now_ms, 1),
        });
    }

    fn change(&self, change: impl Fn(&mut Window, Measure, u64, u64)) {
        let now_ms = self.local.clock.now_ms();
        for cell in self.cells.iter().flatten() {
            let mut state = cell.lock();
            for (measure, _, window) in &mut state.windows {
                change(window, *measure, self.at_ms, now_ms);
            }
            cell.age.keep_until(state.busy_until());
        }
    }
}

impl Drop for LocalPermit {
    fn drop(&mut self) {
        for cell in self.cells.iter().flatten() {
            let mut state = cell.lock();
            state.in_flight = state.in_flight.saturating_sub(1);
        }
    }
}
