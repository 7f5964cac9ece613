//! What a call costs: prices, the table they are looked up in, and how lists of them come in and go out.
//!
//! A price is integers from the moment it is read: nano-dollars per million units, so that 0.15 dollars per
//! million tokens is 150 000 000, and so that a thousand small calls cost what one large call costs, to the
//! nano-dollar of each. [`Price::cost`] says what a call cost; [`Price::bound`] says, before it is made, what it
//! cannot exceed; [`PriceTable::lookup`] says which price applies, and `None` where nobody knows: that is an
//! alarm for the caller to raise, never 0.

mod builtin;
mod cost;
mod decimal;
mod export;
mod import;
mod names;
mod price;
mod rate;
mod table;
#[cfg(test)]
mod testing;

pub use builtin::{rows as builtin_rows, version as builtin_version};
pub use cost::{Bound, DEFAULT_MAX_OUTPUT, Units};
pub use export::{ExportError, to_conduit_csv, to_csv, to_json};
pub use import::{Form, ImportError, Imported, MAX_BYTES, MAX_ROWS, Skipped, import};
pub use names::check as check_name;
pub use price::{Price, PriceError, Prices, Tier};
pub use rate::{Factor, TokenPrice, UnitPrice};
pub use table::{MAX_PATTERNS, PriceTable, TableError};
