//! Why an answer ended, and what it used.

use base::Usage;

use super::wire::UsageMetadata;
use crate::form::Finish;

/// `finishReason`. The API says `STOP` for calls of functions too.
pub(super) fn read(reason: &str, has_calls: bool) -> Finish {
    match reason {
        "STOP" if has_calls => Finish::ToolCalls,
        "STOP" | "FINISH_REASON_UNSPECIFIED" => Finish::Stop,
        "MAX_TOKENS" | "CONTINUATION" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "ESCALATION"
        | "PUP_LIMITED_DISABLED" => Finish::ContentFilter,
        other => Finish::Other(other.to_owned()),
    }
}

/// The reason, and words for what has none of its own.
pub(super) fn write(finish: &Finish) -> (&str, Option<&str>) {
    const OWN: [&str; 9] = [
        "LANGUAGE",
        "OTHER",
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
        "NO_IMAGE",
        "IMAGE_OTHER",
    ];
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls | Finish::Pause => ("STOP", None),
        Finish::Length => ("MAX_TOKENS", None),
        Finish::ContentFilter => ("SAFETY", None),
        Finish::Refusal => ("SAFETY", Some("The model refused.")),
        Finish::Other(word) if OWN.contains(&word.as_str()) => (word, None),
        Finish::Other(word) => ("OTHER", Some(word)),
    }
}

impl UsageMetadata {
    /// Thoughts are counted beside the candidates, and what tools put into the prompt beside the prompt.
    pub fn read(&self) -> Usage {
        let input = self.prompt_token_count.saturating_add(self.tool_use_prompt_token_count);
        Usage {
            input,
            cached_input: self.cached_content_token_count.min(input),
            cache_write: 0,
            output: self.candidates_token_count.saturating_add(self.thoughts_token_count),
            reasoning: self.thoughts_token_count,
            ..Usage::default()
        }
    }

    pub fn written(usage: &Usage) -> Self {
        UsageMetadata {
            prompt_token_count: usage.input,
            cached_content_token_count: usage.cached_input,
            candidates_token_count: usage.output.saturating_sub(usage.reasoning),
            tool_use_prompt_token_count: 0,
            thoughts_token_count: usage.reasoning,
            total_token_count: usage.input.saturating_add(usage.output),
        }
    }
}
