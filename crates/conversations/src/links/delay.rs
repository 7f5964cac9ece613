//! `links.delay`: waits. It holds one of the worker's places meanwhile, so it is for seconds, not for hours.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.delay";
pub(super) const OPTIONS: &[&str] = &["seconds"];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// How long, in seconds; parts of a second are allowed.
    seconds: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { seconds: 5.0 }
    }
}

struct Delay {
    time: Duration,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    let options: Options = options::read(MODULE, options, OPTIONS)?;
    let time = Duration::try_from_secs_f64(options.seconds);
    let time = time.map_err(|_| OptionsError::new("`seconds` must be a number from 0"))?;
    Ok(Box::new(Delay { time }))
}

#[async_trait]
impl Link for Delay {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, _: &mut Vcon, _: &LinkContext) -> Result<Next, LinkError> {
        tokio::time::sleep(self.time).await;
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_waits_no_less_than_it_should() {
        let link = make(json!({"seconds": 0.02}), &testing::environment()).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(link.run(&mut testing::vcon(), &testing::context()).await.unwrap(), Next::Continue);
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(make(json!({"seconds": -0.5}), &testing::environment()).is_err());
        assert!(make(Value::Null, &testing::environment()).is_ok());
    }
}
