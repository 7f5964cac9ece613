//! In which order the targets of an alias are asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use access::prices::Units;
use base::Money;

use crate::settings::{Complexity, Strategy};
use crate::snapshot::Target;

/// Of so many requests one goes to a target chosen at random, so that one which was slow once is measured again.
const EXPLORE: u32 = 20;
/// What targets are compared by in price: a prompt of three times the length of its answer.
const NOMINAL_INPUT: u64 = 3_000;
const NOMINAL_OUTPUT: u64 = 1_000;

/// Chooses among the targets of one alias.
#[derive(Debug)]
pub(crate) struct Chooser {
    strategy: Strategy,
    turn: AtomicUsize,
}

impl Chooser {
    pub(crate) fn new(strategy: Strategy) -> Self {
        Chooser { strategy, turn: AtomicUsize::new(0) }
    }

    /// The targets, the one to ask first in front. Every one is there, so that the others can take over.
    pub(crate) fn order<'t>(
        &self,
        targets: &'t [Arc<Target>],
        asked: impl Fn() -> Complexity,
    ) -> Vec<&'t Arc<Target>> {
        let mut order: Vec<&Arc<Target>> = targets.iter().collect();
        if order.len() < 2 {
            return order;
        }
        match self.strategy {
            Strategy::Priority => {}
            Strategy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % order.len();
                order.rotate_left(turn);
            }
            // Each target draws the time until it would come next; a heavier one comes sooner, as its share says.
            Strategy::Weighted => sort(&mut order, |target| match target.weight {
                0 => f64::INFINITY,
                weight => -(1.0 - fastrand::f64()).ln() / f64::from(weight),
            }),
            Strategy::LeastLatency => {
                sort(&mut order, |target| {
                    target.health.latency().map_or(0.0, |latency| latency.as_secs_f64())
                });
                if fastrand::u32(..EXPLORE) == 0 {
                    let chosen = fastrand::usize(..order.len());
                    order[..=chosen].rotate_right(1);
                }
            }
            Strategy::LeastCost => order.sort_by_cached_key(|target| {
                let units = Units { input: NOMINAL_INPUT, output: NOMINAL_OUTPUT, ..Units::default() };
                // Whose price nobody knows is not the cheapest.
                target.price.as_ref().map_or((true, Money::ZERO), |price| (false, price.cost(&units)))
            }),
            Strategy::LeastBusy => order.sort_by_cached_key(|target| target.health.busy()),
            Strategy::Complexity => {
                let asked = asked();
                order.sort_by_key(|target| target.serves.is_some_and(|serves| serves != asked));
            }
        }
        order
    }
}

/// Sorts by a number that is looked at once for each target, since another thread may change it meanwhile.
fn sort(order: &mut Vec<&Arc<Target>>, number: impl Fn(&Target) -> f64) {
    let mut numbered: Vec<(f64, &Arc<Target>)> =
        order.iter().map(|target| (number(target), *target)).collect();
    numbered.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    *order = numbered.into_iter().map(|(_, target)| target).collect();
}

/// Whether a request needs the better model: judged by what it is made of, without asking any model. Long ones, and
/// those with tools, pictures, a schema to follow or reasoning asked for, are complex.
pub(crate) fn complexity(body: &[u8]) -> Complexity {
    /// About a thousand tokens.
    const LONG: usize = 4 << 10;
    const SIGNS: [&[u8]; 10] = [
        b"\"tools\"",
        b"\"functions\"",
        b"\"tool_calls\"",
        b"\"image",
        b"inlineData",
        b"fileData",
        b"\"json_schema\"",
        b"esponseSchema\"",
        b"\"reasoning",
        b"\"thinking",
    ];
    let complex = body.len() > LONG || SIGNS.iter().any(|sign| memchr::memmem::find(body, sign).is_some());
    if complex { Complexity::Complex } else { Complexity::Simple }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_a_request_complex() {
        let plain = r#"{"model":"auto","messages":[{"role":"user","content":"What is 2 + 2?"}]}"#;
        assert_eq!(complexity(plain.as_bytes()), Complexity::Simple);
        let tools = plain.replace("\"messages\"", "\"tools\":[],\"messages\"");
        assert_eq!(complexity(tools.as_bytes()), Complexity::Complex);
        let long = plain.replace("What", &"What ".repeat(1000));
        assert_eq!(complexity(long.as_bytes()), Complexity::Complex);
    }
}
