//! Writing the items of a conversation.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::custom;
use super::fields::refuse;
use crate::Dialect;
use crate::form::{Image, Losses, Media, Part, Prompt, Reasoning, Role, Source, ToolCall, ToolResult, Turn};
use crate::openai::Refusal;

/// The longest id of a call.
const MAX_CALL_ID: usize = 64;

/// Instructions that open a conversation, and the turns after them. Further ones stay in their places.
pub(super) fn instructions<'a>(turns: &'a [Turn], losses: &mut Losses) -> (Option<String>, &'a [Turn]) {
    let Some((first, rest)) = turns.split_first().filter(|(first, _)| first.role == Role::System) else {
        return (None, turns);
    };
    let mut texts = Vec::with_capacity(first.parts.len());
    for part in &first.parts {
        let Part::Text { text, cache } = part else { return (None, turns) };
        if cache.is_some() {
            losses.note("cache_control");
        }
        texts.push(text.as_str());
    }
    (Some(texts.join("\n")), rest)
}

/// Every turn as items.
pub(super) fn items(turns: &[Turn], prompt: &Prompt, losses: &mut Losses) -> Result<Vec<Value>, Refusal> {
    let mut writer = Items { prompt, ids: CallIds::of(turns), items: Vec::new(), losses };
    for turn in turns {
        writer.turn(turn)?;
    }
    Ok(writer.items)
}

struct Items<'a> {
    prompt: &'a Prompt,
    ids: CallIds,
    items: Vec<Value>,
    losses: &'a mut Losses,
}

impl Items<'_> {
    fn turn(&mut self, turn: &Turn) -> Result<(), Refusal> {
        if turn.name.is_some() {
            self.losses.note("messages.name");
        }
        let mut content = Vec::new();
        for part in &turn.parts {
            let item = match part {
                Part::ToolCall(call) => self.call(call),
                Part::ToolResult(result) => self.result(result)?,
                Part::Reasoning(thought) => match self.reasoning(thought) {
                    Some(item) => item,
                    None => continue,
                },
                Part::Native { dialect: Dialect::Responses, value } if turn.role != Role::System => {
                    value.clone()
                }
                Part::Refusal(text) => {
                    content.push(json!({"type": "refusal", "refusal": text}));
                    continue;
                }
                Part::Text { text, cache } => {
                    self.mark(cache.as_ref());
                    let kind = if turn.role == Role::Assistant { "output_text" } else { "input_text" };
                    content.push(json!({"type": kind, "text": text}));
                    continue;
                }
                other => {
                    content.push(media(other)?);
                    continue;
                }
            };
            self.say(turn.role, &mut content);
            self.items.push(item);
        }
        self.say(turn.role, &mut content);
        Ok(())
    }

    fn say(&mut self, role: Role, content: &mut Vec<Value>) {
        if content.is_empty() {
            return;
        }
        let role = match role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let said = std::mem::take(content);
        // One text is written as a string, which every host takes.
        let content = match &said[..] {
            [one] if one["type"] != "refusal" && one["text"].is_string() => one["text"].clone(),
            _ => Value::Array(said),
        };
        self.items.push(json!({"type": "message", "role": role, "content": content}));
    }

    /// What is repeated is found in the cache by itself there; only the newest models take marks.
    fn mark(&mut self, cache: Option<&Value>) {
        if cache.is_some() {
            self.losses.note("cache_control");
        }
    }

    fn call(&mut self, call: &ToolCall) -> Value {
        if call.signature.is_some() {
            self.losses.note("reasoning of another provider");
        }
        let id = self.ids.get(&call.id);
        if custom::is_called(self.prompt, &call.name) {
            let input = custom::input(&call.arguments);
            return json!({"type": "custom_tool_call", "call_id": id, "name": call.name, "input": input});
        }
        let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
        json!({"type": "function_call", "call_id": id, "name": call.name, "arguments": arguments})
    }

    fn result(&mut self, result: &ToolResult) -> Result<Value, Refusal> {
        if result.is_error {
            self.losses.note("tool_result.is_error");
        }
        let mut content = Vec::with_capacity(result.parts.len());
        for part in &result.parts {
            content.push(match part {
                Part::Text { text, cache } => {
                    self.mark(cache.as_ref());
                    json!({"type": "input_text", "text": text})
                }
                other => media(other)?,
            });
        }
        let output = match &content[..] {
            [] => Value::String(String::new()),
            [one] if one["type"] == "input_text" => one["text"].clone(),
            _ => Value::Array(content),
        };
        let custom = self.ids.is_custom(self.prompt, &result.call_id);
        let kind = if custom { "custom_tool_call_output" } else { "function_call_output" };
        Ok(json!({"type": kind, "call_id": self.ids.get(&result.call_id), "output": output}))
    }

    /// Reasoning is taken back with its proof only, and only by its maker.
    fn reasoning(&mut self, thought: &Reasoning) -> Option<Value> {
        let ours = thought.origin == Some(Dialect::Responses);
        let Some(signature) = thought.signature.as_ref().filter(|_| ours) else {
            self.losses.note("reasoning of another provider");
            return None;
        };
        let summary = match thought.redacted {
            true => json!([]),
            false => json!([{"type": "summary_text", "text": thought.text}]),
        };
        // Without its id: whether that is still the provider's own, nobody can say here.
        Some(json!({"type": "reasoning", "summary": summary, "encrypted_content": signature}))
    }
}

/// The ids of calls: those that are too long here get short ones, the same for a call and its result.
struct CallIds {
    short: HashMap<String, String>,
    names: HashMap<String, String>,
}

impl CallIds {
    fn of(turns: &[Turn]) -> Self {
        let parts = || turns.iter().flat_map(|turn| &turn.parts);
        let ids = || {
            parts().filter_map(|part| match part {
                Part::ToolCall(call) => Some(&call.id),
                Part::ToolResult(result) => Some(&result.call_id),
                _ => None,
            })
        };
        let fits: HashSet<&str> = ids().map(String::as_str).filter(|id| id.len() <= MAX_CALL_ID).collect();
        let mut short = HashMap::new();
        let mut number = 0_usize;
        for id in ids().filter(|id| id.len() > MAX_CALL_ID) {
            if short.contains_key(id) {
                continue;
            }
            let free = loop {
                let candidate = format!("call_{number}");
                number += 1;
                if !fits.contains(candidate.as_str()) {
                    break candidate;
                }
            };
            short.insert(id.clone(), free);
        }
        let names = parts().filter_map(|part| match part {
            Part::ToolCall(call) => Some((call.id.clone(), call.name.clone())),
            _ => None,
        });
        CallIds { short, names: names.collect() }
    }

    fn get<'a>(&'a self, id: &'a str) -> &'a str {
        self.short.get(id).map_or(id, String::as_str)
    }

    fn is_custom(&self, prompt: &Prompt, id: &str) -> bool {
        self.names.get(id).is_some_and(|name| custom::is_called(prompt, name))
    }
}

/// A picture or a document.
fn media(part: &Part) -> Result<Value, Refusal> {
    match part {
        Part::Image(image) => write_image(image),
        Part::File(media) => write_file(media),
        Part::Native { dialect: Dialect::Responses, value } => Ok(value.clone()),
        Part::Native { value, .. } => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("this part");
            let text =
                format!("The provider of this model has no place for `{kind}` in a message: leave it out.");
            Err(refuse(Some("messages"), text))
        }
        Part::Audio(_) => {
            let text = "The provider of this model takes no sound here: send a transcript of it.";
            Err(refuse(Some("messages"), text))
        }
        _ => Err(refuse(Some("messages"), "A tool's result may hold text, images and files only.")),
    }
}

fn write_image(image: &Image) -> Result<Value, Refusal> {
    let detail = image.detail.as_deref().unwrap_or("auto");
    match &image.source {
        Source::Url(url) => Ok(json!({"type": "input_image", "image_url": url, "detail": detail})),
        Source::Base64 { media, data } => {
            let url = format!("data:{media};base64,{data}");
            Ok(json!({"type": "input_image", "image_url": url, "detail": detail}))
        }
        Source::Uploaded(Dialect::Responses | Dialect::Chat, id) => {
            Ok(json!({"type": "input_image", "file_id": id, "detail": detail}))
        }
        Source::Uploaded(..) => Err(uploaded("image")),
    }
}

fn write_file(media: &Media) -> Result<Value, Refusal> {
    let mut file = match &media.source {
        Source::Url(url) => return Ok(json!({"type": "input_file", "file_url": url})),
        Source::Uploaded(Dialect::Responses | Dialect::Chat, id) => {
            return Ok(json!({"type": "input_file", "file_id": id}));
        }
        Source::Uploaded(..) => return Err(uploaded("document")),
        Source::Base64 { media, data } => {
            json!({"type": "input_file", "file_data": format!("data:{media};base64,{data}")})
        }
    };
    file["filename"] = media.name.as_deref().unwrap_or("document.pdf").into();
    Ok(file)
}

fn uploaded(what: &str) -> Refusal {
    let text = format!("The {what} is known to another provider only: send it inline or by URL.");
    refuse(Some("messages"), text)
}
