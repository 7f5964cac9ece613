//! The kinds of answers: what is sent, and how it is documented.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::refusal::Refusal;
use super::tag::etag;

/// An answer on its way out.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
    /// What audit calls the thing that was made or changed, as `groups/7`, when the path does not say it.
    pub(crate) target: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Content {
    Whole(Bytes),
    Stream(mpsc::Receiver<Bytes>),
}

impl Answered {
    fn new(status: StatusCode, content: Content) -> Self {
        Answered { status, headers: HeaderMap::new(), content, target: None }
    }

    fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Refusal> {
        let bytes = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "an answer cannot be written as JSON");
            Refusal::new(
                base::Kind::Internal,
                "internal_error",
                "Something went wrong here; it is in the log.",
            )
        })?;
        Ok(Self::new(status, Content::Whole(bytes.into())).with(CONTENT_TYPE, "application/json"))
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn versioned(mut self, resource: &impl Resource) -> Self {
        if let Some(tag) = resource.version().and_then(etag) {
            self.headers.insert(ETAG, tag);
        }
        self
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(match self.content {
            Content::Whole(bytes) => Body::from(bytes),
            Content::Stream(pieces) => Body::new(Streaming(pieces)),
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        // Answers hold keys and balances.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// What a document says of an answer.
pub(crate) struct Documented {
    pub(crate) status: StatusCode,
    /// Media types, each with the schema of the body; none without a body.
    pub(crate) content: Vec<(&'static str, Value)>,
    /// Headers that are always there, with what they say.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

/// What a handler returns.
pub(crate) trait Answer: Send + 'static {
    fn document(generator: &mut SchemaGenerator) -> Documented;

    fn finish(self) -> Result<Answered, Refusal>;
}

/// Something that has a path and perhaps a version.
pub(crate) trait Resource: Serialize + JsonSchema + Send + 'static {
    /// Whether [`Resource::version`] has one.
    const VERSIONED: bool = true;

    /// Its path below `/api/`, as `groups/7`.
    fn path(&self) -> String;

    /// Counts its edits.
    fn version(&self) -> Option<i64>;
}

const ETAG_SAYS: (&str, &str) = ("ETag", "The version, for `If-Match`.");

/// A JSON answer, 200.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize + JsonSchema + Send + 'static> Answer for Json<T> {
    fn document(generator: &mut SchemaGenerator) -> Documented {
        document_json::<T>(generator, StatusCode::OK)
    }

    fn finish(self) -> Result<Answered, Refusal> {
        Answered::json(StatusCode::OK, &self.0)
    }
}

fn document_json<T: JsonSchema>(generator: &mut SchemaGenerator, status: StatusCode) -> Documented {
    let schema = generator.subschema_for::<T>().to_value();
    Documented { status, content: vec![("application/json", schema)], headers: Vec::new() }
}

/// One thing with its version, 200.
pub(crate) struct Item<T>(pub(crate) T);

impl<T: Resource> Answer for Item<T> {
    fn document(generator: &mut SchemaGenerator) -> Documented {
        let mut documented = document_json::<T>(generator, StatusCode::OK);
        documented.headers.extend(T::VERSIONED.then_some(ETAG_SAYS));
        documented
    }

    fn finish(self) -> Result<Answered, Refusal> {
        let mut answered = Answered::json(StatusCode::OK, &self.0)?.versioned(&self.0);
        answered.target = Some(self.0.path());
        Ok(answered)
    }
}

/// One thing that was made, 201.
pub(crate) struct Created<T>(pub(crate) T);

impl<T: Resource> Answer for Created<T> {
    fn document(generator: &mut SchemaGenerator) -> Documented {
        let mut documented = document_json::<T>(generator, StatusCode::CREATED);
        documented.headers.push(("Location", "Its path."));
        documented.headers.extend(T::VERSIONED.then_some(ETAG_SAYS));
        documented
    }

    fn finish(self) -> Result<Answered, Refusal> {
        let path = self.0.path();
        let answered = Answered::json(StatusCode::CREATED, &self.0)?.versioned(&self.0);
        let mut answered = answered.with(LOCATION, &format!("/api/{path}"));
        answered.target = Some(path);
        Ok(answered)
    }
}

/// It is done and there is nothing to say, 204.
pub(crate) struct Done;

impl Answer for Done {
    fn document(_: &mut SchemaGenerator) -> Documented {
        Documented { status: StatusCode::NO_CONTENT, content: Vec::new(), headers: Vec::new() }
    }

    fn finish(self) -> Result<Answered, Refusal> {
        Ok(Answered::new(StatusCode::NO_CONTENT, Content::Whole(Bytes::new())))
    }
}

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Page<T> {
    /// The rows.
    pub(crate) data: Vec<T>,
    /// What to send as `after` for the rows that follow; null after the last.
    pub(crate) next: Option<i64>,
}

impl<T> Page<T> {
    /// A page out of one row more than it may have, if there is one more. `id` is what the next page begins
    /// after.
    pub(crate) fn cut(mut rows: Vec<T>, limit: super::Limit, id: impl Fn(&T) -> i64) -> Self {
        let more = rows.len() > limit.get();
        rows.truncate(limit.get());
        let next = rows.last().map(id).filter(|_| more);
        Page { data: rows, next }
    }

    /// A page out of a list that gives at most as many as were asked for: a full one may have more behind it.
    pub(crate) fn full(rows: Vec<T>, limit: super::Limit, id: impl Fn(&T) -> i64) -> Self {
        let full = rows.len() >= limit.get();
        let next = rows.last().map(id).filter(|_| full);
        Page { data: rows, next }
    }

    /// The same rows in another form.
    pub(crate) fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(f).collect(), next: self.next }
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> Answer for Page<T> {
    fn document(generator: &mut SchemaGenerator) -> Documented {
        let item = generator.subschema_for::<T>().to_value();
        let schema = json!({
            "type": "object",
            "required": ["data", "next"],
            "properties": {
                "data": {"type": "array", "items": item, "maxItems": 1000},
                "next": {
                    "type": ["integer", "null"],
                    "description": "Send it as `after` for the rows that follow; null after the last.",
                },
            },
        });
        let content = vec![("application/json", schema)];
        Documented { status: StatusCode::OK, content, headers: Vec::new() }
    }

    fn finish(self) -> Result<Answered, Refusal> {
        Answered::json(StatusCode::OK, &self)
    }
}

/// Rows as JSON, or as CSV where that was asked for; 200.
pub(crate) enum Report<T> {
    Json(T),
    Csv(Bytes),
}

impl<T: Serialize + JsonSchema + Send + 'static> Answer for Report<T> {
    fn document(generator: &mut SchemaGenerator) -> Documented {
        let mut documented = document_json::<T>(generator, StatusCode::OK);
        documented.content.push(("text/csv", json!({"type": "string"})));
        documented
    }

    fn finish(self) -> Result<Answered, Refusal> {
        match self {
            Report::Json(value) => Answered::json(StatusCode::OK, &value),
            Report::Csv(bytes) => {
                let answered = Answered::new(StatusCode::OK, Content::Whole(bytes));
                Ok(answered.with(CONTENT_TYPE, "text/csv; charset=utf-8"))
            }
        }
    }
}

/// A file, 200.
pub(crate) struct Download {
    pub(crate) media: &'static str,
    /// What a browser saves it as.
    pub(crate) name: &'static str,
    pub(crate) bytes: Bytes,
}

impl Answer for Download {
    fn document(_: &mut SchemaGenerator) -> Documented {
        let content = ["application/json", "text/csv"].into_iter().map(|media| (media, json!({}))).collect();
        Documented { status: StatusCode::OK, content, headers: Vec::new() }
    }

    fn finish(self) -> Result<Answered, Refusal> {
        let answered =
            Answered::new(StatusCode::OK, Content::Whole(self.bytes)).with(CONTENT_TYPE, self.media);
        Ok(answered.with(CONTENT_DISPOSITION, &format!("attachment; filename=\"{}\"", self.name)))
    }
}

/// Server-sent events, already framed, for as long as they are sent.
pub(crate) struct Events(pub(crate) mpsc::Receiver<Bytes>);

impl Answer for Events {
    fn document(_: &mut SchemaGenerator) -> Documented {
        let content = vec![("text/event-stream", json!({"type": "string"}))];
        Documented { status: StatusCode::OK, content, headers: Vec::new() }
    }

    fn finish(self) -> Result<Answered, Refusal> {
        let answered = Answered::new(StatusCode::OK, Content::Stream(self.0));
        // nginx would otherwise gather the stream before it sends anything.
        let quick = answered.with(HeaderName::from_static("x-accel-buffering"), "no");
        Ok(quick.with(CONTENT_TYPE, "text/event-stream"))
    }
}

/// Pieces from the control runtime as an HTTP body.
struct Streaming(mpsc::Receiver<Bytes>);

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_more_follow() {
        let limit: super::super::Limit = serde_json::from_str("2").unwrap();
        let page = |rows: &[i64]| Page::cut(rows.to_vec(), limit, |row| *row);
        for (rows, data, next) in [
            (&[][..], &[][..], None),
            (&[4], &[4], None),
            (&[4, 5], &[4, 5], None),
            (&[4, 5, 6], &[4, 5], Some(5)),
        ] {
            let page = page(rows);
            assert_eq!((page.data.as_slice(), page.next), (data, next));
        }
    }
}
