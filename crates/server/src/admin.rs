//! What every admin route has in common, so that a handler is only what it is about.
//!
//! A resource's file in `routes::admin` lists [`Route`]s: method, path, permission and a function whose types
//! say what is read and what is answered. The [`Table`] made of them is the one source of the routing, of the
//! names under which requests are counted, of `/openapi.json` and of `/docs`: what is documented is what the
//! types accept. `serve` takes a request through the table: identity, body, handler on the control runtime,
//! audit, answer; `decode` reads bodies and parameters and says which field is wrong; `refusal` is what every
//! error under `/api` looks like, in our spelling and in Conduit's.

mod answer;
mod call;
mod decode;
mod docs;
mod fields;
mod idempotency;
mod input;
mod openapi;
mod refusal;
mod route;
mod sample;
mod serve;
mod table;
mod tag;
mod time;
mod types;

pub(crate) use answer::{Created, Done, Download, Events, Item, Json, Page, Report, Resource};
pub(crate) use call::{Call, Nothing, Who};
pub(crate) use docs::page as docs_page;
pub(crate) use fields::percent_decode;
pub(crate) use input::{Body, Maybe, NameField, Named, Patch, Upload, decode_json};
pub(crate) use openapi::document as openapi_document;
pub(crate) use refusal::{Refusal, sentence};
pub(crate) use route::Route;
pub(crate) use serve::{Admin, dispatch, is_admin, refuse};
pub(crate) use table::Table;
pub(crate) use time::Time;
pub(crate) use types::{Change, Given, Id, IdPath, Limit, Line, List, Metadata, Name, NamePath, Text};
