//! What a Claude model takes, by its name.
//!
//! Anthropic changed the rules from one generation to the next and answers 400 to a request that keeps the old
//! ones, so a request made from another dialect is written as its model wants it. A name that is not Claude's is
//! served by somebody who speaks the dialect as it was at first.
//!
//! Sources: <https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking> (4.6 brought it, 4.5 and
//! earlier count in tokens), <https://platform.claude.com/docs/en/build-with-claude/effort>,
//! <https://platform.claude.com/docs/en/build-with-claude/structured-outputs> (from 4.5 on),
//! <https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages> (Opus 4.8, then all
//! of generation 5), <https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-7> (sampling
//! parameters refused), and for Bedrock
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html>.

/// A model's generation, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialects) struct Claude {
    /// `(4, 5)` of `claude-opus-4-5-20251101`; `(0, 0)` when the name says none.
    version: (u32, u32),
    opus: bool,
    /// Fable and Mythos cannot be told not to think.
    always_thinks: bool,
}

impl Claude {
    /// `None` when the name is not a Claude model's. The name may have a vendor before it and a date behind:
    /// `us.anthropic.claude-sonnet-4-5-20250929-v1:0`.
    pub(in crate::dialects) fn of(model: &str) -> Option<Claude> {
        let model = model.to_ascii_lowercase();
        let name = &model[model.rfind("claude")?..];
        let mut numbers = name
            .split(['-', '.', '@', ':', '/'])
            // A date is no version, nor is the `v1` that Bedrock appends.
            .filter_map(|word| (word.len() <= 2).then(|| word.parse::<u32>().ok()).flatten());
        let version = match numbers.next() {
            None => (0, 0),
            Some(major) => {
                // `v2:0`: what follows a revision is not the minor version.
                (major, if has_minor(name, major) { numbers.next().unwrap_or(0) } else { 0 })
            }
        };
        let always_thinks = name.contains("fable") || name.contains("mythos");
        Some(Claude { version, opus: name.contains("opus"), always_thinks })
    }

    fn since(self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    /// It decides itself how much to think, guided by an effort, and refuses a number of tokens.
    pub(in crate::dialects) fn adapts(self) -> bool {
        self.since(4, 6) || self.always_thinks
    }

    /// It can be told not to think at all.
    pub(in crate::dialects) fn can_stop_thinking(self) -> bool {
        !self.always_thinks
    }

    /// `xhigh` is an effort it knows.
    pub(in crate::dialects) fn knows_xhigh(self) -> bool {
        self.since(5, 0) || (self.opus && self.since(4, 7)) || self.always_thinks
    }

    /// Temperature, `top_p` and `top_k` are refused.
    pub(in crate::dialects) fn refuses_sampling(self) -> bool {
        self.since(5, 0) || (self.opus && self.since(4, 7)) || self.always_thinks
    }

    /// Temperature and `top_p` exclude each other.
    pub(in crate::dialects) fn samples_one_way(self) -> bool {
        self.since(4, 1)
    }

    /// Structured output and strict tools.
    pub(in crate::dialects) fn keeps_schemas(self) -> bool {
        self.since(4, 5) || self.always_thinks
    }

    /// Instructions may stand in the middle of a conversation.
    pub(in crate::dialects) fn takes_system_turns(self) -> bool {
        self.since(5, 0) || (self.opus && self.since(4, 8)) || self.always_thinks
    }

    /// The most tokens that every model of its generation may answer with, 32 000 from generation 4 on (Opus 4
    /// and 4.1, the least of them), else 8 192 (Claude 3.5): for requests that name none.
    pub(in crate::dialects) fn max_tokens(model: &str) -> u64 {
        match Claude::of(model) {
            Some(claude) if claude.since(4, 0) || claude.always_thinks => 32_000,
            _ => 8_192,
        }
    }
}

/// Whether the number after the major version is the minor one.
fn has_minor(name: &str, major: u32) -> bool {
    let words: Vec<&str> = name.split(['-', '.', '@', ':', '/']).collect();
    let major = major.to_string();
    let at = words.iter().position(|word| *word == major);
    at.and_then(|at| words.get(at + 1)).is_some_and(|next| next.len() <= 2 && next.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_from_names() {
        for (name, version) in [
            ("claude-3-7-sonnet-20250219", (3, 7)),
            ("claude-3-haiku-20240307", (3, 0)),
            ("claude-opus-4-20250514", (4, 0)),
            ("claude-opus-4-1-20250805", (4, 1)),
            ("claude-haiku-4-5", (4, 5)),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (4, 5)),
            ("anthropic.claude-opus-4-6-v1", (4, 6)),
            ("anthropic.claude-opus-4-20250514-v1:0", (4, 0)),
            ("anthropic/claude-opus-4.8", (4, 8)),
            ("claude-opus-4-5@20251101", (4, 5)),
            ("claude-sonnet-5", (5, 0)),
            ("claude-opus-5-5", (5, 5)),
            ("claude-fable-5-1", (5, 1)),
            ("claude-mythos-preview", (0, 0)),
        ] {
            assert_eq!(Claude::of(name).unwrap().version, version, "{name}");
        }
        assert_eq!(Claude::of("deepseek-chat"), None);
    }

    #[test]
    fn each_generation_takes_its_own() {
        let of = |name| Claude::of(name).unwrap();
        assert!(!of("claude-sonnet-4-5").adapts() && of("claude-sonnet-4-6").adapts());
        assert!(!of("claude-opus-4-6").refuses_sampling() && of("claude-opus-4-7").refuses_sampling());
        assert!(!of("claude-opus-4-7").takes_system_turns() && of("claude-opus-4-8").takes_system_turns());
        assert!(of("claude-mythos-preview").adapts() && !of("claude-mythos-preview").can_stop_thinking());
        assert_eq!(Claude::max_tokens("claude-opus-4-1"), 32_000);
        assert_eq!(Claude::max_tokens("some-model"), 8_192);
    }
}
