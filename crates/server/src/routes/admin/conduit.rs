//! The admin API in Conduit's spelling, for its clients, its SDK and the scripts of its guides: paths in any case,
//! camelCase, its status codes and error bodies. Each operation does what ours of the same name does.

mod costs;
mod dollars;
mod groups;
mod ip;
mod keys;
mod mappings;
mod notifications;
mod providers;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{Refusal, Route};

pub(super) fn routes() -> Vec<Route> {
    let mut all = Vec::new();
    all.extend(keys::routes());
    all.extend(groups::routes());
    all.extend(providers::routes());
    all.extend(mappings::routes());
    all.extend(costs::routes());
    all.extend(ip::routes());
    all.extend(notifications::routes());
    all
}

/// Its pages count from 1.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct PageQuery {
    /// From 1.
    page: Option<u32>,
    /// At most 100.
    #[serde(rename = "pageSize")]
    page_size: Option<u32>,
}

impl PageQuery {
    /// The rows of the page that was asked for.
    fn cut<T>(self, rows: Vec<T>) -> Paged<T> {
        let page = self.page.unwrap_or(1).clamp(1, 1_000_000);
        let page_size = self.page_size.unwrap_or(50).clamp(1, 100);
        let total_count = rows.len() as u64;
        let skip = (page as usize - 1) * page_size as usize;
        let items = rows.into_iter().skip(skip).take(page_size as usize).collect();
        let total_pages = total_count.div_ceil(u64::from(page_size));
        Paged { items, total_count, page, page_size, total_pages }
    }
}

/// One of its pages.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Paged<T> {
    items: Vec<T>,
    total_count: u64,
    page: u32,
    page_size: u32,
    total_pages: u64,
}

/// What is refused with 400 and a text, as Conduit does.
fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(base::Kind::Invalid, "invalid_value", text)
}
