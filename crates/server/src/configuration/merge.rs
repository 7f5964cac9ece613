//! The settings file and the documents of the Store, laid over each other.
//!
//! One document that cannot be used must not take the others down, nor the replica: it is left out and named, and
//! everything else is put in force. That happens without anybody's mistake, as when an older replica meets a
//! document of a newer one, or two administrators save things that do not go together at the same moment.

use std::sync::Arc;

use access::identity::Roles;
use access::ip::IpRule;
use access::limits::LimitSettings;
use access::prices::{Price, PriceTable, Prices};
use access::sealing::Sealer;
use gateway::GatewaySettings;
use gateway::settings::{ModelSettings, ProviderSettings};
use store::{Db, Resource, StoreError};

use super::check;
use super::file::FileConfiguration;
use super::section::{RoleSection, Section};

/// The kind of the documents that are rules about addresses.
pub(crate) const IP_RULE: &str = "ip_rule";
/// The kind of the documents that are whole sections, by the section's name.
pub(crate) const SETTINGS: &str = "settings";
/// The section `limits:`.
pub(crate) const LIMITS: &str = "limits";

/// Every kind of document that is configuration.
pub(crate) const KINDS: [&str; 6] =
    [ProviderSettings::KIND, ModelSettings::KIND, Price::KIND, RoleSection::KIND, IP_RULE, SETTINGS];

/// What the Store has, by kind.
#[derive(Debug, Default)]
pub(crate) struct Documents(Vec<Resource>);

impl Documents {
    pub(super) async fn read(db: &Db) -> Result<Self, StoreError> {
        let mut all = Vec::new();
        for kind in KINDS {
            all.extend(db.all_resources(kind).await?);
        }
        Ok(Documents(all))
    }

    #[cfg(test)]
    pub(super) fn of(documents: Vec<Resource>) -> Self {
        Documents(documents)
    }

    /// Those of a kind, in the order of their names.
    pub(super) fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Resource> {
        self.0.iter().filter(move |document| document.kind == kind)
    }
}

/// A document that is not in force, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) why: String,
    /// The settings file says something of the same name.
    pub(crate) in_file: bool,
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) gateway: GatewaySettings,
    pub(crate) roles: Roles,
    pub(crate) limits: LimitSettings,
    pub(crate) ip_rules: Vec<IpRule>,
    /// What is not.
    pub(crate) left_out: Vec<LeftOut>,
}

struct Merge<'a> {
    documents: &'a Documents,
    file: &'a FileConfiguration,
    sealer: Option<&'a Sealer>,
    left_out: Vec<LeftOut>,
}

impl Merge<'_> {
    fn leave_out(&mut self, kind: &'static str, name: &str, why: impl Into<String>, in_file: bool) {
        self.left_out.push(LeftOut { kind, name: name.to_owned(), why: why.into(), in_file });
    }

    /// The documents of a section that can be read and are not in the file.
    fn read<T: Section>(&mut self) -> Vec<(String, T)> {
        let in_file = T::in_file(self.file);
        let mut all = Vec::new();
        for document in self.documents.of_kind(T::KIND) {
            let name = &document.name;
            if in_file.contains_key(name) {
                let why = format!("the settings file has `{}.{name}` too, which is what counts", T::SECTION);
                self.leave_out(T::KIND, name, why, true);
                continue;
            }
            match T::read(name, &document.body, self.sealer) {
                Ok(value) => all.push((name.clone(), value)),
                Err(error) => self.leave_out(T::KIND, name, error.to_string(), false),
            }
        }
        all
    }
}

/// What the file and the documents make together. An error is one of the file itself.
pub(crate) fn merge(
    file: &FileConfiguration,
    documents: &Documents,
    sealer: Option<&Sealer>,
) -> Result<InForce, String> {
    let mut merge = Merge { documents, file, sealer, left_out: Vec::new() };
    let mut gateway = file.gateway_settings()?;
    for (name, provider) in merge.read::<ProviderSettings>() {
        match check::provider(&name, &provider) {
            Ok(()) => drop(gateway.providers.insert(name, provider)),
            Err((_, why)) => merge.leave_out(ProviderSettings::KIND, &name, why, false),
        }
    }
    for (name, model) in merge.read::<ModelSettings>() {
        match check::model(&name, &model, &gateway.providers) {
            Ok(()) => drop(gateway.models.insert(name, model)),
            Err((_, why)) => merge.leave_out(ModelSettings::KIND, &name, why, false),
        }
    }
    gateway.prices = prices(&mut merge)?;
    let roles = roles(&mut merge)?;
    let limits = limits(&mut merge);
    let ip_rules = ip_rules(&mut merge);
    Ok(InForce { gateway, roles, limits, ip_rules, left_out: merge.left_out })
}

fn prices(merge: &mut Merge<'_>) -> Result<Arc<PriceTable>, String> {
    let mut good = Prices::new();
    for (name, price) in merge.read::<Price>() {
        let checked = access::prices::check_name(&name).and_then(|()| price.check());
        match checked {
            Ok(()) => drop(good.insert(name, price)),
            Err(error) => merge.leave_out(Price::KIND, &name, error.to_string(), false),
        }
    }
    let file = &merge.file.prices;
    match PriceTable::new(file, &good) {
        Ok(table) => return Ok(Arc::new(table)),
        Err(error) => merge.leave_out(Price::KIND, "*", error.to_string(), false),
    }
    // Each is good by itself, so there are too many patterns.
    good.retain(|name, _| !name.contains('*'));
    PriceTable::new(file, &good).map(Arc::new).map_err(|error| format!("prices: {error}"))
}

fn roles(merge: &mut Merge<'_>) -> Result<Roles, String> {
    let made = Roles::of_settings(&merge.file.roles, &merge.file.rbac);
    let (mut roles, _) = made.map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(|(path, error)| format!("{path}: {error}")).collect();
        texts.join("; ")
    })?;
    for (name, role) in merge.read::<RoleSection>() {
        if let Err(error) = roles.add(&name, role.permissions()) {
            merge.leave_out(RoleSection::KIND, &name, error.to_string(), false);
        }
    }
    Ok(roles)
}

fn limits(merge: &mut Merge<'_>) -> LimitSettings {
    let documents = merge.documents;
    let Some(document) = documents.of_kind(SETTINGS).find(|document| document.name == LIMITS) else {
        return merge.file.limits.clone();
    };
    if merge.file.sets_limits() {
        let why = "the settings file has `limits` too, which is what counts";
        merge.leave_out(SETTINGS, LIMITS, why, true);
        return merge.file.limits.clone();
    }
    serde_json::from_str(&document.body).unwrap_or_else(|error| {
        merge.leave_out(SETTINGS, LIMITS, format!("it cannot be read: {error}"), false);
        merge.file.limits.clone()
    })
}

fn ip_rules(merge: &mut Merge<'_>) -> Vec<IpRule> {
    let mut rules = Vec::new();
    let documents = merge.documents;
    for document in documents.of_kind(IP_RULE) {
        match serde_json::from_str::<IpRule>(&document.body) {
            Ok(rule) => rules.push(rule),
            Err(error) => {
                merge.leave_out(IP_RULE, &document.name, format!("it cannot be read: {error}"), false);
            }
        }
    }
    rules
}
