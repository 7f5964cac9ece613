use std::collections::BTreeMap;

use base::{Duration, Secret};
use proptest::prelude::*;
use serde::Deserialize;

use super::super::tree::{Source, parse};
use super::super::{Settings, validate};
use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    number: u16,
    ratio: f64,
    flag: bool,
    text: String,
    maybe: Option<u32>,
    wait: Option<Duration>,
    list: Vec<u8>,
    inner: BTreeMap<String, Inner>,
    secret: Option<Secret>,
    choice: Option<Choice>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    must: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Choice {
    Text,
    Json,
}

fn tree(text: &str) -> Node {
    let (node, problems) = parse(text, &Source::File("t.yaml"));
    assert_eq!(problems, []);
    node.unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let _ = decode::<Sample>(&mut tree(text), &mut found);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn a_text_is_what_is_asked_for() {
    let text = "number: 8\nratio: 1\nflag: true\ntext: 8\nmaybe: ~\nwait: 30s\nlist: [1, 2]\n\
                inner: {a: {must: x}}\nchoice: json\n";
    let mut found = Vec::new();
    let sample: Sample = decode(&mut tree(text), &mut found).unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert_eq!((sample.number, sample.text.as_str(), sample.maybe), (8, "8", None));
    assert_eq!((sample.ratio, sample.flag, sample.list), (1.0, true, vec![1, 2]));
    assert_eq!(sample.choice, Some(Choice::Json));
    assert_eq!(sample.wait, Some(Duration::from_secs(30)));
}

#[test]
fn a_section_whose_lines_are_commented_out_is_empty() {
    assert!(problems("inner:\nlist:\n").is_empty());
}

#[test]
fn says_what_was_expected_and_what_was_found() {
    for (text, expected) in [
        ("number: 70000", "t.yaml:1:9: number: expected a whole number from 0 to 65535, found `70000`"),
        ("number: -1", "found `-1`"),
        ("number: '8'", "expected a whole number from 0 to 65535, found a text: leave out the quotes"),
        ("number: many", "found `many`"),
        ("number: 1.5", "found `1.5`"),
        ("number: [1]", "found a list"),
        ("ratio: .nan", "expected a number, found `.nan`"),
        ("flag: 'true'", "expected `true` or `false`, found `true`"),
        ("flag: yes", "expected `true` or `false`, found `yes`"),
        ("text: {a: b}", "expected a string, found a map of keys"),
        ("text:", "expected a string, found nothing"),
        ("wait: 30", "`30` is not a duration: write a whole number and a unit"),
        ("list: 5", "expected a list, found `5`"),
        ("list: [1, 900]", "list[1]: expected a whole number from 0 to 255"),
        ("inner: {a: {}}", "inner.a: the key `must` is missing"),
        (
            "inner: {a: {must: x, mus: y}}",
            "inner.a.mus: unknown key `mus` in `inner.a`: did you mean `must`?",
        ),
        ("choice: jsn", "`jsn` is not accepted: expected `text` or `json`: did you mean `json`?"),
        ("choice: [json]", "expected one of text, json, found a list"),
        ("nummer: 1", "t.yaml:1:1: nummer: unknown key `nummer`: did you mean `number`?"),
        ("[1]", "expected a map of keys, found a list"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
    }
}

#[test]
fn every_mistake_is_reported_once() {
    let found = problems("number: x\nbogus: 1\nlist: [1, x, y]\ninner: {a: {must: [x]}, b: {}}\n");
    let lines = found.join("\n");
    assert_eq!(found.len(), 6, "{lines}");
    for part in ["number:", "bogus:", "list[1]:", "list[2]:", "inner.a.must:", "inner.b: the key `must`"] {
        assert!(lines.contains(part), "{part} in\n{lines}");
    }
}

#[test]
fn gives_up_after_a_hundred() {
    let text: String = (0..500).map(|n| format!("bogus{n}: 1\n")).collect();
    let found = problems(&text);
    assert_eq!(found.len(), MAX_PROBLEMS + 1);
}

#[test]
fn a_value_from_the_environment_is_never_repeated() {
    for key in ["number", "ratio", "flag", "maybe", "wait", "list", "inner", "choice"] {
        let mut tree = Node::map(Origin::Default(""));
        tree.set(&Path::of(key), Node::hidden("sk-secret", Origin::Env("KEY".into()))).unwrap();
        let mut found = Vec::new();
        let _ = decode::<Sample>(&mut tree, &mut found);
        assert_eq!(found.len(), 1, "{key}");
        let line = found[0].to_string();
        assert!(line.starts_with(&format!("env KEY: {key}: ")) && !line.contains("sk-secret"), "{line}");
    }
}

#[test]
fn a_secret_of_the_wrong_shape_is_not_repeated() {
    let found = problems("secret: {a: sk-secret}");
    assert!(found.len() == 1 && !found[0].contains("sk-secret"), "{found:?}");
}

proptest! {
    #[test]
    fn arbitrary_yaml_never_panics(text in yaml()) {
        if let (Some(mut tree), _) = parse(&text, &Source::File("t.yaml")) {
            let mut found = Vec::new();
            if let Some(settings) = decode::<Settings>(&mut tree, &mut found) {
                validate::validate(&settings, &tree, &mut found);
            }
        }
    }
}

/// Files that are nearly settings: known keys and likely values in any shape.
fn yaml() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "server",
        "listen",
        "listeners",
        "addr",
        "roles",
        "tls",
        "metrics",
        "providers",
        "openai",
        "kind",
        "api_key",
        "base_url",
        "headers",
        "models",
        "smart",
        "targets",
        "provider",
        "model",
        "context_fallback",
        "resilience",
        "retries",
        "backoff",
        "breaker",
        "failures",
        "telemetry",
        "log",
        "level",
        "otlp",
        "endpoint",
        "sample_ratio",
        "data",
        "dir",
        "bogus",
    ]);
    let value = prop::sample::select(vec![
        "",
        "~",
        "8",
        "-1",
        "1e400",
        "true",
        "30s",
        "99999999d",
        "'x'",
        "\"\"",
        "openai",
        "demo",
        "gateway",
        "127.0.0.1:0",
        "http://a/?b",
        "smart",
        "lab/x",
        "info,=",
        "${X}",
        "*a",
        "&a 1",
        "[",
        "|",
    ]);
    let line = (0..4_usize, key, value, prop::sample::select(vec!["", "- "]));
    prop::collection::vec(line, 0..30).prop_map(|lines| {
        let line = |(depth, key, value, dash): &(usize, &str, &str, &str)| {
            format!("{}{dash}{key}: {value}\n", "  ".repeat(*depth))
        };
        lines.iter().map(line).collect()
    })
}
