//! The settings as a tree of text with origins.
//!
//! A YAML library that decodes straight into structs loses what an operator needs: the line of each value,
//! whether a text was quoted, and every mistake after the first. So the file becomes this tree, the
//! environment and the flags are laid over it, and `decode` reads it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::problem::{Origin, Path, Problem, Step};

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 4 << 20;
/// The most values in one file, repeated aliases counted.
const MAX_NODES: usize = 100_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where.
    pub origin: Origin,
    /// Already reported as wrong; reading passes over it, so that it is reported once.
    pub bad: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Keys and values in the order written.
    Map(Vec<Entry>),
    /// Values in order.
    List(Vec<Node>),
    /// Text.
    Scalar(Scalar),
}

/// A key of a map with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub at: Origin,
    /// The value.
    pub node: Node,
}

/// A text that becomes a number, a boolean or a string when somebody asks for one.
#[derive(Clone, PartialEq)]
pub struct Scalar {
    /// The text.
    pub text: String,
    /// Not quoted, so `8` may be a number and `null` may be nothing.
    pub plain: bool,
    /// From the environment, so it may be a secret and is never printed.
    pub hidden: bool,
}

impl Scalar {
    /// Whether this is YAML's way to say nothing.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.hidden { "***" } else { &self.text })
    }
}

impl Node {
    /// An empty map.
    pub fn map(origin: Origin) -> Node {
        Node { value: Value::Map(Vec::new()), origin, bad: false }
    }

    /// A list.
    pub fn list(items: Vec<Node>, origin: Origin) -> Node {
        Node { value: Value::List(items), origin, bad: false }
    }

    /// A plain text that may be printed.
    pub fn plain(text: impl Into<String>, origin: Origin) -> Node {
        let scalar = Scalar { text: text.into(), plain: true, hidden: false };
        Node { value: Value::Scalar(scalar), origin, bad: false }
    }

    /// A plain text from the environment.
    pub fn hidden(text: impl Into<String>, origin: Origin) -> Node {
        let scalar = Scalar { text: text.into(), plain: true, hidden: true };
        Node { value: Value::Scalar(scalar), origin, bad: false }
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// Whether nothing is written here.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// The entries of a map; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The keys of a map, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries().iter().map(|entry| entry.key.as_str())
    }

    /// The value at `path`.
    pub fn find(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, step| node.child(step))
    }

    /// Where the value at `path` was written, or the nearest thing around it that was.
    pub fn origin_of(&self, path: &Path) -> Origin {
        let mut node = self;
        let mut origin = &self.origin;
        for step in &path.0 {
            match node.child(step) {
                Some(child) => {
                    origin = &child.origin;
                    node = child;
                }
                None => break,
            }
        }
        origin.clone()
    }

    fn child(&self, step: &Step) -> Option<&Node> {
        match (step, &self.value) {
            (Step::Key(key), Value::Map(entries)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.node)
            }
            (Step::Index(index), Value::List(items)) => items.get(*index),
            _ => None,
        }
    }

    fn child_mut(&mut self, step: &Step) -> Option<&mut Node> {
        match (step, &mut self.value) {
            (Step::Key(key), Value::Map(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (Step::Index(index), Value::List(items)) => items.get_mut(*index),
            _ => None,
        }
    }

    /// Marks the value at `path` as reported; `false` when there is none or it was marked before.
    pub fn discard(&mut self, path: &Path) -> bool {
        let mut node = self;
        for step in &path.0 {
            match node.child_mut(step) {
                Some(child) => node = child,
                None => return false,
            }
        }
        !std::mem::replace(&mut node.bad, true)
    }

    /// Puts `new` at a path of keys, making the maps on the way; the error names what on the way is not a
    /// map.
    pub fn set(&mut self, path: &Path, new: Node) -> Result<(), Path> {
        let mut node = self;
        let mut here = Path::default();
        let (last, way) = match path.0.split_last() {
            Some((Step::Key(last), way)) => (last, way),
            _ => return Err(path.clone()),
        };
        for step in way {
            let Step::Key(key) = step else { return Err(path.clone()) };
            node = node.enter(key, &new.origin).ok_or_else(|| here.clone())?;
            here = here.key(key);
        }
        let origin = new.origin.clone();
        *node.enter(last, &origin).ok_or(here)? = new;
        Ok(())
    }

    /// The value under `key`, made (as nothing) when it is missing; `None` when this is not a map.
    fn enter(&mut self, key: &str, origin: &Origin) -> Option<&mut Node> {
        if self.is_null() {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return None };
        let at = match entries.iter().position(|entry| entry.key == key) {
            Some(at) => at,
            None => {
                let node = Node::plain("", origin.clone());
                entries.push(Entry { key: key.to_owned(), at: origin.clone(), node });
                entries.len() - 1
            }
        };
        entries.get_mut(at).map(|entry| &mut entry.node)
    }

    /// Takes the value at `path` out of the tree.
    pub fn remove(&mut self, path: &Path) -> Option<Node> {
        let Some((Step::Key(last), way)) = path.0.split_last() else { return None };
        let mut node = self;
        for step in way {
            node = node.child_mut(step)?;
        }
        let Value::Map(entries) = &mut node.value else { return None };
        let at = entries.iter().position(|entry| entry.key == *last)?;
        Some(entries.remove(at).node)
    }

    fn count(&self) -> usize {
        match &self.value {
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.node.count()).sum::<usize>(),
            Value::List(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Value::Scalar(_) => 1,
        }
    }

    fn depth(&self) -> usize {
        match &self.value {
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.node.depth()).max().unwrap_or(0),
            Value::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Scalar(_) => 0,
        }
    }
}

/// What a YAML text was read from.
pub enum Source<'a> {
    /// A file of this name.
    File(&'a str),
    /// The value of this variable, which is never printed.
    Env(&'a str),
}

/// Reads one YAML document. The tree is there even when there are problems, without what they are about,
/// unless the text could not be understood at all.
pub fn parse(text: &str, source: &Source<'_>) -> (Option<Node>, Vec<Problem>) {
    let place = match source {
        Source::File(path) => Place::File(Arc::from(*path)),
        Source::Env(name) => Place::Env((*name).to_owned()),
    };
    let mut builder = Builder { place, ..Builder::default() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let result = match next {
            Ok((event, span)) => builder.event(event, span.start),
            Err(error) => Err(builder.syntax(&error)),
        };
        if let Err(problem) = result {
            builder.problems.push(*problem);
            return (None, builder.problems);
        }
    }
    let start = builder.place.origin(1, 1);
    let root = match builder.root {
        Some(node) if !node.is_null() => node,
        _ => Node::map(start),
    };
    (Some(root), builder.problems)
}

enum Place {
    File(Arc<str>),
    Env(String),
}

impl Default for Place {
    fn default() -> Self {
        Place::Env(String::new())
    }
}

impl Place {
    fn origin(&self, line: usize, column: usize) -> Origin {
        match self {
            Place::File(path) => Origin::File { path: Arc::clone(path), line, column },
            Place::Env(name) => Origin::Env(name.clone()),
        }
    }
}

/// A collection whose end has not come yet.
struct Open {
    origin: Origin,
    anchor: usize,
    items: Items,
}

enum Items {
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, Origin, bool)> },
    List(Vec<Node>),
}

#[derive(Default)]
struct Builder {
    place: Place,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
    problems: Vec<Problem>,
}

type Taken = Result<(), Box<Problem>>;

impl Builder {
    fn event(&mut self, event: Event<'_>, mark: Marker) -> Taken {
        let origin = self.place.origin(mark.line(), mark.col() + 1);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(problem(
                        origin,
                        "a second document (`---`) is not read: keep everything in one",
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !core_tag(tag.as_deref(), &origin)?;
                let hidden = matches!(self.place, Place::Env(_));
                let scalar = Scalar { text: text.into_owned(), plain, hidden };
                self.add(Node { value: Value::Scalar(scalar), origin, bad: false }, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                core_tag(tag.as_deref(), &origin)?;
                let items = Items::Map { entries: Vec::new(), seen: HashSet::new(), key: None };
                self.begin(Open { origin, anchor, items })
            }
            Event::SequenceStart(anchor, tag) => {
                core_tag(tag.as_deref(), &origin)?;
                self.begin(Open { origin, anchor, items: Items::List(Vec::new()) })
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.items {
                    Items::Map { entries, .. } => Value::Map(entries),
                    Items::List(items) => Value::List(items),
                };
                self.add(Node { value, origin: open.origin, bad: false }, open.anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(problem(origin, "an alias cannot stand inside what it names"));
                };
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(too_deep(origin));
                }
                self.grow(node.count(), &origin)?;
                self.add(node, 0)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Taken {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(open.origin));
        }
        self.open.push(open);
        Ok(())
    }

    fn grow(&mut self, by: usize, origin: &Origin) -> Taken {
        self.nodes += by;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, repeated aliases counted");
            return Err(problem(origin.clone(), &message));
        }
        Ok(())
    }

    /// Takes a finished value to where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Taken {
        self.grow(1, &node.origin)?;
        if anchor > 0 {
            self.grow(node.count(), &node.origin)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.items {
            Items::List(items) => items.push(node),
            Items::Map { key: key @ None, .. } => {
                let Value::Scalar(Scalar { text, plain, .. }) = node.value else {
                    return Err(problem(node.origin, "a key must be one word, not a list or a map"));
                };
                *key = Some((text, node.origin, plain));
            }
            Items::Map { entries, seen, key } => {
                let Some((key, at, plain)) = key.take() else { return Ok(()) };
                if plain && key == "<<" {
                    let message = "merge keys (`<<`) are not supported: write the keys out";
                    self.problems.push(*problem(at, message));
                } else if !seen.insert(key.clone()) {
                    let first = entries.iter().find(|entry| entry.key == key).map(|entry| entry.at.clone());
                    let message = match first {
                        Some(Origin::File { line, .. }) => {
                            format!("the key `{key}` is written twice, first on line {line}")
                        }
                        _ => format!("the key `{key}` is written twice"),
                    };
                    self.problems.push(*problem(at, &message));
                } else {
                    entries.push(Entry { key, at, node });
                }
            }
        }
        Ok(())
    }

    fn syntax(&self, error: &saphyr_parser::ScanError) -> Box<Problem> {
        let mark = error.marker();
        let origin = self.place.origin(mark.line(), mark.col() + 1);
        let info = error.info();
        let found = problem(origin, &format!("this is not YAML: {info}"));
        if info.contains("tab") {
            return Box::new(found.suggest("indent with spaces"));
        }
        found
    }
}

fn problem(origin: Origin, message: &str) -> Box<Problem> {
    Box::new(Problem::new(origin, &Path::default(), message))
}

fn too_deep(origin: Origin) -> Box<Problem> {
    problem(origin, &format!("nested deeper than {MAX_DEPTH} levels"))
}

/// Whether the tag makes a text a string whatever it looks like; tags that are not YAML's own are refused.
fn core_tag(tag: Option<&Tag>, origin: &Origin) -> Result<bool, Box<Problem>> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(tag) => {
            Err(problem(origin.clone(), &format!("the tag `{tag}` means nothing here: leave it out")))
        }
    }
}

#[cfg(test)]
mod tests;
