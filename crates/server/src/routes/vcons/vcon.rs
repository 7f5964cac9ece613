//! vCons: sent, shown, found, forgotten.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use base::vcons::Query;
use bytes::{BufMut as _, BytesMut};
use conversations::Refused;
use conversations::vcon::{is_uuid, validate};
use http::StatusCode;
use serde_json::{Value, json};

use super::query::check_list;
use super::{Answer, Asked, Needs, Refusal, Shares, json_response, no_content, serve, text_response};

/// The most vCons of one page.
const MAX_PAGE: i64 = 10_000;
/// The most vCons shown at once.
const MAX_SHOWN: usize = 1_000;

/// `GET /vcon`: the uuids, the newest first.
pub(in crate::routes) async fn list(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let (page, size) = (asked.query.whole("page", 1)?, asked.query.whole("size", 50)?);
        let (since, until) = (asked.query.time("since")?, asked.query.time("until")?);
        if page < 1 || size < 1 {
            return Ok(json_response(StatusCode::OK, &json!([])));
        }
        let size = size.min(MAX_PAGE);
        let skip = (page - 1).saturating_mul(size).unsigned_abs();
        let query = Query { since, until, skip, limit: size.unsigned_abs() as usize, ..Query::default() };
        uuids(&asked, query).await
    })
    .await
}

async fn uuids(asked: &Asked, query: Query) -> Answer {
    let found = asked.there(move |c| async move { c.find(&query).await }).await?;
    let found = found.map_err(|error| Refusal::seam(&error, "An error occurred during the search"))?;
    Ok(json_response(StatusCode::OK, &json!(found)))
}

/// `POST /vcon`: keeps a vCon, and puts it into lists.
pub(in crate::routes) async fn create(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |mut asked| async move {
        let lists = asked.query.all("ingress_lists");
        lists.iter().try_for_each(|list| check_list(list))?;
        let body = asked.body().await?;
        let posted = post(&asked, body, lists, "new").await?;
        Ok(text_response(StatusCode::CREATED, posted))
    })
    .await
}

/// `POST /vcon/external-ingress`: the same for a partner, who has a key for one list.
pub(in crate::routes) async fn external(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Nothing, |mut asked| async move {
        let list = asked.query.list("ingress_list")?;
        let body = asked.body().await?;
        // What is wrong with the vCon is told before the key is looked at, as the Conserver does.
        validate::read(&body).map_err(Refusal::input)?;
        let settings = asked.conversations.settings();
        let key = asked.head.headers.get(&settings.header_name);
        let key = key.and_then(|key| std::str::from_utf8(key.as_bytes()).ok()).filter(|key| !key.is_empty());
        let opened = asked.conversations.opens_list(&list, key);
        opened.map_err(|text| Refusal::new(StatusCode::FORBIDDEN, text))?;
        post(&asked, body, vec![list], "external").await?;
        Ok(no_content())
    })
    .await
}

async fn post(
    asked: &Asked,
    body: bytes::Bytes,
    lists: Vec<String>,
    source: &'static str,
) -> Result<bytes::Bytes, Refusal> {
    match asked.conversations.post(body, lists, asked.traceparent(), source).await {
        Ok(posted) if posted.same => {
            let uuid = posted.uuid;
            let stored = asked.there(move |c| async move { c.get(&uuid).await }).await?;
            Ok(stored.ok().flatten().unwrap_or(posted.body))
        }
        Ok(posted) => Ok(posted.body),
        Err(Refused::Invalid(errors)) => Err(Refusal::input(errors)),
        Err(Refused::Seam(error)) => Err(Refusal::seam(&error, "Failed to store vCon")),
    }
}

/// `GET /vcon/{uuid}`.
pub(in crate::routes) async fn show(
    State(app): Shares,
    Path(uuid): Path<String>,
    request: Request,
) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let uuid = validate::path_uuid(&uuid).map_err(|error| Refusal::input(vec![error]))?;
        let found = asked.there(move |c| async move { c.get(&uuid).await }).await?;
        match found.map_err(|error| Refusal::seam(&error, "Failed to read vCon"))? {
            Some(text) => Ok(text_response(StatusCode::OK, text)),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "vCon not found")),
        }
    })
    .await
}

/// `DELETE /vcon/{uuid}`: 204, also when it is not there.
pub(in crate::routes) async fn remove(
    State(app): Shares,
    Path(uuid): Path<String>,
    request: Request,
) -> Response {
    serve(app, request, Needs::Write, |asked| async move {
        let uuid = validate::path_uuid(&uuid).map_err(|error| Refusal::input(vec![error]))?;
        let deleted = asked.there(move |c| async move { c.delete(&uuid).await }).await?;
        deleted.map_err(|error| Refusal::seam(&error, "Failed to delete vCon"))?;
        Ok(no_content())
    })
    .await
}

/// `GET /vcons`: several, `null` where one is nowhere.
pub(in crate::routes) async fn several(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let wanted = asked.query.all("vcon_uuids");
        if wanted.is_empty() {
            asked.query.needed("vcon_uuids")?;
        }
        if wanted.len() > MAX_SHOWN {
            let text = format!("At most {MAX_SHOWN} vCons are shown at once");
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        if let Some(place) = wanted.iter().position(|uuid| !is_uuid(uuid)) {
            let error = json!({"type": "uuid_parsing", "loc": ["query", "vcon_uuids", place],
                "msg": "Input should be a valid UUID", "input": wanted[place]});
            return Err(Refusal::input(vec![error]));
        }
        let wanted: Vec<String> = wanted.iter().map(|uuid| uuid.to_ascii_lowercase()).collect();
        let found = asked.there(move |c| async move { c.get_many(&wanted).await }).await?;
        let found = found.map_err(|error| Refusal::seam(&error, "Failed to read vCons"))?;
        let mut text = BytesMut::from(&b"["[..]);
        for (index, vcon) in found.iter().enumerate() {
            if index > 0 {
                text.put_u8(b',');
            }
            text.put_slice(vcon.as_deref().unwrap_or(b"null"));
        }
        text.put_u8(b']');
        Ok(text_response(StatusCode::OK, Body::from(text.freeze())))
    })
    .await
}

/// `GET /vcons/search`: what has all that is asked for.
pub(in crate::routes) async fn search(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let query = &asked.query;
        let mut terms = Vec::new();
        for key in ["tel", "mailto", "name", "tag"] {
            terms.extend(
                query.all(key).iter().filter(|v| !v.is_empty()).map(|value| format!("{key}:{value}")),
            );
        }
        let text = query.text("q").filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let (since, until) = (query.time("since")?, query.time("until")?);
        if terms.is_empty() && text.is_none() && since.is_none() && until.is_none() {
            let text = "At least one search parameter must be provided";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
        }
        if text.is_some() && !asked.conversations.has_full_text() {
            let text =
                "Words cannot be searched here: vCons are kept in Redis, or conversations.full_text is false";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
        }
        let page = query.between("page", 1, 1, i64::MAX)?;
        // Without a page all are meant, as far as that goes.
        let size =
            query.between("size", if query.text("page").is_some() { 50 } else { MAX_PAGE }, 1, MAX_PAGE)?;
        let skip = (page - 1).saturating_mul(size).unsigned_abs();
        let query = Query { terms, text, since, until, skip, limit: size.unsigned_abs() as usize };
        uuids(&asked, query).await
    })
    .await
}

/// `GET /index_vcons`: how many vCons are indexed. Here each is, from the moment it is kept.
pub(in crate::routes) async fn index(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let query = Query { limit: 10_000_000, ..Query::default() };
        let found = asked.there(move |c| async move { c.find(&query).await }).await?;
        let found = found.map_err(|error| Refusal::seam(&error, "Failed to count vCons"))?;
        Ok(json_response(StatusCode::OK, &Value::from(found.len())))
    })
    .await
}
