//! Keys of providers in the environment, each under the name that its own documentation uses.

use llm::Kind;

use super::Work;
use crate::settings::problem::{Origin, Path, Problem};
use crate::settings::vars::Found;

/// For every kind but `openai`, which has a row of its own: a variable that is set makes the provider, or gives the
/// one in the file its key.
pub(super) fn apply(work: &mut Work<'_>) {
    for kind in Kind::all().filter(|kind| *kind != Kind::OPENAI) {
        for name in kind.env() {
            let given = match work.env.get(name) {
                Ok(None) => continue,
                Ok(Some(key)) => give_key(work, kind.as_str(), &key).map(drop),
                Err(message) => Err(message),
            };
            if let Err(message) = given {
                let origin = Origin::Env((*name).to_owned());
                work.problems.push(Problem::new(origin, &Path::default(), message));
            }
            break;
        }
    }
}

/// Makes the provider that is called as its kind is, or gives the one in the file its key. Whether it did.
pub(super) fn give_key(work: &mut Work<'_>, kind: &'static str, key: &Found) -> Result<bool, String> {
    let provider = format!("providers.{kind}");
    let at = |field: &str| format!("{provider}.{field}");
    let declared = work.has(&provider);
    if declared && work.has(&at("api_key")) {
        // Most often it is `${OPENAI_API_KEY}` itself: nothing worth a note.
        return Ok(false);
    }
    if declared && work.text(&at("kind")) != Some(kind) {
        work.note(format!("{} is not used, because {provider} is of another kind", key.name));
        return Ok(false);
    }
    if !declared {
        work.set(&at("kind"), kind, key)?;
    }
    work.set(&at("api_key"), &key.value, key)?;
    work.note(format!("{} sets {}", key.name, at("api_key")));
    Ok(true)
}
