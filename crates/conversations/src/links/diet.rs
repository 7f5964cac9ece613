//! `links.diet`: makes a vCon small. Bodies of dialogs are dropped, or moved to a bucket of S3 or to a service and
//! replaced by their address; analyses, attachments of some types and system prompts are dropped.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{ClientOptions, ObjectStoreExt as _};
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::http;
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{List, Object, Vcon};

pub(super) const MODULE: &str = "links.diet";
pub(super) const OPTIONS: &[&str] = &[
    "remove_dialog_body",
    "post_media_to_url",
    "remove_analysis",
    "remove_attachment_types",
    "remove_system_prompts",
    "s3_bucket",
    "s3_path",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_region",
    "endpoint_url",
    "presigned_url_expiration",
];

const TIMEOUT: Duration = Duration::from_secs(120);

/// Its options.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    /// Whether bodies of dialogs go.
    remove_dialog_body: bool,
    /// Where they are posted, to be replaced by the address that is answered.
    post_media_to_url: Option<String>,
    /// Whether all analyses go.
    remove_analysis: bool,
    /// The media types of attachments that go.
    remove_attachment_types: Vec<String>,
    /// Whether every member `system_prompt` goes, wherever it stands.
    remove_system_prompts: bool,
    /// The bucket that bodies move to.
    s3_bucket: Option<String>,
    /// The folder within it.
    s3_path: Option<String>,
    /// The key; else that of the environment.
    aws_access_key_id: Option<String>,
    /// Its secret.
    aws_secret_access_key: Option<Secret>,
    /// The region: `us-east-1` when none is given.
    aws_region: Option<String>,
    /// Another service than Amazon's.
    endpoint_url: Option<String>,
    /// How long the address of what was moved is good, in seconds: 3600 when none is given.
    presigned_url_expiration: Option<u64>,
}

/// Where bodies go.
enum Place {
    Nowhere,
    Service(reqwest::Url),
    Bucket(Box<Bucket>),
}

struct Bucket {
    store: AmazonS3,
    prefix: String,
    expiration: Duration,
}

struct Diet {
    options: Options,
    place: Place,
}

fn filled(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

pub(super) fn make(options: Value, environment: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let place = match (filled(options.s3_bucket.as_ref()), filled(options.post_media_to_url.as_ref())) {
        (Some(bucket), _) => Place::Bucket(Box::new(self::bucket(bucket, &options, environment)?)),
        (None, Some(url)) => Place::Service(http::url("post_media_to_url", url)?),
        (None, None) => Place::Nowhere,
    };
    Ok(Box::new(Diet { options, place }))
}

fn bucket(name: &str, options: &Options, environment: &Environment) -> Result<Bucket, OptionsError> {
    let variable = |name: &str| environment.variables.get(name);
    let endpoint = filled(options.endpoint_url.as_ref());
    if let Some(endpoint) = endpoint {
        http::url("endpoint_url", endpoint)?;
    }
    let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    let client = ClientOptions::new().with_allow_http(plain).with_timeout(TIMEOUT);
    let region = filled(options.aws_region.as_ref()).map(str::to_owned).or_else(|| variable("AWS_REGION"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_client_options(client)
        .with_region(region.unwrap_or_else(|| "us-east-1".into()));
    let key = filled(options.aws_access_key_id.as_ref())
        .map(str::to_owned)
        .or_else(|| variable("AWS_ACCESS_KEY_ID"));
    let secret = options.aws_secret_access_key.as_ref().map(|secret| secret.expose().to_owned());
    let secret = secret.filter(|secret| !secret.is_empty()).or_else(|| variable("AWS_SECRET_ACCESS_KEY"));
    if let (Some(key), Some(secret)) = (key, secret) {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    // A second call changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let store = builder.build().map_err(|_| OptionsError::new("the options for S3 do not fit together"))?;
    let prefix = filled(options.s3_path.as_ref())
        .map(|path| format!("{}/", path.trim_matches('/')))
        .unwrap_or_default();
    let expiration = Duration::from_secs(options.presigned_url_expiration.unwrap_or(3_600));
    Ok(Bucket { store, prefix, expiration })
}

impl Bucket {
    /// Keeps a body, and the address at which it can be read for a time. The same body is the same object, so that
    /// another attempt leaves no second one.
    async fn keep(&self, body: &str, uuid: &str, dialog: &str) -> Result<String, LinkError> {
        let hash = hex::encode(digest::digest(&digest::SHA256, body.as_bytes()));
        let name = if dialog.is_empty() { format!("{hash}.txt") } else { format!("{dialog}_{hash}.txt") };
        let path = Path::parse(format!("{}{uuid}/{name}", self.prefix));
        let path =
            path.map_err(|_| LinkError::permanent("the dialog's id cannot be part of an object's name"))?;
        // The words of a storage service may hold an address that is signed.
        let failed = |_| LinkError::temporary("S3 does not take the body of a dialog");
        self.store.put(&path, body.as_bytes().to_vec().into()).await.map_err(failed)?;
        let url = self.store.signed_url(reqwest::Method::GET, &path, self.expiration).await;
        Ok(url.map_err(|_| LinkError::permanent("an address of S3 cannot be signed"))?.to_string())
    }
}

impl Diet {
    /// What takes the place of a body: an address, or nothing.
    async fn moved(
        &self,
        body: &str,
        dialog: &Object,
        uuid: &str,
        context: &LinkContext,
    ) -> Result<Option<String>, LinkError> {
        let id = dialog.text("id").unwrap_or_default();
        match &self.place {
            Place::Nowhere => Ok(None),
            Place::Bucket(bucket) => bucket.keep(body, uuid, &id).await.map(Some),
            Place::Service(url) => {
                let who = url.host_str().unwrap_or("the service for media");
                let media = json!({"content": body, "vcon_uuid": uuid, "dialog_id": id});
                let request = context.environment.http.post(url.clone()).json(&media);
                let sent =
                    http::send(who, request, TIMEOUT, http::SMALL).await.and_then(|answer| answer.ok(who));
                let answer = sent.inspect_err(|_| {
                    context.environment.meters.count("link.diet.media_post_failures", &context.link, 1);
                })?;
                let answer = answer.json(who).unwrap_or_default();
                Ok(answer["url"].as_str().filter(|url| !url.is_empty()).map(str::to_owned))
            }
        }
    }

    async fn bodies(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<(), LinkError> {
        for at in 0..vcon.dialog().len() {
            let dialog = &vcon.dialog()[at];
            if !dialog.has("body") || dialog.text("body_type").as_deref() == Some("url") {
                continue;
            }
            let body = match dialog.text("body") {
                Some(body) => body.into_owned(),
                None => dialog.get("body").map(|body| body.get().to_owned()).unwrap_or_default(),
            };
            let address = match body.is_empty() || body == "null" {
                true => None,
                // A body that cannot be moved stays, and so does the vCon as a whole: it is tried again.
                false => self.moved(&body, dialog, vcon.uuid(), context).await?,
            };
            let dialog = &mut vcon.list_mut(List::Dialog)[at];
            match address {
                Some(address) => {
                    dialog.set("body", address);
                    dialog.set("body_type", "url");
                }
                None => dialog.set("body", ""),
            }
        }
        Ok(())
    }
}

/// Removes every member `system_prompt`, also in bodies that are the text of JSON; whether there was one.
fn without_prompts(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            let mut found = map.remove("system_prompt").is_some();
            if map.get("encoding").and_then(Value::as_str) == Some("json")
                && let Some(Value::String(text)) = map.get_mut("body")
                && let Ok(mut inner) = serde_json::from_str::<Value>(text)
                && without_prompts(&mut inner)
            {
                *text = inner.to_string();
                found = true;
            }
            map.values_mut().filter_map(|value| without_prompts(value).then_some(())).count() > 0 || found
        }
        Value::Array(items) => {
            items.iter_mut().filter_map(|item| without_prompts(item).then_some(())).count() > 0
        }
        _ => false,
    }
}

#[async_trait]
impl Link for Diet {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let options = &self.options;
        if options.remove_dialog_body {
            self.bodies(vcon, context).await?;
        }
        if options.remove_analysis {
            vcon.remove("analysis");
        }
        let types = &options.remove_attachment_types;
        let goes = |attachment: &Object| {
            let known =
                ["mime_type", "mediatype", "mimetype"].into_iter().filter_map(|key| attachment.text(key));
            known.into_iter().any(|kind| types.iter().any(|other| *other == *kind))
        };
        if vcon.attachments().iter().any(goes) {
            vcon.list_mut(List::Attachments).retain(|attachment| !goes(attachment));
        }
        if options.remove_system_prompts && vcon.to_bytes().windows(13).any(|part| part == b"system_prompt") {
            let mut value = vcon.to_value();
            if without_prompts(&mut value) {
                let wrong =
                    |error| LinkError::permanent(format!("without its prompts it is no vCon: {error}"));
                vcon.replace(value.to_string()).map_err(wrong)?;
            }
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use testkit::{Behaviour, Reply, Upstream};

    use super::super::shared::testing::{reply, service};
    use super::*;
    use crate::testing;
    use crate::vcon::Analysis;

    async fn run(options: Value, vcon: &mut Vcon) -> Result<Next, LinkError> {
        make(options, &testing::environment()).unwrap().run(vcon, &testing::context()).await
    }

    #[tokio::test]
    async fn it_drops_what_it_is_told_to() {
        let mut vcon = testing::vcon();
        let before = vcon.to_value();
        run(Value::Null, &mut vcon).await.unwrap();
        assert_eq!(vcon.to_value(), before, "by default nothing");
        for (key, kind) in
            [("mime_type", "image/jpeg"), ("mediatype", "audio/mp3"), ("mimetype", "text/plain")]
        {
            let attachment = json!({"purpose": "x", key: kind, "body": "", "encoding": "none"});
            vcon.list_mut(List::Attachments).push(serde_json::from_value(attachment).unwrap());
        }
        let body = json!({"system_prompt": "secret", "keep": [{"system_prompt": 1, "a": 2}]});
        let extra = vec![("vendor_schema", json!({"system_prompt": "secret", "model": "m"}))];
        vcon.add_analysis(Analysis {
            kind: "a",
            dialog: json!(0),
            vendor: "v",
            body,
            encoding: "json",
            extra,
        });
        let mut slim = vcon.clone();
        run(json!({"remove_dialog_body": true, "remove_attachment_types": ["image/jpeg", "audio/mp3"], "remove_system_prompts": true}), &mut slim).await.unwrap();
        assert_eq!(slim.dialog()[0].text("body").as_deref(), Some(""));
        assert_eq!(slim.attachments().len(), 1);
        let made = &slim.analysis()[0];
        assert_eq!(made.value("vendor_schema"), Some(json!({"model": "m"})));
        assert_eq!(made.text("body").as_deref(), Some(r#"{"keep":[{"a":2}]}"#));
        run(json!({"remove_analysis": true}), &mut vcon).await.unwrap();
        assert!(!vcon.keys().any(|key| key == "analysis"));
    }

    #[tokio::test]
    async fn a_service_takes_the_body_and_answers_with_its_address() {
        let (upstream, base) = service(200, json!({"url": "https://media/1"}));
        let mut vcon = testing::vcon();
        vcon.list_mut(List::Dialog)[0].set("id", "d1");
        let options = json!({"remove_dialog_body": true, "post_media_to_url": format!("{base}/media")});
        for _ in 0..2 {
            run(options.clone(), &mut vcon).await.unwrap();
        }
        let requests = upstream.requests();
        assert_eq!(requests.len(), 1, "what was moved is not moved again");
        assert_eq!(
            requests[0].json(),
            json!({"content": "Good morning.", "vcon_uuid": vcon.uuid(), "dialog_id": "d1"})
        );
        let dialog = &vcon.dialog()[0];
        assert_eq!(
            (dialog.text("body").as_deref(), dialog.text("body_type").as_deref()),
            (Some("https://media/1"), Some("url"))
        );
    }

    #[tokio::test]
    async fn a_body_that_is_not_taken_is_not_lost() {
        let (upstream, base) = service(503, json!({}));
        let mut vcon = testing::vcon();
        let options = json!({"remove_dialog_body": true, "post_media_to_url": base});
        let error = run(options.clone(), &mut vcon).await.unwrap_err();
        assert!(matches!(error, LinkError::Temporary { .. }), "{error}");
        assert_eq!(vcon.dialog()[0].text("body").as_deref(), Some("Good morning."));
        upstream.set_default(reply(200, &json!({})));
        run(options, &mut vcon).await.unwrap();
        assert_eq!(vcon.dialog()[0].text("body").as_deref(), Some(""), "it was taken, and has no address");
    }

    #[tokio::test]
    async fn a_bucket_keeps_the_body_under_a_signed_address() {
        let upstream = Upstream::start();
        upstream.set_default(Behaviour::custom("s3", |_| {
            let mut reply = Reply::whole(200, "application/xml", "");
            reply.set_header("etag", "\"e\"");
            reply
        }));
        let mut vcon = testing::vcon();
        let options = json!({"remove_dialog_body": true, "s3_bucket": "media", "s3_path": "calls/", "aws_access_key_id": "AKID",
            "aws_secret_access_key": "s3cret", "endpoint_url": format!("http://127.0.0.1:{}", upstream.port()), "presigned_url_expiration": 60});
        run(options, &mut vcon).await.unwrap();
        let requests = upstream.requests();
        let hash = hex::encode(digest::digest(&digest::SHA256, b"Good morning."));
        let path = format!("/media/calls/{}/{hash}.txt", vcon.uuid());
        assert_eq!(
            (requests.len(), &*requests[0].method, &*requests[0].path, &*requests[0].body),
            (1, "PUT", &*path, &b"Good morning."[..])
        );
        let url = vcon.dialog()[0].text("body").unwrap().into_owned();
        let url = reqwest::Url::parse(&url).unwrap();
        assert_eq!(url.path(), path);
        let query: std::collections::HashMap<_, _> = url.query_pairs().collect();
        assert_eq!((&*query["X-Amz-Expires"], query.contains_key("X-Amz-Signature")), ("60", true));
        assert!(!url.as_str().contains("s3cret"));
        upstream.set_default(Behaviour::custom("no", |_| Reply::whole(403, "application/xml", "")));
        let mut vcon = testing::vcon();
        let options = json!({"remove_dialog_body": true, "s3_bucket": "media", "aws_access_key_id": "AKID", "aws_secret_access_key": "s3cret",
            "endpoint_url": format!("http://127.0.0.1:{}", upstream.port())});
        assert!(run(options, &mut vcon).await.is_err());
        assert_eq!(vcon.dialog()[0].text("body").as_deref(), Some("Good morning."));
    }
}
