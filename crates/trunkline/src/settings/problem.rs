//! What is wrong with the settings, and where it was written.

use std::fmt;
use std::sync::Arc;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A place in the settings file; line and column count from 1.
    File {
        /// The file as it was named.
        path: Arc<str>,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An environment variable.
    Env(String),
    /// A command-line flag, as it is written.
    Flag(&'static str),
    /// Built in; the text says why, or is empty.
    Default(&'static str),
}

impl Origin {
    /// The origin for a table: the file and line without the column.
    pub fn short(&self) -> String {
        match self {
            Origin::File { path, line, .. } => format!("{path}:{line}"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Default("") => f.write_str("default"),
            Origin::Default(why) => write!(f, "default ({why})"),
        }
    }
}

/// A place in the settings tree, printed as `models.smart.targets[0].provider`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a map, by key.
    Key(String),
    /// Into a list, by place.
    Index(usize),
}

impl Path {
    /// A path of keys: `Path::of("server.listen")`.
    pub fn of(dotted: &str) -> Path {
        Path(dotted.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    /// This path and one key more.
    pub fn key(&self, key: &str) -> Path {
        let mut path = self.clone();
        path.0.push(Step::Key(key.to_owned()));
        path
    }

    /// This path and one list place more.
    pub fn index(&self, index: usize) -> Path {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// The path without its last step.
    pub fn parent(&self) -> Path {
        let end = self.0.len().saturating_sub(1);
        Path(self.0.iter().take(end).cloned().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing wrong with the settings. Printed on one line:
/// `trunkline.yaml:3:5: server.lissten: unknown key …`. Never contains a value from the environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where it was written: file with line and column, variable or flag.
    pub origin: Origin,
    /// The place in the tree; empty when the file as a whole is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl Problem {
    /// A problem without a suggestion.
    pub fn new(origin: Origin, path: &Path, message: impl Into<String>) -> Self {
        Problem { origin, path: path.to_string(), message: message.into(), suggestion: None }
    }

    /// The same with what to write instead.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The line in the file, counting from 1; `None` for variables and flags.
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Origin::File { line, .. } => Some(line),
            _ => None,
        }
    }

    /// The column in the file, counting from 1; `None` for variables and flags.
    pub fn column(&self) -> Option<usize> {
        match self.origin {
            Origin::File { column, .. } => Some(column),
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, ": {suggestion}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// The candidate most like `word`, when one is near enough to have been meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.'], "");
    let word = plain(word);
    let scored = candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + word.len() / 5).then_some(candidate)
}

/// `did you mean …?` when something is near, else what is accepted (when that is short enough to help).
pub fn did_you_mean(word: &str, accepted: &[&str]) -> Option<String> {
    if let Some(near) = nearest(word, accepted.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    (!accepted.is_empty() && accepted.len() <= 20).then(|| format!("accepted: {}", accepted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_its_place() {
        let origin = Origin::File { path: "trunkline.yaml".into(), line: 3, column: 5 };
        let problem = Problem::new(origin, &Path::of("server.lissten"), "unknown key `lissten` in `server`")
            .suggest("did you mean `listen`?");
        assert_eq!(
            problem.to_string(),
            "trunkline.yaml:3:5: server.lissten: unknown key `lissten` in `server`: did you mean `listen`?"
        );
        assert_eq!((problem.line(), problem.column()), (Some(3), Some(5)));
    }

    #[test]
    fn paths_print_as_they_are_spoken() {
        assert_eq!(Path::of("a.b").index(2).key("c").to_string(), "a.b[2].c");
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(nearest("lissten", ["listen", "roles"]), Some("listen"));
        assert_eq!(nearest("api-key", ["api_key", "kind"]), Some("api_key"));
        assert_eq!(nearest("zebra", ["listen", "roles"]), None);
    }
}
