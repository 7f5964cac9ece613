//! What types alone cannot say of a provider or a model that the admin API makes. The settings file has the same
//! checks, with lines and columns (`trunkline::settings`).

use std::collections::BTreeSet;

use base::Duration;
use gateway::settings::{ModelSettings, Models, ProviderSettings, Providers, ResilienceOverrides};
use http::{HeaderName, HeaderValue};
use llm::Kind;

use super::section::Wrong;

/// The longest name of a provider or an alias.
const LONGEST_NAME: usize = 200;
/// The most targets of one alias.
const MAX_TARGETS: usize = 100;
/// The most headers of one provider.
const MAX_HEADERS: usize = 50;
/// The most retries of one target.
const MAX_RETRIES: u32 = 20;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Headers that we set ourselves.
const RESERVED: &[&str] =
    &["host", "connection", "content-length", "content-type", "transfer-encoding", "te"];

fn wrong<T>(field: impl Into<String>, text: impl Into<String>) -> Result<T, Wrong> {
    Err((field.into(), text.into()))
}

/// Whether this can be a provider.
pub(super) fn provider(name: &str, provider: &ProviderSettings) -> Result<(), Wrong> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = |c: char| plain(c) || matches!(c, '.' | '_' | '-');
    if !name.starts_with(plain) || !name.chars().all(good) || name.len() > LONGEST_NAME {
        return wrong(
            "name",
            "a provider's name is made of a-z, 0-9, `.`, `_` and `-`, a letter or digit first",
        );
    }
    if provider.max_concurrent_requests == Some(0) {
        return wrong("max_concurrent_requests", "expected at least 1");
    }
    let unused = [
        ("base_url", provider.base_url.is_some()),
        ("api_key", provider.api_key.is_some()),
        ("api_keys", !provider.api_keys.is_empty()),
        ("headers", !provider.headers.is_empty()),
    ];
    if provider.kind == Kind::DEMO {
        return match unused.iter().find(|(_, set)| *set) {
            Some((field, _)) => wrong(*field, "this means nothing for the kind `demo`, which calls nobody"),
            None => Ok(()),
        };
    }
    for (at, key) in provider.api_keys.iter().enumerate() {
        if key.expose().is_empty() || HeaderValue::from_str(key.expose()).is_err() {
            return wrong(format!("api_keys[{at}]"), "expected a key that a header can carry");
        }
    }
    match &provider.api_key {
        None if !provider.api_keys.is_empty() => {}
        Some(key) if key.expose().is_empty() => {
            return wrong("api_key", "expected a key, found an empty text");
        }
        Some(key) if HeaderValue::from_str(key.expose()).is_err() => {
            return wrong("api_key", "it has a character that a header cannot carry, such as a line end");
        }
        None if provider.kind.needs_key() && !provider.base_url.as_deref().is_some_and(is_loopback) => {
            let text = format!("a provider of kind `{}` needs an API key", provider.kind.as_str());
            return wrong("api_key", text);
        }
        _ => {}
    }
    if provider.kind.needs_base_url() && provider.base_url.is_none() {
        let kind = provider.kind.as_str();
        let text = format!("a provider of kind `{kind}` needs it, as `http://127.0.0.1:11434/v1`");
        return wrong("base_url", text);
    }
    if provider.base_url.as_deref().is_some_and(|url| url.contains('#')) {
        return wrong("base_url", "expected a URL without `#`");
    }
    if provider.headers.len() > MAX_HEADERS {
        return wrong("headers", format!("expected at most {MAX_HEADERS} headers"));
    }
    for (name, value) in &provider.headers {
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => return wrong("headers", "one of the names is no header's name"),
            Ok(name) if RESERVED.contains(&name.as_str()) => {
                return wrong(format!("headers.{name}"), "this header is set by Trunkline itself");
            }
            Ok(name) if value.expose().is_empty() => {
                return wrong(format!("headers.{name}"), "expected a value, found an empty text");
            }
            Ok(name) if HeaderValue::from_str(value.expose()).is_err() => {
                return wrong(format!("headers.{name}"), "it has a character that a header cannot carry");
            }
            Ok(_) => {}
        }
    }
    gateway::check_provider(provider).map_err(|text| ("base_url".to_owned(), text))
}

fn is_loopback(url: &str) -> bool {
    let host = url.parse::<http::Uri>().ok().and_then(|url| url.host().map(str::to_owned));
    host.is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Whether this can be an alias beside these providers.
pub(super) fn model(alias: &str, model: &ModelSettings, providers: &Providers) -> Result<(), Wrong> {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if alias.is_empty() || alias.len() > LONGEST_NAME || alias.contains(bad) {
        let text = format!(
            "an alias has 1 to {LONGEST_NAME} characters, no `/` and no spaces (`provider/model` needs none)"
        );
        return wrong("name", text);
    }
    if !(1..=MAX_TARGETS).contains(&model.targets.len()) {
        return wrong("targets", format!("expected 1 to {MAX_TARGETS} targets"));
    }
    for (at, target) in model.targets.iter().enumerate() {
        if !providers.contains_key(&target.provider) {
            return wrong(format!("targets[{at}].provider"), unknown_provider(&target.provider, providers));
        }
        if target.model.is_empty() || target.model.len() > LONGEST_NAME {
            let text = format!("expected 1 to {LONGEST_NAME} characters");
            return wrong(format!("targets[{at}].model"), text);
        }
        overrides(&format!("targets[{at}].resilience"), target.resilience.as_ref())?;
    }
    if let Some((provider, name)) = model.context_fallback.as_deref().and_then(|to| to.split_once('/')) {
        if !providers.contains_key(provider) {
            return wrong("context_fallback", unknown_provider(provider, providers));
        }
        if name.is_empty() {
            return wrong("context_fallback", "it names a provider without a model");
        }
    }
    overrides("resilience", model.resilience.as_ref())
}

/// Whether an alias's fallback leads somewhere, and not back.
pub(super) fn fallback(alias: &str, model: &ModelSettings, models: &Models) -> Result<(), Wrong> {
    let mut seen = BTreeSet::from([alias]);
    let mut next = model.context_fallback.as_deref();
    while let Some(to) = next.filter(|to| !to.contains('/')) {
        if !seen.insert(to) {
            return wrong("context_fallback", "it leads in a circle back to this alias");
        }
        let Some(found) = models.get(to) else {
            return wrong("context_fallback", format!("there is no model `{to}`: make it first"));
        };
        next = found.context_fallback.as_deref();
    }
    Ok(())
}

fn unknown_provider(name: &str, providers: &Providers) -> String {
    const SHOWN: usize = 20;
    let known: Vec<_> = providers.keys().take(SHOWN).map(|name| format!("`{name}`")).collect();
    format!("there is no provider `{name}`: make it first, or use {}", known.join(", "))
}

fn overrides(path: &str, over: Option<&ResilienceOverrides>) -> Result<(), Wrong> {
    let Some(over) = over else { return Ok(()) };
    if over.retries.is_some_and(|retries| retries > MAX_RETRIES) {
        return wrong(format!("{path}.retries"), format!("expected at most {MAX_RETRIES}"));
    }
    let open_for = over.breaker.as_ref().map(|breaker| breaker.open_for);
    // Zero as a time limit would refuse everything.
    let waits = [
        ("connect_timeout", over.connect_timeout, true),
        ("first_token_timeout", over.first_token_timeout, true),
        ("idle_timeout", over.idle_timeout, true),
        ("request_timeout", over.request_timeout, true),
        ("keep_alive", over.keep_alive, false),
        ("stream_timeout", over.stream_timeout, true),
        ("breaker.open_for", open_for, true),
        ("backoff", over.backoff, false),
        ("max_backoff", over.max_backoff, false),
    ];
    for (key, wait, positive) in waits {
        let Some(wait) = wait else { continue };
        if wait > LONGEST || (positive && wait.0.is_zero()) {
            let least = if positive { "more than 0" } else { "0" };
            return wrong(format!("{path}.{key}"), format!("expected {least} and at most {LONGEST}"));
        }
    }
    if let (Some(first), Some(most)) = (over.backoff, over.max_backoff)
        && first > most
    {
        return wrong(format!("{path}.backoff"), "expected at most `max_backoff`");
    }
    if over.breaker.as_ref().is_some_and(|breaker| breaker.failures == 0 || breaker.successes == 0) {
        return wrong(format!("{path}.breaker"), "expected `failures` and `successes` of at least 1");
    }
    Ok(())
}
