//! What types alone cannot say: names that must exist, values that make no sense together.

mod data;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use access::identity::Roles;
use access::prices::{PriceTable, Prices};
use base::{Duration, Secret};
use gateway::settings::{BreakerSettings, ProviderSettings, ResilienceOverrides};
use llm::Kind;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use server::settings::{Role, TlsSettings};

use super::Settings;
use super::log_level;
use super::problem::{Origin, Path, Problem, did_you_mean};
use super::tree::Node;

/// The longest duration that is accepted, so that adding it to a clock cannot overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
const MAX_RETRIES: u32 = 20;
/// Headers that belong to the connection, not to the settings.
const RESERVED_HEADERS: [&str; 6] =
    ["host", "connection", "content-length", "content-type", "transfer-encoding", "te"];

/// Adds everything wrong with `settings` to `problems`. `tree` is what they were read from; it gives the
/// places, and the names of what is there but could not be read and was already reported.
pub fn validate(settings: &Settings, tree: &Node, problems: &mut Vec<Problem>) {
    let mut checks = Checks { settings, tree, problems };
    checks.server();
    checks.data();
    checks.providers();
    checks.models();
    checks.resilience();
    checks.prices();
    checks.identity();
    checks.limits();
    checks.rotation();
    checks.telemetry();
}

struct Checks<'a> {
    settings: &'a Settings,
    tree: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Checks<'_> {
    fn report(&mut self, path: &Path, message: impl Into<String>) {
        self.problems.push(Problem::new(self.tree.origin_of(path), path, message));
    }

    fn report_with(&mut self, path: &Path, message: impl Into<String>, suggestion: Option<String>) {
        self.report(path, message);
        if let Some(last) = self.problems.last_mut() {
            last.suggestion = suggestion;
        }
    }

    /// Whether a value at `path` is there but was reported before, so that its absence is no news.
    fn is_bad(&self, path: &Path) -> bool {
        self.tree.find(path).is_some_and(|node| node.bad)
    }

    /// The names of a section: those that were read and those that were written but reported.
    fn names(&self, section: &str, read: impl Iterator<Item = String>) -> BTreeSet<String> {
        let written = self.tree.find(&Path::of(section));
        read.chain(written.into_iter().flat_map(Node::keys).map(str::to_owned)).collect()
    }

    fn provider_names(&self) -> BTreeSet<String> {
        self.names("providers", self.settings.providers.keys().cloned())
    }

    fn model_names(&self) -> BTreeSet<String> {
        self.names("models", self.settings.models.keys().cloned())
    }

    fn server(&mut self) {
        let server = &self.settings.server;
        let root = Path::of("server");
        self.roles(&root.key("roles"), &server.roles);
        if let Some(tls) = &server.tls {
            self.tls(&root.key("tls"), tls);
        }
        if let Some(listeners) = &server.listeners {
            let path = root.key("listeners");
            if listeners.is_empty() && !self.has_bad_item(&path) {
                self.report(&path, "at least one listener is needed");
            }
            for (index, listener) in listeners.iter().enumerate() {
                self.roles(&path.index(index).key("roles"), &listener.roles);
                if let Some(tls) = &listener.tls {
                    self.tls(&path.index(index).key("tls"), tls);
                }
            }
            if server.tls.is_some() {
                let message =
                    "`tls` belongs to `listen`, which `listeners` replaces: write it in the listener";
                self.report(&root.key("tls"), message);
            }
            let roles = root.key("roles");
            if let Some(Origin::Env(_) | Origin::Flag(_)) = self.tree.find(&roles).map(|node| &node.origin) {
                self.report(
                    &roles,
                    "is for `listen`, which `listeners` replaces: each listener has its own roles",
                );
            }
        }
        self.addresses();
        if server.threads.is_some_and(|threads| threads == 0 || threads > 1024) {
            self.report(&root.key("threads"), "must be from 1 to 1024");
        }
        if server.max_concurrent_requests == 0 {
            self.report(&root.key("max_concurrent_requests"), "must be at least 1");
        }
        if server.max_body.0 == 0 {
            self.report(&root.key("max_body"), "must be more than 0");
        }
        self.wait(&root.key("header_timeout"), server.header_timeout);
        self.wait(&root.key("body_timeout"), server.body_timeout);
        self.bounded(&root.key("drain_delay"), server.drain_delay);
        self.bounded(&root.key("shutdown_grace"), server.shutdown_grace);
    }

    /// Two listeners cannot have one address.
    fn addresses(&mut self) {
        let server = &self.settings.server;
        let root = Path::of("server");
        let mut all: Vec<(Path, SocketAddr)> = match &server.listeners {
            Some(listeners) => listeners
                .iter()
                .enumerate()
                .map(|(index, listener)| (root.key("listeners").index(index).key("addr"), listener.addr))
                .collect(),
            None => vec![(root.key("listen"), server.listen)],
        };
        all.extend(server.metrics.map(|metrics| (root.key("metrics"), metrics)));
        let mut seen: Vec<(Path, SocketAddr)> = Vec::new();
        for (path, addr) in all {
            match seen.iter().find(|(_, other)| *other == addr && addr.port() != 0) {
                Some((other, _)) => {
                    let message = format!("the address is the same as that of `{other}`");
                    self.report(&path, message);
                }
                None => seen.push((path, addr)),
            }
        }
    }

    fn has_bad_item(&self, path: &Path) -> bool {
        self.is_bad(&path.index(0))
    }

    fn roles(&mut self, path: &Path, roles: &[Role]) {
        if roles.is_empty() && !self.has_bad_item(path) {
            self.report(path, "at least one role is needed: gateway or admin");
        }
        if (1..roles.len()).any(|at| roles.get(..at).is_some_and(|before| before.contains(&roles[at]))) {
            self.report(path, "a role is named twice");
        }
    }

    fn tls(&mut self, path: &Path, tls: &TlsSettings) {
        if ["cert", "key", "pkcs12", "password"].iter().any(|key| self.is_bad(&path.key(key))) {
            return;
        }
        match (&tls.cert, &tls.key, &tls.pkcs12) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => {}
            (Some(_), None, None) => self.report(path, "`cert` needs its `key`"),
            (None, Some(_), None) => self.report(path, "`key` needs its `cert`"),
            (None, None, None) => {
                self.report(path, "a certificate is needed: `cert` and `key` (PEM), or `pkcs12`");
            }
            _ => self.report(path, "either `cert` and `key` (PEM), or `pkcs12`, not both"),
        }
        if tls.password.is_some() && tls.pkcs12.is_none() {
            self.report(&path.key("password"), "is for `pkcs12`, which is not set");
        }
    }

    fn prices(&mut self) {
        for (name, price) in &self.settings.prices {
            let path = Path::of("prices").key(name);
            if let Err(error) = access::prices::check_name(name) {
                self.report(&path, error.to_string());
            } else if let Err(error) = price.check() {
                self.report(&path, error.to_string());
            }
        }
        if let Err(error) = PriceTable::new(&self.settings.prices, &Prices::new()) {
            self.report(&Path::of("prices"), error.to_string());
        }
    }

    fn limits(&mut self) {
        let limits = self.settings.limits.problems().into_iter().map(|(path, text)| ("limits", path, text));
        let ip = self.settings.ip.problems().into_iter().map(|(path, text)| ("ip", path, text));
        for (section, path, text) in limits.chain(ip).collect::<Vec<_>>() {
            self.report(&Path::of(&format!("{section}.{path}")), text);
        }
    }

    fn identity(&mut self) {
        match Roles::of_settings(&self.settings.roles, &self.settings.rbac) {
            Ok((roles, _)) => {
                for (path, message) in self.settings.auth.check(&roles) {
                    self.report(&Path::of(&path), message);
                }
            }
            Err(errors) => {
                for (path, error) in errors {
                    self.report(&Path::of(&path), error.to_string());
                }
            }
        }
    }

    fn providers(&mut self) {
        for (name, provider) in &self.settings.providers {
            let path = Path::of("providers").key(name);
            if !is_provider_name(name) {
                let message = format!(
                    "`{name}` is not a provider's name: use a-z, 0-9, `.`, `_` and `-`, a letter or digit first"
                );
                self.report(&path, message);
            }
            self.provider(&path, provider);
        }
    }

    fn provider(&mut self, path: &Path, provider: &ProviderSettings) {
        let base_url = path.key("base_url");
        let mut local = false;
        match provider.base_url.as_deref().map(|url| check_url(url, false)) {
            Some(Ok(url)) => local = is_loopback(&url),
            Some(Err(message)) => self.report(&base_url, message),
            None if provider.kind.needs_base_url() && !self.is_bad(&base_url) => {
                let message = format!("a provider of kind `{}` needs a `base_url`", provider.kind.as_str());
                self.report_with(path, message, Some("for example `http://127.0.0.1:11434/v1`".into()));
            }
            None => {}
        }
        let api_key = path.key("api_key");
        for (at, key) in provider.api_keys.iter().enumerate() {
            if key.expose().is_empty() || HeaderValue::from_str(key.expose()).is_err() {
                let message = "must be a key that a header can carry, and not empty";
                self.report(&path.key("api_keys").index(at), message);
            }
        }
        match &provider.api_key {
            None if !provider.api_keys.is_empty() => {}
            Some(key) if key.expose().is_empty() => self.report(&api_key, "must not be empty"),
            Some(key) if HeaderValue::from_str(key.expose()).is_err() => {
                self.report(&api_key, "contains a character that a header cannot carry, such as a line end");
            }
            Some(_) => {}
            None if provider.kind.needs_key() && !local && !self.is_bad(&api_key) => {
                let message = format!("a provider of kind `{}` needs an `api_key`", provider.kind.as_str());
                let variable = provider.kind.env().first().copied().unwrap_or("API_KEY");
                self.report_with(path, message, Some(format!("for example `api_key: ${{{variable}}}`")));
            }
            None => {}
        }
        if provider.kind == Kind::DEMO {
            let unused = [
                ("base_url", provider.base_url.is_some()),
                ("api_key", provider.api_key.is_some()),
                ("api_keys", !provider.api_keys.is_empty()),
                ("headers", !provider.headers.is_empty()),
            ];
            for (key, _) in unused.iter().filter(|(_, set)| *set) {
                self.report(&path.key(key), "means nothing for the kind `demo`, which calls nobody");
            }
        }
        self.headers(&path.key("headers"), &provider.headers);
        if provider.max_concurrent_requests == Some(0) {
            self.report(&path.key("max_concurrent_requests"), "must be at least 1");
        }
    }

    fn headers(&mut self, path: &Path, headers: &std::collections::BTreeMap<String, Secret>) {
        for (name, value) in headers {
            let path = path.key(name);
            match HeaderName::from_bytes(name.as_bytes()) {
                Err(_) => self.report(&path, format!("`{name}` is not a header's name")),
                Ok(name) if RESERVED_HEADERS.contains(&name.as_str()) => {
                    self.report(&path, format!("the header `{name}` is set by Trunkline itself"));
                }
                Ok(_) => {}
            }
            if HeaderValue::from_str(value.expose()).is_err() {
                self.report(&path, "contains a character that a header cannot carry, such as a line end");
            }
        }
    }

    fn models(&mut self) {
        let providers = self.provider_names();
        for (alias, model) in &self.settings.models {
            let path = Path::of("models").key(alias);
            if alias.is_empty() || alias.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
                let message =
                    "an alias must not be empty nor contain `/` or spaces (`provider/model` needs no alias)";
                self.report(&path, message);
            }
            if model.targets.is_empty() && !self.has_bad_item(&path.key("targets")) {
                self.report(&path.key("targets"), "at least one target is needed");
            }
            for (index, target) in model.targets.iter().enumerate() {
                let path = path.key("targets").index(index);
                self.known_provider(&path.key("provider"), &target.provider, &providers);
                if target.model.is_empty() {
                    self.report(&path.key("model"), "must not be empty");
                }
                self.overrides(&path.key("resilience"), target.resilience.as_ref());
            }
            if let Some(to) = &model.context_fallback {
                self.context_fallback(&path.key("context_fallback"), alias, to, &providers);
            }
            self.overrides(&path.key("resilience"), model.resilience.as_ref());
        }
    }

    fn known_provider(&mut self, path: &Path, name: &str, providers: &BTreeSet<String>) {
        if !providers.contains(name) {
            let known: Vec<_> = providers.iter().map(String::as_str).collect();
            let message = format!("no provider `{}` is declared", self.printable(path, name));
            self.report_with(path, message, did_you_mean(name, &known));
        }
    }

    /// A value for a message, unless it came from the environment.
    fn printable(&self, path: &Path, text: &str) -> String {
        match self.tree.find(path).map(|node| &node.value) {
            Some(super::tree::Value::Scalar(scalar)) if !scalar.hidden => text.to_owned(),
            _ => Secret::HIDDEN.to_owned(),
        }
    }

    fn context_fallback(&mut self, path: &Path, alias: &str, to: &str, providers: &BTreeSet<String>) {
        if let Some((provider, model)) = to.split_once('/') {
            self.known_provider(path, provider, providers);
            if model.is_empty() {
                self.report(path, "names a provider without a model");
            }
            return;
        }
        let known = self.model_names();
        if !known.contains(to) {
            let names: Vec<_> = known.iter().map(String::as_str).collect();
            let message = format!("no alias `{}` is declared", self.printable(path, to));
            self.report_with(path, message, did_you_mean(to, &names));
            return;
        }
        let mut seen = BTreeSet::from([alias]);
        let mut at = Some(to);
        while let Some(name) = at {
            if !seen.insert(name) {
                // Reported at each alias that is part of the circle, not at those that lead into it.
                if name == alias {
                    self.report(path, "leads in a circle back to this alias");
                }
                return;
            }
            at = self.settings.models.get(name).and_then(|model| model.context_fallback.as_deref());
        }
    }

    fn resilience(&mut self) {
        let all = &self.settings.resilience;
        let set = ResilienceOverrides {
            retries: Some(all.retries),
            backoff: Some(all.backoff),
            max_backoff: Some(all.max_backoff),
            connect_timeout: Some(all.connect_timeout),
            first_token_timeout: Some(all.first_token_timeout),
            idle_timeout: Some(all.idle_timeout),
            request_timeout: Some(all.request_timeout),
            keep_alive: Some(all.keep_alive),
            stream_timeout: Some(all.stream_timeout),
            breaker: Some(all.breaker.clone()),
        };
        self.overrides(&Path::of("resilience"), Some(&set));
    }

    fn overrides(&mut self, path: &Path, over: Option<&ResilienceOverrides>) {
        let Some(over) = over else { return };
        if over.retries.is_some_and(|retries| retries > MAX_RETRIES) {
            self.report(&path.key("retries"), format!("must be at most {MAX_RETRIES}"));
        }
        let waits = [
            ("connect_timeout", over.connect_timeout),
            ("first_token_timeout", over.first_token_timeout),
            ("idle_timeout", over.idle_timeout),
            ("request_timeout", over.request_timeout),
            ("stream_timeout", over.stream_timeout),
        ];
        for (key, wait) in waits {
            if let Some(wait) = wait {
                self.wait(&path.key(key), wait);
            }
        }
        let pauses =
            [("backoff", over.backoff), ("max_backoff", over.max_backoff), ("keep_alive", over.keep_alive)];
        for (key, wait) in pauses {
            if let Some(wait) = wait {
                self.bounded(&path.key(key), wait);
            }
        }
        if let (Some(first), Some(most)) = (over.backoff, over.max_backoff)
            && first > most
        {
            self.report(&path.key("backoff"), "must not be longer than `max_backoff`");
        }
        if let Some(breaker) = &over.breaker {
            self.breaker(&path.key("breaker"), breaker);
        }
    }

    fn breaker(&mut self, path: &Path, breaker: &BreakerSettings) {
        if breaker.failures == 0 {
            self.report(&path.key("failures"), "must be at least 1");
        }
        if breaker.successes == 0 {
            self.report(&path.key("successes"), "must be at least 1");
        }
        self.wait(&path.key("open_for"), breaker.open_for);
    }

    /// A time limit: zero would refuse everything.
    fn wait(&mut self, path: &Path, wait: Duration) {
        if wait.0.is_zero() {
            self.report(path, "must be more than 0");
        }
        self.bounded(path, wait);
    }

    fn bounded(&mut self, path: &Path, wait: Duration) {
        if wait > LONGEST {
            self.report(path, format!("must be at most {LONGEST}"));
        }
    }

    fn rotation(&mut self) {
        let (path, rotation) = (Path::of("rotation"), &self.settings.rotation);
        if let Some(every) = rotation.every {
            self.wait(&path.key("every"), every);
        }
        self.bounded(&path.key("notice"), rotation.notice);
        self.bounded(&path.key("overlap"), rotation.overlap);
        if rotation.every.is_some_and(|every| every <= rotation.notice) {
            self.report(&path.key("notice"), "must be shorter than `every`: it would be told at once");
        }
    }

    fn telemetry(&mut self) {
        let telemetry = &self.settings.telemetry;
        let root = Path::of("telemetry");
        let level = root.key("log").key("level");
        if let Err((word, message)) = log_level::check(&telemetry.log.level) {
            let word = self.printable(&level, &word);
            self.report(&level, format!("`{word}`: {message}"));
        }
        for (key, text) in [("service", &telemetry.service), ("environment", &telemetry.environment)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                self.report(&root.key(key), "must not be empty");
            }
        }
        if telemetry.attributes.keys().any(String::is_empty) {
            self.report(&root.key("attributes"), "an attribute must have a name");
        }
        let otlp = &telemetry.otlp;
        let path = root.key("otlp");
        let urls = [
            ("endpoint", &otlp.endpoint, false),
            ("traces_endpoint", &otlp.traces_endpoint, true),
            ("metrics_endpoint", &otlp.metrics_endpoint, true),
        ];
        for (key, url, whole) in urls {
            if let Some(Err(message)) = url.as_deref().map(|url| check_url(url, whole)) {
                self.report(&path.key(key), message);
            }
        }
        self.headers(&path.key("headers"), &otlp.headers);
        self.wait(&path.key("metrics_interval"), otlp.metrics_interval);
        if !(0.0..=1.0).contains(&otlp.sample_ratio) {
            self.report(&path.key("sample_ratio"), "must be from 0 to 1");
        }
    }
}

/// `[a-z0-9][a-z0-9._-]*`: a name that can stand before the `/` of `provider/model`.
fn is_provider_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(plain) && name.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-'))
}

/// An address we send requests to; `whole` when nothing is appended to it, so that it may have a query. The
/// message never repeats the URL, which may carry a password.
fn check_url(text: &str, whole: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL, as `https://host/v1`")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must begin with `http://` or `https://` and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user or password: use `api_key` or `headers`");
    }
    if url.fragment().is_some() {
        return Err("must not contain `#`");
    }
    if !whole && url.query().is_some() {
        return Err("must not contain a query (`?…`), because a path is appended to it");
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
