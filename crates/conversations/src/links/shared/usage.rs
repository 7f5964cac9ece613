//! Telling an address of the operator's how much a model was used (`send_ai_usage_data_to_url`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use base::Secret;

use super::http;
use crate::link::LinkContext;

/// The names of these options.
pub(in crate::links) const OPTIONS: &[&str] = &["send_ai_usage_data_to_url", "ai_usage_api_token"];

const TIMEOUT: Duration = Duration::from_secs(30);

/// Where it is told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::links) struct Usage {
    send_ai_usage_data_to_url: Option<String>,
    ai_usage_api_token: Option<Secret>,
}

/// What was used.
pub(in crate::links) struct Used<'a> {
    /// As `ANALYZE`.
    pub(in crate::links) sub_type: &'a str,
    /// `tokens` or `seconds`.
    pub(in crate::links) unit: &'a str,
    pub(in crate::links) input: u64,
    pub(in crate::links) output: u64,
    pub(in crate::links) model: &'a str,
}

impl Usage {
    /// Tells it. That this fails is only logged: the work is done and paid for.
    pub(in crate::links) async fn tell(&self, uuid: &str, context: &LinkContext, used: Used<'_>) {
        let Some(url) = self.send_ai_usage_data_to_url.as_deref().filter(|url| !url.is_empty()) else {
            return;
        };
        let body = json!({
            "created_at": jiff::Timestamp::now().to_string(),
            "record_id": uuid,
            "type": "VCON_PROCESSING",
            "sub_type": used.sub_type,
            "unit_type": used.unit,
            "input_units": used.input,
            "output_units": used.output,
            "ai_model": used.model,
        });
        let token = self.ai_usage_api_token.as_ref().map_or("", Secret::expose);
        let request = context.environment.http.post(url).bearer_auth(token).json(&body);
        let who = "the address for usage";
        let told = http::send(who, request, TIMEOUT, http::SMALL).await.and_then(|answer| answer.ok(who));
        if let Err(error) = told {
            tracing::warn!(link = &*context.link, vcon = uuid, %error, "the use of a model was not told");
        }
    }
}
