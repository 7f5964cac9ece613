//! What `/proc` says about this process, read when metrics are gathered. Elsewhere than on Linux there is
//! no `/proc`, and these families are absent.

use std::collections::HashMap;
use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

/// Clock ticks a second in what `/proc` shows: `USER_HZ`, fixed at 100 on all platforms we build for.
const TICKS: f64 = 100.0;

const FAMILIES: [(&str, &str, MetricType); 7] = [
    ("process_cpu_seconds_total", "Processor time used, user and system, in seconds.", MetricType::COUNTER),
    ("process_resident_memory_bytes", "Resident memory in bytes.", MetricType::GAUGE),
    ("process_virtual_memory_bytes", "Virtual memory in bytes.", MetricType::GAUGE),
    ("process_open_fds", "Open file descriptors.", MetricType::GAUGE),
    ("process_max_fds", "The limit on open file descriptors.", MetricType::GAUGE),
    ("process_start_time_seconds", "Start of the process, in seconds since 1970.", MetricType::GAUGE),
    ("process_threads", "Threads of the process.", MetricType::GAUGE),
];

/// Resident memory of this process in bytes; `None` where there is no `/proc`.
pub fn memory_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Gathers the families above.
pub(super) struct Process {
    descs: Vec<Desc>,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        let desc = |(name, help, _): &(&str, &str, MetricType)| {
            Desc::new((*name).into(), (*help).into(), Vec::new(), HashMap::new())
        };
        Ok(Process { descs: FAMILIES.iter().map(desc).collect::<Result<_, _>>()? })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let families = FAMILIES.iter().zip(read());
        families.filter_map(|(family, value)| Some(make(family, value?))).collect()
    }
}

fn make((name, help, kind): &(&str, &str, MetricType), value: f64) -> MetricFamily {
    let mut metric = Metric::default();
    if *kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    let mut family = MetricFamily::default();
    family.set_name((*name).into());
    family.set_help((*help).into());
    family.set_field_type(*kind);
    family.set_metric(vec![metric]);
    family
}

/// The values, in the order of `FAMILIES`.
fn read() -> [Option<f64>; 7] {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let (stat, status) = (text("/proc/self/stat"), text("/proc/self/status"));
    // The listing's own descriptor is among them.
    let fds = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    let memory = |name| kibibytes(&status, name).map(|bytes| bytes as f64);
    let started = stat_field(&stat, 22).zip(boot_time(&text("/proc/stat")));
    [
        stat_field(&stat, 14).zip(stat_field(&stat, 15)).map(|(user, system)| (user + system) / TICKS),
        memory("VmRSS:"),
        memory("VmSize:"),
        fds,
        max_fds(&text("/proc/self/limits")),
        started.map(|(ticks, boot)| boot + ticks / TICKS),
        stat_field(&stat, 20),
    ]
}

/// A field of `/proc/self/stat`, counted from one as in proc(5). The second is the program's name in
/// parentheses, which may hold spaces and parentheses itself, so we count from its end.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

/// `VmRSS:    1234 kB`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The soft limit; `unlimited` is none.
fn max_fds(limits: &str) -> Option<f64> {
    let value = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Seconds since 1970 at boot.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_formats_of_proc() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 12 0 4242 99 88";
        assert_eq!(stat_field(stat, 14), Some(150.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 20), Some(12.0));
        assert_eq!(stat_field(stat, 22), Some(4242.0));
        assert_eq!(stat_field("", 14), None);
        assert_eq!(kibibytes("VmSize:\t  9 kB\nVmRSS:\t   2 kB\n", "VmRSS:"), Some(2048));
        let limits = "Max open files            1024                 4096                 files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        assert_eq!(max_fds("Max open files            unlimited  unlimited files"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1795201200\n"), Some(1_795_201_200.0));
    }
}
