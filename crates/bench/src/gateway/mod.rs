//! The gateway's benchmark: the same requests straight to a mock provider, through nginx and through Trunkline.

pub mod cpu;
mod fixtures;
mod load;
mod measures;
pub mod mock;
mod nginx;
pub mod process;
mod reply;
mod report;
mod rounds;
mod stream;
mod subject;
pub mod trunkline;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use self::fixtures::Exchanges;
use self::load::Connection;
use self::measures::Measure;
use self::nginx::Nginx;
use self::process::Process;
use self::report::Samples;
use self::rounds::Plan;
use self::subject::{Subject, System};
use self::trunkline::Payer;
use crate::Outcome;

/// What `bench gateway` is told.
#[derive(clap::Args)]
pub struct Options {
    /// A short run, to see that all works; its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Also write the figures, every round's included, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take the release program that is there.
    #[arg(long)]
    skip_build: bool,
    /// How long each load of many connections lasts [default: 4, quick: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// How often everything is measured [default: 7, quick: 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// Exit with 2 when a target is missed, or the machine was busy with something else.
    #[arg(long)]
    pub gate: bool,
    /// Measure these only; the direct way always is.
    #[arg(long, value_delimiter = ',', value_name = "SYSTEM,…", default_values_t = [System::Direct, System::Nginx, System::Trunkline], value_enum)]
    only: Vec<System>,
    /// Microseconds the mock waits between the chunks of a stream.
    #[arg(long, value_name = "N", default_value_t = 0)]
    chunk_delay_us: u64,
}

impl Options {
    fn plan(&self) -> Plan {
        let pick = |quick, full| if self.quick { quick } else { full };
        Plan {
            rounds: self.rounds.map_or(pick(2, 7), usize::from),
            duration: Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 4 })),
            requests: pick(3_000, 20_000),
            streams: pick(500, 3_000),
            starts: pick(3, 7),
            held: 1_000,
        }
    }
}

/// Measures and prints; whether no target was missed on a quiet machine. An error means that the run is invalid.
pub fn run(options: &Options) -> Outcome<bool> {
    let plan = options.plan();
    process::allow_open_files(8192)?;
    process::end_on_signal()?;
    let systems = Systems::find(options)?;
    let dir = tempfile::Builder::new().prefix("trunkline-bench-").tempdir();
    let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
    let machine = Machine::look(&systems);
    let mut samples = Samples::default();
    let disturbance = match measure(options, &plan, &systems, dir.path(), &mut samples) {
        Ok(disturbance) => disturbance,
        Err(reason) => {
            return Err(format!("{reason}\nlogs and settings of the run: {}", dir.keep().display()));
        }
    };
    let rows = report::rows(&samples);
    println!("{}", report::table(&rows));
    println!("medians of {} rounds on {machine}; in brackets: over direct", plan.rounds);
    let percent = disturbance * 100.0;
    println!("the kernel and other processes used {percent:.1} % of the machine during the rounds");
    let disturbed = disturbance > DISTURBED;
    if disturbed {
        println!("*** DISTURBED: something else was running; repeat this on a quiet machine ***");
    }
    if let Some(file) = &options.json {
        let report = serde_json::json!({
            "machine": machine, "quick": options.quick, "rounds": plan.rounds, "seconds": plan.duration.as_secs(),
            "chunk_delay_us": options.chunk_delay_us, "disturbance": disturbance, "rows": rows, "samples": samples,
        });
        std::fs::write(file, format!("{report:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    let met = report::all_met(&rows);
    if !met {
        println!("one or more targets were missed");
    }
    Ok(met && !disturbed)
}

/// A larger share of the machine than this, used by others, spoils the figures; latencies first.
const DISTURBED: f64 = 0.05;

/// Takes every figure. Gives the share of the machine that others used during the rounds.
fn measure(
    options: &Options,
    plan: &Plan,
    systems: &Systems,
    dir: &Path,
    samples: &mut Samples,
) -> Outcome<f64> {
    let (mock, upstream) = start_mock(options, dir)?;
    eprintln!("starting, {} times each", plan.starts);
    for turn in 0..plan.starts {
        for system in [System::Nginx, System::Trunkline] {
            let dir = dir.join(format!("start-{turn}-{}", system.name()));
            if let Some(elapsed) = systems.start_to_answer(system, &dir, upstream)? {
                samples.add(Measure::Start, system, elapsed.as_secs_f64() * 1e3);
            }
        }
    }
    let (mut subjects, exchanges) = systems.start(dir, upstream)?;
    // Left free, client and mock share a core in one round and not in the next, and a direct call takes 8 or 80 µs
    // accordingly. Each on its own core, a request changes cores as it would change machines.
    let cores = cpu::allowed()?;
    process::pin(std::process::id(), cores[0])?;
    process::pin(mock.id(), cores[cores.len().min(2) - 1])?;
    // Whatever the start left to do is done by then.
    std::thread::sleep(Duration::from_millis(500));
    look(&subjects, samples, Measure::MemoryIdle, cpu::resident)?;
    let mut ours = vec![std::process::id(), mock.id()];
    for subject in &subjects {
        ours.extend(subject.pids()?);
    }
    let others = || Ok::<_, String>(cpu::machine()?.saturating_sub(cpu::used(&ours)?));
    let (started, before) = (Instant::now(), others()?);
    rounds::run(&mut subjects, &exchanges, plan, samples)?;
    let whole = started.elapsed().mul_f64(cores.len() as f64);
    let disturbance = others()?.saturating_sub(before).div_duration_f64(whole);
    look(&subjects, samples, Measure::MemoryLoaded, cpu::peak)?;
    for subject in subjects.iter_mut().filter(|subject| subject.system != System::Direct) {
        eprintln!("{} open streams: {}", plan.held, subject.system.name());
        let pids = subject.pids()?;
        let bytes = stream::hold(subject.address, &exchanges.slow, plan.held, || cpu::resident(&pids));
        let bytes = bytes.map_err(|error| format!("{}: {error}", subject.system.name()))?;
        subject.count(plan.held as u64);
        samples.add(Measure::MemoryStreams, subject.system, mebibytes(bytes));
    }
    eprintln!("checking logs and metrics");
    subjects.iter_mut().try_for_each(Subject::audit)?;
    Ok(disturbance)
}

/// Notes what every proxy's processes hold.
fn look(
    subjects: &[Subject],
    samples: &mut Samples,
    measure: Measure,
    memory: fn(&[u32]) -> Outcome<u64>,
) -> Outcome<()> {
    for subject in subjects.iter().filter(|subject| subject.system != System::Direct) {
        samples.add(measure, subject.system, mebibytes(memory(&subject.pids()?)?));
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Starts this program again as the mock provider.
fn start_mock(options: &Options, dir: &Path) -> Outcome<(Process, SocketAddr)> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let ready = dir.join("mock.ready");
    let mut command = Command::new(own);
    command.args(["mock", "--listen", "127.0.0.1:0", "--ready-file"]).arg(&ready);
    command.args(["--chunk-delay-us", &options.chunk_delay_us.to_string()]);
    let mut process = Process::start("mock", &mut command, dir)?;
    let address = process.wait_for(Duration::from_secs(10), || {
        std::fs::read_to_string(&ready).ok()?.parse::<SocketAddr>().ok()
    })?;
    Ok((process, address))
}

/// The programs to measure.
struct Systems {
    nginx: Option<Nginx>,
    trunkline: Option<PathBuf>,
}

impl Systems {
    /// Looks for nginx before the long build begins.
    fn find(options: &Options) -> Outcome<Self> {
        let wanted = |system| options.only.contains(&system);
        let nginx = wanted(System::Nginx).then(nginx::find).transpose()?;
        let trunkline = wanted(System::Trunkline).then(|| {
            if !options.skip_build {
                eprintln!("building trunkline");
                trunkline::build()?;
            }
            trunkline::program()
        });
        Ok(Systems { nginx, trunkline: trunkline.transpose()? })
    }

    /// From starting the process, with nothing kept from before, to its first answer.
    fn start_to_answer(&self, system: System, dir: &Path, upstream: SocketAddr) -> Outcome<Option<Duration>> {
        let started = Instant::now();
        let Some((subject, key)) = self.start_one(system, dir, upstream, Payer::FirstRun)? else {
            return Ok(None);
        };
        let answer = Connection::open(subject.address)?.ask(&Exchanges::new(&key).chat);
        answer.map_err(|error| format!("{}, first answer: {error}", system.name()))?;
        Ok(Some(started.elapsed()))
    }

    /// Starts what is measured in the rounds, and makes the requests, authorised by Trunkline's key.
    fn start(&self, dir: &Path, upstream: SocketAddr) -> Outcome<(Vec<Subject>, Exchanges)> {
        let mut subjects = vec![Subject::new(System::Direct, upstream, None, None, None)];
        let mut exchanges = Exchanges::new(STAND_IN);
        for system in [System::Nginx, System::Trunkline] {
            if let Some((subject, key)) =
                self.start_one(system, &dir.join(system.name()), upstream, Payer::Prepaid)?
            {
                subjects.push(subject);
                exchanges = Exchanges::new(&key);
            }
        }
        Ok((subjects, exchanges))
    }

    fn start_one(
        &self,
        system: System,
        dir: &Path,
        upstream: SocketAddr,
        payer: Payer,
    ) -> Outcome<Option<(Subject, String)>> {
        match (system, &self.nginx, &self.trunkline) {
            (System::Nginx, Some(nginx), _) => Ok(Some((nginx.start(dir, upstream)?, STAND_IN.into()))),
            (System::Trunkline, _, Some(program)) => {
                Ok(Some(trunkline::start(program, dir, upstream, payer)?))
            }
            _ => Ok(None),
        }
    }
}

/// Who checks no keys is sent this one.
const STAND_IN: &str = "sk-bench-0000000000000000000000000000000000000000";

/// Where the run took place.
#[derive(serde::Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    nginx: Option<String>,
}

impl Machine {
    fn look(systems: &Systems) -> Self {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Machine {
            processor: model.map_or("an unnamed processor", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            nginx: systems.nginx.as_ref().map(|nginx| nginx.version.clone()),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cores of {}, Linux {}", self.cores, self.processor, self.kernel)?;
        self.nginx.iter().try_for_each(|nginx| write!(f, ", {nginx} with a worker for each core"))
    }
}
