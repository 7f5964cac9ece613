//! Prices, calls and names at random, for the property tests.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::{Bound, Factor, Price, Prices, Tier, TokenPrice, UnitPrice, Units};

/// Rates as they are in the world, and now and then the largest there is.
fn rate() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..=100_000_000_000_i64, 1 => Just(0), 1 => Just(9_000_000_000_000_000_000)]
}

fn tokens() -> impl Strategy<Value = Option<TokenPrice>> {
    option::of(rate().prop_map(TokenPrice::nanos_per_million))
}

fn units() -> impl Strategy<Value = Option<UnitPrice>> {
    option::of(rate().prop_map(UnitPrice::nanos_per_million))
}

fn factor() -> impl Strategy<Value = Factor> {
    (1..=50_000_i64).prop_map(Factor::of_parts)
}

fn factors() -> impl Strategy<Value = BTreeMap<String, Factor>> {
    btree_map("[a-c]", factor(), 0..3)
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    let rates = (tokens(), tokens(), tokens(), tokens(), tokens());
    btree_map(1..300_000_u64, rates, 0..4).prop_map(|tiers| {
        let tier = |(above, (input, cached_input, cache_write, output, reasoning))| Tier {
            above,
            input,
            cached_input,
            cache_write,
            output,
            reasoning,
        };
        tiers.into_iter().map(tier).collect()
    })
}

/// A price that passes [`Price::check`].
pub(super) fn price() -> impl Strategy<Value = Price> {
    let rates = (tokens(), tokens(), tokens(), tokens(), tokens(), tiers());
    let amounts = (units(), units(), units(), units(), units());
    let videos = btree_map("[a-c]_[0-9]", rate().prop_map(UnitPrice::nanos_per_million), 0..3);
    let named = (option::of(factor()), factors(), factors(), factors(), videos);
    let limits = (option::of(1..300_000_u64), option::of(1..300_000_u64));
    let source =
        (option::of("[a-z,\"#=][a-z ,\"'ö]{0,20}[a-z\"]"), option::of(Just("2026-11-20".to_owned())));
    (rates, amounts, named, limits, source).prop_map(|(rates, amounts, named, limits, source)| Price {
        input: rates.0,
        cached_input: rates.1,
        cache_write: rates.2,
        output: rates.3,
        reasoning: rates.4,
        tiers: rates.5,
        // Something has to be priced.
        request: amounts.0.or(Some(UnitPrice::FREE)),
        image: amounts.1,
        second: amounts.2,
        character: amounts.3,
        search: amounts.4,
        batch: named.0,
        image_quality: named.1,
        image_size: named.2,
        video_resolution: named.3,
        video: named.4,
        max_input_tokens: limits.0,
        max_output_tokens: limits.1,
        source: source.0,
        as_of: source.1,
    })
}

/// Several of them, by names.
pub(super) fn prices() -> impl Strategy<Value = Prices> {
    btree_map("[a-z*][a-z0-9*-]{0,6}/[a-zA-Z0-9*ö][a-zA-Z0-9.:,\"/*-]{0,12}", price(), 0..12)
}

fn name() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![Just(None), Just(Some("a")), Just(Some("B")), Just(Some("none"))]
}

/// What is known of a call.
pub(super) fn bound() -> impl Strategy<Value = Bound<'static>> {
    let tokens = (0..400_000_u64, 0..1_000_u64, option::of(0..4_u64), option::of(0..200_000_u64), 0..5_u64);
    let amounts = (0..3_u64, 0..10_u64, 0..10_000_u64, 0..10_000_u64, 0..10_u64);
    (tokens, amounts, name(), name(), name()).prop_map(|(tokens, amounts, quality, size, resolution)| Bound {
        body_bytes: tokens.0,
        extra_input: tokens.1,
        prompts: tokens.2,
        max_output: tokens.3,
        choices: tokens.4,
        requests: amounts.0,
        images: amounts.1,
        milliseconds: amounts.2,
        characters: amounts.3,
        searches: amounts.4,
        image_quality: quality,
        image_size: size,
        video_resolution: resolution,
    })
}

/// Fractions of a bound, in thousandths, from which a call within it is made.
pub(super) fn shares() -> impl Strategy<Value = Vec<u64>> {
    vec(prop_oneof![1 => Just(0), 2 => Just(1000), 4 => 0..=1000_u64], 9)
}

/// A call within `bound`, for a price.
pub(super) fn within<'a>(
    price: &Price,
    bound: &Bound<'a>,
    shares: &[u64],
    other: Option<&'a str>,
    batch: bool,
) -> Units<'a> {
    let share = |at: usize, whole: u64| whole * shares[at] / 1000;
    let input = share(0, price.input_bound(bound));
    let cached_input = share(1, input);
    let output = share(3, price.output_bound(bound));
    Units {
        input,
        cached_input,
        cache_write: share(2, input - cached_input),
        output,
        reasoning: share(4, output),
        requests: bound.requests,
        images: share(5, bound.images),
        milliseconds: share(6, bound.milliseconds),
        characters: share(7, bound.characters),
        searches: share(8, bound.searches),
        batch,
        // What the bound does not know can turn out to be anything.
        image_quality: bound.image_quality.or(other),
        image_size: bound.image_size.or(other),
        video_resolution: bound.video_resolution.or(other),
    }
}
