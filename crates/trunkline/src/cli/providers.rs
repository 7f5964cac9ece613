//! `trunkline providers`: who answers model calls. Those of the settings file are shown and tested; they are
//! changed in the file.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::admin_client::{Failure, Once, Run, Session, body, parse_json, read_text};
use super::output::{Column, id, printable, text};

const COLUMNS: &[Column] = &[
    text("name", "name"),
    text("kind", "kind"),
    text("base URL", "base_url"),
    text("API key", "api_key"),
    text("set in", "source"),
];
const KEY: &[Column] = &[id("id", "id"), text("key", "api_key")];

/// What to do with providers.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ProvidersCommand {
    /// List providers.
    List {
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show one provider.
    Show {
        /// Its name.
        name: String,
    },
    /// Ask a provider for its models, with its key; the exit code is 1 when it does not answer as it should.
    Test {
        /// Its name.
        name: String,
    },
    /// Add a provider.
    Add(Box<Add>),
    /// Remove a provider that was added here.
    Remove {
        /// Its name.
        name: String,
    },
    /// The API keys that are sent to a provider.
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// What to do with the API keys of a provider.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// List them; only their ends are shown.
    List {
        /// The provider.
        provider: String,
    },
    /// Add one.
    Add {
        /// The provider.
        provider: String,
        #[command(flatten)]
        key: ApiKey,
        #[command(flatten)]
        once: Once,
    },
    /// Remove one.
    Remove {
        /// The provider.
        provider: String,
        /// Its id in the list.
        id: String,
    },
}

/// A provider.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Add {
    /// The name that models are called by, as in `NAME/gpt-4.1`.
    name: String,
    /// What is spoken there: `openai`, `openai-compatible`, …
    #[arg(long, required_unless_present = "file")]
    kind: Option<String>,
    /// Where its API begins, as `https://api.openai.com/v1`. Default: the kind's own.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Requests in flight to it at once, from one replica.
    #[arg(long, value_name = "N")]
    max_concurrent_requests: Option<u32>,
    /// A JSON file with further fields of a provider, as `headers`; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    file: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip)]
    key: ApiKey,
    #[command(flatten)]
    #[serde(skip)]
    once: Once,
}

/// A key that must not stand on the command line, where every user of the machine sees it.
#[derive(Clone, Debug, clap::Args)]
#[group(multiple = false)]
pub struct ApiKey {
    /// A file with the API key; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The environment variable with the API key, or with `_FILE` at its end, with the name of its file.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
}

impl ApiKey {
    fn read(&self, session: &Session<'_>) -> Result<Option<String>, Failure> {
        if let Some(file) = &self.api_key_file {
            return Ok(Some(read_text(file)?.trim().to_owned()));
        }
        let Some(name) = &self.api_key_env else { return Ok(None) };
        let found = session.env.get(name).map_err(Failure::Setup)?;
        found.map(|found| Some(found.value)).ok_or_else(|| Failure::Setup(format!("{name} is not set")))
    }
}

impl Add {
    fn body(&self, session: &Session<'_>) -> Result<Map<String, Value>, Failure> {
        let mut all = match &self.file {
            Some(file) => object(parse_json(file)?)?,
            None => Map::new(),
        };
        all.extend(body(self)?);
        if let Some(key) = self.key.read(session)? {
            all.insert("api_key".into(), key.into());
        }
        Ok(all)
    }
}

/// What a file with fields has to hold.
pub fn object(value: Value) -> Result<Map<String, Value>, Failure> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(Failure::setup("--file: expected a JSON object")),
    }
}

impl Run for ProvidersCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            ProvidersCommand::List { limit } => {
                out.list(COLUMNS, client.pages(&["providers"], vec![], *limit)).await
            }
            ProvidersCommand::Show { name } => {
                out.item(COLUMNS, &client.get(&["providers", name], &vec![]).await?)
            }
            ProvidersCommand::Test { name } => {
                let tested = client.post(&["providers", name, "test"], &vec![], &json!({})).await?;
                verdict(session, name, &tested)
            }
            ProvidersCommand::Add(add) => {
                let body = Value::Object(add.body(session)?);
                out.item(COLUMNS, &client.create(&["providers"], &body, &add.once).await?)
            }
            ProvidersCommand::Remove { name } => {
                client.delete(&["providers", name]).await?;
                out.say(&format!("provider {name} is removed"))
            }
            ProvidersCommand::Keys(command) => command.run(session).await,
        }
    }
}

impl Run for KeysCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            KeysCommand::List { provider } => {
                out.list(KEY, client.pages(&["providers", provider, "keys"], vec![], None)).await
            }
            KeysCommand::Add { provider, key, once } => {
                let missing = || {
                    Failure::setup(
                        "which key? Name a file with --api-key-file, or a variable with --api-key-env",
                    )
                };
                let key = key.read(session)?.ok_or_else(missing)?;
                let body = json!({"api_key": key});
                out.item(KEY, &client.create(&["providers", provider, "keys"], &body, once).await?)
            }
            KeysCommand::Remove { provider, id } => {
                client.delete(&["providers", provider, "keys", id]).await?;
                out.say(&format!("key {id} of {provider} is removed"))
            }
        }
    }
}

/// Prints what a test found. One that failed is a failure of the command too.
fn verdict(session: &Session<'_>, name: &str, tested: &Value) -> Result<(), Failure> {
    let out = &session.out;
    if tested.get("ok") == Some(&Value::Bool(true)) {
        return if out.is_json() {
            out.document(tested)
        } else {
            let latency = tested.get("latency_ms").map(|ms| format!(" in {ms} ms")).unwrap_or_default();
            let models = tested.get("models").and_then(|models| {
                models.as_u64().or_else(|| models.as_array().map(|models| models.len() as u64))
            });
            let models = models.map(|count| format!(" and has {count} models")).unwrap_or_default();
            out.say(&format!("{name} answers{latency}{models}"))
        };
    }
    if out.is_json() {
        out.document(tested)?;
        out.flush()?;
        return Err(Failure::Told);
    }
    let why = tested.get("error").and_then(Value::as_str).unwrap_or("it does not answer as it should");
    Err(Failure::Said(format!("{name}: {}", printable(why))))
}
