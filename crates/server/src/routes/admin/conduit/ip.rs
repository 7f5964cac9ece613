//! `/api/IpFilter`.

use std::net::IpAddr;

use access::ip::{Cidr, FilterMode, IpRule, RuleAction, Surface};
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
        Route::conduit(
            Method::GET,
            "/api/IpFilter/settings",
            "ip.show_settings.conduit",
            "Shows how addresses are filtered.",
            settings,
        ),
        Route::conduit(
            Method::PUT,
            "/api/IpFilter/settings",
            "ip.set_settings.conduit",
            "Says how addresses are filtered, if that is how the settings file has it.",
            set_settings,
        ),
        Route::conduit(
            Method::GET,
            "/api/IpFilter/check/{ip}",
            "ip.check.conduit",
            "Says whether an address may come in.",
            check,
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

/// What happens to addresses that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// They may not come in as soon as some rule lets one in.
    Auto,
    /// They may come in.
    #[serde(alias = "Permissive")]
    Permissive,
    /// They may not.
    #[serde(alias = "Restrictive")]
    Restrictive,
}

/// How addresses are filtered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitFilterSettings {
    is_enabled: bool,
    filter_mode: Mode,
    default_allow: bool,
    bypass_for_private: bool,
    whitelist_filters: Vec<ConduitFilter>,
    blacklist_filters: Vec<ConduitFilter>,
}

fn mode(call: &crate::state::Shared) -> (access::ip::FilterSettings, Mode) {
    let filter = call.access.door().settings().filter;
    let mode = match filter.mode {
        FilterMode::Auto => Mode::Auto,
        FilterMode::Permissive => Mode::Permissive,
        FilterMode::Restrictive => Mode::Restrictive,
    };
    (filter, mode)
}

async fn settings(call: Call) -> Result<Json<ConduitFilterSettings>, Refusal> {
    let (filter, filter_mode) = mode(&call.shared);
    let all = ip_rules::all(&call.shared).await?;
    let (allow, deny): (Vec<_>, Vec<_>) =
        all.into_iter().filter(|rule| rule.enabled).partition(|rule| rule.action == RuleAction::Allow);
    let restricts = filter_mode == Mode::Restrictive
        || filter_mode == Mode::Auto && !(allow.is_empty() && filter.allow.is_empty());
    Ok(Json(ConduitFilterSettings {
        is_enabled: filter.enabled,
        filter_mode,
        default_allow: !restricts,
        bypass_for_private: filter.allow_private,
        whitelist_filters: allow.into_iter().map(ConduitFilter::from).collect(),
        blacklist_filters: deny.into_iter().map(ConduitFilter::from).collect(),
    }))
}

/// How addresses should be filtered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitFilterChange {
    is_enabled: Option<bool>,
    filter_mode: Option<Mode>,
}

async fn set_settings(call: Call<Nothing, Nothing, Body<ConduitFilterChange>>) -> Result<Done, Refusal> {
    let (Body(wanted), (filter, mode)) = (call.body, mode(&call.shared));
    let same = wanted.is_enabled.is_none_or(|enabled| enabled == filter.enabled)
        && wanted.filter_mode.is_none_or(|wanted| wanted == mode);
    if same {
        return Ok(Done);
    }
    let text =
        "`ip.filter` belongs to the settings file: change `enabled` and `mode` there; rules are made here.";
    Err(Refusal::conflict("set_in_file", text))
}

/// `{ip}` in a path.
#[derive(Debug, Deserialize, JsonSchema)]
struct IpPath {
    /// An address.
    ip: IpAddr,
}

/// Whether an address may come in.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitChecked {
    ip_address: IpAddr,
    is_allowed: bool,
    denied_reason: Option<String>,
}

async fn check(call: Call<IpPath>) -> Result<Json<ConduitChecked>, Refusal> {
    let (door, ip) = (call.shared.access.door(), call.path.ip);
    let blocked = door.blocks().into_iter().find(|block| block.ip == access::ip::source(ip));
    let reason = match door.allows(ip, Surface::Api) {
        false => Some("a rule about addresses".to_owned()),
        true => blocked.map(|block| block.reason),
    };
    Ok(Json(ConduitChecked { ip_address: ip, is_allowed: reason.is_none(), denied_reason: reason }))
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
