//! Groups: prepaid accounts, what is paid into them, and their keys.

use access::limits::Limits;
use base::Money;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{GroupFields, KeyFilter, StoreError, TransactionKind, TransactionRow};

use super::keys::Key;
use super::stored;
use crate::admin::{
    Body, Call, Change, Created, Done, Given, Id, IdPath, Item, Limit, Line, Metadata, Name, Nothing, Page,
    Refusal, Resource, Route, Text, Time,
};

pub(super) fn routes() -> Vec<Route> {
    let one = "/api/groups/{id}";
    vec![
        Route::new(Method::POST, "/api/groups", "groups.create", "Makes a group.", create).idempotent(),
        Route::new(Method::GET, "/api/groups", "groups.list", "Lists groups.", list),
        Route::new(Method::GET, one, "groups.show", "Shows a group with its balance.", show),
        Route::new(Method::PATCH, one, "groups.update", "Edits a group.", update).conditional(),
        Route::new(Method::DELETE, one, "groups.delete", "Removes a group without keys.", delete)
            .conditional(),
        Route::new(
            Method::POST,
            "/api/groups/{id}/credits",
            "groups.credit",
            "Pays into a group's balance.",
            credit,
        )
        .idempotent(),
        Route::new(
            Method::POST,
            "/api/groups/{id}/refunds",
            "groups.refund",
            "Gives back what was charged.",
            refund,
        )
        .idempotent(),
        Route::new(
            Method::POST,
            "/api/groups/{id}/adjustments",
            "groups.adjust",
            "Puts a balance right, up or down.",
            adjust,
        )
        .idempotent(),
        Route::new(
            Method::GET,
            "/api/groups/{id}/transactions",
            "groups.transactions",
            "Lists what was paid in and put right, newest first.",
            transactions,
        ),
        Route::new(Method::GET, "/api/groups/{id}/keys", "groups.keys", "Lists the keys of a group.", keys)
            .needs("keys", false),
    ]
}

/// A prepaid account that keys belong to.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Group {
    id: i64,
    name: String,
    description: String,
    /// The id that another system has for it.
    external_id: Option<String>,
    /// Spends without a balance.
    unlimited: bool,
    /// What is not spent; null when unlimited.
    balance: Option<Money>,
    /// The part of it that is held for calls under way and to come.
    held: Money,
    /// Everything ever paid in.
    credited: Money,
    /// Everything ever spent.
    spent: Money,
    limits: Option<Limits>,
    metadata: Option<Metadata>,
    created_at: Time,
    updated_at: Time,
    version: i64,
}

impl Resource for Group {
    fn path(&self) -> String {
        format!("groups/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        Some(self.version)
    }
}

impl From<store::Group> for Group {
    fn from(group: store::Group) -> Self {
        Group {
            id: group.id,
            name: group.name,
            description: group.description,
            external_id: group.external_id,
            unlimited: group.unlimited,
            balance: (!group.unlimited).then_some(group.balance),
            held: group.held,
            credited: group.credited,
            spent: group.spent,
            limits: stored::read(group.limits),
            metadata: stored::read(group.metadata).map(Metadata),
            created_at: Time(group.created_at),
            updated_at: Time(group.updated_at),
            version: group.version,
        }
    }
}

/// A new group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    /// Unique.
    name: Name,
    description: Option<Text<0, 1000>>,
    /// What is paid in at once.
    #[serde(default)]
    balance: Money,
    /// Spends without a balance.
    #[serde(default)]
    unlimited: bool,
    /// The id that another system has for it.
    external_id: Option<Line<1, 100>>,
    /// For all its keys together.
    limits: Option<Limits>,
    metadata: Option<Metadata>,
}

async fn create(call: Call<Nothing, Nothing, Body<NewGroup>>) -> Result<Created<Group>, Refusal> {
    let Body(new) = call.body;
    if new.balance < Money::ZERO {
        return Err(Refusal::invalid("balance", "`balance`: expected 0 or more to begin with."));
    }
    let fields = GroupFields {
        name: new.name.into_inner(),
        description: new.description.map(Text::into_inner).unwrap_or_default(),
        external_id: new.external_id.map(Line::into_inner),
        unlimited: new.unlimited,
        limits: stored::write(new.limits.as_ref()),
        metadata: stored::write(new.metadata.as_ref()),
    };
    let group = call.shared.access.db().create_group(&fields, new.balance, call.who.actor()).await?;
    Ok(Created(group.into()))
}

/// Which groups.
#[derive(Debug, Deserialize, JsonSchema)]
struct GroupQuery {
    /// Only the one of this name.
    name: Option<Name>,
    /// How many at once.
    #[serde(default)]
    limit: Limit,
    /// The `next` of the page before.
    after: Option<Id>,
}

async fn list(call: Call<Nothing, GroupQuery>) -> Result<Page<Group>, Refusal> {
    let GroupQuery { name, limit, after } = call.query;
    call.shared.access.settle_up().await;
    let after = after.map_or(0, |id| id.0);
    let rows = call.shared.access.db().groups(name.as_deref(), after, limit.and_one()).await?;
    Ok(Page::cut(rows, limit, |row| row.id).map(Group::from))
}

async fn show(call: Call<IdPath>) -> Result<Item<Group>, Refusal> {
    call.shared.access.settle_up().await;
    Ok(Item(call.shared.access.db().group(call.path.id.0).await?.into()))
}

/// What to change of a group; null clears.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditGroup {
    #[serde(default)]
    name: Given<Name>,
    #[serde(default)]
    description: Given<Text<0, 1000>>,
    #[serde(default)]
    unlimited: Given<bool>,
    #[serde(default)]
    external_id: Change<Line<1, 100>>,
    #[serde(default)]
    limits: Change<Limits>,
    #[serde(default)]
    metadata: Change<Metadata>,
}

impl EditGroup {
    fn apply(self, group: &store::Group) -> GroupFields {
        GroupFields {
            name: self.name.0.map_or_else(|| group.name.clone(), Line::into_inner),
            description: self.description.0.map_or_else(|| group.description.clone(), Text::into_inner),
            external_id: self.external_id.map(Line::into_inner).apply(group.external_id.clone()),
            unlimited: self.unlimited.or(group.unlimited),
            limits: stored::change(self.limits, group.limits.clone()),
            metadata: stored::change(self.metadata, group.metadata.clone()),
        }
    }
}

async fn update(call: Call<IdPath, Nothing, Body<EditGroup>>) -> Result<Item<Group>, Refusal> {
    let (db, id, Body(edit)) = (call.shared.access.db(), call.path.id.0, call.body);
    let mut tries = stored::TRIES;
    loop {
        let before = db.group(id).await?;
        // Without a condition of the caller's, what others change meanwhile is kept: it is read again.
        let version = call.if_match.unwrap_or(before.version);
        match db.update_group(id, &edit.clone().apply(&before), Some(version)).await {
            Err(StoreError::Changed { .. }) if call.if_match.is_none() && tries > 0 => tries -= 1,
            done => return Ok(Item(done?.into())),
        }
    }
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    let deleted = call.shared.access.db().delete_group(call.path.id.0, call.if_match).await;
    deleted.map(|()| Done).map_err(|error| match error {
        StoreError::InUse { .. } => {
            Refusal::conflict("group_has_keys", crate::admin::sentence(&error.to_string()))
        }
        other => other.into(),
    })
}

/// An amount with its reason.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Amount {
    amount: Money,
    description: Option<Text<0, 1000>>,
}

/// A change of a balance other than by spending.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Transaction {
    id: i64,
    group_id: i64,
    /// `initial`, `credit`, `refund` or `adjustment`.
    kind: String,
    /// Signed.
    amount: Money,
    balance_after: Money,
    description: String,
    /// Who did it: `admin`, or the id of a key.
    actor: String,
    at: Time,
}

impl Resource for Transaction {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("groups/{}/transactions", self.group_id)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

impl From<TransactionRow> for Transaction {
    fn from(row: TransactionRow) -> Self {
        Transaction {
            id: row.id,
            group_id: row.group_id,
            kind: row.kind,
            amount: row.amount,
            balance_after: row.balance_after,
            description: row.description,
            actor: row.actor,
            at: Time(row.at),
        }
    }
}

type Paying = Call<IdPath, Nothing, Body<Amount>>;

async fn credit(call: Paying) -> Result<Created<Transaction>, Refusal> {
    transact(call, TransactionKind::Credit).await
}

async fn refund(call: Paying) -> Result<Created<Transaction>, Refusal> {
    transact(call, TransactionKind::Refund).await
}

async fn adjust(call: Paying) -> Result<Created<Transaction>, Refusal> {
    transact(call, TransactionKind::Adjustment).await
}

async fn transact(call: Paying, kind: TransactionKind) -> Result<Created<Transaction>, Refusal> {
    let Body(Amount { amount, description }) = call.body;
    let fits = if kind == TransactionKind::Adjustment { amount != Money::ZERO } else { amount > Money::ZERO };
    if !fits {
        let expected = if kind == TransactionKind::Adjustment { "other than 0" } else { "over 0" };
        return Err(Refusal::invalid("amount", format!("`amount`: expected an amount {expected}.")));
    }
    let text = description.map(Text::into_inner).unwrap_or_default();
    let db = call.shared.access.db();
    let row = db.transact(call.path.id.0, kind, amount, &text, call.who.actor()).await?;
    Ok(Created(row.into()))
}

/// Which part of a list.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Paging {
    /// How many at once.
    #[serde(default)]
    pub(super) limit: Limit,
    /// The `next` of the page before.
    pub(super) after: Option<Id>,
}

async fn transactions(call: Call<IdPath, Paging>) -> Result<Page<Transaction>, Refusal> {
    let (db, group, Paging { limit, after }) = (call.shared.access.db(), call.path.id.0, call.query);
    let rows = db.transactions(group, after.map_or(0, |id| id.0), limit.and_one()).await?;
    if rows.is_empty() {
        // Of a group that is not there we say so.
        db.group(group).await?;
    }
    Ok(Page::cut(rows, limit, |row| row.id).map(Transaction::from))
}

async fn keys(call: Call<IdPath, Paging>) -> Result<Page<Key>, Refusal> {
    let (db, Paging { limit, after }) = (call.shared.access.db(), call.query);
    let group = db.group(call.path.id.0).await?;
    let filter = KeyFilter { group_id: Some(group.id), ..KeyFilter::default() };
    let rows = db.keys(&filter, after.map_or(0, |id| id.0), limit.and_one()).await?;
    let rotation = call.shared.access.rotation();
    Ok(Page::cut(rows, limit, |row| row.id).map(|row| Key::new(row, &rotation)))
}
