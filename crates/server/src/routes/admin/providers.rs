//! Providers, and whether they answer.

use std::time::Duration;

use gateway::settings::ProviderSettings;
use http::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::entries::{self, Words};
use crate::admin::{Call, Json, NamePath, Refusal, Route, sentence};

/// How long a provider may take to answer a test.
const TEST: Duration = Duration::from_secs(10);

pub(super) fn routes() -> Vec<Route> {
    let mut all = entries::routes::<ProviderSettings>(&Words {
        all: "/api/providers",
        one: "/api/providers/{name}",
        list: ("providers.list", "Lists providers, those of the settings file too."),
        create: ("providers.create", "Adds a provider."),
        show: ("providers.show", "Shows a provider, without its secrets."),
        update: ("providers.update", "Edits a provider."),
        replace: ("providers.replace", "Makes a provider say just this."),
        delete: ("providers.delete", "Removes a provider that no model leads to."),
    });
    all.push(Route::new(
        Method::POST,
        "/api/providers/{name}/test",
        "providers.test",
        "Asks a provider for its models, with its key.",
        test,
    ));
    all
}

/// What came of asking a provider for its models.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProviderTested {
    /// It answered as it should.
    pub(super) ok: bool,
    /// How long it took.
    pub(super) latency_ms: Option<f64>,
    /// How many models it has.
    pub(super) models: Option<usize>,
    /// What is wrong.
    pub(super) error: Option<String>,
}

async fn test(call: Call<NamePath>) -> Result<Json<ProviderTested>, Refusal> {
    let entry = entries::find::<ProviderSettings>(&call.shared, &call.path.name).await?;
    Ok(Json(ask(&entry.value).await))
}

/// Asks a provider for its models. An operator configured where it is, so that may be anywhere.
pub(super) async fn ask(settings: &ProviderSettings) -> ProviderTested {
    match gateway::probe(settings, TEST).await {
        Ok(found) => ProviderTested {
            ok: true,
            latency_ms: Some((found.latency.as_secs_f64() * 1e6).round() / 1e3),
            models: Some(found.models),
            error: None,
        },
        Err(text) => {
            ProviderTested { ok: false, latency_ms: None, models: None, error: Some(sentence(&text)) }
        }
    }
}
