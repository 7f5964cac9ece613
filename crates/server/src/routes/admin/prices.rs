//! What models cost: own prices, those of the settings file and those that are built in.

use access::prices::{Form, Price, Prices, import, to_csv, to_json};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::ResourceDraft;

use super::entries::{self, Entry, Origin, Words};
use crate::admin::{Call, Download, Json, Nothing, Refusal, Route, Upload, sentence};
use crate::configuration::Section;
use crate::state::Shared;

/// As many rows of a list that were not taken are named.
const MAX_SKIPPED: usize = 1000;

pub(super) fn routes() -> Vec<Route> {
    let mut all = entries::routes::<Price>(&Words {
        all: "/api/prices",
        one: "/api/prices/{*name}",
        list: (
            "prices.list",
            "Lists prices: own ones, those of the settings file, and those that are built in.",
        ),
        create: ("prices.create", "Adds a price of `provider/model`; `*` stands for any text."),
        show: ("prices.show", "Shows the price of a name, as it is written."),
        update: ("prices.update", "Edits a price."),
        replace: ("prices.replace", "Makes a price say just this."),
        delete: ("prices.delete", "Removes a price; what is built in applies again."),
    });
    let summary = "Takes over a list of prices: ours, LiteLLM's or Conduit's.";
    all.push(Route::new(Method::POST, "/api/prices/import", "prices.import", summary, take_over));
    let summary = "Writes out the prices of file and API, to be imported again.";
    all.push(Route::new(Method::GET, "/api/prices/export", "prices.export", summary, export));
    all
}

/// How a list is written.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum ListForm {
    /// Our CSV.
    Csv,
    /// Our JSON, as in the settings.
    Json,
    /// LiteLLM's price map.
    Litellm,
    /// Conduit's CSV.
    ConduitCsv,
    /// Conduit's JSON.
    ConduitJson,
}

/// How the list is written.
#[derive(Debug, Deserialize, JsonSchema)]
struct ImportQuery {
    /// Found out when left out.
    format: Option<ListForm>,
}

/// What came of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PricesImported {
    /// Prices that are there now as the list has them.
    pub(super) imported: u64,
    /// Rows that were not taken, at most a thousand of them.
    pub(super) skipped: Vec<PriceSkipped>,
}

/// A row that was not taken.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PriceSkipped {
    /// From 1; 0 when it is about no line.
    pub(super) line: u64,
    pub(super) name: String,
    pub(super) reason: String,
}

async fn take_over(call: Call<Nothing, ImportQuery, Upload>) -> Result<Json<PricesImported>, Refusal> {
    let Upload(text) = call.body;
    let form = match call.query.format {
        None => Form::detect(&text),
        Some(ListForm::Csv) => Form::Csv,
        Some(ListForm::Json) => Form::Json,
        Some(ListForm::Litellm) => Form::LiteLlm,
        Some(ListForm::ConduitCsv) => Form::ConduitCsv,
        Some(ListForm::ConduitJson) => Form::ConduitJson,
    };
    import_list(&call.shared, form, text).await.map(Json)
}

/// Reads a list and puts its prices in force.
pub(super) async fn import_list(
    shared: &Shared,
    form: Form,
    text: bytes::Bytes,
) -> Result<PricesImported, Refusal> {
    // A large list takes a moment, which others on this runtime should not wait for.
    let read = tokio::task::spawn_blocking(move || import(form, &text)).await;
    let read = read.map_err(|error| {
        tracing::error!(%error, "a list of prices could not be read");
        Refusal::new(base::Kind::Internal, "internal_error", "Something went wrong here; it is in the log.")
    })?;
    let list = read.map_err(|error| Refusal::invalid("body", sentence(&error.to_string())))?;
    let row = |skipped: access::prices::Skipped| PriceSkipped {
        line: skipped.line,
        name: skipped.name,
        reason: sentence(&skipped.reason),
    };
    let mut skipped: Vec<PriceSkipped> = list.skipped.into_iter().map(row).take(MAX_SKIPPED).collect();
    let _one = shared.configuration.changing().await;
    let file = Price::in_file(&shared.configuration.file());
    let mut drafts = Vec::with_capacity(list.prices.len());
    for (name, price) in list.prices {
        if file.contains_key(&name) {
            let reason = "It is set in the settings file: change it there.".to_owned();
            skipped.push(PriceSkipped { line: 0, name, reason });
            continue;
        }
        let body = price.write(&name, None)?.to_string();
        drafts.push(ResourceDraft { kind: Price::KIND.into(), name, body });
    }
    skipped.truncate(MAX_SKIPPED);
    shared.access.db().put_resources(&drafts, None).await?;
    shared.configuration.refresh().await;
    Ok(PricesImported { imported: drafts.len() as u64, skipped })
}

/// How to write prices out.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ExportForm {
    /// As `format=csv` of an import reads it.
    #[default]
    Csv,
    /// As the settings have it.
    Json,
}

/// How to write prices out.
#[derive(Debug, Deserialize, JsonSchema)]
struct ExportQuery {
    #[serde(default)]
    format: ExportForm,
}

async fn export(call: Call<Nothing, ExportQuery>) -> Result<Download, Refusal> {
    let own = own(&call.shared).await?;
    let written = match call.query.format {
        ExportForm::Csv => to_csv(&own).map(|text| ("text/csv; charset=utf-8", "prices.csv", text)),
        ExportForm::Json => to_json(&own).map(|text| ("application/json", "prices.json", text)),
    };
    let (media, name, text) =
        written.map_err(|error| Refusal::internal(&call.who.request_id, &error as &dyn std::fmt::Display))?;
    Ok(Download { media, name, bytes: text.into() })
}

/// The prices of file and API.
pub(super) async fn own(shared: &Shared) -> Result<Prices, Refusal> {
    let all = entries::entries::<Price>(shared).await?;
    let own = all.into_iter().filter(|entry| entry.origin != Origin::BuiltIn);
    // The file's come first, and count.
    let mut prices = Prices::new();
    for Entry { name, value, .. } in own {
        prices.entry(name).or_insert(value);
    }
    Ok(prices)
}
