//! `links.jq_link`: lets a vCon pass, or not, by a program in jq's language. `links.jq` also changes it: what the
//! program `transform` makes of the vCon takes its place.

mod program;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;
use program::Program;

pub(super) const LINK_MODULE: &str = "links.jq_link";
pub(super) const LINK_OPTIONS: &[&str] = &["filter", "forward_matches"];
pub(super) const MODULE: &str = "links.jq";
pub(super) const OPTIONS: &[&str] = &["filter", "forward_matches", "transform", "timeout"];

/// How many runs may be lost to a program that does not end, before it is run no more.
const MOST_LOST: usize = 4;

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The program whose first result decides; what Python counts as true passes.
    filter: Option<String>,
    /// Whether those pass for which it is true, or the others.
    forward_matches: bool,
    /// The program whose first result replaces the vCon.
    transform: Option<String>,
    /// How long both may take.
    timeout: base::Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            filter: None,
            forward_matches: true,
            transform: None,
            timeout: base::Duration::from_secs(10),
        }
    }
}

struct Jq {
    module: &'static str,
    options: Options,
    filter: Option<Arc<Program>>,
    transform: Option<Arc<Program>>,
    lost: Arc<AtomicUsize>,
}

/// Makes `links.jq_link`.
pub(super) fn make_link(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let mut options: Options = options::read(LINK_MODULE, options, LINK_OPTIONS)?;
    options.transform = None;
    Ok(Box::new(Jq::new(LINK_MODULE, options)?))
}

/// Makes `links.jq`.
pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    if options.filter.is_none() && options.transform.is_none() {
        return Err(OptionsError::new("`filter` or `transform` must be a jq program"));
    }
    Ok(Box::new(Jq::new(MODULE, options)?))
}

impl Jq {
    fn new(module: &'static str, options: Options) -> Result<Self, OptionsError> {
        let compile = |option: &str, code: &Option<String>| match code {
            None => Ok(None),
            Some(code) => Program::compile(code)
                .map(|program| Some(Arc::new(program)))
                .map_err(|error| OptionsError::new(format!("`{option}` is not a jq program: {error}"))),
        };
        let (filter, transform) =
            (compile("filter", &options.filter)?, compile("transform", &options.transform)?);
        Ok(Jq { module, options, filter, transform, lost: Arc::default() })
    }

    /// Runs the programs on a thread for work that blocks. One that does not end cannot be stopped, only left behind.
    async fn results(&self, vcon: &Vcon) -> Result<Result<Results, String>, LinkError> {
        if self.lost.load(Ordering::Relaxed) >= MOST_LOST {
            let reason =
                "its program did not end in several runs, and is run again only after a restart or a change";
            return Err(LinkError::permanent(reason));
        }
        let (text, filter, transform) = (vcon.to_bytes(), self.filter.clone(), self.transform.clone());
        let forward = self.options.forward_matches;
        let run = Arc::new(Run { lost: self.lost.clone(), state: AtomicU8::new(RUNNING) });
        let _watch = Watch(run.clone());
        let work = tokio::task::spawn_blocking(move || {
            let results = evaluate(&text, filter.as_deref(), forward, transform.as_deref());
            run.done();
            results
        });
        match tokio::time::timeout(self.options.timeout.0, work).await {
            Ok(Ok(results)) => Ok(results),
            Ok(Err(_)) => Err(LinkError::permanent("its program came to a sudden end")),
            Err(_) => {
                let seconds = self.options.timeout.0.as_secs_f32();
                Err(LinkError::permanent(format!("its program did not end within {seconds} s")))
            }
        }
    }
}

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const LEFT: u8 = 2;

/// A run, which counts as lost from when it is left behind until it ends after all.
struct Run {
    lost: Arc<AtomicUsize>,
    state: AtomicU8,
}

impl Run {
    fn done(&self) {
        if self.state.swap(DONE, Ordering::Relaxed) == LEFT {
            self.lost.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Leaves a run behind when it is dropped before its end: at the time's limit, or when the worker stops.
struct Watch(Arc<Run>);

impl Drop for Watch {
    fn drop(&mut self) {
        let state = &self.0.state;
        if state.compare_exchange(RUNNING, LEFT, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Results {
    passes: bool,
    vcon: Option<Vec<u8>>,
}

fn evaluate(
    text: &[u8],
    filter: Option<&Program>,
    forward: bool,
    transform: Option<&Program>,
) -> Result<Results, String> {
    let mut results = Results { passes: true, vcon: None };
    if let Some(filter) = filter {
        let first = filter.first(text).map_err(|error| format!("filter: {error}"))?;
        results.passes = first.is_some_and(|first| program::is_true(&first)) == forward;
    }
    if let (true, Some(transform)) = (results.passes, transform) {
        let first = transform.first(text).map_err(|error| format!("transform: {error}"))?;
        results.vcon = Some(program::text(&first.ok_or("transform: it has no result")?));
    }
    Ok(results)
}

#[async_trait]
impl Link for Jq {
    fn module(&self) -> &'static str {
        self.module
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let meters = &context.environment.meters;
        let results = match self.results(vcon).await? {
            Ok(results) => results,
            Err(error) => {
                meters.count("link.jq.filter_errors", &context.link, 1);
                // The Conserver halts; what also changes vCons must not lose one silently.
                if self.module == LINK_MODULE {
                    tracing::warn!(link = &*context.link, vcon = vcon.uuid(), error, "the vCon is halted");
                    return Ok(Next::Halt);
                }
                return Err(LinkError::permanent(error));
            }
        };
        if !results.passes {
            meters.count("link.jq.vcon_filtered_out", &context.link, 1);
            return Ok(Next::Halt);
        }
        if let Some(text) = results.vcon {
            let wrong = |error| LinkError::permanent(format!("transform: its result is no vCon: {error}"));
            vcon.replace(text).map_err(wrong)?;
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing;

    async fn pass(options: Value) -> Result<Next, LinkError> {
        let link = make_link(options, &testing::environment()).unwrap();
        link.run(&mut testing::vcon(), &testing::context()).await
    }

    #[tokio::test]
    async fn the_first_result_decides_as_python_sees_it() {
        for (filter, passes) in [
            (".", true),
            (".subject == \"A call\"", true),
            (".parties | length > 5", false),
            ("empty", false),
            ("0", false),
            ("0.0", false),
            ("\"\"", false),
            ("[]", false),
            ("{}", false),
            ("[0]", true),
            ("false, true", false),
            ("any(.parties[]; .role == \"agent\")", true),
            (".subject | test(\"^a call$\"; \"i\")", true),
            ("error(\"x\")", false),
        ] {
            let next = if passes { Next::Continue } else { Next::Halt };
            assert_eq!(pass(json!({"filter": filter})).await.unwrap(), next, "{filter}");
        }
        assert_eq!(pass(json!({"filter": "false", "forward_matches": false})).await.unwrap(), Next::Continue);
        assert_eq!(pass(json!({"filter": "true", "forward_matches": false})).await.unwrap(), Next::Halt);
        assert_eq!(pass(Value::Null).await.unwrap(), Next::Continue);
    }

    #[test]
    fn a_program_that_cannot_be_is_refused_when_it_is_read() {
        for wrong in [".[", "nonesuch", "$x", "."] {
            let options = if wrong == "." { json!({}) } else { json!({"filter": wrong}) };
            let error = make(options, &testing::environment()).err().map(|error| error.to_string());
            assert!(error.is_some(), "{wrong}");
        }
        assert!(make_link(Value::Null, &testing::environment()).is_ok());
    }

    #[tokio::test]
    async fn a_transform_takes_the_place_of_the_vcon() {
        let options = json!({"filter": ".subject", "transform": ".subject |= ascii_upcase | .parties |= map(del(.tel)) | .n = 1.50"});
        let link = make(options, &testing::environment()).unwrap();
        let mut vcon = testing::vcon();
        assert_eq!(link.run(&mut vcon, &testing::context()).await.unwrap(), Next::Continue);
        let value = vcon.to_value();
        assert_eq!(
            (&value["subject"], &value["parties"][0]),
            (&json!("A CALL"), &json!({"name": "Ann", "role": "customer"}))
        );
        assert_eq!(vcon.keys().next(), Some("vcon"), "the members keep their order");

        for wrong in ["empty", "1", "del(.uuid)", "error", ".uuid = \"018e3d10-0c1f-8d8c-9b1a-000000000000\""]
        {
            let link = make(json!({"transform": wrong}), &testing::environment()).unwrap();
            let error = link.run(&mut testing::vcon(), &testing::context()).await.unwrap_err();
            assert!(matches!(error, LinkError::Permanent(_)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_left_behind_and_then_run_no_more() {
        // It does end, so that the test does; for the link it is as good as never.
        let options = json!({"filter": "[range(2000000)] | length", "timeout": "1ms"});
        let link = make(options, &testing::environment()).unwrap();
        let error = link.run(&mut testing::vcon(), &testing::context()).await.unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");

        let options = Options { filter: Some(".".into()), ..Options::default() };
        let link = Jq::new(MODULE, options).unwrap();
        let run = |state| Arc::new(Run { lost: link.lost.clone(), state: AtomicU8::new(state) });
        let left: Vec<_> =
            (0..MOST_LOST).map(|_| run(RUNNING)).inspect(|run| drop(Watch(run.clone()))).collect();
        let error = link.run(&mut testing::vcon(), &testing::context()).await.unwrap_err();
        assert!(error.to_string().contains("several runs"), "{error}");
        left[0].done();
        drop(Watch(run(DONE)));
        assert_eq!(link.lost.load(Ordering::Relaxed), MOST_LOST - 1);
        assert_eq!(link.run(&mut testing::vcon(), &testing::context()).await.unwrap(), Next::Continue);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn the_identity_changes_no_text_and_no_number(subject in "\\PC{0,40}", number in any::<f64>(), whole in any::<i128>()) {
            prop_assume!(number.is_finite());
            let mut vcon = testing::vcon();
            vcon.set("subject", subject);
            vcon.set("x", number);
            vcon.set_raw("whole", serde_json::value::RawValue::from_string(whole.to_string()).unwrap());
            let program = Program::compile(".").unwrap();
            let same = program::text(&program.first(&vcon.to_bytes()).unwrap().unwrap());
            let same = Vcon::parse(same).unwrap();
            prop_assert_eq!(same.get("whole").unwrap().get(), whole.to_string());
            prop_assert_eq!(same.to_value(), vcon.to_value());
        }
    }
}
