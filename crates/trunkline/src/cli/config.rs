//! `trunkline config`: look at the settings without starting anything; carry a server's configuration elsewhere.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::json;
use trunkline::settings::{self, Env, Flags, Problem};

use super::admin_client::{Failure, Run, ServerArgs, Session, parse_json, read_file, read_text, run_with};

/// What to do with the settings.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Print every mistake in a settings file, one a line; the exit code is 1 when there are any.
    Check {
        /// The settings file.
        file: PathBuf,
    },
    /// Print the settings in effect and where each value comes from; secrets are hidden.
    Show {
        /// The settings file. Default: `TRUNKLINE_CONFIG`, or `trunkline.yaml` when it is there.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Print JSON: a list of objects with `path`, `value` and `origin`.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the settings file, for editors.
    Schema,
    /// Write out what was configured by API and UI on a running server: groups, keys' hashes, providers, models,
    /// prices, roles, rules.
    Export {
        /// Into this file. Default: stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// With providers' secrets, sealed under the passphrase in this file; `-` is stdin.
        #[arg(long, value_name = "FILE", requires = "output")]
        passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Make a new key for the secrets in the store and seal them anew.
    RotateDataKey {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Take over what `export` wrote, into a server that has nothing yet.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
        /// Also into one that has something: what has the same name is replaced.
        #[arg(long)]
        merge: bool,
        /// What the secrets in it were sealed with.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Runs the command; the answer goes to stdout, problems of `show` to stderr.
pub fn run(command: &ConfigCommand, env: &Env) -> ExitCode {
    if let ConfigCommand::Export { server, .. }
    | ConfigCommand::Import { server, .. }
    | ConfigCommand::RotateDataKey { server } = command
    {
        return run_with(command, server, env);
    }
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let done = match command {
        ConfigCommand::Check { file } => check(file, env, &mut out),
        ConfigCommand::Show { config, json } => {
            let file = settings::find_file(config.as_deref(), env);
            show(file.as_deref(), env, *json, &mut out, &mut err)
        }
        ConfigCommand::Schema => writeln!(out, "{:#}", settings::schema()).map(|()| true),
        // Done above, by the running server.
        ConfigCommand::Export { .. } | ConfigCommand::Import { .. } | ConfigCommand::RotateDataKey { .. } => {
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // Who reads our output may stop reading early, as `head` does: that is no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

impl Run for ConfigCommand {
    async fn run(&self, session: &Session<'_>) -> Result<(), Failure> {
        let Session { client, out, .. } = session;
        match self {
            ConfigCommand::Export { output: Some(path), passphrase_file: Some(file), .. } => {
                let body = json!({"passphrase": passphrase(file)?});
                let exported = client.post(&["admin", "export", "configuration"], &vec![], &body).await?;
                write_private(path, &format!("{exported:#}\n"))?;
                out.say(&format!("the configuration and its secrets are in {}", path.display()))
            }
            ConfigCommand::RotateDataKey { .. } => {
                let done =
                    client.post(&["admin", "rotate-data-key"], &vec![], &serde_json::Value::Null).await?;
                out.item(&[], &done)
            }
            ConfigCommand::Export { output, .. } => {
                let body = client.download(&["admin", "export", "configuration"], &vec![]).await?;
                out.save(body, output.as_deref()).await
            }
            ConfigCommand::Import { file, merge, passphrase_file, .. } => {
                let query = merge.then(|| ("mode", "merge".to_owned())).into_iter().collect();
                let path = ["admin", "import", "configuration"];
                let document = match passphrase_file {
                    None => read_file(file)?,
                    Some(of) => {
                        let mut read = parse_json(file)?;
                        if let Some(map) = read.as_object_mut() {
                            map.insert("passphrase".into(), passphrase(of)?.into());
                        }
                        read.to_string().into_bytes()
                    }
                };
                let done = client.upload(&path, &query, "application/json", document).await?;
                match done {
                    serde_json::Value::Null => out.say("the configuration is imported"),
                    done => out.item(&[], &done),
                }
            }
            // These look at files and not at a server.
            ConfigCommand::Check { .. } | ConfigCommand::Show { .. } | ConfigCommand::Schema => Ok(()),
        }
    }
}

/// The passphrase in a file, without the line's end.
fn passphrase(file: &Path) -> Result<String, Failure> {
    Ok(read_text(file)?.trim_end_matches(['\r', '\n']).to_owned())
}

/// A file that its owner alone reads.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::Setup(format!("`{}` cannot be written: {error}", path.display())))
}

fn check(file: &Path, env: &Env, out: &mut impl Write) -> io::Result<bool> {
    match settings::load(Some(file), env, &Flags::default()) {
        Ok(loaded) => {
            let (providers, models) = (loaded.settings.providers.len(), loaded.settings.models.len());
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            let name = file.display();
            let (p, m) = (plural(providers), plural(models));
            writeln!(out, "{name}: ok ({providers} provider{p}, {models} model{m})")?;
            Ok(true)
        }
        Err(problems) => print(&problems, out),
    }
}

fn show(
    file: Option<&Path>,
    env: &Env,
    as_json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<bool> {
    let loaded = match settings::load(file, env, &Flags::default()) {
        Ok(loaded) => loaded,
        Err(problems) => return print(&problems, err),
    };
    if as_json {
        let rows = loaded.show();
        let rows =
            rows.iter().map(|(path, value, origin)| json!({"path": path, "value": value, "origin": origin}));
        writeln!(out, "{:#}", serde_json::Value::from_iter(rows))?;
        return Ok(true);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING);
    for (path, value, origin) in loaded.show() {
        table.add_row([path, value, origin]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    for note in &loaded.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(true)
}

fn print(problems: &[Problem], to: &mut impl Write) -> io::Result<bool> {
    for problem in problems {
        writeln!(to, "{problem}")?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trunkline.yaml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn check_prints_every_problem_or_ok() {
        let (_dir, good) =
            file("providers: {lab: {kind: openai-compatible, base_url: 'http://127.0.0.1:1/v1'}}\n");
        let mut out = Vec::new();
        assert!(check(&good, &Env::default(), &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().ends_with("trunkline.yaml: ok (1 provider, 0 models)\n"));

        let (_dir, bad) = file("server:\n  lissten: x\n  threads: many\n");
        let mut out = Vec::new();
        assert!(!check(&bad, &Env::default(), &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("trunkline.yaml:2:3: server.lissten: unknown key `lissten` in `server`: did you mean `listen`?"), "{text}");
    }

    #[test]
    fn show_hides_secrets_and_names_origins() {
        let (_dir, path) = file("providers:\n  openai: {kind: openai, api_key: sk-secret}\n");
        let env = Env::from_iter([("REQUEST_TIMEOUT", "60")]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert!(show(Some(&path), &env, false, &mut out, &mut err).unwrap());
        let text = String::from_utf8(out).unwrap();
        let has = |words: [&str; 3]| {
            text.lines().any(|line| {
                line.split_whitespace().take(2).eq(words[..2].iter().copied()) && line.contains(words[2])
            })
        };
        assert!(has(["providers.openai.api_key", "***", "trunkline.yaml:2"]), "{text}");
        assert!(has(["resilience.request_timeout", "1m", "env REQUEST_TIMEOUT"]), "{text}");
        assert!(has(["resilience.retries", "3", "default"]), "{text}");
        assert!(text.contains("note: REQUEST_TIMEOUT=60 sets resilience.request_timeout"), "{text}");
        assert!(!text.contains("sk-secret"));

        let mut out = Vec::new();
        assert!(show(Some(&path), &env, true, &mut out, &mut err).unwrap());
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(json.as_array().unwrap().contains(
            &json!({"path": "resilience.request_timeout", "value": "1m", "origin": "env REQUEST_TIMEOUT"})
        ));
        assert!(err.is_empty());
    }
}
