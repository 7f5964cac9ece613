//! The settings: one file, the environment over it, flags over that.
//!
//! [`load`] reads everything before it says anything, and reports every mistake at once with its place and
//! what to write instead. Weakest first: built-in defaults, the file, the legacy names of the guides
//! ([`legacy`]), `TRUNKLINE_` names ([`mod@env`]), flags.
//!
//! The way of a value: `tree` (text with origins) → `spelling` (one name for each) → `expand` (`${NAME}`) →
//! [`legacy`] and [`mod@env`] laid over → `decode` (types) → `validate` (sense).

mod convert;
mod decode;
pub mod env;
mod expand;
pub mod legacy;
mod log_level;
mod problem;
mod secrets;
mod show;
mod spelling;
mod tree;
mod validate;
mod vars;

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use access::identity::{AuthSettings, RbacSettings, RoleSettings};
use access::ip::IpSettings;
use access::{JournalKind, RotationSettings};

use access::limits::LimitSettings;
use access::prices::Prices;
use base::{Duration, Secret};
use bus::settings::{
    BlobsSettings, CacheSettings, EventsSettings, QueueSettings, RabbitmqSettings, RedisSettings, Short,
};
use conversations::ConversationSettings;
use gateway::settings::{Models, Providers, ResilienceSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use server::settings::ServerSettings;
use store::settings::PoolSettings;
use telemetry::settings::TelemetrySettings;

pub use problem::{Origin, Path, Problem, Step};
pub use vars::{Env, Found};

use secrets::Secrets;
use tree::{Node, Source};

pub use tree::MAX_BYTES as MAX_FILE;

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "trunkline.yaml";

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where we listen and what one request may take.
    pub server: ServerSettings,
    /// Where our own state is kept.
    pub data: DataSettings,
    /// Who answers model calls, by name.
    pub providers: Providers,
    /// Aliases: the names clients use and where they lead. `provider/model` works without one.
    pub models: Models,
    /// How long to wait and how often to try.
    pub resilience: ResilienceSettings,
    /// What model calls cost, by `provider/model`; `*` stands for any text. Over the built-in prices.
    pub prices: Prices,
    /// Tokens of an identity provider (OAuth2, OpenID Connect).
    pub auth: AuthSettings,
    /// Roles, each with its permissions; over the built-in `admin`, `viewer` and `caller`.
    pub roles: RoleSettings,
    /// The same in the form of Paladin's guide.
    pub rbac: RbacSettings,
    /// How many requests and tokens, and how many at once.
    pub limits: LimitSettings,
    /// How old keys may grow, and when to tell.
    pub rotation: RotationSettings,
    /// Where requests may come from.
    pub ip: IpSettings,
    /// vCons: chains, links, storages. Takes the sections of a Conserver's `config.yml` as they are.
    pub conversations: ConversationSettings,
    /// Logs, traces and metrics.
    pub telemetry: TelemetrySettings,
}

/// `data:`, where our own state is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// The directory of everything we keep; made with mode 0700 when it is missing.
    pub dir: PathBuf,
    /// The database: `sqlite` (a file in `dir`), or the URL of a PostgreSQL server, `postgresql://…`.
    pub store: Secret,
    /// The URL of a PostgreSQL read replica, for queries that may be a moment old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_replica: Option<Secret>,
    /// Connections to the database.
    pub pool: PoolSettings,
    /// How long the audit is kept.
    pub audit_retention: Duration,
    /// How long single calls are kept. Their sums by day stay.
    pub usage_retention: Duration,
    /// How long what a replica has leased of budgets is kept for it after it was last heard of.
    pub lease_grace: Duration,
    /// Where it is written down what calls are under way and what they came to: in files of `dir`, or in the database
    /// (`store`), for replicas without a disk of their own.
    pub journal: JournalKind,
    /// Values kept for a time. `cache: memory` is short for `cache: {backend: memory}`.
    pub cache: Short<CacheSettings>,
    /// Work that waits. `queue: store` is short for `queue: {backend: store}`.
    pub queue: Short<QueueSettings>,
    /// How replicas tell each other that something changed. `events: auto` is short for `events: {backend: auto}`.
    pub events: Short<EventsSettings>,
    /// Files by key. `blobs: local` is short for `blobs: {backend: local}`.
    pub blobs: Short<BlobsSettings>,
    /// The Redis server, and how each Redis is spoken to.
    pub redis: RedisSettings,
    /// The RabbitMQ server. `host` alone is enough.
    pub rabbitmq: RabbitmqSettings,
}

impl Default for DataSettings {
    fn default() -> Self {
        DataSettings {
            dir: PathBuf::from("./trunkline-data"),
            store: Secret::from("sqlite".to_owned()),
            store_replica: None,
            pool: PoolSettings::default(),
            audit_retention: Duration::from_secs(90 * 86_400),
            usage_retention: Duration::from_secs(90 * 86_400),
            lease_grace: Duration::from_secs(600),
            journal: JournalKind::File,
            cache: Short::default(),
            queue: Short::default(),
            events: Short::default(),
            blobs: Short::default(),
            redis: RedisSettings::default(),
            rabbitmq: RabbitmqSettings::default(),
        }
    }
}

/// What the command line says; read as the same texts in the file would be.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`, for `server.listen`.
    pub listen: Option<String>,
    /// `--metrics`, for `server.metrics`.
    pub metrics: Option<String>,
    /// `--data-dir`, for `data.dir`.
    pub data_dir: Option<String>,
    /// `--role`, for `server.roles`.
    pub roles: Option<Vec<String>>,
}

/// Settings that were read, and where each came from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What the environment did that is worth a word, one sentence each; no secrets.
    pub notes: Vec<String>,
    tree: Node,
}

impl Loaded {
    /// The effective tree, flat: path, value and origin. Secrets are `***`.
    pub fn show(&self) -> Vec<(String, String, String)> {
        show::flatten(&self.settings, &self.tree)
    }
}

/// The settings file to read: the one named, else that of `TRUNKLINE_CONFIG`, else `trunkline.yaml` when it
/// is there.
pub fn find_file(named: Option<&FilePath>, env: &Env) -> Option<PathBuf> {
    let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists());
    named
        .map(FilePath::to_path_buf)
        .or_else(|| env.plain("TRUNKLINE_CONFIG").map(PathBuf::from))
        .or_else(default)
}

/// Reads the settings. The error is everything that is wrong: the file's problems in its order, then the
/// others.
pub fn load(file: Option<&FilePath>, env: &Env, flags: &Flags) -> Result<Loaded, Vec<Problem>> {
    load_with(file, &Secrets::new(env), flags)
}

/// The same without asking secrets managers, for a look at what is no secret.
pub fn load_offline(file: Option<&FilePath>, env: &Env, flags: &Flags) -> Result<Loaded, Vec<Problem>> {
    load_with(file, &Secrets::offline(env), flags)
}

fn load_with(file: Option<&FilePath>, secrets: &Secrets<'_>, flags: &Flags) -> Result<Loaded, Vec<Problem>> {
    let env = secrets.env();
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let mut tree = match file {
        Some(file) => read(file, &mut problems),
        None => Some(Node::map(Origin::Default(""))),
    };
    let Some(mut tree) = tree.take() else { return Err(in_order(problems)) };
    spelling::settle(&mut tree, &mut problems);
    let unresolved = expand::expand(&mut tree, secrets);

    let mut work = legacy::Work { tree: &mut tree, env, notes: &mut notes, problems: &mut problems };
    legacy::apply(&mut work, legacy::Stage::Early);
    env::apply(work.tree, env, &schema(), work.problems);
    spelling::spread(work.tree);
    apply_flags(&mut work, flags);
    legacy::apply(&mut work, legacy::Stage::Late);
    demo_when_empty(&mut tree);

    // What was laid over an unresolved value has made it unimportant.
    let still = unresolved.into_iter().filter(|(path, _)| tree.find(path).is_some_and(|node| node.bad));
    problems.extend(still.map(|(_, problem)| problem));
    let settings: Option<Settings> = decode::decode(&mut tree, &mut problems);
    if let Some(settings) = &settings {
        validate::validate(settings, &tree, &mut problems);
    }
    match settings {
        Some(settings) if problems.is_empty() => Ok(Loaded { settings, notes, tree }),
        _ => Err(in_order(problems)),
    }
}

/// The file's problems in its order, then the others; not more than somebody would read.
fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| match problem.origin {
        Origin::File { line, column, .. } => (0, line, column),
        _ => (1, 0, 0),
    });
    let more = problems.len().saturating_sub(decode::MAX_PROBLEMS);
    problems.truncate(decode::MAX_PROBLEMS);
    if let Some(last) = problems.last().filter(|_| more > 0) {
        let message = format!("{more} more problems are not shown");
        problems.push(Problem::new(last.origin.clone(), &Path::default(), message));
    }
    problems
}

fn read(file: &FilePath, problems: &mut Vec<Problem>) -> Option<Node> {
    let name = file.display().to_string();
    let mut refuse = |message: String| {
        let origin = Origin::File { path: name.as_str().into(), line: 1, column: 1 };
        problems.push(Problem::new(origin, &Path::default(), message));
        None
    };
    let mut bytes = Vec::new();
    let opened =
        std::fs::File::open(file).and_then(|file| file.take(tree::MAX_BYTES + 1).read_to_end(&mut bytes));
    if let Err(error) = opened {
        return refuse(format!("cannot be read: {error}"));
    }
    if bytes.len() as u64 > tree::MAX_BYTES {
        return refuse("is larger than 4 MiB".into());
    }
    let Ok(text) = String::from_utf8(bytes) else { return refuse("is not UTF-8".into()) };
    let (tree, found) = tree::parse(&text, &Source::File(&name));
    problems.extend(found);
    tree
}

/// Lays the flags over everything else.
fn apply_flags(work: &mut legacy::Work<'_>, flags: &Flags) {
    let single = [
        ("server.listen", "--listen", &flags.listen),
        ("server.metrics", "--metrics", &flags.metrics),
        ("data.dir", "--data-dir", &flags.data_dir),
    ];
    let mut nodes: Vec<(&str, Node)> = Vec::new();
    for (path, flag, value) in single {
        if let Some(value) = value {
            nodes.push((path, Node::plain(value.clone(), Origin::Flag(flag))));
        }
    }
    if let Some(roles) = &flags.roles {
        let origin = Origin::Flag("--role");
        let items = roles.iter().map(|role| Node::plain(role.clone(), origin.clone())).collect();
        nodes.push(("server.roles", Node::list(items, origin)));
    }
    for (path, node) in nodes {
        let origin = node.origin.clone();
        if let Err(around) = work.tree.set(&Path::of(path), node) {
            let message = format!("sets `{path}`, but `{around}` is not a map of keys in the file");
            work.problems.push(Problem::new(origin, &Path::default(), message));
        }
    }
    // A stronger `listen` takes the place of weaker listeners: who says where to listen means just there.
    if flags.listen.is_some() || legacy::listen_is_set(work.env) {
        let by = if flags.listen.is_some() { "--listen" } else { "TRUNKLINE_SERVER__LISTEN" };
        if work.tree.remove(&Path::of("server.listeners")).is_some() {
            work.notes.push(format!("{by} replaces server.listeners"));
        }
    }
}

/// Without a provider there would be nothing to try: the built-in demo answers, and says that it does.
fn demo_when_empty(tree: &mut Node) {
    let providers = Path::of("providers");
    let empty = tree.find(&providers).is_none_or(|node| {
        node.is_null() || matches!(&node.value, tree::Value::Map(entries) if entries.is_empty())
    });
    if empty {
        let kind = Node::plain("demo", Origin::Default("no provider configured"));
        // The path is free or an empty map, as just seen: this cannot fail.
        let _ = tree.set(&providers.key("demo").key("kind"), kind);
    }
}

/// The JSON Schema (draft 2020-12) of the settings file, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Settings);
    schema.insert("$id".into(), "urn:trunkline:settings".into());
    schema.insert("title".into(), "Trunkline settings".into());
    schema.to_value()
}

/// What differs between two settings and needs a restart; everything else is applied by a reload.
pub fn restart_needed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let (a, b) = (&old.server, &new.server);
    let (s, t) = (&old.telemetry, &new.telemetry);
    let parts = [
        ("server.listen", a.listen == b.listen),
        ("server.roles", a.roles == b.roles),
        ("server.listeners", a.listeners == b.listeners),
        ("server.tls", a.tls == b.tls),
        ("server.metrics", a.metrics == b.metrics),
        ("server.threads", a.threads == b.threads),
        ("server.header_timeout", a.header_timeout == b.header_timeout),
        ("data", old.data == new.data),
        ("auth", old.auth == new.auth),
        ("conversations.workers", old.conversations.workers == new.conversations.workers),
        ("conversations.concurrency", old.conversations.concurrency == new.conversations.concurrency),
        ("conversations.root_path", old.conversations.root_path == new.conversations.root_path),
        ("conversations.redis_only", old.conversations.redis_only == new.conversations.redis_only),
        // The level is applied at once.
        ("telemetry.log.format", s.log.format == t.log.format),
        ("telemetry.log.file", s.log.file == t.log.file),
        ("telemetry.otlp", s.otlp == t.otlp),
        ("telemetry.service", s.service == t.service),
        ("telemetry.environment", s.environment == t.environment),
        ("telemetry.attributes", s.attributes == t.attributes),
    ];
    parts.into_iter().filter(|(_, same)| !same).map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests;
