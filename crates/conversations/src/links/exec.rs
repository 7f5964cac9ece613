//! `links.exec`: a link in any language. A program gets the vCon on its standard input and writes the changed one to
//! its standard output; nothing written leaves the vCon as it is, `null` halts the chain, a vCon of another uuid
//! takes this one's place. Exit codes: 0 done, 65 (`EX_DATAERR`) never for this vCon, any other one try again.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base::ByteSize;
use serde::Deserialize;
use serde_json::Value;

use super::shared::process::{self, Limits};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.exec";
pub(super) const OPTIONS: &[&str] =
    &["command", "environment", "directory", "timeout", "memory", "max_output"];

/// `EX_DATAERR` of sysexits.h: the input was wrong.
pub(super) const NEVER: i32 = 65;

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The program and its arguments; a single text is given to `/bin/sh -c`.
    command: Command,
    /// Further variables for it. Of ours it sees only `PATH` and the like.
    environment: serde_json::Map<String, Value>,
    /// The folder it runs in.
    directory: Option<PathBuf>,
    /// How long it may run.
    timeout: base::Duration,
    /// How much memory each of its processes may have.
    memory: Option<ByteSize>,
    /// How much it may write.
    max_output: ByteSize,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    Shell(String),
    Words(Vec<String>),
}

impl Default for Options {
    fn default() -> Self {
        Options {
            command: Command::Words(Vec::new()),
            environment: serde_json::Map::new(),
            directory: None,
            timeout: base::Duration::from_secs(60),
            memory: Some(ByteSize(1 << 30)),
            max_output: ByteSize(64 << 20),
        }
    }
}

struct Exec {
    command: Vec<String>,
    variables: Vec<(String, String)>,
    directory: Option<PathBuf>,
    limits: Limits,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let command = match options.command {
        Command::Shell(script) if !script.trim().is_empty() => vec!["/bin/sh".into(), "-c".into(), script],
        Command::Words(words) if !words.is_empty() => words,
        _ => return Err(OptionsError::new("`command` must be the program to run and its arguments")),
    };
    let limits = limits(options.timeout.0, options.memory, options.max_output);
    let variables = variables(&options.environment);
    Ok(Box::new(Exec { command, variables, directory: options.directory, limits }))
}

/// What a program may use.
pub(super) fn limits(time: Duration, memory: Option<ByteSize>, output: ByteSize) -> Limits {
    Limits {
        time,
        memory: memory.map(|memory| memory.0),
        output: usize::try_from(output.0).unwrap_or(usize::MAX),
    }
}

/// Variables from options; what is no text is written as JSON.
pub(super) fn variables(map: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// What a program or service made of a vCon: see the module.
pub(super) fn take(answer: &[u8], vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
    let answer = answer.trim_ascii();
    match answer {
        b"" => return Ok(Next::Continue),
        b"null" => return Ok(Next::Halt),
        _ => {}
    }
    let wrong = |error| LinkError::permanent(format!("what it answers is no vCon: {error}"));
    let other = Vcon::parse(answer.to_vec()).map_err(wrong)?;
    if other.uuid() == vcon.uuid() {
        vcon.replace(answer.to_vec()).map_err(wrong)?;
        return Ok(Next::Continue);
    }
    let uuid = other.uuid().to_owned();
    context.fork(other, Vec::new());
    Ok(Next::Replace(uuid))
}

#[async_trait]
impl Link for Exec {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let mut variables = self.variables.clone();
        variables.push(("TRUNKLINE_LINK".into(), context.link.to_string()));
        variables.push(("TRUNKLINE_CHAIN".into(), context.chain.to_string()));
        variables.push(("TRUNKLINE_VCON".into(), vcon.uuid().to_owned()));
        variables
            .push(("TRACEPARENT".into(), String::from_utf8_lossy(&context.trace.to_header()).into_owned()));
        let directory = self.directory.as_deref();
        let ended = process::run(&self.command, &variables, directory, vcon.to_bytes(), self.limits).await?;
        let reason = || match ended.code {
            Some(code) => format!("its program exits with {code}: {}", ended.last_line()),
            None => "its program was ended by a signal".to_owned(),
        };
        match ended.code {
            Some(0) => take(&ended.stdout, vcon, context),
            Some(NEVER) => Err(LinkError::permanent(reason())),
            _ => Err(LinkError::temporary(reason())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    async fn run(options: Value) -> (Result<Next, LinkError>, Vcon, LinkContext) {
        let link = make(options, &testing::environment()).unwrap();
        let (mut vcon, context) = (testing::vcon(), testing::context());
        let next = link.run(&mut vcon, &context).await;
        (next, vcon, context)
    }

    #[tokio::test]
    async fn a_program_changes_the_vcon() {
        let (next, vcon, _) = run(json!({"command": ["/bin/sed", "s/A call/B call/"]})).await;
        assert_eq!((next.unwrap(), &*vcon.text("subject").unwrap()), (Next::Continue, "B call"));
    }

    #[tokio::test]
    async fn nothing_null_and_another_vcon_each_mean_something() {
        let (next, vcon, _) = run(json!({"command": "exit 0"})).await;
        assert_eq!(next.unwrap(), Next::Continue);
        assert!(!vcon.is_changed());
        let (next, _, _) = run(json!({"command": "cat > /dev/null; echo null"})).await;
        assert_eq!(next.unwrap(), Next::Halt);
        let uuid = "018e3d10-0c1f-8d8c-9b1a-000000000001";
        let (next, vcon, context) =
            run(json!({"command": "sed s/018e3d10-[0-9a-f-]*/$ID/", "environment": {"ID": uuid}})).await;
        assert_eq!(next.unwrap(), Next::Replace(uuid.into()));
        assert!(!vcon.is_changed());
        let effects = context.take_effects();
        assert_eq!((effects.forks[0].0.uuid(), effects.forks[0].1.len()), (uuid, 0));
    }

    #[tokio::test]
    async fn failures_say_whether_another_attempt_helps() {
        for (command, temporary) in [
            ("echo broken >&2; exit 1", true),
            ("echo broken >&2; exit 65", false),
            ("kill -9 $$", true),
            ("echo '{'", false),
            ("echo '{\"vcon\":\"0.4.0\"}'", false),
            ("exec /no/such/program", true),
        ] {
            let (next, _, _) = run(json!({"command": command})).await;
            let error = next.unwrap_err();
            assert_eq!(matches!(error, LinkError::Temporary { .. }), temporary, "{command}: {error}");
        }
        let (next, _, _) = run(json!({"command": "cat", "max_output": "10B"})).await;
        assert!(matches!(next, Err(LinkError::Permanent(_))));
        assert!(make(json!({"command": []}), &testing::environment()).is_err());
        assert!(make(Value::Null, &testing::environment()).is_err());
    }

    #[tokio::test]
    async fn it_sees_where_it_is_and_none_of_our_secrets() {
        let script = r#"printf '{"vcon":"0.4.0","uuid":"%s","seen":"%s %s %s"}' $TRUNKLINE_VCON $TRUNKLINE_LINK $TRUNKLINE_CHAIN ${CARGO_PKG_NAME:-nothing}"#;
        let (next, vcon, _) = run(json!({"command": script})).await;
        next.unwrap();
        assert_eq!(vcon.text("seen").unwrap(), "a_link a_chain nothing");
    }
}
