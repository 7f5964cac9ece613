//! Usage and reasons to end, as answers and streams tell them.

use base::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::form::Finish;

/// A count. In a stream each one replaces what it names of the one before.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    thinking_tokens: Option<u64>,
}

impl WireUsage {
    /// This count with what a later one names.
    pub(super) fn with(self, later: WireUsage) -> WireUsage {
        WireUsage {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            cache_creation_input_tokens: later
                .cache_creation_input_tokens
                .or(self.cache_creation_input_tokens),
            cache_read_input_tokens: later.cache_read_input_tokens.or(self.cache_read_input_tokens),
            output_tokens_details: later.output_tokens_details.or(self.output_tokens_details),
        }
    }

    /// What was read from and written to the cache is counted beside the input here, within it there.
    pub(super) fn normal(self) -> Usage {
        let cached_input = self.cache_read_input_tokens.unwrap_or(0);
        let cache_write = self.cache_creation_input_tokens.unwrap_or(0);
        let fresh = self.input_tokens.unwrap_or(0);
        let output = self.output_tokens.unwrap_or(0);
        let reasoning = self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or(0);
        Usage {
            input: fresh.saturating_add(cached_input).saturating_add(cache_write),
            cached_input,
            cache_write,
            output,
            reasoning: reasoning.min(output),
            ..Usage::default()
        }
    }
}

pub(super) fn write_usage(usage: &Usage) -> Value {
    let fresh = usage.input.saturating_sub(usage.cached_input).saturating_sub(usage.cache_write);
    let mut wire = json!({
        "input_tokens": fresh,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_input,
        "output_tokens": usage.output,
    });
    if let Some(wire) = wire.as_object_mut() {
        if usage.reasoning > 0 {
            let details = json!({"thinking_tokens": usage.reasoning});
            wire.insert("output_tokens_details".into(), details);
        }
        if usage.estimated {
            wire.insert("estimated".into(), true.into());
        }
    }
    wire
}

pub(super) fn read_finish(reason: Option<&str>, sequence: Option<String>) -> Finish {
    match reason {
        None | Some("end_turn") => Finish::Stop,
        Some("stop_sequence") => Finish::StopSequence(sequence),
        Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
        Some("tool_use") => Finish::ToolCalls,
        Some("refusal") => Finish::Refusal,
        Some("pause_turn") => Finish::Pause,
        Some(other) => Finish::Other(other.to_owned()),
    }
}

/// `stop_reason` and `stop_sequence`. `called`: whether the answer calls tools, about which providers do not agree
/// in the reason they give.
pub(super) fn write_finish(finish: &Finish, called: bool) -> (&'static str, Option<&str>) {
    match finish {
        Finish::StopSequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Finish::Length => ("max_tokens", None),
        Finish::ContentFilter | Finish::Refusal => ("refusal", None),
        Finish::Pause => ("pause_turn", None),
        Finish::ToolCalls | Finish::Stop | Finish::Other(_) if called => ("tool_use", None),
        Finish::ToolCalls | Finish::Stop | Finish::Other(_) => ("end_turn", None),
    }
}
