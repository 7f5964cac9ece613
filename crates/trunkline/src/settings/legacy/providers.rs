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
    if let Err(message) = aws(work) {
        let origin = Origin::Env("AWS_ACCESS_KEY_ID".into());
        work.problems.push(Problem::new(origin, &Path::default(), message));
    }
}

/// The provider `bedrock` of the file takes what the file does not say from AWS's own variables. They do not make it:
/// who has them may mean S3.
fn aws(work: &mut Work<'_>) -> Result<(), String> {
    if work.text("providers.bedrock.kind") != Some("bedrock") {
        return Ok(());
    }
    let signed = work.has("providers.bedrock.api_key") || work.has("providers.bedrock.aws.access_key_id");
    let keys: &[(&str, &str)] = &[
        ("AWS_ACCESS_KEY_ID", "access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
        ("AWS_SESSION_TOKEN", "session_token"),
    ];
    let regions: &[(&str, &str)] = &[("AWS_REGION", "region"), ("AWS_DEFAULT_REGION", "region")];
    for (name, field) in keys.iter().filter(|_| !signed).chain(regions) {
        let path = format!("providers.bedrock.aws.{field}");
        if let Some(found) = work.env.get(name)?
            && !work.has(&path)
        {
            work.set(&path, &found.value, &found)?;
            work.note(format!("{name} sets {path}"));
        }
    }
    Ok(())
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
