//! Log directives, as in `info,gateway=debug`: checked here so that a misspelt level is an error at start
//! and not a silent log.

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether `text` is a level or directives. The error is the word and what is wrong with it.
pub fn check(text: &str) -> Result<(), (String, &'static str)> {
    split(text).into_iter().try_for_each(|directive| check_one(directive.trim()))
}

fn check_one(directive: &str) -> Result<(), (String, &'static str)> {
    let wrong = |message| Err((directive.to_owned(), message));
    match level_at(directive) {
        Some(at) => {
            let (target, level) = directive.split_at(at);
            if !is_level(level.trim_start_matches('=')) {
                return wrong("the level must be off, error, warn, info, debug or trace");
            }
            if !is_target(target) {
                return wrong("the part before `=` must be a module, as `gateway=debug`");
            }
            Ok(())
        }
        None if is_level(directive) => Ok(()),
        None if directive.contains('[') && is_target(directive) => Ok(()),
        None => wrong("expected off, error, warn, info, debug, trace, or `module=level`"),
    }
}

/// Where the `=level` of a directive begins; a `=` within `[span{field=value}]` is another.
fn level_at(directive: &str) -> Option<usize> {
    let at = directive.rfind('=')?;
    (directive.rfind(']').is_none_or(|end| end < at)).then_some(at)
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

fn is_target(text: &str) -> bool {
    let (module, span) = text.split_once('[').unwrap_or((text, "]"));
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    module.chars().all(word) && span.ends_with(']') && !text.is_empty()
}

/// Directives are separated by commas outside brackets.
pub fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_levels_and_directives() {
        for good in [
            "info",
            "INFO",
            "warn,gateway=debug",
            "server::edge=trace, info",
            "off",
            "gateway[call{model=a,b=c}]=debug",
            "[call]=debug",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn refuses_what_would_be_silent() {
        for bad in ["", "inof", "gateway=verbose", "info,,debug", "=debug", "a b=info", "gateway="] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
