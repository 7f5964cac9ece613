//! The built-in table: prices of the current models of well-known providers, each with its source and date.
//!
//! `data/prices.csv` (made by `data/make_prices.py`) is compiled in as text sorted by provider and model, and is
//! searched where it lies: by halves, reading only the row that is asked for. So it costs nothing at start and
//! no memory but the pages that were touched. The rows name their source by number; the sources, which are few,
//! stand at the head of the file with their dates.

use std::cmp::Ordering;
use std::sync::LazyLock;

use super::decimal::{self, Finer};
use super::{Price, Tier, TokenPrice, UnitPrice, names};

static TEXT: &str = include_str!("../../data/prices.csv");

struct Head {
    /// Date and name of each source.
    sources: Vec<(&'static str, &'static str)>,
    /// The rows.
    rows: &'static str,
}

static HEAD: LazyLock<Head> = LazyLock::new(|| {
    let mut sources = Vec::new();
    let mut rows = TEXT;
    while let Some((line, rest)) = rows.split_once('\n') {
        let Some(comment) = line.strip_prefix('#') else { break };
        if let Some(source) = comment.strip_prefix("source ") {
            let mut parts = source.splitn(3, ' ').skip(1);
            sources.push((parts.next().unwrap_or_default(), parts.next().unwrap_or_default()));
        }
        rows = rest;
    }
    // The header of the columns.
    rows = rows.split_once('\n').map_or("", |(_, rest)| rest);
    Head { sources, rows }
});

/// The price of `model` of providers of `kind`: by its own name, else by its family's.
pub(super) fn find(kind: &str, model: &str) -> Option<Price> {
    let row = |model: &str| row_of(HEAD.rows, kind, model).and_then(parse).map(|(_, price)| price);
    row(model)
        .or_else(|| names::family(model).and_then(row))
        .or_else(|| names::tuned_from(model).and_then(row))
}

/// Every built-in price, by `kind/model`, in order.
pub fn rows() -> impl Iterator<Item = (String, Price)> {
    HEAD.rows.lines().filter_map(parse)
}

/// The newest date of a built-in price.
pub fn version() -> &'static str {
    HEAD.sources.iter().map(|(day, _)| *day).max().unwrap_or_default()
}

/// The row of `kind,model,…` in sorted rows.
fn row_of<'t>(mut rows: &'t str, kind: &str, model: &str) -> Option<&'t str> {
    while !rows.is_empty() {
        // A byte in the middle of a character is no place to split; rows are found by their line ends anyway.
        let bytes = rows.as_bytes();
        let middle = bytes.len() / 2;
        let start = bytes.get(..middle)?.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let length = bytes.get(start..)?.iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - start);
        let row = rows.get(start..start + length)?;
        let mut cells = row.splitn(3, ',');
        let key = (cells.next()?, cells.next()?);
        match (kind, model).cmp(&key) {
            Ordering::Equal => return Some(row),
            Ordering::Less => rows = rows.get(..start)?,
            Ordering::Greater => rows = rows.get((start + length + 1).min(rows.len())..)?,
        }
    }
    None
}

/// A row of the compiled-in text. The test of the whole table proves that none is `None`.
fn parse(row: &str) -> Option<(String, Price)> {
    let mut cells = row.split(',');
    let kind = cells.next()?;
    let model = cells.next()?;
    let mut price = Price {
        input: tokens(cells.next()?)?,
        output: tokens(cells.next()?)?,
        cached_input: tokens(cells.next()?)?,
        cache_write: tokens(cells.next()?)?,
        reasoning: tokens(cells.next()?)?,
        image: units(cells.next()?)?,
        second: units(cells.next()?)?,
        character: units(cells.next()?)?,
        search: units(cells.next()?)?,
        max_input_tokens: count(cells.next()?)?,
        max_output_tokens: count(cells.next()?)?,
        ..Price::default()
    };
    for tier in cells.next()?.split(';').filter(|tier| !tier.is_empty()) {
        let mut parts = tier.split(':');
        price.tiers.push(Tier {
            above: parts.next()?.parse().ok()?,
            input: tokens(parts.next()?)?,
            output: tokens(parts.next()?)?,
            cached_input: tokens(parts.next()?)?,
            cache_write: tokens(parts.next()?)?,
            reasoning: None,
        });
    }
    let source: usize = cells.next()?.parse().ok()?;
    let (day, source) = HEAD.sources.get(source)?;
    price.as_of = Some((*day).into());
    price.source = Some((*source).into());
    cells.next().is_none().then(|| (format!("{kind}/{model}"), price))
}

/// Outside: whether the cell can be read. Inside: whether anything is in it.
fn tokens(cell: &str) -> Option<Option<TokenPrice>> {
    let rate = |cell| decimal::parse(cell, 9, Finer::Refuse).ok().map(TokenPrice::nanos_per_million);
    if cell.is_empty() { Some(None) } else { rate(cell).map(Some) }
}

fn units(cell: &str) -> Option<Option<UnitPrice>> {
    let rate = |cell| decimal::parse(cell, 15, Finer::Refuse).ok().map(UnitPrice::nanos_per_million);
    if cell.is_empty() { Some(None) } else { rate(cell).map(Some) }
}

fn count(cell: &str) -> Option<Option<u64>> {
    if cell.is_empty() { Some(None) } else { cell.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests;
