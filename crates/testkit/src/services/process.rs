//! A server process of a test: started, asked to stop, killed, started again, and never left behind.
//!
//! A value that is dropped kills its process and what that has started, also when the test panics. When the whole
//! test program is killed there is nobody to do that, so on Linux `setpriv --pdeathsig` has the kernel do it. The
//! kernel watches the thread that started the process, not the program; hence one thread that lives as long as
//! the program starts them all.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::place::program;

/// How long an orderly stop may take before it counts as failed.
const STOP: Duration = Duration::from_secs(60);
/// How long killed processes may take to vanish.
const VANISH: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// How much of a log a failure shows, in bytes.
const SHOWN: usize = 4000;

/// How a server is started.
#[derive(Debug)]
pub(super) struct Recipe {
    /// For messages: `redis-server on 21001`.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    /// The whole environment but for PATH.
    pub(super) env: Vec<(String, OsString)>,
    /// The user that it runs as, when that is not the user of the test.
    pub(super) user: Option<String>,
    /// Where stdout and stderr go.
    pub(super) log: PathBuf,
    /// What asks it to stop: `TERM`, or whatever means "soon, but in order" to it.
    pub(super) stop_signal: &'static str,
}

impl Recipe {
    fn command(&self) -> io::Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = match (program("setpriv", &[]), &self.user) {
            (Some(setpriv), user) => {
                let mut command = Command::new(setpriv);
                if let Some(user) = user {
                    command.args([format!("--reuid={user}"), format!("--regid={user}")]).arg("--init-groups");
                }
                command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
                command
            }
            (None, None) => Command::new(&self.program),
            (None, Some(user)) => return Err(io::Error::other(format!("only setpriv can run it as {user}"))),
        };
        command.args(&self.args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

/// A server that runs or has been stopped.
#[derive(Debug)]
pub(super) struct Process {
    recipe: Recipe,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts it; it need not be ready yet.
    pub(super) fn start(recipe: Recipe) -> Process {
        let process = Process { recipe, child: Mutex::new(None) };
        process.start_again();
        process
    }

    /// Starts it when it does not run.
    pub(super) fn start_again(&self) {
        let mut child = self.child();
        if !runs(&mut child) {
            let started = self.recipe.command().and_then(launch);
            *child =
                Some(started.unwrap_or_else(|error| panic!("{} does not start: {error}", self.recipe.name)));
        }
    }

    /// Whether it runs.
    pub(super) fn runs(&self) -> bool {
        runs(&mut self.child())
    }

    /// Asks it to stop and waits until it has. Panics when that takes too long; nothing when it does not run.
    pub(super) fn stop(&self) {
        let mut child = self.child();
        if let Some(id) = child.as_ref().map(Child::id)
            && runs(&mut child)
        {
            signal(self.recipe.stop_signal, &[id]);
        }
        let begun = Instant::now();
        while runs(&mut child) {
            assert!(begun.elapsed() < STOP, "{} does not stop\n{}", self.recipe.name, self.log());
            thread::sleep(POLL);
        }
        *child = None;
    }

    /// Kills it and all that it has started, and waits until they are gone.
    pub(super) fn kill(&self) {
        let mut guard = self.child();
        let Some(mut child) = guard.take() else { return };
        let below = descendants(child.id());
        // An error means that it has ended already.
        let _ = child.kill();
        signal("KILL", &below);
        let _ = child.wait();
        let begun = Instant::now();
        while below.iter().any(|id| alive(*id)) && begun.elapsed() < VANISH {
            thread::sleep(POLL);
        }
    }

    /// Waits until `ready` says so. Panics when the process ends first or `within` has passed.
    pub(super) fn wait_until(&self, within: Duration, ready: impl Fn() -> Result<(), String>) {
        let begun = Instant::now();
        loop {
            let Err(why) = ready() else { return };
            let name = &self.recipe.name;
            assert!(self.runs(), "{name} has ended\n{}", self.log());
            assert!(begun.elapsed() < within, "{name} is not ready in {within:?}: {why}\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    /// The end of what it has written on stdout and stderr.
    pub(super) fn log(&self) -> String {
        let bytes = fs::read(&self.recipe.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN)..]).into_owned()
    }

    /// The id of the running process.
    #[cfg(test)]
    pub(super) fn id(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn runs(child: &mut Option<Child>) -> bool {
    child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
}

/// What the thread that starts processes is asked: a command, and where the answer goes.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The thread that starts processes, and lives as long as the program.
static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    let work = move || {
        for (mut command, answer) in inbox {
            // The test that asked may be gone; then the child is dropped, and ends with the program.
            let _ = answer.send(command.spawn());
        }
    };
    thread::Builder::new().name("testkit-starter".to_owned()).spawn(work).expect("start a thread");
    Mutex::new(orders)
});

fn launch(command: Command) -> io::Result<Child> {
    let (answer, started) = mpsc::channel();
    let orders = STARTER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    orders.send((command, answer)).map_err(io::Error::other)?;
    started.recv().map_err(io::Error::other)?
}

/// Sends a signal. Processes that have ended meanwhile do not matter.
fn signal(name: &str, ids: &[u32]) {
    if !ids.is_empty() {
        let ids = ids.iter().map(u32::to_string);
        let sent = Command::new("kill").arg(format!("-{name}")).args(ids).stderr(Stdio::null()).status();
        assert!(sent.is_ok(), "there is no program kill");
    }
}

/// The state and the parent of a process: `/proc/ID/stat` is `ID (NAME) STATE PARENT …`.
fn stat(id: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// Whether a process is there and not only waits for its parent to take note of its end.
pub(super) fn alive(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// All processes below this one. They need not be in its process group: PostgreSQL's are not.
fn descendants(root: u32) -> Vec<u32> {
    let entries = Path::new("/proc").read_dir().into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for id in ids {
        if let Some((_, parent)) = stat(id) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        let below = children.remove(&id).unwrap_or_default();
        next.extend(&below);
        found.extend(below);
    }
    found
}

/// A short command that must succeed: its stdout, or why it failed.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Runs a recipe to its end, as `initdb` needs. Panics when it fails.
pub(super) fn finish(recipe: &Recipe) {
    File::create(&recipe.log).expect("a log");
    let mut child = recipe
        .command()
        .and_then(launch)
        .unwrap_or_else(|error| panic!("{} does not start: {error}", recipe.name));
    let status = child.wait().expect("wait for the end");
    assert!(
        status.success(),
        "{}: {status}\n{}",
        recipe.name,
        fs::read_to_string(&recipe.log).unwrap_or_default()
    );
}
