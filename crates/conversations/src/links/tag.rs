//! `links.tag`: adds tags. Each tag's value is its name, as the Conserver has it (`iron:iron`).

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.tag";
pub(super) const OPTIONS: &[&str] = &["tags"];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The names of the tags.
    tags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options { tags: vec!["iron".into(), "maiden".into()] }
    }
}

struct Tag {
    options: Options,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    Ok(Box::new(Tag { options: options::read(MODULE, options, OPTIONS)? }))
}

#[async_trait]
impl Link for Tag {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, _: &LinkContext) -> Result<Next, LinkError> {
        for tag in &self.options.tags {
            vcon.add_tag(tag, tag);
        }
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_adds_each_tag_once() {
        let link = make(json!({"tags": ["a", "b"]}), &testing::environment()).unwrap();
        let (mut vcon, context) = (testing::vcon(), testing::context());
        for _ in 0..2 {
            assert_eq!(link.run(&mut vcon, &context).await.unwrap(), Next::Continue);
        }
        assert_eq!(vcon.tags(), [("a".into(), "a".into()), ("b".into(), "b".into())]);
    }

    #[tokio::test]
    async fn without_options_it_has_the_defaults() {
        let link = make(Value::Null, &testing::environment()).unwrap();
        let mut vcon = testing::vcon();
        link.run(&mut vcon, &testing::context()).await.unwrap();
        assert_eq!(vcon.tag("iron").as_deref(), Some("iron"));
    }
}
