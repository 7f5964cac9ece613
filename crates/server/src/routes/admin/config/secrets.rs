//! Secrets on their way: out of an installation under a passphrase, into another, and under a new key.

use std::collections::BTreeMap;

use access::sealing::{Binding, Sealer, SealingError, WrappedKeys};
use base::Secret;
use gateway::settings::ProviderSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{ResourceDraft, StoreError};

use super::{ConfigurationDocument, each_secret, write_out};
use crate::admin::{Body, Call, Json, Nothing, Refusal, Text};
use crate::configuration::Section;
use crate::routes::admin::stored;
use crate::state::Shared;

/// Secrets by their paths, as `provider.openai.api_key`.
pub(super) type Opened = BTreeMap<String, Secret>;

/// Secrets sealed under a passphrase.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedSecrets {
    /// The key that they are sealed with, wrapped under the passphrase.
    keys: Value,
    /// By path, as `provider.openai.api_key`.
    sealed: BTreeMap<String, String>,
}

/// What to seal the secrets with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportBody {
    /// At least 12 characters. Whoever has it and the export has the secrets.
    passphrase: Text<12, 1024>,
}

fn path(kind: &str, name: &str, field: &str) -> String {
    format!("{kind}.{name}.{field}")
}

/// A sealed secret belongs to one path of an export, and to no row of a store.
fn binding(path: &str) -> Binding<'_> {
    Binding { kind: "export", name: path, field: "" }
}

/// Every secret that is in the store, opened.
async fn all(shared: &Shared) -> Result<Opened, Refusal> {
    let (sealer, mut found) = (shared.access.sealer(), Opened::new());
    for row in shared.access.db().all_resources(ProviderSettings::KIND).await? {
        let mut body = ProviderSettings::read(&row.name, &row.body, sealer.as_deref())?.plain()?;
        each_secret(&mut body, |field, value| {
            if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                found.insert(path(&row.kind, &row.name, &field), Secret::from(text.to_owned()));
            }
        });
    }
    Ok(found)
}

/// Work that takes a while, off the runtime that others wait on.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SealingError> + Send + 'static,
) -> Result<T, SealingError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SealingError::Random)?
}

pub(super) async fn export(
    call: Call<Nothing, Nothing, Body<ExportBody>>,
) -> Result<Json<ConfigurationDocument>, Refusal> {
    let Body(ExportBody { passphrase }) = call.body;
    // Who may write the configuration may also send a provider's secret elsewhere; who may only read it may not.
    let mut exported = write_out(&call.shared, &call.who).await?;
    let secrets = all(&call.shared).await?;
    let passphrase = Secret::from(passphrase.into_inner());
    let sealed = apart(move || {
        let (sealer, keys) = Sealer::for_passphrase(&passphrase)?;
        let sealed =
            secrets.iter().map(|(path, secret)| Ok((path.clone(), sealer.seal(&binding(path), secret)?)));
        Ok((keys, sealed.collect::<Result<BTreeMap<_, _>, SealingError>>()?))
    });
    let failed = |error: &dyn std::fmt::Display| Refusal::internal(&call.who.request_id, error);
    let (keys, sealed) = sealed.await.map_err(|error| failed(&error))?;
    let keys = serde_json::to_value(&keys).map_err(|error| failed(&error))?;
    exported.secrets = Some(SealedSecrets { keys, sealed });
    Ok(Json(exported))
}

/// Opens what an import brings.
pub(super) async fn open(given: &ConfigurationDocument) -> Result<Opened, Refusal> {
    let (Some(secrets), Some(passphrase)) = (&given.secrets, &given.passphrase) else {
        return Ok(Opened::new());
    };
    let damaged = || Refusal::invalid("secrets", "`secrets`: it is damaged, or no export wrote it.");
    let keys: WrappedKeys = serde_json::from_value(secrets.keys.clone()).map_err(|_| damaged())?;
    let (passphrase, sealed) = (Secret::from(passphrase.to_string()), secrets.sealed.clone());
    let opened = apart(move || {
        let sealer = Sealer::new(&passphrase, &keys)?;
        sealed
            .into_iter()
            .map(|(path, text)| Ok((path.clone(), sealer.open(&binding(&path), &text)?)))
            .collect()
    });
    opened.await.map_err(|error| match error {
        SealingError::WrongMaster => Refusal::invalid(
            "passphrase",
            "`passphrase`: it is not the one that the secrets were sealed with.",
        ),
        _ => damaged(),
    })
}

/// Puts opened secrets where they were.
pub(super) fn fill_in(body: &mut Value, kind: &str, name: &str, opened: &Opened) {
    each_secret(body, |field, value| {
        if let (true, Some(secret)) = (value.is_null(), opened.get(&path(kind, name, &field))) {
            *value = secret.expose().into();
        }
    });
}

/// A provider's body as it is kept here, its secrets sealed.
pub(super) fn seal_here(shared: &Shared, name: &str, body: Value) -> Result<Value, Refusal> {
    let provider: ProviderSettings = serde_json::from_value(body)
        .map_err(|error| Refusal::invalid(format!("documents.provider.{name}"), error.to_string()))?;
    Ok(provider.write(name, shared.access.sealer().as_deref())?)
}

/// What a rotation did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DataKeyRotated {
    /// The name of the new key.
    key: String,
    /// Documents whose secrets are sealed with it now.
    resealed: u64,
}

pub(super) async fn rotate(call: Call) -> Result<Json<DataKeyRotated>, Refusal> {
    let shared = &call.shared;
    let _one = shared.configuration.changing().await;
    // What an earlier rotation has left: the key it was sealed with goes now.
    reseal(shared).await?;
    let rotated = shared.access.rotate_data_key().await;
    let rotated = rotated.map_err(|error| Refusal::internal(&call.who.request_id, &error))?;
    let Some(sealer) = rotated else {
        let text = "The key cannot be rotated now: there is no master key (TRUNKLINE_ADMIN_KEY), or another replica \
            rotates at this moment.";
        return Err(Refusal::conflict("rotation_impossible", text));
    };
    let resealed = reseal(shared).await?;
    shared.configuration.refresh().await;
    Ok(Json(DataKeyRotated { key: sealer.current_key().to_owned(), resealed }))
}

/// Seals the secrets of every document with the present key. How many there were.
async fn reseal(shared: &Shared) -> Result<u64, Refusal> {
    let (db, mut count) = (shared.access.db(), 0);
    for row in db.all_resources(ProviderSettings::KIND).await? {
        let (name, mut row, mut tries) = (row.name.clone(), row, stored::TRIES);
        loop {
            let sealer = shared.access.sealer();
            let body = ProviderSettings::read(&name, &row.body, sealer.as_deref())?;
            let body = body.write(&name, sealer.as_deref())?.to_string();
            let draft = ResourceDraft { kind: ProviderSettings::KIND.into(), name: name.clone(), body };
            match db.update_resource(&draft, Some(row.version), None).await {
                Ok(_) => {
                    count += 1;
                    break;
                }
                Err(StoreError::NotFound { .. }) => break,
                Err(StoreError::Changed { .. }) if tries > 0 => {
                    tries -= 1;
                    row = db.resource(ProviderSettings::KIND, &name).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(count)
}
