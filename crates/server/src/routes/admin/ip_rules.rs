//! Rules about addresses: which may come in.

use access::ip::{Cidr, IpRule, RuleAction};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::ResourceDraft;

use super::entries::Document;
use crate::admin::{
    Body, Call, Change, Created, Done, Given, Id, IdPath, Item, Limit, Nothing, Page, Refusal, Resource,
    Route, Text, Time, sentence,
};
use crate::configuration::IP_RULE;
use crate::state::Shared;

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/ip-rules", "/api/ip-rules/{id}");
    vec![
        Route::new(Method::GET, all, "ip.list", "Lists the rules about addresses.", list),
        Route::new(Method::POST, all, "ip.create", "Adds a rule about addresses.", create).idempotent(),
        Route::new(Method::GET, one, "ip.show", "Shows a rule.", show),
        Route::new(Method::PATCH, one, "ip.update", "Edits a rule.", update).conditional(),
        Route::new(Method::DELETE, one, "ip.delete", "Removes a rule.", delete).conditional(),
    ]
}

/// A rule about addresses.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct AddressRule {
    pub(super) id: i64,
    pub(super) action: RuleAction,
    /// Whom: an address or a network.
    pub(super) cidr: Cidr,
    pub(super) description: String,
    pub(super) enabled: bool,
    pub(super) expires_at: Option<Time>,
    pub(super) created_at: Time,
    pub(super) updated_at: Time,
    pub(super) version: i64,
}

impl AddressRule {
    fn new(document: Document, rule: IpRule) -> Self {
        AddressRule {
            id: document.id,
            action: rule.action,
            cidr: rule.cidr,
            description: rule.description.unwrap_or_default(),
            enabled: rule.enabled,
            expires_at: rule.expires_at.map(Time),
            created_at: Time(document.created_at),
            updated_at: Time(document.updated_at),
            version: document.version,
        }
    }
}

impl Resource for AddressRule {
    fn path(&self) -> String {
        format!("ip-rules/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        Some(self.version)
    }
}

/// A new rule about addresses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewAddressRule {
    action: RuleAction,
    /// Whom: an address or a network, as `203.0.113.0/24`.
    cidr: Cidr,
    description: Option<Text<0, 500>>,
    enabled: Option<bool>,
    expires_at: Option<Time>,
}

async fn create(call: Call<Nothing, Nothing, Body<NewAddressRule>>) -> Result<Created<AddressRule>, Refusal> {
    let Body(new) = call.body;
    let rule = IpRule {
        action: new.action,
        cidr: new.cidr,
        description: new.description.map(Text::into_inner),
        enabled: new.enabled.unwrap_or(true),
        expires_at: new.expires_at.map(|time| time.0),
    };
    make(&call.shared, rule).await.map(Created)
}

/// Adds a rule and puts it in force.
pub(super) async fn make(shared: &Shared, rule: IpRule) -> Result<AddressRule, Refusal> {
    let _one = shared.configuration.changing().await;
    let row = shared.access.db().create_resource(&draft(&rule)?, None).await?;
    shared.configuration.refresh().await;
    Ok(AddressRule::new((&row).into(), rule))
}

/// Which rules.
#[derive(Debug, Deserialize, JsonSchema)]
struct RuleQuery {
    /// How many at once.
    #[serde(default)]
    limit: Limit,
    /// The `next` of the page before.
    after: Option<Id>,
}

async fn list(call: Call<Nothing, RuleQuery>) -> Result<Page<AddressRule>, Refusal> {
    let RuleQuery { limit, after } = call.query;
    let db = call.shared.access.db();
    let rows = db.resources(IP_RULE, after.map_or(0, |id| id.0), limit.get() as i64).await?;
    let next = rows.last().map(|row| row.id).filter(|_| rows.len() >= limit.get());
    Ok(Page { data: rows.iter().filter_map(read).collect(), next })
}

/// Every rule.
pub(super) async fn all(shared: &Shared) -> Result<Vec<AddressRule>, Refusal> {
    let mut rules: Vec<_> =
        shared.access.db().all_resources(IP_RULE).await?.iter().filter_map(read).collect();
    rules.sort_by_key(|rule| rule.id);
    Ok(rules)
}

/// A rule as it was kept; one that cannot be read is in the log, and not in force.
fn read(row: &store::Resource) -> Option<AddressRule> {
    let rule = serde_json::from_str(&row.body).ok()?;
    Some(AddressRule::new(row.into(), rule))
}

async fn show(call: Call<IdPath>) -> Result<Item<AddressRule>, Refusal> {
    find(&call.shared, call.path.id.0).await.map(|(_, rule)| Item(rule))
}

/// A rule by its id, with the name it is kept under.
pub(super) async fn find(shared: &Shared, id: i64) -> Result<(String, AddressRule), Refusal> {
    let missing = || Refusal::not_found(format!("There is no rule {id}."));
    let row = shared.access.db().resource_by_id(IP_RULE, id).await?;
    let rule = read(&row).ok_or_else(missing)?;
    Ok((row.name, rule))
}

/// What to change of a rule; null clears.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditAddressRule {
    #[serde(default)]
    action: Given<RuleAction>,
    #[serde(default)]
    cidr: Given<Cidr>,
    #[serde(default)]
    description: Change<Text<0, 500>>,
    #[serde(default)]
    enabled: Given<bool>,
    #[serde(default)]
    expires_at: Change<Time>,
}

async fn update(call: Call<IdPath, Nothing, Body<EditAddressRule>>) -> Result<Item<AddressRule>, Refusal> {
    let Body(edit) = call.body;
    let change = |before: AddressRule| IpRule {
        action: edit.action.or(before.action),
        cidr: edit.cidr.or(before.cidr),
        description: edit.description.map(Text::into_inner).apply(Some(before.description)),
        enabled: edit.enabled.or(before.enabled),
        expires_at: edit.expires_at.apply(before.expires_at).map(|time| time.0),
    };
    save(&call.shared, call.path.id.0, call.if_match, change).await.map(Item)
}

/// Changes a rule and puts it in force.
pub(super) async fn save(
    shared: &Shared,
    id: i64,
    if_match: Option<i64>,
    change: impl FnOnce(AddressRule) -> IpRule,
) -> Result<AddressRule, Refusal> {
    let _one = shared.configuration.changing().await;
    let db = shared.access.db();
    let (name, before) = find(shared, id).await?;
    let mut version = if_match.unwrap_or(before.version);
    let rule = change(before);
    let draft = draft(&rule)?;
    if draft.name != name {
        version = db.rename_resource(IP_RULE, &name, &draft.name, Some(version), None).await?.version;
    }
    let row = db.update_resource(&draft, Some(version), None).await?;
    shared.configuration.refresh().await;
    Ok(AddressRule::new((&row).into(), rule))
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    remove(&call.shared, call.path.id.0, call.if_match).await.map(|()| Done)
}

/// Removes a rule.
pub(super) async fn remove(shared: &Shared, id: i64, version: Option<i64>) -> Result<(), Refusal> {
    let _one = shared.configuration.changing().await;
    let db = shared.access.db();
    let row = db.resource_by_id(IP_RULE, id).await?;
    db.delete_resource(IP_RULE, &row.name, version, None).await?;
    shared.configuration.refresh().await;
    Ok(())
}

/// A rule as it is kept. What it says of whom is its name, so that nobody says it twice.
fn draft(rule: &IpRule) -> Result<ResourceDraft, Refusal> {
    rule.check().map_err(|text| Refusal::invalid("description", sentence(&text)))?;
    let word = match rule.action {
        RuleAction::Allow => "allow",
        RuleAction::Deny => "deny",
    };
    let body = serde_json::to_string(rule).map_err(|error| Refusal::invalid("cidr", error.to_string()))?;
    Ok(ResourceDraft { kind: IP_RULE.into(), name: format!("{word} {}", rule.cidr), body })
}
