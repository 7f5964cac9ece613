//! Many vCons in one request, and what happens to them as it happens.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use conversations::{Conversations, Refused};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::query::check_list;
use super::{Needs, Refusal, Shares, serve};
use crate::body;

/// vCons of one request that are taken in at once.
const AT_ONCE: usize = 64;
/// The most vCons of one request.
const MAX_LINES: u64 = 100_000;
/// Events that wait for a slow client.
const WAITING: usize = 256;
/// How long a client may pause.
const PAUSE: Duration = Duration::from_secs(60);
/// How often a silent stream says that it is still there.
const COMMENT: Duration = Duration::from_secs(15);

/// `POST /vcons/bulk`: one vCon a line, answered by one line each, in their order.
pub(in crate::routes) async fn bulk(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |mut asked| async move {
        let lists = asked.query.all("ingress_lists");
        lists.iter().try_for_each(|list| check_list(list))?;
        body::check_encoding(&asked.head.headers)?;
        let body = asked.take_body();
        let trace = asked.traceparent();
        // Within this task: what arrives of an HTTP/1 body wakes no other.
        let answer = take(&asked.conversations, trace, body, lists).await;
        let mut response = Response::new(Body::from(answer));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        Ok(response)
    })
    .await
}

fn streamed(pieces: mpsc::Receiver<Bytes>, media: &'static str) -> Response {
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), pieces))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Takes in a body, line by line as it arrives. The answers, one line each.
async fn take(
    conversations: &Conversations,
    trace: Option<String>,
    mut body: Body,
    lists: Vec<String>,
) -> Vec<u8> {
    let max = usize::try_from(conversations.settings().max_body.0).unwrap_or(usize::MAX);
    let mut running = FuturesOrdered::new();
    let (mut buffer, mut answers) = (BytesMut::new(), Vec::<u8>::new());
    let (mut number, mut ended, mut refusal) = (0u64, false, None);
    while !ended && refusal.is_none() {
        match tokio::time::timeout(PAUSE, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    buffer.extend_from_slice(&data);
                }
            }
            Ok(None) => ended = true,
            Ok(Some(Err(_))) | Err(_) => refusal = Some((400, "The body broke off".to_owned())),
        }
        while refusal.is_none()
            && let Some(text) = next_line(&mut buffer, ended)
        {
            number += 1;
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if number > MAX_LINES {
                refusal = Some((413, format!("At most {MAX_LINES} lines are taken at once")));
                break;
            }
            if running.len() >= AT_ONCE
                && let Some(done) = running.next().await
            {
                answers.extend_from_slice(Bytes::as_ref(&done));
            }
            running.push_back(one(conversations, trace.clone(), number, text, lists.clone()));
        }
        if buffer.len() > max {
            number += 1;
            refusal = Some((413, format!("The line is larger than {max} bytes")));
        }
    }
    while let Some(done) = running.next().await {
        answers.extend_from_slice(Bytes::as_ref(&done));
    }
    if let Some((status, text)) = refusal {
        answers.extend_from_slice(&line(&json!({"line": number, "status": status, "detail": text})));
    }
    answers
}

fn next_line(buffer: &mut BytesMut, ended: bool) -> Option<Bytes> {
    match buffer.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let mut text = buffer.split_to(end + 1);
            text.truncate(end);
            Some(text.freeze())
        }
        None if ended && !buffer.is_empty() => Some(buffer.split().freeze()),
        None => None,
    }
}

async fn one(
    conversations: &Conversations,
    trace: Option<String>,
    number: u64,
    text: Bytes,
    lists: Vec<String>,
) -> Bytes {
    let posted = conversations.post(text, lists, trace, "new").await;
    line(&match posted {
        Ok(posted) => json!({"line": number, "status": 201, "uuid": posted.uuid, "same": posted.same}),
        Err(Refused::Invalid(errors)) => json!({"line": number, "status": 422, "detail": errors}),
        Err(Refused::Seam(error)) => {
            let Refusal(status, detail) = Refusal::seam(&error, "Failed to store vCon");
            json!({"line": number, "status": status.as_u16(), "detail": detail})
        }
    })
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// `GET /vcons/events`: what this process does with vCons, as server-sent events; with `uuid=` of one.
pub(in crate::routes) async fn events(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let wanted: Vec<String> =
            asked.query.all("uuid").iter().map(|uuid| uuid.to_ascii_lowercase()).collect();
        if wanted.len() > 100 {
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "At most 100 vCons are followed at once",
            ));
        }
        let (pieces, receiver) = mpsc::channel(WAITING);
        drop(pieces.try_send(Bytes::from_static(b": listening\n\n")));
        let (mut events, shared) = (asked.conversations.events(), Arc::clone(&asked.shared));
        drop(tokio::spawn(async move {
            let mut look = tokio::time::interval(Duration::from_secs(1));
            let mut quiet = Duration::ZERO;
            loop {
                let piece = tokio::select! {
                    event = events.recv() => match event {
                        Ok(event) if wanted.is_empty() || wanted.contains(&event.uuid) => {
                            let data = serde_json::to_string(&*event).unwrap_or_default();
                            format!("event: {}\ndata: {data}\n\n", event.progress.kind).into()
                        }
                        Ok(_) => continue,
                        Err(RecvError::Lagged(_)) => Bytes::from_static(b"event: missed\ndata: {}\n\n"),
                        Err(RecvError::Closed) => return,
                    },
                    _ = look.tick() => {
                        if pieces.is_closed() || shared.is_draining() {
                            return;
                        }
                        quiet += Duration::from_secs(1);
                        if quiet < COMMENT {
                            continue;
                        }
                        quiet = Duration::ZERO;
                        Bytes::from_static(b": still here\n\n")
                    }
                };
                // Who is too slow is cut off, and may come back.
                if pieces.try_send(piece).is_err() {
                    return;
                }
            }
        }));
        Ok(streamed(receiver, "text/event-stream"))
    })
    .await
}
