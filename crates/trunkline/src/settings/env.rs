//! The environment over the file: `TRUNKLINE_SERVER__LISTEN` is `server.listen`.
//!
//! Which names exist is asked of the schema, so that every setting can be set from the environment without
//! a list to maintain, and a misspelt one is an error and not a silence.

use serde_json::Value as Json;

use super::problem::{Origin, Path, Problem, nearest};
use super::tree::{Node, Source, parse};
use super::vars::{Env, Found};

/// What all our variables begin with.
pub const PREFIX: &str = "TRUNKLINE_";

/// Ours, but not settings: name and what it does.
pub const NOT_SETTINGS: &[(&str, &str)] = &[
    ("TRUNKLINE_ADMIN_KEY", "the admin key, instead of one that is made on the first run"),
    ("TRUNKLINE_CONFIG", "the settings file, as `--config`"),
    ("TRUNKLINE_URL", "where the server is that the admin commands speak to"),
    ("TRUNKLINE_TEST_POSTGRES", "where tests find PostgreSQL, if not at 127.0.0.1:5432"),
    ("TRUNKLINE_TEST_REDIS", "where tests find Redis, if not at 127.0.0.1:6379"),
    ("TRUNKLINE_TEST_RABBITMQ", "where tests find RabbitMQ, if not at 127.0.0.1:5672"),
    ("TRUNKLINE_REQUIRE_SERVICES", "tests that need a service fail without it instead of passing over"),
];

/// Lays every `TRUNKLINE_…` variable over the tree.
pub fn apply(tree: &mut Node, env: &Env, schema: &Json, problems: &mut Vec<Problem>) {
    let mut names: Vec<&str> = env
        .names()
        .filter(|name| name.starts_with(PREFIX))
        .map(|name| name.strip_suffix("_FILE").filter(|name| !name.ends_with('_')).unwrap_or(name))
        .collect();
    // Shorter names first: a whole section, then its parts.
    names.sort_by_key(|name| (name.matches("__").count(), *name));
    names.dedup();
    for name in names {
        if let Err(problem) = apply_one(tree, env, schema, name) {
            problems.push(*problem);
        }
    }
}

/// Whether this environment sets `path` (of fixed keys, as `server.listen`) by its `TRUNKLINE_` name.
pub fn is_set(env: &Env, path: &str) -> bool {
    let name = name_of(path);
    env.plain(&name).or_else(|| env.plain(&format!("{name}_FILE"))).is_some()
}

/// The variable that sets `path`.
pub fn name_of(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

fn apply_one(tree: &mut Node, env: &Env, schema: &Json, name: &str) -> Result<(), Box<Problem>> {
    let origin = Origin::Env(name.to_owned());
    let wrong = |message: String| Box::new(Problem::new(origin.clone(), &Path::default(), message));
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    if !rest.contains("__") {
        return match is_known(env, name) {
            true => Ok(()),
            false => Err(Box::new(unknown(&origin, name, schema))),
        };
    }
    let Some((path, shape)) = resolve(tree, schema, rest) else {
        return Err(Box::new(unknown(&origin, name, schema)));
    };
    let Some(Found { name: used, value }) = env.get(name).map_err(&wrong)? else { return Ok(()) };
    let node = node_of(&value, shape, &used)?;
    tree.set(&path, node)
        .map_err(|around| wrong(format!("sets `{path}`, but `{around}` is not a map of keys in the file")))
}

/// Names without `__` that are nobody's mistake: ours that are not settings, and what Kubernetes puts into
/// every pod for a Service whose name begins with `trunkline`.
fn is_known(env: &Env, name: &str) -> bool {
    let link = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && ["_TCP", "_UDP", "_SCTP"].iter().any(|part| name.contains(part)))
        || env.plain(name).is_some_and(is_service_link);
    link || NOT_SETTINGS.iter().any(|(known, _)| *known == name)
}

/// Whether a value is what Kubernetes and Docker links write: `tcp://10.0.0.1:8080`.
pub fn is_service_link(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

fn unknown(origin: &Origin, name: &str, schema: &Json) -> Problem {
    let problem = Problem::new(origin.clone(), &Path::default(), format!("no setting has the name {name}"));
    let known: Vec<String> = paths(schema).iter().map(|path| name_of(path)).collect();
    let ours = NOT_SETTINGS.iter().map(|(name, _)| *name);
    match nearest(name, known.iter().map(String::as_str).chain(ours)) {
        Some(near) => problem.suggest(format!("did you mean {near}?")),
        None => problem.suggest("`trunkline config schema` prints them all"),
    }
}

/// What the schema says about a place.
#[derive(Clone, Copy)]
enum Shape {
    Scalar,
    ListOfScalars,
    Collection,
}

/// The path that `SERVER__LISTEN` means. Names of providers, aliases and headers are free: one that is
/// written in the file is meant when it is the same but for case and `-`, `.` or `_` (exactly that with `_`
/// first); else it is lower-cased with `-` for `_`.
fn resolve(tree: &Node, schema: &Json, name: &str) -> Option<(Path, Shape)> {
    let mut path = Path::default();
    let mut at = schema;
    for part in name.split("__") {
        let lower = part.to_lowercase();
        if lower.is_empty() {
            return None;
        }
        at = follow(schema, at);
        if let Some(field) = at.get("properties").and_then(|fields| fields.get(&lower)) {
            path = path.key(&lower);
            at = field;
            continue;
        }
        let free = at.get("additionalProperties").filter(|free| free.is_object())?;
        let written: Vec<&str> = tree.find(&path).into_iter().flat_map(Node::keys).collect();
        let same = |key: &&&str| key.to_lowercase().replace(['-', '.'], "_") == lower;
        let key = written.iter().find(|key| **key == lower).or_else(|| written.iter().find(same));
        path = path.key(&key.map_or_else(|| lower.replace('_', "-"), |key| (*key).to_owned()));
        at = free;
    }
    let at = follow(schema, at);
    let shape = match at.get("items") {
        Some(items) if is_scalar(follow(schema, items)) => Shape::ListOfScalars,
        Some(_) => Shape::Collection,
        None if is_scalar(at) => Shape::Scalar,
        None => Shape::Collection,
    };
    Some((path, shape))
}

fn is_scalar(schema: &Json) -> bool {
    schema.get("properties").is_none()
        && schema.get("items").is_none()
        && !schema.get("additionalProperties").is_some_and(Json::is_object)
}

/// The schema itself behind `$ref`, and behind the `anyOf` of a value that may be null.
pub fn follow<'a>(root: &'a Json, mut at: &'a Json) -> &'a Json {
    // No reference of ours goes further than this; a bound is simpler to trust than a proof.
    for _ in 0..8 {
        let reference = at.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix('#'));
        if let Some(target) = reference.and_then(|pointer| root.pointer(pointer)) {
            at = target;
            continue;
        }
        let choices = at.get("anyOf").and_then(Json::as_array);
        let null = Json::from("null");
        match choices.and_then(|all| all.iter().find(|choice| choice.get("type") != Some(&null))) {
            Some(choice) => at = choice,
            None => return at,
        }
    }
    at
}

/// Every place of the schema with a fixed name, as `server.listen`; free names stand as `<name>`, list
/// items as `[]`.
pub fn paths(schema: &Json) -> Vec<String> {
    fn walk(root: &Json, at: &Json, path: &str, out: &mut Vec<String>) {
        let at = follow(root, at);
        let dot = if path.is_empty() { "" } else { "." };
        if let Some(fields) = at.get("properties").and_then(Json::as_object) {
            for (key, field) in fields {
                let path = format!("{path}{dot}{key}");
                out.push(path.clone());
                walk(root, field, &path, out);
            }
        }
        if let Some(free) = at.get("additionalProperties").filter(|free| free.is_object()) {
            walk(root, free, &format!("{path}{dot}<name>"), out);
        }
        if let Some(items) = at.get("items") {
            walk(root, items, &format!("{path}[]"), out);
        }
    }
    let mut out = Vec::new();
    walk(schema, schema, "", &mut out);
    out
}

/// The value as a node: lists of scalars may be written with commas, and any list or map as in YAML or JSON.
fn node_of(value: &str, shape: Shape, name: &str) -> Result<Node, Box<Problem>> {
    let origin = Origin::Env(name.to_owned());
    let flow = value.trim_start().starts_with(['[', '{']);
    match shape {
        Shape::ListOfScalars if !flow => {
            let items = value.split(',').map(|item| Node::hidden(item.trim(), origin.clone()));
            Ok(Node::list(items.collect(), origin))
        }
        Shape::ListOfScalars | Shape::Collection if flow => {
            let (node, problems) = parse(value, &Source::Env(name));
            match node.filter(|_| problems.is_empty()) {
                Some(node) => Ok(node),
                // The parser's own words may quote the value; the variable's name is enough to find it.
                None => {
                    let message = "is not a list or map as YAML or JSON write it, as `[a, b]` or `{a: 1}`";
                    Err(Box::new(Problem::new(origin, &Path::default(), message)))
                }
            }
        }
        _ => Ok(Node::hidden(value, origin)),
    }
}

#[cfg(test)]
mod tests;
