//! The chains in force, with their links and storages made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::config::{Anything, Condition, IngressAuth, Module, Ordered, Sections};
use crate::environment::Environment;
use crate::link::Link;
use crate::settings::ConversationSettings;
use crate::storage::Storage;
use crate::vcon::{Object, Vcon};
use crate::{links, storages};

/// What is in force. Made whole, and swapped whole.
pub struct Plan {
    /// The chains that work, in their order.
    pub chains: Vec<Arc<Chain>>,
    /// The chain of each ingress list.
    pub by_list: HashMap<Arc<str>, Arc<Chain>>,
    /// The ingress lists, the most urgent first.
    pub lists: Vec<Arc<str>>,
    /// All storages, in their order.
    pub storages: Vec<Store>,
    /// The sections it was made of.
    pub sections: Sections,
    /// The file as it was written, where there is one.
    pub written: Option<Ordered>,
    /// What is wrong, in sentences; what it is about does not work.
    pub problems: Vec<String>,
}

/// A chain.
pub struct Chain {
    /// Its name.
    pub name: Arc<str>,
    /// Its links.
    pub steps: Vec<Step>,
    /// Where vCons go at the end.
    pub egress: Vec<String>,
    /// What keeps them before that.
    pub storages: Vec<Store>,
    /// How long the links may take together.
    pub timeout: Option<Duration>,
    /// The virtual key of its model calls.
    pub key: Option<Arc<str>>,
}

/// A link in its place.
pub struct Step {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub link: Box<dyn Link>,
    /// For which vCons.
    pub when: Option<Condition>,
    /// How long one run may take.
    pub timeout: Duration,
    /// How often it is tried for one vCon.
    pub attempts: u32,
}

/// A storage by its name.
#[derive(Clone)]
pub struct Store {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub storage: Arc<dyn Storage>,
    /// How often it is tried for one vCon.
    pub attempts: u32,
}

impl Plan {
    /// Makes what the sections say. What cannot be made is told in `problems`; its vCons wait in their lists.
    pub fn new(
        sections: Sections,
        written: Option<Ordered>,
        settings: &ConversationSettings,
        environment: &Environment,
    ) -> Plan {
        let mut problems = Vec::new();
        let mut storages = Vec::new();
        for (name, module) in sections.storages.iter() {
            match storages::make(&module.module, module.options.0.clone(), environment) {
                Ok(storage) => storages.push(Store {
                    name: name.into(),
                    storage: Arc::from(storage),
                    attempts: module.attempts.unwrap_or(settings.attempts).max(1),
                }),
                Err(error) => problems.push(format!("storages.{name}: {error}")),
            }
        }
        for (name, _) in sections.tracers.iter() {
            problems.push(format!(
                "tracers.{name}: there is no such tracer here; steps are told in spans and metrics"
            ));
        }
        let mut plan = Plan {
            chains: Vec::new(),
            by_list: HashMap::new(),
            lists: Vec::new(),
            storages,
            written,
            problems,
            sections: Sections::default(),
        };
        for (name, section) in sections.chains.iter().filter(|(_, section)| section.is_enabled()) {
            let mut wrong = Vec::new();
            let mut steps = Vec::new();
            for reference in &section.links {
                let Some(module) = sections.links.get(&reference.name) else {
                    wrong.push(format!("chains.{name}: there is no link `{}` under `links`", reference.name));
                    continue;
                };
                match step(&reference.name, module, &reference.options, settings, environment) {
                    Ok(step) => steps.push(step),
                    Err(error) => wrong.push(format!("links.{}: {error}", reference.name)),
                }
            }
            let mut chosen = Vec::new();
            for wanted in &section.storages {
                match plan.storages.iter().find(|store| *store.name == **wanted) {
                    Some(store) => chosen.push(store.clone()),
                    None => wrong.push(format!("chains.{name}: there is no storage `{wanted}` that works")),
                }
            }
            if !wrong.is_empty() {
                plan.problems.extend(wrong);
                plan.problems.push(format!("chains.{name}: it does not work; its vCons wait in their lists"));
                continue;
            }
            let chain = Arc::new(Chain {
                name: name.into(),
                steps,
                egress: section.egress_lists.clone(),
                storages: chosen,
                timeout: section.timeout.and_then(seconds),
                key: section.key.as_deref().or(settings.key.as_deref()).map(Arc::from),
            });
            for list in &section.ingress_lists {
                let list: Arc<str> = list.as_str().into();
                if let Some(before) = plan.by_list.insert(Arc::clone(&list), Arc::clone(&chain)) {
                    let text = format!(
                        "chains {} and {name} share the list `{list}`: the last one has it",
                        before.name
                    );
                    tracing::warn!(list = &*list, "{text}");
                } else {
                    plan.lists.push(list);
                }
            }
            plan.chains.push(chain);
        }
        let unique: BTreeSet<String> = plan.problems.drain(..).collect();
        plan.problems = unique.into_iter().collect();
        plan.sections = sections;
        plan
    }

    /// The keys of an external partner's list.
    pub fn ingress_auth(&self, list: &str) -> Option<&IngressAuth> {
        self.sections.ingress_auth.get(list)
    }
}

/// Seconds of a file, where they make sense.
pub(crate) fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero())
}

fn step(
    name: &str,
    module: &Module,
    own: &Anything,
    settings: &ConversationSettings,
    environment: &Environment,
) -> Result<Step, crate::OptionsError> {
    let options = laid_over(module.options.0.clone(), own.0.clone());
    Ok(Step {
        name: name.into(),
        link: links::make(&module.module, options, environment)?,
        when: module.when.clone(),
        timeout: module.timeout.and_then(seconds).unwrap_or(settings.link_timeout.0),
        attempts: module.attempts.unwrap_or(settings.attempts).max(1),
    })
}

fn laid_over(base: Value, own: Value) -> Value {
    match (base, own) {
        (base, Value::Null) => base,
        (Value::Object(mut base), Value::Object(own)) => {
            base.extend(own);
            Value::Object(base)
        }
        (_, own) => own,
    }
}

impl Condition {
    /// Whether all of it holds.
    pub fn holds(&self, vcon: &Vcon) -> bool {
        let is = |objects: &[Object], keys: &[&str], wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| {
                objects
                    .iter()
                    .any(|object| keys.iter().any(|key| object.text(key).as_deref() == Some(wanted)))
            })
        };
        let tag = self.tag.as_deref().is_none_or(|wanted| match wanted.split_once(':') {
            Some((name, value)) => vcon.tags().iter().any(|(n, v)| n == name && v == value),
            None => vcon.tag(wanted).is_some(),
        });
        tag && is(vcon.analysis(), &["type"], &self.analysis)
            && is(vcon.attachments(), &["purpose", "type"], &self.attachment)
            && is(vcon.dialog(), &["type"], &self.dialog)
            && self.not.as_ref().is_none_or(|not| !not.holds(vcon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn plan(file: &str) -> Plan {
        let (sections, _) = Sections::from_yaml(file, |_| None).unwrap();
        Plan::new(sections, None, &ConversationSettings::default(), &testing::environment())
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_told_and_the_rest_works() {
        let plan = plan(
            "links: {tag: {module: links.tag}, odd: {module: links.odd}}\n\
             chains:\n  b: {links: [tag, {tag: {tags: [x]}}], ingress_lists: [in_b]}\n  \
             a: {links: [odd], ingress_lists: [in_a]}\n  off: {links: [nothing], ingress_lists: [c], enabled: 0}\n  \
             last: {links: [], ingress_lists: [in_b, d]}",
        );
        let lists: Vec<&str> = plan.lists.iter().map(|list| &**list).collect();
        assert_eq!(lists, ["in_b", "d"]);
        assert_eq!(&*plan.by_list["in_b"].name, "last", "the last of two has the list");
        assert_eq!(plan.problems.len(), 2, "{:?}", plan.problems);
        assert!(plan.problems.iter().any(|text| text.contains("there is no link module `links.odd`")));
    }

    #[test]
    fn a_condition_is_about_what_a_vcon_has() {
        let mut vcon = testing::vcon();
        vcon.add_tag("a", "b");
        let condition = |tag: &str, dialog: &str| Condition {
            tag: Some(tag.into()),
            dialog: Some(dialog.into()),
            ..Condition::default()
        };
        assert!(condition("a", "text").holds(&vcon) && condition("a:b", "text").holds(&vcon));
        assert!(!condition("a:c", "text").holds(&vcon) && !condition("a", "recording").holds(&vcon));
        let not = Condition { not: Some(Box::new(condition("a", "text"))), ..Condition::default() };
        assert!(!not.holds(&vcon) && Condition::default().holds(&vcon));
    }
}
