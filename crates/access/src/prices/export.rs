//! Prices as CSV and JSON, in the forms that [`super::import()`] reads back without a difference.

use csv::Writer;
use serde::Serialize;

use super::import::COLUMNS;
use super::{Price, Prices, names};

/// Why prices could not be written, which no prices that were checked cause.
#[derive(Debug, thiserror::Error)]
#[error("prices could not be written: {0}")]
pub struct ExportError(String);

/// As JSON: prices by name, as in the settings.
pub fn to_json(prices: &Prices) -> Result<String, ExportError> {
    serde_json::to_string_pretty(prices).map_err(|error| ExportError(error.to_string()))
}

/// As CSV, one row a model.
pub fn to_csv(prices: &Prices) -> Result<String, ExportError> {
    let mut writer = Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| ExportError(error.to_string());
    writer.write_record(COLUMNS).map_err(failed)?;
    for (name, price) in prices {
        let (provider, model) =
            names::split(name).ok_or_else(|| ExportError(format!("{name:?} is no name of a price")))?;
        writer.write_record(row(provider, model, price)?).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| ExportError(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| ExportError(error.to_string()))
}

/// As CSV for Conduit, one row a model, dollars per million tokens. What Conduit has no column for is left out.
pub fn to_conduit_csv(prices: &Prices) -> Result<String, ExportError> {
    const HEAD: [&str; 11] = [
        "Model Pattern",
        "Input Cost (per million tokens)",
        "Output Cost (per million tokens)",
        "Cached Input Cost (per million tokens)",
        "Cache Write Cost (per million tokens)",
        "Image Cost",
        "Video Cost (per second)",
        "Batch Multiplier",
        "Supports Batch",
        "Active",
        "Description",
    ];
    let mut writer = Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| ExportError(error.to_string());
    writer.write_record(HEAD).map_err(failed)?;
    for (name, price) in prices {
        let row = [
            name.clone(),
            text(price.input),
            text(price.output),
            text(price.cached_input),
            text(price.cache_write),
            text(price.image),
            text(price.second),
            text(price.batch),
            if price.batch.is_some() { "Yes" } else { "No" }.to_owned(),
            "Yes".to_owned(),
            text(price.source.as_deref()),
        ];
        writer.write_record(row).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| ExportError(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| ExportError(error.to_string()))
}

/// The cells, in the order of [`COLUMNS`].
fn row(provider: &str, model: &str, price: &Price) -> Result<[String; COLUMNS.len()], ExportError> {
    Ok([
        provider.into(),
        model.into(),
        text(price.input),
        text(price.output),
        text(price.cached_input),
        text(price.cache_write),
        text(price.reasoning),
        text(price.request),
        text(price.image),
        text(price.second),
        text(price.character),
        text(price.search),
        json(&price.tiers, price.tiers.is_empty())?,
        text(price.batch),
        json(&price.image_quality, price.image_quality.is_empty())?,
        json(&price.image_size, price.image_size.is_empty())?,
        json(&price.video_resolution, price.video_resolution.is_empty())?,
        json(&price.video, price.video.is_empty())?,
        text(price.max_input_tokens),
        text(price.max_output_tokens),
        text(price.source.as_deref()),
        text(price.as_of.as_deref()),
    ])
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn json(value: &impl Serialize, empty: bool) -> Result<String, ExportError> {
    if empty {
        return Ok(String::new());
    }
    serde_json::to_string(value).map_err(|error| ExportError(error.to_string()))
}
