//! `links.sampler`: keeps some of the vCons and halts the others.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ring::digest;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.sampler";
pub(super) const OPTIONS: &[&str] = &["method", "value", "seed"];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// How it is chosen.
    method: Method,
    /// What the method needs: percent, seconds, a divisor.
    value: f64,
    /// Makes the choice that is by chance the same for the same vCon, now and on every replica.
    seed: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// So many of a hundred, by chance.
    Percentage,
    /// As many as come within a second of events that are this many seconds apart on average.
    Rate,
    /// One of so many, by the hash of the uuid: always the same ones.
    Modulo,
    /// All that come in a second that this number divides.
    TimeBased,
}

impl Default for Options {
    fn default() -> Self {
        Options { method: Method::Percentage, value: 50.0, seed: None }
    }
}

struct Sampler {
    options: Options,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let wrong = match options.method {
        Method::Percentage => !options.value.is_finite(),
        Method::Rate => !(options.value.is_finite() && options.value > 0.0),
        Method::Modulo | Method::TimeBased => !(1.0..=4_294_967_295.0).contains(&options.value),
    };
    if wrong {
        return Err(OptionsError::new(
            "`value` must be a number above 0, and a whole one for modulo and time_based",
        ));
    }
    Ok(Box::new(Sampler { options }))
}

impl Options {
    fn keeps(&self, uuid: &str, seconds: u64) -> bool {
        match self.method {
            Method::Percentage => self.chance(uuid) * 100.0 <= self.value,
            // The time to the next event is distributed exponentially, with this mean; kept is what takes at most 1 s.
            Method::Rate => -(1.0 - self.chance(uuid)).ln() * self.value <= 1.0,
            Method::Modulo => leading(&digest::digest(&digest::SHA256, uuid.as_bytes()), 4)
                .is_multiple_of(self.value as u64),
            Method::TimeBased => seconds.is_multiple_of(self.value as u64),
        }
    }

    /// From 0 up to, and without, 1.
    fn chance(&self, uuid: &str) -> f64 {
        let Some(seed) = &self.seed else { return fastrand::f64() };
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(seed.to_string().as_bytes());
        hash.update(b"\0");
        hash.update(uuid.as_bytes());
        fastrand::Rng::with_seed(leading(&hash.finish(), 8)).f64()
    }
}

/// The first bytes of a hash as a number.
fn leading(hash: &digest::Digest, bytes: usize) -> u64 {
    hash.as_ref().iter().take(bytes).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[async_trait]
impl Link for Sampler {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let meters = &context.environment.meters;
        match self.options.keeps(vcon.uuid(), seconds) {
            true => {
                meters.count("link.sampler.sampled_in", &context.link, 1);
                Ok(Next::Continue)
            }
            false => {
                meters.count("link.sampler.sampled_out", &context.link, 1);
                Ok(Next::Halt)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn options(method: Method, value: f64, seed: Option<Value>) -> Options {
        Options { method, value, seed }
    }

    /// How many of ten thousand are kept.
    fn kept(options: &Options) -> usize {
        (0..10_000).filter(|n| options.keeps(&format!("018e3d10-0c1f-8d8c-9b1a-{n:012x}"), 0)).count()
    }

    #[test]
    fn it_keeps_as_many_as_it_should() {
        // With a seed the counts are the same at every run of the test.
        let seed = Some(json!(7));
        for (method, value, expected) in [
            (Method::Percentage, 50.0, 5_000),
            (Method::Percentage, 10.0, 1_000),
            (Method::Percentage, 0.0, 0),
            (Method::Percentage, 100.0, 10_000),
            // 1 − e^(−1/value)
            (Method::Rate, 1.0, 6_321),
            (Method::Rate, 10.0, 952),
            (Method::Modulo, 4.0, 2_500),
            (Method::Modulo, 1.0, 10_000),
        ] {
            let kept = kept(&options(method, value, seed.clone()));
            assert!(kept.abs_diff(expected) <= 150, "{method:?} {value}: {kept}");
        }
    }

    #[test]
    fn modulo_is_by_the_first_eight_digits_of_the_sha_256_of_the_uuid() {
        // sha256("018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11") begins with these digits.
        let uuid = "018e3d10-0c1f-8d8c-9b1a-5f9b1c6f0a11";
        let hash = hex::encode(digest::digest(&digest::SHA256, uuid.as_bytes()));
        let number = u64::from_str_radix(&hash[..8], 16).unwrap();
        for divisor in 1..200u64 {
            let kept = options(Method::Modulo, divisor as f64, None).keeps(uuid, 0);
            assert_eq!(kept, number.is_multiple_of(divisor), "{divisor}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_seed_decides_the_same_way_each_time(uuid in "[0-9a-f]{32}", seed in any::<i64>(), value in 0.0f64..100.0) {
            let options = options(Method::Percentage, value, Some(json!(seed)));
            prop_assert_eq!(options.keeps(&uuid, 0), options.keeps(&uuid, 9));
        }

        #[test]
        fn a_higher_percentage_keeps_what_a_lower_one_does(uuid in "[0-9a-f]{32}", a in 0.0f64..100.0, b in 0.0f64..100.0) {
            let (low, high) = (a.min(b), a.max(b));
            let keeps = |value| options(Method::Percentage, value, Some(json!("s"))).keeps(&uuid, 0);
            prop_assert!(!keeps(low) || keeps(high));
        }

        #[test]
        fn time_based_keeps_the_seconds_that_it_divides(seconds in any::<u64>(), value in 1u32..10_000) {
            let kept = options(Method::TimeBased, f64::from(value), None).keeps("x", seconds);
            prop_assert_eq!(kept, seconds.is_multiple_of(u64::from(value)));
        }
    }

    #[tokio::test]
    async fn it_halts_what_it_does_not_keep_and_refuses_what_cannot_be() {
        let environment = testing::environment();
        for (value, next) in [(100.5, Next::Continue), (-1.0, Next::Halt)] {
            let link = make(json!({"value": value}), &environment).unwrap();
            assert_eq!(link.run(&mut testing::vcon(), &testing::context()).await.unwrap(), next);
        }
        for wrong in [
            json!({"method": "modulo", "value": 0}),
            json!({"method": "rate", "value": 0}),
            json!({"method": "x"}),
        ] {
            assert!(make(wrong.clone(), &environment).is_err(), "{wrong}");
        }
    }
}
