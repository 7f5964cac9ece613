//! A program beside us: given bytes, it answers with bytes, limited in time, memory and output. Whatever it started
//! ends with it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::link::LinkError;

/// How much of what it says on its standard error is kept.
const MAX_STDERR: usize = 64 << 10;
/// Variables of ours that it sees. The others may hold our secrets.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"];

/// What it may use.
#[derive(Clone, Copy, Debug)]
pub(in crate::links) struct Limits {
    /// How long it may run.
    pub(in crate::links) time: Duration,
    /// How much memory each of its processes may have, in bytes of address space.
    pub(in crate::links) memory: Option<u64>,
    /// How much it may write, in bytes.
    pub(in crate::links) output: usize,
}

/// How it ended.
#[derive(Debug)]
pub(in crate::links) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(in crate::links) code: Option<i32>,
    /// What it wrote.
    pub(in crate::links) stdout: Vec<u8>,
    /// The end of what it said on its standard error.
    pub(in crate::links) stderr: String,
}

impl Ended {
    /// The last line it said, for an error's text.
    pub(in crate::links) fn last_line(&self) -> String {
        let line = self.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        line.chars().filter(|c| !c.is_control()).take(200).collect()
    }
}

/// Ends a whole group of processes when it is dropped, also in the middle of a run.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // There may be nobody left to end.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a program and waits for its end. It is found on the `PATH` and sees only a few variables of ours.
pub(in crate::links) async fn run(
    command: &[String],
    variables: &[(String, String)],
    folder: Option<&Path>,
    stdin: Bytes,
    limits: Limits,
) -> Result<Ended, LinkError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(LinkError::permanent("there is no program to run"));
    };
    let mut process = match limits.memory {
        None => Command::new(program),
        // A limit must be set between fork and exec, which the shell does and we, without unsafe code, cannot.
        Some(bytes) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &format!("ulimit -v {} && exec \"$@\"", bytes.div_ceil(1024)), "sh", program]);
            shell
        }
    };
    process.args(arguments).env_clear();
    process.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    process.envs(variables.iter().map(|(name, value)| (name, value)));
    if let Some(folder) = folder {
        process.current_dir(folder);
    }
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    process.process_group(0).kill_on_drop(true);
    let mut child = process
        .spawn()
        .map_err(|error| LinkError::permanent(format!("`{program}` cannot be run: {error}")))?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let group = Group(group);
    let (to, from, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let exchange = async {
        let give = async {
            if let Some(mut to) = to {
                // One that does not read what it is given may still do its work.
                let _ = to.write_all(&stdin).await;
                let _ = to.shutdown().await;
            }
        };
        let wait = async {
            let status = child.wait().await;
            // What it left running would keep its output open.
            drop(group);
            status
        };
        let (status, (), stdout, stderr) =
            tokio::join!(wait, give, read(from, limits.output, false), read(errors, MAX_STDERR, true));
        (status, stdout, stderr)
    };
    let (status, stdout, stderr) = tokio::time::timeout(limits.time, exchange).await.map_err(|_| {
        LinkError::temporary(format!("`{program}` did not end within {} s", limits.time.as_secs_f32()))
    })?;
    let status = status.map_err(|error| LinkError::temporary(format!("`{program}`: {error}")))?;
    let Some(stdout) = stdout else {
        return Err(LinkError::permanent(format!("`{program}` writes more than {} bytes", limits.output)));
    };
    let stderr = String::from_utf8_lossy(&stderr.unwrap_or_default()).into_owned();
    Ok(Ended { code: status.code(), stdout, stderr })
}

/// Reads to the end. Beyond the limit: the last part (`tail`), or nothing at all.
async fn read(from: Option<impl AsyncRead + Unpin>, limit: usize, tail: bool) -> Option<Vec<u8>> {
    let mut from = from?;
    let mut all = Vec::new();
    let mut piece = vec![0; 32 << 10];
    loop {
        let Ok(n @ 1..) = from.read(&mut piece).await else { return Some(all) };
        all.extend_from_slice(piece.get(..n)?);
        if all.len() > limit {
            match tail {
                true => drop(all.drain(..all.len() - limit)),
                // Closing our end is what stops the writer.
                false => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(60), memory: None, output: 1 << 20 };

    async fn sh(script: &str, stdin: &'static [u8], limits: Limits) -> Result<Ended, LinkError> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&command, &[("GIVEN".into(), "x".into())], None, Bytes::from_static(stdin), limits).await
    }

    #[tokio::test]
    async fn it_gives_and_takes_bytes_and_the_code() {
        let ended = sh("cat; echo oops >&2; exit 3", b"a\0b", LIMITS).await.unwrap();
        assert_eq!(
            (ended.code, &ended.stdout[..], ended.last_line().as_str()),
            (Some(3), &b"a\0b"[..], "oops")
        );
        let ended = sh("echo ${CARGO_MANIFEST_DIR:-none} $GIVEN", b"", LIMITS).await.unwrap();
        assert_eq!(ended.stdout, b"none x\n");
    }

    #[tokio::test]
    async fn it_is_limited_in_output_time_and_memory() {
        let error = sh("yes", b"", LIMITS).await.unwrap_err();
        assert!(matches!(&error, LinkError::Permanent(text) if text.contains("more than")), "{error}");
        let short = Limits { time: Duration::from_millis(50), ..LIMITS };
        assert!(matches!(sh("sleep 600", b"", short).await, Err(LinkError::Temporary { .. })));
        let small = Limits { memory: Some(64 << 20), ..LIMITS };
        let script = "head -c 200000000 /dev/zero | tail -c 190000000 | wc -c";
        let ended = sh(script, b"", small).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), "0", "{}", ended.stderr);
    }

    #[tokio::test]
    async fn what_it_leaves_behind_ends_with_it() {
        // Without ending the group, the sleeper would hold the output open for ten minutes.
        let ended = sh("sleep 600 & echo done", b"", LIMITS).await.unwrap();
        assert_eq!(ended.stdout, b"done\n");
        let error = run(&["/no/such/program".into()], &[], None, Bytes::new(), LIMITS).await.unwrap_err();
        assert!(matches!(error, LinkError::Permanent(_)), "{error}");
    }
}
