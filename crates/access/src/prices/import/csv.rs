//! Our CSV: one row a model, the columns by name in any order, those that are missing left empty.

use std::collections::HashMap;

use csv::{ReaderBuilder, StringRecord};
use serde::de::DeserializeOwned;

use super::{ImportError, Imported, MAX_ROWS};
use crate::prices::decimal::{self, Finer};
use crate::prices::{Price, TokenPrice, UnitPrice};

/// The columns that are read, in the order in which they are written.
pub(in crate::prices) const COLUMNS: [&str; 22] = [
    "provider",
    "model",
    "input_per_million_usd",
    "output_per_million_usd",
    "cached_read_per_million_usd",
    "cache_write_per_million_usd",
    "reasoning_per_million_usd",
    "per_request_usd",
    "per_image_usd",
    "per_second_usd",
    "per_character_usd",
    "per_query_usd",
    "tiers",
    "batch_multiplier",
    "image_quality_multipliers",
    "image_size_multipliers",
    "video_resolution_multipliers",
    "per_video_usd",
    "max_input_tokens",
    "max_output_tokens",
    "source",
    "as_of",
];
/// Columns of the collected facts that say nothing about the price.
const PASSED_OVER: [&str; 3] = ["mode", "supports", "deprecation_date"];

pub(super) fn import(text: &str) -> Result<Imported, ImportError> {
    let known = |column: &str| {
        let own = COLUMNS.iter().copied().find(|name| *name == column);
        own.or_else(|| PASSED_OVER.contains(&column).then_some(""))
    };
    let mut imported = Imported::default();
    read(text, &known, &["provider", "model"], |line, row| {
        let name = format!("{}/{}", row.cell("provider"), row.cell("model"));
        imported.row(line, &name, price(row));
    })?;
    Ok(imported)
}

/// The cells of a row, by the known name of their column.
pub(super) struct Cells<'r> {
    columns: &'r HashMap<&'static str, usize>,
    record: &'r StringRecord,
}

impl<'r> Cells<'r> {
    /// What the cell says, without spaces around it; nothing if there is none.
    pub(super) fn cell(&self, column: &str) -> &'r str {
        let at = self.columns.get(column);
        at.and_then(|at| self.record.get(*at)).unwrap_or_default().trim()
    }
}

/// Reads CSV row by row. `known` turns a header into the name of a column, or into `""` if the column is passed
/// over; `required` must be among them.
pub(super) fn read(
    text: &str,
    known: &dyn Fn(&str) -> Option<&'static str>,
    required: &[&str],
    mut row: impl FnMut(u64, &Cells<'_>),
) -> Result<(), ImportError> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    // The text is UTF-8 and rows may be of any length, so that reading it cannot fail; if it does, it is no CSV.
    let no_csv = |error: csv::Error| ImportError::Header(format!("this is not CSV: {error}"));
    let mut columns = HashMap::new();
    for (at, header) in reader.headers().map_err(no_csv)?.iter().enumerate() {
        let Some(column) = known(header.trim()) else {
            return Err(ImportError::Header(format!(
                "column {header:?} is unknown; leave it out or correct it"
            )));
        };
        if !column.is_empty() && columns.insert(column, at).is_some() {
            return Err(ImportError::Header(format!("column {header:?} is there twice")));
        }
    }
    if let Some(missing) = required.iter().find(|column| !columns.contains_key(**column)) {
        return Err(ImportError::Header(format!("column `{missing}` is missing")));
    }
    let mut record = StringRecord::new();
    let mut rows = 0;
    while reader.read_record(&mut record).map_err(no_csv)? {
        rows += 1;
        if rows > MAX_ROWS {
            return Err(ImportError::TooManyRows);
        }
        row(
            record.position().map_or(0, |at| line_of(text, at)),
            &Cells { columns: &columns, record: &record },
        );
    }
    Ok(())
}

/// The reader says where it began to look for the row, which is before the empty lines above it.
fn line_of(text: &str, at: &csv::Position) -> u64 {
    let from = usize::try_from(at.byte()).ok().and_then(|byte| text.as_bytes().get(byte..));
    let empty = from.unwrap_or_default().iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
    at.line() + empty.filter(|byte| **byte == b'\n').count() as u64
}

fn price(row: &Cells<'_>) -> Result<Price, String> {
    Ok(Price {
        input: tokens(row, "input_per_million_usd")?,
        cached_input: tokens(row, "cached_read_per_million_usd")?,
        cache_write: tokens(row, "cache_write_per_million_usd")?,
        output: tokens(row, "output_per_million_usd")?,
        reasoning: tokens(row, "reasoning_per_million_usd")?,
        tiers: json(row, "tiers")?,
        request: units(row, "per_request_usd")?,
        image: units(row, "per_image_usd")?,
        second: units(row, "per_second_usd")?,
        character: units(row, "per_character_usd")?,
        search: units(row, "per_query_usd")?,
        batch: match row.cell("batch_multiplier") {
            "" => None,
            text => Some(text.parse().map_err(|error| format!("`batch_multiplier`: {error}"))?),
        },
        image_quality: json(row, "image_quality_multipliers")?,
        image_size: json(row, "image_size_multipliers")?,
        video_resolution: json(row, "video_resolution_multipliers")?,
        video: json(row, "per_video_usd")?,
        max_input_tokens: count(row, "max_input_tokens")?,
        max_output_tokens: count(row, "max_output_tokens")?,
        source: some(row.cell("source")),
        as_of: some(row.cell("as_of")),
    })
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.into())
}

/// Rounded where it is finer than we count: the lists that come in this form were made from floats.
fn rate(row: &Cells<'_>, column: &str, scale: i32) -> Result<Option<i64>, String> {
    match row.cell(column) {
        "" => Ok(None),
        text => match decimal::parse(text, scale, Finer::Round) {
            Ok(rate) => Ok(Some(rate)),
            Err(error) => Err(format!("`{column}`: {error}")),
        },
    }
}

fn tokens(row: &Cells<'_>, column: &str) -> Result<Option<TokenPrice>, String> {
    Ok(rate(row, column, 9)?.map(TokenPrice::nanos_per_million))
}

fn units(row: &Cells<'_>, column: &str) -> Result<Option<UnitPrice>, String> {
    Ok(rate(row, column, 15)?.map(UnitPrice::nanos_per_million))
}

fn count(row: &Cells<'_>, column: &str) -> Result<Option<u64>, String> {
    match row.cell(column) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("`{column}` is a whole number of tokens")),
    }
}

fn json<T: DeserializeOwned + Default>(row: &Cells<'_>, column: &str) -> Result<T, String> {
    match row.cell(column) {
        "" => Ok(T::default()),
        text => serde_json::from_str(text).map_err(|error| format!("`{column}`: {error}")),
    }
}
