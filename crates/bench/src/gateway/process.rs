//! The processes of a run, none of which outlives it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::signal::unix::SignalKind;

use super::cpu;
use super::load::runtime;
use crate::Outcome;

/// A process that is ended when this is dropped, its children with it.
pub struct Process {
    child: Child,
    name: &'static str,
    output: PathBuf,
}

impl Process {
    /// Starts `command`, its output going to a file in `dir`. Its standard input closes when we end.
    pub fn start(name: &'static str, command: &mut Command, dir: &Path) -> Outcome<Self> {
        let output = dir.join(format!("{name}.output"));
        let file = File::create(&output)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|error| format!("cannot write {}: {error}", output.display()))?;
        let child = command.stdin(Stdio::piped()).stdout(file.0).stderr(file.1).spawn();
        let child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Process { child, name, output })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its id and its children's.
    pub fn family(&self) -> Outcome<Vec<u32>> {
        cpu::family(self.child.id())
    }

    /// Tries `ready` until it gives something. Fails when the process ends first, or after `limit`.
    pub fn wait_for<T>(&mut self, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Outcome<T> {
        let started = Instant::now();
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if let Some(status) = ended {
                return Err(format!("{} ended ({status}) before it was ready; {}", self.name, self.said()));
            }
            if started.elapsed() > limit {
                return Err(format!("{} was not ready within {limit:?}; {}", self.name, self.said()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The end of its output, for a message.
    fn said(&self) -> String {
        let text = std::fs::read(&self.output).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(2000)..];
        format!("its output ends:\n{}", String::from_utf8_lossy(tail))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A master that is killed outright leaves its workers behind, so whoever has children is asked first.
        let family = self.family().unwrap_or_default();
        if family.len() > 1 {
            signal("TERM", &family[..1]);
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_secs(3) && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if matches!(self.child.try_wait(), Ok(None)) {
                signal("KILL", &family);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(name: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let script = format!("kill -{name} {}", pids.join(" "));
    let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
}

/// On SIGINT and SIGTERM, ends what we started. Without it the load fails, and so the run ends in order, with
/// everything dropped.
pub fn end_on_signal() -> Outcome<()> {
    let runtime = runtime()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) = (
                tokio::signal::unix::signal(SignalKind::interrupt()),
                tokio::signal::unix::signal(SignalKind::terminate()),
            ) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                eprintln!("interrupted: ending the run");
                let family = cpu::family(std::process::id()).unwrap_or_default();
                signal("TERM", family.get(1..).unwrap_or_default());
            }
        });
    });
    Ok(())
}

/// Keeps the process `pid` and its threads on one core from now on; what it started before stays free.
pub fn pin(pid: u32, core: usize) -> Outcome<()> {
    let (core, pid) = (core.to_string(), pid.to_string());
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", &core, &pid]).stdout(Stdio::null()).status();
    match pinned {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cannot keep process {pid} on core {core}: taskset ended with {status}")),
        Err(error) => Err(format!("cannot start taskset (of util-linux): {error}")),
    }
}

/// Lets this process and those it starts open `needed` files each.
pub fn allow_open_files(needed: u64) -> Outcome<()> {
    let limits = std::fs::read_to_string("/proc/self/limits").map_err(|error| error.to_string())?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    if soft == "unlimited" || soft.parse::<u64>().is_ok_and(|soft| soft >= needed) {
        return Ok(());
    }
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &own, &format!("--nofile={needed}:")]).status();
    match raised {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{needed} open files are needed, {soft} allowed: run `ulimit -n {needed}` first")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_children_end_with_the_handle() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'kill $!; wait; exit' TERM; sleep 600 & wait"]);
        let mut process = Process::start("sh", &mut command, dir.path()).unwrap();
        let pid = process.child.id();
        let family = process
            .wait_for(Duration::from_secs(10), || cpu::family(pid).ok().filter(|family| family.len() == 2))
            .unwrap();
        drop(process);
        let started = Instant::now();
        while family.iter().any(|pid| cpu::used(&[*pid]).is_ok()) {
            assert!(started.elapsed() < Duration::from_secs(10), "a process is left of {family:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_early_end_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck >&2; exit 3"]);
        let mut process = Process::start("sh", &mut command, dir.path()).unwrap();
        let told = process.wait_for(Duration::from_secs(10), || None::<()>).unwrap_err();
        assert!(told.contains("no such luck") && told.contains('3'), "{told}");
    }
}
