//! What a call cost, and what a call that is not made yet can cost at most.
//!
//! Both are one sum of products of integers, 128 bits wide, divided and rounded once. Rates are nano-dollars per
//! million units, time is in thousandths, factors are in ten-thousandths; every term is brought to one
//! denominator first, so that nothing is lost between them.

use std::collections::BTreeMap;

use base::Money;

use super::price::{Price, Tier};
use super::{Factor, TokenPrice, UnitPrice};

/// Tokens of an answer that are reserved when neither the caller nor the price says how many there can be.
pub const DEFAULT_MAX_OUTPUT: u64 = 128_000;

/// What one call used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units<'a> {
    /// Tokens of the prompt, cached and newly cached ones included.
    pub input: u64,
    /// The part of `input` that was read from the provider's cache.
    pub cached_input: u64,
    /// The part of `input` that was written to it.
    pub cache_write: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// Requests; 1 unless several were answered at once.
    pub requests: u64,
    /// Images made, or read by an embedding.
    pub images: u64,
    /// Duration of the audio or video.
    pub milliseconds: u64,
    /// Characters that were spoken.
    pub characters: u64,
    /// Searches or rerank queries.
    pub searches: u64,
    /// Part of a provider's batch.
    pub batch: bool,
    /// The images' quality.
    pub image_quality: Option<&'a str>,
    /// The images' size.
    pub image_size: Option<&'a str>,
    /// The video's resolution.
    pub video_resolution: Option<&'a str>,
}

impl Default for Units<'_> {
    fn default() -> Self {
        Units {
            input: 0,
            cached_input: 0,
            cache_write: 0,
            output: 0,
            reasoning: 0,
            requests: 1,
            images: 0,
            milliseconds: 0,
            characters: 0,
            searches: 0,
            batch: false,
            image_quality: None,
            image_size: None,
            video_resolution: None,
        }
    }
}

impl From<&base::Usage> for Units<'_> {
    fn from(usage: &base::Usage) -> Self {
        Units {
            input: usage.input,
            cached_input: usage.cached_input,
            cache_write: usage.cache_write,
            output: usage.output,
            reasoning: usage.reasoning,
            images: usage.images,
            milliseconds: usage.milliseconds,
            characters: usage.characters,
            searches: usage.searches,
            ..Units::default()
        }
    }
}

/// What is known of a call before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// Length of the body. No tokenizer makes more than one token of a byte.
    pub body_bytes: u64,
    /// Tokens that the body does not show: images by URL, files by id, earlier turns that the provider keeps.
    pub extra_input: u64,
    /// How many prompts the body holds, when known: each is at most as long as the model allows, which is often
    /// far less than the bytes of an image in it. `None`: any number (embeddings, rerank).
    pub prompts: Option<u64>,
    /// The caller's own limit on the tokens of one answer.
    pub max_output: Option<u64>,
    /// Answers asked for (`n`).
    pub choices: u64,
    /// Requests, as in [`Units`].
    pub requests: u64,
    /// The most images.
    pub images: u64,
    /// The longest audio or video.
    pub milliseconds: u64,
    /// The most characters.
    pub characters: u64,
    /// The most searches.
    pub searches: u64,
    /// The images' quality; `None`: the dearest.
    pub image_quality: Option<&'a str>,
    /// The images' size; `None`: the dearest.
    pub image_size: Option<&'a str>,
    /// The video's resolution; `None`: the dearest.
    pub video_resolution: Option<&'a str>,
}

impl Default for Bound<'_> {
    fn default() -> Self {
        Bound {
            body_bytes: 0,
            extra_input: 0,
            prompts: None,
            max_output: None,
            choices: 1,
            requests: 1,
            images: 0,
            milliseconds: 0,
            characters: 0,
            searches: 0,
            image_quality: None,
            image_size: None,
            video_resolution: None,
        }
    }
}

impl Price {
    /// What a call cost, rounded once, half up, to nano-dollars. More than we can say is the most we can say.
    ///
    /// Parts that are larger than their whole (more cached tokens than tokens) count as the whole: what a
    /// provider reports is never charged for less than it says.
    pub fn cost(&self, units: &Units<'_>) -> Money {
        let cached = units.cached_input.saturating_add(units.cache_write);
        let input = units.input.max(cached);
        let output = units.output.max(units.reasoning);
        let rates = self.rates(self.tiers.iter().rfind(|tier| input > tier.above));
        let mut sum = Sum::default();
        sum.tokens(rates.input, input - cached);
        sum.tokens(rates.cached_input, units.cached_input);
        sum.tokens(rates.cache_write, units.cache_write);
        sum.tokens(rates.output, output - units.reasoning);
        sum.tokens(rates.reasoning, units.reasoning);
        sum.units(self.request, units.requests, Factor::ONE, Factor::ONE);
        let quality = named(&self.image_quality, units.image_quality).unwrap_or(Factor::ONE);
        let size = named(&self.image_size, units.image_size).unwrap_or(Factor::ONE);
        sum.units(self.image, units.images, quality, size);
        let resolution = named(&self.video_resolution, units.video_resolution).unwrap_or(Factor::ONE);
        sum.milliseconds(self.second, units.milliseconds, resolution);
        sum.units(self.video_price(units), 1, Factor::ONE, Factor::ONE);
        sum.units(self.character, units.characters, Factor::ONE, Factor::ONE);
        sum.units(self.search, units.searches, Factor::ONE, Factor::ONE);
        sum.money(if units.batch { self.batch.unwrap_or(Factor::ONE) } else { Factor::ONE })
    }

    /// What a call can cost at most: every token at the dearest rate that any prompt of that length can have.
    pub fn bound(&self, bound: &Bound<'_>) -> Money {
        let input = self.input_bound(bound);
        let output = self.output_bound(bound);
        let reachable = self.tiers.iter().filter(|tier| input > tier.above).map(Some);
        let dearest = std::iter::once(None).chain(reachable).map(|tier| {
            let rates = self.rates(tier);
            let mut sum = Sum::default();
            sum.tokens(rates.input.max(rates.cached_input).max(rates.cache_write), input);
            sum.tokens(rates.output.max(rates.reasoning), output);
            sum
        });
        let mut sum = dearest.max_by_key(|sum| sum.0.unwrap_or(i128::MAX)).unwrap_or_default();
        sum.units(self.request, bound.requests, Factor::ONE, Factor::ONE);
        let quality = dearest_of(&self.image_quality, bound.image_quality);
        let size = dearest_of(&self.image_size, bound.image_size);
        sum.units(self.image, bound.images, quality, size);
        let resolution = dearest_of(&self.video_resolution, bound.video_resolution);
        sum.milliseconds(self.second, bound.milliseconds, resolution);
        let video = self.video.values().max().copied().filter(|_| bound.milliseconds > 0);
        sum.units(video, 1, Factor::ONE, Factor::ONE);
        sum.units(self.character, bound.characters, Factor::ONE, Factor::ONE);
        sum.units(self.search, bound.searches, Factor::ONE, Factor::ONE);
        sum.money(self.batch.map_or(Factor::ONE, |batch| batch.max(Factor::ONE)))
    }

    /// The most tokens that the prompts of a call can have.
    pub fn input_bound(&self, bound: &Bound<'_>) -> u64 {
        let written = bound.body_bytes.saturating_add(bound.extra_input);
        match (bound.prompts, self.max_input_tokens) {
            (Some(prompts), Some(limit)) => written.min(prompts.saturating_mul(limit)),
            _ => written,
        }
    }

    /// The most tokens that the answers to a call can have.
    pub fn output_bound(&self, bound: &Bound<'_>) -> u64 {
        let limit = bound.max_output.or(self.max_output_tokens).unwrap_or(DEFAULT_MAX_OUTPUT);
        limit.saturating_mul(bound.choices)
    }

    fn rates(&self, tier: Option<&Tier>) -> Rates {
        let own = |of: fn(&Tier) -> Option<TokenPrice>| tier.and_then(of);
        let input = own(|tier| tier.input).or(self.input).unwrap_or_default();
        let output = own(|tier| tier.output).or(self.output).unwrap_or_default();
        Rates {
            input,
            cached_input: own(|tier| tier.cached_input).or(self.cached_input).unwrap_or(input),
            cache_write: own(|tier| tier.cache_write).or(self.cache_write).unwrap_or(input),
            output,
            reasoning: own(|tier| tier.reasoning).or(self.reasoning).unwrap_or(output),
        }
    }

    /// The flat price of the video that was made, if videos have one.
    fn video_price(&self, units: &Units<'_>) -> Option<UnitPrice> {
        if units.milliseconds == 0 || self.video.is_empty() {
            return None;
        }
        let seconds = units.milliseconds.saturating_add(500) / 1000;
        let key = units.video_resolution.map(|resolution| format!("{resolution}_{seconds}"));
        key.and_then(|key| named(&self.video, Some(&key))).or_else(|| self.video.values().max().copied())
    }
}

struct Rates {
    input: TokenPrice,
    cached_input: TokenPrice,
    cache_write: TokenPrice,
    output: TokenPrice,
    reasoning: TokenPrice,
}

/// The value of a name, upper and lower case alike.
fn named<T: Copy>(values: &BTreeMap<String, T>, name: Option<&str>) -> Option<T> {
    let name = name?;
    values.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// The factor of a known name; of an unknown one the dearest, at least 1.
fn dearest_of(factors: &BTreeMap<String, Factor>, name: Option<&str>) -> Factor {
    match name {
        Some(_) => named(factors, name).unwrap_or(Factor::ONE),
        None => factors.values().copied().max().unwrap_or(Factor::ONE).max(Factor::ONE),
    }
}

/// Parts of one factor.
const PART: i128 = Factor::ONE.parts() as i128;
/// Milliseconds of a second.
const MILLI: i128 = 1_000;
/// Units that a rate is for.
const PER: i128 = 1_000_000;

/// Nano-dollars × [`PER`] × [`MILLI`] × [`PART`]², or `None` when it no longer fits. That is above 10⁸ dollars
/// for one call; it counts as more than everything else.
#[derive(Clone, Copy, Debug)]
struct Sum(Option<i128>);

impl Default for Sum {
    fn default() -> Self {
        Sum(Some(0))
    }
}

impl Sum {
    fn add(&mut self, rate: i64, amount: u64, scale: i128) {
        let term = i128::from(rate).checked_mul(i128::from(amount)).and_then(|term| term.checked_mul(scale));
        self.0 = self.0.zip(term).and_then(|(sum, term)| sum.checked_add(term));
    }

    fn tokens(&mut self, rate: TokenPrice, tokens: u64) {
        self.add(rate.as_nanos_per_million(), tokens, MILLI * PART * PART);
    }

    fn units(&mut self, rate: Option<UnitPrice>, amount: u64, one: Factor, other: Factor) {
        let factor = i128::from(one.parts()) * i128::from(other.parts());
        self.add(rate.unwrap_or_default().as_nanos_per_million(), amount, MILLI * factor);
    }

    fn milliseconds(&mut self, rate: Option<UnitPrice>, milliseconds: u64, factor: Factor) {
        let rate = rate.unwrap_or_default().as_nanos_per_million();
        self.add(rate, milliseconds, i128::from(factor.parts()) * PART);
    }

    /// The one rounding.
    fn money(self, factor: Factor) -> Money {
        const ONE: i128 = PER * MILLI * PART * PART * PART;
        let parts = self.0.and_then(|sum| sum.checked_mul(i128::from(factor.parts())));
        match parts.and_then(|parts| parts.checked_add(ONE / 2)) {
            Some(parts) => Money::from_wide(parts / ONE),
            None => Money::from_wide(i128::MAX),
        }
    }
}

#[cfg(test)]
mod tests;
