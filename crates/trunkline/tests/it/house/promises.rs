//! `docs/promises.md` is the list of what Trunkline promises: each promise is kept somewhere and proved by
//! tests named after it (`promise_c07_…`), or it is planned. Here the list is held to the sources.

use std::collections::{BTreeMap, BTreeSet};

use super::{root, sources, text};

/// The families of promises, and how many each has: C01 to C17, and so on.
const FAMILIES: [(char, u8); 5] = [('C', 17), ('V', 17), ('D', 14), ('R', 15), ('P', 20)];

/// How many promises may still be planned. This number may only fall: lower it in the change that keeps one.
const CEILING: usize = 46;

/// A row of the table.
struct Row {
    id: String,
    /// The paths where it is kept; none when it is planned.
    kept: Vec<String>,
    /// The functions that prove it.
    tests: BTreeSet<String>,
}

impl Row {
    fn planned(&self) -> bool {
        self.kept.is_empty()
    }
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn rows() -> Vec<Row> {
    let is_id = |cell: &str| {
        let digits = cell.strip_prefix(|family| FAMILIES.iter().any(|(known, _)| *known == family));
        digits.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
    };
    let mut rows = Vec::new();
    for line in text("docs/promises.md").lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') || !is_id(cells[0]) {
            continue;
        }
        let [id, promise, kept, tests] = cells[..] else {
            panic!("{} has not four columns: {line}", cells[0])
        };
        assert!(!promise.is_empty(), "{id} does not say what is promised");
        let row = Row { id: id.to_owned(), kept: quoted(kept).collect(), tests: quoted(tests).collect() };
        assert_eq!(
            row.planned(),
            kept == "planned",
            "{id} names paths in backticks, or is `planned`: {kept:?}"
        );
        rows.push(row);
    }
    rows
}

/// The tests named after promises in the sources, by id: `fn promise_c07_…` in Rust, `def test_promise_c07_…`
/// in Python.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(&["crates", "e2e"], &[".rs", ".py"]) {
        let text = text(&file);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("def test_")) else {
                continue;
            };
            let Some(id) = rest.strip_prefix("promise_").and_then(|rest| rest.split('_').next()) else {
                continue;
            };
            let name = line.split([' ', '(']).nth(1).unwrap();
            let place = format!("{}:{}: {name}", file.display(), at + 1);
            if line.starts_with("fn ") {
                let above = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
                let marked = above.into_iter().any(|line| line.starts_with("#[") && line.contains("test"));
                assert!(marked, "{place} is named as a test, and is not marked as one");
            }
            let new = found.entry(id.to_ascii_uppercase()).or_default().insert(name.to_owned());
            assert!(new, "{place}: there is another test of that name");
        }
    }
    found
}

#[test]
fn every_promise_is_listed_once() {
    let listed: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    let known: Vec<String> = FAMILIES
        .iter()
        .flat_map(|(family, last)| (1..=*last).map(move |n| format!("{family}{n:02}")))
        .collect();
    assert_eq!(listed, known, "the ids of docs/promises.md, in order");
}

#[test]
fn a_kept_promise_has_tests_and_a_planned_one_has_none() {
    let mut tests = tests();
    for row in rows() {
        let found = tests.remove(&row.id).unwrap_or_default();
        assert_eq!(row.tests, found, "the tests of {}: listed, and found in the sources", row.id);
        assert_eq!(row.planned(), found.is_empty(), "{} is kept when a test proves it, else planned", row.id);
        for path in row.kept {
            assert!(root().join(&path).exists(), "{} is kept in {path}, which is not there", row.id);
        }
    }
    assert!(tests.is_empty(), "tests of promises that nobody knows: {tests:?}");
}

#[test]
fn planned_promises_only_grow_fewer() {
    let planned = rows().iter().filter(|row| row.planned()).count();
    let list = text("docs/promises.md");
    let header = list.lines().find_map(|line| line.strip_prefix("planned: ")).expect("a line `planned: N`");
    assert_eq!(header.trim(), planned.to_string(), "the line `planned: N` of docs/promises.md");
    assert!(
        planned <= CEILING,
        "{planned} planned, and it was {CEILING}: a promise that was kept is kept no more"
    );
    assert_eq!(planned, CEILING, "lower CEILING to {planned}, so that it stays so");
}
