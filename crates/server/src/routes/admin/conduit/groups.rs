//! `/api/VirtualKeyGroups`.

use base::Money;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{GroupFields, StoreError, TransactionKind, TransactionRow};

use super::dollars::Dollars;
use super::keys::{ConduitKey, of_group};
use super::{PageQuery, Paged, bad};
use crate::admin::{
    Body, Call, Created, Done, IdPath, Json, Line, Name, Nothing, Refusal, Resource, Route, Text, Time,
    sentence,
};
use crate::routes::admin::stored;
use crate::state::Shared;

const PAGE: i64 = 1000;
/// The most transactions that are looked through.
const MAX_TRANSACTIONS: usize = 100_000;

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/VirtualKeyGroups", "/api/VirtualKeyGroups/{id}");
    vec![
        Route::conduit(Method::GET, all, "groups.list.conduit", "Lists groups.", list),
        Route::conduit(Method::POST, all, "groups.create.conduit", "Makes a group.", create),
        Route::conduit(Method::GET, one, "groups.show.conduit", "Shows a group.", show),
        Route::conduit(Method::PUT, one, "groups.update.conduit", "Edits a group.", update),
        Route::conduit(Method::DELETE, one, "groups.delete.conduit", "Removes a group without keys.", delete),
        Route::conduit(
            Method::POST,
            "/api/VirtualKeyGroups/{id}/adjust-balance",
            "groups.adjust.conduit",
            "Pays into a group's balance, or takes out.",
            adjust,
        ),
        Route::conduit(
            Method::GET,
            "/api/VirtualKeyGroups/{id}/transactions",
            "groups.transactions.conduit",
            "Lists what was paid in and put right, newest first.",
            transactions,
        ),
        Route::conduit(
            Method::GET,
            "/api/VirtualKeyGroups/{id}/keys",
            "groups.keys.conduit",
            "Lists the keys of a group.",
            keys,
        )
        .needs("keys", false),
    ]
}

/// A group.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConduitGroup {
    id: i64,
    external_group_id: Option<String>,
    group_name: String,
    balance: Dollars,
    lifetime_credits_added: Dollars,
    lifetime_spent: Dollars,
    created_at: Time,
    updated_at: Time,
    virtual_key_count: u64,
}

impl Resource for ConduitGroup {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("VirtualKeyGroups/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

fn shown(group: store::Group, keys: u64) -> ConduitGroup {
    ConduitGroup {
        id: group.id,
        external_group_id: group.external_id,
        group_name: group.name,
        balance: Dollars(group.balance),
        lifetime_credits_added: Dollars(group.credited),
        lifetime_spent: Dollars(group.spent),
        created_at: Time(group.created_at),
        updated_at: Time(group.updated_at),
        virtual_key_count: keys,
    }
}

/// A group by its id.
pub(super) async fn find(shared: &Shared, id: i64) -> Result<ConduitGroup, Refusal> {
    shared.access.settle_up().await;
    let db = shared.access.db();
    let group = db.group(id).await?;
    Ok(shown(group, of_group(db, Some(id)).await?.len() as u64))
}

async fn list(call: Call) -> Result<Json<Vec<ConduitGroup>>, Refusal> {
    call.shared.access.settle_up().await;
    let db = call.shared.access.db();
    let mut counts = std::collections::HashMap::<i64, u64>::new();
    for key in of_group(db, None).await? {
        if let Some(group) = key.group() {
            *counts.entry(group).or_default() += 1;
        }
    }
    let mut all: Vec<ConduitGroup> = Vec::new();
    loop {
        let page = db.groups(None, all.last().map_or(0, |group| group.id), PAGE).await?;
        if page.is_empty() {
            return Ok(Json(all));
        }
        all.extend(page.into_iter().map(|group| {
            let keys = counts.get(&group.id).copied().unwrap_or_default();
            shown(group, keys)
        }));
    }
}

/// A new group, or what to change of one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitGroupBody {
    group_name: Option<Name>,
    external_group_id: Option<Line<1, 100>>,
    /// What is paid in at once.
    initial_balance: Option<Dollars>,
}

async fn create(
    call: Call<Nothing, Nothing, Body<ConduitGroupBody>>,
) -> Result<Created<ConduitGroup>, Refusal> {
    let Body(new) = call.body;
    let Some(name) = new.group_name else {
        return Err(Refusal::invalid("groupName", "`groupName`: a group needs a name."));
    };
    let balance = new.initial_balance.unwrap_or_default().0;
    if balance < Money::ZERO {
        return Err(Refusal::invalid("initialBalance", "`initialBalance`: expected 0 or more."));
    }
    let fields = GroupFields {
        name: name.into_inner(),
        external_id: new.external_group_id.map(Line::into_inner),
        ..GroupFields::default()
    };
    let group = call.shared.access.db().create_group(&fields, balance, call.who.actor()).await?;
    Ok(Created(shown(group, 0)))
}

async fn show(call: Call<IdPath>) -> Result<Json<ConduitGroup>, Refusal> {
    find(&call.shared, call.path.id.0).await.map(Json)
}

async fn update(call: Call<IdPath, Nothing, Body<ConduitGroupBody>>) -> Result<Done, Refusal> {
    let (db, id, Body(edit)) = (call.shared.access.db(), call.path.id.0, call.body);
    let mut tries = stored::TRIES;
    loop {
        let before = db.group(id).await?;
        let edit = edit.clone();
        let fields = GroupFields {
            name: edit.group_name.map_or(before.name, Line::into_inner),
            description: before.description,
            external_id: edit.external_group_id.map(Line::into_inner).or(before.external_id),
            unlimited: before.unlimited,
            limits: before.limits,
            metadata: before.metadata,
        };
        match db.update_group(id, &fields, Some(before.version)).await {
            Err(StoreError::Changed { .. }) if tries > 0 => tries -= 1,
            done => return done.map(|_| Done).map_err(Refusal::from),
        }
    }
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    let deleted = call.shared.access.db().delete_group(call.path.id.0, None).await;
    deleted.map(|()| Done).map_err(|error| match error {
        StoreError::InUse { .. } => bad(sentence(&error.to_string())),
        other => other.into(),
    })
}

/// What to pay in, or out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitAdjustment {
    /// Below 0: taken out.
    amount: Dollars,
    description: Option<Text<0, 1000>>,
}

async fn adjust(call: Call<IdPath, Nothing, Body<ConduitAdjustment>>) -> Result<Json<ConduitGroup>, Refusal> {
    let Body(ConduitAdjustment { amount: Dollars(amount), description }) = call.body;
    let kind = match amount {
        amount if amount > Money::ZERO => TransactionKind::Credit,
        amount if amount < Money::ZERO => TransactionKind::Adjustment,
        _ => return Err(Refusal::invalid("amount", "`amount`: expected an amount other than 0.")),
    };
    let text = description.map(Text::into_inner).unwrap_or_default();
    let id = call.path.id.0;
    call.shared.access.db().transact(id, kind, amount, &text, call.who.actor()).await?;
    find(&call.shared, id).await.map(Json)
}

/// A change of a balance.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitTransaction {
    id: i64,
    virtual_key_group_id: i64,
    /// `Credit`, `Debit`, `Refund` or `Adjustment`.
    transaction_type: &'static str,
    amount: Dollars,
    balance_after: Dollars,
    /// `Manual`, or `Initial` for what a group began with.
    reference_type: &'static str,
    description: String,
    initiated_by: String,
    created_at: Time,
}

impl From<TransactionRow> for ConduitTransaction {
    fn from(row: TransactionRow) -> Self {
        let kind = match row.kind.as_str() {
            "refund" => "Refund",
            "adjustment" if row.amount < Money::ZERO => "Debit",
            "adjustment" => "Adjustment",
            _ => "Credit",
        };
        ConduitTransaction {
            id: row.id,
            virtual_key_group_id: row.group_id,
            transaction_type: kind,
            amount: Dollars(row.amount),
            balance_after: Dollars(row.balance_after),
            reference_type: if row.kind == "initial" { "Initial" } else { "Manual" },
            description: row.description,
            initiated_by: row.actor,
            created_at: Time(row.at),
        }
    }
}

async fn transactions(call: Call<IdPath, PageQuery>) -> Result<Json<Paged<ConduitTransaction>>, Refusal> {
    let (db, id) = (call.shared.access.db(), call.path.id.0);
    db.group(id).await?;
    let mut all: Vec<TransactionRow> = Vec::new();
    while all.len() < MAX_TRANSACTIONS {
        let page = db.transactions(id, all.last().map_or(0, |row| row.id), PAGE).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    Ok(Json(call.query.cut(all.into_iter().map(ConduitTransaction::from).collect())))
}

async fn keys(call: Call<IdPath>) -> Result<Json<Vec<ConduitKey>>, Refusal> {
    let db = call.shared.access.db();
    db.group(call.path.id.0).await?;
    of_group(db, Some(call.path.id.0)).await.map(Json)
}
