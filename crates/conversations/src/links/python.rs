//! `links.python`: runs a link module that was written for the Conserver, `run(vcon_uuid, link_name, opts)`, by Python
//! and a small program of ours (`deploy/python/conserver_link.py`) that gives it what the Conserver gave it.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base::ByteSize;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exec::{self, NEVER};
use super::shared::process::{self, Limits};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.python";
pub(super) const OPTIONS: &[&str] =
    &["module", "options", "pip_name", "path", "python", "environment", "timeout", "memory", "max_output"];

/// The variable with the interpreter, which also lets modules that we do not know be links.
const INTERPRETER: &str = "CONSERVER_PYTHON";
/// The variable with folders for it, parted by colons.
const FOLDERS: &str = "CONSERVER_PYTHON_PATH";

const SHIM: &str = include_str!("../../../../deploy/python/conserver_link.py");

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The link's module, or the path of its file. Must be given.
    module: String,
    /// What the link is given as its options.
    options: Value,
    /// The package that has the module, for the message when it is missing. Nothing is installed by us.
    pip_name: Option<String>,
    /// Folders in which modules are looked for, before those that Python knows.
    path: Vec<PathBuf>,
    /// The interpreter; else the variable `CONSERVER_PYTHON`, else `python3`.
    python: Option<String>,
    /// Further variables for it. Of ours it sees only `PATH` and the like.
    environment: serde_json::Map<String, Value>,
    /// How long it may run.
    timeout: base::Duration,
    /// How much memory it may have.
    memory: Option<ByteSize>,
    /// How much it may answer.
    max_output: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            module: String::new(),
            options: Value::Null,
            pip_name: None,
            path: Vec::new(),
            python: None,
            environment: serde_json::Map::new(),
            timeout: base::Duration::from_secs(300),
            memory: Some(ByteSize(2 << 30)),
            max_output: ByteSize(64 << 20),
        }
    }
}

struct Python {
    options: Options,
    interpreter: String,
    variables: Vec<(String, String)>,
    limits: Limits,
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let mut options: Options = options::read(MODULE, options, OPTIONS)?;
    if options.module.is_empty() {
        return Err(OptionsError::new("`module` must name the link's module, as my_links.one, or its file"));
    }
    let given = |name: &str| environment.variables.get(name);
    let interpreter =
        options.python.take().or_else(|| given(INTERPRETER)).unwrap_or_else(|| "python3".into());
    if options.path.is_empty() {
        options.path = given(FOLDERS).iter().flat_map(|folders| std::env::split_paths(folders)).collect();
    }
    let variables = exec::variables(&options.environment);
    let limits = exec::limits(options.timeout.0, options.memory, options.max_output);
    Ok(Box::new(Python { options, interpreter, variables, limits }))
}

/// A link of a module that we do not know, where the operator has said that such modules are Python's.
pub(super) fn unknown(
    module: &str,
    options: &Value,
    environment: &Environment,
) -> Option<Result<Box<dyn Link>, OptionsError>> {
    environment.variables.get(INTERPRETER)?;
    Some(make(json!({"module": module, "options": options}), environment))
}

/// What the program answers.
#[derive(Debug, Deserialize)]
struct Answer {
    next: Step,
    uuid: Option<String>,
    vcon: Option<Box<serde_json::value::RawValue>>,
    others: Vec<Box<serde_json::value::RawValue>>,
    routes: Vec<String>,
    keep: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Continue,
    Halt,
    Replace,
}

impl Python {
    fn question(&self, vcon: &Vcon, context: &LinkContext) -> Result<Bytes, LinkError> {
        let options = &self.options;
        let mut question = json!({
            "module": options.module,
            "link_name": &*context.link,
            "options": options.options,
            "pip_name": options.pip_name,
            "path": options.path,
        })
        .to_string();
        // The vCon goes in as the text that it is.
        question.pop();
        let vcon = vcon.to_bytes();
        let vcon = std::str::from_utf8(&vcon).map_err(|_| LinkError::permanent("the vCon is not UTF-8"))?;
        Ok(format!("{question},\"vcon\":{vcon}}}").into())
    }
}

#[async_trait]
impl Link for Python {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let command = [self.interpreter.clone(), "-c".into(), SHIM.into()];
        let mut variables = self.variables.clone();
        variables
            .push(("TRACEPARENT".into(), String::from_utf8_lossy(&context.trace.to_header()).into_owned()));
        let ended =
            process::run(&command, &variables, None, self.question(vcon, context)?, self.limits).await?;
        match ended.code {
            Some(0) => {}
            Some(NEVER) => return Err(LinkError::permanent(ended.last_line())),
            Some(code) => {
                return Err(LinkError::temporary(format!(
                    "its program exits with {code}: {}",
                    ended.last_line()
                )));
            }
            None => return Err(LinkError::temporary("its program was ended by a signal")),
        }
        let answer: Answer = serde_json::from_slice(&ended.stdout)
            .map_err(|_| LinkError::permanent("the program for Python links answers in another form"))?;
        let wrong = |error| LinkError::permanent(format!("what the link stores is no vCon: {error}"));
        if let Some(text) = answer.vcon {
            vcon.replace(text.get().as_bytes().to_vec()).map_err(wrong)?;
        }
        for other in &answer.others {
            context.fork(Vcon::parse(other.get().as_bytes().to_vec()).map_err(wrong)?, Vec::new());
        }
        answer.routes.into_iter().for_each(|list| context.route(list));
        if let Some(seconds) = answer.keep {
            context.keep(Some(Duration::from_secs(seconds)));
        }
        match (answer.next, answer.uuid) {
            (Step::Halt, _) => Ok(Next::Halt),
            (Step::Replace, Some(uuid)) => Ok(Next::Replace(uuid)),
            _ => Ok(Next::Continue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Variables;
    use crate::testing;

    /// A folder with a link in the Conserver's style, or none where there is no Python.
    fn folder(code: &str) -> Option<tempfile::TempDir> {
        if std::process::Command::new("python3").arg("-c").arg("").status().is_err() {
            assert!(std::env::var_os("TRUNKLINE_REQUIRE_SERVICES").is_none(), "python3 is required");
            println!("skipped: no python3 on the PATH");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("my_link.py"), code).unwrap();
        Some(folder)
    }

    const LINK: &str = r#"
from lib.vcon_redis import VconRedis
from lib.logging_utils import init_logger
from lib.metrics import increment_counter
from redis_mgr import redis
logger = init_logger(__name__)
default_options = {"name": "default", "then": "continue"}

def run(vcon_uuid, link_name, opts=default_options):
    print("this must not disturb")
    opts = {**default_options, **opts}
    store = VconRedis()
    vcon = store.get_vcon(vcon_uuid)
    vcon.add_tag(link_name, opts["name"])
    vcon.add_analysis(type="mine", dialog=0, vendor="me", body={"a": 1}, extra={"x": 2})
    store.store_vcon(vcon)
    redis.rpush("other_list", vcon_uuid)
    redis.expire("vcon:" + vcon_uuid, 60)
    increment_counter("x", attributes={})
    if opts["then"] == "fail":
        raise KeyError("missing")
    if opts["then"] == "replace":
        new = vcon.to_dict()
        new["uuid"] = "018e3d10-0c1f-8d8c-9b1a-000000000002"
        store.store_vcon_dict(new)
        return new["uuid"]
    return vcon_uuid if opts["then"] == "continue" else None
"#;

    async fn run(options: Value) -> (Result<Next, LinkError>, Vcon, LinkContext) {
        let link = make(options, &testing::environment()).unwrap();
        let (mut vcon, context) = (testing::vcon(), testing::context());
        let next = link.run(&mut vcon, &context).await;
        (next, vcon, context)
    }

    #[tokio::test]
    async fn a_link_of_the_conserver_s_runs_as_it_is() {
        let Some(folder) = folder(LINK) else { return };
        let (next, vcon, context) =
            run(json!({"module": "my_link", "path": [folder.path()], "options": {"name": "given"}})).await;
        assert_eq!(next.unwrap(), Next::Continue);
        assert_eq!(vcon.tag("a_link").as_deref(), Some("given"));
        let made = serde_json::to_value(&vcon.analysis()[0]).unwrap();
        assert_eq!(
            made,
            json!({"type": "mine", "dialog": 0, "vendor": "me", "body": "{\"a\": 1}", "encoding": "json", "x": 2})
        );
        let effects = context.take_effects();
        assert_eq!(
            (effects.routes, effects.keep),
            (vec!["other_list".to_owned()], Some(Some(Duration::from_secs(60))))
        );

        // Without options it has its own defaults; by the path of its file it is found too.
        let (next, vcon, _) = run(json!({"module": folder.path().join("my_link.py")})).await;
        next.unwrap();
        assert_eq!(vcon.tag("a_link").as_deref(), Some("default"));
    }

    #[tokio::test]
    async fn what_it_returns_decides() {
        let Some(folder) = folder(LINK) else { return };
        let options =
            |then: &str| json!({"module": "my_link", "path": [folder.path()], "options": {"then": then}});
        assert_eq!(run(options("halt")).await.0.unwrap(), Next::Halt);
        let (next, _, context) = run(options("replace")).await;
        assert_eq!(next.unwrap(), Next::Replace("018e3d10-0c1f-8d8c-9b1a-000000000002".into()));
        assert_eq!(context.take_effects().forks.len(), 1);
        let error = run(options("fail")).await.0.unwrap_err();
        assert!(
            matches!(&error, LinkError::Temporary { reason, .. } if reason.contains("KeyError: 'missing'")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_its_package() {
        let Some(folder) = folder("import no_such_library\ndef run(*a): pass\n") else { return };
        let options = json!({"module": "my_link", "path": [folder.path()], "pip_name": "the-package"});
        let error = run(options).await.0.unwrap_err();
        let LinkError::Permanent(text) = &error else { panic!("{error}") };
        assert!(text.contains("no_such_library") && text.contains("-m pip install the-package"), "{text}");
        assert!(make(json!({}), &testing::environment()).is_err());
    }

    #[tokio::test]
    async fn an_unknown_module_is_python_s_where_that_is_said() {
        let Some(folder) = folder(LINK) else { return };
        let path = folder.path().to_str().unwrap().to_owned();
        let mut environment = testing::environment();
        assert!(super::super::make("my_link", Value::Null, &environment).is_err());
        environment.variables = Variables::new(move |name| match name {
            "CONSERVER_PYTHON" => Some("python3".into()),
            "CONSERVER_PYTHON_PATH" => Some(path.clone()),
            _ => None,
        });
        let link = super::super::make("my_link", Value::Null, &environment).unwrap();
        let mut vcon = testing::vcon();
        link.run(&mut vcon, &testing::context()).await.unwrap();
        assert_eq!(vcon.tag("a_link").as_deref(), Some("default"));
    }
}
