//! `/api/ModelProviderMapping`. One mapping is an alias with its first target; further targets, which Conduit does
//! not have, stay as they are.

use gateway::settings::{ModelSettings, ProviderSettings, Strategy, TargetSettings};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{
    Body, Call, Created, Done, Id, IdPath, Json, List, Nothing, Refusal, Resource, Route, Time, Who,
};
use crate::routes::admin::entries::{self, Entry, Origin};
use crate::state::Shared;

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/ModelProviderMapping", "/api/ModelProviderMapping/{id}");
    vec![
        Route::conduit(Method::GET, all, "models.list.conduit", "Lists the mappings made by API.", list),
        Route::conduit(Method::POST, all, "models.create.conduit", "Adds a mapping.", create),
        Route::conduit(Method::GET, one, "models.show.conduit", "Shows a mapping.", show),
        Route::conduit(Method::PUT, one, "models.update.conduit", "Edits a mapping.", update),
        Route::conduit(Method::DELETE, one, "models.delete.conduit", "Removes a mapping.", delete),
        Route::conduit(
            Method::GET,
            "/api/ModelProviderMapping/providers",
            "models.providers.conduit",
            "Lists the providers that a mapping may name.",
            providers,
        ),
        Route::conduit(
            Method::POST,
            "/api/ModelProviderMapping/bulk",
            "models.create_many.conduit",
            "Adds mappings; those that cannot be added are named.",
            bulk,
        ),
    ]
}

/// A mapping.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitMapping {
    id: i64,
    model_alias: String,
    /// The same, under Conduit's older name.
    model_id: String,
    provider_id: Option<i64>,
    provider_name: String,
    provider_model_id: String,
    is_enabled: bool,
    created_at: Option<Time>,
    updated_at: Option<Time>,
}

impl Resource for ConduitMapping {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("ModelProviderMapping/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

/// The ids of the providers made by API, by name.
async fn ids(shared: &Shared) -> Result<Vec<(String, i64)>, Refusal> {
    let all = entries::entries::<ProviderSettings>(shared).await?;
    Ok(all.into_iter().filter_map(|entry| Some((entry.name, entry.document?.id))).collect())
}

fn shown(entry: Entry<ModelSettings>, providers: &[(String, i64)]) -> ConduitMapping {
    let target = entry.value.targets.into_iter().next();
    let (provider, model) = target.map(|target| (target.provider, target.model)).unwrap_or_default();
    ConduitMapping {
        id: entry.document.map(|document| document.id).unwrap_or_default(),
        model_alias: entry.name.clone(),
        model_id: entry.name,
        provider_id: providers.iter().find(|(name, _)| *name == provider).map(|(_, id)| *id),
        provider_name: provider,
        provider_model_id: model,
        is_enabled: true,
        created_at: entry.document.map(|document| Time(document.created_at)),
        updated_at: entry.document.map(|document| Time(document.updated_at)),
    }
}

/// A new mapping, or what to change of one: what is left out or null stays.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitMappingBody {
    model_alias: Option<String>,
    model_id: Option<String>,
    /// Of a provider made by API.
    provider_id: Option<Id>,
    /// Instead of its id, also of a provider of the settings file.
    provider_name: Option<String>,
    provider_model_id: Option<String>,
    is_enabled: Option<bool>,
}

impl ConduitMappingBody {
    async fn provider(&self, shared: &Shared) -> Result<Option<String>, Refusal> {
        let Some(Id(id)) = self.provider_id else { return Ok(self.provider_name.clone()) };
        let found = ids(shared).await?.into_iter().find(|(_, known)| *known == id);
        let missing = || {
            Refusal::invalid("providerId", format!("`providerId`: there is no provider {id}: make it first."))
        };
        Ok(Some(found.ok_or_else(missing)?.0))
    }

    fn refuse_off(&self) -> Result<(), Refusal> {
        if self.is_enabled == Some(false) {
            let text = "`isEnabled`: a mapping cannot be switched off; remove it.";
            return Err(Refusal::invalid("isEnabled", text));
        }
        Ok(())
    }
}

async fn list(call: Call) -> Result<Json<Vec<ConduitMapping>>, Refusal> {
    let providers = ids(&call.shared).await?;
    let all = entries::entries::<ModelSettings>(&call.shared).await?;
    let made = all.into_iter().filter(|entry| entry.origin == Origin::Api);
    Ok(Json(made.map(|entry| shown(entry, &providers)).collect()))
}

async fn create(
    call: Call<Nothing, Nothing, Body<ConduitMappingBody>>,
) -> Result<Created<ConduitMapping>, Refusal> {
    let Body(new) = call.body;
    add(&call.shared, &call.who, new).await.map(Created)
}

/// Mappings to add.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitMappings {
    mappings: List<ConduitMappingBody, 1000>,
}

/// What came of them.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitMappingsAdded {
    created: Vec<ConduitMapping>,
    failed: Vec<ConduitMappingFailed>,
    total_processed: usize,
    success_count: usize,
    failure_count: usize,
    is_success: bool,
}

/// One that was not added.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitMappingFailed {
    /// Its place, from 0.
    index: usize,
    model_alias: Option<String>,
    error_message: String,
}

async fn bulk(
    call: Call<Nothing, Nothing, Body<ConduitMappings>>,
) -> Result<Json<ConduitMappingsAdded>, Refusal> {
    let Body(ConduitMappings { mappings: List(mappings) }) = call.body;
    let mut done = ConduitMappingsAdded { total_processed: mappings.len(), ..Default::default() };
    for (index, new) in mappings.into_iter().enumerate() {
        let model_alias = new.model_alias.clone().or_else(|| new.model_id.clone());
        match add(&call.shared, &call.who, new).await {
            Ok(made) => done.created.push(made),
            Err(refusal) => {
                let error_message = refusal.error.message.to_string();
                done.failed.push(ConduitMappingFailed { index, model_alias, error_message });
            }
        }
    }
    done.success_count = done.created.len();
    done.failure_count = done.failed.len();
    done.is_success = done.failed.is_empty();
    Ok(Json(done))
}

async fn add(shared: &Shared, who: &Who, new: ConduitMappingBody) -> Result<ConduitMapping, Refusal> {
    new.refuse_off()?;
    let needed = |field: &str| Refusal::invalid(field, format!("`{field}`: a mapping needs it."));
    let provider = new.provider(shared).await?.ok_or_else(|| needed("providerId"))?;
    let alias = new.model_alias.or(new.model_id).ok_or_else(|| needed("modelAlias"))?;
    let model = new.provider_model_id.ok_or_else(|| needed("providerModelId"))?;
    let settings = ModelSettings {
        strategy: Strategy::default(),
        targets: vec![TargetSettings { provider, model, weight: 1, serves: None, resilience: None }],
        context_fallback: None,
        resilience: None,
    };
    let made = entries::make(shared, who, &alias, settings).await?;
    Ok(shown(made, &ids(shared).await?))
}

async fn show(call: Call<IdPath>) -> Result<Json<ConduitMapping>, Refusal> {
    let entry = entries::named_by_id::<ModelSettings>(&call.shared, call.path.id.0).await?;
    Ok(Json(shown(entry, &ids(&call.shared).await?)))
}

async fn update(call: Call<IdPath, Nothing, Body<ConduitMappingBody>>) -> Result<Done, Refusal> {
    let Body(edit) = call.body;
    edit.refuse_off()?;
    let entry = entries::named_by_id::<ModelSettings>(&call.shared, call.path.id.0).await?;
    let alias = edit.model_alias.as_ref().or(edit.model_id.as_ref());
    if alias.is_some_and(|alias| *alias != entry.name) {
        let text = "`modelAlias`: an alias keeps its name; make another one and remove this.";
        return Err(Refusal::invalid("modelAlias", text));
    }
    let version = entry.document.map(|document| document.version);
    let provider = edit.provider(&call.shared).await?;
    let mut settings = entry.value;
    if let Some(target) = settings.targets.first_mut() {
        target.provider = provider.unwrap_or_else(|| target.provider.clone());
        target.model = edit.provider_model_id.unwrap_or_else(|| target.model.clone());
    }
    entries::put(&call.shared, &call.who, &entry.name, settings, version).await?;
    Ok(Done)
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    let entry = entries::named_by_id::<ModelSettings>(&call.shared, call.path.id.0).await?;
    entries::remove::<ModelSettings>(&call.shared, &entry.name, None).await?;
    Ok(Done)
}

/// A provider that a mapping may name.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitProviderName {
    id: i64,
    provider_name: String,
}

async fn providers(call: Call) -> Result<Json<Vec<ConduitProviderName>>, Refusal> {
    let all = ids(&call.shared).await?;
    Ok(Json(all.into_iter().map(|(provider_name, id)| ConduitProviderName { id, provider_name }).collect()))
}
