//! Changing what a gateway does, and asking a provider whether it is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::Secret;
use llm::Client;

use crate::gateway::Shared;
use crate::settings::ProviderSettings;
use crate::snapshot::{GatewaySettings, Snapshot, make_provider, secrets};

/// The longest list of models that is read.
const MAX_LIST: usize = 8 << 20;
/// As much of a provider's words as is repeated, in characters.
const MAX_SHOWN: usize = 300;

/// Puts settings in force for every worker's gateway, without being a way to models itself.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

impl Control {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Control(shared)
    }

    /// Puts new settings in force, for calls that begin from now on. On error the old ones stay.
    pub fn reload(&self, settings: &GatewaySettings) -> Result<(), String> {
        let old = self.0.snapshot.load_full();
        let new = Snapshot::build(settings, Some(&old), &self.0.metrics)?;
        self.0.snapshot.store(Arc::new(new));
        self.0.max_in_flight.store(settings.max_concurrent_requests, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether a provider could be made of these settings. The error says what is wrong, without their values.
pub fn check_provider(settings: &ProviderSettings) -> Result<(), String> {
    make_provider(settings).map(drop)
}

/// What came of asking a provider for its models.
#[derive(Clone, Debug)]
pub struct Probe {
    /// How long it took.
    pub latency: Duration,
    /// How many models it has.
    pub models: usize,
}

/// Asks a provider for its models, with its own key and headers, within this time. The error says what is wrong;
/// our credentials are not in it.
pub async fn probe(settings: &ProviderSettings, within: Duration) -> Result<Probe, String> {
    let provider = make_provider(settings)?;
    let hide = |text: &str| {
        let hidden = secrets(settings)
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.expose(), Secret::HIDDEN));
        let printable = hidden.chars().map(|c| if c.is_control() { ' ' } else { c });
        printable.take(MAX_SHOWN).collect::<String>()
    };
    let begun = Instant::now();
    let client = Client::default();
    let Some(asking) = provider.ask_models(&client, within) else {
        return Ok(Probe { latency: begun.elapsed(), models: provider.models().len() });
    };
    let asked = async {
        let answer = asking.await.map_err(|error| hide(&error.to_string()))?;
        let status = answer.status;
        let body = answer.body.collect(MAX_LIST).await.map_err(|error| hide(&error.to_string()))?;
        Ok::<_, String>((status, body))
    };
    let (status, body) = tokio::time::timeout(within, asked)
        .await
        .map_err(|_| format!("it did not answer within {} s", within.as_secs_f32()))??;
    if !status.is_success() {
        let said = hide(&String::from_utf8_lossy(&body));
        let hint = match status.as_u16() {
            401 | 403 => ": it does not take the key",
            404 => ": there is no list of models below `base_url`; check its path",
            _ => "",
        };
        return Err(format!("it answered {status}{hint}. It says: {said}"));
    }
    let list: serde_json::Value =
        serde_json::from_slice(&body).map_err(|_| "it answered with something other than JSON".to_owned())?;
    // Gemini calls its list otherwise.
    let models = list.get("data").or_else(|| list.get("models")).and_then(serde_json::Value::as_array);
    let models = models.ok_or("it answered, but not with a list of models")?;
    Ok(Probe { latency: begun.elapsed(), models: models.len() })
}
