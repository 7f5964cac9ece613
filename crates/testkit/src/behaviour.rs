//! What the fake provider does with a request: a builder for each way to answer well or badly.
//!
//! A behaviour adapts to the request. To a streaming chat request it sends events, to another chat request a
//! whole body, to an embedding request vectors. A fault that exists only within a stream has, for a
//! whole body, the nearest thing: it is cut, stalled or broken half-way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ask::{Ask, Surface};
use crate::chat;
use crate::completions;
use crate::native::{self, Said};
use crate::reply::{Ending, Framing, Piece, Reply};
use crate::responses;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The connection is closed with no terminating chunk.
    Clean,
    /// The connection is reset.
    Reset,
    /// The chunked body ends properly, though the answer does not: no finish reason, no `[DONE]`.
    ChunkedEnd,
}

/// One way to answer a request; cheap to clone.
#[derive(Clone)]
pub struct Behaviour {
    name: String,
    make: Arc<dyn Fn(&Ask) -> Reply + Send + Sync>,
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Behaviour").field(&self.name).finish()
    }
}

/// Whole answers, good ones.
impl Behaviour {
    /// A behaviour of your own. The name appears in failed assertions.
    pub fn custom(
        name: impl Into<String>,
        make: impl Fn(&Ask) -> Reply + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour { name: name.into(), make: Arc::new(make) }
    }

    /// The usual good answer: [`chat::events`], [`chat::body`], [`chat::embeddings_body`], [`chat::models_body`];
    /// 404 for any other path.
    pub fn ok() -> Behaviour {
        Behaviour::custom("ok", good)
    }

    /// A good answer with this text.
    pub fn ok_text(text: impl Into<String>) -> Behaviour {
        let text = text.into();
        Behaviour::chat("ok_text", move |ask| match ask.stream {
            _ if ask.surface.is_native() => native::answer(ask, &Said::Text(&text, "end_turn")),
            true => Reply::events(chat::text_events(&text, "stop", ask.include_usage)),
            false => json(200, chat::text_body(&text, "stop")),
        })
    }

    /// A call of the tool [`chat::TOOL_NAME`].
    pub fn ok_tool_call() -> Behaviour {
        Behaviour::chat("ok_tool_call", |ask| match ask.stream {
            _ if ask.surface.is_native() => native::answer(ask, &Said::Call),
            true => Reply::events(chat::tool_events(ask.include_usage)),
            false => json(200, chat::tool_body()),
        })
    }

    /// The usual answer without usage, even when it is asked for.
    pub fn without_usage() -> Behaviour {
        Behaviour::chat("without_usage", |ask| match ask.stream {
            _ if ask.surface.is_native() => good(ask),
            true => Reply::events(chat::events(false)),
            false => json(200, chat::body_without_usage()),
        })
    }

    /// The usual answer; when usage is asked for, every other chunk carries `"usage":null`, as OpenAI does.
    pub fn null_usage() -> Behaviour {
        Behaviour::chat("null_usage", |ask| match ask.stream && ask.include_usage {
            true => Reply::events(chat::with_null_usage(chat::events(true))),
            false => good(ask),
        })
    }

    /// A large answer whose content is `n` times `x`; streamed, it is one event.
    pub fn huge_body(n: usize) -> Behaviour {
        Behaviour::ok_text("x".repeat(n)).named(format!("huge_body({n})"))
    }

    /// The model stopped by a content filter: two parts of content, then `finish_reason: content_filter`.
    pub fn content_filter_finish() -> Behaviour {
        Behaviour::chat("content_filter_finish", |ask| match ask.stream {
            _ if ask.surface == Surface::Messages => {
                native::answer(ask, &Said::Text("Hello from", "refusal"))
            }
            _ if ask.surface.is_native() => {
                native::answer(ask, &Said::Text("Hello from", "guardrail_intervened"))
            }
            true => Reply::events(chat::text_events("Hello from", "content_filter", ask.include_usage)),
            false => json(200, chat::text_body("Hello from", "content_filter")),
        })
    }
}

/// Errors that are said by a status.
impl Behaviour {
    /// An error with OpenAI's body for the status, and a `retry-after` header when one is given.
    pub fn error(status: u16, retry_after: Option<&str>) -> Behaviour {
        let (message, kind, code) = match status {
            401 => ("Incorrect API key provided.", "invalid_request_error", Some("invalid_api_key")),
            403 => ("You are not allowed to do this.", "invalid_request_error", Some("forbidden")),
            404 => ("The model does not exist.", "invalid_request_error", Some("model_not_found")),
            429 => ("Rate limit reached for requests.", "requests", Some("rate_limit_exceeded")),
            503 => ("The engine is currently overloaded.", "server_error", Some("overloaded")),
            400..=499 => ("The request is not valid.", "invalid_request_error", None),
            _ => ("The server had an error.", "server_error", None),
        };
        let behaviour =
            Behaviour::custom(format!("error({status})"), move |ask| match ask.surface.is_native() {
                true => native::error(ask, status, message),
                false => json(status, chat::error_body(message, kind, None, code)),
            });
        match retry_after {
            Some(value) => behaviour.with_header("retry-after", value),
            None => behaviour,
        }
    }

    /// 429 with this `retry-after`: seconds or an HTTP date.
    pub fn rate_limited(retry_after: &str) -> Behaviour {
        Behaviour::error(429, Some(retry_after))
    }

    /// 400: the conversation is longer than the model's context.
    pub fn context_overflow() -> Behaviour {
        let body = chat::error_body(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. Please reduce the length of the messages.",
            "invalid_request_error",
            Some("messages"),
            Some("context_length_exceeded"),
        );
        Behaviour::custom("context_overflow", move |ask| match ask.surface {
            Surface::Messages => native::error(ask, 400, "prompt is too long: 9000 tokens > 8192 maximum"),
            Surface::Converse => native::error(ask, 400, "Input is too long for requested model."),
            Surface::Gemini => native::error(
                ask,
                400,
                "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
            ),
            _ => json(400, body.clone()),
        })
    }

    /// 400: the prompt was refused by a content filter.
    pub fn content_filter_refusal() -> Behaviour {
        let body = chat::error_body(
            "The response was filtered due to the prompt triggering the content management policy.",
            "invalid_request_error",
            Some("prompt"),
            Some("content_filter"),
        );
        Behaviour::custom("content_filter_refusal", move |ask| match ask.surface.is_native() {
            true => native::error(ask, 400, "Output blocked by content filtering policy"),
            false => json(400, body.clone()),
        })
    }

    /// An error page as a proxy in front of the provider sends it.
    pub fn html_error(status: u16) -> Behaviour {
        let page =
            format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
        Behaviour::fixed(format!("html_error({status})"), Reply::whole(status, "text/html", page))
    }

    /// A redirect to `/v1/redirected` of the same fake: a client that follows it makes a second request.
    pub fn redirect(status: u16) -> Behaviour {
        Behaviour::fixed(format!("redirect({status})"), Reply::whole(status, "text/plain", ""))
            .with_header("location", "/v1/redirected")
    }
}

/// Connections that fail before an answer.
impl Behaviour {
    /// Resets the connection (RST) after reading the request, before any byte.
    pub fn reset() -> Behaviour {
        Behaviour::fixed("reset", Reply::nothing(Ending::Reset))
    }

    /// Closes the connection (FIN) after reading the request, before any byte.
    pub fn close_before_response() -> Behaviour {
        Behaviour::fixed("close_before_response", Reply::nothing(Ending::Close))
    }

    /// Holds the connection open and says nothing.
    pub fn no_response() -> Behaviour {
        Behaviour::fixed("no_response", Reply::nothing(Ending::Silence))
    }

    /// Writes these bytes, whatever they are, and closes.
    pub fn raw(bytes: impl Into<Bytes>) -> Behaviour {
        let pieces = vec![Piece::now(bytes)];
        Behaviour::fixed("raw", Reply { pieces, ..Reply::nothing(Ending::Close) })
    }
}

/// Answers that are slow or in odd pieces.
impl Behaviour {
    /// The head and the role arrive at once, the first token only after this pause; a whole body waits with its head.
    pub fn slow_first_token(pause: Duration) -> Behaviour {
        Behaviour::custom(format!("slow_first_token({pause:?})"), move |ask| {
            let mut reply = good(ask);
            match ask.stream {
                true => reply.pieces[1].after = pause,
                false => reply.delay = pause,
            }
            reply
        })
    }

    /// Pauses before each event; a whole body pauses half-way.
    pub fn slow_body(pause: Duration) -> Behaviour {
        Behaviour::custom(format!("slow_body({pause:?})"), move |ask| {
            let mut reply = good(ask);
            if !ask.stream {
                let body = Bytes::from(reply.body());
                let middle = body.len() / 2;
                reply.pieces = vec![Piece::now(body.slice(..middle)), Piece::now(body.slice(middle..))];
            }
            let first = usize::from(!ask.stream);
            reply.pieces.iter_mut().skip(first).for_each(|piece| piece.after = pause);
            reply
        })
    }

    /// Waits before the first byte of another behaviour.
    pub fn delay(pause: Duration, inner: Behaviour) -> Behaviour {
        let name = format!("delay({pause:?}, {})", inner.name);
        inner.change(move |reply| reply.delay += pause).named(name)
    }

    /// Writes another behaviour, head included, in pieces of these sizes in bytes, repeated in turn.
    ///
    /// The pieces are written about 0.1 ms apart, so that a reader mostly sees them apart as well.
    /// Panics when there is no size, or a size is 0.
    pub fn split_bytes(sizes: impl Into<Vec<usize>>, inner: Behaviour) -> Behaviour {
        let sizes = sizes.into();
        assert!(!sizes.is_empty() && !sizes.contains(&0), "sizes of pieces must be positive: {sizes:?}");
        let name = format!("split_bytes({sizes:?}, {})", inner.name);
        inner.change(move |reply| reply.splits.clone_from(&sizes)).named(name)
    }
}

/// Answers that break off or are broken within.
impl Behaviour {
    /// Sends `n` events (the first is the role), then cuts; a whole body is cut half-way.
    pub fn cut_after_events(n: usize, cut: Cut) -> Behaviour {
        Behaviour::custom(format!("cut_after_events({n}, {cut:?})"), move |ask| {
            truncated(
                ask,
                n,
                match cut {
                    Cut::Clean => Ending::Close,
                    Cut::Reset => Ending::Reset,
                    Cut::ChunkedEnd => Ending::Complete,
                },
            )
        })
    }

    /// Closes after the role, before the first content token.
    pub fn cut_early() -> Behaviour {
        Behaviour::cut_after_events(1, Cut::Clean).named("cut_early")
    }

    /// Closes after the role and three content tokens.
    pub fn cut_late() -> Behaviour {
        Behaviour::cut_after_events(4, Cut::Clean).named("cut_late")
    }

    /// Sends `n` events, then is silent; a whole body stalls half-way.
    pub fn stall_after_events(n: usize) -> Behaviour {
        Behaviour::custom(format!("stall_after_events({n})"), move |ask| truncated(ask, n, Ending::Silence))
    }

    /// Puts [`chat::malformed_event`] after `n` events and goes on; a whole body breaks off though its length is right.
    pub fn malformed_chunk_after(n: usize) -> Behaviour {
        Behaviour::custom(format!("malformed_chunk_after({n})"), move |ask| {
            let mut reply = good(ask);
            match ask.stream {
                true => {
                    let bad = match ask.surface.is_native() {
                        true => native::malformed_event(ask.surface),
                        false => (chat::malformed_event() + "\n\n").into_bytes(),
                    };
                    reply.pieces.insert(n.min(reply.pieces.len()), Piece::now(bad));
                }
                false => {
                    let mut body = reply.body();
                    body.truncate(body.len() / 2);
                    reply.pieces = vec![Piece::now(body)];
                }
            }
            reply
        })
    }

    /// Finishes the answer and the chunked body, but sends no `[DONE]`; a whole body is as usual.
    pub fn missing_done() -> Behaviour {
        Behaviour::custom("missing_done", |ask| {
            let mut reply = good(ask);
            if ask.stream {
                reply.pieces.pop();
            }
            reply
        })
    }

    /// Sends `n` events, then [`chat::error_event`], then ends the chunked body; without a stream, 500.
    pub fn error_event_after(n: usize) -> Behaviour {
        Behaviour::custom(format!("error_event_after({n})"), move |ask| {
            if !ask.stream && ask.surface.is_native() {
                return native::error(ask, 500, chat::ERROR_EVENT_MESSAGE);
            }
            if !ask.stream {
                return json(500, chat::error_body(chat::ERROR_EVENT_MESSAGE, "server_error", None, None));
            }
            let mut reply = truncated(ask, n, Ending::Complete);
            reply.pieces.push(Piece::now(match ask.surface {
                Surface::Responses => {
                    (responses::error_event(chat::ERROR_EVENT_MESSAGE) + "\n\n").into_bytes()
                }
                _ if ask.surface.is_native() => native::error_event(ask.surface),
                _ => (chat::error_event() + "\n\n").into_bytes(),
            }));
            reply
        })
    }

    /// Half of a whole body under a `content-length` that promises all of it, then a close; a stream is cut after
    /// three events.
    pub fn truncated_body() -> Behaviour {
        Behaviour::cut_after_events(3, Cut::Clean).named("truncated_body")
    }

    /// 200 and `application/json`, but the body is not JSON; the same for a stream.
    pub fn not_json() -> Behaviour {
        Behaviour::fixed("not_json", json(200, "this is not JSON".to_owned()))
    }

    /// The usual answer under `content-type: text/plain`.
    pub fn wrong_content_type() -> Behaviour {
        Behaviour::ok().with_header("content-type", "text/plain").named("wrong_content_type")
    }

    /// Answers a streaming request with a whole body, as a provider does that does not know `stream`.
    pub fn ignores_stream() -> Behaviour {
        Behaviour::custom("ignores_stream", |ask| good(&Ask { stream: false, ..ask.clone() }))
    }
}

/// Changing and reading a behaviour.
impl Behaviour {
    /// Adds a header to the answer, in place of one of the same name.
    #[must_use]
    pub fn with_header(self, name: &str, value: &str) -> Behaviour {
        let (header, value) = (name.to_owned(), value.to_owned());
        self.change(move |reply| reply.set_header(&header, &value))
    }

    /// What it is called in failed assertions.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The answer to this request, down to its bytes.
    pub fn reply(&self, ask: &Ask) -> Reply {
        (self.make)(ask)
    }

    /// The events that a streaming chat request gets.
    pub fn expected_events(&self, include_usage: bool) -> Vec<String> {
        let body =
            String::from_utf8(self.reply(&Ask::chat_stream(include_usage)).body()).expect("UTF-8 events");
        body.split_terminator("\n\n").map(str::to_owned).collect()
    }

    /// The body that a chat request without streaming gets.
    pub fn expected_body(&self) -> Vec<u8> {
        self.reply(&Ask::chat()).body()
    }

    fn fixed(name: impl Into<String>, reply: Reply) -> Behaviour {
        Behaviour::custom(name, move |_| reply.clone())
    }

    /// A behaviour for chat that is [`Behaviour::ok`] for everything else.
    fn chat(name: &str, make: impl Fn(&Ask) -> Reply + Send + Sync + 'static) -> Behaviour {
        Behaviour::custom(name, move |ask| match ask.surface {
            Surface::Chat | Surface::Messages | Surface::Converse | Surface::Gemini => make(ask),
            _ => good(ask),
        })
    }

    fn named(self, name: impl Into<String>) -> Behaviour {
        Behaviour { name: name.into(), ..self }
    }

    fn change(self, change: impl Fn(&mut Reply) + Send + Sync + 'static) -> Behaviour {
        let make = self.make;
        Behaviour::custom(self.name, move |ask| {
            let mut reply = make(ask);
            change(&mut reply);
            reply
        })
    }
}

fn json(status: u16, body: String) -> Reply {
    Reply::whole(status, "application/json", body)
}

fn good(ask: &Ask) -> Reply {
    match ask.surface {
        Surface::Chat if ask.stream => Reply::events(chat::events(ask.include_usage)),
        Surface::Chat => json(200, chat::body()),
        Surface::Embeddings => json(200, chat::embeddings_body(ask.inputs, ask.base64)),
        Surface::Messages | Surface::CountTokens | Surface::Converse | Surface::Gemini => native::good(ask),
        Surface::Models => json(200, chat::models_body()),
        Surface::Completions if ask.stream => Reply::events(completions::events(ask.include_usage)),
        Surface::Completions => json(200, completions::body()),
        Surface::Responses if ask.stream => Reply::events(responses::events()),
        Surface::Responses => json(200, responses::body()),
        Surface::Response if ask.delete => json(200, responses::deleted_body()),
        Surface::Response => json(200, responses::body()),
        Surface::ResponseItems => json(200, responses::input_items_body()),
        Surface::Other => json(
            404,
            chat::error_body("Unknown request URL.", "invalid_request_error", None, Some("unknown_url")),
        ),
    }
}

/// The good answer up to event `n`, or half of a whole body under its full length, with this ending.
fn truncated(ask: &Ask, n: usize, ending: Ending) -> Reply {
    let mut reply = good(ask);
    if ask.stream {
        reply.pieces.truncate(n);
        return Reply { ending, ..reply };
    }
    let mut body = reply.body();
    reply.framing = Framing::Declared(body.len());
    body.truncate(body.len() / 2);
    reply.pieces = vec![Piece::now(body)];
    // A length that is not kept cannot be completed: the connection has to end.
    reply.ending = if ending == Ending::Complete { Ending::Close } else { ending };
    reply
}
