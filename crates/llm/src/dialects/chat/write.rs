//! Writing a chat request.

use ::chat::{
    ChatRequest, Content, ContentPart, Extra, FilePart, FunctionCall, FunctionDefinition, FunctionTool,
    ImagePart, ImageUrl, InputAudio, InputAudioPart, JsonSchemaFormat, Message, NamedFunction,
    NamedToolChoice, ResponseFormat, Role as WireRole, Stop, StreamOptions, TextPart, Tool as WireTool,
    ToolCall as WireCall, ToolChoice as WireChoice, ToolChoiceMode,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::reasoning;
use crate::Dialect;
use crate::form::{
    Format, Image, Losses, Media, Part, Prompt, Reasoning, Role, Source, Tool, ToolCall, ToolChoice,
    ToolResult, Turn,
};
use crate::openai::Refusal;

pub(super) fn prompt(prompt: &Prompt, model: &str, losses: &mut Losses) -> Result<Bytes, Refusal> {
    losses.note_rest(prompt);
    let mut messages = Vec::with_capacity(prompt.turns.len());
    for turn in &prompt.turns {
        write_turn(turn, &mut messages, losses)?;
    }
    let tools = prompt.tools.iter().map(|tool| write_tool(tool, losses)).collect::<Result<Vec<_>, _>>()?;
    let mut extra = Extra::new();
    if prompt.top_k.is_some() {
        // Most hosts of open models take it; OpenAI, whose dialect this is, refuses it.
        losses.note("top_k");
    }
    if let Some(tier) = &prompt.service_tier {
        extra.insert("service_tier".into(), tier.as_str().into());
    }
    if prompt.metadata.is_some() {
        // Kept only for stored answers, and refused by some without.
        losses.note("metadata");
    }
    let ask = prompt.reasoning.as_ref();
    let request = ChatRequest {
        model: model.to_owned(),
        messages,
        tools: (!tools.is_empty()).then_some(tools),
        tool_choice: prompt.tool_choice.as_ref().map(write_choice),
        parallel_tool_calls: prompt.parallel_tools.filter(|_| !prompt.tools.is_empty()),
        response_format: write_format(&prompt.format),
        stream: prompt.stream.then_some(true),
        stream_options: prompt
            .stream
            .then(|| StreamOptions { include_usage: Some(true), extra: Extra::new() }),
        n: (prompt.choices > 1).then_some(u64::from(prompt.choices)),
        max_completion_tokens: prompt.max_output,
        reasoning_effort: ask.and_then(|ask| ask.words()).map(str::to_owned),
        temperature: prompt.temperature,
        top_p: prompt.top_p,
        frequency_penalty: prompt.frequency_penalty,
        presence_penalty: prompt.presence_penalty,
        stop: (!prompt.stop.is_empty()).then(|| Stop::Many(prompt.stop.clone())),
        seed: prompt.seed,
        logprobs: prompt.logprobs.then_some(true),
        top_logprobs: prompt.top_logprobs,
        user: prompt.user.clone(),
        extra,
        ..ChatRequest::default()
    };
    serde_json::to_vec(&request).map(Bytes::from).map_err(|e| refuse("messages", e.to_string()))
}

fn refuse(param: &'static str, message: String) -> Refusal {
    Refusal { message, param: Some(param) }
}

/// One turn: the results of tools as messages of their own, before what else it says.
fn write_turn(turn: &Turn, messages: &mut Vec<Message>, losses: &mut Losses) -> Result<(), Refusal> {
    let role = match turn.role {
        Role::System => WireRole::System,
        Role::User => WireRole::User,
        Role::Assistant => WireRole::Assistant,
    };
    let mut content = Vec::new();
    let mut thoughts: Vec<&Reasoning> = Vec::new();
    let (mut calls, mut refusal) = (Vec::new(), None::<String>);
    for part in &turn.parts {
        match part {
            Part::ToolResult(result) => messages.push(write_result(result, &mut content, losses)?),
            Part::ToolCall(call) => calls.push(write_call(call)),
            Part::Refusal(text) => refusal.get_or_insert_default().push_str(text),
            // Another provider's reasoning would be refused, or read as the model's own words.
            Part::Reasoning(thought) => match thought.origin {
                None | Some(Dialect::Chat) => thoughts.push(thought),
                Some(_) => losses.note("reasoning of another provider"),
            },
            // A mark on something that is no text.
            Part::Text { text, cache: Some(_) } if text.is_empty() => losses.note("cache_control"),
            other => content.push(write_part(other, losses)?),
        }
    }
    if content.is_empty() && calls.is_empty() && refusal.is_none() && thoughts.is_empty() {
        return Ok(());
    }
    let mut extra = Extra::new();
    reasoning::put(&mut extra, &thoughts, Dialect::Chat);
    messages.push(Message {
        role,
        content: plain(content),
        name: turn.name.clone(),
        tool_calls: (!calls.is_empty()).then_some(calls),
        tool_call_id: None,
        refusal,
        extra,
    });
    Ok(())
}

/// Text alone is written as a string, which every host takes; instructions and answers always are.
fn plain(mut content: Vec<ContentPart>) -> Option<Content> {
    if content.is_empty() {
        return None;
    }
    let mut texts = Vec::with_capacity(content.len());
    for part in &mut content {
        let ContentPart::Text(text) = part else { return Some(Content::Parts(content)) };
        texts.push(text.text.as_str());
    }
    Some(Content::Text(texts.join("\n")))
}

fn write_part(part: &Part, losses: &mut Losses) -> Result<ContentPart, Refusal> {
    Ok(match part {
        Part::Text { text, cache } => {
            if cache.is_some() {
                losses.note("cache_control");
            }
            ContentPart::Text(TextPart { text: text.clone(), extra: Extra::new() })
        }
        Part::Image(image) => ContentPart::ImageUrl(write_image(image)?),
        Part::Audio(media) => ContentPart::InputAudio(write_audio(media)?),
        Part::File(media) => ContentPart::File(write_file(media)?),
        Part::Native { dialect: Dialect::Chat, value } => ContentPart::Other(value.clone()),
        Part::Native { value, .. } => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("this part");
            let text =
                format!("The provider of this model has no place for `{kind}` in a message: leave it out.");
            return Err(refuse("messages", text));
        }
        Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) | Part::Refusal(_) => {
            return Err(refuse("messages", "A tool's result may hold text, images and files only.".into()));
        }
    })
}

fn write_image(image: &Image) -> Result<ImagePart, Refusal> {
    let url = match &image.source {
        Source::Url(url) => url.clone(),
        Source::Base64 { media, data } => format!("data:{media};base64,{data}"),
        Source::Uploaded(..) => return Err(uploaded("image")),
    };
    let image_url = ImageUrl { url, detail: image.detail.clone(), extra: Extra::new() };
    Ok(ImagePart { image_url, extra: Extra::new() })
}

fn write_audio(media: &Media) -> Result<InputAudioPart, Refusal> {
    let Source::Base64 { media, data } = &media.source else { return Err(uploaded("audio")) };
    let format = media.rsplit('/').next().unwrap_or_default();
    let format = match format {
        "mpeg" => "mp3",
        "x-wav" | "wave" => "wav",
        other => other,
    };
    let input_audio = InputAudio { data: data.clone(), format: format.to_owned(), extra: Extra::new() };
    Ok(InputAudioPart { input_audio, extra: Extra::new() })
}

fn write_file(media: &Media) -> Result<FilePart, Refusal> {
    let mut file = Extra::new();
    match &media.source {
        Source::Uploaded(Dialect::Chat | Dialect::Responses, id) => {
            file.insert("file_id".into(), id.as_str().into());
        }
        Source::Base64 { media: kind, data } => {
            let name = media.name.as_deref().unwrap_or("document.pdf");
            file.insert("filename".into(), name.into());
            file.insert("file_data".into(), format!("data:{kind};base64,{data}").into());
        }
        Source::Url(_) => {
            let text = "The provider of this model takes documents inline only: send its bytes in Base64.";
            return Err(refuse("messages", text.into()));
        }
        Source::Uploaded(..) => return Err(uploaded("document")),
    }
    Ok(FilePart { file, extra: Extra::new() })
}

fn uploaded(what: &str) -> Refusal {
    let text = format!("The {what} is known to another provider only: send it inline or by URL.");
    refuse("messages", text)
}

/// A tool's result has text only here; its pictures go into the message that follows.
fn write_result(
    result: &ToolResult,
    following: &mut Vec<ContentPart>,
    losses: &mut Losses,
) -> Result<Message, Refusal> {
    if result.is_error {
        losses.note("tool_result.is_error");
    }
    let mut texts = Vec::new();
    for part in &result.parts {
        match write_part(part, losses)? {
            ContentPart::Text(text) if text.text.is_empty() => {}
            ContentPart::Text(text) => texts.push(text.text),
            other => following.push(other),
        }
    }
    Ok(Message {
        role: WireRole::Tool,
        content: Some(Content::Text(texts.join("\n"))),
        tool_call_id: Some(result.call_id.clone()),
        ..Message::default()
    })
}

pub(super) fn write_call(call: &ToolCall) -> WireCall {
    let arguments = if call.arguments.is_empty() { "{}".to_owned() } else { call.arguments.clone() };
    let function = FunctionCall { name: call.name.clone(), arguments, extra: Extra::new() };
    let mut extra = Extra::new();
    if let Some(signature) = &call.signature {
        extra.insert("extra_content".into(), json!({"google": {"thought_signature": signature}}));
    }
    WireCall { id: call.id.clone(), kind: "function".into(), function: Some(function), extra }
}

fn write_tool(tool: &Tool, losses: &mut Losses) -> Result<WireTool, Refusal> {
    match tool {
        Tool::Function(function) => {
            if function.cache.is_some() {
                losses.note("cache_control");
            }
            Ok(WireTool::Function(FunctionTool {
                function: FunctionDefinition {
                    name: function.name.clone(),
                    description: function.description.clone(),
                    parameters: function.parameters.clone(),
                    strict: function.strict,
                    extra: Extra::new(),
                },
                extra: Extra::new(),
            }))
        }
        Tool::Native { dialect: Dialect::Chat, value } => Ok(WireTool::Other(value.clone())),
        Tool::Native { value, .. } => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("of that type");
            let text =
                format!("The provider of this model does not run the tool `{kind}`: offer functions only.");
            Err(refuse("tools", text))
        }
    }
}

fn write_choice(choice: &ToolChoice) -> WireChoice {
    match choice {
        ToolChoice::Auto => WireChoice::Mode(ToolChoiceMode::Auto),
        ToolChoice::None => WireChoice::Mode(ToolChoiceMode::None),
        ToolChoice::Required => WireChoice::Mode(ToolChoiceMode::Required),
        ToolChoice::Named(name) => WireChoice::Named(NamedToolChoice {
            kind: "function".into(),
            function: NamedFunction { name: name.clone(), extra: Extra::new() },
            extra: Extra::new(),
        }),
    }
}

fn write_format(format: &Format) -> Option<ResponseFormat> {
    match format {
        Format::Text => None,
        Format::Json => Some(ResponseFormat::JsonObject { extra: Extra::new() }),
        Format::Schema { name, description, schema, strict } => Some(ResponseFormat::JsonSchema {
            json_schema: JsonSchemaFormat {
                name: name.clone().unwrap_or_else(|| "answer".into()),
                description: description.clone(),
                schema: Some(schema.clone()),
                strict: *strict,
                extra: Extra::new(),
            },
            extra: Extra::new(),
        }),
    }
}
