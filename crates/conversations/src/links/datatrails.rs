//! `links.datatrails`: records in DataTrails that the vCon was seen, and its hash: an event of the day's asset, and one
//! that needs no asset.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::Secret;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::scitt::hash::vcon_hash;
use super::shared::http;
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.datatrails";
pub(super) const OPTIONS: &[&str] =
    &["api_url", "auth_url", "auth", "partner_id", "vcon_operation", "asset_attributes"];

const WHO: &str = "DataTrails";
const VERSION: &str = "0.3.0";
const TIMEOUT: Duration = Duration::from_secs(30);
/// A token is asked for anew this long before its end.
const MARGIN: Duration = Duration::from_secs(300);

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The API.
    api_url: String,
    /// Where tokens are, when `auth` does not say it.
    auth_url: String,
    /// Who we are. Must be given.
    auth: Option<Auth>,
    /// The partner that DataTrails knows us as.
    partner_id: String,
    /// What happened to the vCon.
    vcon_operation: Option<String>,
    /// The attributes of the day's asset.
    asset_attributes: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Auth {
    /// `oidc-client-credentials`.
    #[serde(rename = "type")]
    kind: String,
    token_endpoint: Option<String>,
    client_id: String,
    client_secret: Secret,
}

impl Default for Options {
    fn default() -> Self {
        let mut asset_attributes = Map::new();
        asset_attributes.insert("arc_display_type".into(), json!("vcon_droid"));
        asset_attributes.insert("conserver_link_version".into(), json!(VERSION));
        Options {
            api_url: "https://app.datatrails.ai/archivist".into(),
            auth_url: "https://app.datatrails.ai/archivist/iam/v1/appidp/token".into(),
            auth: None,
            partner_id: "not-set".into(),
            vcon_operation: None,
            asset_attributes,
        }
    }
}

struct DataTrails {
    api: String,
    token_url: reqwest::Url,
    client: (String, Secret),
    partner: String,
    operation: String,
    attributes: Map<String, Value>,
    token: Arc<Mutex<Option<(Secret, Instant)>>>,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let auth = options.auth.ok_or_else(|| OptionsError::new("`auth` must be given"))?;
    if !auth.kind.eq_ignore_ascii_case("oidc-client-credentials") {
        return Err(OptionsError::new("`auth.type` must be oidc-client-credentials"));
    }
    http::url("api_url", &options.api_url)?;
    let token_url =
        http::url("auth.token_endpoint", auth.token_endpoint.as_ref().unwrap_or(&options.auth_url))?;
    let operation = options.vcon_operation.filter(|operation| !operation.is_empty());
    let operation = operation.unwrap_or_else(|| "vcon".into()).to_lowercase();
    let operation = operation.strip_prefix("vcon_").unwrap_or(&operation);
    let operation = format!("vcon_{}", operation.strip_prefix("vcon-").unwrap_or(operation));
    Ok(Box::new(DataTrails {
        api: options.api_url.trim_end_matches('/').to_owned(),
        token_url,
        client: (auth.client_id, auth.client_secret),
        partner: options.partner_id,
        operation,
        attributes: options.asset_attributes,
        token: Arc::default(),
    }))
}

impl DataTrails {
    async fn token(&self, context: &LinkContext) -> Result<Secret, LinkError> {
        let mut token = self.token.lock().await;
        if let Some((token, until)) = &*token
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let (id, secret) = &self.client;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", id)
            .append_pair("client_secret", secret.expose())
            .finish();
        let request = context.environment.http.post(self.token_url.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer = http::send(WHO, request, TIMEOUT, http::SMALL).await?.ok(WHO)?.json(WHO)?;
        let Some(text) = answer["access_token"].as_str() else {
            return Err(LinkError::temporary("DataTrails answers without a token"));
        };
        let lifetime = Duration::from_secs(answer["expires_in"].as_u64().unwrap_or_default().min(86_400));
        let new = Secret::from(text.to_owned());
        *token = Some((new.clone(), Instant::now() + lifetime.saturating_sub(MARGIN)));
        Ok(new)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
        context: &LinkContext,
    ) -> Result<Value, LinkError> {
        let token = self.token(context).await?;
        let request = context
            .environment
            .http
            .request(method, format!("{}{path}", self.api))
            .bearer_auth(token.expose());
        let request = request
            .header("content-type", "application/json")
            .header("datatrails-user-agent", format!("oss/conserverlink/{VERSION}"))
            .header("datatrails-partner-id", &self.partner);
        let answer = http::send(WHO, fill(request), TIMEOUT, http::SMALL).await?;
        if answer.status == 401 {
            // The token was taken back before its time: another attempt gets a new one.
            *self.token.lock().await = None;
            return Err(LinkError::temporary("DataTrails does not take the token"));
        }
        answer.ok(WHO)?.json(WHO)
    }

    /// The asset that the day's events hang on.
    async fn asset(&self, context: &LinkContext) -> Result<String, LinkError> {
        let mut attributes = self.attributes.clone();
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
        attributes.insert("droid_id".into(), json!(today));
        let path = format!("/v2/assets?{}", search(&attributes));
        let found = self.ask(Method::GET, &path, |request| request, context).await?;
        let identity = |asset: &Value| asset["identity"].as_str().map(str::to_owned);
        if let Some(found) = identity(&found["assets"][0]) {
            return Ok(found);
        }
        let body = json!({"behaviours": ["RecordEvidence"], "attributes": attributes, "public": false});
        let made = self.ask(Method::POST, "/v2/assets", |request| request.json(&body), context).await?;
        identity(&made).ok_or_else(|| LinkError::temporary("DataTrails answers without the asset's identity"))
    }
}

/// The query by which an asset of these attributes is found.
fn search(attributes: &Map<String, Value>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in attributes {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        query.append_pair(&format!("attributes.{name}"), &text);
    }
    query.finish()
}

#[async_trait]
impl Link for DataTrails {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let subject = format!("vcon://{}", vcon.uuid());
        let declared = vcon.text("updated_at").or_else(|| vcon.created_at()).unwrap_or_default();
        let attributes = json!({
            "arc_display_type": self.operation,
            "arc_event_type": self.operation,
            "conserver_link": "DataTrails",
            "conserver_link_name": &*context.link,
            "conserver_link_version": VERSION,
            "payload": vcon_hash(vcon)?,
            "payload_hash_alg": "SHA-256",
            "payload_preimage_content_type": "application/vcon+json",
            "subject": subject,
            "timestamp_declared": declared,
            "vcon_draft_version": "01",
            "vcon_operation": self.operation,
        });
        let asset = self.asset(context).await?;
        let body =
            json!({"operation": "Record", "behaviour": "RecordEvidence", "event_attributes": attributes});
        let path = format!("/v2/{asset}/events");
        self.ask(Method::POST, &path, |request| request.json(&body), context).await?;
        // Events without assets are a preview of DataTrails': that one fails is no failure of ours.
        let body = json!({"attributes": attributes, "trails": [subject]});
        if let Err(error) = self.ask(Method::POST, "/v1/events", |request| request.json(&body), context).await
        {
            tracing::info!(link = &*context.link, vcon = vcon.uuid(), %error, "an event without an asset was not taken");
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{reply, service};
    use super::*;
    use crate::testing;

    fn options(base: &str) -> Value {
        json!({"api_url": base, "partner_id": "p1", "vcon_operation": "vcon-Create",
            "auth": {"type": "oidc-client-credentials", "token_endpoint": format!("{base}/token"), "client_id": "id", "client_secret": "s&cret"}})
    }

    #[tokio::test]
    async fn it_records_an_event_of_the_day_s_asset() {
        let (upstream, base) = service(500, json!({}));
        let event = reply(200, &json!({"identity": "events/1"}));
        upstream.script([
            reply(200, &json!({"access_token": "tok", "expires_in": 3600})),
            reply(200, &json!({"assets": []})),
            reply(200, &json!({"identity": "assets/a1"})),
            event.clone(),
            event.clone(),
            // The second vCon: the token is known, the asset is found, the preview fails.
            reply(200, &json!({"assets": [{"identity": "assets/a1"}]})),
            event,
        ]);
        let link = make(options(&base), &testing::environment()).unwrap();
        for _ in 0..2 {
            assert_eq!(link.run(&mut testing::vcon(), &testing::context()).await.unwrap(), Next::Continue);
        }
        let requests = upstream.requests();
        let lines: Vec<String> = requests
            .iter()
            .map(|request| format!("{} {}", request.method, request.path.split("droid_id=").next().unwrap()))
            .collect();
        let search = "GET /v2/assets?attributes.arc_display_type=vcon_droid&attributes.conserver_link_version=0.3.0&attributes.";
        assert_eq!(
            lines,
            [
                "POST /token",
                search,
                "POST /v2/assets",
                "POST /v2/assets/a1/events",
                "POST /v1/events",
                search,
                "POST /v2/assets/a1/events",
                "POST /v1/events"
            ]
        );
        assert_eq!(requests[0].text(), "grant_type=client_credentials&client_id=id&client_secret=s%26cret");
        let header = |name| requests[3].header(name).unwrap();
        assert_eq!(
            [header("authorization"), header("datatrails-partner-id"), header("datatrails-user-agent")],
            ["Bearer tok", "p1", "oss/conserverlink/0.3.0"]
        );
        let vcon = testing::vcon();
        let attributes = json!({"arc_display_type": "vcon_create", "arc_event_type": "vcon_create", "conserver_link": "DataTrails",
            "conserver_link_name": "a_link", "conserver_link_version": "0.3.0", "payload": vcon_hash(&vcon).unwrap(),
            "payload_hash_alg": "SHA-256", "payload_preimage_content_type": "application/vcon+json",
            "subject": format!("vcon://{}", vcon.uuid()), "timestamp_declared": "2026-11-20T10:00:00+00:00", "vcon_draft_version": "01",
            "vcon_operation": "vcon_create"});
        assert_eq!(
            requests[3].json(),
            json!({"operation": "Record", "behaviour": "RecordEvidence", "event_attributes": attributes})
        );
        assert_eq!(requests[4].json()["trails"], json!([format!("vcon://{}", vcon.uuid())]));
    }

    #[tokio::test]
    async fn without_credentials_it_is_refused_and_a_refused_token_is_asked_for_anew() {
        assert!(make(json!({}), &testing::environment()).is_err());
        let (upstream, base) = service(401, json!({}));
        upstream.script([reply(200, &json!({"access_token": "tok", "expires_in": 3600}))]);
        let link = make(options(&base), &testing::environment()).unwrap();
        let error = link.run(&mut testing::vcon(), &testing::context()).await.unwrap_err();
        assert!(matches!(error, LinkError::Temporary { .. }), "{error}");
        upstream.script([reply(200, &json!({"access_token": "tok2", "expires_in": 3600}))]);
        link.run(&mut testing::vcon(), &testing::context()).await.unwrap_err();
        assert_eq!(upstream.requests().iter().filter(|request| request.path == "/token").count(), 2);
    }
}
