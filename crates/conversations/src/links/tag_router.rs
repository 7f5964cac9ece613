//! `links.tag_router`: puts the vCon into further lists, by the names of its tags.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::Vcon;

pub(super) const MODULE: &str = "links.tag_router";
pub(super) const OPTIONS: &[&str] = &["tag_routes", "forward_original"];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// The list, or lists, of each tag.
    tag_routes: BTreeMap<String, Lists>,
    /// Whether this chain goes on.
    forward_original: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Lists {
    One(String),
    Many(Vec<String>),
}

impl Lists {
    fn names(&self) -> &[String] {
        match self {
            Lists::One(name) => std::slice::from_ref(name),
            Lists::Many(names) => names,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options { tag_routes: BTreeMap::new(), forward_original: true }
    }
}

struct TagRouter {
    options: Options,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    Ok(Box::new(TagRouter { options: options::read(MODULE, options, OPTIONS)? }))
}

#[async_trait]
impl Link for TagRouter {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let routes = &self.options.tag_routes;
        if routes.is_empty() {
            context.skip();
            return Ok(Next::Continue);
        }
        let tags: BTreeSet<String> = vcon.tags().into_iter().map(|(name, _)| name).collect();
        let lists: BTreeSet<&String> =
            tags.iter().filter_map(|tag| routes.get(tag)).flat_map(Lists::names).collect();
        for list in &lists {
            context.route(list.as_str());
        }
        context.environment.meters.count("link.tag_router.routes_matched", &context.link, lists.len() as u64);
        Ok(if self.options.forward_original { Next::Continue } else { Next::Halt })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_routes_by_the_name_of_each_tag_once() {
        let options = json!({"tag_routes": {"iron": "a", "maiden": ["a", "b"], "other": "c"}, "forward_original": false});
        let link = make(options, &testing::environment()).unwrap();
        let (mut vcon, context) = (testing::vcon(), testing::context());
        vcon.add_tag("iron", "x:y");
        vcon.add_tag("maiden", "x");
        assert_eq!(link.run(&mut vcon, &context).await.unwrap(), Next::Halt);
        assert_eq!(context.take_effects().routes, ["a", "b"]);
    }

    #[tokio::test]
    async fn without_routes_it_goes_on_whatever_is_said() {
        let link = make(json!({"forward_original": false}), &testing::environment()).unwrap();
        let context = testing::context();
        assert_eq!(link.run(&mut testing::vcon(), &context).await.unwrap(), Next::Continue);
        assert!(context.was_skipped() && context.take_effects().routes.is_empty());
    }
}
