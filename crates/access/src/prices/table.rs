//! Which price applies to a model of a provider.
//!
//! Three layers, the first that knows the model wins: the settings file, the prices made by the admin API, the
//! built-in table. Within a layer the exact name wins over patterns, and of the patterns the longest.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;

use super::price::{self, Price, PriceError, Prices};
use super::{builtin, names};

/// The most names with a `*` in one layer: each is tried in turn.
pub const MAX_PATTERNS: usize = 1_000;

/// Provider kind of the built-in models that answer offline.
const DEMO: &str = "demo";
static DEMO_PRICE: LazyLock<Arc<Price>> = LazyLock::new(|| {
    Arc::new(Price { source: Some("built-in demo models cost nothing".into()), ..Price::free() })
});

/// All prices, immutable; replaced as a whole when settings or documents change.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    file: Layer,
    documents: Layer,
}

/// Why prices cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// One of them is wrong.
    #[error("price {name:?}: {error}")]
    Price {
        /// Its name.
        name: String,
        /// What is wrong.
        error: PriceError,
    },
    /// Too many patterns.
    #[error("more than {MAX_PATTERNS} prices have a `*` in their name; name the models instead")]
    Patterns,
}

impl PriceTable {
    /// Of the settings file's `prices:` and those of the admin API, over the built-in table.
    pub fn new(file: &Prices, documents: &Prices) -> Result<PriceTable, TableError> {
        Ok(PriceTable { file: Layer::new(file)?, documents: Layer::new(documents)? })
    }

    /// The price of `model` at the provider named `provider`, which is of `kind`. `None`: nobody knows, and the
    /// caller says so aloud.
    ///
    /// The built-in table goes by kind, since the name is the operator's choice, and also answers for a dated
    /// name (`gpt-4.1-2025-04-14`) with the price of its family (`gpt-4.1`) when the dated name has no row of
    /// its own. That is wrong where a provider prices one snapshot apart from its family; the snapshots of which
    /// we know this have rows. Costs about a microsecond when the answer is built in.
    pub fn lookup(&self, provider: &str, kind: &str, model: &str) -> Option<Arc<Price>> {
        let configured = self.file.find(provider, model).or_else(|| self.documents.find(provider, model));
        match configured {
            Some(price) => Some(Arc::clone(price)),
            None if kind == DEMO => Some(Arc::clone(&DEMO_PRICE)),
            None => builtin::find(kind, model).map(Arc::new),
        }
    }
}

type ByName<T> = HashMap<Box<str>, T, RandomState>;

#[derive(Clone, Debug, Default)]
struct Layer {
    /// By provider, then model.
    exact: ByName<ByName<Arc<Price>>>,
    /// The longest first.
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    provider: Box<str>,
    model: Box<str>,
    price: Arc<Price>,
}

impl Layer {
    fn new(prices: &Prices) -> Result<Layer, TableError> {
        price::check_all(prices).map_err(|(name, error)| TableError::Price { name, error })?;
        let mut layer = Layer::default();
        for (name, price) in prices {
            let Some((provider, model)) = names::split(name) else { continue };
            let price = Arc::new(price.clone());
            if names::is_pattern(name) {
                layer.patterns.push(Pattern { provider: provider.into(), model: model.into(), price });
            } else {
                layer.exact.entry(provider.into()).or_default().insert(model.into(), price);
            }
        }
        if layer.patterns.len() > MAX_PATTERNS {
            return Err(TableError::Patterns);
        }
        // Stable, over the map's order by name: two patterns of the same length are always tried in one order.
        let weight = |pattern: &Pattern| names::weight(&pattern.provider) + names::weight(&pattern.model);
        layer.patterns.sort_by_key(|pattern| std::cmp::Reverse(weight(pattern)));
        Ok(layer)
    }

    fn find(&self, provider: &str, model: &str) -> Option<&Arc<Price>> {
        let exact = self.exact.get(provider).and_then(|models| models.get(model));
        exact.or_else(|| {
            let fits = |p: &&Pattern| names::fits(&p.provider, provider) && names::fits(&p.model, model);
            self.patterns.iter().find(fits).map(|pattern| &pattern.price)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(entries: &[(&str, &str)]) -> Prices {
        entries.iter().map(|(name, json)| ((*name).into(), serde_json::from_str(json).unwrap())).collect()
    }

    fn request(price: Option<Arc<Price>>) -> Option<String> {
        price.map(|price| price.request.map_or_else(|| "none".into(), |rate| rate.to_string()))
    }

    #[test]
    fn exact_then_longest_pattern_and_file_before_documents_before_built_in() {
        let file = prices(&[
            ("lab/*", r#"{"request": 1}"#),
            ("openai/gpt-4.1*", r#"{"request": 2}"#),
            ("openai/gpt-4.1-m*", r#"{"request": 3}"#),
            ("openai/gpt-4.1-mini", r#"{"request": 4}"#),
            ("*/embed", r#"{"request": 5}"#),
        ]);
        let documents = prices(&[
            ("lab/qwen", r#"{"request": 6}"#),
            ("openai/gpt-4o", r#"{"request": 7}"#),
            ("*/*", r#"{"request": 8}"#),
        ]);
        let table = PriceTable::new(&file, &documents).unwrap();
        for (provider, model, expected) in [
            ("lab", "anything/at/all", "1"),
            ("lab", "qwen", "1"),
            ("openai", "gpt-4.1", "2"),
            ("openai", "gpt-4.1-medium", "3"),
            ("openai", "gpt-4.1-mini", "4"),
            ("other", "embed", "5"),
            ("openai", "gpt-4o", "7"),
            ("openai", "gpt-5", "8"),
        ] {
            let found = request(table.lookup(provider, "openai", model));
            assert_eq!(found.as_deref(), Some(expected), "{provider}/{model}");
        }
    }

    #[test]
    fn built_in_goes_by_kind_and_what_nobody_knows_is_none() {
        let table = PriceTable::default();
        assert!(table.lookup("mine", "openai", "gpt-4.1").is_some());
        assert_eq!(table.lookup("openai", "openai-compatible", "gpt-4.1"), None);
        assert_eq!(table.lookup("openai", "openai", "gpt-4.1x"), None);
        assert_eq!(table.lookup("openai", "openai", ""), None);
        assert!(table.lookup("demo", "demo", "any").is_some_and(|price| price.is_free()));
        let own = PriceTable::new(&prices(&[("demo/*", r#"{"request": 1}"#)]), &Prices::new()).unwrap();
        assert_eq!(request(own.lookup("demo", "demo", "chat")).as_deref(), Some("1"));
    }

    #[test]
    fn a_wrong_price_is_named() {
        let error = PriceTable::new(&prices(&[("a/b", "{}")]), &Prices::new()).unwrap_err();
        assert_eq!(error, TableError::Price { name: "a/b".into(), error: PriceError::Empty });
        let error = PriceTable::new(&Prices::new(), &prices(&[("b", r#"{"request": 1}"#)])).unwrap_err();
        assert_eq!(error, TableError::Price { name: "b".into(), error: PriceError::Name });
        let many: Prices = (0..=MAX_PATTERNS).map(|n| (format!("a/{n}*"), Price::free())).collect();
        assert_eq!(PriceTable::new(&many, &Prices::new()).unwrap_err(), TableError::Patterns);
    }
}
