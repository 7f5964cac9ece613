//! Reading a provider's stream: events forwarded as they came, and what they mean decoded on the side.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::Usage;
use bytes::Bytes;
use llm::dialects::{egress, ingress};
use llm::form::{ErrorClass, Piece};
use llm::openai::{Chunk, DONE, DONE_EVENT, Envelope, MediaReader, read_chunk};
use llm::sse::{Decoder, Event};
use llm::{Dialect, InboundBody, Operation, StreamReader, StreamWriter};

use crate::convert::Translation;
use crate::failure::Failure;

/// The longest single event.
const MAX_EVENT: usize = 4 << 20;
/// How much may be held back while waiting for the first content.
const MAX_HELD: usize = 64 << 10;
/// How much of the answer's text is kept, in case it must be counted here.
const MAX_TEXT: usize = 256 << 10;

/// How a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More may come.
    Open,
    /// It ended as it should.
    Clean,
    /// It broke. The text is for the log.
    Broken(String),
}

/// A provider's stream being read.
pub(crate) struct Reader {
    body: InboundBody,
    decoder: Decoder,
    /// Events to forward, in order.
    pub(crate) ready: VecDeque<Bytes>,
    held: usize,
    /// The first content, or the proper end, is here.
    committed: bool,
    pub(crate) end: End,
    include_usage: bool,
    choices: u32,
    finished: u32,
    /// The event that ends the stream, held until usage is known.
    pub(crate) terminator: Option<Bytes>,
    pub(crate) seen: Seen,
    pub(crate) idle_timeout: Duration,
    /// How its events are understood; `None` for OpenAI's chunks, which are forwarded and watched.
    translator: Option<Translator>,
}

/// Understands the events of another dialect than OpenAI's chat.
struct Translator {
    reader: Box<dyn StreamReader>,
    /// Writes them in the client's dialect; `None` where that is the same and they are forwarded.
    writer: Option<Box<dyn StreamWriter>>,
    /// What the client's dialect ends a stream with, when the provider left it out.
    terminator: &'static [u8],
    pieces: Vec<Piece>,
}

impl Translator {
    /// For what is no chat: forwarded and watched.
    fn media(operation: Operation, envelope: &Envelope) -> Self {
        Translator {
            reader: Box::new(MediaReader::new(operation, envelope.asked.clone())),
            writer: None,
            terminator: b"",
            pieces: Vec::new(),
        }
    }

    /// What a stream needs to be understood. A converter is only made for dialects that there are, so that what
    /// is missing here is forwarded as OpenAI's.
    fn new(translation: Translation) -> Option<Self> {
        let plain = matches!(translation.provider, Dialect::Chat | Dialect::Completions);
        if translation.frame.is_none() && plain {
            return None;
        }
        let client = ingress(translation.client)?;
        Some(Translator {
            reader: egress(translation.provider)?.reader(),
            writer: translation.frame.map(|frame| client.writer(frame)),
            terminator: client.terminator(),
            pieces: Vec::new(),
        })
    }
}

/// What the stream said, for the record.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) usage: Option<Usage>,
    pub(crate) model: Option<String>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) text: String,
}

impl Reader {
    pub(crate) fn new(
        body: InboundBody,
        operation: Operation,
        envelope: &Envelope,
        translation: Translation,
        idle_timeout: Duration,
    ) -> Self {
        Reader {
            body,
            decoder: Decoder::new(MAX_EVENT),
            ready: VecDeque::with_capacity(4),
            held: 0,
            committed: false,
            end: End::Open,
            include_usage: envelope.include_usage,
            choices: envelope.choices,
            finished: 0,
            terminator: None,
            seen: Seen::default(),
            idle_timeout,
            translator: match operation {
                Operation::Chat => Translator::new(translation),
                _ => Some(Translator::media(operation, envelope)),
            },
        }
    }

    /// Reads until the first content is here, so that an earlier error can still be hidden.
    pub(crate) async fn prime(&mut self) -> Result<(), Failure> {
        while !self.committed && self.held <= MAX_HELD {
            poll_fn(|cx| self.poll_advance(cx)).await;
            match &self.end {
                End::Open => {}
                End::Clean => break,
                End::Broken(what) if !self.committed => return Err(Failure::Protocol(what.clone())),
                End::Broken(_) => break,
            }
        }
        Ok(())
    }

    /// Takes what has arrived. Ready when there was something; look at `ready` and `end` then.
    pub(crate) fn poll_advance(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(chunk)) => {
                self.decoder.push(chunk);
                self.take_events();
            }
            Some(Err(error)) => self.ended(Some(error.to_string())),
            None => self.ended(None),
        }
        Poll::Ready(())
    }

    /// After the end: reads the rest of the body away, so that its connection can be used again.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    }

    fn take_events(&mut self) {
        while self.end == End::Open {
            match self.decoder.next_event() {
                Ok(Some(event)) => self.take(&event),
                Ok(None) => return,
                Err(too_long) => self.end = End::Broken(too_long.to_string()),
            }
        }
    }

    fn take(&mut self, event: &Event) {
        let Some(data) = event.data() else {
            // A comment: some providers send them to keep the connection alive.
            return self.forward(event.raw.clone());
        };
        if let Some(mut translator) = self.translator.take() {
            self.translate(&mut translator, event, &data);
            self.translator = Some(translator);
            return;
        }
        if &data[..] == DONE {
            self.committed = true;
            self.end = End::Clean;
            self.terminator = Some(event.raw.clone());
            return;
        }
        match read_chunk(&data, &mut self.seen.text, MAX_TEXT) {
            Ok(chunk) => self.take_chunk(event, chunk),
            Err(error) => self.end = End::Broken(format!("a malformed chunk: {error}")),
        }
    }

    fn take_chunk(&mut self, event: &Event, chunk: Chunk) {
        if let Some(error) = chunk.error {
            self.end = End::Broken(format!("an error in the stream: {error}"));
            return;
        }
        self.committed |= chunk.content || chunk.finished > 0;
        self.finished += chunk.finished;
        self.seen.usage = chunk.usage.or(self.seen.usage);
        if chunk.finish_reason.is_some() {
            self.seen.finish_reason = chunk.finish_reason;
        }
        if self.seen.model.is_none() {
            self.seen.model = chunk.model;
        }
        if !chunk.only_usage || self.include_usage {
            self.forward(event.raw.clone());
        }
    }

    fn translate(&mut self, translator: &mut Translator, event: &Event, data: &[u8]) {
        let Translator { reader, writer, pieces, .. } = translator;
        let name = event.name().unwrap_or_default();
        let name = std::str::from_utf8(&name).unwrap_or_default();
        pieces.clear();
        if let Err(error) = reader.read(name, data, pieces) {
            self.end = End::Broken(format!("a malformed event: {error}"));
            return;
        }
        let (mut out, mut ended) = (Vec::new(), false);
        for piece in pieces.iter() {
            if let Piece::Error { message } = piece {
                self.end = End::Broken(format!("an error in the stream: {message}"));
                return;
            }
            ended |= *piece == Piece::End;
            self.note(piece);
            // The end is written when it is known what was used.
            if let Some(writer) = writer.as_mut().filter(|_| *piece != Piece::End) {
                writer.write(piece, &mut out);
            }
        }
        let converted = writer.is_some();
        if converted && !out.is_empty() {
            self.forward(out.into());
        }
        if ended {
            self.committed = true;
            self.end = End::Clean;
            self.terminator = (!converted).then(|| event.raw.clone());
        } else if !converted {
            self.forward(event.raw.clone());
        }
    }

    /// What a piece says, for the record.
    fn note(&mut self, piece: &Piece) {
        self.committed |= piece.is_content();
        match piece {
            Piece::Usage(usage) => self.seen.usage = Some(*usage),
            Piece::Start { model, .. } => self.seen.model.clone_from(model),
            Piece::Finish { reason, .. } => {
                self.committed = true;
                self.seen.finish_reason = Some(reason.as_str().to_owned());
            }
            Piece::Text { text, .. }
            | Piece::Reasoning { text, .. }
            | Piece::Refusal { text, .. }
            | Piece::ToolCall { name: text, .. }
            | Piece::Arguments { json: text, .. } => {
                if self.seen.text.len() + text.len() <= MAX_TEXT {
                    self.seen.text.push_str(text);
                }
            }
            Piece::Signature { .. } | Piece::Native { .. } | Piece::End | Piece::Error { .. } => {}
        }
    }

    /// The last bytes for the client, now that it is known what was used. `counted` is what was counted here.
    pub(crate) fn conclude(&mut self, counted: Option<Usage>) {
        let writer = self.translator.as_mut().and_then(|translator| translator.writer.as_mut());
        if let Some(writer) = writer {
            let mut out = Vec::new();
            if let Some(usage) = counted {
                writer.write(&Piece::Usage(usage), &mut out);
            }
            writer.write(&Piece::End, &mut out);
            self.terminator = Some(out.into());
        }
        self.ready.extend(self.terminator.take().filter(|bytes| !bytes.is_empty()));
    }

    fn forward(&mut self, raw: Bytes) {
        if !self.committed {
            self.held += raw.len();
        }
        self.ready.push_back(raw);
    }

    /// The body is over, properly or not. What decides is whether every choice gave its reason to end: with
    /// it the answer is whole, and a missing `[DONE]` is ours to add; without it the answer is cut off.
    fn ended(&mut self, error: Option<String>) {
        let rest = self.decoder.finish().filter(|_| self.end == End::Open);
        if self.translator.is_some() {
            return self.translation_ended(rest, error);
        }
        if let Some(rest) = rest {
            match rest.data() {
                Some(data) if &data[..] == DONE => {
                    self.committed = true;
                    self.end = End::Clean;
                    self.terminator = Some(Bytes::from_static(DONE_EVENT));
                    return;
                }
                Some(data) if self.finished >= self.choices => {
                    // Usage may come last, without the blank line.
                    if let Ok(chunk) = read_chunk(&data, &mut self.seen.text, MAX_TEXT) {
                        self.seen.usage = chunk.usage.or(self.seen.usage);
                    }
                }
                _ => {}
            }
        }
        if self.end != End::Open {
            return;
        }
        self.end = if self.finished >= self.choices {
            self.terminator = Some(Bytes::from_static(DONE_EVENT));
            End::Clean
        } else {
            let how = error.unwrap_or_else(|| "it ended with neither a finish reason nor [DONE]".into());
            End::Broken(format!("the stream was cut off: {how}"))
        };
    }
}

impl Reader {
    /// The body of another dialect is over. Its last event may lack the blank line.
    fn translation_ended(&mut self, rest: Option<Event>, error: Option<String>) {
        if let Some(rest) = rest {
            let raw = [&rest.raw[..], b"\n\n"].concat().into();
            self.take(&Event { raw });
        }
        let Some(translator) = self.translator.as_ref().filter(|_| self.end == End::Open) else { return };
        self.end = if translator.reader.is_whole() {
            self.terminator = Some(Bytes::from_static(translator.terminator));
            End::Clean
        } else {
            let how = error.unwrap_or_else(|| "it ended without its last event".into());
            End::Broken(format!("the stream was cut off: {how}"))
        };
    }

    /// Lets the writer of the stream tell that it failed; `false` where it has no words of its own for that.
    pub(crate) fn tell_failure(&mut self, message: &str, code: &str) -> bool {
        let Some(writer) = self.translator.as_mut().and_then(|t| t.writer.as_mut()) else { return false };
        let mut out = Vec::new();
        let told = writer.fail(ErrorClass::Server, message, code, &mut out);
        if !out.is_empty() {
            self.ready.push_back(out.into());
        }
        told
    }

    /// The client asked for a chunk with usage at the end, which we write ourselves.
    pub(crate) fn wants_usage(&self) -> bool {
        self.include_usage && self.translator.is_none()
    }
}
