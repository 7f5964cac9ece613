//! Roles: names for permissions.
//!
//! Three are built in. Settings and the API add others and may replace `viewer` and `caller`, which the
//! Paladin guide does with its own narrower `viewer`; whoever replaces one is told, because a role that
//! means less (or more) than its page says must not be found out by accident. `admin` always means everything:
//! a weaker one would lock people out of the API that could put it right.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::permissions::{Pattern, Permissions};
use super::settings::OneOrMany;

/// The roles that are always there.
const BUILT_IN: &[(&str, &str)] = &[("admin", "*"), ("viewer", "*:read"), ("caller", "models:call")];
/// The longest name of a role.
const MAX_NAME: usize = 64;

/// `roles:` by name, or the guide's list of maps (`- admin: ["*"]`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoleSettings(pub BTreeMap<String, Vec<Pattern>>);

/// `rbac:`, the Paladin guide's section around `roles`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RbacSettings {
    /// As `roles:` itself. A role stands in one of the two.
    pub roles: RoleSettings,
}

/// Why a role cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// `admin` with less than everything.
    #[error(
        "the role `admin` always has every permission: leave it out, write `[\"*\"]`, or give the narrower role another name"
    )]
    NarrowAdmin,
    /// In two places.
    #[error("the role `{0}` is written in two places: keep one")]
    Twice(String),
    /// Not a name.
    #[error(
        "a role's name has 1 to {MAX_NAME} letters, digits, `-` or `_`, and begins with a letter or digit"
    )]
    Name,
}

/// Every wrong role of the settings, each with its path.
pub type RoleErrors = Vec<(String, RoleError)>;

impl RoleError {
    /// Seen from the caller of the API.
    pub fn kind(&self) -> base::Kind {
        base::Kind::Invalid
    }
}

/// All roles in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Roles {
    by_name: BTreeMap<String, Permissions>,
    added: std::collections::BTreeSet<String>,
}

impl Default for Roles {
    fn default() -> Self {
        Roles::built_in()
    }
}

impl Roles {
    /// The built-in roles: `admin`, `viewer`, `caller`.
    pub fn built_in() -> Self {
        let role = |(name, pattern): &(&str, &str)| {
            Pattern::parse(pattern).ok().map(|pattern| ((*name).to_owned(), Permissions::new([pattern])))
        };
        Roles { by_name: BUILT_IN.iter().filter_map(role).collect(), added: Default::default() }
    }

    /// The built-in roles and those of the settings (`roles:` and `rbac.roles`), with a sentence for each
    /// built-in role that was replaced. The errors carry the path of the role they are about.
    pub fn of_settings(roles: &RoleSettings, rbac: &RbacSettings) -> Result<(Self, Vec<String>), RoleErrors> {
        let mut all = Roles::built_in();
        let (mut notes, mut errors) = (Vec::new(), Vec::new());
        for (place, section) in [("roles", roles), ("rbac.roles", &rbac.roles)] {
            for (name, patterns) in &section.0 {
                match all.add(name, Permissions::new(patterns.iter().cloned())) {
                    Ok(note) => notes.extend(note),
                    Err(error) => errors.push((format!("{place}.{name}"), error)),
                }
            }
        }
        if errors.is_empty() { Ok((all, notes)) } else { Err(errors) }
    }

    /// Adds a role. Returns a sentence for the log when it replaces a built-in one.
    pub fn add(&mut self, name: &str, permissions: Permissions) -> Result<Option<String>, RoleError> {
        check_name(name)?;
        if name == "admin" && permissions != Permissions::all() {
            return Err(RoleError::NarrowAdmin);
        }
        if !self.added.insert(name.to_owned()) {
            return Err(RoleError::Twice(name.to_owned()));
        }
        let note = self.by_name.get(name).filter(|built_in| **built_in != permissions).map(|built_in| {
            format!("the role `{name}` is [{permissions}] and replaces the built-in one, [{built_in}]")
        });
        self.by_name.insert(name.to_owned(), permissions);
        Ok(note)
    }

    /// What a role allows.
    pub fn get(&self, name: &str) -> Option<&Permissions> {
        self.by_name.get(name)
    }

    /// Whether the role was built in and is as it was.
    pub fn is_built_in(&self, name: &str) -> bool {
        self.by_name.contains_key(name) && !self.added.contains(name)
    }

    /// Every role, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Permissions)> {
        self.by_name.iter().map(|(name, permissions)| (name.as_str(), permissions))
    }
}

fn check_name(name: &str) -> Result<(), RoleError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = (1..=MAX_NAME).contains(&name.len());
    let good = fits && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain);
    if good { Ok(()) } else { Err(RoleError::Name) }
}

impl Serialize for RoleSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RoleSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either).map(RoleSettings)
    }
}

type ByName = BTreeMap<String, Vec<Pattern>>;

/// A map of roles, or a list of such maps.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = ByName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of roles, as `admin: [\"*\"]`, or a list of such maps")
    }

    fn visit_unit<E: de::Error>(self) -> Result<ByName, E> {
        Ok(ByName::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ByName, A::Error> {
        let mut roles = ByName::new();
        while let Some((name, patterns)) = map.next_entry::<String, OneOrMany<Pattern>>()? {
            insert(&mut roles, name, patterns.0)?;
        }
        Ok(roles)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ByName, A::Error> {
        let mut roles = ByName::new();
        while let Some(item) = list.next_element::<Single>()? {
            for (name, patterns) in item.0 {
                insert(&mut roles, name, patterns)?;
            }
        }
        Ok(roles)
    }
}

/// One item of the guide's list.
struct Single(ByName);

impl<'de> Deserialize<'de> for Single {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Either).map(Single)
    }
}

fn insert<E: de::Error>(roles: &mut ByName, name: String, patterns: Vec<Pattern>) -> Result<(), E> {
    check_name(&name).map_err(E::custom)?;
    if roles.contains_key(&name) {
        return Err(E::custom(RoleError::Twice(name)));
    }
    roles.insert(name, patterns);
    Ok(())
}

impl JsonSchema for RoleSettings {
    fn schema_name() -> Cow<'static, str> {
        "Roles".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let patterns = generator.subschema_for::<OneOrMany<Pattern>>();
        let map = json_schema!({ "type": "object", "additionalProperties": patterns });
        json_schema!({
            "description": "Roles and their permissions, as a map or as a list of maps.",
            "anyOf": [map, { "type": "array", "items": map }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<RoleSettings, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_a_map_and_a_list_of_maps() {
        let map = read(r#"{"ops": ["keys:*", "usage:read"], "reader": "*:read"}"#).unwrap();
        let list = read(r#"[{"ops": ["keys:*", "usage:read"]}, {"reader": ["*:read"]}]"#).unwrap();
        assert_eq!(map, list);
        assert_eq!(
            serde_json::to_string(&map).unwrap(),
            r#"{"ops":["keys:*","usage:read"],"reader":["*:read"]}"#
        );
        for (bad, expected) in [
            (r#"[{"a": []}, {"a": ["*"]}]"#, "written in two places"),
            (r#"{"a b": ["*"]}"#, "a role's name"),
            (r#"{"a": ["keys:wirte"]}"#, "no action of `keys`"),
            (r#""admin""#, "a map of roles"),
            (r#"["admin"]"#, "a map of roles"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn a_built_in_role_is_not_replaced_silently_and_admin_never() {
        let settings = read(r#"{"viewer": ["paladin:read"], "ops": ["keys:*"], "admin": "*"}"#).unwrap();
        let (roles, notes) = Roles::of_settings(&settings, &RbacSettings::default()).unwrap();
        assert_eq!(notes, ["the role `viewer` is [paladin:read] and replaces the built-in one, [*:read]"]);
        assert!(!roles.get("viewer").unwrap().allows("keys:read"));
        assert!(roles.get("caller").unwrap().allows("models:call"));
        assert!(roles.is_built_in("caller") && !roles.is_built_in("viewer") && !roles.is_built_in("none"));

        let narrow = read(r#"{"admin": ["keys:*"]}"#).unwrap();
        let errors = Roles::of_settings(&narrow, &RbacSettings::default()).unwrap_err();
        assert_eq!(errors, [("roles.admin".to_owned(), RoleError::NarrowAdmin)]);

        let both = RbacSettings { roles: read(r#"{"ops": ["*"]}"#).unwrap() };
        let errors = Roles::of_settings(&settings, &both).unwrap_err();
        assert_eq!(errors, [("rbac.roles.ops".to_owned(), RoleError::Twice("ops".into()))]);
    }
}
