//! The sections of the settings of which each entry may also be a document of the Store.

use std::collections::BTreeMap;

use access::identity::{Pattern, Permissions, Roles};
use access::prices::{Price, check_name};
use access::sealing::{Binding, Sealer, is_sealed};
use base::Secret;
use gateway::settings::{ModelSettings, ProviderSettings};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check;
use super::file::FileConfiguration;
use super::merge::InForce;
use crate::admin::NameField;

/// A field that is wrong, and what about it.
pub(crate) type Wrong = (String, String);

/// Why a document cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    /// There is nothing to seal its secrets with.
    #[error(
        "there is no master key to seal secrets with: set TRUNKLINE_ADMIN_KEY, the same for every replica"
    )]
    NoSealer,
    /// Sealing or opening failed.
    #[error("its secrets: {0}")]
    Sealing(#[from] access::sealing::SealingError),
    /// It is not what this version reads.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl NameField for ProviderSettings {}
impl NameField for ModelSettings {}
impl NameField for RoleSection {}
impl NameField for Price {
    const NAME_FIELD: &'static str = "pattern";
}

/// An entry of a section, as `providers.openai`.
pub(crate) trait Section:
    NameField + Clone + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// The kind of its documents.
    const KIND: &'static str;
    /// The name of the section, in paths too.
    const SECTION: &'static str;
    /// What is called there where it is from.
    const ORIGIN: &'static str = "source";

    /// Whether lists show an entry also where a stronger one of the same name counts.
    const LISTS_HIDDEN: bool = false;

    /// Those that every Trunkline has.
    fn built_in() -> Vec<(String, Self)> {
        Vec::new()
    }

    /// One of them.
    fn built_in_named(name: &str) -> Option<Self> {
        Self::built_in().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// What it lets others do.
    fn gives(&self) -> Option<Permissions> {
        None
    }

    /// Those of the settings file.
    fn in_file(file: &FileConfiguration) -> BTreeMap<String, Self>;

    /// Whether it can be put in force beside what is.
    fn check(&self, name: &str, now: &InForce) -> Result<(), Wrong>;

    /// What would break without it, one sentence.
    fn needed_by(_name: &str, _now: &InForce) -> Option<String> {
        None
    }

    /// As it is kept.
    fn write(&self, _name: &str, _sealer: Option<&Sealer>) -> Result<Value, DocumentError> {
        Ok(serde_json::to_value(self)?)
    }

    /// As it was kept.
    fn read(_name: &str, body: &str, _sealer: Option<&Sealer>) -> Result<Self, DocumentError> {
        Ok(serde_json::from_str(body)?)
    }

    /// All of it as JSON, secrets included: for editing, never for an answer.
    fn plain(&self) -> Result<Value, DocumentError> {
        Ok(serde_json::to_value(self)?)
    }
}

/// A role: what it may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleSection {
    /// As `keys:read`, `usage:*`, `*:read`, `*`.
    #[schemars(length(max = 200))]
    pub(crate) permissions: Vec<Pattern>,
}

impl RoleSection {
    pub(crate) fn permissions(&self) -> Permissions {
        Permissions::new(self.permissions.iter().cloned())
    }
}

impl Section for ProviderSettings {
    const KIND: &'static str = "provider";
    const SECTION: &'static str = "providers";

    fn in_file(file: &FileConfiguration) -> BTreeMap<String, Self> {
        file.providers.clone()
    }

    fn check(&self, name: &str, _: &InForce) -> Result<(), Wrong> {
        check::provider(name, self)
    }

    fn needed_by(name: &str, now: &InForce) -> Option<String> {
        let leads_there = |model: &ModelSettings| model.targets.iter().any(|target| target.provider == name);
        let falls_there = |model: &ModelSettings| {
            let to = model.context_fallback.as_deref().and_then(|to| to.split_once('/'));
            to.is_some_and(|(provider, _)| provider == name)
        };
        let needs = |(_, model): &(&String, &ModelSettings)| leads_there(model) || falls_there(model);
        let (alias, _) = now.gateway.models.iter().find(needs)?;
        Some(format!("The model `{alias}` leads to the provider `{name}`: change or remove the model first."))
    }

    fn write(&self, name: &str, sealer: Option<&Sealer>) -> Result<Value, DocumentError> {
        let mut value = serde_json::to_value(self)?;
        let seal = |field: &str, secret: &Secret| {
            let binding = Binding { kind: Self::KIND, name, field };
            Ok::<_, DocumentError>(sealer.ok_or(DocumentError::NoSealer)?.seal(&binding, secret)?)
        };
        self.put_secrets(&mut value, seal)?;
        Ok(value)
    }

    fn read(name: &str, body: &str, sealer: Option<&Sealer>) -> Result<Self, DocumentError> {
        let mut settings: ProviderSettings = serde_json::from_str(body)?;
        let open = |field: &str, secret: &Secret| {
            if !is_sealed(secret.expose()) {
                return Ok::<_, DocumentError>(secret.clone());
            }
            let binding = Binding { kind: Self::KIND, name, field };
            Ok(sealer.ok_or(DocumentError::NoSealer)?.open(&binding, secret.expose())?)
        };
        if let Some(key) = &mut settings.api_key {
            *key = open("api_key", key)?;
        }
        for (at, key) in settings.api_keys.iter_mut().enumerate() {
            *key = open(&key_field(at), key)?;
        }
        if let Some(aws) = &mut settings.aws {
            for (field, value) in
                [(AWS_SECRET, &mut aws.secret_access_key), (AWS_SESSION, &mut aws.session_token)]
            {
                if let Some(value) = value {
                    *value = open(field, value)?;
                }
            }
        }
        for (header, value) in &mut settings.headers {
            *value = open(&header_field(header), value)?;
        }
        Ok(settings)
    }

    fn plain(&self) -> Result<Value, DocumentError> {
        let mut value = serde_json::to_value(self)?;
        self.put_secrets(&mut value, |_, secret| Ok(secret.expose().to_owned()))?;
        Ok(value)
    }
}

/// The names under which what AWS is signed with is sealed.
const AWS_SECRET: &str = "aws.secret_access_key";
const AWS_SESSION: &str = "aws.session_token";

/// The name under which a header's value is sealed.
fn header_field(header: &str) -> String {
    format!("headers.{header}")
}

/// The name under which one of several keys is sealed.
fn key_field(at: usize) -> String {
    format!("api_keys.{at}")
}

/// Fills in what serialization hides.
trait PutSecrets {
    fn put_secrets(
        &self,
        value: &mut Value,
        text: impl Fn(&str, &Secret) -> Result<String, DocumentError>,
    ) -> Result<(), DocumentError>;
}

impl PutSecrets for ProviderSettings {
    fn put_secrets(
        &self,
        value: &mut Value,
        text: impl Fn(&str, &Secret) -> Result<String, DocumentError>,
    ) -> Result<(), DocumentError> {
        let Some(map) = value.as_object_mut() else { return Ok(()) };
        if let Some(key) = &self.api_key {
            map.insert("api_key".into(), text("api_key", key)?.into());
        }
        if !self.api_keys.is_empty() {
            let keys = self.api_keys.iter().enumerate().map(|(at, key)| text(&key_field(at), key));
            map.insert("api_keys".into(), keys.collect::<Result<Vec<_>, _>>()?.into());
        }
        if let (Some(aws), Some(Value::Object(map))) = (&self.aws, map.get_mut("aws")) {
            for (field, secret) in [(AWS_SECRET, &aws.secret_access_key), (AWS_SESSION, &aws.session_token)] {
                if let Some(secret) = secret {
                    map.insert(field.trim_start_matches("aws.").into(), text(field, secret)?.into());
                }
            }
        }
        if !self.headers.is_empty() {
            let mut headers = Map::new();
            for (header, secret) in &self.headers {
                headers.insert(header.clone(), text(&header_field(header), secret)?.into());
            }
            map.insert("headers".into(), headers.into());
        }
        Ok(())
    }
}

impl Section for ModelSettings {
    const KIND: &'static str = "model";
    const SECTION: &'static str = "models";

    fn in_file(file: &FileConfiguration) -> BTreeMap<String, Self> {
        file.models.clone()
    }

    fn check(&self, name: &str, now: &InForce) -> Result<(), Wrong> {
        check::model(name, self, &now.gateway.providers)?;
        check::fallback(name, self, &now.gateway.models)
    }

    fn needed_by(name: &str, now: &InForce) -> Option<String> {
        let falls_there =
            |(_, model): &(&String, &ModelSettings)| model.context_fallback.as_deref() == Some(name);
        let (alias, _) = now.gateway.models.iter().find(falls_there)?;
        Some(format!("The model `{alias}` falls back to `{name}`: change its `context_fallback` first."))
    }
}

impl Section for Price {
    const KIND: &'static str = "price";
    const SECTION: &'static str = "prices";
    // A price has a `source` of its own: where it was read.
    const ORIGIN: &'static str = "origin";
    const LISTS_HIDDEN: bool = true;

    fn built_in() -> Vec<(String, Self)> {
        access::prices::builtin_rows().collect()
    }

    fn in_file(file: &FileConfiguration) -> BTreeMap<String, Self> {
        file.prices.clone()
    }

    fn check(&self, name: &str, _: &InForce) -> Result<(), Wrong> {
        check_name(name).map_err(|error| (Self::NAME_FIELD.to_owned(), error.to_string()))?;
        Price::check(self).map_err(|error| (String::new(), error.to_string()))
    }
}

impl Section for RoleSection {
    const KIND: &'static str = "role";
    const SECTION: &'static str = "roles";

    fn built_in() -> Vec<(String, Self)> {
        let built_in = Roles::built_in();
        let section =
            |permissions: &Permissions| RoleSection { permissions: permissions.patterns().to_vec() };
        built_in.iter().map(|(name, permissions)| (name.to_owned(), section(permissions))).collect()
    }

    fn gives(&self) -> Option<Permissions> {
        Some(self.permissions())
    }

    fn in_file(file: &FileConfiguration) -> BTreeMap<String, Self> {
        let both = file.roles.0.iter().chain(&file.rbac.roles.0);
        both.map(|(name, list)| (name.clone(), RoleSection { permissions: list.clone() })).collect()
    }

    fn check(&self, name: &str, _: &InForce) -> Result<(), Wrong> {
        let added = Roles::built_in().add(name, self.permissions());
        let field = |error: &access::identity::RoleError| match error {
            access::identity::RoleError::NarrowAdmin => "permissions",
            _ => Self::NAME_FIELD,
        };
        added.map(drop).map_err(|error| (field(&error).to_owned(), error.to_string()))
    }
}
