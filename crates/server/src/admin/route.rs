//! One operation: what it is called, who may do it, what it takes and gives.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::{Answer, Answered, Documented};
use super::call::{Call, Who};
use super::decode;
use super::input::{Accepted, Input, Received};
use super::refusal::{Form, Refusal};
use crate::state::Shared;

/// What a role has to have: `groups:read`, `groups:write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) area: &'static str,
    pub(crate) write: bool,
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.area, if self.write { "write" } else { "read" })
    }
}

/// A request, read and not yet understood.
pub(crate) struct Raw {
    pub(crate) shared: Arc<Shared>,
    pub(crate) who: Who,
    pub(crate) path: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) if_match: Option<i64>,
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Answered, Refusal>> + Send>>;
type Handler = Box<dyn Fn(Raw) -> Result<Answering, Refusal> + Send + Sync>;

/// What the document says of an operation, out of its handler's types.
pub(crate) struct Description {
    pub(crate) path: Value,
    pub(crate) query: Value,
    pub(crate) body: Option<Value>,
    pub(crate) answer: Documented,
}

/// One operation of the admin API.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// As `/api/groups/{id}`; `{*name}` at the end takes slashes, too.
    pub(crate) path: &'static str,
    /// Its name in the document and in the audit: the area, a point, a verb.
    pub(crate) id: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// `None`: anyone.
    pub(crate) permission: Option<Permission>,
    pub(crate) form: Form,
    /// Takes `Idempotency-Key`.
    pub(crate) idempotent: bool,
    /// Takes `If-Match`.
    pub(crate) conditional: bool,
    pub(crate) accepted: Accepted,
    /// Refusals beyond those that every route has.
    pub(crate) refusals: Vec<StatusCode>,
    pub(crate) describe: fn(&mut SchemaGenerator) -> Description,
    handler: Handler,
}

impl Route {
    /// An operation that `handler` does. Its permission is the area of `id`, to read or to write.
    pub(crate) fn new<P, Q, B, A, F, Fut>(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + 'static,
        Q: DeserializeOwned + JsonSchema + 'static,
        B: Input,
        A: Answer,
        F: Fn(Call<P, Q, B>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        Self::with_form(Form::Native, method, path, id, summary, handler)
    }

    /// The same in Conduit's spelling.
    pub(crate) fn conduit<P, Q, B, A, F, Fut>(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + 'static,
        Q: DeserializeOwned + JsonSchema + 'static,
        B: Input,
        A: Answer,
        F: Fn(Call<P, Q, B>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        Self::with_form(Form::Conduit, method, path, id, summary, handler)
    }

    fn with_form<P, Q, B, A, F, Fut>(
        form: Form,
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + 'static,
        Q: DeserializeOwned + JsonSchema + 'static,
        B: Input,
        A: Answer,
        F: Fn(Call<P, Q, B>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Refusal>> + Send + 'static,
    {
        let write = method != Method::GET;
        let handler: Handler = Box::new(move |raw: Raw| {
            let call = Call {
                path: decode::parameters::<P>(&raw.path, form)?,
                query: decode::parameters::<Q>(&raw.query, form)?,
                body: B::read(Received { bytes: raw.body, form })?,
                shared: raw.shared,
                who: raw.who,
                if_match: raw.if_match,
            };
            let answering = handler(call);
            Ok(Box::pin(async move { answering.await?.finish() }))
        });
        Route {
            path,
            id,
            summary,
            permission: Some(Permission { area: id.split('.').next().unwrap_or(id), write }),
            form,
            idempotent: false,
            conditional: false,
            accepted: B::ACCEPTED,
            refusals: if write { vec![StatusCode::CONFLICT] } else { Vec::new() },
            describe: |generator| Description {
                path: P::json_schema(generator).to_value(),
                query: Q::json_schema(generator).to_value(),
                body: B::schema(generator),
                answer: A::document(generator),
            },
            method,
            handler,
        }
    }

    /// Asks for another permission than its id says.
    #[must_use]
    pub(crate) fn needs(mut self, area: &'static str, write: bool) -> Self {
        self.permission = Some(Permission { area, write });
        self
    }

    /// Sent again with the same `Idempotency-Key`, it answers as it did and does nothing.
    #[must_use]
    pub(crate) fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Does it only at the version that `If-Match` names.
    #[must_use]
    pub(crate) fn conditional(mut self) -> Self {
        self.conditional = true;
        self.refusals.push(StatusCode::PRECONDITION_FAILED);
        self
    }

    /// Whether it changes something, and is kept in the audit.
    pub(crate) fn writes(&self) -> bool {
        self.permission.is_some_and(|permission| permission.write)
    }

    /// What the audit calls it: `keys.create`, whatever the spelling.
    pub(crate) fn action(&self) -> &'static str {
        self.id.strip_suffix(".conduit").unwrap_or(self.id)
    }

    /// Understands the request; what is returned does it.
    pub(crate) fn prepare(&self, raw: Raw) -> Result<Answering, Refusal> {
        (self.handler)(raw)
    }
}
