//! `trunkline prices`: what models cost.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::admin_client::{Failure, Run, Session, body, parse_json, read_file};
use super::output::{Column, Progress, id, money, text};
use super::providers::object;

const COLUMNS: &[Column] = &[
    text("model", "pattern"),
    money("input ($/M)", "input"),
    money("cached ($/M)", "cached_input"),
    money("output ($/M)", "output"),
    money("request ($)", "request"),
    text("as of", "as_of"),
    text("set in", "origin"),
    text("source", "source"),
];
const SKIPPED: &[Column] = &[id("line", "line"), text("name", "name"), text("why it was skipped", "reason")];

/// Where a price comes from.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Source {
    /// Those that every Trunkline knows.
    BuiltIn,
    /// The settings file.
    File,
    /// Made by API, UI or here.
    Api,
}

/// How a list of prices is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Form {
    /// LiteLLM's price map, JSON.
    Litellm,
    /// Our CSV.
    Csv,
    /// Conduit's CSV.
    ConduitCsv,
    /// Conduit's JSON export.
    ConduitJson,
}

/// How prices are written out.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Exported {
    /// As `prices import --format csv` reads them.
    Csv,
    /// As the settings have them.
    Json,
}

/// What to do with prices. PATTERN is `provider/model`; either part may contain `*`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum PricesCommand {
    /// List prices: our own and those that are built in.
    List {
        /// Only those from there.
        #[arg(long)]
        source: Option<Source>,
        /// Only those whose name contains this.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show one price.
    Show {
        /// Of what.
        pattern: String,
    },
    /// Change a price, or make it when it is not there; what is not named stays.
    Set(Box<Set>),
    /// Take over a list of prices.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
        /// How it is written.
        #[arg(long)]
        format: Form,
    },
    /// Write the prices out.
    Export {
        /// How.
        #[arg(long, default_value = "csv")]
        format: Exported,
        /// Into this file. Default: stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Remove a price that was made here; what is built in applies again.
    Remove {
        /// Of what.
        pattern: String,
    },
}

/// A price: dollars per million tokens, or per unit.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Set {
    /// Of what.
    #[serde(skip)]
    pattern: String,
    /// Dollars per million tokens of the prompt.
    #[arg(long, value_name = "DOLLARS")]
    input: Option<String>,
    /// The same for those that the provider read from its cache. Default: as input.
    #[arg(long, value_name = "DOLLARS")]
    cached_input: Option<String>,
    /// The same for those that it wrote to its cache. Default: as input.
    #[arg(long, value_name = "DOLLARS")]
    cache_write: Option<String>,
    /// Dollars per million tokens of the answer.
    #[arg(long, value_name = "DOLLARS")]
    output: Option<String>,
    /// The same for those that were reasoning. Default: as output.
    #[arg(long, value_name = "DOLLARS")]
    reasoning: Option<String>,
    /// Dollars per request.
    #[arg(long, value_name = "DOLLARS")]
    request: Option<String>,
    /// Dollars per image.
    #[arg(long, value_name = "DOLLARS")]
    image: Option<String>,
    /// Dollars per second of audio or video.
    #[arg(long, value_name = "DOLLARS")]
    second: Option<String>,
    /// Dollars per character that is spoken.
    #[arg(long, value_name = "DOLLARS")]
    character: Option<String>,
    /// Dollars per search or rerank query.
    #[arg(long, value_name = "DOLLARS")]
    search: Option<String>,
    /// Where the price was read.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// When it was read, as `2026-11-20`.
    #[arg(long, value_name = "DAY")]
    as_of: Option<String>,
    /// A JSON file with further fields of a price, as `tiers`; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl Run for PricesCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            PricesCommand::List { source, search, limit } => {
                let mut query = Vec::new();
                query.extend(source.as_ref().map(|source| ("source", word(source))));
                query.extend(search.iter().map(|text| ("q", text.clone())));
                out.list(COLUMNS, client.pages(&["prices"], query, *limit)).await
            }
            PricesCommand::Show { pattern } => {
                out.item(COLUMNS, &client.get(&["prices", pattern], &vec![]).await?)
            }
            PricesCommand::Set(set) => {
                let mut fields = match &set.file {
                    Some(file) => object(parse_json(file)?)?,
                    None => Map::new(),
                };
                fields.extend(body(set)?);
                fields.remove("pattern");
                if fields.is_empty() {
                    return Err(Failure::setup(
                        "nothing to set: name a price, as `--input 2.50 --output 10`",
                    ));
                }
                out.item(COLUMNS, &client.set("prices", ("pattern", &set.pattern), fields).await?)
            }
            PricesCommand::Import { file, format } => import(session, file, *format).await,
            PricesCommand::Export { format, output } => {
                let format = if out.is_json() { "json".to_owned() } else { word(format) };
                let body = client.download(&["prices", "export"], &vec![("format", format)]).await?;
                out.save(body, output.as_deref()).await
            }
            PricesCommand::Remove { pattern } => {
                client.delete(&["prices", pattern]).await?;
                out.say(&format!("the price of {pattern} is removed"))
            }
        }
    }
}

async fn import(session: &Session<'_>, file: &Path, form: Form) -> Result<(), Failure> {
    let bytes = read_file(file)?;
    let media = match form {
        Form::Csv | Form::ConduitCsv => "text/csv",
        Form::Litellm | Form::ConduitJson => "application/json",
    };
    let what = format!("importing {} KiB of prices", bytes.len() / 1024);
    let path = ["prices", "import"];
    let query = vec![("format", word(&form))];
    let sent = session.client.upload(&path, &query, media, bytes);
    let mut progress = Progress::new();
    let done = progress.during(&what, sent).await;
    drop(progress);
    let done = done?;
    if session.out.is_json() {
        return session.out.document(&done);
    }
    let imported = done.get("imported").and_then(Value::as_u64).unwrap_or_default();
    session.out.say(&format!("{imported} prices are imported"))?;
    match done.get("skipped").and_then(Value::as_array) {
        Some(skipped) if !skipped.is_empty() => session.out.rows(SKIPPED, skipped),
        _ => Ok(()),
    }
}

/// A choice as the API spells it.
fn word(choice: &impl clap::ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
