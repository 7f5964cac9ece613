//! A file is about one subject; one that has outgrown this many lines has found a second.

use super::{sources, text};

const LINES: usize = 900;

#[test]
fn no_source_file_has_outgrown_its_subject() {
    let files = sources(&["crates", "fuzz", "e2e", "ui"], &[".rs", ".py", ".ts", ".tsx", ".js"]);
    assert!(files.iter().any(|file| file.ends_with("tests/it/house/sizes.rs")), "the search finds nothing");
    let long: Vec<String> = files
        .iter()
        .map(|file| (file, text(file).lines().count()))
        .filter(|(_, lines)| *lines > LINES)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "more than {LINES} lines; look for the second subject: {long:#?}");
}
