//! `/api/ProviderCredentials`. A provider has one key here, in the provider itself.

use base::Secret;
use gateway::settings::ProviderSettings;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{Body, Call, Created, Done, IdPath, Json, Nothing, Refusal, Resource, Route, Time};
use crate::routes::admin::entries::{self, Entry, Origin};
use crate::routes::admin::providers::{ProviderTested, ask};

/// As much of a key as is shown.
const SHOWN: usize = 4;

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/ProviderCredentials", "/api/ProviderCredentials/{id}");
    vec![
        Route::conduit(Method::GET, all, "providers.list.conduit", "Lists the providers made by API.", list),
        Route::conduit(Method::POST, all, "providers.create.conduit", "Adds a provider.", create),
        Route::conduit(Method::GET, one, "providers.show.conduit", "Shows a provider.", show),
        Route::conduit(Method::PUT, one, "providers.update.conduit", "Edits a provider.", update),
        Route::conduit(Method::DELETE, one, "providers.delete.conduit", "Removes a provider.", delete),
        Route::conduit(
            Method::POST,
            "/api/ProviderCredentials/test/{id}",
            "providers.test.conduit",
            "Asks a provider for its models, with its key.",
            test,
        ),
        Route::conduit(
            Method::POST,
            "/api/ProviderCredentials/test",
            "providers.try.conduit",
            "Asks a provider that is not made yet for its models.",
            test_unsaved,
        ),
    ]
}

/// A provider.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitProvider {
    id: i64,
    provider_name: String,
    /// `OpenAI`, `OpenAICompatible` or `Demo`.
    provider_type: &'static str,
    base_url: Option<String>,
    /// Its last characters.
    api_key: Option<String>,
    /// The settings know no provider that is switched off: it is removed.
    is_enabled: bool,
    created_at: Option<Time>,
    updated_at: Option<Time>,
}

impl Resource for ConduitProvider {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("ProviderCredentials/{}", self.id)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

impl From<Entry<ProviderSettings>> for ConduitProvider {
    fn from(entry: Entry<ProviderSettings>) -> Self {
        ConduitProvider {
            id: entry.document.map(|document| document.id).unwrap_or_default(),
            provider_name: entry.name,
            provider_type: entry.value.kind.conduit(),
            base_url: entry.value.base_url,
            api_key: entry.value.api_key.as_ref().map(masked),
            is_enabled: true,
            created_at: entry.document.map(|document| Time(document.created_at)),
            updated_at: entry.document.map(|document| Time(document.updated_at)),
        }
    }
}

/// The end of a key, by which people recognise it; of a short one nothing.
fn masked(key: &Secret) -> String {
    let chars: Vec<char> = key.expose().chars().collect();
    let shown = if chars.len() >= 4 * SHOWN { SHOWN } else { 0 };
    format!("****{}", chars[chars.len() - shown..].iter().collect::<String>())
}

/// Conduit's kinds of providers, by name or by number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum ProviderType {
    Number(i64),
    Name(String),
}

/// A new provider, or what to change of one: what is left out or null stays.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitProviderBody {
    /// Default: the kind in small letters.
    provider_name: Option<String>,
    /// `OpenAI` (1) or `OpenAICompatible` (5).
    provider_type: Option<ProviderType>,
    base_url: Option<String>,
    /// Conduit's older name of it.
    api_base: Option<String>,
    api_key: Option<Secret>,
    /// OpenAI's.
    organization: Option<String>,
    is_enabled: Option<bool>,
}

impl ConduitProviderBody {
    fn kind(&self) -> Result<Option<llm::Kind>, Refusal> {
        let kind = match &self.provider_type {
            None => return Ok(None),
            Some(ProviderType::Number(1)) => Some(llm::Kind::OPENAI),
            Some(ProviderType::Number(5)) => Some(llm::Kind::OPENAI_COMPATIBLE),
            Some(ProviderType::Number(_)) => None,
            Some(ProviderType::Name(name)) => llm::Kind::from_conduit(name),
        };
        kind.map(Some).ok_or_else(|| {
            let known: Vec<_> = llm::Kind::all().map(|kind| format!("`{}`", kind.conduit())).collect();
            let text = format!(
                "`providerType`: expected one of {}; who is not in the list most often speaks the protocol of \
                 `OpenAICompatible`, at a `baseUrl` of its own.",
                known.join(", ")
            );
            Refusal::invalid("providerType", text)
        })
    }

    fn apply(self, before: Option<ProviderSettings>) -> Result<ProviderSettings, Refusal> {
        if self.is_enabled == Some(false) {
            let text =
                "`isEnabled`: a provider cannot be switched off; remove it, or take it out of the models.";
            return Err(Refusal::invalid("isEnabled", text));
        }
        let kind = self.kind()?.or(before.as_ref().map(|before| before.kind));
        let Some(kind) = kind else {
            return Err(Refusal::invalid("providerType", "`providerType`: a provider needs a type."));
        };
        let mut settings = before.unwrap_or(ProviderSettings {
            api_keys: Vec::new(),
            kind,
            base_url: None,
            api_key: None,
            aws: None,
            headers: std::collections::BTreeMap::new(),
            max_concurrent_requests: None,
        });
        settings.kind = kind;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        settings.base_url = given(self.base_url).or(given(self.api_base)).or(settings.base_url);
        settings.api_key = self.api_key.filter(|key| !key.expose().is_empty()).or(settings.api_key);
        if let Some(organization) = given(self.organization) {
            settings.headers.insert("openai-organization".into(), Secret::from(organization));
        }
        Ok(settings)
    }
}

async fn list(call: Call) -> Result<Json<Vec<ConduitProvider>>, Refusal> {
    let all = entries::entries::<ProviderSettings>(&call.shared).await?;
    let made = all.into_iter().filter(|entry| entry.origin == Origin::Api);
    Ok(Json(made.map(ConduitProvider::from).collect()))
}

async fn create(
    call: Call<Nothing, Nothing, Body<ConduitProviderBody>>,
) -> Result<Created<ConduitProvider>, Refusal> {
    let Body(new) = call.body;
    let kind = new.kind()?.unwrap_or(llm::Kind::OPENAI_COMPATIBLE);
    let name = new.provider_name.clone().unwrap_or_else(|| kind.as_str().to_owned());
    let name: String = name.trim().to_ascii_lowercase().replace(' ', "-");
    let settings = new.apply(None)?;
    let made = entries::make(&call.shared, &call.who, &name, settings).await?;
    Ok(Created(made.into()))
}

async fn show(call: Call<IdPath>) -> Result<Json<ConduitProvider>, Refusal> {
    let entry = entries::named_by_id::<ProviderSettings>(&call.shared, call.path.id.0).await?;
    Ok(Json(entry.into()))
}

async fn update(call: Call<IdPath, Nothing, Body<ConduitProviderBody>>) -> Result<Done, Refusal> {
    let Body(edit) = call.body;
    let entry = entries::named_by_id::<ProviderSettings>(&call.shared, call.path.id.0).await?;
    let version = entry.document.map(|document| document.version);
    let settings = edit.apply(Some(entry.value))?;
    entries::put(&call.shared, &call.who, &entry.name, settings, version).await?;
    Ok(Done)
}

async fn delete(call: Call<IdPath>) -> Result<Done, Refusal> {
    let entry = entries::named_by_id::<ProviderSettings>(&call.shared, call.path.id.0).await?;
    entries::remove::<ProviderSettings>(&call.shared, &entry.name, None).await?;
    Ok(Done)
}

/// What came of a test.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConduitTested {
    success: bool,
    message: String,
    model_count: Option<usize>,
    response_time_ms: Option<f64>,
}

impl From<ProviderTested> for ConduitTested {
    fn from(tested: ProviderTested) -> Self {
        ConduitTested {
            success: tested.ok,
            message: tested.error.unwrap_or_else(|| "The provider answers.".into()),
            model_count: tested.models,
            response_time_ms: tested.latency_ms,
        }
    }
}

async fn test(call: Call<IdPath>) -> Result<Json<ConduitTested>, Refusal> {
    let entry = entries::named_by_id::<ProviderSettings>(&call.shared, call.path.id.0).await?;
    Ok(Json(ask(&entry.value).await.into()))
}

async fn test_unsaved(
    call: Call<Nothing, Nothing, Body<ConduitProviderBody>>,
) -> Result<Json<ConduitTested>, Refusal> {
    let Body(new) = call.body;
    let settings = new.apply(None)?;
    call.shared.configuration.check("unsaved", &settings).map_err(entries::wrong)?;
    Ok(Json(ask(&settings).await.into()))
}
