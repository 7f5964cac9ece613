//! OpenAI's responses: `/v1/responses`, and what is kept of them.
//!
//! A provider that speaks responses keeps them itself: here it is only remembered whose each is and where, so that
//! it is asked for there, and by nobody else. For every other provider they are kept here, with all the items they
//! were made from, so that `previous_response_id`, retrieving and deleting work all the same.
//!
//! Source: OpenAI API reference, responses (<https://platform.openai.com/docs/api-reference/responses>).

mod items;
mod keep;
mod prepare;

use std::sync::Arc;

use access::Caller;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use base::Kind;
use gateway::Call;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use llm::{Dialect, Operation};
use serde_json::{Value, json};
use store::{Place, StoreError, StoredResponse};

use crate::admin::percent_decode;
use crate::edge::Edge;
use crate::error::ApiError;
use crate::routes::call::{Asked, call};
use crate::state::{App, Shared};

pub(crate) use keep::{Keep, Keeping};
pub(crate) use prepare::prepare;

/// The most items of a page.
const MOST: usize = 100;
/// As many when nothing is said.
const USUAL: usize = 20;

/// `POST /v1/responses`.
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Response {
    call(&app, Asked::new(Operation::Chat, Dialect::Responses), request).await
}

/// `GET /v1/responses/{id}`.
pub(crate) async fn get(state: State<Arc<App>>, id: PathId, request: Request) -> Response {
    kept(&state, id, request, Ask::Get).await
}

/// `DELETE /v1/responses/{id}`.
pub(crate) async fn delete(state: State<Arc<App>>, id: PathId, request: Request) -> Response {
    kept(&state, id, request, Ask::Delete).await
}

/// `GET /v1/responses/{id}/input_items`.
pub(crate) async fn input_items(state: State<Arc<App>>, id: PathId, request: Request) -> Response {
    kept(&state, id, request, Ask::InputItems).await
}

/// `POST /v1/responses/{id}/cancel`.
pub(crate) async fn cancel(state: State<Arc<App>>, id: PathId, request: Request) -> Response {
    kept(&state, id, request, Ask::Cancel).await
}

type PathId = Result<Path<String>, PathRejection>;

/// What is asked about a response.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Get,
    Delete,
    InputItems,
    Cancel,
}

async fn kept(app: &Arc<App>, id: PathId, request: Request, ask: Ask) -> Response {
    match answer(app, id, request, ask).await {
        Ok(response) => response,
        Err(error) => error.response(Dialect::Responses),
    }
}

async fn answer(app: &Arc<App>, id: PathId, request: Request, ask: Ask) -> Result<Response, ApiError> {
    let Ok(Path(id)) = id else { return Err(no_such("?")) };
    let (mut head, _) = request.into_parts();
    let edge = head.extensions.remove::<Edge>();
    let Some(Edge { request_id, trace, arrived, caller: Some(caller), .. }) = edge else {
        return Err(ApiError::new(Kind::Unauthenticated, "missing_api_key", "Send your API key."));
    };
    if !caller.may(Caller::CALL_MODELS) {
        let text = "This key may not call models: use a virtual key that belongs to a group.";
        return Err(ApiError::new(Kind::Forbidden, "permission_needed", text));
    }
    let owner = owner(&caller);
    let found = find(&app.shared, &owner, &id).await?.ok_or_else(|| no_such(&id))?;
    let query = pairs(head.uri.query().unwrap_or_default())?;
    if ask == Ask::Get && query.iter().any(|(name, value)| name == "stream" && value == "true") {
        let text = "What is kept is not streamed again: leave `stream` out.";
        return Err(ApiError {
            param: Some("stream"),
            ..ApiError::new(Kind::Invalid, "invalid_request", text)
        });
    }
    let provider = match found.place {
        Place::Here { response, input } => {
            return here(app, &owner, &id, ask, &query, response, &input).await;
        }
        Place::At(provider) => provider,
    };
    // The id was made by the provider, and is in a table by which it is found: still, nothing but an id goes in.
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let (method, tail) = match ask {
        Ask::Get => (Method::GET, ""),
        Ask::Delete => (Method::DELETE, ""),
        Ask::InputItems => (Method::GET, "/input_items"),
        Ask::Cancel => (Method::POST, "/cancel"),
    };
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let below = format!("/{id}{tail}{query}");
    let (operation, dialect) = (Operation::Chat, Dialect::Responses);
    let call = Call { operation, dialect, path: None, headers: Vec::new(), request_id, trace, arrived };
    let asked = if plain { app.gateway.kept(&provider, method, below, &call).await } else { None };
    let kept = asked.ok_or_else(|| no_such(&id))?.map_err(|error| ApiError::from(&error))?;
    let gone = ask == Ask::Delete && kept.status.is_success() || kept.status == StatusCode::NOT_FOUND;
    if gone {
        forget(&app.shared, &owner, &id).await?;
    }
    let mut response = Response::new(Body::from(kept.body));
    *response.status_mut() = kept.status;
    response.headers_mut().insert(CONTENT_TYPE, kept.content_type);
    Ok(response)
}

/// Answers from what is kept here.
async fn here(
    app: &Arc<App>,
    owner: &str,
    id: &str,
    ask: Ask,
    query: &[(String, String)],
    response: String,
    input: &str,
) -> Result<Response, ApiError> {
    match ask {
        Ask::Get => Ok(json_response(response)),
        Ask::Delete => {
            forget(&app.shared, owner, id).await?;
            Ok(json_response(json!({"id": id, "object": "response", "deleted": true}).to_string()))
        }
        Ask::InputItems => page(input, query).map(|page| json_response(page.to_string())),
        Ask::Cancel => {
            let text =
                "This response is not running: only what was asked for with `background` can be cancelled.";
            Err(ApiError::new(Kind::Invalid, "invalid_request", text))
        }
    }
}

fn json_response(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// One page of items: the newest first, unless `order` says otherwise.
fn page(input: &str, query: &[(String, String)]) -> Result<Value, ApiError> {
    let wrong = |name: &'static str, what: String| {
        Err(ApiError { param: Some(name), ..ApiError::new(Kind::Invalid, "invalid_request", what) })
    };
    let mut items: Vec<Value> = serde_json::from_str(input).unwrap_or_default();
    let value =
        |name: &str| query.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    match value("order") {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return wrong("order", "`order` must be `asc` or `desc`.".into()),
    }
    let limit = match value("limit").map(str::parse::<usize>) {
        None => USUAL,
        Some(Ok(limit)) if (1..=MOST).contains(&limit) => limit,
        Some(_) => return wrong("limit", format!("`limit` must be a whole number from 1 to {MOST}.")),
    };
    if let Some(after) = value("after") {
        let Some(at) = items.iter().position(|item| item["id"] == after) else {
            return wrong("after", "`after` must be the id of an item of this response.".into());
        };
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    Ok(json!({
        "object": "list",
        "first_id": id(items.first()),
        "last_id": id(items.last()),
        "has_more": has_more,
        "data": items,
    }))
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((percent_decode(name, true)?, percent_decode(value, true)?))
    });
    pairs.collect::<Option<_>>().ok_or_else(|| {
        let text = "The query is not UTF-8: percent-encode the UTF-8 bytes of names and values.";
        ApiError::new(Kind::Invalid, "invalid_request", text)
    })
}

fn no_such(id: &str) -> ApiError {
    ApiError::new(Kind::NotFound, "not_found", format!("Response with id '{id}' not found."))
}

/// Whose a caller's responses are: its group's, so that all its keys see them.
fn owner(caller: &Caller) -> String {
    match &caller.account {
        Some(account) => format!("group:{}", account.group_id),
        None => format!("caller:{}", caller.label),
    }
}

/// A response of this owner. The Store is spoken to on the control runtime.
async fn find(shared: &Arc<Shared>, owner: &str, id: &str) -> Result<Option<StoredResponse>, ApiError> {
    let (shared_too, owner, id) = (Arc::clone(shared), owner.to_owned(), id.to_owned());
    let work = async move { shared_too.access.db().response(&owner, &id).await };
    shared.control.spawn(work).await.map_err(|_| unavailable())?.map_err(|error| told(&error))
}

async fn forget(shared: &Arc<Shared>, owner: &str, id: &str) -> Result<(), ApiError> {
    let (shared_too, owner, id) = (Arc::clone(shared), owner.to_owned(), id.to_owned());
    let work = async move { shared_too.access.db().forget_response(&owner, &id).await };
    shared.control.spawn(work).await.map_err(|_| unavailable())?.map(drop).map_err(|error| told(&error))
}

fn told(error: &StoreError) -> ApiError {
    tracing::error!(%error, "a kept response cannot be reached");
    unavailable()
}

fn unavailable() -> ApiError {
    let mut error = ApiError::new(Kind::Unavailable, "store_unavailable", "Try again in a while.");
    error.retry_after = Some(std::time::Duration::from_secs(1));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations: `after` that keeps the item itself; `has_more` of a page that is just full.
    #[test]
    fn a_page_is_cut_where_it_is_asked_for() {
        let input = json!([{"id": "a"}, {"id": "b"}, {"id": "c"}]).to_string();
        for (query, ids, more) in [
            ("", "cba", false),
            ("order=asc", "abc", false),
            ("limit=2", "cb", true),
            ("limit=1&after=c", "b", true),
            ("limit=2&after=c", "ba", false),
            ("order=asc&after=%62", "c", false),
            ("after=a", "", false),
        ] {
            let page = page(&input, &pairs(query).unwrap()).unwrap();
            let got: String =
                page["data"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap()).collect();
            assert_eq!((got.as_str(), page["has_more"].as_bool()), (ids, Some(more)), "{query}");
            assert_eq!(
                page["last_id"].as_str(),
                ids.get(ids.len().saturating_sub(1)..).filter(|id| !id.is_empty())
            );
        }
        for (query, says) in
            [("order=up", "order"), ("limit=0", "limit"), ("limit=x", "limit"), ("after=z", "after")]
        {
            assert_eq!(page(&input, &pairs(query).unwrap()).unwrap_err().param, Some(says));
        }
        assert!(pairs("a=%ff").is_err());
    }
}
