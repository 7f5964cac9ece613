//! `links.post_analysis_to_slack`: posts a dialog's summary to Slack when one of its analyses says something that
//! people should look at. What was posted is marked, and not posted again.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shared::{http, source};
use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{List, Object, Vcon};

pub(super) const MODULE: &str = "links.post_analysis_to_slack";
pub(super) const OPTIONS: &[&str] = &[
    "token",
    "default_channel_name",
    "channel_name",
    "url",
    "analysis_to_post",
    "only_if",
    "team_attachment",
    "api_url",
];

const TIMEOUT: Duration = Duration::from_secs(30);
const MARK: &str = "was_posted_to_slack";
/// The longest text of one block, by Slack's rules, in characters.
const LONGEST: usize = 3_000;

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The bot's token. Must be given.
    token: Option<Secret>,
    /// The channel. Must be given.
    default_channel_name: Option<String>,
    /// The channel, by the name that the Conserver's defaults have.
    channel_name: Option<String>,
    /// Where the vCon is shown; `{vcon_id}` is its uuid.
    url: String,
    /// The type of the analysis that is posted.
    analysis_to_post: String,
    /// When.
    only_if: OnlyIf,
    /// The purpose of the attachment whose `team` has a channel of its own, `team-<name>-alerts`.
    team_attachment: String,
    /// Slack's API.
    api_url: String,
}

/// The analysis that asks for attention.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct OnlyIf {
    analysis_type: String,
    includes: String,
}

impl Default for OnlyIf {
    fn default() -> Self {
        OnlyIf { analysis_type: "customer_frustration".into(), includes: "NEEDS REVIEW".into() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            token: None,
            default_channel_name: None,
            channel_name: None,
            url: String::new(),
            analysis_to_post: "summary".into(),
            only_if: OnlyIf::default(),
            team_attachment: "strolid_dealer".into(),
            api_url: "https://slack.com/api".into(),
        }
    }
}

struct Slack {
    options: Options,
    token: Secret,
    channel: String,
    url: reqwest::Url,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let mut options: Options = options::read(MODULE, options, OPTIONS)?;
    let token = options.token.take().ok_or_else(|| OptionsError::new("`token` must be given"))?;
    let channel =
        options.default_channel_name.take().or(options.channel_name.take()).filter(|name| !name.is_empty());
    let channel = channel.ok_or_else(|| OptionsError::new("`default_channel_name` must be given"))?;
    let url = http::url("api_url", &format!("{}/chat.postMessage", options.api_url.trim_end_matches('/')))?;
    Ok(Box::new(Slack { options, token, channel, url }))
}

impl Slack {
    async fn post(&self, message: &Value, context: &LinkContext) -> Result<(), LinkError> {
        let who = "Slack";
        let request =
            context.environment.http.post(self.url.clone()).bearer_auth(self.token.expose()).json(message);
        let answer = http::send(who, request, TIMEOUT, http::SMALL).await?.ok(who)?.json(who)?;
        if answer["ok"] == true {
            return Ok(());
        }
        let error = answer["error"].as_str().unwrap_or("no reason").chars().take(100).collect::<String>();
        let reason = format!("Slack refuses: {error}");
        match error.as_str() {
            "ratelimited"
            | "rate_limited"
            | "internal_error"
            | "fatal_error"
            | "service_unavailable"
            | "request_timeout" => Err(LinkError::temporary(reason)),
            _ => Err(LinkError::permanent(reason)),
        }
    }

    /// Posts to a channel; one that is not there is told in the usual channel.
    async fn post_to(
        &self,
        channel: &str,
        text: &str,
        details: &str,
        context: &LinkContext,
    ) -> Result<(), LinkError> {
        let shown: String = text.chars().take(LONGEST).collect();
        let mut blocks = vec![
            json!({"type": "section", "text": {"type": "mrkdwn", "text": "A conversation needs a look:"}}),
            json!({"type": "section", "text": {"type": "mrkdwn", "text": shown}}),
        ];
        if !details.is_empty() {
            blocks.push(json!({
                "type": "section",
                "text": {"type": "mrkdwn", "text": "Everything about it is here:"},
                "accessory": {
                    "type": "button",
                    "text": {"type": "plain_text", "text": "Details", "emoji": true},
                    "value": "details",
                    "url": details,
                    "action_id": "button-action",
                },
            }));
        }
        let message = json!({"channel": channel, "text": text, "blocks": blocks});
        let Err(error) = self.post(&message, context).await else { return Ok(()) };
        let meters = &context.environment.meters;
        if matches!(error, LinkError::Permanent(_)) && channel != self.channel {
            meters.count("link.slack.fallback_channel_used", &context.link, 1);
            let note = json!({"channel": self.channel, "text": format!("There is no channel {channel} to post to.")});
            self.post(&note, context).await?;
        }
        meters.count("link.slack.post_failures", &context.link, 1);
        Err(error)
    }

    fn details(&self, uuid: &str) -> String {
        let url = &self.options.url;
        match url.contains("{vcon_id}") {
            _ if url.is_empty() => String::new(),
            true => url.replace("{vcon_id}", uuid),
            false => format!("{url}?_vcon_id=\"{uuid}\""),
        }
    }

    /// The name of the team's channel, and of whom it is about.
    fn team(&self, vcon: &Vcon) -> Option<(String, String)> {
        let wanted = self.options.team_attachment.as_str();
        let is_it = |object: &&Object| {
            !wanted.is_empty()
                && ["purpose", "type"].iter().any(|key| object.text(key).as_deref() == Some(wanted))
        };
        let body = source::decoded(vcon.attachments().iter().find(is_it)?)["body"].take();
        let team = body["team"]["name"].as_str()?.split_whitespace().next()?.to_lowercase();
        let about = body["name"].as_str().unwrap_or_default().to_owned();
        (team != "strolid").then(|| (format!("team-{team}-alerts"), about))
    }
}

#[async_trait]
impl Link for Slack {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let only_if = &self.options.only_if;
        let wanted = |analysis: &Object| {
            let body = analysis.text("body").map(std::borrow::Cow::into_owned);
            let body = body.or_else(|| Some(analysis.get("body")?.get().to_owned())).unwrap_or_default();
            analysis.text("type").as_deref() == Some(only_if.analysis_type.as_str())
                && body.contains(&only_if.includes)
                && analysis.value(MARK) != Some(json!(true))
        };
        let found: Vec<usize> = vcon
            .analysis()
            .iter()
            .enumerate()
            .filter(|(_, analysis)| wanted(analysis))
            .map(|(at, _)| at)
            .collect();
        if found.is_empty() {
            context.skip();
        }
        for at in found {
            let dialog = vcon.analysis()[at].value("dialog").and_then(|dialog| dialog.as_u64());
            let summary = dialog.and_then(|dialog| {
                vcon.find_analysis(usize::try_from(dialog).ok()?, &self.options.analysis_to_post)
            });
            // Without a summary, what asks for attention speaks for itself.
            let source = summary.unwrap_or(&vcon.analysis()[at]);
            let text = source.text("body").map(std::borrow::Cow::into_owned);
            let text = text.or_else(|| Some(source.get("body")?.get().to_owned())).unwrap_or_default();
            let details = self.details(vcon.uuid());
            let text = match self.team(vcon) {
                Some((channel, about)) => {
                    let text = format!("{text} #{about}");
                    self.post_to(&channel, &text, &details, context).await?;
                    text
                }
                None => text,
            };
            self.post_to(&self.channel, &text, &details, context).await?;
            vcon.list_mut(List::Analysis)[at].set(MARK, true);
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::testing::{reply, service};
    use super::*;
    use crate::testing;
    use crate::vcon::Analysis;

    fn frustrated() -> Vcon {
        let mut vcon = testing::vcon();
        for (kind, body) in [
            ("summary", "Ann is cross."),
            ("customer_frustration", "all well"),
            ("customer_frustration", "NEEDS REVIEW: cross"),
        ] {
            vcon.add_analysis(Analysis {
                kind,
                dialog: json!(0),
                vendor: "x",
                body: json!(body),
                encoding: "none",
                extra: vec![],
            });
        }
        vcon
    }

    #[tokio::test]
    async fn the_summary_is_posted_once() {
        let (upstream, base) = service(200, json!({"ok": true}));
        let options = json!({"token": "xoxb", "default_channel_name": "alerts", "url": "https://p/{vcon_id}/x", "api_url": base});
        let link = make(options, &testing::environment()).unwrap();
        let mut vcon = frustrated();
        for _ in 0..2 {
            link.run(&mut vcon, &testing::context()).await.unwrap();
        }
        let requests = upstream.requests();
        assert_eq!(
            (requests.len(), &*requests[0].path, requests[0].header("authorization")),
            (1, "/chat.postMessage", Some("Bearer xoxb"))
        );
        let message = requests[0].json();
        assert_eq!((&message["channel"], &message["text"]), (&json!("alerts"), &json!("Ann is cross.")));
        assert_eq!(message["blocks"][1]["text"], json!({"type": "mrkdwn", "text": "Ann is cross."}));
        assert_eq!(message["blocks"][2]["accessory"]["url"], json!(format!("https://p/{}/x", vcon.uuid())));
        assert_eq!(vcon.analysis()[2].value(MARK), Some(json!(true)));
        assert_eq!(vcon.analysis()[1].value(MARK), None);
    }

    #[tokio::test]
    async fn a_team_has_its_channel_and_one_that_is_not_there_is_told() {
        let (upstream, base) = service(200, json!({"ok": true}));
        let options =
            json!({"token": "xoxb", "default_channel_name": "alerts", "url": "https://p", "api_url": base});
        let link = make(options, &testing::environment()).unwrap();
        let mut vcon = frustrated();
        vcon.add_attachment("strolid_dealer", json!({"name": "Ford", "team": {"name": "Blue Team"}}), "json");
        link.run(&mut vcon, &testing::context()).await.unwrap();
        let channels: Vec<Value> =
            upstream.requests().iter().map(|request| request.json()["channel"].clone()).collect();
        assert_eq!(channels, ["team-blue-alerts", "alerts"]);
        let message = upstream.requests()[1].json();
        assert_eq!(message["text"], "Ann is cross. #Ford");
        assert_eq!(
            message["blocks"][2]["accessory"]["url"],
            json!(format!("https://p?_vcon_id=\"{}\"", vcon.uuid()))
        );

        upstream.script([reply(200, &json!({"ok": false, "error": "channel_not_found"}))]);
        let mut vcon = frustrated();
        vcon.add_attachment("strolid_dealer", json!({"team": {"name": "Red"}}), "json");
        let error = link.run(&mut vcon, &testing::context()).await.unwrap_err();
        assert!(
            matches!(&error, LinkError::Permanent(text) if text.contains("channel_not_found")),
            "{error}"
        );
        let note = upstream.requests().pop().unwrap().json();
        assert!(note["text"].as_str().unwrap().contains("team-red-alerts") && note["channel"] == "alerts");
    }

    #[tokio::test]
    async fn a_limit_is_waited_for_and_a_token_must_be_given() {
        let (_upstream, base) = service(200, json!({"ok": false, "error": "ratelimited"}));
        let options = json!({"token": "xoxb", "default_channel_name": "alerts", "api_url": base});
        let link = make(options, &testing::environment()).unwrap();
        let mut vcon = frustrated();
        let error = link.run(&mut vcon, &testing::context()).await.unwrap_err();
        assert!(
            matches!(error, LinkError::Temporary { .. }) && vcon.analysis()[2].value(MARK).is_none(),
            "{error}"
        );
        assert!(make(json!({"default_channel_name": "a"}), &testing::environment()).is_err());
        assert!(make(json!({"token": "a"}), &testing::environment()).is_err());
    }
}
