//! The environment as a value: read once at start, handed in from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;

/// The largest file that `NAME_FILE` may name, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The environment variables. An empty variable counts as one that is not set.
#[derive(Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, String>,
    /// Set, but not to UTF-8.
    unreadable: BTreeSet<String>,
}

/// A value found in the environment.
pub struct Found {
    /// The variable that gave it: the one asked for, or its `_FILE` twin.
    pub name: String,
    /// The value.
    pub value: String,
}

impl Env {
    /// The environment of this process, for `main`; everything else is given one.
    pub fn of_process() -> Env {
        let mut env = Env::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => {
                    env.vars.insert(name, value);
                }
                Err(_) => {
                    env.unreadable.insert(name);
                }
            }
        }
        env
    }

    /// The names of all variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let set = self.vars.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.as_str());
        set.chain(self.unreadable.iter().map(String::as_str))
    }

    /// The variable itself, without its `_FILE` twin.
    pub fn plain(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variable `name`, or else the content of the file that `name_FILE` names, without the newlines at
    /// its end. The error says what is wrong and contains no value.
    pub fn get(&self, name: &str) -> Result<Option<Found>, String> {
        if self.unreadable.contains(name) {
            return Err(format!("{name} is not UTF-8"));
        }
        let twin = format!("{name}_FILE");
        match (self.plain(name), self.plain(&twin)) {
            (Some(_), Some(_)) => Err(format!("{name} and {twin} are both set: keep one")),
            (Some(value), None) => Ok(Some(Found { name: name.to_owned(), value: value.to_owned() })),
            (None, Some(file)) => match read(file) {
                Ok(text) => {
                    let value = text.trim_end_matches(['\n', '\r']).to_owned();
                    Ok(Some(Found { name: twin, value }))
                }
                Err(error) => Err(format!("{twin} names `{file}`, which cannot be read: {error}")),
            },
            (None, None) => Ok(None),
        }
    }
}

fn read(file: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Self {
        let vars = vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Env { vars, unreadable: BTreeSet::new() }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "sk-in-file\r\n\n").unwrap();
        let path = file.to_str().unwrap();
        let found = Env::from_iter([("KEY_FILE", path)]).get("KEY").unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.value.as_str()), ("KEY_FILE", "sk-in-file"));
        let both = Env::from_iter([("KEY", "sk-secret"), ("KEY_FILE", path)]).get("KEY").err().unwrap();
        assert_eq!(both, "KEY and KEY_FILE are both set: keep one");
        let missing = Env::from_iter([("KEY_FILE", "/nonexistent/key")]).get("KEY").err().unwrap();
        assert!(missing.starts_with("KEY_FILE names `/nonexistent/key`, which cannot be read"), "{missing}");
    }

    #[test]
    fn an_empty_variable_is_not_set_and_values_are_not_printed() {
        let env = Env::from_iter([("A", ""), ("B", "sk-secret")]);
        assert!(env.get("A").unwrap().is_none());
        assert_eq!(format!("{env:?}"), r#"{"B"}"#);
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("big");
        std::fs::write(&file, vec![b'x'; (MAX_FILE + 1) as usize]).unwrap();
        let error = Env::from_iter([("KEY_FILE", file.to_str().unwrap())]).get("KEY").err().unwrap();
        assert!(error.contains("larger than 1 MiB"), "{error}");
    }
}
