//! Conduit's eight pricing models as one price.
//!
//! Standard has a field for each rate; the others carry their rates in a little JSON of their own. Two things are
//! not as there: a tier is chosen by the length of the prompt alone (Conduit adds the answer), and steps of
//! inference are charged as an image made with the default number of them, since no provider reports steps.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::json::{scalar, sentence};
use crate::prices::decimal::{self, Finer};
use crate::prices::{Factor, Price, PriceError, Tier, TokenPrice, UnitPrice};

/// The text of each field that is not empty.
#[derive(Default)]
pub(super) struct Fields(HashMap<&'static str, String>);

impl Fields {
    pub(super) fn set(&mut self, field: &'static str, text: String) {
        if !text.trim().is_empty() {
            self.0.insert(field, text);
        }
    }

    pub(super) fn get(&self, field: &str) -> &str {
        self.0.get(field).map(|text| text.trim()).unwrap_or_default()
    }

    /// A rate, by what is done with its text; 0 is how Conduit writes that there is none.
    fn rate(
        &self,
        field: &str,
        read: impl Fn(&str) -> Result<i64, PriceError>,
    ) -> Result<Option<i64>, String> {
        match self.get(field) {
            "" => Ok(None),
            text => match read(text) {
                Ok(rate) => Ok(Some(rate).filter(|rate| *rate > 0)),
                Err(error) => Err(format!("{}: {error}", field.replace('_', " "))),
            },
        }
    }

    /// Dollars per million or per thousand tokens, whichever the list has.
    fn tokens(&self, million: &str, thousand: &str) -> Result<Option<TokenPrice>, String> {
        let per_million = self.rate(million, |text| decimal::parse(text, 9, Finer::Round))?;
        let per_thousand = self.rate(thousand, |text| decimal::parse(text, 12, Finer::Round))?;
        Ok(per_million.or(per_thousand).map(TokenPrice::nanos_per_million))
    }

    fn unit(&self, field: &str) -> Result<Option<UnitPrice>, String> {
        let rate = self.rate(field, |text| decimal::parse(text, 15, Finer::Round))?;
        Ok(rate.map(UnitPrice::nanos_per_million))
    }

    fn per_thousand(&self, field: &str) -> Result<Option<UnitPrice>, String> {
        let rate = self.rate(field, |text| decimal::parse(text, 12, Finer::Round))?;
        Ok(rate.map(UnitPrice::nanos_per_million))
    }

    fn per_minute(&self, field: &str) -> Result<Option<UnitPrice>, String> {
        let rate = self.rate(field, |text| decimal::parse_divided(text, 15, 60))?;
        Ok(rate.map(UnitPrice::nanos_per_million))
    }

    fn json<T: DeserializeOwned + Default>(&self, field: &str) -> Result<T, String> {
        match self.get(field) {
            "" => Ok(T::default()),
            text => serde_json::from_str(text)
                .map_err(|error| format!("{}: {}", field.replace('_', " "), sentence(&error))),
        }
    }
}

/// The price, and what of the cost is not in it.
pub(super) fn price(fields: &Fields) -> Result<(Price, Option<String>), String> {
    let mut remark = None;
    let mut price = match pricing_model(fields.get("pricing_model"))? {
        PricingModel::Standard => standard(fields)?,
        PricingModel::PerVideo => {
            let config: PerVideo = configuration(fields)?;
            Price { video: config.rates, ..Price::default() }
        }
        PricingModel::PerSecondVideo => {
            let config: PerSecondVideo = configuration(fields)?;
            let video_resolution = config.resolution_multipliers.unwrap_or_default();
            Price { second: Some(config.base_rate), video_resolution, ..Price::default() }
        }
        PricingModel::InferenceSteps => {
            let config: InferenceSteps = configuration(fields)?;
            if config.model_steps.is_some_and(|steps| !steps.is_empty()) {
                remark =
                    Some("the row was taken without its `modelSteps`; price those models by name".into());
            }
            Price { image: Some(steps(config.cost_per_step, config.default_steps)?), ..Price::default() }
        }
        PricingModel::TieredTokens => tiered(configuration(fields)?)?,
        PricingModel::PerImage => {
            let config: PerImage = configuration(fields)?;
            Price {
                image: Some(config.base_rate),
                image_quality: config.quality_multipliers.unwrap_or_default(),
                image_size: config.resolution_multipliers.unwrap_or_default(),
                ..Price::default()
            }
        }
        PricingModel::PerMinuteAudio => per_minute(fields)?,
        PricingModel::PerThousandCharacters => per_thousand_characters(fields)?,
    };
    let supports_batch = fields.get("supports_batch").to_ascii_lowercase();
    if matches!(supports_batch.as_str(), "yes" | "true" | "1") && !fields.get("batch").is_empty() {
        price.batch =
            Some(fields.get("batch").parse().map_err(|error| format!("batch multiplier: {error}"))?);
    }
    if price.is_free() {
        return Err("every price in it is 0; if it is free, say so in the settings with `request: 0`".into());
    }
    Ok((price, remark))
}

fn standard(fields: &Fields) -> Result<Price, String> {
    let input = fields.tokens("input_1m", "input_1k")?;
    let embedding = fields.tokens("embedding_1m", "embedding_1k")?;
    let minute = fields.per_minute("minute")?;
    let minute = minute.max(fields.per_minute("minute_in")?).max(fields.per_minute("minute_out")?);
    let second = fields.unit("second")?;
    let image = match (fields.unit("image")?, fields.unit("step")?) {
        (Some(image), _) => Some(image),
        (None, Some(step)) => {
            let count = fields.get("steps").parse().map_err(|_| "default inference steps: a whole number")?;
            Some(steps(step, count)?)
        }
        (None, None) => None,
    };
    Ok(Price {
        // One model either embeds or talks.
        input: input.max(embedding),
        output: fields.tokens("output_1m", "output_1k")?,
        cached_input: fields.tokens("cached_input_1m", "cached_input_1k")?,
        cache_write: fields.tokens("cache_write_1m", "cache_write_1k")?,
        image,
        second: second.or(minute),
        character: fields.per_thousand("characters_1k")?,
        search: fields.per_thousand("search_1k")?,
        image_quality: fields.json("image_qualities")?,
        image_size: fields.json("image_sizes")?,
        video_resolution: fields.json("video_resolutions")?,
        ..Price::default()
    })
}

fn per_minute(fields: &Fields) -> Result<Price, String> {
    let mut price = standard(fields)?;
    if !fields.get("configuration").is_empty() {
        let config: PerMinuteAudio = configuration(fields)?;
        let text = scalar(&config.rate_per_minute).unwrap_or_default();
        let rate =
            decimal::parse_divided(&text, 15, 60).map_err(|error| format!("ratePerMinute: {error}"))?;
        price.second = Some(UnitPrice::nanos_per_million(rate));
    }
    Ok(price)
}

fn per_thousand_characters(fields: &Fields) -> Result<Price, String> {
    let mut price = standard(fields)?;
    if !fields.get("configuration").is_empty() {
        let config: PerThousandCharacters = configuration(fields)?;
        let text = scalar(&config.rate_per_thousand).unwrap_or_default();
        let rate =
            decimal::parse(&text, 12, Finer::Round).map_err(|error| format!("ratePerThousand: {error}"))?;
        price.character = Some(UnitPrice::nanos_per_million(rate));
    }
    Ok(price)
}

/// Conduit's tiers end where ours begin.
fn tiered(config: TieredTokens) -> Result<Price, String> {
    let mut theirs = config.tiers;
    theirs.sort_by_key(|tier| tier.max_context.unwrap_or(u64::MAX));
    let mut tiers = theirs.into_iter();
    let first = tiers.next().ok_or("`tiers` is empty")?;
    let mut price =
        Price { input: Some(first.input_cost), output: Some(first.output_cost), ..Price::default() };
    let mut above = first.max_context;
    for tier in tiers {
        let from = above.ok_or("two `tiers` have no `maxContext`")?;
        let (input, output) = (Some(tier.input_cost), Some(tier.output_cost));
        price.tiers.push(Tier { above: from, input, output, ..Tier::default() });
        above = tier.max_context;
    }
    Ok(price)
}

fn steps(step: UnitPrice, count: u32) -> Result<UnitPrice, String> {
    let rate = step.as_nanos_per_million().checked_mul(i64::from(count));
    rate.map(UnitPrice::nanos_per_million).ok_or_else(|| PriceError::TooLarge.to_string())
}

fn configuration<T: DeserializeOwned>(fields: &Fields) -> Result<T, String> {
    let text = fields.get("configuration");
    serde_json::from_str(text).map_err(|error| format!("pricing configuration: {}", sentence(&error)))
}

#[derive(Clone, Copy)]
enum PricingModel {
    Standard,
    PerVideo,
    PerSecondVideo,
    InferenceSteps,
    TieredTokens,
    PerImage,
    PerMinuteAudio,
    PerThousandCharacters,
}

/// By number or by name.
fn pricing_model(text: &str) -> Result<PricingModel, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "" | "0" | "standard" => PricingModel::Standard,
        "1" | "pervideo" => PricingModel::PerVideo,
        "2" | "persecondvideo" => PricingModel::PerSecondVideo,
        "3" | "inferencesteps" => PricingModel::InferenceSteps,
        "4" | "tieredtokens" => PricingModel::TieredTokens,
        "5" | "perimage" => PricingModel::PerImage,
        "6" | "perminuteaudio" => PricingModel::PerMinuteAudio,
        "7" | "perthousandcharacters" => PricingModel::PerThousandCharacters,
        _ => {
            return Err(
                "its pricing model is unknown; Conduit has Standard (0) to PerThousandCharacters (7)".into(),
            );
        }
    })
}

#[derive(Deserialize)]
struct PerVideo {
    #[serde(alias = "Rates")]
    rates: BTreeMap<String, UnitPrice>,
}

#[derive(Deserialize)]
struct PerSecondVideo {
    #[serde(rename = "baseRate", alias = "BaseRate")]
    base_rate: UnitPrice,
    #[serde(rename = "resolutionMultipliers", alias = "ResolutionMultipliers")]
    resolution_multipliers: Option<BTreeMap<String, Factor>>,
}

#[derive(Deserialize)]
struct InferenceSteps {
    #[serde(rename = "costPerStep", alias = "CostPerStep")]
    cost_per_step: UnitPrice,
    #[serde(rename = "defaultSteps", alias = "DefaultSteps")]
    default_steps: u32,
    #[serde(rename = "modelSteps", alias = "ModelSteps")]
    model_steps: Option<BTreeMap<String, u32>>,
}

#[derive(Deserialize)]
struct TieredTokens {
    #[serde(alias = "Tiers")]
    tiers: Vec<TheirTier>,
}

#[derive(Deserialize)]
struct TheirTier {
    #[serde(rename = "maxContext", alias = "MaxContext")]
    max_context: Option<u64>,
    #[serde(rename = "inputCost", alias = "InputCost")]
    input_cost: TokenPrice,
    #[serde(rename = "outputCost", alias = "OutputCost")]
    output_cost: TokenPrice,
}

#[derive(Deserialize)]
struct PerImage {
    #[serde(rename = "baseRate", alias = "BaseRate")]
    base_rate: UnitPrice,
    #[serde(rename = "qualityMultipliers", alias = "QualityMultipliers")]
    quality_multipliers: Option<BTreeMap<String, Factor>>,
    #[serde(rename = "resolutionMultipliers", alias = "ResolutionMultipliers")]
    resolution_multipliers: Option<BTreeMap<String, Factor>>,
}

#[derive(Deserialize)]
struct PerMinuteAudio {
    #[serde(rename = "ratePerMinute", alias = "RatePerMinute")]
    rate_per_minute: Box<RawValue>,
}

#[derive(Deserialize)]
struct PerThousandCharacters {
    #[serde(rename = "ratePerThousand", alias = "RatePerThousand")]
    rate_per_thousand: Box<RawValue>,
}
