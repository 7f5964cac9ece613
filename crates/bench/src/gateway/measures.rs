//! What is measured, and what was set out to be reached.

use serde::Serialize;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Latency of one connection's requests.
    OneP50,
    /// See [`Measure::OneP50`].
    OneP95,
    /// See [`Measure::OneP50`].
    OneP99,
    /// The proxy's CPU time for each of them.
    OneCpu,
    /// Requests a second of many connections.
    ManyRate,
    /// Latency of many connections' requests; at saturation it follows from the rate.
    ManyP50,
    /// See [`Measure::ManyP50`].
    ManyP99,
    /// The proxy's CPU time for each of them.
    ManyCpu,
    /// Time to the first content token, one stream at a time.
    StreamP50,
    /// See [`Measure::StreamP50`].
    StreamP99,
    /// The proxy's CPU time for each stream.
    StreamCpu,
    /// Streams a second of many at a time.
    StreamsRate,
    /// Time to the first content token of many streams at a time.
    StreamsP50,
    /// See [`Measure::StreamsP50`].
    StreamsP99,
    /// The proxy's CPU time for each stream.
    StreamsCpu,
    /// Memory before the first request.
    MemoryIdle,
    /// The most memory during the rounds.
    MemoryLoaded,
    /// Memory with a thousand streams open.
    MemoryStreams,
    /// From starting the process to its first answer.
    Start,
}

/// In what a measure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// A second.
    PerSecond,
    /// Mebibytes.
    MiB,
}

/// What Trunkline's figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most this.
    AtMost(f64),
    /// At most this over the direct way.
    Added(f64),
    /// At most this over nginx.
    OverNginx(f64),
    /// At most so many times nginx's.
    TimesNginx(f64),
    /// At least so many times nginx's.
    AtLeastTimesNginx(f64),
}

impl Measure {
    /// Every measure, in the order of the table.
    pub const ALL: [Measure; 19] = [
        Measure::OneP50,
        Measure::OneP95,
        Measure::OneP99,
        Measure::OneCpu,
        Measure::ManyRate,
        Measure::ManyP50,
        Measure::ManyP99,
        Measure::ManyCpu,
        Measure::StreamP50,
        Measure::StreamP99,
        Measure::StreamCpu,
        Measure::StreamsRate,
        Measure::StreamsP50,
        Measure::StreamsP99,
        Measure::StreamsCpu,
        Measure::MemoryIdle,
        Measure::MemoryLoaded,
        Measure::MemoryStreams,
        Measure::Start,
    ];

    /// Its name in the table.
    pub fn label(self) -> &'static str {
        match self {
            Measure::OneP50 => "1 connection: latency p50",
            Measure::OneP95 => "1 connection: latency p95",
            Measure::OneP99 => "1 connection: latency p99",
            Measure::OneCpu => "1 connection: CPU per request",
            Measure::ManyRate => "64 connections: requests",
            Measure::ManyP50 => "64 connections: latency p50",
            Measure::ManyP99 => "64 connections: latency p99",
            Measure::ManyCpu => "64 connections: CPU per request",
            Measure::StreamP50 => "1 stream: first token p50",
            Measure::StreamP99 => "1 stream: first token p99",
            Measure::StreamCpu => "1 stream: CPU per stream",
            Measure::StreamsRate => "32 streams: streams",
            Measure::StreamsP50 => "32 streams: first token p50",
            Measure::StreamsP99 => "32 streams: first token p99",
            Measure::StreamsCpu => "32 streams: CPU per stream",
            Measure::MemoryIdle => "memory, idle",
            Measure::MemoryLoaded => "memory, peak under load",
            Measure::MemoryStreams => "memory, 1 000 open streams",
            Measure::Start => "start to first answer",
        }
    }

    /// In what it is told.
    pub fn unit(self) -> Unit {
        match self {
            Measure::ManyRate | Measure::StreamsRate => Unit::PerSecond,
            Measure::MemoryIdle | Measure::MemoryLoaded | Measure::MemoryStreams => Unit::MiB,
            Measure::Start => Unit::Millis,
            _ => Unit::Micros,
        }
    }

    /// Whether what a proxy adds to the direct way is of interest.
    pub fn is_latency(self) -> bool {
        use Measure as M;
        matches!(
            self,
            M::OneP50
                | M::OneP95
                | M::OneP99
                | M::ManyP50
                | M::ManyP99
                | M::StreamP50
                | M::StreamP99
                | M::StreamsP50
                | M::StreamsP99
        )
    }

    /// What Trunkline is to reach, where something was set out.
    pub fn target(self) -> Option<Target> {
        Some(match self {
            Measure::OneP50 => Target::Added(55.0),
            Measure::OneP99 => Target::Added(100.0),
            Measure::OneCpu => Target::TimesNginx(1.7),
            Measure::ManyRate => Target::AtLeastTimesNginx(0.6),
            Measure::ManyCpu => Target::TimesNginx(1.4),
            Measure::StreamP99 => Target::Added(150.0),
            Measure::StreamsP99 => Target::OverNginx(1000.0),
            Measure::MemoryIdle => Target::AtMost(20.0),
            Measure::MemoryStreams => Target::AtMost(80.0),
            Measure::Start => Target::AtMost(100.0),
            _ => return None,
        })
    }
}

impl Unit {
    /// `value` with its unit.
    pub fn show(self, value: f64) -> String {
        format!("{} {}", number(value), self.symbol())
    }

    fn symbol(self) -> &'static str {
        match self {
            Unit::Micros => "µs",
            Unit::Millis => "ms",
            Unit::PerSecond => "/s",
            Unit::MiB => "MiB",
        }
    }
}

impl Target {
    /// The target in words.
    pub fn show(self, unit: Unit) -> String {
        match self {
            Target::AtMost(most) => format!("≤ {}", unit.show(most)),
            Target::Added(most) => format!("≤ direct + {}", unit.show(most)),
            Target::OverNginx(most) => format!("≤ nginx + {}", unit.show(most)),
            Target::TimesNginx(most) => format!("≤ {most} × nginx"),
            Target::AtLeastTimesNginx(least) => format!("≥ {least} × nginx"),
        }
    }
}

/// Three digits or so, thousands apart.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(Unit::PerSecond.show(43_912.4), "43 912 /s");
        assert_eq!(Unit::Micros.show(99.96), "100.0 µs");
        assert_eq!(Unit::Micros.show(-1234.0), "-1 234 µs");
        assert_eq!(Unit::MiB.show(123.0), "123 MiB");
    }
}
