use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Node, Vec<String>> {
    match parse(text, &Source::File("t.yaml")) {
        (Some(node), problems) if problems.is_empty() => Ok(node),
        (_, problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

fn at<'a>(node: &'a Node, path: &str) -> &'a Node {
    node.find(&Path::of(path)).unwrap_or_else(|| panic!("{path}"))
}

#[test]
fn keeps_text_quotes_and_places() {
    let tree = read("server:\n  listen: 127.0.0.1:8080\n  name: \"8\"\nlist: [a, 'b']\n").unwrap();
    let listen = at(&tree, "server.listen");
    assert_eq!(listen.text(), Some("127.0.0.1:8080"));
    assert_eq!(listen.origin, Origin::File { path: "t.yaml".into(), line: 2, column: 11 });
    let plain = |node: &Node| matches!(&node.value, Value::Scalar(scalar) if scalar.plain);
    assert!(plain(listen) && !plain(at(&tree, "server.name")));
    let item = tree.find(&Path::of("list").index(1)).unwrap();
    assert_eq!((item.text(), plain(item)), (Some("b"), false));
}

#[test]
fn nothing_is_an_empty_map() {
    for text in ["", "\n# a comment\n", "---\n", "null\n", "\u{feff}"] {
        assert_eq!(read(text).unwrap().value, Value::Map(Vec::new()), "{text:?}");
    }
}

#[test]
fn aliases_are_copies() {
    let tree = read("a: &x {b: 1}\nc: *x\n").unwrap();
    assert_eq!(at(&tree, "c.b").text(), Some("1"));
    assert_eq!(at(&tree, "c.b").origin.short(), "t.yaml:1");
}

#[test]
fn refuses_clearly_with_the_line() {
    let deep = format!("a: {}{}", "[".repeat(70), "]".repeat(70));
    let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..9).map(|n| {
            let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
            format!("a{n}: &a{n} [{aliases}]\n")
        }))
        .collect();
    for (text, expected) in [
        ("a: 1\nb: 2\na: 3\n", "t.yaml:3:1: the key `a` is written twice, first on line 1"),
        ("a: 1\n---\nb: 2\n", "t.yaml:2:1: a second document"),
        ("a:\n\tb: 1\n", "t.yaml:2"),
        ("a: [1, 2\n", "is not YAML"),
        ("base: &b {x: 1}\na:\n  <<: *b\n", "t.yaml:3:3: merge keys"),
        ("a: !secret x\n", "t.yaml:1:4: the tag `!secret` means nothing here"),
        ("{a: b}: c\n", "a key must be one word"),
        ("a: *nobody\n", "is not YAML"),
        ("a: &a [*a]\n", "alias"),
        (&deep, "nested deeper than 64 levels"),
        (&bomb, "more than 100000 values"),
    ] {
        let problems = read(text).unwrap_err().join("\n");
        assert!(problems.contains(expected), "{text:.60}\n  expected {expected}\n  got {problems}");
    }
}

#[test]
fn tabs_have_their_advice() {
    let problems = read("a:\n\tb: 1\n").unwrap_err().join("\n");
    assert!(problems.contains("spaces") || problems.contains("tab"), "{problems}");
}

#[test]
fn every_duplicate_is_reported_and_the_first_kept() {
    let (tree, problems) = parse("a: 1\na: 2\nb: 3\nb: 4\n", &Source::File("t.yaml"));
    assert_eq!(problems.len(), 2);
    assert_eq!(at(&tree.unwrap(), "a").text(), Some("1"));
}

#[test]
fn sets_and_removes_by_path() {
    let mut tree = read("a: {b: 1}\nempty:\ntext: x\n").unwrap();
    let origin = Origin::Env("X".into());
    let new = || Node::hidden("2", origin.clone());
    tree.set(&Path::of("a.c"), new()).unwrap();
    tree.set(&Path::of("empty.d.e"), new()).unwrap();
    assert_eq!(at(&tree, "a.b").text(), Some("1"));
    assert_eq!(at(&tree, "empty.d.e").text(), Some("2"));
    assert_eq!(tree.set(&Path::of("text.y"), new()).unwrap_err(), Path::of("text"));
    assert!(tree.remove(&Path::of("a.b")).is_some() && tree.find(&Path::of("a.b")).is_none());
}

#[test]
fn values_from_the_environment_are_not_in_debug_output() {
    let node = Node::hidden("sk-secret", Origin::Env("KEY".into()));
    assert!(!format!("{node:?}").contains("sk-secret"));
}

proptest! {
    #[test]
    fn never_panics(text in "[ a-c:\\-\\[\\]{}&*!|>'\"#%@`,?\n\t0-9~<$\\\\]{0,200}") {
        let _ = parse(&text, &Source::File("t.yaml"));
    }
}
