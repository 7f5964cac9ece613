//! `trunkline models`: aliases, the names that clients use and where they lead.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::admin_client::{Failure, Run, Session, body, parse_json};
use super::output::{Column, text};
use super::providers::object;

const COLUMNS: &[Column] = &[
    text("name", "name"),
    text("strategy", "strategy"),
    text("targets", "targets"),
    text("too long for it", "context_fallback"),
    text("set in", "source"),
];

/// What to do with aliases.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ModelsCommand {
    /// List aliases.
    List {
        /// At most so many. Default: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show one alias.
    Show {
        /// Its name.
        name: String,
    },
    /// Change an alias, or make it when it is not there; what is not named stays.
    Set(Set),
    /// Remove an alias that was made here.
    Remove {
        /// Its name.
        name: String,
    },
}

/// An alias.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Set {
    /// The name that clients use.
    #[serde(skip)]
    name: String,
    /// Where it leads, as `openai/gpt-4.1`; several, first choice first, with commas.
    #[arg(long = "target", value_name = "PROVIDER/MODEL", value_delimiter = ',', value_parser = target)]
    targets: Vec<Value>,
    /// How a target is chosen, as `priority`.
    #[arg(long)]
    strategy: Option<String>,
    /// The model that takes over when a request is too long for these targets.
    #[arg(long, value_name = "MODEL")]
    context_fallback: Option<String>,
    /// A JSON file with further fields of an alias, as `resilience`; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    file: Option<PathBuf>,
}

/// Reads `provider/model`; the model's name may have slashes of its own.
fn target(text: &str) -> Result<Value, String> {
    match text.split_once('/') {
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
            Ok(json!({"provider": provider, "model": model}))
        }
        _ => Err("expected PROVIDER/MODEL, as `openai/gpt-4.1`".into()),
    }
}

impl Run for ModelsCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            ModelsCommand::List { limit } => {
                out.list_as(COLUMNS, client.pages(&["models"], vec![], *limit), shown).await
            }
            ModelsCommand::Show { name } => show(session, client.get(&["models", name], &vec![]).await?),
            ModelsCommand::Set(set) => {
                let mut fields = match &set.file {
                    Some(file) => object(parse_json(file)?)?,
                    None => Map::new(),
                };
                fields.extend(body(set)?);
                fields.remove("name");
                if fields.is_empty() {
                    return Err(Failure::setup("nothing to set: name a --target"));
                }
                show(session, client.set("models", ("name", &set.name), fields).await?)
            }
            ModelsCommand::Remove { name } => {
                client.delete(&["models", name]).await?;
                out.say(&format!("model {name} is removed"))
            }
        }
    }
}

fn show(session: &Session<'_>, mut model: Value) -> Result<(), Failure> {
    if !session.out.is_json() {
        shown(&mut model);
    }
    session.out.item(COLUMNS, &model)
}

/// For people, a target is `provider/model`.
fn shown(model: &mut Value) {
    for target in model.get_mut("targets").and_then(Value::as_array_mut).into_iter().flatten() {
        let part = |name: &str| target.get(name).and_then(Value::as_str).unwrap_or_default();
        *target = format!("{}/{}", part("provider"), part("model")).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_split_at_its_first_slash() {
        assert_eq!(
            target("lab/org/model:tag").unwrap(),
            json!({"provider": "lab", "model": "org/model:tag"})
        );
        for bad in ["gpt-4.1", "/gpt", "lab/", ""] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn people_read_targets_as_they_write_them() {
        let mut model = json!({"targets": [{"provider": "a", "model": "b/c", "resilience": {}}]});
        shown(&mut model);
        assert_eq!(model, json!({"targets": ["a/b/c"]}));
    }
}
