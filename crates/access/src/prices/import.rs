//! Lists of prices from elsewhere: our own CSV and JSON, LiteLLM's price map, Conduit's CSV and JSON.
//!
//! A list is read as far as it can be: a row that cannot is named with its line and the reason, the others are
//! taken. What cannot be a list at all, or is too large, is refused as a whole.

mod conduit;
mod csv;
mod json;
mod litellm;

pub(super) use self::csv::COLUMNS;
use super::{Price, PriceError, Prices, names};

/// The largest list, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
/// The most rows of a list.
pub const MAX_ROWS: usize = 100_000;
/// The longest name that is repeated in a report.
const MAX_SHOWN: usize = 120;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Our CSV: the columns of [`super::to_csv`].
    Csv,
    /// Our JSON: prices by name, as in the settings.
    Json,
    /// LiteLLM's `model_prices_and_context_window.json`.
    LiteLlm,
    /// Conduit's CSV, with any of its headers.
    ConduitCsv,
    /// Conduit's JSON export.
    ConduitJson,
}

/// What came of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The prices, each of which passes [`Price::check`].
    pub prices: Prices,
    /// The rows that are none, in the order of the list.
    pub skipped: Vec<Skipped>,
}

/// A row, or a part of one, that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// What the row calls itself, shortened; empty if it has no name.
    pub name: String,
    /// Why it was not taken.
    pub reason: String,
}

/// Why a list was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Too many bytes.
    #[error("a price list has at most 64 MiB; split it")]
    TooLarge,
    /// Too many rows.
    #[error("a price list has at most 100000 rows; split it")]
    TooManyRows,
    /// Not text.
    #[error("a price list is UTF-8 text")]
    NotText,
    /// Not JSON, or not of the form.
    #[error("this is not {expected}: {message}")]
    Json {
        /// What was expected.
        expected: &'static str,
        /// What the reader says, with line and column.
        message: String,
    },
    /// A header that is not of the form.
    #[error("{0}")]
    Header(String),
}

impl Form {
    /// The form that `text` seems to have.
    pub fn detect(text: &[u8]) -> Form {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let has = |needle: &[u8]| {
            let head = text.get(..text.len().min(1 << 20)).unwrap_or_default();
            head.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
        };
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => Form::ConduitJson,
            Some(b'{') if has(b"\"litellm_provider\"") => Form::LiteLlm,
            Some(b'{') => Form::Json,
            _ => {
                let head = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let head = String::from_utf8_lossy(head).to_ascii_lowercase();
                if head.contains("cost name") || head.contains("model pattern") {
                    Form::ConduitCsv
                } else {
                    Form::Csv
                }
            }
        }
    }
}

/// Reads a list.
pub fn import(form: Form, text: &[u8]) -> Result<Imported, ImportError> {
    if text.len() > MAX_BYTES {
        return Err(ImportError::TooLarge);
    }
    let text = std::str::from_utf8(text).map_err(|_| ImportError::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match form {
        Form::Csv => csv::import(text),
        Form::Json => json::import(text),
        Form::LiteLlm => litellm::import(text),
        Form::ConduitCsv => conduit::import_csv(text),
        Form::ConduitJson => conduit::import_json(text),
    }
}

impl Imported {
    /// Takes a row's price, or says why not.
    fn row(&mut self, line: u64, name: &str, price: Result<Price, String>) {
        let checked = price.and_then(|price| {
            let sentence = |error: PriceError| error.to_string();
            names::check(name).and_then(|()| price.check()).map_err(sentence)?;
            Ok(price)
        });
        match checked {
            Ok(price) if !self.prices.contains_key(name) => {
                self.prices.insert(name.into(), price);
            }
            // Lists do repeat themselves; only a contradiction is worth a line.
            Ok(price) if self.prices.get(name) == Some(&price) => {}
            Ok(_) => self.skip(line, name, "an earlier row prices this model otherwise".into()),
            Err(reason) => self.skip(line, name, reason),
        }
    }

    fn skip(&mut self, line: u64, name: &str, reason: String) {
        let name = name.chars().take(MAX_SHOWN).collect();
        self.skipped.push(Skipped { line, name, reason });
    }
}

#[cfg(test)]
mod tests;
