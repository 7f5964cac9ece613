//! A strict reader of Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>): what it takes, every scraper takes.

use std::collections::{BTreeMap, BTreeSet};

/// Labels in the order of their names.
pub type Labels = BTreeMap<String, String>;

/// One family: its type and its samples by full name and labels.
#[derive(Debug)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Every sample, under its own name.
    pub samples: Vec<(String, Labels, f64)>,
}

impl Family {
    /// The labels that its samples have, `le` left out.
    pub fn labels(&self) -> BTreeSet<&str> {
        self.samples
            .iter()
            .flat_map(|(_, labels, _)| labels.keys())
            .map(String::as_str)
            .filter(|l| *l != "le")
            .collect()
    }

    /// The upper bounds of a histogram's buckets, as they are written.
    pub fn bounds(&self) -> Vec<&str> {
        let first = self.samples.iter().map(|(_, labels, _)| without_le(labels)).next().unwrap();
        let buckets = self.samples.iter().filter(|(_, labels, _)| without_le(labels) == first);
        buckets.filter_map(|(_, labels, _)| labels.get("le")).map(String::as_str).collect()
    }
}

/// Reads all families. Panics at the first offence, with its line.
pub fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut helped: Option<&str> = None;
    let mut current: Option<String> = None;
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(!words.is_empty() && is_name(name), "{line}");
            helped = Some(name);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert_eq!(helped, Some(name), "TYPE without its HELP: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "counters, and they alone, are totals: {line}"
            );
            let family = Family { kind: kind.to_owned(), samples: Vec::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "a family twice: {line}");
            current = Some(name.to_owned());
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
            let name = current.as_deref().unwrap_or_else(|| panic!("a sample without a TYPE: {line}"));
            let family = families.get_mut(name).unwrap();
            let sample = sample(line);
            assert!(belongs(&sample.0, name, &family.kind), "not of {name}: {line}");
            let known = family.samples.iter().any(|(n, labels, _)| (n, labels) == (&sample.0, &sample.1));
            assert!(!known, "a series twice: {line}");
            family.samples.push(sample);
        }
    }
    for (name, family) in &families {
        assert!(!family.samples.is_empty(), "{name} has no samples");
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    families
}

fn belongs(sample: &str, family: &str, kind: &str) -> bool {
    match kind {
        "histogram" => {
            ["_bucket", "_sum", "_count"].iter().any(|end| sample.strip_suffix(end) == Some(family))
        }
        _ => sample == family,
    }
}

fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest, line),
        None => (Labels::new(), rest),
    };
    let value = value.strip_prefix(' ').unwrap_or_else(|| panic!("no space before the value: {line}"));
    let number = match value {
        "+Inf" => f64::INFINITY,
        _ => value.parse().unwrap_or_else(|_| panic!("no number: {line}")),
    };
    (name.to_owned(), labels, number)
}

/// Reads `name="value",…}` and returns what follows.
fn labels<'t>(mut rest: &'t str, line: &str) -> (Labels, &'t str) {
    let mut labels = Labels::new();
    while let Some((name, after)) = rest.split_once("=\"") {
        assert!(is_name(name) && !name.contains(':'), "{name:?} in {line}");
        let (value, after) = quoted(after, line);
        assert!(labels.insert(name.to_owned(), value).is_none(), "a label twice: {line}");
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None => return (labels, after.strip_prefix('}').unwrap_or_else(|| panic!("{line}"))),
        };
    }
    panic!("labels without an end: {line}");
}

fn quoted<'t>(text: &'t str, line: &str) -> (String, &'t str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                other => panic!("the escape {other:?} in {line}"),
            }),
            c => value.push(c),
        }
    }
    panic!("a value without an end: {line}");
}

fn without_le(labels: &Labels) -> Labels {
    labels.iter().filter(|(name, _)| *name != "le").map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// Bounds rise, counts never fall, the last bucket is `+Inf` and counts all, and there is a sum.
fn check_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<Labels, Vec<&(String, Labels, f64)>> = BTreeMap::new();
    for sample in &family.samples {
        series.entry(without_le(&sample.1)).or_default().push(sample);
    }
    for (labels, samples) in series {
        let of = |end: &str| {
            samples.iter().filter(move |(n, ..)| n.strip_prefix(name) == Some(end)).collect::<Vec<_>>()
        };
        let (buckets, counts, sums) = (of("_bucket"), of("_count"), of("_sum"));
        assert_eq!((counts.len(), sums.len()), (1, 1), "{name}{labels:?}");
        let bound = |labels: &Labels| match labels["le"].as_str() {
            "+Inf" => f64::INFINITY,
            number => number.parse().unwrap(),
        };
        let rising =
            buckets.windows(2).all(|pair| bound(&pair[0].1) < bound(&pair[1].1) && pair[0].2 <= pair[1].2);
        assert!(rising, "not rising: {name}{labels:?}: {buckets:?}");
        let last = buckets.last().unwrap_or_else(|| panic!("{name}{labels:?} has no buckets"));
        assert_eq!((bound(&last.1), last.2), (f64::INFINITY, counts[0].2), "{name}{labels:?}");
    }
}

#[test]
#[should_panic(expected = "a series twice")]
fn it_is_strict_about_series() {
    parse("# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\na_total{b=\"c\"} 2\n");
}

#[test]
#[should_panic(expected = "not rising")]
fn it_is_strict_about_histograms() {
    let text = "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
    parse(text);
}
