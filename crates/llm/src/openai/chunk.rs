//! Reading one chunk of a stream, beside forwarding it.

use std::borrow::Cow;
use std::fmt;

use base::Usage;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::answer::WireUsage;
use super::{Text, parse};

/// The data of the event that ends a stream.
pub const DONE: &[u8] = b"[DONE]";
/// The whole event that ends a stream.
pub const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

/// What we read of a chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// It brings something of the answer: text, a tool call, reasoning, a refusal.
    pub content: bool,
    /// How many choices it ends.
    pub finished: u32,
    /// The last reason it gives for an end.
    pub finish_reason: Option<String>,
    /// The provider's count.
    pub usage: Option<Usage>,
    /// It has no choices, so that its usage is all it brings.
    pub only_usage: bool,
    /// The model that answers, by the provider's name.
    pub model: Option<String>,
    /// It is an error that the provider reports in the stream: the raw JSON of it.
    pub error: Option<String>,
}

/// Reads one chunk. The text it brings is appended to `text`, up to `room` bytes in all, in case it must be
/// counted here. `Err` when it is not JSON of a chunk's shape.
pub fn read_chunk(data: &[u8], text: &mut String, room: usize) -> Result<Chunk, String> {
    let wire: Wire = parse(data)?;
    let mut chunk = Chunk {
        usage: wire.usage.map(WireUsage::normal),
        only_usage: wire.choices.as_ref().is_some_and(Vec::is_empty) && wire.usage.is_some(),
        model: wire.model.map(|model| model.0.into_owned()),
        error: wire.error.map(|raw| raw.get().to_owned()).filter(|raw| raw != "null"),
        ..Chunk::default()
    };
    for choice in wire.choices.into_iter().flatten() {
        if let Some(reason) = choice.finish_reason {
            chunk.finished += 1;
            chunk.finish_reason = Some(reason.0.into_owned());
        }
        if let Some(delta) = choice.delta {
            chunk.content |= delta.content;
            if text.len() + delta.text.len() <= room {
                text.push_str(&delta.text);
            }
        }
    }
    Ok(chunk)
}

#[derive(serde::Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<WireUsage>,
    #[serde(borrow)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(serde::Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

/// A delta: whether anything but its role has a value, and the text within.
struct Delta<'a> {
    content: bool,
    text: Cow<'a, str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Delta<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DeltaVisitor)
    }
}

struct DeltaVisitor;

impl<'de> Visitor<'de> for DeltaVisitor {
    type Value = Delta<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delta object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Delta<'de>, A::Error> {
        let mut delta = Delta { content: false, text: Cow::Borrowed("") };
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if key.0 == "role" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<Value<'de>>()?;
            delta.content |= value.filled;
            if !value.text.is_empty() {
                delta.text = if delta.text.is_empty() {
                    value.text
                } else {
                    Cow::Owned(delta.text.into_owned() + &value.text)
                };
            }
        }
        Ok(delta)
    }
}

/// Any value of a delta: whether it says something, and every text within it (content, reasoning, a tool
/// call's name and arguments).
#[derive(Default)]
struct Value<'a> {
    filled: bool,
    text: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::default())
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value { filled: value, text: Cow::Borrowed("") })
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value { filled: true, text: Cow::Borrowed("") })
    }
    fn visit_u64<E>(self, _: u64) -> Result<Value<'de>, E> {
        Ok(Value { filled: true, text: Cow::Borrowed("") })
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value { filled: true, text: Cow::Borrowed("") })
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value { filled: !text.is_empty(), text: Cow::Borrowed(text) })
    }
    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value { filled: !text.is_empty(), text: Cow::Owned(text.to_owned()) })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let mut all = String::new();
        let mut filled = false;
        while let Some(item) = seq.next_element::<Value<'de>>()? {
            filled = true;
            all.push_str(&item.text);
        }
        Ok(Value { filled, text: Cow::Owned(all) })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let mut all = String::new();
        let mut filled = false;
        while map.next_key::<IgnoredAny>()?.is_some() {
            let item = map.next_value::<Value<'de>>()?;
            filled |= item.filled;
            all.push_str(&item.text);
        }
        Ok(Value { filled, text: Cow::Owned(all) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &str) -> (Chunk, String) {
        let mut text = String::new();
        (read_chunk(data.as_bytes(), &mut text, 1000).unwrap(), text)
    }

    #[test]
    fn tells_content_from_the_rest() {
        for (delta, content, text) in [
            (r#"{"role":"assistant","content":""}"#, false, ""),
            (r#"{"role":"assistant","content":null,"refusal":null}"#, false, ""),
            (r#"{}"#, false, ""),
            (r#"{"content":"a\nb"}"#, true, "a\nb"),
            (r#"{"reasoning_content":"hm"}"#, true, "hm"),
            (r#"{"refusal":"no"}"#, true, "no"),
            (r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}"#, true, "f"),
            (r#"{"tool_calls":[]}"#, false, ""),
        ] {
            let (chunk, got) =
                read(&format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#));
            assert_eq!((chunk.content, got.as_str(), chunk.finished), (content, text, 0), "{delta}");
        }
    }

    #[test]
    fn reads_ends_usage_and_errors() {
        let (end, _) =
            read(r#"{"model":"m","choices":[{"delta":{},"finish_reason":"length"}],"usage":null}"#);
        assert_eq!((end.finished, end.finish_reason.as_deref(), end.usage), (1, Some("length"), None));
        let (usage, _) = read(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#);
        assert!(usage.only_usage);
        assert_eq!(usage.usage.map(|u| (u.input, u.output)), Some((3, 4)));
        assert_eq!(read(r#"{"error":{"message":"x"}}"#).0.error.as_deref(), Some(r#"{"message":"x"}"#));
        assert!(read_chunk(b"{\"choices\":[{", &mut String::new(), 0).is_err());
    }

    #[test]
    fn keeps_no_more_text_than_there_is_room_for() {
        let mut text = "1234".to_owned();
        read_chunk(br#"{"choices":[{"delta":{"content":"567"}}]}"#, &mut text, 6).unwrap();
        assert_eq!(text, "1234");
    }
}
