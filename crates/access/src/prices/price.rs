//! What a model costs, as it is written in the settings, in the admin API and in lists.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Factor, TokenPrice, UnitPrice, names};

/// `prices:`, by `provider/model`. Either part may contain `*`, which stands for anything.
pub type Prices = BTreeMap<String, Price>;

/// The most tiers of one price.
const MAX_TIERS: usize = 16;
/// The most qualities, sizes, resolutions or videos of one price.
const MAX_NAMED: usize = 64;
/// The longest name of one of those, and of a source.
const MAX_NAME: usize = 64;
const MAX_SOURCE: usize = 512;

/// What a model costs. Everything that is priced and used is added up; what has no price costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Dollars per million tokens of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<TokenPrice>,
    /// The same for those that the provider read from its cache. Default: `input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<TokenPrice>,
    /// The same for those that it wrote to its cache. Default: `input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<TokenPrice>,
    /// Dollars per million tokens of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<TokenPrice>,
    /// The same for those that were reasoning. Default: `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<TokenPrice>,
    /// Other rates for calls with long prompts, each for a longer prompt than the one before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tiers: Vec<Tier>,

    /// Dollars per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<UnitPrice>,
    /// Dollars per image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<UnitPrice>,
    /// Dollars per second of audio or video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<UnitPrice>,
    /// Dollars per character of text that is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub character: Option<UnitPrice>,
    /// Dollars per search or rerank query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<UnitPrice>,

    /// What the whole cost is multiplied with when the call is part of a provider's batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Factor>,
    /// What `image` is multiplied with, by the image's quality (`hd`). Others: 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub image_quality: BTreeMap<String, Factor>,
    /// What `image` is multiplied with as well, by its size (`1792x1024`). Others: 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub image_size: BTreeMap<String, Factor>,
    /// What `second` is multiplied with, by the video's resolution (`1080p`). Others: 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub video_resolution: BTreeMap<String, Factor>,
    /// Dollars per video, by `resolution_seconds` (`720p_6`). Others cost what the dearest of these costs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub video: BTreeMap<String, UnitPrice>,

    /// The most tokens in a prompt, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<u64>,
    /// The most tokens in an answer, where known. Reserved for a call that sets no `max_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// Where this price was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When it was read, as `2026-11-20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
}

/// Rates for the whole call once its prompt is longer than `above`. What is left out is as in the price itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Tokens of the prompt, cached ones included, above which this tier applies.
    #[schemars(range(min = 1))]
    pub above: u64,
    /// As in the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<TokenPrice>,
    /// As in the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<TokenPrice>,
    /// As in the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<TokenPrice>,
    /// As in the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<TokenPrice>,
    /// As in the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<TokenPrice>,
}

/// Why something is no price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not a decimal number.
    #[error("a price is a decimal number of dollars, as 2.50")]
    Malformed,
    /// Below zero.
    #[error("a price is not negative; money is given back by an adjustment of a group's balance")]
    Negative,
    /// Finer than we count.
    #[error(
        "a price has at most 9 decimals per million tokens, 15 per single unit, and a factor has at most 4; \
         round it"
    )]
    TooFine,
    /// Beyond what we calculate with.
    #[error("a price is at most 9000000000 dollars per million tokens or 9000 per single unit")]
    TooLarge,
    /// Prices nothing.
    #[error("this prices nothing; name a rate, as `input` and `output`, or say `request: 0` if it is free")]
    Empty,
    /// Tiers out of order.
    #[error("`tiers` are at most 16, and each `above` is larger than the one before, the first at least 1")]
    Tiers,
    /// A factor out of range.
    #[error("a factor is more than 0 and at most 1000")]
    Factor,
    /// Too many names, or too long.
    #[error("`{0}` has at most 64 names of 1 to 64 characters")]
    Named(&'static str),
    /// A source nobody can read.
    #[error("`source` is 1 to 512 characters on one line, without spaces around it")]
    Source,
    /// No date.
    #[error("`as_of` is a date, as 2026-11-20")]
    AsOf,
    /// No name.
    #[error(
        "a price is named `provider/model`, as openai/gpt-4.1 or lab/*, with at most 300 characters and no \
         spaces"
    )]
    Name,
}

impl Price {
    /// The price of what costs nothing and is known to.
    pub fn free() -> Price {
        Price { request: Some(UnitPrice::FREE), ..Price::default() }
    }

    /// Whether every rate in it is 0.
    pub fn is_free(&self) -> bool {
        let tokens = self.token_rates().any(|rate| rate.as_nanos_per_million() > 0);
        let units = self.unit_rates().any(|rate| rate.as_nanos_per_million() > 0);
        !tokens && !units
    }

    /// Whether this is a price; what is read from outside is asked this once.
    pub fn check(&self) -> Result<(), PriceError> {
        if self.token_rates().next().is_none() && self.unit_rates().next().is_none() {
            return Err(PriceError::Empty);
        }
        let rising = self.tiers.windows(2).all(|pair| matches!(pair, [low, high] if low.above < high.above));
        if self.tiers.len() > MAX_TIERS || !rising || self.tiers.first().is_some_and(|tier| tier.above == 0) {
            return Err(PriceError::Tiers);
        }
        check_names("image_quality", self.image_quality.keys())?;
        check_names("image_size", self.image_size.keys())?;
        check_names("video_resolution", self.video_resolution.keys())?;
        check_names("video", self.video.keys())?;
        let named = self.image_quality.values().chain(self.image_size.values());
        let mut factors = named.chain(self.video_resolution.values()).chain(&self.batch);
        if factors.any(|factor| factor.parts() == 0 || *factor > Factor::MAX) {
            return Err(PriceError::Factor);
        }
        let readable = |text: &String| {
            !text.is_empty()
                && text.chars().count() <= MAX_SOURCE
                && text.trim() == text
                && !text.chars().any(char::is_control)
        };
        if !self.source.as_ref().is_none_or(readable) {
            return Err(PriceError::Source);
        }
        if !self.as_of.as_ref().is_none_or(|day| is_date(day)) {
            return Err(PriceError::AsOf);
        }
        Ok(())
    }

    fn token_rates(&self) -> impl Iterator<Item = TokenPrice> {
        let base = [self.input, self.cached_input, self.cache_write, self.output, self.reasoning];
        let tiers = self
            .tiers
            .iter()
            .flat_map(|tier| [tier.input, tier.cached_input, tier.cache_write, tier.output, tier.reasoning]);
        base.into_iter().chain(tiers).flatten()
    }

    fn unit_rates(&self) -> impl Iterator<Item = UnitPrice> {
        let units = [self.request, self.image, self.second, self.character, self.search];
        units.into_iter().flatten().chain(self.video.values().copied())
    }
}

fn check_names<'a>(
    field: &'static str,
    names: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), PriceError> {
    let mut good = names.len() <= MAX_NAMED;
    for name in names {
        good &= !name.is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control);
    }
    if good { Ok(()) } else { Err(PriceError::Named(field)) }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// Whether `prices` may all be used, else the first that may not and why.
pub(super) fn check_all(prices: &Prices) -> Result<(), (String, PriceError)> {
    prices.iter().try_for_each(|(name, price)| {
        names::check(name).and_then(|()| price.check()).map_err(|error| (name.clone(), error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Price, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn reads_numbers_and_strings_exactly() {
        let price = read(r#"{"input": 2.00, "cached_input": "0.50", "output": 8}"#).unwrap();
        assert_eq!(price.input.unwrap().as_nanos_per_million(), 2_000_000_000);
        assert_eq!(price.cached_input.unwrap().as_nanos_per_million(), 500_000_000);
        assert_eq!(price.output.unwrap().as_nanos_per_million(), 8_000_000_000);
        assert_eq!(read(r#"{"input": 0.1}"#).unwrap().input.unwrap().as_nanos_per_million(), 100_000_000);
        let price = read(r#"{"request": 0.001, "second": 1.5e-7}"#).unwrap();
        assert_eq!(price.request.unwrap().as_nanos_per_million(), 1_000_000_000_000);
        assert_eq!(price.second.unwrap().as_nanos_per_million(), 150_000_000);
        assert_eq!(serde_json::to_string(&price).unwrap(), r#"{"request":"0.001","second":"0.00000015"}"#);
    }

    #[test]
    fn refuses_with_a_sentence() {
        for (json, sentence) in [
            (r#"{"input": -1}"#, "not negative"),
            (r#"{"input": -0.5}"#, "not negative"),
            (r#"{"input": "NaN"}"#, "decimal number"),
            (r#"{"input": 1e300}"#, "at most 9000000000"),
            (r#"{"input": 18446744073709551615}"#, "at most 9000000000"),
            (r#"{"request": 9001}"#, "9000 per single unit"),
            (r#"{"input": 0.30000000000000004}"#, "at most 9 decimals"),
            (r#"{"input": true}"#, "dollars per million tokens"),
            (r#"{"inputs": 1}"#, "unknown field"),
            (r#"{"tiers": [{"input": 1}]}"#, "missing field `above`"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(sentence), "{json}: {error}");
        }
    }

    #[test]
    fn check_finds_what_serde_cannot() {
        for (json, error) in [
            ("{}", PriceError::Empty),
            (r#"{"max_input_tokens": 5}"#, PriceError::Empty),
            (r#"{"input": 1, "tiers": [{"above": 0}]}"#, PriceError::Tiers),
            (r#"{"input": 1, "tiers": [{"above": 2}, {"above": 2}]}"#, PriceError::Tiers),
            (r#"{"input": 1, "batch": 0}"#, PriceError::Factor),
            (r#"{"image": 1, "image_quality": {"hd": 1001}}"#, PriceError::Factor),
            (r#"{"image": 1, "image_size": {"": 1}}"#, PriceError::Named("image_size")),
            (r#"{"input": 1, "source": ""}"#, PriceError::Source),
            (r#"{"input": 1, "source": "a\nb"}"#, PriceError::Source),
            (r#"{"input": 1, "as_of": "yesterday"}"#, PriceError::AsOf),
            (r#"{"input": 1, "as_of": "2026-02-30"}"#, PriceError::AsOf),
        ] {
            assert_eq!(read(json).unwrap().check(), Err(error), "{json}");
        }
        assert_eq!(read(r#"{"request": 0, "as_of": "2026-11-20"}"#).unwrap().check(), Ok(()));
        assert!(Price::free().is_free() && Price::free().check().is_ok());
        assert!(!read(r#"{"request": 0, "tiers": [{"above": 1, "output": 1}]}"#).unwrap().is_free());
    }
}
