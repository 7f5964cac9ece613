//! What commands print: tables for people, one JSON document for programs, progress on stderr.

mod table;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use table::{Column, count, flag, id, money, printable, text, time};

use super::admin_client::{Download, Failure, Pages};

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(500);

/// Where the answer goes, and in which form.
pub struct Output {
    json: bool,
    to: RefCell<Box<dyn Write>>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("json", &self.json).finish_non_exhaustive()
    }
}

impl Output {
    /// To stdout.
    pub fn stdout(json: bool) -> Self {
        Self::new(json, Box::new(io::BufWriter::new(io::stdout())))
    }

    /// To any place.
    pub fn new(json: bool, to: Box<dyn Write>) -> Self {
        Output { json, to: RefCell::new(to) }
    }

    /// Whether a program reads.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Writes what is held back.
    pub fn flush(&self) -> Result<(), Failure> {
        Ok(self.to.borrow_mut().flush()?)
    }

    /// A line for people; a program is told nothing beside its document.
    pub fn say(&self, line: &str) -> Result<(), Failure> {
        if !self.json {
            writeln!(self.to.borrow_mut(), "{line}")?;
        }
        Ok(())
    }

    /// A document as it is, for programs only.
    pub fn document(&self, value: &Value) -> Result<(), Failure> {
        if self.json {
            writeln!(self.to.borrow_mut(), "{value:#}")?;
        }
        Ok(())
    }

    /// One thing: these fields first, then whatever else it has.
    pub fn item(&self, columns: &[Column], item: &Value) -> Result<(), Failure> {
        match self.json {
            true => self.document(item),
            false => self.say(&table::record(columns, item)),
        }
    }

    /// Rows that are here already.
    pub fn rows(&self, columns: &[Column], rows: &[Value]) -> Result<(), Failure> {
        match rows {
            [] => self.say("none"),
            rows => self.say(&table::grid(columns, rows)),
        }
    }

    /// A list, printed page by page, so that a long one needs no more memory than a short one.
    pub async fn list(&self, columns: &[Column], pages: Pages<'_>) -> Result<(), Failure> {
        self.list_as(columns, pages, |_| {}).await
    }

    /// The same with rows that are put differently for people.
    pub async fn list_as(
        &self,
        columns: &[Column],
        mut pages: Pages<'_>,
        for_people: fn(&mut Value),
    ) -> Result<(), Failure> {
        let mut count = 0;
        while let Some(mut rows) = pages.next().await? {
            if self.json {
                self.json_rows(&rows, count == 0)?;
            } else if !rows.is_empty() {
                rows.iter_mut().for_each(for_people);
                let gap = if count == 0 { "" } else { "\n" };
                self.say(&format!("{gap}{}", table::grid(columns, &rows)))?;
            }
            count += rows.len();
        }
        if self.json {
            let begin = if count == 0 { "{\"data\":[" } else { "\n" };
            let next = pages.rest().map_or_else(|| "null".to_owned(), Value::to_string);
            writeln!(self.to.borrow_mut(), "{begin}],\"next\":{next}}}")?;
        } else if count == 0 {
            self.say("none")?;
        } else if pages.rest().is_some() {
            self.say("There may be more: raise --limit, or leave it out for all.")?;
        }
        self.flush()
    }

    fn json_rows(&self, rows: &[Value], first: bool) -> Result<(), Failure> {
        let mut to = self.to.borrow_mut();
        for (at, row) in rows.iter().enumerate() {
            let before = if first && at == 0 { "{\"data\":[" } else { "," };
            write!(to, "{before}\n{row}")?;
        }
        Ok(())
    }

    /// A body as it comes, byte for byte, to stdout or into a file that is there as a whole or not at all.
    pub async fn save(&self, mut body: Download<'_>, file: Option<&Path>) -> Result<(), Failure> {
        let Some(file) = file else {
            while let Some(piece) = body.piece().await? {
                self.to.borrow_mut().write_all(&piece)?;
            }
            return self.flush();
        };
        let mut target = Target::create(file)?;
        while let Some(piece) = body.piece().await? {
            target.write(&piece)?;
        }
        target.finish()
    }

    /// Rows as JSON Lines, page by page, to stdout or into a file.
    pub async fn lines(&self, mut pages: Pages<'_>, file: Option<&Path>) -> Result<u64, Failure> {
        let mut target = file.map(Target::create).transpose()?;
        let mut count = 0;
        while let Some(rows) = pages.next().await? {
            let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
            match &mut target {
                Some(target) => target.write(text.as_bytes())?,
                None => self.to.borrow_mut().write_all(text.as_bytes())?,
            }
            count += rows.len() as u64;
        }
        target.map_or_else(|| self.flush(), Target::finish)?;
        Ok(count)
    }
}

/// A file on its way. It may hold what is nobody else's business: its owner alone reads it.
struct Target {
    file: io::BufWriter<std::fs::File>,
    name: PathBuf,
    temporary: PathBuf,
    done: bool,
}

impl Target {
    fn create(name: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut temporary = name.as_os_str().to_owned();
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|error| broken(name, &error))?;
        Ok(Target { file: io::BufWriter::new(file), name: name.to_owned(), temporary, done: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| broken(&self.name, &error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let kept = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| std::fs::rename(&self.temporary, &self.name));
        self.done = kept.is_ok();
        kept.map_err(|error| broken(&self.name, &error))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.done {
            // What is left of a download that failed; it does no harm if it stays.
            drop(std::fs::remove_file(&self.temporary));
        }
    }
}

fn broken(file: &Path, error: &io::Error) -> Failure {
    Failure::Setup(format!("`{}` cannot be written: {error}", file.display()))
}

/// One line on a terminal that is written over; nothing where stderr is no terminal.
pub struct Progress {
    shown: bool,
    terminal: bool,
}

impl Progress {
    /// On stderr.
    pub fn new() -> Self {
        Progress { shown: false, terminal: io::stderr().is_terminal() }
    }

    /// Shows how far it is.
    pub fn show(&mut self, line: &str) {
        if self.terminal {
            self.shown = true;
            // A terminal that is gone needs no progress.
            drop(write!(io::stderr(), "\r\x1b[K{line}"));
        }
    }

    /// Waits for one long answer, and shows that time passes.
    pub async fn during<T>(&mut self, what: &str, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => {
                    let seconds = began.elapsed().as_secs();
                    if seconds > 0 {
                        self.show(&format!("{what} ({seconds} s)"));
                    }
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}
