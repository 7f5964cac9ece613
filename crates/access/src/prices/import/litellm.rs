//! LiteLLM's price map: an object of models, prices in dollars per single token or unit, written as floats.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::json::{self, Row};
use super::{ImportError, Imported};
use crate::prices::decimal::{self, Finer};
use crate::prices::{Factor, Price, Tier, TokenPrice, UnitPrice};

/// The row that explains the form.
const SAMPLE: &str = "sample_spec";
/// Modes in which most tokens are audio or images, which cost more than text.
const NOT_TEXT: [&str; 5] =
    ["realtime", "audio_speech", "audio_transcription", "image_generation", "image_edit"];
/// Their names for providers that have another name here.
const PROVIDERS: [(&str, &str); 10] = [
    ("bedrock_converse", "bedrock"),
    ("bedrock_mantle", "bedrock"),
    ("azure_text", "azure"),
    ("cohere_chat", "cohere"),
    ("fireworks_ai", "fireworks"),
    ("fireworks_ai-embedding-models", "fireworks"),
    ("together_ai", "together"),
    ("nvidia_nim", "nvidia"),
    ("text-completion-openai", "openai"),
    ("text-completion-codestral", "mistral"),
];

pub(super) fn import(text: &str) -> Result<Imported, ImportError> {
    let rows = json::object(text, "LiteLLM's price map, an object of models")?;
    let mut imported = Imported::default();
    for row in rows.iter().filter(|row| row.name != SAMPLE) {
        let fields = Fields(json::fields(row.value).into_iter().collect());
        match fields.text("litellm_provider") {
            Some(theirs) => {
                let price = price(&fields);
                imported.row(row.line, &name(row, &theirs), price);
            }
            None => imported.skip(row.line, &row.name, "it names no `litellm_provider`".into()),
        }
    }
    Ok(imported)
}

/// `provider/model`. Most models carry their provider's name in front, some do not.
fn name(row: &Row<'_>, theirs: &str) -> String {
    let ours = PROVIDERS.iter().find(|(name, _)| *name == theirs).map_or(theirs, |(_, ours)| *ours);
    let own = |prefix: &str| row.name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    let model = own(theirs).or_else(|| own(ours)).unwrap_or(&row.name);
    format!("{ours}/{model}")
}

struct Fields<'t>(HashMap<String, &'t RawValue>);

impl Fields<'_> {
    fn text(&self, field: &str) -> Option<String> {
        self.0.get(field).copied().and_then(json::scalar)
    }

    /// A rate in dollars per unit. Both a token's and a unit's are nano-dollars per million inside, and floats
    /// have digits that nobody wrote, so what is finer is rounded.
    fn rate(&self, field: &str) -> Result<Option<i64>, String> {
        match self.text(field) {
            None => Ok(None),
            Some(text) => match decimal::parse(&text, 15, Finer::Round) {
                Ok(rate) => Ok(Some(rate)),
                Err(error) => Err(format!("`{field}`: {error}")),
            },
        }
    }

    /// The largest of several rates.
    fn dearest(&self, fields: &[&str]) -> Result<Option<i64>, String> {
        fields.iter().try_fold(None, |dearest, field| Ok(dearest.max(self.rate(field)?)))
    }

    fn tokens(&self, fields: &[&str]) -> Result<Option<TokenPrice>, String> {
        Ok(self.dearest(fields)?.map(TokenPrice::nanos_per_million))
    }

    fn units(&self, fields: &[&str]) -> Result<Option<UnitPrice>, String> {
        let rate = self.dearest(fields)?.filter(|rate| *rate > 0);
        Ok(rate.map(UnitPrice::nanos_per_million))
    }

    /// Limits are sometimes floats, and sometimes words.
    fn count(&self, field: &str) -> Option<u64> {
        let text = self.text(field)?;
        let count = decimal::parse(&text, 0, Finer::Round).ok()?;
        u64::try_from(count).ok().filter(|count| *count > 0)
    }
}

fn price(fields: &Fields<'_>) -> Result<Price, String> {
    let mode = fields.text("mode").unwrap_or_default();
    let text_only = !NOT_TEXT.contains(&mode.as_str());
    let input: &[&str] = if text_only {
        &["input_cost_per_token"]
    } else {
        &["input_cost_per_token", "input_cost_per_audio_token", "input_cost_per_image_token"]
    };
    let output: &[&str] = if text_only {
        &["output_cost_per_token"]
    } else {
        &["output_cost_per_token", "output_cost_per_audio_token", "output_cost_per_image_token"]
    };
    let mut price = Price {
        input: fields.tokens(input)?,
        output: fields.tokens(output)?,
        cached_input: fields.tokens(&["cache_read_input_token_cost"])?,
        cache_write: fields.tokens(&["cache_creation_input_token_cost"])?,
        reasoning: fields.tokens(&["output_cost_per_reasoning_token"])?,
        tiers: tiers(fields)?,
        request: fields.units(&["input_cost_per_request"])?,
        second: fields.units(&["input_cost_per_second", "output_cost_per_second"])?,
        character: fields.units(&["input_cost_per_character", "output_cost_per_character"])?,
        search: fields.units(&["input_cost_per_query"])?,
        batch: batch(fields),
        max_input_tokens: fields.count("max_input_tokens"),
        max_output_tokens: fields.count("max_output_tokens").or_else(|| fields.count("max_tokens")),
        source: fields.text("source").map(|text| text.trim().chars().take(512).collect::<String>()),
        ..Price::default()
    };
    price.source = price.source.filter(|text| !text.is_empty());
    price.image = match fields.units(&["output_cost_per_image"])? {
        Some(rate) => Some(rate),
        None => fields.units(&["input_cost_per_image"])?,
    };
    settle_doubles(&mut price, &mode);
    // Caches that are written for nothing, in a model that is not free, are caches whose price is not known.
    price.cache_write = price.cache_write.filter(|rate| rate.as_nanos_per_million() > 0);
    if price.is_free() {
        return Err(
            "every price in it is 0, which LiteLLM writes for what it does not know; if it is free, \
                    say so in the settings with `request: 0`"
                .into(),
        );
    }
    Ok(price)
}

/// Some models are priced by tokens and by images or seconds, meaning either. Tokens are what the answer of such a
/// model reports, so they win.
fn settle_doubles(price: &mut Price, mode: &str) {
    let tokens =
        [price.input, price.output].into_iter().flatten().any(|rate| rate.as_nanos_per_million() > 0);
    if tokens && NOT_TEXT.contains(&mode) {
        price.second = None;
        price.image = None;
        price.character = None;
    }
}

/// `input_cost_per_token_above_200k_tokens` and its siblings, as tiers in order.
fn tiers(fields: &Fields<'_>) -> Result<Vec<Tier>, String> {
    const MARK: &str = "_above_";
    let mut limits: Vec<(u64, &str)> = Vec::new();
    for field in fields.0.keys() {
        let Some((base, limit)) = field.split_once(MARK) else { continue };
        let rate = base.ends_with("_per_token") || base.ends_with("_token_cost");
        let Some(thousands) = limit.strip_suffix("k_tokens").filter(|_| rate) else { continue };
        if let Ok(thousands) = thousands.parse::<u32>() {
            limits.push((u64::from(thousands) * 1_000, limit));
        }
    }
    limits.sort_unstable();
    limits.dedup();
    let tier = |(above, limit): (u64, &str)| {
        let tokens = |base: &str| fields.tokens(&[format!("{base}{MARK}{limit}").as_str()]);
        Ok(Tier {
            above,
            input: tokens("input_cost_per_token")?,
            cached_input: tokens("cache_read_input_token_cost")?,
            cache_write: tokens("cache_creation_input_token_cost")?,
            output: tokens("output_cost_per_token")?,
            reasoning: tokens("output_cost_per_reasoning_token")?,
        })
    };
    limits.into_iter().map(tier).collect()
}

/// The batch multiplier, when both batch prices stand in one exact ratio to the others.
fn batch(fields: &Fields<'_>) -> Option<Factor> {
    let ratio = |batch: &str, single: &str| {
        let (batch, single) = (fields.rate(batch).ok()??, fields.rate(single).ok()??);
        let parts = i128::from(batch) * i128::from(Factor::ONE.parts());
        let exact = single > 0 && parts % i128::from(single) == 0;
        exact.then(|| parts / i128::from(single))
    };
    let input = ratio("input_cost_per_token_batches", "input_cost_per_token")?;
    let output = ratio("output_cost_per_token_batches", "output_cost_per_token")?;
    let parts = i64::try_from(input).ok().filter(|_| input == output && input > 0)?;
    Some(Factor::of_parts(parts))
}
