//! `trunkline migrate`: bring the database to the schema of this program, or show what that would do.
//!
//! `serve` does the same when it starts. This is for those who want to see it first, or let somebody with other
//! rights on the database do it.

use std::fmt::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use store::{Db, Engine, MIGRATIONS, Migration};
use trunkline::settings::{self, Env, Flags, Settings};
use trunkline::wire;

/// The database in the data folder, as `wire::open_store` names it.
const SQLITE_FILE: &str = "trunkline.db";

/// Which database, and whether it is only looked at.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArgs {
    /// Print the steps that are left, with their SQL, and change nothing.
    #[arg(long)]
    plan: bool,
    /// The settings file. Default: `TRUNKLINE_CONFIG`, or `trunkline.yaml` when it is there.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The folder of everything that is kept.
    #[arg(long)]
    data_dir: Option<String>,
}

/// Runs it. Exit code 64 when the settings are wrong, 1 when the database cannot be reached or is too new.
pub fn run(args: &MigrateArgs, env: &Env) -> ExitCode {
    let file = settings::find_file(args.config.as_deref(), env);
    let flags = Flags { data_dir: args.data_dir.clone(), ..Flags::default() };
    let loaded = match settings::load(file.as_deref(), env, &flags) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            // EX_USAGE of sysexits.h, as `serve` ends with wrong settings.
            return ExitCode::from(64);
        }
    };
    let done = crate::cli::runtime()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(work(args.plan, &loaded.settings)));
    match done {
        Ok(text) => {
            // Who stops reading has read enough.
            drop(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn work(plan: bool, settings: &Settings) -> Result<String, String> {
    let data = &settings.data;
    let sqlite = data.store.expose() == "sqlite";
    if sqlite && !data.dir.join(SQLITE_FILE).exists() {
        if plan {
            // To open it would make it.
            return Ok(planned(MIGRATIONS, Engine::Sqlite));
        }
        make_folder(&data.dir)?;
    }
    let db = wire::open_store(settings).await.map_err(|error| error.to_string())?;
    let text = if plan { show(&db).await } else { migrate(&db).await };
    db.close().await;
    text
}

async fn show(db: &Db) -> Result<String, String> {
    let steps = db.pending_migrations().await.map_err(|error| error.to_string())?;
    Ok(planned(&steps, db.engine()))
}

async fn migrate(db: &Db) -> Result<String, String> {
    let steps = db.migrate().await.map_err(|error| error.to_string())?;
    if steps.is_empty() {
        return Ok("the database has the schema of this program already\n".into());
    }
    Ok(steps.iter().fold(String::new(), |mut text, step| {
        // A String takes everything.
        let _ = writeln!(text, "done: step {} ({})", step.version, step.name);
        text
    }))
}

fn planned(steps: &[Migration], engine: Engine) -> String {
    if steps.is_empty() {
        return "nothing to do: the database has the schema of this program\n".into();
    }
    steps.iter().fold(String::new(), |mut text, step| {
        let (version, name, engine) = (step.version, step.name, engine);
        let _ = writeln!(text, "-- step {version} ({name}), for {}", engine.as_str());
        let _ = writeln!(text, "-- {}\n{}\n", replicas(step), step.sql(engine).trim_end());
        text
    })
}

/// Whether replicas of the version before go on during and after this step. They do: a step only adds, and what is
/// no longer used is dropped two versions later (`store::migrate`).
fn replicas(step: &Migration) -> &'static str {
    match step.version {
        1 => "the database is empty: no replica uses it yet",
        _ => "replicas of the version before go on: this step only adds to what they know",
    }
}

/// The folder of everything that is kept, for its owner only, as `serve` makes it.
fn make_folder(dir: &Path) -> Result<(), String> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| format!("{}: {error}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_the_sql_of_the_engine() {
        for (engine, id) in [
            (Engine::Sqlite, "INTEGER PRIMARY KEY AUTOINCREMENT"),
            (Engine::Postgres, "AS IDENTITY PRIMARY KEY"),
        ] {
            let text = planned(MIGRATIONS, engine);
            assert!(text.starts_with(&format!(
                "-- step 1 (first), for {}\n-- the database is empty",
                engine.as_str()
            )));
            assert!(text.contains("CREATE TABLE groups") && text.contains(id), "{text}");
            assert!(!text.contains("{id}") && !text.contains("{bytes}"), "{text}");
        }
        assert!(planned(&[], Engine::Sqlite).starts_with("nothing to do"));
    }

    #[tokio::test]
    async fn a_plan_makes_nothing_and_migrating_makes_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.data.dir = dir.path().join("new/data");
        assert!(work(true, &settings).await.unwrap().contains("CREATE TABLE keys"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let done = work(false, &settings).await.unwrap();
        assert_eq!(done.lines().count(), MIGRATIONS.len(), "{done}");
        assert!(done.starts_with("done: step 1 (first)"), "{done}");
        assert!(work(true, &settings).await.unwrap().starts_with("nothing to do"));
        assert!(work(false, &settings).await.unwrap().contains("already"));
    }
}
