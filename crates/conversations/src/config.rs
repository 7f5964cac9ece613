//! Chains, links and storages as the Conserver's `config.yml` has them.

mod mask;
mod ordered;

use std::fmt;
use std::marker::PhantomData;

use base::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

pub use mask::{MASKED, mask, unmask};
pub use ordered::Ordered;

/// The sections of a Conserver's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sections {
    /// Links by name: what a chain can do with a vCon.
    pub links: Entries<Module>,
    /// Storages by name: where vCons are kept at the end of a chain.
    pub storages: Entries<Module>,
    /// Chains by name.
    pub chains: Entries<ChainSection>,
    /// For external partners: the keys of each ingress list, one or several.
    pub ingress_auth: Entries<IngressAuth>,
    /// Other Conservers whose egress lists are followed.
    pub followers: Entries<Follower>,
    /// What every step of every chain is told to.
    pub tracers: Entries<Module>,
    /// Python modules that the Conserver imports. They have no meaning here.
    pub imports: Entries<Anything>,
}

/// A map in the order of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<T>(pub Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Entries(Vec::new())
    }
}

impl<T> Entries<T> {
    /// The entry of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, entry)| entry)
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, entry) in &self.0 {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Visit<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }

            fn visit_unit<E>(self) -> Result<Entries<T>, E> {
                Ok(Entries::default())
            }

            fn visit_none<E>(self) -> Result<Entries<T>, E> {
                Ok(Entries::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entries<T>, D::Error> {
                deserializer.deserialize_map(self)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        // A section that is there and empty is as none: `tracers:` in the Conserver's own example.
        deserializer.deserialize_option(Visit(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Entries_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        std::collections::BTreeMap::<String, T>::json_schema(generator)
    }
}

/// A link, storage or tracer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Module {
    /// What it is: `links.tag`, `storage.s3`, …
    pub module: String,
    /// The Python package that the Conserver would install. It has no meaning here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pip_name: Option<String>,
    /// Its options; without any it has its defaults.
    pub options: Anything,
    /// For a link: only for vCons of which this holds; the others pass it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// For a link: how long one run may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// For a link or storage: how often it is tried for one vCon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

/// What must hold of a vCon; all of what is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// It has this tag: `name`, or `name:value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// It has an analysis of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<String>,
    /// It has an attachment of this purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<String>,
    /// It has a dialog of this type, as `recording`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialog: Option<String>,
    /// This does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Anything")]
    pub not: Option<Box<Condition>>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChainSection {
    /// The links in their order: names, or `{name: {options}}` with options of this place's own.
    pub links: Vec<LinkRef>,
    /// The lists that it takes vCons from.
    pub ingress_lists: Vec<String>,
    /// The lists that it puts them into at the end.
    pub egress_lists: Vec<String>,
    /// The storages that keep them before that.
    pub storages: Vec<String>,
    /// Whether it works at all: `0`, `1`, `false`, `true`.
    #[schemars(with = "Value")]
    pub enabled: Anything,
    /// How long the links may take together for one vCon, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// The tracers of this chain, beside the global ones. Names of `tracers`.
    pub tracers: Vec<String>,
    /// The virtual key that its model calls run under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Default for ChainSection {
    fn default() -> Self {
        ChainSection {
            links: Vec::new(),
            ingress_lists: Vec::new(),
            egress_lists: Vec::new(),
            storages: Vec::new(),
            enabled: Anything(Value::Bool(true)),
            timeout: None,
            tracers: Vec::new(),
            key: None,
        }
    }
}

impl ChainSection {
    /// Whether it works at all.
    pub fn is_enabled(&self) -> bool {
        match &self.enabled.0 {
            Value::Bool(enabled) => *enabled,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => {
                !matches!(text.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off")
            }
            _ => true,
        }
    }
}

/// A link in a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkRef {
    /// The name under `links`.
    pub name: String,
    /// Options of this place, over those of the link.
    pub options: Anything,
}

impl Serialize for LinkRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.options.0.is_null() {
            return serializer.serialize_str(&self.name);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.name, &self.options)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for LinkRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Ordered::deserialize(deserializer)? {
            Ordered::Text(name) => Ok(LinkRef { name, options: Anything::default() }),
            Ordered::Map(mut entries) if entries.len() == 1 => {
                let (name, options) = entries.remove(0);
                let options = serde_json::to_value(options).unwrap_or_default();
                Ok(LinkRef { name, options: Anything(options) })
            }
            _ => Err(serde::de::Error::custom("a link is a name, or one name with its options")),
        }
    }
}

impl JsonSchema for LinkRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LinkRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]
        })
    }
}

/// Any value. Where it is shown, what may be a secret is hidden.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Anything(pub Value);

impl Serialize for Anything {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        mask::masked(&self.0).serialize(serializer)
    }
}

impl JsonSchema for Anything {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Anything".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!(true)
    }
}

/// The keys of an ingress list.
#[derive(Clone, Debug, PartialEq)]
pub enum IngressAuth {
    /// Any of these opens it.
    Keys(Vec<Secret>),
    /// What is written there is neither a key nor a list of keys.
    Wrong,
}

impl<'de> Deserialize<'de> for IngressAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |value: Ordered| match value {
            Ordered::Text(text) => Some(Secret::from(text)),
            _ => None,
        };
        Ok(match Ordered::deserialize(deserializer)? {
            Ordered::Text(key) => IngressAuth::Keys(vec![Secret::from(key)]),
            Ordered::List(keys) => match keys.into_iter().map(text).collect() {
                Some(keys) => IngressAuth::Keys(keys),
                None => IngressAuth::Wrong,
            },
            _ => IngressAuth::Wrong,
        })
    }
}

impl Serialize for IngressAuth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            IngressAuth::Keys(keys) => keys.serialize(serializer),
            IngressAuth::Wrong => serializer.serialize_unit(),
        }
    }
}

impl JsonSchema for IngressAuth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IngressAuth".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        })
    }
}

/// Another Conserver whose egress list is followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Follower {
    /// Its address, as `https://conserver.example.com/api`.
    pub url: String,
    /// Its list that is taken from.
    pub egress_list: String,
    /// Our list that the vCons are put into.
    pub follower_ingress_list: String,
    /// Its API token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<Secret>,
    /// How often it is asked, in seconds.
    pub pulling_interval: f64,
    /// How many vCons are taken at once.
    pub fetch_vcon_limit: u32,
}

impl Default for Follower {
    fn default() -> Self {
        Follower {
            url: String::new(),
            egress_list: String::new(),
            follower_ingress_list: String::new(),
            auth_token: None,
            pulling_interval: 60.0,
            fetch_vcon_limit: 1,
        }
    }
}

impl Sections {
    /// Reads a Conserver's file. `${NAME}` in a text is replaced where `variable` knows the name, and stays where
    /// it does not.
    pub fn from_yaml(
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(Sections, Ordered), String> {
        let written = Ordered::from_yaml(text)?;
        let expanded = expand(written.clone(), &variable);
        let sections = Sections::deserialize(expanded).map_err(|error| error.to_string())?;
        Ok((sections, written))
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        *self == Sections::default()
    }
}

fn expand(value: Ordered, variable: &dyn Fn(&str) -> Option<String>) -> Ordered {
    match value {
        Ordered::Text(text) if text.contains("${") => Ordered::Text(expand_text(&text, variable)),
        Ordered::List(items) => Ordered::List(items.into_iter().map(|item| expand(item, variable)).collect()),
        Ordered::Map(entries) => {
            Ordered::Map(entries.into_iter().map(|(key, value)| (key, expand(value, variable))).collect())
        }
        other => other,
    }
}

fn expand_text(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut done, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("${") {
        done.push_str(before);
        let named = after.split_once('}').and_then(|(name, after)| Some((variable(name)?, after)));
        match named {
            Some((value, after)) => {
                done.push_str(&value);
                rest = after;
            }
            None => {
                done.push_str("${");
                rest = after;
            }
        }
    }
    done + rest
}

#[cfg(test)]
mod tests;
