//! The configuration of chains: shown as a backup, and restored.

use axum::extract::{Request, State};
use axum::response::Response;
use conversations::Configure;
use http::StatusCode;

use super::{Needs, Refusal, Shares, json_response, no_content, serve};

/// `GET /config`: all of it, with secrets hidden.
pub(in crate::routes) async fn show(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        Ok(json_response(StatusCode::OK, &asked.conversations.configuration()))
    })
    .await
}

/// `POST /config`: replaces it whole. Hidden secrets stay as they are.
pub(in crate::routes) async fn replace(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |mut asked| async move {
        let body = asked.body().await?;
        match asked.there(move |c| async move { c.configure(&body) }).await? {
            Ok(()) => Ok(no_content()),
            Err(Configure::NoFile) => {
                let text = "The configuration stands in the settings file and is changed there; set \
                     conversations.config_file (CONSERVER_CONFIG_FILE) to keep it in a file of its own";
                Err(Refusal::new(StatusCode::CONFLICT, text))
            }
            Err(Configure::ReadOnly(why)) => {
                let text = format!("The configuration cannot be written: {why}");
                Err(Refusal::new(StatusCode::CONFLICT, text))
            }
            Err(Configure::Wrong(why)) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why)),
        }
    })
    .await
}
