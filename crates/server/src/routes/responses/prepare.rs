//! What a request for a response needs before it is asked: the conversation it goes on from.

use std::sync::Arc;

use access::Caller;
use base::Kind;
use bytes::Bytes;
use gateway::{Earlier, Meter};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::Place;

use super::keep::Keep;
use super::{find, owner};
use crate::error::ApiError;
use crate::state::App;

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    previous_response_id: Option<String>,
    #[serde(default)]
    store: Option<bool>,
    #[serde(default)]
    background: Option<bool>,
}

/// The body to ask with, and how to keep what comes of it.
pub(crate) async fn prepare(
    app: &App,
    caller: &Caller,
    meter: &mut Meter,
    body: Bytes,
) -> Result<(Bytes, Option<Keep>), ApiError> {
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        // What is no object at all is refused where all of it is read. Anything else might yet be understood by a
        // provider, and name another's response to it.
        return match serde_json::from_slice::<Map<String, Value>>(&body) {
            Err(_) => Ok((body, None)),
            Ok(_) => {
                let text = "`previous_response_id` must be a string, `store` and `background` true or false, and \
                    each may stand there once.";
                Err(ApiError::new(Kind::Invalid, "invalid_request", text))
            }
        };
    };
    if asked.background == Some(true) {
        let text = "What runs in the background is paid for by nobody: leave `background` out.";
        return Err(ApiError {
            param: Some("background"),
            ..ApiError::new(Kind::Invalid, "invalid_request", text)
        });
    }
    let owner = owner(caller);
    let mut body = body;
    if let Some(id) = asked.previous_response_id {
        let found = find(&app.shared, &owner, &id).await?.ok_or_else(|| no_previous(&id))?;
        let provider = match found.place {
            Place::At(provider) => Some(provider),
            Place::Here { response, input } => {
                let max = app.shared.limits.load().max_body;
                body = go_on(&body, &response, &input, max)?;
                None
            }
        };
        meter.goes_on_from(Earlier { id, provider });
    }
    let settings = app.shared.limits.load().responses;
    let keeps = asked.store != Some(false) && !settings.retention.0.is_zero();
    let keep = keeps.then(|| Keep::new(Arc::clone(&app.shared), owner, body.clone(), settings));
    Ok((body, keep))
}

fn no_previous(id: &str) -> ApiError {
    let text = format!("Previous response with id '{id}' not found.");
    let error = ApiError::new(Kind::Invalid, "previous_response_not_found", text);
    ApiError { param: Some("previous_response_id"), ..error }
}

/// The request with everything before it in its `input`.
fn go_on(body: &[u8], response: &str, input: &str, max: usize) -> Result<Bytes, ApiError> {
    let broken = |error: serde_json::Error| {
        tracing::error!(%error, "a kept response cannot be read");
        ApiError::new(Kind::Internal, "internal_error", "Something went wrong here; it is in the log.")
    };
    // Read once already.
    let mut request: Map<String, Value> = serde_json::from_slice(body).map_err(broken)?;
    let mut all: Vec<Value> = serde_json::from_str(input).map_err(broken)?;
    let mut response: Map<String, Value> = serde_json::from_str(response).map_err(broken)?;
    if let Some(Value::Array(output)) = response.remove("output") {
        all.extend(output);
    }
    request.remove("previous_response_id");
    match request.remove("input") {
        Some(Value::Array(list)) => all.extend(list),
        Some(Value::String(text)) => {
            all.push(serde_json::json!({"type": "message", "role": "user", "content": text}));
        }
        // What it is instead is refused where all of it is read.
        Some(other) if !other.is_null() => {
            request.insert("input".into(), other);
            return serde_json::to_vec(&request).map(Bytes::from).map_err(broken);
        }
        _ => {}
    }
    request.insert("input".into(), Value::Array(all));
    let body = serde_json::to_vec(&request).map_err(broken)?;
    if body.len() > max {
        let text = format!(
            "The conversation before this request has grown to {} bytes, more than `server.max_body`: begin a new one.",
            body.len()
        );
        let error = ApiError::new(Kind::TooLarge, "request_too_large", text);
        return Err(ApiError { param: Some("previous_response_id"), ..error });
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_came_before_stands_before() {
        let response = json!({"id": "resp_1", "output": [{"type": "message", "id": "o"}]}).to_string();
        let input = json!([{"type": "message", "id": "i"}]).to_string();
        let got = |body: Value| {
            let body = go_on(body.to_string().as_bytes(), &response, &input, 10_000).unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        let asked = json!({"model": "m", "input": "x", "previous_response_id": "resp_1"});
        let said = json!({"type": "message", "role": "user", "content": "x"});
        assert_eq!(
            got(asked),
            json!({"model": "m", "input": [{"type": "message", "id": "i"}, {"type": "message", "id": "o"}, said]})
        );
        assert_eq!(got(json!({"input": [1]}))["input"].as_array().unwrap().len(), 3);
        assert_eq!(got(json!({}))["input"].as_array().unwrap().len(), 2);
        assert_eq!(got(json!({"input": 3})), json!({"input": 3}));
        assert_eq!(go_on(b"{}", &response, &input, 10).unwrap_err().code, "request_too_large");
    }
}
