//! What people should know: credit that comes to its end, keys that have to be rotated.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::NotificationRow;

use crate::admin::{
    Call, Done, Id, IdPath, Item, Json, Limit, Nothing, Page, Refusal, Resource, Route, Time,
};

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/notices", "/api/notices/{id}");
    vec![
        Route::new(Method::GET, all, "notices.list", "Lists what people should know, newest first.", list)
            .needs("events", false),
        Route::new(Method::GET, one, "notices.show", "Shows a notice.", show).needs("events", false),
        Route::new(Method::DELETE, one, "notices.delete", "Removes a notice.", delete).needs("events", true),
        Route::new(
            Method::POST,
            "/api/notices/{id}/read",
            "notices.read",
            "Notes that a notice was read.",
            read,
        )
        .needs("events", true),
        Route::new(
            Method::POST,
            "/api/notices/read-all",
            "notices.read_all",
            "Notes that all notices were read.",
            read_all,
        )
        .needs("events", true),
    ]
}

/// Something that people should know.
#[derive(Debug, Serialize, JsonSchema)]
struct Notice {
    id: i64,
    /// `budget`: a group has spent a part of its credit. `rotation`: a key is to be rotated.
    kind: String,
    /// `info`, `warning` or `error`.
    severity: String,
    message: String,
    /// The group it concerns.
    group_id: Option<i64>,
    /// The key it concerns.
    key_id: Option<i64>,
    at: Time,
    /// When it was first read.
    read_at: Option<Time>,
}

impl From<NotificationRow> for Notice {
    fn from(row: NotificationRow) -> Self {
        let notice = row.notice;
        Notice {
            id: row.id,
            kind: notice.kind,
            severity: notice.severity,
            message: notice.message,
            group_id: notice.group_id,
            key_id: notice.key_id,
            at: Time(row.at),
            read_at: row.read_at.map(Time),
        }
    }
}

impl Resource for Notice {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("notices/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

/// Which notices.
#[derive(Debug, Deserialize, JsonSchema)]
struct NoticeQuery {
    /// Only those that nobody has read.
    #[serde(default)]
    unread: bool,
    /// How many at once.
    #[serde(default)]
    limit: Limit,
    /// The `next` of the page before.
    after: Option<Id>,
}

async fn list(call: Call<Nothing, NoticeQuery>) -> Result<Page<Notice>, Refusal> {
    let NoticeQuery { unread, limit, after } = call.query;
    let db = call.shared.access.db();
    let rows = db.notifications(unread, after.map_or(0, |id| id.0), limit.and_one()).await?;
    Ok(Page::cut(rows, limit, |row| row.id).map(Notice::from))
}

async fn show(call: Call<IdPath>) -> Result<Item<Notice>, Refusal> {
    Ok(Item(call.shared.access.db().notification(call.path.id.0).await?.into()))
}

async fn read(call: Call<IdPath>) -> Result<Item<Notice>, Refusal> {
    Ok(Item(call.shared.access.db().read_notification(call.path.id.0).await?.into()))
}

/// What was done.
#[derive(Debug, Serialize, JsonSchema)]
struct AllRead {
    /// How many nobody had read.
    read: u64,
}

async fn read_all(call: Call) -> Result<Json<AllRead>, Refusal> {
    Ok(Json(AllRead { read: call.shared.access.db().read_all_notifications().await? }))
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    call.shared.access.db().delete_notification(call.path.id.0).await?;
    Ok(Done)
}
