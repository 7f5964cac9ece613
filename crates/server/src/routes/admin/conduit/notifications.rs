//! `/api/Notifications`.

use http::Method;
use schemars::JsonSchema;
use serde::Serialize;
use store::{Db, NotificationRow};

use crate::admin::{Call, Done, IdPath, Json, Refusal, Route, Time};

/// As many as are listed; older ones are in `/api/notices`.
const LISTED: i64 = 1000;

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/Notifications", "/api/Notifications/{id}");
    vec![
        Route::conduit(Method::GET, all, "notices.list.conduit", "Lists notifications, newest first.", list)
            .needs("events", false),
        Route::conduit(
            Method::GET,
            "/api/Notifications/unread",
            "notices.unread.conduit",
            "Lists those nobody has read.",
            unread,
        )
        .needs("events", false),
        Route::conduit(Method::GET, one, "notices.show.conduit", "Shows a notification.", show)
            .needs("events", false),
        Route::conduit(
            Method::POST,
            "/api/Notifications/{id}/read",
            "notices.read.conduit",
            "Notes that it was read.",
            read,
        )
        .needs("events", true),
        Route::conduit(
            Method::POST,
            "/api/Notifications/mark-all-read",
            "notices.read_all.conduit",
            "Notes that all were read.",
            read_all,
        )
        .needs("events", true),
        Route::conduit(Method::DELETE, one, "notices.delete.conduit", "Removes it.", delete)
            .needs("events", true),
    ]
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
enum NotificationType {
    /// A group's credit.
    BudgetWarning,
    /// A key's time.
    ExpirationWarning,
    /// Anything else.
    System,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
enum Severity {
    Info,
    Warning,
    Error,
}

/// A notification.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitNotification {
    id: i64,
    virtual_key_id: Option<i64>,
    virtual_key_group_id: Option<i64>,
    r#type: NotificationType,
    severity: Severity,
    message: String,
    is_read: bool,
    created_at: Time,
}

impl From<NotificationRow> for ConduitNotification {
    fn from(row: NotificationRow) -> Self {
        let notice = row.notice;
        ConduitNotification {
            id: row.id,
            virtual_key_id: notice.key_id,
            virtual_key_group_id: notice.group_id,
            r#type: match notice.kind.as_str() {
                "budget" => NotificationType::BudgetWarning,
                "rotation" => NotificationType::ExpirationWarning,
                _ => NotificationType::System,
            },
            severity: match notice.severity.as_str() {
                "error" => Severity::Error,
                "warning" => Severity::Warning,
                _ => Severity::Info,
            },
            message: notice.message,
            is_read: row.read_at.is_some(),
            created_at: Time(row.at),
        }
    }
}

async fn rows(db: &Db, unread: bool) -> Result<Json<Vec<ConduitNotification>>, Refusal> {
    let rows = db.notifications(unread, 0, LISTED).await?;
    Ok(Json(rows.into_iter().map(ConduitNotification::from).collect()))
}

async fn list(call: Call) -> Result<Json<Vec<ConduitNotification>>, Refusal> {
    rows(call.shared.access.db(), false).await
}

async fn unread(call: Call) -> Result<Json<Vec<ConduitNotification>>, Refusal> {
    rows(call.shared.access.db(), true).await
}

async fn show(call: Call<IdPath>) -> Result<Json<ConduitNotification>, Refusal> {
    Ok(Json(call.shared.access.db().notification(call.path.id.0).await?.into()))
}

async fn read(call: Call<IdPath>) -> Result<Done, Refusal> {
    call.shared.access.db().read_notification(call.path.id.0).await?;
    Ok(Done)
}

async fn read_all(call: Call) -> Result<Done, Refusal> {
    call.shared.access.db().read_all_notifications().await?;
    Ok(Done)
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    call.shared.access.db().delete_notification(call.path.id.0).await?;
    Ok(Done)
}
