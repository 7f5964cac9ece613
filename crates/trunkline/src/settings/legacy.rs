//! The names that the guides of Conduit, DashFlow, Paladin, Rodger and the Conserver use, and those of
//! OpenTelemetry and its vendors, so that an environment made for them works unchanged.
//!
//! One table says what each name sets. A name is stronger than the file and weaker than a `TRUNKLINE_`
//! name. What a row does is noted for `trunkline config show`.

mod bus;
mod conversations;
mod limits;
mod listen;
mod otlp;
mod providers;

use super::convert;
use super::env::is_set;
use super::problem::{Origin, Path, Problem};
use super::tree::Node;
use super::vars::{Env, Found};

/// One legacy name.
pub struct Row {
    /// The variable.
    pub name: &'static str,
    /// What it sets.
    pub path: &'static str,
    /// Whose name it is.
    pub guide: &'static str,
    how: How,
}

/// What a row does with its value.
enum How {
    /// Rewrites the value and sets the row's path.
    Set(fn(&str) -> Result<String, String>),
    /// The same with a value that may hold a password, so that no note repeats it.
    Secret(fn(&str) -> Result<String, String>),
    /// Something of its own.
    With(fn(&mut Work<'_>, &Found) -> Result<(), String>),
    /// The same, after our own variables and the flags, because it depends on what they left open.
    Late(fn(&mut Work<'_>, &Found) -> Result<(), String>),
    /// Read together with the row named.
    Beside(&'static str),
}

const fn row(name: &'static str, path: &'static str, guide: &'static str, how: How) -> Row {
    Row { name, path, guide, how }
}

const KESTREL_URL: &str = "CONDUITLLM__KESTREL__ENDPOINTS__HTTPS__URL";
const KESTREL_PATH: &str = "CONDUITLLM__KESTREL__ENDPOINTS__HTTPS__CERTIFICATE__PATH";
const KESTREL_PASSWORD: &str = "CONDUITLLM__KESTREL__ENDPOINTS__HTTPS__CERTIFICATE__PASSWORD";
/// Names so common that `NAME_FILE` means something else elsewhere.
const NO_FILE: [&str; 3] = ["ENV", "PORT", "CONSERVER_API_TOKEN"];
const OTEL: &str = "OpenTelemetry";

/// All tables. Rows are read in this order, so of two names for one setting the later one counts.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().chain(limits::ROWS).chain(bus::ROWS).chain(conversations::ROWS)
}

/// The rows that are not about limits and addresses, nor about Redis and RabbitMQ.
const TABLE: &[Row] = &[
    row("LOG_LEVEL", "telemetry.log.level", "Conserver", How::Set(convert::log_level)),
    row("RUST_LOG", "telemetry.log.level", "DashFlow", How::Set(convert::rust_log)),
    row("LOG_FORMAT", "telemetry.log.format", "Conserver", How::Set(convert::log_format)),
    row("DD_ENV", "telemetry.environment", "Rodger (Datadog)", How::Set(convert::same)),
    row("ENV", "telemetry.environment", "Conserver", How::Set(convert::same)),
    row("ASPNETCORE_ENVIRONMENT", "telemetry.environment", "Conduit", How::Set(convert::same)),
    row("LANGCHAIN_ENV", "telemetry.environment", "DashFlow", How::Set(convert::same)),
    row("TOKIO_WORKER_THREADS", "server.threads", "DashFlow", How::Set(convert::whole)),
    row("MAX_CONCURRENT_REQUESTS", "server.max_concurrent_requests", "DashFlow", How::Set(convert::whole)),
    row("REQUEST_TIMEOUT", "resilience.request_timeout", "DashFlow", How::Set(convert::seconds)),
    row("LLM_TIMEOUT", "resilience.first_token_timeout", "DashFlow", How::Set(convert::seconds)),
    row("MAX_RETRIES", "resilience.retries", "DashFlow", How::Set(convert::whole)),
    row("RETRY_BACKOFF_MS", "resilience.backoff", "DashFlow", How::Set(convert::milliseconds)),
    row("ENABLE_METRICS", "server.metrics_enabled", "DashFlow", How::Set(convert::boolean)),
    row("ENABLE_HEALTH_CHECKS", "server.health_enabled", "DashFlow", How::Set(convert::boolean)),
    row("OPENAI_API_KEY", "providers.openai.api_key", "DashFlow, Paladin, Conserver", How::With(openai)),
    row("OPENAI_BASE_URL", "providers.openai.base_url", "Paladin", How::Beside("OPENAI_API_KEY")),
    row("DATABASE_URL", "data.store", "Conduit, Rodger, DashFlow", How::Secret(convert::same)),
    row(
        "CONDUITLLM__DATABASE__MAXPOOLSIZE",
        "data.pool.max_connections",
        "Conduit",
        How::Set(convert::whole),
    ),
    row(
        "CONDUITLLM__DATABASE__MINPOOLSIZE",
        "data.pool.min_connections",
        "Conduit",
        How::Set(convert::whole),
    ),
    row(
        "CONDUITLLM__DATABASE__CONNECTIONTIMEOUT",
        "data.pool.connect_timeout",
        "Conduit",
        How::Set(convert::seconds),
    ),
    row(
        "CONDUITLLM__DATABASE__COMMANDTIMEOUT",
        "data.pool.statement_timeout",
        "Conduit",
        How::Set(convert::seconds),
    ),
    row(
        "CONDUITLLM__DATABASE__CONNECTIONLIFETIME",
        "data.pool.max_lifetime",
        "Conduit",
        How::Set(convert::seconds),
    ),
    row("DATABASE_MAX_CONNECTIONS", "data.pool.max_connections", "DashFlow", How::Set(convert::whole)),
    row("DATABASE_MIN_CONNECTIONS", "data.pool.min_connections", "DashFlow", How::Set(convert::whole)),
    row("DATABASE_CONNECT_TIMEOUT", "data.pool.connect_timeout", "DashFlow", How::Set(convert::seconds)),
    row("PORT", "server.listen", "hosting platforms", How::With(listen::port)),
    row("LANGCHAIN_PORT", "server.listen", "DashFlow", How::With(listen::langchain_port)),
    row("LANGCHAIN_METRICS_PORT", "server.metrics", "DashFlow", How::With(listen::metrics_port)),
    row("ASPNETCORE_URLS", "server.listeners", "Conduit", How::With(listen::aspnetcore_urls)),
    row(KESTREL_URL, "server.listeners", "Conduit", How::Late(listen::kestrel)),
    row(KESTREL_PATH, "server.listeners", "Conduit", How::Beside(KESTREL_URL)),
    row(KESTREL_PASSWORD, "server.listeners", "Conduit", How::Beside(KESTREL_URL)),
    row("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp.endpoint", OTEL, How::With(otlp::endpoint)),
    row(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "telemetry.otlp.traces_endpoint",
        OTEL,
        How::Set(convert::same),
    ),
    row(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "telemetry.otlp.metrics_endpoint",
        OTEL,
        How::Set(convert::same),
    ),
    row("OTEL_EXPORTER_OTLP_HEADERS", "telemetry.otlp.headers", OTEL, How::With(otlp::headers)),
    row(
        "OTEL_METRIC_EXPORT_INTERVAL",
        "telemetry.otlp.metrics_interval",
        OTEL,
        How::Set(convert::milliseconds),
    ),
    row(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "telemetry.otlp.temporality",
        OTEL,
        How::Set(otlp::temporality),
    ),
    row("OTEL_TRACES_SAMPLER_ARG", "telemetry.otlp.sample_ratio", OTEL, How::Set(convert::same)),
    row("DD_SERVICE", "telemetry.service", "Rodger (Datadog)", How::Set(convert::same)),
    row("OTEL_RESOURCE_ATTRIBUTES", "telemetry.attributes", OTEL, How::With(otlp::resource_attributes)),
    row("OTEL_SERVICE_NAME", "telemetry.service", OTEL, How::Set(convert::same)),
    row("DATADOG_API_KEY", "telemetry.otlp", "Rodger (Datadog)", How::Late(otlp::datadog)),
    row("DD_SITE", "telemetry.otlp.endpoint", "Rodger (Datadog)", How::Beside("DATADOG_API_KEY")),
    row("NEW_RELIC_LICENSE_KEY", "telemetry.otlp", "Rodger (New Relic)", How::Late(otlp::new_relic)),
    row("HONEYCOMB_API_KEY", "telemetry.otlp", "Rodger (Honeycomb)", How::Late(otlp::honeycomb)),
    row(
        "HONEYCOMB_DATASET",
        "telemetry.otlp.headers",
        "Rodger (Honeycomb)",
        How::Beside("HONEYCOMB_API_KEY"),
    ),
];

/// What a row works on.
pub struct Work<'a> {
    /// The settings so far.
    pub tree: &'a mut Node,
    /// The environment.
    pub env: &'a Env,
    /// What was done, for the operator.
    pub notes: &'a mut Vec<String>,
    /// What is wrong.
    pub problems: &'a mut Vec<Problem>,
}

/// When rows are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Between the file and our own variables.
    Early,
    /// After the flags.
    Late,
}

/// Reads the rows of one stage.
pub fn apply(work: &mut Work<'_>, stage: Stage) {
    for row in rows() {
        if matches!(row.how, How::Late(_)) != (stage == Stage::Late) {
            continue;
        }
        if let Err(message) = apply_row(work, row) {
            let origin = Origin::Env(row.name.to_owned());
            work.problems.push(Problem::new(origin, &Path::default(), message));
        }
    }
    if stage == Stage::Early {
        providers::apply(work);
    }
}

fn apply_row(work: &mut Work<'_>, row: &Row) -> Result<(), String> {
    let found = match NO_FILE.contains(&row.name) {
        true => work.env.plain(row.name).map(|value| Found { name: row.name.into(), value: value.into() }),
        false => work.env.get(row.name)?,
    };
    let Some(found) = found else { return Ok(()) };
    match row.how {
        How::Set(convert) | How::Secret(convert) => {
            work.set(row.path, &convert(&found.value)?, &found)?;
            // What came from a file may be a secret, and a URL may carry one.
            let open = matches!(row.how, How::Set(_)) && row.guide != OTEL;
            let value = match found.name == row.name && open {
                true => format!("={}", found.value),
                false => String::new(),
            };
            work.note(format!("{}{value} sets {}", found.name, row.path));
            Ok(())
        }
        How::With(act) | How::Late(act) => act(work, &found),
        How::Beside(main) => {
            if work.env.get(main)?.is_none() && !used_by_urls(work, row.name) {
                work.note(format!("{} is not used, because {main} is not set", found.name));
            }
            Ok(())
        }
    }
}

/// The certificate also serves `https://` addresses in `ASPNETCORE_URLS`.
fn used_by_urls(work: &Work<'_>, name: &str) -> bool {
    [KESTREL_PATH, KESTREL_PASSWORD].contains(&name)
        && work.env.plain("ASPNETCORE_URLS").is_some_and(|urls| urls.contains("https://"))
}

impl Work<'_> {
    fn set(&mut self, path: &str, text: &str, from: &Found) -> Result<(), String> {
        self.put(&Path::of(path), Node::hidden(text, Origin::Env(from.name.clone())))
    }

    fn put(&mut self, path: &Path, node: Node) -> Result<(), String> {
        self.tree
            .set(path, node)
            .map_err(|around| format!("sets `{path}`, but `{around}` is not a map of keys in the file"))
    }

    fn has(&self, path: &str) -> bool {
        self.tree.find(&Path::of(path)).is_some_and(|node| !node.is_null())
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.tree.find(&Path::of(path)).and_then(Node::text)
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

/// Makes the provider `openai`, or gives the one in the file its key.
fn openai(work: &mut Work<'_>, key: &Found) -> Result<(), String> {
    if !providers::give_key(work, "openai", key)? {
        return Ok(());
    }
    match work.env.get("OPENAI_BASE_URL")? {
        Some(url) if !work.has("providers.openai.base_url") => {
            work.set("providers.openai.base_url", &url.value, &url)?;
            work.note(format!("{} sets providers.openai.base_url", url.name));
        }
        Some(url) => {
            work.note(format!("{} is not used, because providers.openai has its base_url", url.name));
        }
        None => {}
    }
    Ok(())
}

/// Whether our own variables or a flag say where to listen, so that listeners from elsewhere give way.
pub fn listen_is_set(env: &Env) -> bool {
    is_set(env, "server.listen") && !is_set(env, "server.listeners")
}

#[cfg(test)]
mod tests;
