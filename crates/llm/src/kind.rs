//! The kinds of providers: one table. Most speak OpenAI's protocol at an address of their own, so that a kind is a
//! line; one that does not is a file in `providers/`, and a line that says so.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How providers of a kind are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nobody is called.
    Demo,
    /// OpenAI's, with responses and stored answers: OpenAI itself.
    OpenAi,
    /// OpenAI's older part, as everybody else who took it over: chat, completions, embeddings.
    OpenAiChat,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's own.
    Gemini,
    /// Bedrock's Converse.
    Bedrock,
}

/// What a kind is.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    /// How Conduit's admin API calls it.
    conduit: &'static str,
    protocol: Protocol,
    /// Where its API is; `None`: at an address that the settings must give.
    base_url: Option<&'static str>,
    /// The variables that may hold its key, the first that is set counts.
    env: &'static [&'static str],
    /// It answers nobody without a key.
    needs_key: bool,
}

const fn host(
    name: &'static str,
    conduit: &'static str,
    base_url: &'static str,
    env: &'static [&'static str],
) -> Entry {
    Entry { name, conduit, protocol: Protocol::OpenAiChat, base_url: Some(base_url), env, needs_key: true }
}

const fn local(name: &'static str, conduit: &'static str, base_url: Option<&'static str>) -> Entry {
    Entry { name, conduit, protocol: Protocol::OpenAiChat, base_url, env: &[], needs_key: false }
}

/// Every kind. Addresses are those of each host's documentation of its OpenAI-compatible API, read in November 2026.
static TABLE: &[Entry] = &[
    Entry {
        name: "openai",
        conduit: "OpenAI",
        protocol: Protocol::OpenAi,
        base_url: Some("https://api.openai.com/v1"),
        env: &["OPENAI_API_KEY"],
        needs_key: true,
    },
    local("openai-compatible", "OpenAICompatible", None),
    Entry {
        name: "demo",
        conduit: "Demo",
        protocol: Protocol::Demo,
        base_url: None,
        env: &[],
        needs_key: false,
    },
    Entry {
        name: "anthropic",
        conduit: "Anthropic",
        protocol: Protocol::Anthropic,
        base_url: Some("https://api.anthropic.com"),
        env: &["ANTHROPIC_API_KEY"],
        needs_key: true,
    },
    Entry {
        name: "gemini",
        conduit: "GoogleGemini",
        protocol: Protocol::Gemini,
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        needs_key: true,
    },
    Entry {
        name: "bedrock",
        conduit: "Bedrock",
        protocol: Protocol::Bedrock,
        base_url: None,
        env: &["AWS_BEARER_TOKEN_BEDROCK"],
        needs_key: false,
    },
    host("mistral", "Mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"]),
    host("cohere", "Cohere", "https://api.cohere.ai/compatibility/v1", &["COHERE_API_KEY", "CO_API_KEY"]),
    host("groq", "Groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"]),
    host("deepseek", "DeepSeek", "https://api.deepseek.com/v1", &["DEEPSEEK_API_KEY"]),
    host("xai", "XAI", "https://api.x.ai/v1", &["XAI_API_KEY"]),
    host("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"]),
    host("together", "Together", "https://api.together.xyz/v1", &["TOGETHER_API_KEY"]),
    host("fireworks", "Fireworks", "https://api.fireworks.ai/inference/v1", &["FIREWORKS_API_KEY"]),
    host("cerebras", "Cerebras", "https://api.cerebras.ai/v1", &["CEREBRAS_API_KEY"]),
    host("sambanova", "SambaNova", "https://api.sambanova.ai/v1", &["SAMBANOVA_API_KEY"]),
    host("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai", &["DEEPINFRA_API_KEY"]),
    host("perplexity", "Perplexity", "https://api.perplexity.ai", &["PERPLEXITY_API_KEY"]),
    host("nvidia", "NVIDIA", "https://integrate.api.nvidia.com/v1", &["NVIDIA_API_KEY"]),
    local("ollama", "Ollama", Some("http://127.0.0.1:11434/v1")),
    local("vllm", "VLLM", None),
];

/// What is spoken at a provider.
#[derive(Clone, Copy)]
pub struct Kind(&'static Entry);

impl Kind {
    /// OpenAI itself.
    pub const OPENAI: Kind = Kind(&TABLE[0]);
    /// Anything that speaks OpenAI's protocol at its own address: LM Studio, most hosts.
    pub const OPENAI_COMPATIBLE: Kind = Kind(&TABLE[1]);
    /// Built in: offline, deterministic, labelled as such.
    pub const DEMO: Kind = Kind(&TABLE[2]);

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Kind> {
        TABLE.iter().map(Kind)
    }

    /// The kind of a name in settings.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.0.name == name)
    }

    /// The kind of a name in Conduit's admin API: letters and digits count, in either case.
    pub fn from_conduit(name: &str) -> Option<Self> {
        let plain = |text: &str| {
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
        };
        Self::all().find(|kind| plain(kind.0.conduit) == plain(name) || plain(kind.0.name) == plain(name))
    }

    /// The name in settings.
    pub fn as_str(self) -> &'static str {
        self.0.name
    }

    /// How Conduit's admin API calls it.
    pub fn conduit(self) -> &'static str {
        self.0.conduit
    }

    /// How its providers are spoken to.
    pub fn protocol(self) -> Protocol {
        self.0.protocol
    }

    /// Where its API is, when the settings do not say.
    pub fn base_url(self) -> Option<&'static str> {
        self.0.base_url
    }

    /// The environment variables that may hold its key; the first that is set counts.
    pub fn env(self) -> &'static [&'static str] {
        self.0.env
    }

    /// It answers nobody without a key.
    pub fn needs_key(self) -> bool {
        self.0.needs_key
    }

    /// It is nowhere unless the settings give its address.
    pub fn needs_base_url(self) -> bool {
        self.0.base_url.is_none() && !matches!(self.0.protocol, Protocol::Demo | Protocol::Bedrock)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Kind {}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        Kind::from_name(&name).ok_or_else(|| {
            // In serde's own words for a variant, which settings and admin API turn into a suggestion.
            let names: Vec<String> = Kind::all().map(|kind| format!("`{}`", kind.as_str())).collect();
            D::Error::custom(format_args!("unknown variant `{name}`, expected one of {}", names.join(", ")))
        })
    }
}

impl JsonSchema for Kind {
    fn schema_name() -> Cow<'static, str> {
        "Kind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Kind::all().map(Kind::as_str).collect();
        json_schema!({"description": "What is spoken at a provider.", "type": "string", "enum": names})
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        let names: BTreeSet<_> = Kind::all().map(Kind::as_str).collect();
        let conduit: BTreeSet<_> = Kind::all().map(Kind::conduit).collect();
        assert_eq!((names.len(), conduit.len()), (TABLE.len(), TABLE.len()));
        for kind in Kind::all() {
            assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
            assert_eq!(Kind::from_conduit(kind.conduit()), Some(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<Kind>(&json).unwrap(), kind);
            assert!(kind.base_url().is_none_or(|url| url.starts_with("http")), "{kind:?}");
        }
        let unknown = serde_json::from_str::<Kind>("\"opnai\"").unwrap_err().to_string();
        assert!(unknown.contains("`openai`"), "{unknown}");
        assert_eq!(Kind::from_conduit("open ai"), Some(Kind::OPENAI));
    }
}
