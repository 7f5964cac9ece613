//! `links.expire_vcon`: says how long the vCon is kept once no chain needs it.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.expire_vcon";
pub(super) const OPTIONS: &[&str] = &["seconds"];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// How long, in seconds.
    seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { seconds: 86_400 }
    }
}

struct ExpireVcon {
    options: Options,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    Ok(Box::new(ExpireVcon { options: options::read(MODULE, options, OPTIONS)? }))
}

#[async_trait]
impl Link for ExpireVcon {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, _: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        context.keep(Some(Duration::from_secs(self.options.seconds)));
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_says_how_long_the_vcon_is_kept() {
        for (options, seconds) in
            [(Value::Null, 86_400), (json!({"seconds": 60}), 60), (json!({"seconds": 0}), 0)]
        {
            let (link, context) = (make(options, &testing::environment()).unwrap(), testing::context());
            assert_eq!(link.run(&mut testing::vcon(), &context).await.unwrap(), Next::Continue);
            assert_eq!(context.take_effects().keep, Some(Some(Duration::from_secs(seconds))));
        }
        assert!(make(json!({"seconds": -1}), &testing::environment()).is_err());
    }
}
