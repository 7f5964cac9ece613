//! What stands in `${…}` when it names a secret source.

/// Where secrets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    File,
    Vault,
    AwsSecretsManager,
}

impl Source {
    /// Its name in messages.
    pub(super) fn label(self) -> &'static str {
        match self {
            Source::File => "file",
            Source::Vault => "Vault",
            Source::AwsSecretsManager => "AWS Secrets Manager",
        }
    }
}

/// `source:name`, `source:name#field`, each with `:-default`.
#[derive(Debug, PartialEq)]
pub(super) struct Reference<'a> {
    pub(super) source: Source,
    pub(super) name: &'a str,
    pub(super) field: Option<&'a str>,
    pub(super) default: Option<&'a str>,
}

const SOURCES: &[(&str, Source)] =
    &[("file:", Source::File), ("vault:", Source::Vault), ("aws-sm:", Source::AwsSecretsManager)];

impl<'a> Reference<'a> {
    /// Reads a reference; `None` when the text does not begin with a source.
    pub(super) fn parse(inside: &'a str) -> Option<Result<Self, String>> {
        let (source, rest) = SOURCES
            .iter()
            .find_map(|(prefix, source)| inside.strip_prefix(prefix).map(|rest| (*source, rest)))
            // `${vault:-default}` is a variable of that name.
            .filter(|(_, rest)| !rest.starts_with('-'))?;
        let (rest, default) = match rest.split_once(":-") {
            Some((rest, default)) => (rest, Some(default)),
            None => (rest, None),
        };
        let (name, field) = match rest.split_once('#') {
            Some((name, field)) if source != Source::File => (name, Some(field)),
            _ => (rest, None),
        };
        Some(check(source, name, field).map(|()| Reference { source, name, field, default }))
    }
}

fn check(source: Source, name: &str, field: Option<&str>) -> Result<(), String> {
    let empty = name.is_empty() || field.is_some_and(str::is_empty);
    let odd = name.chars().chain(field.unwrap_or_default().chars()).any(char::is_control);
    let outside = source == Source::Vault
        && name.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains(['?', '\\']));
    let no_field = source == Source::Vault && field.is_none();
    if !(empty || odd || outside || no_field) {
        return Ok(());
    }
    Err(match source {
        Source::File => "write `${file:PATH}`, as `${file:/run/secrets/openai}`".into(),
        Source::Vault => "write `${vault:PATH#FIELD}`, as `${vault:secret/data/openai#api_key}`".into(),
        Source::AwsSecretsManager => {
            "write `${aws-sm:NAME}` or `${aws-sm:NAME#FIELD}`, as `${aws-sm:prod/openai#api_key}`".into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inside: &str) -> (Source, &str, Option<&str>, Option<&str>) {
        let found = Reference::parse(inside).unwrap().unwrap();
        (found.source, found.name, found.field, found.default)
    }

    #[test]
    fn reads_sources_names_fields_and_defaults() {
        assert_eq!(parse("file:/run/x#1"), (Source::File, "/run/x#1", None, None));
        assert_eq!(parse("file:/run/x:-"), (Source::File, "/run/x", None, Some("")));
        assert_eq!(parse("vault:a/b#c:-d"), (Source::Vault, "a/b", Some("c"), Some("d")));
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/openai-AbCdEf";
        let text = format!("aws-sm:{arn}#key");
        assert_eq!(parse(&text), (Source::AwsSecretsManager, arn, Some("key"), None));
        assert_eq!(parse("aws-sm:plain"), (Source::AwsSecretsManager, "plain", None, None));
    }

    #[test]
    fn leaves_variables_alone_and_refuses_halves() {
        for variable in ["NAME", "NAME:-x", "vault", "file:-x", "vault:-x", "VAULT:a#b", "aws:x#y"] {
            assert_eq!(Reference::parse(variable), None, "{variable}");
        }
        for half in [
            "file:",
            "vault:",
            "vault:a",
            "vault:#f",
            "vault:a#",
            "vault:a//b#c",
            "vault:../sys#c",
            "vault:/a#c",
            "vault:a?list=true#c",
            "aws-sm:",
            "aws-sm:a#",
            "file:a\nb",
        ] {
            let error = Reference::parse(half).unwrap().unwrap_err();
            assert!(error.starts_with("write `${"), "{half}: {error}");
        }
    }
}
