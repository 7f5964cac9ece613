//! `/api/ModelCosts`. A cost is read as a row of Conduit's own export is, so that both mean the same.

use access::prices::{Form, Price, Prices, import, to_conduit_csv};
use gateway::settings::ProviderSettings;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::{Dimension, UsageQuery};

use super::dollars::Dollars;

use crate::admin::{
    Body, Call, Created, Done, Download, IdPath, Json, NamePath, Nothing, Refusal, Resource, Route, Time,
    Upload, sentence,
};
use crate::routes::admin::entries::{self, Entry, Origin};
use crate::routes::admin::prices::{import_list, own};

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/ModelCosts", "/api/ModelCosts/{id}");
    vec![
        Route::conduit(Method::GET, all, "prices.list.conduit", "Lists the costs made by API.", list),
        Route::conduit(Method::POST, all, "prices.create.conduit", "Adds a cost.", create),
        Route::conduit(Method::GET, one, "prices.show.conduit", "Shows a cost.", show),
        Route::conduit(Method::PUT, one, "prices.update.conduit", "Makes a cost say just this.", update),
        Route::conduit(Method::DELETE, one, "prices.delete.conduit", "Removes a cost.", delete),
        Route::conduit(
            Method::POST,
            "/api/ModelCosts/import/csv",
            "prices.import_csv.conduit",
            "Takes over Conduit's CSV.",
            import_csv,
        ),
        Route::conduit(
            Method::POST,
            "/api/ModelCosts/import/json",
            "prices.import_json.conduit",
            "Takes over Conduit's JSON.",
            import_json,
        ),
        Route::conduit(
            Method::GET,
            "/api/ModelCosts/export/json",
            "prices.export_json.conduit",
            "Writes out costs as Conduit's JSON.",
            export_json,
        ),
        Route::conduit(
            Method::GET,
            "/api/ModelCosts/export/csv",
            "prices.export_csv.conduit",
            "Writes out costs as Conduit's CSV.",
            export_csv,
        ),
        Route::conduit(
            Method::GET,
            "/api/ModelCosts/name/{*name}",
            "prices.named.conduit",
            "Shows the cost of a name.",
            named,
        ),
        Route::conduit(
            Method::GET,
            "/api/ModelCosts/provider/{id}",
            "prices.of_provider.conduit",
            "Lists the costs of a provider's models.",
            of_provider,
        ),
        Route::conduit(
            Method::GET,
            "/api/ModelCosts/overview",
            "usage.overview.conduit",
            "Shows what each model has cost.",
            overview,
        ),
    ]
}

/// A cost: dollars per million tokens, or per unit.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitCost {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    cost_name: String,
    model_id_pattern: String,
    pricing_model: &'static str,
    input_cost_per_million_tokens: Option<f64>,
    output_cost_per_million_tokens: Option<f64>,
    cached_input_cost_per_million_tokens: Option<f64>,
    cached_input_write_cost_per_million_tokens: Option<f64>,
    image_cost_per_image: Option<f64>,
    video_cost_per_second: Option<f64>,
    batch_processing_multiplier: Option<f64>,
    supports_batch_processing: bool,
    is_active: bool,
}

impl Resource for ConduitCost {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("ModelCosts/{}", self.id.unwrap_or_default())
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

fn shown(id: Option<i64>, name: String, price: &Price) -> ConduitCost {
    /// The nearest number: Conduit writes decimals as JSON numbers.
    fn number(rate: Option<impl ToString>) -> Option<f64> {
        rate?.to_string().parse().ok()
    }
    ConduitCost {
        id,
        cost_name: name.clone(),
        model_id_pattern: name,
        pricing_model: "Standard",
        input_cost_per_million_tokens: number(price.input),
        output_cost_per_million_tokens: number(price.output),
        cached_input_cost_per_million_tokens: number(price.cached_input),
        cached_input_write_cost_per_million_tokens: number(price.cache_write),
        image_cost_per_image: number(price.image),
        video_cost_per_second: number(price.second),
        batch_processing_multiplier: number(price.batch),
        supports_batch_processing: price.batch.is_some(),
        is_active: true,
    }
}

impl From<Entry<Price>> for ConduitCost {
    fn from(entry: Entry<Price>) -> Self {
        shown(entry.document.map(|document| document.id), entry.name, &entry.value)
    }
}

/// A cost in the body of a request: the fields of Conduit's export.
fn read(body: &Map<String, Value>) -> Result<(String, Price), Refusal> {
    let row = json!([body]).to_string();
    let list = import(Form::ConduitJson, row.as_bytes())
        .map_err(|error| Refusal::invalid("body", sentence(&error.to_string())))?;
    let mut prices = Prices::into_iter(list.prices);
    match (prices.next(), prices.next(), list.skipped.into_iter().next()) {
        (Some(one), None, _) => Ok(one),
        (Some(_), Some(_), _) => {
            Err(Refusal::invalid("associatedModelAliases", "Name one model in each cost."))
        }
        (None, _, Some(skipped)) => Err(super::bad(sentence(&skipped.reason))),
        (None, _, None) => Err(Refusal::invalid("modelIdPattern", "`modelIdPattern`: name a model.")),
    }
}

async fn list(call: Call) -> Result<Json<Vec<ConduitCost>>, Refusal> {
    let all = entries::entries::<Price>(&call.shared).await?;
    let made = all.into_iter().filter(|entry| entry.origin == Origin::Api);
    Ok(Json(made.map(ConduitCost::from).collect()))
}

async fn create(
    call: Call<Nothing, Nothing, Body<Map<String, Value>>>,
) -> Result<Created<ConduitCost>, Refusal> {
    let Body(body) = call.body;
    let (name, price) = read(&body)?;
    let made = entries::make(&call.shared, &call.who, &name, price).await?;
    Ok(Created(made.into()))
}

async fn show(call: Call<IdPath>) -> Result<Json<ConduitCost>, Refusal> {
    let entry = entries::named_by_id::<Price>(&call.shared, call.path.id.0).await?;
    Ok(Json(entry.into()))
}

async fn update(call: Call<IdPath, Nothing, Body<Map<String, Value>>>) -> Result<Done, Refusal> {
    let Body(mut body) = call.body;
    let entry = entries::named_by_id::<Price>(&call.shared, call.path.id.0).await?;
    let named = ["modelidpattern", "modelpattern", "associatedmodelaliases"];
    if !body.keys().any(|key| named.contains(&key.to_ascii_lowercase().as_str())) {
        body.insert("modelIdPattern".into(), entry.name.clone().into());
    }
    let (name, price) = read(&body)?;
    if name != entry.name {
        let text = "`modelIdPattern`: a cost keeps its model; add another one and remove this.";
        return Err(Refusal::invalid("modelIdPattern", text));
    }
    entries::put(&call.shared, &call.who, &name, price, entry.document.map(|document| document.version))
        .await?;
    Ok(Done)
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    let entry = entries::named_by_id::<Price>(&call.shared, call.path.id.0).await?;
    entries::remove::<Price>(&call.shared, &entry.name, None).await?;
    Ok(Done)
}

/// What came of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitImported {
    success_count: u64,
    failure_count: u64,
    errors: Vec<String>,
}

async fn take_over(
    call: Call<Nothing, Nothing, Upload>,
    form: Form,
) -> Result<Json<ConduitImported>, Refusal> {
    let done = import_list(&call.shared, form, call.body.0).await?;
    let error = |skipped: &crate::routes::admin::prices::PriceSkipped| {
        format!("line {}: {}: {}", skipped.line, skipped.name, skipped.reason)
    };
    Ok(Json(ConduitImported {
        success_count: done.imported,
        failure_count: done.skipped.len() as u64,
        errors: done.skipped.iter().map(error).collect(),
    }))
}

async fn import_csv(call: Call<Nothing, Nothing, Upload>) -> Result<Json<ConduitImported>, Refusal> {
    take_over(call, Form::ConduitCsv).await
}

async fn import_json(call: Call<Nothing, Nothing, Upload>) -> Result<Json<ConduitImported>, Refusal> {
    take_over(call, Form::ConduitJson).await
}

async fn named(call: Call<NamePath>) -> Result<Json<ConduitCost>, Refusal> {
    Ok(Json(entries::find::<Price>(&call.shared, &call.path.name).await?.into()))
}

async fn of_provider(call: Call<IdPath>) -> Result<Json<Vec<ConduitCost>>, Refusal> {
    let provider = entries::named_by_id::<ProviderSettings>(&call.shared, call.path.id.0).await?.name;
    let all = entries::entries::<Price>(&call.shared).await?;
    let of = |entry: &Entry<Price>| {
        entry.origin == Origin::Api && entry.name.split_once('/').is_some_and(|(named, _)| named == provider)
    };
    Ok(Json(all.into_iter().filter(of).map(ConduitCost::from).collect()))
}

/// Which days.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct OverviewQuery {
    /// From this day on; 30 days back when left out.
    start_date: Option<Time>,
    /// Until this day.
    end_date: Option<Time>,
}

/// What a model has cost.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitModelUse {
    model: String,
    provider: String,
    total_cost: Dollars,
    request_count: i64,
    input_tokens: i64,
    output_tokens: i64,
}

async fn overview(call: Call<Nothing, OverviewQuery>) -> Result<Json<Vec<ConduitModelUse>>, Refusal> {
    const DAY_MS: i64 = 86_400_000;
    call.shared.access.settle_up().await;
    let to = call.query.end_date.map_or_else(store::now_ms, |time| time.0).div_euclid(DAY_MS);
    let from = call.query.start_date.map_or(to - 30, |time| time.0.div_euclid(DAY_MS));
    let query = UsageQuery {
        from_day: from,
        to_day: to,
        group_by: vec![Dimension::Model, Dimension::Provider],
        ..UsageQuery::default()
    };
    let summary = call.shared.access.db().summarize_usage(&query).await?;
    let row = |row: store::UsageRow| ConduitModelUse {
        model: row.model.unwrap_or_default(),
        provider: row.provider.unwrap_or_default(),
        total_cost: Dollars(row.sums.cost),
        request_count: row.sums.requests,
        input_tokens: row.sums.input,
        output_tokens: row.sums.output,
    };
    Ok(Json(summary.rows.into_iter().map(row).collect()))
}

async fn export_csv(call: Call) -> Result<Download, Refusal> {
    let text = to_conduit_csv(&own(&call.shared).await?)
        .map_err(|error| Refusal::internal(&call.who.request_id, &error as &dyn std::fmt::Display))?;
    Ok(Download { media: "text/csv; charset=utf-8", name: "model-costs.csv", bytes: text.into() })
}

async fn export_json(call: Call) -> Result<Download, Refusal> {
    let own = own(&call.shared).await?;
    let costs: Vec<ConduitCost> = own.into_iter().map(|(name, price)| shown(None, name, &price)).collect();
    let bytes =
        serde_json::to_vec(&costs).map_err(|error| Refusal::internal(&call.who.request_id, &error))?;
    Ok(Download { media: "application/json", name: "model-costs.json", bytes: bytes.into() })
}
