//! Secrets from elsewhere: `${file:…}`, `${vault:…}` and `${aws-sm:…}` in the settings file.
//!
//! Kubernetes' external secrets arrive as variables or files and need nothing else. A secrets manager is asked
//! once for each secret, whatever number of its fields are used, while the settings are read; all of it together
//! is bounded in time, and a manager that cannot be reached is asked once and not for every secret. Errors name the
//! source, the secret and what to change, and never a value.
//!
//! Reading settings is not async, and may happen within a runtime (a reload). So the requests run on a runtime of
//! their own, driven by a thread of their own.

mod aws;
mod reference;
mod vault;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io::Read as _;
use std::time::{Duration, Instant};

use access::identity::http::{Answer, Call, Http};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use super::vars::Env;
use reference::{Reference, Source};

/// The largest file that a reference may name, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The most that is read of an answer.
const MAX_ANSWER: usize = 1 << 20;
/// The limit on one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The limit on all requests while the settings are read once.
const TOGETHER: Duration = Duration::from_secs(20);

/// The secret sources, for one reading of the settings.
pub struct Secrets<'a> {
    env: &'a Env,
    /// Whether secrets managers are asked.
    online: bool,
    started: Instant,
    /// What was fetched, by source and name.
    fetched: RefCell<BTreeMap<(Source, String), Fetched>>,
    /// Why a source cannot be asked any more.
    down: RefCell<BTreeMap<Source, String>>,
    sessions: RefCell<Sessions>,
}

type Fetched = Result<Document, Failure>;

/// What a secrets manager keeps under one name.
#[derive(Clone, Default)]
struct Document {
    /// The whole, where the manager keeps a text.
    text: Option<String>,
    /// Its parts, where it has some.
    fields: Option<Map<String, Value>>,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq)]
enum Failure {
    /// There is no such secret, file or field: a default may take its place.
    Missing(String),
    /// Anything else.
    Wrong(String),
    /// The source as a whole does not work: it is not asked again.
    Down(String),
}

impl Failure {
    fn into_message(self) -> String {
        match self {
            Failure::Missing(message) | Failure::Wrong(message) | Failure::Down(message) => message,
        }
    }
}

/// What is kept between requests.
#[derive(Default)]
struct Sessions {
    runtime: Option<Runtime>,
    vault: Option<vault::Session>,
    aws: HashMap<String, aws::Session>,
}

impl Drop for Sessions {
    fn drop(&mut self) {
        // Waiting for it would block whoever drops us, which is forbidden within a runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<'a> Secrets<'a> {
    /// For reading settings that are to be used.
    pub fn new(env: &'a Env) -> Self {
        Secrets {
            env,
            online: true,
            started: Instant::now(),
            fetched: RefCell::default(),
            down: RefCell::default(),
            sessions: RefCell::default(),
        }
    }

    /// For reading settings that are only looked at (`trunkline health`): no secrets manager is asked, and a
    /// secret of one is an empty text.
    pub fn offline(env: &'a Env) -> Self {
        Secrets { online: false, ..Self::new(env) }
    }

    /// The variables that it was made with.
    pub fn env(&self) -> &'a Env {
        self.env
    }

    /// The value of what stands between `${` and `}`; `None` when that names no source, so that it is a variable.
    pub fn get(&self, inside: &str) -> Option<Result<String, String>> {
        let reference = match Reference::parse(inside)? {
            Ok(reference) => reference,
            Err(message) => return Some(Err(message)),
        };
        Some(match (self.resolve(&reference), reference.default) {
            (Ok(value), _) => Ok(value),
            (Err(Failure::Missing(_)), Some(default)) => Ok(default.to_owned()),
            (Err(failure), _) => Err(failure.into_message()),
        })
    }

    fn resolve(&self, reference: &Reference<'_>) -> Result<String, Failure> {
        if reference.source == Source::File {
            return read_file(reference.name);
        }
        if !self.online {
            return Ok(String::new());
        }
        let key = (reference.source, reference.name.to_owned());
        if let Some(fetched) = self.fetched.borrow().get(&key) {
            return fetched.clone().and_then(|document| pick(&document, reference));
        }
        let fetched = self.fetch(reference);
        if let Err(Failure::Down(message)) = &fetched {
            self.down.borrow_mut().insert(reference.source, message.clone());
        }
        let picked = fetched.clone().and_then(|document| pick(&document, reference));
        self.fetched.borrow_mut().insert(key, fetched);
        picked
    }

    fn fetch(&self, reference: &Reference<'_>) -> Fetched {
        if let Some(message) = self.down.borrow().get(&reference.source) {
            return Err(Failure::Down(message.clone()));
        }
        let left = TOGETHER.saturating_sub(self.started.elapsed());
        if left.is_zero() {
            let message = format!(
                "secrets took more than {} s together and are not asked for any more",
                TOGETHER.as_secs()
            );
            return Err(Failure::Down(message));
        }
        let Sessions { runtime, vault, aws } = &mut *self.sessions.borrow_mut();
        let runtime = match runtime {
            Some(runtime) => runtime,
            none => none.insert(new_runtime()?),
        };
        // Not all of `self` may go to another thread.
        let env = self.env;
        let work = async {
            let answer = async {
                match reference.source {
                    Source::Vault => vault::fetch(vault, env, reference.name).await,
                    _ => aws::fetch(aws, env, reference.name).await,
                }
            };
            let late = |_| Err(Failure::Down(format!("{} takes too long", reference.source.label())));
            tokio::time::timeout(left, answer).await.unwrap_or_else(late)
        };
        run(runtime, work)
    }
}

fn new_runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::Down(format!("no runtime for asking secrets managers: {error}")))
}

/// Drives the work on a thread of its own: this one may belong to another runtime.
fn run(runtime: &Runtime, work: impl Future<Output = Fetched> + Send) -> Fetched {
    std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join()).unwrap_or_else(|_| {
        Err(Failure::Down("asking a secrets manager failed; this is a mistake of ours".into()))
    })
}

/// The field that a reference names, as text, or the whole text.
fn pick(document: &Document, reference: &Reference<'_>) -> Result<String, Failure> {
    let (source, name) = (reference.source.label(), reference.name);
    let Some(field) = reference.field else {
        let text = document.text.clone();
        return text
            .ok_or_else(|| Failure::Wrong(format!("{source}: name a field of `{name}`, as `#api_key`")));
    };
    let Some(fields) = &document.fields else {
        let message =
            format!("{source}: the secret `{name}` is no JSON object and has no fields: leave out `#…`");
        return Err(Failure::Wrong(message));
    };
    match fields.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => {
            let message =
                format!("{source}: the field `{field}` of `{name}` is not a text, number or boolean");
            Err(Failure::Wrong(message))
        }
        None => Err(Failure::Missing(format!("{source}: the secret `{name}` has no field `{field}`"))),
    }
}

fn read_file(path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    match read {
        Ok(read) if read as u64 > MAX_FILE => {
            Err(Failure::Wrong(format!("the file `{path}` is larger than 1 MiB")))
        }
        Ok(_) => {
            text.truncate(text.trim_end_matches(['\n', '\r']).len());
            Ok(text)
        }
        Err(error) => {
            let message = format!("the file `{path}` cannot be read: {error}");
            match error.kind() {
                std::io::ErrorKind::NotFound => Err(Failure::Missing(message)),
                _ => Err(Failure::Wrong(message)),
            }
        }
    }
}

/// A client of a secrets manager. `ca` names the variable with further authorities.
fn client(env: &Env, ca: &str) -> Result<Http, Failure> {
    let file = env.plain(ca).map(std::path::Path::new);
    Http::new(file, TIMEOUT, MAX_ANSWER).map_err(|error| Failure::Down(format!("{ca}: {error}")))
}

async fn send(http: &Http, call: Call<'_>) -> Result<Answer, Failure> {
    http.send(call).await.map_err(|error| Failure::Down(error.to_string()))
}

/// A variable or the content of its `_FILE` twin.
fn var(env: &Env, name: &str) -> Result<Option<String>, Failure> {
    env.get(name).map(|found| found.map(|found| found.value)).map_err(Failure::Down)
}

#[cfg(test)]
mod tests;
