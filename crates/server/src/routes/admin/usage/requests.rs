//! The log of requests.

use base::Money;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{RequestFilter, RequestRow};

use crate::admin::{Call, Id, Limit, Line, Nothing, Page, Refusal, Route, Time};

pub(super) fn routes() -> Vec<Route> {
    let summary = "Lists requests, newest first.";
    vec![Route::new(Method::GET, "/api/usage/requests", "usage.requests", summary, list)]
}

/// A request as it is matched.
#[derive(Debug, Deserialize, JsonSchema)]
struct Query {
    /// Not before this time.
    from: Option<Time>,
    /// Before this time.
    to: Option<Time>,
    key_id: Option<Id>,
    group_id: Option<Id>,
    user: Option<Line<1, 256>>,
    /// As the caller or as its provider names it.
    model: Option<Line<1, 256>>,
    provider: Option<Line<1, 256>>,
    /// The HTTP status.
    #[schemars(range(min = 100, max = 999))]
    status: Option<u16>,
    /// `ok`, `refused`, `failed` or `cancelled`.
    outcome: Option<Line<1, 32>>,
    request_id: Option<Line<1, 128>>,
    /// How many at once.
    #[serde(default)]
    limit: Limit,
    /// The `next` of the page before.
    after: Option<Id>,
}

/// One request.
#[derive(Debug, Serialize, JsonSchema)]
struct LoggedRequest {
    id: i64,
    /// When it ended.
    at: Time,
    request_id: String,
    key_id: Option<i64>,
    group_id: Option<i64>,
    user: Option<String>,
    /// As `chat`.
    operation: String,
    /// The model asked for.
    model: String,
    /// Who answered, or was tried last.
    provider: String,
    /// Its name for the model.
    provider_model: String,
    status: u16,
    outcome: String,
    stream: bool,
    /// How often providers were asked.
    attempts: u32,
    duration_ms: f64,
    /// From arrival to the first content of a stream.
    first_token_ms: Option<f64>,
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    /// The tokens were counted here, because the provider did not say.
    estimated: bool,
    /// Whether a price was known.
    priced: bool,
    cost: Money,
    tags: Vec<String>,
}

impl From<RequestRow> for LoggedRequest {
    fn from(row: RequestRow) -> Self {
        let record = row.record;
        let millis = |micros: u64| micros as f64 / 1000.0;
        LoggedRequest {
            id: row.id,
            at: Time(record.at),
            request_id: record.request_id,
            key_id: record.key_id,
            group_id: record.group_id,
            user: record.user,
            operation: record.operation,
            model: record.model,
            provider: record.provider,
            provider_model: record.provider_model,
            status: record.status,
            outcome: record.outcome,
            stream: record.stream,
            attempts: record.attempts,
            duration_ms: millis(record.duration_us),
            first_token_ms: record.first_token_us.map(millis),
            input_tokens: record.input,
            cached_input_tokens: record.cached_input,
            output_tokens: record.output,
            reasoning_tokens: record.reasoning,
            estimated: record.estimated,
            priced: record.priced,
            cost: Money::nanos(record.cost),
            tags: record.tags,
        }
    }
}

async fn list(call: Call<Nothing, Query>) -> Result<Page<LoggedRequest>, Refusal> {
    let Query { limit, after, .. } = call.query;
    let filter = RequestFilter {
        from: call.query.from.map(|time| time.0),
        to: call.query.to.map(|time| time.0),
        key_id: call.query.key_id.map(|id| id.0),
        group_id: call.query.group_id.map(|id| id.0),
        user: call.query.user.map(Line::into_inner),
        model: call.query.model.map(Line::into_inner),
        provider: call.query.provider.map(Line::into_inner),
        status: call.query.status.map(i64::from),
        outcome: call.query.outcome.map(Line::into_inner),
        request_id: call.query.request_id.map(Line::into_inner),
    };
    call.shared.access.settle_up().await;
    let db = call.shared.access.db();
    let rows = db.requests(&filter, after.map_or(0, |id| id.0), limit.get() as i64).await?;
    Ok(Page::full(rows, limit, |row| row.id).map(LoggedRequest::from))
}
