//! Whether a link runs at all: `only_if` and `sampling_rate`, which several links of the Conserver have.

use serde::Deserialize;
use serde_json::Value;

use crate::link::LinkContext;
use crate::vcon::{Object, Vcon};

use super::source;

/// The names of these options.
pub(in crate::links) const OPTIONS: &[&str] = &["only_if", "sampling_rate"];

/// The filters of a link.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(in crate::links) struct Filters {
    only_if: Option<OnlyIf>,
    /// The part of the vCons that are taken, from 0 to 1. 0 takes all, as in the Conserver.
    sampling_rate: Option<f64>,
}

/// What a vCon must hold.
#[derive(Clone, Debug, Deserialize)]
struct OnlyIf {
    section: Section,
    /// The type of the analysis or purpose of the attachment.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The same by its newer name.
    purpose: Option<String>,
    /// What its body must hold: a part of its text, or one of the tags.
    includes: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Section {
    Analysis,
    Attachments,
}

impl Default for Filters {
    fn default() -> Self {
        Filters { only_if: None, sampling_rate: Some(1.0) }
    }
}

impl Filters {
    /// Whether the link runs for this vCon; notes it when it does not.
    pub(in crate::links) fn pass(&self, vcon: &Vcon, context: &LinkContext) -> bool {
        let passes = self.only_if.as_ref().is_none_or(|only_if| only_if.holds(vcon)) && self.sampled();
        if !passes {
            context.skip();
        }
        passes
    }

    fn sampled(&self) -> bool {
        match self.sampling_rate {
            None => true,
            Some(rate) => rate == 0.0 || fastrand::f64() < rate,
        }
    }
}

impl OnlyIf {
    fn holds(&self, vcon: &Vcon) -> bool {
        let Some(wanted) = self.purpose.as_deref().or(self.kind.as_deref()) else { return false };
        let named = |object: &&Object, key: &str| object.text(key).as_deref() == Some(wanted);
        match self.section {
            Section::Analysis => {
                vcon.analysis().iter().filter(|object| named(object, "type")).any(|object| self.found(object))
            }
            Section::Attachments => vcon
                .attachments()
                .iter()
                .filter(|object| named(object, "purpose") || named(object, "type"))
                .any(|object| if wanted == "tags" { self.tagged(object) } else { self.found(object) }),
        }
    }

    fn found(&self, object: &Object) -> bool {
        match object.text("body") {
            Some(body) => body.contains(&self.includes),
            None => object.get("body").is_some_and(|body| body.get().contains(&self.includes)),
        }
    }

    fn tagged(&self, object: &Object) -> bool {
        match source::decoded(object)["body"].take() {
            Value::Array(tags) => tags.iter().any(|tag| tag.as_str() == Some(&self.includes)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;
    use crate::vcon::Analysis;

    fn filters(options: Value) -> Filters {
        serde_json::from_value(options).unwrap()
    }

    #[test]
    fn only_if_looks_into_bodies_and_tags() {
        let (mut vcon, context) = (testing::vcon(), testing::context());
        vcon.add_tag("iron", "maiden");
        vcon.add_attachment("notes", json!({"mood": "NEEDS REVIEW"}), "json");
        vcon.add_analysis(Analysis {
            kind: "summary",
            dialog: json!(0),
            vendor: "x",
            body: json!("all is well"),
            encoding: "none",
            extra: vec![],
        });
        for (section, key, name, includes, expected) in [
            ("attachments", "type", "tags", "iron:maiden", true),
            ("attachments", "purpose", "tags", "iron", false),
            ("attachments", "purpose", "notes", "NEEDS REVIEW", true),
            ("attachments", "type", "notes", "other", false),
            ("analysis", "type", "summary", "is well", true),
            ("analysis", "type", "transcript", "is well", false),
        ] {
            let only_if = json!({"only_if": {"section": section, key: name, "includes": includes}});
            assert_eq!(filters(only_if).pass(&vcon, &context), expected, "{section} {name} {includes}");
        }
        assert!(context.was_skipped());
        assert!(
            serde_json::from_value::<Filters>(json!({"only_if": {"section": "dialog", "includes": "x"}}))
                .is_err()
        );
    }

    #[test]
    fn a_sampling_rate_of_0_takes_all_and_a_tiny_one_almost_none() {
        let (vcon, context) = (testing::vcon(), testing::context());
        assert!(filters(json!({"sampling_rate": 0})).pass(&vcon, &context));
        assert!(filters(json!({"sampling_rate": null})).pass(&vcon, &context));
        assert!(!context.was_skipped());
        assert!(!filters(json!({"sampling_rate": 1e-300})).pass(&vcon, &context));
        assert!(context.was_skipped());
    }
}
