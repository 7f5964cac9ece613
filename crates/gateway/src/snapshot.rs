//! The settings made ready to serve: providers, aliases and targets, one immutable value swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use access::prices::{Price, PriceTable};
use base::Secret;
use base::sigv4::Credentials;
use bytes::Bytes;
use llm::providers::{Anthropic, Aws, Bedrock, Endpoint, Gemini, Local, OpenAi};
use llm::{Kind, Protocol, Provider};
use telemetry::{SpanRecord, gen_ai};

use crate::breaker::Health;
use crate::error::Error;
use crate::keys::Keys;
use crate::metrics::{GatewayMetrics, TargetMetrics};
use crate::settings::{Complexity, Models, ProviderSettings, Providers, ResilienceSettings, Strategy};
use crate::strategy::Chooser;

/// Everything a call needs to know about where it may go.
pub(crate) struct Snapshot {
    providers: BTreeMap<String, Arc<ProviderEntry>>,
    aliases: BTreeMap<String, Arc<Route>>,
    resilience: ResilienceSettings,
    prices: Arc<PriceTable>,
}

/// A provider with what we count about it.
pub(crate) struct ProviderEntry {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) keys: Keys,
    max_in_flight: Option<u32>,
    /// Counted on over a reload: what began before it is still there.
    in_flight: Arc<AtomicU32>,
    /// What we send to it and nobody else may read.
    secrets: Vec<Secret>,
    /// The health of models called as `provider/model` without being declared: one for all of them, since a
    /// caller chooses the names and could otherwise fill the memory with them.
    undeclared: Arc<Health>,
}

/// One place a call can go.
pub(crate) struct Target {
    /// `provider/model`, for headers, logs and errors.
    pub(crate) id: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) provider: Arc<ProviderEntry>,
    pub(crate) resilience: ResilienceSettings,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: TargetMetrics,
    /// Its share, for the strategy that goes by it.
    pub(crate) weight: u32,
    /// The requests it is for, for the strategy that goes by it.
    pub(crate) serves: Option<Complexity>,
    /// What its calls cost; nobody knows for `None`.
    pub(crate) price: Option<Arc<Price>>,
    /// That nobody knows was said.
    alarmed: AtomicBool,
}

/// The targets of a model, and what takes over when they are too small.
pub(crate) struct Route {
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) chooser: Chooser,
    pub(crate) context_fallback: Option<String>,
}

/// A place among a provider's `max_concurrent_requests`, given back when dropped.
pub(crate) struct Slot {
    provider: Arc<ProviderEntry>,
    health: Arc<Health>,
}

impl ProviderEntry {
    /// A place for a call to a target with this health, unless the provider has all it takes.
    pub(crate) fn slot(self: &Arc<Self>, health: &Arc<Health>) -> Option<Slot> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        health.begin();
        let slot = Slot { provider: Arc::clone(self), health: Arc::clone(health) };
        (self.max_in_flight.is_none_or(|max| before < max)).then_some(slot)
    }

    /// A provider's words about what went wrong, without our credentials: some quote the request.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.expose(), Secret::HIDDEN))
    }

    /// The same of a body; one that quotes nothing stays as it is, byte for byte.
    pub(crate) fn redact_body(&self, body: Bytes) -> Bytes {
        let quotes = |text: &str| self.secrets.iter().any(|secret| text.contains(secret.expose()));
        let text = Some(String::from_utf8_lossy(&body)).filter(|text| quotes(text));
        let redacted = text.map(|text| self.redact(&text));
        redacted.map_or(body, Bytes::from)
    }
}

/// The credentials in a provider's settings. A header's value may be a plain word, as a version: short ones are
/// no secrets, and would be found everywhere.
pub(crate) fn secrets(settings: &ProviderSettings) -> Vec<Secret> {
    const SHORTEST: usize = 8;
    let aws = settings.aws.iter().flat_map(|aws| [&aws.secret_access_key, &aws.session_token]).flatten();
    let all = settings.api_key.iter().chain(&settings.api_keys).chain(settings.headers.values()).chain(aws);
    all.filter(|secret| secret.expose().len() >= SHORTEST).cloned().collect()
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.provider.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.health.end();
    }
}

/// The settings that a snapshot is made from.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// `providers:`.
    pub providers: Providers,
    /// `models:`.
    pub models: Models,
    /// `resilience:`.
    pub resilience: ResilienceSettings,
    /// `prices:`, over the built-in ones.
    pub prices: Arc<PriceTable>,
    /// `server.max_concurrent_requests`.
    pub max_concurrent_requests: u32,
}

impl Snapshot {
    /// Makes the settings ready; `old` lends the health of targets that stay. The error names the setting
    /// that is wrong.
    pub(crate) fn build(
        settings: &GatewaySettings,
        old: Option<&Snapshot>,
        metrics: &GatewayMetrics,
    ) -> Result<Self, String> {
        let mut providers = BTreeMap::new();
        for (name, provider) in &settings.providers {
            let wrong = |error| format!("providers.{name}: {error}");
            let made = make_provider(provider).map_err(wrong)?;
            let others = provider.api_keys.iter().map(|key| with_key(provider, key));
            let others = others.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            // Without `api_key` the first of `api_keys` takes its place.
            let keys = match (&provider.api_key, others.len()) {
                (None, 1..) => {
                    let mut others = others;
                    let first = others.remove(0);
                    Keys::new(first, others)
                }
                _ => Keys::new(made, others),
            };
            let before = old.and_then(|o| o.providers.get(name));
            providers.insert(
                name.clone(),
                Arc::new(ProviderEntry {
                    name: name.as_str().into(),
                    kind: provider.kind,
                    keys,
                    max_in_flight: provider.max_concurrent_requests,
                    in_flight: before.map(|p| Arc::clone(&p.in_flight)).unwrap_or_default(),
                    secrets: secrets(provider),
                    undeclared: before.map(|p| Arc::clone(&p.undeclared)).unwrap_or_default(),
                }),
            );
        }
        // Two aliases that lead to one target share what is known of its health.
        let mut health: HashMap<String, Arc<Health>> = HashMap::new();
        let known = old.into_iter().flat_map(|o| o.aliases.values()).flat_map(|route| &route.targets);
        health.extend(known.map(|target| (target.id.to_string(), Arc::clone(&target.health))));
        let mut aliases = BTreeMap::new();
        for (alias, model) in &settings.models {
            let resilience = settings.resilience.with(model.resilience.as_ref());
            let mut targets = Vec::with_capacity(model.targets.len());
            for target in &model.targets {
                let provider = providers
                    .get(&target.provider)
                    .ok_or_else(|| format!("models.{alias}: there is no provider `{}`", target.provider))?;
                let id = format!("{}/{}", target.provider, target.model);
                let health = health.entry(id.clone()).or_default();
                let resilience = resilience.with(target.resilience.as_ref());
                let made =
                    Target::new(&id, provider, &target.model, resilience, health, metrics, &settings.prices);
                targets.push(Arc::new(Target { weight: target.weight, serves: target.serves, ..made }));
            }
            let context_fallback = model.context_fallback.clone();
            let chooser = Chooser::new(model.strategy);
            aliases.insert(alias.clone(), Arc::new(Route { targets, chooser, context_fallback }));
        }
        let (resilience, prices) = (settings.resilience.clone(), Arc::clone(&settings.prices));
        Ok(Snapshot { providers, aliases, resilience, prices })
    }

    /// Where a model leads: an alias, or `provider/model` with no declaration.
    pub(crate) fn route(&self, model: &str, metrics: &GatewayMetrics) -> Result<Arc<Route>, Error> {
        if let Some(route) = self.aliases.get(model) {
            return Ok(Arc::clone(route));
        }
        if let Some((provider, name)) = model.split_once('/')
            && let Some(provider) = self.providers.get(provider)
            && !name.is_empty()
        {
            let resilience = self.resilience.clone();
            let health = &provider.undeclared;
            let target = Target::new(model, provider, name, resilience, health, metrics, &self.prices);
            let (targets, chooser) = (vec![Arc::new(target)], Chooser::new(Strategy::Priority));
            return Ok(Arc::new(Route { targets, chooser, context_fallback: None }));
        }
        let names: Vec<String> = self.providers.keys().map(|name| format!("`{name}`")).collect();
        Err(Error::UnknownModel { model: model.to_owned(), providers: names.join(", ") })
    }

    /// A provider by its name.
    pub(crate) fn provider(&self, name: &str) -> Option<Arc<ProviderEntry>> {
        self.providers.get(name).map(Arc::clone)
    }

    /// How long to wait where nothing else is said.
    pub(crate) fn resilience(&self) -> &ResilienceSettings {
        &self.resilience
    }

    /// The names a client can use without knowing more: aliases, then models that providers are known to have.
    pub(crate) fn model_names(&self) -> Vec<(String, String)> {
        let aliases = self.aliases.keys().map(|alias| (alias.clone(), "trunkline".to_owned()));
        let known = self.providers.values().flat_map(|entry| {
            let names = entry.keys.any().models().iter();
            names.map(|model| (format!("{}/{model}", entry.name), entry.name.to_string()))
        });
        aliases.chain(known).collect()
    }

    /// Every declared target once.
    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        let mut by_id: BTreeMap<Arc<str>, Arc<Target>> = BTreeMap::new();
        for target in self.aliases.values().flat_map(|route| &route.targets) {
            by_id.entry(Arc::clone(&target.id)).or_insert_with(|| Arc::clone(target));
        }
        by_id.into_values().collect()
    }
}

impl Target {
    fn new(
        id: &str,
        provider: &Arc<ProviderEntry>,
        model: &str,
        resilience: ResilienceSettings,
        health: &Arc<Health>,
        metrics: &GatewayMetrics,
        prices: &PriceTable,
    ) -> Self {
        Target {
            price: prices.lookup(&provider.name, provider.kind.as_str(), model),
            alarmed: AtomicBool::new(false),
            weight: 1,
            serves: None,
            id: id.into(),
            model: model.into(),
            provider: Arc::clone(provider),
            resilience,
            health: Arc::clone(health),
            metrics: metrics.target(&provider.name, model),
        }
    }

    /// Its price is not known: never zero in silence. Counted with each call, said once.
    pub(crate) fn alarm_unpriced(&self) {
        self.metrics.unpriced.inc();
        if !self.alarmed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target = &*self.id,
                "no price is known for this target, its calls are not charged: add it to `prices` (docs/prices.md)"
            );
        }
    }

    /// Tells a span who was asked, in the words of the GenAI conventions (`gen_ai.system` is the older name
    /// of the provider).
    pub(crate) fn describe(&self, span: &mut SpanRecord) {
        let kind = self.provider.kind.as_str();
        span.attribute(gen_ai::PROVIDER_NAME, kind);
        span.attribute(gen_ai::SYSTEM, kind);
        span.attribute(gen_ai::SERVER_ADDRESS, self.provider.keys.any().address().to_owned());
    }
}

/// The same provider with another of its keys.
fn with_key(settings: &ProviderSettings, key: &Secret) -> Result<Box<dyn Provider>, String> {
    make_provider(&ProviderSettings { api_key: Some(key.clone()), ..settings.clone() })
}

/// Who signs requests to AWS, and for where.
fn aws(settings: &ProviderSettings) -> Result<Aws, String> {
    let Some(aws) = &settings.aws else { return Ok(Aws::default()) };
    let credentials = match (&aws.access_key_id, &aws.secret_access_key) {
        (Some(access_key), Some(secret_key)) => Some(Credentials {
            access_key: access_key.clone(),
            secret_key: secret_key.clone(),
            session_token: aws.session_token.clone(),
        }),
        (None, None) => None,
        _ => return Err("`aws.access_key_id` and `aws.secret_access_key` need each other".into()),
    };
    Ok(Aws { region: aws.region.clone(), credentials })
}

pub(crate) fn make_provider(settings: &ProviderSettings) -> Result<Box<dyn Provider>, String> {
    let kind = settings.kind;
    let base_url = settings.base_url.as_deref().or(kind.base_url());
    let endpoint = Endpoint {
        base_url: match (base_url, kind.protocol()) {
            (Some(url), _) => url.to_owned(),
            (None, Protocol::Demo | Protocol::Bedrock) => String::new(),
            (None, _) => return Err("`base_url` is missing".into()),
        },
        api_key: settings.api_key.as_ref().or(settings.api_keys.first()).map(|key| key.expose().to_owned()),
        headers: settings.headers.iter().map(|(n, v)| (n.clone(), v.expose().to_owned())).collect(),
    };
    match kind.protocol() {
        Protocol::Demo => Ok(Box::new(Local::demo())),
        Protocol::OpenAi => Ok(Box::new(OpenAi::new(&endpoint)?.with_responses())),
        Protocol::Anthropic => Ok(Box::new(Anthropic::new(&endpoint)?)),
        Protocol::Gemini => Ok(Box::new(Gemini::new(&endpoint)?)),
        Protocol::Bedrock => Ok(Box::new(Bedrock::new(&endpoint, aws(settings)?)?)),
        Protocol::OpenAiChat => Ok(Box::new(OpenAi::new(&endpoint)?)),
    }
}
