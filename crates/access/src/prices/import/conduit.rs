//! Conduit's model costs: CSV with any of the headers that its documents, its server and its web UI use, and the
//! JSON that its server exports. Both become the same fields, and the eight pricing models become one price.

mod model;

use std::collections::HashMap;

use serde_json::value::RawValue;

use self::model::{Fields, price};
use super::json::{self, Row};
use super::{ImportError, Imported, csv};

/// The most models that one cost is for.
const MAX_ALIASES: usize = 1_000;

/// What the fields are called in the JSON, in lower case, and here.
const JSON_NAMES: [(&str, &str); 29] = [
    ("costname", "cost_name"),
    ("modelpattern", "pattern"),
    ("modelidpattern", "pattern"),
    ("associatedmodelaliases", "aliases"),
    ("provider", "provider"),
    ("providername", "provider"),
    ("pricingmodel", "pricing_model"),
    ("pricingconfiguration", "configuration"),
    ("inputcostpermilliontokens", "input_1m"),
    ("outputcostpermilliontokens", "output_1m"),
    ("cachedinputcostpermilliontokens", "cached_input_1m"),
    ("cachedinputwritecostpermilliontokens", "cache_write_1m"),
    ("embeddingcostpermilliontokens", "embedding_1m"),
    ("imagecostperimage", "image"),
    ("audiocostperminute", "minute"),
    ("audioinputcostperminute", "minute_in"),
    ("audiooutputcostperminute", "minute_out"),
    ("audiocostperkcharacters", "characters_1k"),
    ("videocostpersecond", "second"),
    ("videoresolutionmultipliers", "video_resolutions"),
    ("imagequalitymultipliers", "image_qualities"),
    ("imageresolutionmultipliers", "image_sizes"),
    ("batchprocessingmultiplier", "batch"),
    ("supportsbatchprocessing", "supports_batch"),
    ("costpersearchunit", "search_1k"),
    ("costperinferencestep", "step"),
    ("defaultinferencesteps", "steps"),
    ("isactive", "active"),
    ("active", "active"),
];

/// What the columns are called in CSV, in lower case, what their unit begins with, and here. `""` is passed over.
const CSV_NAMES: [(&str, &str, &str); 43] = [
    ("cost name", "", "cost_name"),
    ("model pattern", "", "pattern"),
    ("associated model aliases", "", "aliases"),
    ("provider", "", "provider"),
    ("pricing model", "", "pricing_model"),
    ("pricing configuration", "", "configuration"),
    ("input cost", "per 1k", "input_1k"),
    ("input cost", "per million", "input_1m"),
    ("output cost", "per 1k", "output_1k"),
    ("output cost", "per million", "output_1m"),
    ("cached input cost", "per 1k", "cached_input_1k"),
    ("cached input cost", "per million", "cached_input_1m"),
    ("cache write cost", "per 1k", "cache_write_1k"),
    ("cache write cost", "per million", "cache_write_1m"),
    ("embedding cost", "per 1k", "embedding_1k"),
    ("embedding cost", "per million", "embedding_1m"),
    ("image cost", "", "image"),
    ("audio cost", "per minute", "minute"),
    ("audio per minute", "", "minute"),
    ("audio cost per minute", "", "minute"),
    ("audio cost", "per 1k", "characters_1k"),
    ("audio input cost", "per minute", "minute_in"),
    ("audio output cost", "per minute", "minute_out"),
    ("video cost", "per second", "second"),
    ("video per second", "", "second"),
    ("video cost per second", "", "second"),
    ("video resolution multipliers", "", "video_resolutions"),
    ("image quality multipliers", "", "image_qualities"),
    ("image resolution multipliers", "", "image_sizes"),
    ("batch processing multiplier", "", "batch"),
    ("batch multiplier", "", "batch"),
    ("supports batch processing", "", "supports_batch"),
    ("supports batch", "", "supports_batch"),
    ("search unit cost", "per 1k", "search_1k"),
    ("inference step cost", "", "step"),
    ("cost per inference step", "", "step"),
    ("default inference steps", "", "steps"),
    ("active", "", "active"),
    ("model type", "", ""),
    ("priority", "", ""),
    ("description", "", ""),
    ("created at", "", ""),
    ("updated at", "", ""),
];

pub(super) fn import_json(text: &str) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    for row in json::array(text, "Conduit's export, an array of costs")? {
        take(&mut imported, row.line, &json_fields(&row));
    }
    Ok(imported)
}

fn json_fields(row: &Row<'_>) -> Fields {
    let lower = |(key, value): (String, _)| (key.to_ascii_lowercase(), value);
    let pairs: HashMap<String, &RawValue> = json::fields(row.value).into_iter().map(lower).collect();
    let mut fields = Fields::default();
    for (theirs, ours) in JSON_NAMES {
        if let Some(value) = pairs.get(theirs) {
            let names = || serde_json::from_str(value.get()).ok().map(|names: Vec<String>| names.join(","));
            let whole = || value.get().starts_with('{').then(|| value.get().into());
            if let Some(text) = json::scalar(value).or_else(names).or_else(whole) {
                fields.set(ours, text);
            }
        }
    }
    fields
}

pub(super) fn import_csv(text: &str) -> Result<Imported, ImportError> {
    let known = |header: &str| {
        let header = header.to_ascii_lowercase();
        let (name, unit) = header.split_once('(').unwrap_or((&header, ""));
        let named = |(theirs, of, _): &&(&str, &str, &str)| *theirs == name.trim() && unit.starts_with(*of);
        CSV_NAMES.iter().find(named).map(|(_, _, ours)| *ours)
    };
    let mut imported = Imported::default();
    csv::read(text, &known, &[], |line, row| {
        let mut fields = Fields::default();
        for (_, _, ours) in CSV_NAMES {
            fields.set(ours, row.cell(ours).into());
        }
        take(&mut imported, line, &fields);
    })?;
    Ok(imported)
}

/// One cost, which may be for several models.
fn take(imported: &mut Imported, line: u64, fields: &Fields) {
    let called = [fields.get("pattern"), fields.get("aliases"), fields.get("cost_name")];
    let called = called.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    if matches!(fields.get("active").to_ascii_lowercase().as_str(), "no" | "false" | "0") {
        return imported.skip(line, called, "it is not active".into());
    }
    let (price, remark) = match price(fields) {
        Ok(price) => price,
        Err(reason) => return imported.skip(line, called, reason),
    };
    if let Some(remark) = remark {
        imported.skip(line, called, remark);
    }
    if fields.get("pattern").is_empty() && fields.get("aliases").is_empty() && called.contains(' ') {
        let reason = "it names a cost but no model; add a column `Model Pattern`, or name it provider/model";
        return imported.skip(line, called, reason.into());
    }
    // A pattern is one name; only aliases are a list.
    let aliases = fields.get("pattern").is_empty();
    let models = called.split(move |c| aliases && c == ',').map(str::trim);
    for model in models.filter(|model| !model.is_empty()).take(MAX_ALIASES) {
        imported.row(line, &name(fields.get("provider"), model), Ok(price.clone()));
    }
    if called.is_empty() {
        imported.skip(line, "", "it names no model".into());
    }
}

/// `provider/model`, with our name of the provider; `*` where the list says nothing.
fn name(provider: &str, model: &str) -> String {
    let squeezed: String = provider.to_ascii_lowercase().split_whitespace().collect();
    let ours = match squeezed.as_str() {
        "" if model.contains('/') => return model.into(),
        "" => "*",
        "azureopenai" => "azure",
        "google" | "googlegemini" => "gemini",
        "aws" | "awsbedrock" | "amazonbedrock" => "bedrock",
        "openaicompatible" => "*",
        "togetherai" => "together",
        "fireworksai" => "fireworks",
        other => other,
    };
    format!("{ours}/{model}")
}
