//! The rounds: every load on every system in turn, so that what disturbs the machine disturbs all alike.

use std::time::Duration;

use super::fixtures::Exchanges;
use super::load::{self, Run};
use super::measures::Measure;
use super::report::Samples;
use super::subject::Subject;
use crate::Outcome;

/// How much is measured.
pub struct Plan {
    /// How often everything is measured.
    pub rounds: usize,
    /// How long a load of many connections lasts.
    pub duration: Duration,
    /// Requests of one connection.
    pub requests: usize,
    /// Streams of one connection, one after the other.
    pub streams: usize,
    /// Cold starts of each system.
    pub starts: usize,
    /// Streams open at once for the memory figure.
    pub held: usize,
}

/// Connections of the throughput load.
pub const CONNECTIONS: usize = 64;
/// Concurrent streams of the streaming load.
pub const STREAMS: usize = 32;

/// One kind of load.
#[derive(Clone, Copy)]
enum Load {
    OneConnection,
    ManyConnections,
    OneStream,
    ManyStreams,
}

const LOADS: [Load; 4] = [Load::OneConnection, Load::ManyConnections, Load::OneStream, Load::ManyStreams];

/// Runs every round; with each, another system begins.
pub fn run(
    subjects: &mut [Subject],
    exchanges: &Exchanges,
    plan: &Plan,
    samples: &mut Samples,
) -> Outcome<()> {
    let count = subjects.len();
    for round in 0..plan.rounds {
        for load in LOADS {
            eprintln!("round {} of {}: {}", round + 1, plan.rounds, load.name());
            for turn in 0..count {
                let subject = &mut subjects[(round + turn) % count];
                let (run, cpu) = subject.measure(|address| load.put_on(address, exchanges, plan))?;
                let values = load.values(run).into_iter();
                let cpu = cpu.map(|cpu| (load.cpu(), cpu));
                values.chain(cpu).for_each(|(measure, value)| samples.add(measure, subject.system, value));
            }
        }
    }
    Ok(())
}

impl Load {
    fn name(self) -> String {
        match self {
            Load::OneConnection => "one connection".into(),
            Load::ManyConnections => format!("{CONNECTIONS} connections"),
            Load::OneStream => "one stream at a time".into(),
            Load::ManyStreams => format!("{STREAMS} streams at a time"),
        }
    }

    fn put_on(self, address: std::net::SocketAddr, exchanges: &Exchanges, plan: &Plan) -> Outcome<Run> {
        match self {
            Load::OneConnection => load::sequential(address, &exchanges.chat, plan.requests),
            Load::ManyConnections => load::concurrent(address, &exchanges.chat, CONNECTIONS, plan.duration),
            Load::OneStream => load::sequential(address, &exchanges.stream, plan.streams),
            Load::ManyStreams => load::concurrent(address, &exchanges.stream, STREAMS, plan.duration),
        }
    }

    fn cpu(self) -> Measure {
        match self {
            Load::OneConnection => Measure::OneCpu,
            Load::ManyConnections => Measure::ManyCpu,
            Load::OneStream => Measure::StreamCpu,
            Load::ManyStreams => Measure::StreamsCpu,
        }
    }

    fn values(self, run: Run) -> Vec<(Measure, f64)> {
        let rate = run.rate();
        match self {
            Load::OneConnection => {
                let [p50, p95, p99] = percentiles(run.last);
                vec![(Measure::OneP50, p50), (Measure::OneP95, p95), (Measure::OneP99, p99)]
            }
            Load::ManyConnections => {
                let [p50, _, p99] = percentiles(run.last);
                vec![(Measure::ManyRate, rate), (Measure::ManyP50, p50), (Measure::ManyP99, p99)]
            }
            Load::OneStream => {
                let [p50, _, p99] = percentiles(run.first);
                vec![(Measure::StreamP50, p50), (Measure::StreamP99, p99)]
            }
            Load::ManyStreams => {
                let [p50, _, p99] = percentiles(run.first);
                vec![(Measure::StreamsRate, rate), (Measure::StreamsP50, p50), (Measure::StreamsP99, p99)]
            }
        }
    }
}

/// The 50th, 95th and 99th percentile (nearest rank) of nanoseconds, in microseconds.
fn percentiles(mut nanoseconds: Vec<u64>) -> [f64; 3] {
    nanoseconds.sort_unstable();
    [50, 95, 99].map(|percent| {
        let rank = (nanoseconds.len() * percent).div_ceil(100).max(1);
        nanoseconds.get(rank - 1).map_or(f64::NAN, |value| *value as f64 / 1000.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        assert_eq!(percentiles((1..=100).rev().map(|n| n * 1000).collect()), [50.0, 95.0, 99.0]);
        assert_eq!(percentiles(vec![7000]), [7.0; 3]);
    }
}
