//! What processes used, from `/proc`: CPU time and memory.

use std::time::Duration;

use crate::Outcome;

/// `/proc` counts CPU time in hundredths of a second on every Linux there is (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// CPU time, user and system, that `pids` have used since they started.
pub fn used(pids: &[u32]) -> Outcome<Duration> {
    pids.iter().map(|pid| Ok(stat(pid)?.cpu)).sum()
}

/// Resident memory of `pids` now, in bytes. Pages that processes share count once for each.
pub fn resident(pids: &[u32]) -> Outcome<u64> {
    pids.iter().map(|pid| status(*pid, "VmRSS:")).sum()
}

/// The most memory each of `pids` ever had resident, summed, in bytes.
pub fn peak(pids: &[u32]) -> Outcome<u64> {
    pids.iter().map(|pid| status(*pid, "VmHWM:")).sum()
}

/// `pid` and its children.
pub fn family(pid: u32) -> Outcome<Vec<u32>> {
    let entries = std::fs::read_dir("/proc").map_err(|error| format!("cannot read /proc: {error}"))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // A process that is gone by the time we read it was none of ours: ours are checked when they are used.
    let children = pids.filter(|other| stat(other).is_ok_and(|stat| stat.parent == pid));
    Ok(std::iter::once(pid).chain(children).collect())
}

/// CPU time that the whole machine has used, what its host kept from it included.
pub fn machine() -> Outcome<Duration> {
    let text =
        std::fs::read_to_string("/proc/stat").map_err(|error| format!("cannot read /proc/stat: {error}"))?;
    parse_machine(&text).ok_or_else(|| "cannot understand /proc/stat".into())
}

/// See proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of `user`.
fn parse_machine(text: &str) -> Option<Duration> {
    let ticks: Vec<u32> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|tick| tick.parse().ok())
        .collect::<Option<_>>()?;
    let busy: u32 = ticks.iter().sum::<u32>().checked_sub(ticks.get(3)? + ticks.get(4)?)?;
    Some(TICK * busy)
}

/// The cores this process may run on; never none.
pub fn allowed() -> Outcome<Vec<usize>> {
    let text = read(std::process::id(), "status")?;
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
    let cores = list.and_then(parse_list).filter(|cores| !cores.is_empty());
    cores.ok_or_else(|| format!("cannot understand the list of cores: {list:?}"))
}

/// Numbers and ranges, as in `0-2,5`.
fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cores)
}

struct Stat {
    parent: u32,
    cpu: Duration,
}

fn stat(pid: &u32) -> Outcome<Stat> {
    let text = read(*pid, "stat")?;
    parse_stat(&text).ok_or_else(|| format!("cannot understand /proc/{pid}/stat: {text}"))
}

/// See proc_pid_stat(5). The second field, the name, may hold spaces and brackets; counting begins behind it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, cpu: TICK * ticks })
}

fn status(pid: u32, field: &str) -> Outcome<u64> {
    let text = read(pid, "status")?;
    parse_status(&text, field).ok_or_else(|| format!("/proc/{pid}/status has no {field}"))
}

fn parse_status(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

fn read(pid: u32, file: &str) -> Outcome<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|error| format!("cannot read /proc/{pid}/{file}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 120 34 5 6 20 0 1 0 99 100 200";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.cpu), (3, Duration::from_millis(1540)));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(
            parse_status("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n", "VmRSS:"),
            Some(1 << 20)
        );
        assert_eq!(parse_status("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn the_machine_is_busy_with_all_but_idling() {
        let text = "cpu  100 1 20 9000 500 2 3 4 50 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_machine(text), Some(Duration::from_millis(1300)));
        assert!(machine().unwrap() > Duration::ZERO);
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list("3"), Some(vec![3]));
        assert_eq!(parse_list(""), None);
        assert!(!allowed().unwrap().is_empty());
    }

    #[test]
    fn this_process_is_measured() {
        let own = std::process::id();
        let spun = std::time::Instant::now();
        while used(&[own]).unwrap() < TICK * 2 {
            assert!(spun.elapsed() < Duration::from_secs(10), "a busy process uses no CPU time");
        }
        // In this order: other tests of this process go on taking memory in between.
        let resident = resident(&[own]).unwrap();
        assert!(resident > 1 << 20 && peak(&[own]).unwrap() >= resident);
        assert_eq!(family(own).unwrap()[0], own);
    }
}
