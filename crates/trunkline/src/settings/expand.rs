//! `${NAME}` in the settings file, replaced from the environment.

use super::problem::{Path, Problem};
use super::secrets::Secrets;
use super::tree::{Node, Value};

/// Replaces every `${NAME}` and `${NAME:-default}` in the texts of the tree; `$${` stands for `${` itself.
/// What cannot be resolved is marked bad and reported with its path, so that the caller can drop the report
/// when something laid over the file replaces the value.
pub fn expand(tree: &mut Node, secrets: &Secrets<'_>) -> Vec<(Path, Problem)> {
    let mut problems = Vec::new();
    walk(tree, &Path::default(), secrets, &mut problems);
    problems
}

fn walk(node: &mut Node, path: &Path, secrets: &Secrets<'_>, problems: &mut Vec<(Path, Problem)>) {
    match &mut node.value {
        Value::Map(entries) => {
            for entry in entries {
                walk(&mut entry.node, &path.key(&entry.key), secrets, problems);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &path.index(index), secrets, problems);
            }
        }
        Value::Scalar(scalar) if scalar.text.contains("${") => match replace(&scalar.text, secrets) {
            Ok((text, hidden)) => {
                scalar.text = text;
                scalar.hidden |= hidden;
            }
            Err(message) => {
                node.bad = true;
                problems.push((path.clone(), Problem::new(node.origin.clone(), path, message)));
            }
        },
        Value::Scalar(_) => {}
    }
}

/// The text with its variables replaced, and whether there were any.
fn replace(text: &str, secrets: &Secrets<'_>) -> Result<(String, bool), String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut replaced = false;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let inside = from.get(2..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = inside;
            continue;
        }
        out.push_str(before);
        let Some((variable, after)) = inside.split_once('}') else {
            return Err("`${` without its `}`: write `$${` for the characters themselves".into());
        };
        out.push_str(&lookup(variable, secrets)?);
        replaced = true;
        rest = after;
    }
    out.push_str(rest);
    Ok((out, replaced))
}

/// `NAME` or `NAME:-default`.
fn lookup(variable: &str, secrets: &Secrets<'_>) -> Result<String, String> {
    if let Some(answer) = secrets.get(variable) {
        return answer;
    }
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let message =
            format!("`${{{variable}}}` names no variable: write `${{NAME}}` or `${{NAME:-default}}`");
        return Err(message);
    }
    match (secrets.env().get(name)?, default) {
        (Some(found), _) => Ok(found.value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the variable {name} is not set: set {name} or {name}_FILE in the environment, or write `${{{name}:-default}}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::vars::Env;
    use super::*;

    fn env() -> Env {
        Env::from_iter([("KEY", "sk-1"), ("HOST", "example.com"), ("EMPTY", "")])
    }

    #[test]
    fn replaces_names_defaults_and_escapes() {
        for (text, expected) in [
            ("${KEY}", "sk-1"),
            ("https://${HOST}/v1", "https://example.com/v1"),
            ("${NONE:-8080}", "8080"),
            ("${EMPTY:-x}${NONE:-}", "x"),
            ("$${KEY}", "${KEY}"),
            ("a$b ${KEY}${KEY}", "a$b sk-1sk-1"),
        ] {
            assert_eq!(replace(text, &Secrets::new(&env())).unwrap().0, expected, "{text}");
        }
        assert!(!replace("$${KEY}", &Secrets::new(&env())).unwrap().1);
    }

    #[test]
    fn says_which_variable_to_set() {
        for (text, expected) in [
            ("${NONE}", "set NONE or NONE_FILE in the environment"),
            ("${EMPTY}", "the variable EMPTY is not set"),
            ("${KEY", "without its `}`"),
            ("${}", "names no variable"),
            ("${a b}", "names no variable"),
        ] {
            let error = replace(text, &Secrets::new(&env())).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
