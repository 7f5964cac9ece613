//! `/api/IpFilter`.

use access::ip::{Cidr, IpRule, RuleAction};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{Body, Call, Created, Done, IdPath, Json, Nothing, Refusal, Resource, Route, Text, Time};
use crate::routes::admin::ip_rules::{self, AddressRule};

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/IpFilter", "/api/IpFilter/{id}");
    vec![
        Route::conduit(Method::GET, all, "ip.list.conduit", "Lists the rules about addresses.", list),
        Route::conduit(Method::POST, all, "ip.create.conduit", "Adds a rule about addresses.", create),
        Route::conduit(Method::GET, one, "ip.show.conduit", "Shows a rule.", show),
        Route::conduit(Method::PUT, one, "ip.update.conduit", "Edits a rule.", update),
        Route::conduit(Method::DELETE, one, "ip.delete.conduit", "Removes a rule.", delete),
        Route::conduit(
            Method::GET,
            "/api/IpFilter/enabled",
            "ip.enabled.conduit",
            "Lists the rules that hold.",
            enabled,
        ),
    ]
}

/// `whitelist` or `blacklist`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FilterType {
    /// It lets in.
    #[serde(alias = "allow", alias = "Whitelist")]
    Whitelist,
    /// It keeps out.
    #[serde(alias = "deny", alias = "Blacklist")]
    Blacklist,
}

/// A rule about addresses.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitFilter {
    id: i64,
    filter_type: FilterType,
    ip_address_or_cidr: String,
    description: String,
    is_enabled: bool,
    created_at: Time,
    updated_at: Time,
}

impl Resource for ConduitFilter {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("IpFilter/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

impl From<AddressRule> for ConduitFilter {
    fn from(rule: AddressRule) -> Self {
        ConduitFilter {
            id: rule.id,
            filter_type: match rule.action {
                RuleAction::Allow => FilterType::Whitelist,
                RuleAction::Deny => FilterType::Blacklist,
            },
            ip_address_or_cidr: rule.cidr.to_string(),
            description: rule.description,
            is_enabled: rule.enabled,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
}

/// A new rule, or what to change of one: what is left out or null stays.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitFilterBody {
    filter_type: Option<FilterType>,
    ip_address_or_cidr: Option<Cidr>,
    description: Option<Text<0, 500>>,
    is_enabled: Option<bool>,
}

impl ConduitFilterBody {
    fn action(&self) -> Option<RuleAction> {
        self.filter_type.map(|kind| match kind {
            FilterType::Whitelist => RuleAction::Allow,
            FilterType::Blacklist => RuleAction::Deny,
        })
    }
}

async fn list(call: Call) -> Result<Json<Vec<ConduitFilter>>, Refusal> {
    let all = ip_rules::all(&call.shared).await?;
    Ok(Json(all.into_iter().map(ConduitFilter::from).collect()))
}

async fn enabled(call: Call) -> Result<Json<Vec<ConduitFilter>>, Refusal> {
    let all = ip_rules::all(&call.shared).await?;
    Ok(Json(all.into_iter().filter(|rule| rule.enabled).map(ConduitFilter::from).collect()))
}

async fn create(
    call: Call<Nothing, Nothing, Body<ConduitFilterBody>>,
) -> Result<Created<ConduitFilter>, Refusal> {
    let Body(new) = call.body;
    let needed = |field: &str| Refusal::invalid(field, format!("`{field}`: a rule needs it."));
    let rule = IpRule {
        action: new.action().ok_or_else(|| needed("filterType"))?,
        cidr: new.ip_address_or_cidr.ok_or_else(|| needed("ipAddressOrCidr"))?,
        description: new.description.map(Text::into_inner),
        enabled: new.is_enabled.unwrap_or(true),
        expires_at: None,
    };
    let made = ip_rules::make(&call.shared, rule).await?;
    Ok(Created(made.into()))
}

async fn show(call: Call<IdPath>) -> Result<Json<ConduitFilter>, Refusal> {
    let (_, rule) = ip_rules::find(&call.shared, call.path.id.0).await?;
    Ok(Json(rule.into()))
}

async fn update(call: Call<IdPath, Nothing, Body<ConduitFilterBody>>) -> Result<Done, Refusal> {
    let Body(edit) = call.body;
    let change = |before: AddressRule| IpRule {
        action: edit.action().unwrap_or(before.action),
        cidr: edit.ip_address_or_cidr.unwrap_or(before.cidr),
        description: Some(edit.description.map(Text::into_inner).unwrap_or(before.description)),
        enabled: edit.is_enabled.unwrap_or(before.enabled),
        expires_at: before.expires_at.map(|time| time.0),
    };
    ip_rules::save(&call.shared, call.path.id.0, None, change).await?;
    Ok(Done)
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    ip_rules::remove(&call.shared, call.path.id.0, None).await?;
    Ok(Done)
}
