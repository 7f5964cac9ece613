use proptest::prelude::*;

use super::*;
use crate::prices::testing;

fn price(json: &str) -> Price {
    serde_json::from_str(json).unwrap()
}

fn cost(json: &str, units: &Units<'_>) -> String {
    price(json).cost(units).to_string()
}

const GPT: &str = r#"{"input": 2.00, "cached_input": 0.50, "output": 8.00}"#;

#[test]
fn tokens_are_charged_by_their_kind() {
    let usage = base::Usage {
        input: 1_000_000,
        cached_input: 400_000,
        output: 500_000,
        reasoning: 100_000,
        ..base::Usage::default()
    };
    // 0.6 × 2 + 0.4 × 0.5 + 0.5 × 8; reasoning costs as output does.
    assert_eq!(cost(GPT, &Units::from(&usage)), "5.4");
    let dear = r#"{"input": 2, "output": 8, "reasoning": 10, "cache_write": 2.5, "request": 0.001}"#;
    let units = Units { cache_write: 100_000, ..Units::from(&usage) };
    // 0.5 × 2 + 0.4 × 2 + 0.1 × 2.5 + 0.4 × 8 + 0.1 × 10 + 0.001
    assert_eq!(cost(dear, &units), "6.251");
}

/// Mutation that made it fail: rounding each term in `Sum::add` instead of once in `Sum::money`.
#[test]
fn one_rounding_per_request_half_up() {
    let tiny = r#"{"input": 0.0005, "output": 0.0005}"#;
    let nanos = |input, output| price(tiny).cost(&Units { input, output, ..Units::default() }).as_nanos();
    // Half a nano-dollar a token: one is rounded up, two halves are one whole, three are rounded once.
    assert_eq!((nanos(1, 0), nanos(1, 1), nanos(2, 1)), (1, 1, 2));
    let below = r#"{"input": 0.000499999}"#;
    assert_eq!(price(below).cost(&Units { input: 1, ..Units::default() }).as_nanos(), 0);
    // A price that a float does not hold: 3 × 0.1 dollars per million is 0.3 exactly.
    let tenth = r#"{"input": 0.1}"#;
    assert_eq!(cost(tenth, &Units { input: 3_000_000, ..Units::default() }), "0.3");
}

#[test]
fn a_long_prompt_is_charged_at_its_tier_whole() {
    let tiered = r#"{"input": 1.25, "cached_input": 0.125, "output": 10,
        "tiers": [{"above": 200000, "input": 2.5, "output": 15}, {"above": 500000, "output": 20}]}"#;
    let at = |input, cached_input| {
        cost(tiered, &Units { input, cached_input, output: 1_000_000, ..Units::default() })
    };
    assert_eq!(at(200_000, 0), "10.25");
    assert_eq!(at(200_001, 0), "15.5000025");
    // Cached tokens count for the tier, and cost what the price says when the tier does not.
    assert_eq!(at(400_000, 400_000), "15.05");
    // The second tier has its own output; the rest is the price's, not the first tier's.
    assert_eq!(at(1_000_000, 0), "21.25");
}

#[test]
fn units_of_every_kind() {
    let all = r#"{"image": 0.04, "image_quality": {"hd": 2}, "image_size": {"1792x1024": 1.5},
        "second": 0.0001, "video_resolution": {"1080p": 1.5}, "character": 0.000015, "search": 0.002}"#;
    let images = Units { images: 3, ..Units::default() };
    assert_eq!(cost(all, &images), "0.12");
    assert_eq!(cost(all, &Units { image_quality: Some("HD"), ..images }), "0.24");
    let large = Units { image_quality: Some("hd"), image_size: Some("1792x1024"), ..images };
    assert_eq!(cost(all, &large), "0.36");
    assert_eq!(cost(all, &Units { image_quality: Some("unheard of"), ..images }), "0.12");
    let second = Units { milliseconds: 1_500, ..Units::default() };
    assert_eq!(cost(all, &second), "0.00015");
    assert_eq!(cost(all, &Units { video_resolution: Some("1080p"), ..second }), "0.000225");
    assert_eq!(cost(all, &Units { characters: 1_000, searches: 2, ..Units::default() }), "0.019");
    assert_eq!(cost(r#"{"request": 0.001}"#, &Units { requests: 3, ..Units::default() }), "0.003");
}

#[test]
fn videos_cost_by_resolution_and_length_and_unknown_ones_as_the_dearest() {
    let videos = r#"{"video": {"512p_6": 0.10, "768p_6": 0.28, "768p_10": 0.56}}"#;
    let video = |resolution, milliseconds| {
        cost(videos, &Units { milliseconds, video_resolution: resolution, ..Units::default() })
    };
    assert_eq!(video(Some("512P"), 6_000), "0.1");
    assert_eq!(video(Some("768p"), 5_875), "0.28");
    assert_eq!(video(Some("4k"), 6_000), "0.56");
    assert_eq!(video(None, 6_000), "0.56");
    assert_eq!(video(Some("512p"), 0), "0");
}

#[test]
fn a_batch_costs_its_share() {
    let half = r#"{"input": 2, "output": 8, "batch": 0.5}"#;
    let units = Units { input: 1_000_000, output: 1_000_000, ..Units::default() };
    assert_eq!(cost(half, &units), "10");
    assert_eq!(cost(half, &Units { batch: true, ..units }), "5");
}

#[test]
fn parts_larger_than_their_whole_are_charged() {
    let odd =
        Units { input: 0, cached_input: 1_000_000, output: 0, reasoning: 1_000_000, ..Units::default() };
    assert_eq!(cost(GPT, &odd), "8.5");
    // Nor does a total that is too small choose a cheaper tier.
    let tiered = r#"{"input": 1, "tiers": [{"above": 200000, "cached_input": 2}]}"#;
    assert_eq!(cost(tiered, &Units { input: 1, cached_input: 1_000_000, ..Units::default() }), "2");
}

#[test]
fn what_is_too_much_is_the_most_there_is() {
    let dear = r#"{"input": 9000000000, "output": 9000000000}"#;
    let all = Units {
        input: u64::MAX,
        cached_input: u64::MAX,
        cache_write: 1,
        output: u64::MAX,
        ..Units::default()
    };
    assert_eq!(price(dear).cost(&all), Money::from_wide(i128::MAX));
    let bound = Bound { body_bytes: u64::MAX, extra_input: u64::MAX, choices: u64::MAX, ..Bound::default() };
    assert_eq!(price(dear).bound(&bound), Money::from_wide(i128::MAX));
}

#[test]
fn bounds_are_what_was_said() {
    let limited = r#"{"input": 2, "cache_write": 2.5, "output": 8, "max_input_tokens": 1000, "max_output_tokens": 500}"#;
    let bound = Bound { body_bytes: 4_000, prompts: Some(1), max_output: None, ..Bound::default() };
    // 1000 × 2.5 + 500 × 8 dollars per million.
    assert_eq!(price(limited).bound(&bound).to_string(), "0.0065");
    assert_eq!(price(limited).bound(&Bound { prompts: None, ..bound }).to_string(), "0.014");
    assert_eq!(
        price(limited).bound(&Bound { max_output: Some(10), choices: 3, ..bound }).to_string(),
        "0.00274"
    );
    let unlimited = r#"{"output": 1}"#;
    assert_eq!(price(unlimited).bound(&Bound::default()).to_string(), "0.128");
    // A dearer tier that the prompt cannot reach is not reserved, one that it can is.
    let tiered = r#"{"input": 1, "tiers": [{"above": 4000, "input": 2}]}"#;
    assert_eq!(price(tiered).bound(&bound).to_string(), "0.004");
    assert_eq!(price(tiered).bound(&Bound { body_bytes: 4_001, ..bound }).to_string(), "0.008002");
}

/// A budget worth k calls must admit k: where the cost is known before, nothing more is reserved.
/// Mutation that made it fail: reserving the dearest quality although the call names one.
#[test]
fn a_fixed_cost_is_its_own_bound() {
    let units = Units::default();
    let bound = Bound { body_bytes: 5_000, ..Bound::default() };
    let fixed = price(r#"{"request": 0.001}"#);
    assert_eq!((fixed.cost(&units), fixed.bound(&bound)), (Money::nanos(1_000_000), Money::nanos(1_000_000)));
    let image = price(r#"{"image": 0.04, "image_quality": {"hd": 2}}"#);
    let standard = Bound { images: 1, image_quality: Some("standard"), ..bound };
    let cost = image.cost(&Units { images: 1, image_quality: Some("standard"), ..units });
    assert_eq!(image.bound(&standard), cost);
    assert!(image.bound(&Bound { image_quality: None, ..standard }) > cost);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Mutations that made it fail: leaving out `max` over the tiers, over `cache_write`, over `reasoning`, the
    /// dearest of the factors, and the batch factor above 1.
    #[test]
    fn no_call_within_a_bound_costs_more_than_the_bound(
        price in testing::price(),
        bound in testing::bound(),
        shares in testing::shares(),
        other in prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some("c"))],
        batch in any::<bool>(),
    ) {
        let units = testing::within(&price, &bound, &shares, other, batch);
        let (cost, most) = (price.cost(&units), price.bound(&bound));
        prop_assert!(cost <= most, "{units:?} costs {cost}, bound {most}");
        prop_assert!(cost >= Money::ZERO);
    }

    /// One rounding: a call cut in pieces costs the same but for half a nano-dollar a piece.
    #[test]
    fn pieces_cost_what_the_whole_costs(price in testing::price(), pieces in 1..50_u64, each in 0..50_000_u64) {
        let untiered = Price { tiers: Vec::new(), image_quality: BTreeMap::new(), ..price };
        prop_assume!(untiered.bound(&Bound { body_bytes: each * pieces, ..Bound::default() }) < Money::MAX);
        let units = |n| Units { input: each * n, output: each * n, requests: n, images: n, ..Units::default() };
        let whole = i128::from(untiered.cost(&units(pieces)).as_nanos());
        let apart = i128::from(untiered.cost(&units(1)).as_nanos()) * i128::from(pieces);
        prop_assume!(whole < i128::from(i64::MAX));
        prop_assert!((whole - apart).abs() <= i128::from(pieces / 2 + 1), "{whole} {apart}");
    }
}
