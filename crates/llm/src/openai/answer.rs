//! Reading a whole answer, beside forwarding it.

use base::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Text, parse};

/// What we read of a whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The provider's own count, if it sent one.
    pub usage: Option<Usage>,
    /// The model that answered, by the provider's name.
    pub model: Option<String>,
    /// Why the first choice ended.
    pub finish_reason: Option<String>,
    /// What the model wrote, when it must be counted here.
    pub text: String,
}

/// Reads a 200 answer. `Err` says why it is none: not JSON, or an error in an answer's clothes.
pub fn read_answer(body: &[u8]) -> Result<Answer, String> {
    let wire: Wire = parse(body).map_err(|e| format!("the answer is not what it should be: {e}"))?;
    if let Some(error) = wire.error {
        return Err(format!("the answer is an error: {}", error.get()));
    }
    if wire.choices.is_none() && wire.data.is_none() {
        return Err("the answer has neither `choices` nor `data`".into());
    }
    let choices = wire.choices.unwrap_or_default();
    let usage = wire.usage.map(WireUsage::normal);
    let text = match usage {
        Some(_) => String::new(),
        None => written(body)?,
    };
    Ok(Answer {
        usage,
        model: wire.model.map(|model| model.0.into_owned()),
        finish_reason: choices.into_iter().find_map(|c| c.finish_reason).map(|reason| reason.0.into_owned()),
        text,
    })
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    data: Option<serde::de::IgnoredAny>,
    usage: Option<WireUsage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
}

/// What the model wrote: read in a second pass, since hardly any provider leaves the counting to us.
fn written(body: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow, default)]
        choices: Vec<Choice<'a>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow)]
        message: Option<Message<'a>>,
    }
    let wire: Wire = parse(body)?;
    Ok(wire.choices.iter().filter_map(|choice| choice.message.as_ref()).map(Message::text).collect())
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

impl Message<'_> {
    /// Content and tool calls, for counting.
    fn text(&self) -> String {
        let content = self
            .content
            .map(|raw| serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned()));
        let mut text = content.filter(|text| text != "null").unwrap_or_default();
        text.push_str(self.tool_calls.map(RawValue::get).filter(|raw| *raw != "null").unwrap_or_default());
        text
    }
}

/// Usage as OpenAI writes it. Cached tokens are counted inside the prompt's, reasoning inside the
/// completion's, which is also how [`Usage`] has it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    pub(super) fn normal(self) -> Usage {
        let input = self.prompt_tokens.unwrap_or(0);
        // Some providers leave the completion out where it is 0, or send only the total.
        let rest = self.total_tokens.unwrap_or(0).saturating_sub(input);
        let output = self.completion_tokens.unwrap_or(rest);
        let cached = self.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0);
        let reasoning = self.completion_tokens_details.and_then(|d| d.reasoning_tokens).unwrap_or(0);
        Usage {
            input,
            cached_input: cached.min(input),
            output,
            reasoning: reasoning.min(output),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_usage_model_and_reasons() {
        let body = br#"{"model":"m-1","choices":[{"finish_reason":"stop","message":{"content":"hi"}}],
            "usage":{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3},
            "completion_tokens_details":{"reasoning_tokens":2}}}"#;
        let answer = read_answer(body).unwrap();
        let usage = Usage { input: 11, cached_input: 3, output: 7, reasoning: 2, ..Usage::default() };
        assert_eq!(answer.usage, Some(usage));
        assert_eq!((answer.model.as_deref(), answer.finish_reason.as_deref()), (Some("m-1"), Some("stop")));
        assert_eq!(answer.text, "");
    }

    #[test]
    fn keeps_the_text_when_there_is_no_usage() {
        let body = br#"{"choices":[{"message":{"content":"hi\n","tool_calls":[{"id":1}]}}],"usage":null}"#;
        assert_eq!(read_answer(body).unwrap().text, "hi\n[{\"id\":1}]");
    }

    #[test]
    fn an_embedding_has_data_and_no_choices() {
        let usage =
            read_answer(br#"{"data":[{}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#).unwrap().usage;
        assert_eq!(usage.map(|u| (u.input, u.output)), Some((5, 0)));
    }

    #[test]
    fn an_error_or_a_fragment_is_no_answer() {
        for bad in ["", "{", "[]", "{}", "<html>", r#"{"error":{"message":"no"}}"#] {
            assert!(read_answer(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
