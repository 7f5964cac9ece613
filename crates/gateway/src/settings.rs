//! The sections `providers:`, `models:` and `resilience:`.

use std::collections::BTreeMap;

use base::{Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `providers:` by name.
pub type Providers = BTreeMap<String, ProviderSettings>;
/// `models:` by alias.
pub type Models = BTreeMap<String, ModelSettings>;

/// One provider: somebody who answers model calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// What is spoken there: `openai`, one of the hosts of docs/providers.md, `openai-compatible` (needs
    /// `base_url`) or `demo` (built in, offline).
    pub kind: llm::Kind,
    /// Where its API begins, for example `https://api.openai.com/v1`. Default: the kind's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The key we send. Hosts need one; what runs at a `base_url` of your own may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// More keys for the same provider. All are taken in turn; one that is refused or limited rests for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<Secret>,
    /// For the kind `bedrock`: the region, and who signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsSettings>,
    /// Headers sent with every request to it, for example `OpenAI-Organization`. Values are secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Requests in flight to it at once, from one replica; more wait for nobody and go to the next target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_requests: Option<u32>,
}

/// What Amazon Bedrock wants to know. Without keys here, `api_key` is a Bedrock API key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsSettings {
    /// As `eu-central-1`. Default: that of `base_url`, else `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The access key that signs requests, as `AKIA…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// The session of temporary credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// One alias: the name clients use, and where it leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// How a target is chosen.
    #[serde(default)]
    pub strategy: Strategy,
    /// Where calls go, first choice first.
    #[schemars(length(min = 1))]
    pub targets: Vec<TargetSettings>,
    /// The model (alias or `provider/model`) that takes over when a request is too long for these targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_fallback: Option<String>,
    /// What differs from `resilience:` for this alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resilience: Option<ResilienceOverrides>,
}

/// How a target is chosen among an alias's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// In the order written; the next one only when those before it cannot answer.
    #[default]
    Priority,
    /// At random, each as often as its `weight` says.
    Weighted,
    /// Each in turn.
    RoundRobin,
    /// The one that answered soonest of late; now and then another, to know how it does today.
    LeastLatency,
    /// The cheapest by the price table.
    LeastCost,
    /// The one with the fewest calls in flight from this replica.
    LeastBusy,
    /// Those that serve the request's complexity: long requests and those with tools, pictures, a schema or
    /// reasoning are complex, others simple.
    Complexity,
}

/// How much a request asks of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Complexity {
    /// A short text.
    Simple,
    /// Anything else.
    Complex,
}

/// One place an alias can lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSettings {
    /// A name from `providers:`.
    pub provider: String,
    /// The model's name at that provider.
    pub model: String,
    /// For the strategy `weighted`: its share beside the others'. 0: only when no other can answer.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
    /// For the strategy `complexity`: the requests that come here first. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<Complexity>,
    /// What differs from the alias's resilience for this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resilience: Option<ResilienceOverrides>,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

macro_rules! resilience {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
        /// `resilience:`, how long to wait and how often to try.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct ResilienceSettings {
            $($(#[$doc])* pub $name: $type,)*
            /// When a target that keeps failing is left alone.
            pub breaker: BreakerSettings,
        }

        /// The part of `resilience:` that an alias or a target may set for itself.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct ResilienceOverrides {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
            /// When a target that keeps failing is left alone.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub breaker: Option<BreakerSettings>,
        }

        impl Default for ResilienceSettings {
            fn default() -> Self {
                ResilienceSettings { $($name: $default,)* breaker: BreakerSettings::default() }
            }
        }

        impl ResilienceSettings {
            /// These settings with what `over` sets.
            pub fn with(&self, over: Option<&ResilienceOverrides>) -> Self {
                let Some(over) = over else { return self.clone() };
                ResilienceSettings {
                    $($name: over.$name.unwrap_or(self.$name),)*
                    breaker: over.breaker.clone().unwrap_or_else(|| self.breaker.clone()),
                }
            }
        }
    };
}

resilience! {
    /// How often one target is tried again after it failed (0: never). Other targets come after that.
    retries: u32 = 3,
    /// The wait before the first retry; it doubles each time, with jitter.
    backoff: Duration = Duration::from_secs(1),
    /// The longest wait between two attempts, and the longest `Retry-After` that is waited for.
    max_backoff: Duration = Duration::from_secs(30),
    /// For the TCP and TLS handshakes with a provider.
    connect_timeout: Duration = Duration::from_secs(5),
    /// From sending a request to the first content token of a stream. Without streaming it bounds an attempt
    /// that has another target to fall back to.
    first_token_timeout: Duration = Duration::from_secs(30),
    /// The longest silence within a stream that has begun.
    idle_timeout: Duration = Duration::from_secs(30),
    /// From the request's arrival to the head of our answer, every attempt and wait included.
    request_timeout: Duration = Duration::from_secs(55),
    /// How often a stream that has nothing to say sends a comment to the client, so that proxies in front of us do
    /// not take it for dead; `0s` for never.
    keep_alive: Duration = Duration::from_secs(15),
    /// The longest a stream may last in all.
    stream_timeout: Duration = Duration::from_secs(1800),
}

/// When a target that keeps failing is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// So many failures in a row open it.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// So many successful probes in a row close it again.
    #[schemars(range(min = 1))]
    pub successes: u32,
    /// How long it stays open before a probe is let through.
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        BreakerSettings { failures: 5, successes: 2, open_for: Duration::from_secs(60) }
    }
}
