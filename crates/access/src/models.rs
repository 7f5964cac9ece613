//! Which models a key may call.

/// Names and patterns; in a pattern `*` stands for any text. Letters compare without case, as Conduit's do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPatterns(Vec<String>);

/// The most patterns of one key, and the longest.
const MAX: usize = 1000;
const MAX_LEN: usize = 256;

impl ModelPatterns {
    /// Reads a list. The error says which is wrong.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        if patterns.len() > MAX {
            return Err(format!("`allowed_models` has more than {MAX} entries: use patterns, as `gpt-*`"));
        }
        let wrong =
            patterns.iter().find(|p| p.is_empty() || p.len() > MAX_LEN || p.chars().any(char::is_control));
        if wrong.is_some() {
            return Err(format!(
                "each of `allowed_models` is a name or a pattern of 1 to {MAX_LEN} characters"
            ));
        }
        Ok(ModelPatterns(patterns.iter().map(|pattern| pattern.to_lowercase()).collect()))
    }

    /// Whether one of them fits.
    pub fn matches(&self, model: &str) -> bool {
        let model = model.to_lowercase();
        self.0.iter().any(|pattern| fits(pattern.as_bytes(), model.as_bytes()))
    }
}

/// Whether a text fits a pattern with `*`, in time at most the product of their lengths.
pub(crate) fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and up to where it has swallowed text.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, swallowed)) => {
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    t = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names_without_case() {
        let patterns = |list: &[&str]| {
            ModelPatterns::new(&list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let some = patterns(&["gpt-4*", "openai/*", "Exact", "*-mini", "a*b*c"]);
        for yes in ["gpt-4", "GPT-4.1", "openai/o3", "exact", "x-mini", "abc", "aXbYc", "aabbcc"] {
            assert!(some.matches(yes), "{yes}");
        }
        for no in ["gpt-3", "xgpt-4", "openai", "exactly", "mini", "ab", "", "acb"] {
            assert!(!some.matches(no), "{no}");
        }
        assert!(patterns(&["*"]).matches("anything"));
        assert!(!patterns(&[]).matches("anything"), "an empty list allows nothing");
        assert!(ModelPatterns::new(&[String::new()]).is_err());
        assert!(ModelPatterns::new(&["a\nb".to_owned()]).is_err());
    }
}
