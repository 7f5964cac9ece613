use std::collections::BTreeSet;

use gateway::settings::ResilienceSettings;

use super::super::{Env, Flags, Loaded, Settings, load};
use super::*;

/// What one name, with what it needs beside it, must make of the settings.
struct Case {
    name: &'static str,
    value: &'static str,
    beside: &'static [(&'static str, &'static str)],
    effect: fn(&Settings) -> String,
    expected: &'static str,
}

const PFX: (&str, &str) = (KESTREL_PATH, "/etc/ssl/conduit.pfx");
const URL: (&str, &str) = (KESTREL_URL, "https://0.0.0.0:5443");

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

fn header(settings: &Settings, name: &str) -> String {
    settings.telemetry.otlp.headers.get(name).map(|value| value.expose().to_owned()).unwrap_or_default()
}

fn openai_key(settings: &Settings) -> String {
    let key = settings.providers.get("openai").and_then(|openai| openai.api_key.as_ref());
    key.map(|key| key.expose().to_owned()).unwrap_or_default()
}

fn listeners(settings: &Settings) -> String {
    let one = |listener: server::settings::ListenerSettings| {
        let tls = listener
            .tls
            .map(|tls| format!("+{}", tls.pkcs12.unwrap_or_default().display()))
            .unwrap_or_default();
        format!("{}/{}{tls}", listener.addr, listener.roles.len())
    };
    settings.server.effective_listeners().into_iter().map(one).collect::<Vec<_>>().join(" ")
}

fn wait(pick: fn(&ResilienceSettings) -> base::Duration, settings: &Settings) -> String {
    pick(&settings.resilience).to_string()
}

macro_rules! case {
    ($name:expr, $value:expr, $beside:expr, $effect:expr, $expected:expr) => {
        Case { name: $name, value: $value, beside: $beside, effect: $effect, expected: $expected }
    };
}

mod bus;
mod conversations;
mod limits;
mod providers;

fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(limits::CASES).chain(bus::CASES).chain(conversations::CASES)
}

const CASES: &[Case] = &[
    case!(
        "DATABASE_URL",
        "postgresql://conduit:pw@db:5432/conduit",
        &[],
        |s| s.data.store.expose().to_owned(),
        "postgresql://conduit:pw@db:5432/conduit"
    ),
    case!(
        "CONDUITLLM__DATABASE__MAXPOOLSIZE",
        "150",
        &[],
        |s| s.data.pool.max_connections.to_string(),
        "150"
    ),
    case!("CONDUITLLM__DATABASE__MINPOOLSIZE", "10", &[], |s| s.data.pool.min_connections.to_string(), "10"),
    case!(
        "CONDUITLLM__DATABASE__CONNECTIONTIMEOUT",
        "15",
        &[],
        |s| s.data.pool.connect_timeout.to_string(),
        "15s"
    ),
    case!(
        "CONDUITLLM__DATABASE__COMMANDTIMEOUT",
        "45",
        &[],
        |s| s.data.pool.statement_timeout.to_string(),
        "45s"
    ),
    case!(
        "CONDUITLLM__DATABASE__CONNECTIONLIFETIME",
        "300",
        &[],
        |s| s.data.pool.max_lifetime.to_string(),
        "5m"
    ),
    case!("DATABASE_MAX_CONNECTIONS", "33", &[], |s| s.data.pool.max_connections.to_string(), "33"),
    case!("DATABASE_MIN_CONNECTIONS", "5", &[], |s| s.data.pool.min_connections.to_string(), "5"),
    case!("DATABASE_CONNECT_TIMEOUT", "10", &[], |s| s.data.pool.connect_timeout.to_string(), "10s"),
    case!(
        "LOG_LEVEL",
        "INFO",
        &[("TRUNKLINE_TELEMETRY__LOG__FORMAT", "json")],
        |s| s.telemetry.log.level.clone(),
        "info"
    ),
    case!("LOG_LEVEL", "WARNING", &[], |s| s.telemetry.log.level.clone(), "warn"),
    case!(
        "RUST_LOG",
        "dashflow_langserve=debug,dashflow_core=info",
        &[],
        |s| s.telemetry.log.level.clone(),
        "server=debug,access=debug,trunkline=debug,gateway=info,llm=info"
    ),
    case!("LOG_FORMAT", "json", &[], |s| format!("{:?}", s.telemetry.log.format), "Json"),
    case!("DD_ENV", "prod", &[], |s| text(s.telemetry.environment.as_ref()), "prod"),
    case!("ENV", "production", &[], |s| text(s.telemetry.environment.as_ref()), "production"),
    case!(
        "ASPNETCORE_ENVIRONMENT",
        "Production",
        &[],
        |s| text(s.telemetry.environment.as_ref()),
        "Production"
    ),
    case!("LANGCHAIN_ENV", "production", &[], |s| text(s.telemetry.environment.as_ref()), "production"),
    case!("TOKIO_WORKER_THREADS", "4", &[], |s| format!("{:?}", s.server.threads), "Some(4)"),
    case!("MAX_CONCURRENT_REQUESTS", "1000", &[], |s| s.server.max_concurrent_requests.to_string(), "1000"),
    case!("REQUEST_TIMEOUT", "60", &[], |s| wait(|r| r.request_timeout, s), "1m"),
    case!("LLM_TIMEOUT", "31", &[], |s| wait(|r| r.first_token_timeout, s), "31s"),
    case!("MAX_RETRIES", "5", &[], |s| s.resilience.retries.to_string(), "5"),
    case!("RETRY_BACKOFF_MS", "1500", &[], |s| wait(|r| r.backoff, s), "1500ms"),
    case!("ENABLE_METRICS", "false", &[], |s| s.server.metrics_enabled.to_string(), "false"),
    case!("ENABLE_HEALTH_CHECKS", "0", &[], |s| s.server.health_enabled.to_string(), "false"),
    case!("OPENAI_API_KEY", "sk-1", &[], openai_key, "sk-1"),
    case!(
        "OPENAI_BASE_URL",
        "http://127.0.0.1:9/v1",
        &[("OPENAI_API_KEY", "sk-1")],
        |s| text(s.providers["openai"].base_url.as_ref()),
        "http://127.0.0.1:9/v1"
    ),
    case!("PORT", "7000", &[], listeners, "0.0.0.0:7000/4"),
    case!("LANGCHAIN_PORT", "7000", &[], listeners, "127.0.0.1:7000/4"),
    case!(
        "LANGCHAIN_METRICS_PORT",
        "7001",
        &[],
        |s| format!("{:?}", s.server.metrics),
        "Some(127.0.0.1:7001)"
    ),
    case!("ASPNETCORE_URLS", "http://+:5000;http://[::]:5001", &[], listeners, "0.0.0.0:5000/4 [::]:5001/4"),
    case!("ASPNETCORE_URLS", "https://+:5443", &[PFX], listeners, "0.0.0.0:5443/4+/etc/ssl/conduit.pfx"),
    case!(
        KESTREL_URL,
        "https://0.0.0.0:5443",
        &[PFX],
        listeners,
        "127.0.0.1:8080/4 0.0.0.0:5443/4+/etc/ssl/conduit.pfx"
    ),
    case!(KESTREL_PATH, "/a.pfx", &[URL], listeners, "127.0.0.1:8080/4 0.0.0.0:5443/4+/a.pfx"),
    case!(
        KESTREL_PASSWORD,
        "pw",
        &[URL, PFX],
        |s| {
            let tls = s.server.listeners.iter().flatten().filter_map(|listener| listener.tls.as_ref()).next();
            tls.and_then(|tls| tls.password.as_ref())
                .map(|password| password.expose().to_owned())
                .unwrap_or_default()
        },
        "pw"
    ),
    case!(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://c:4318",
        &[],
        |s| text(s.telemetry.otlp.endpoint.as_ref()),
        "http://c:4318"
    ),
    case!(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "http://c/t",
        &[],
        |s| text(s.telemetry.otlp.traces_endpoint.as_ref()),
        "http://c/t"
    ),
    case!(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "http://c/m",
        &[],
        |s| text(s.telemetry.otlp.metrics_endpoint.as_ref()),
        "http://c/m"
    ),
    case!(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "api-key=a%20b,X-Two=2",
        &[],
        |s| format!("{}|{}", header(s, "api-key"), header(s, "x-two")),
        "a b|2"
    ),
    case!(
        "OTEL_METRIC_EXPORT_INTERVAL",
        "5000",
        &[],
        |s| s.telemetry.otlp.metrics_interval.to_string(),
        "5s"
    ),
    case!(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "DELTA",
        &[],
        |s| format!("{:?}", s.telemetry.otlp.temporality),
        "Delta"
    ),
    case!(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "LowMemory",
        &[],
        |s| format!("{:?}", s.telemetry.otlp.temporality),
        "Delta"
    ),
    case!(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "Cumulative",
        &[("DATADOG_API_KEY", "dd")],
        |s| format!("{:?}", s.telemetry.otlp.temporality),
        "Cumulative"
    ),
    case!("OTEL_TRACES_SAMPLER_ARG", "0.25", &[], |s| s.telemetry.otlp.sample_ratio.to_string(), "0.25"),
    case!("DD_SERVICE", "chat", &[], |s| text(s.telemetry.service.as_ref()), "chat"),
    case!(
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=a,deployment.environment.name=b,team=c%2Cd",
        &[],
        |s| format!(
            "{} {} {}",
            text(s.telemetry.service.as_ref()),
            text(s.telemetry.environment.as_ref()),
            text(s.telemetry.attributes.get("team"))
        ),
        "a b c,d"
    ),
    case!(
        "OTEL_SERVICE_NAME",
        "vcon-server",
        &[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a")],
        |s| text(s.telemetry.service.as_ref()),
        "vcon-server"
    ),
    case!(
        "DATADOG_API_KEY",
        "dd",
        &[],
        |s| format!("{} {}", text(s.telemetry.otlp.endpoint.as_ref()), header(s, "dd-api-key")),
        "https://otlp.datadoghq.com dd"
    ),
    case!(
        "DD_SITE",
        "datadoghq.eu",
        &[("DATADOG_API_KEY", "dd")],
        |s| text(s.telemetry.otlp.endpoint.as_ref()),
        "https://otlp.datadoghq.eu"
    ),
    case!(
        "NEW_RELIC_LICENSE_KEY",
        "nr",
        &[],
        |s| format!("{} {}", text(s.telemetry.otlp.endpoint.as_ref()), header(s, "api-key")),
        "https://otlp.nr-data.net nr"
    ),
    case!(
        "NEW_RELIC_LICENSE_KEY",
        "eu01xxnr",
        &[],
        |s| text(s.telemetry.otlp.endpoint.as_ref()),
        "https://otlp.eu01.nr-data.net"
    ),
    case!(
        "HONEYCOMB_API_KEY",
        "hc",
        &[],
        |s| format!("{} {}", text(s.telemetry.otlp.endpoint.as_ref()), header(s, "x-honeycomb-team")),
        "https://api.honeycomb.io hc"
    ),
    case!(
        "HONEYCOMB_DATASET",
        "ds",
        &[("HONEYCOMB_API_KEY", "hc")],
        |s| header(s, "x-honeycomb-dataset"),
        "ds"
    ),
];

fn read(file: &str, vars: &[(&str, &str)]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.yaml");
    std::fs::write(&path, file).unwrap();
    let env: Env = vars.iter().copied().collect();
    load(Some(&path), &env, &Flags::default())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[test]
fn each_row_has_its_effect() {
    for case in cases() {
        let vars: Vec<_> = case.beside.iter().copied().chain([(case.name, case.value)]).collect();
        let with = read("", &vars).unwrap_or_else(|problems| panic!("{}: {problems}", case.name));
        assert_eq!((case.effect)(&with.settings), case.expected, "{}", case.name);
        // Not one that would be there anyway: `info` is the default, and the rest needs the row to be valid.
        if let Ok(without) = read("", case.beside)
            && case.value != "INFO"
        {
            assert_ne!((case.effect)(&without.settings), case.expected, "{} changes nothing", case.name);
        }
    }
}

#[test]
fn the_table_and_the_cases_name_the_same() {
    let table: BTreeSet<_> = rows().map(|row| row.name).collect();
    let cases: BTreeSet<_> = cases().map(|case| case.name).collect();
    assert_eq!(table, cases);
    assert_eq!(table.len(), rows().count(), "a name stands twice in the table");
}

#[test]
fn every_row_is_noted_without_secrets() {
    for case in cases().filter(|case| case.beside.is_empty()) {
        let loaded = read("", &[(case.name, case.value)]).unwrap();
        let notes = loaded.notes.join("\n");
        assert!(notes.contains(case.name), "{}: {notes}", case.name);
        let secret = ["_KEY", "_HEADERS", "PASSWORD", "_URL", "STRING"];
        let secret = secret.iter().any(|end| case.name.ends_with(end));
        // A short one stands in other words by chance.
        let shown =
            notes.contains(&format!("={}", case.value)) || case.value.len() > 3 && notes.contains(case.value);
        assert!(!secret || !shown, "{notes}");
    }
}

#[test]
fn a_legacy_name_is_stronger_than_the_file_and_weaker_than_ours() {
    let file = "resilience: {retries: 1}";
    assert_eq!(read(file, &[("MAX_RETRIES", "2")]).unwrap().settings.resilience.retries, 2);
    let both = [("MAX_RETRIES", "2"), ("TRUNKLINE_RESILIENCE__RETRIES", "4")];
    assert_eq!(read(file, &both).unwrap().settings.resilience.retries, 4);
}

#[test]
fn a_bad_value_is_reported_without_it() {
    for name in [
        "REQUEST_TIMEOUT",
        "MAX_RETRIES",
        "ENABLE_METRICS",
        "LOG_FORMAT",
        "RUST_LOG",
        "LANGCHAIN_PORT",
        "ASPNETCORE_URLS",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "TOKIO_WORKER_THREADS",
        "PORT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        let problem = read("", &[(name, "sk secret")]).unwrap_err();
        assert!(problem.starts_with(&format!("env {name}: ")) && !problem.contains("sk secret"), "{problem}");
    }
}

#[test]
fn the_openai_key_fills_what_the_file_leaves_open() {
    let key = [("OPENAI_API_KEY", "sk-env"), ("OPENAI_BASE_URL", "http://127.0.0.1:9")];
    let filled = read("providers: {openai: {kind: openai}}", &key).unwrap().settings;
    assert_eq!(openai_key(&filled), "sk-env");
    let own = read("providers: {openai: {kind: openai, api_key: sk-file}}", &key).unwrap();
    assert_eq!(openai_key(&own.settings), "sk-file");
    assert_eq!(own.settings.providers["openai"].base_url, None);
    let other = read("providers: {openai: {kind: demo}}", &key).unwrap();
    assert_eq!(openai_key(&other.settings), "");
    // Another provider in the file does not keep ours from being made.
    let beside = read("providers: {lab: {kind: demo}}", &key).unwrap().settings;
    assert_eq!(beside.providers.len(), 2);
    let alone = read("", &key[1..]).unwrap();
    assert_eq!(alone.notes, ["OPENAI_BASE_URL is not used, because OPENAI_API_KEY is not set"]);
}

#[test]
fn a_key_may_stand_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openai_key");
    std::fs::write(&path, "sk-in-file\n").unwrap();
    let loaded = read("", &[("OPENAI_API_KEY_FILE", path.to_str().unwrap())]).unwrap();
    assert_eq!(openai_key(&loaded.settings), "sk-in-file");
    // `.env` beside a compose file has nothing to do with `ENV`.
    assert_eq!(read("", &[("ENV_FILE", ".env")]).unwrap().settings.telemetry.environment, None);
}

#[test]
fn a_vendors_key_never_goes_to_another_endpoint() {
    for (file, vars) in [
        ("telemetry: {otlp: {endpoint: 'http://c:4318'}}", vec![("DATADOG_API_KEY", "dd-secret")]),
        ("telemetry: {otlp: {traces_endpoint: 'http://c/t'}}", vec![("HONEYCOMB_API_KEY", "dd-secret")]),
        ("", vec![("NEW_RELIC_LICENSE_KEY", "dd-secret"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")]),
        (
            "",
            vec![("DATADOG_API_KEY", "dd-secret"), ("TRUNKLINE_TELEMETRY__OTLP__ENDPOINT", "http://c:4318")],
        ),
    ] {
        let loaded = read(file, &vars).unwrap();
        assert!(loaded.settings.telemetry.otlp.headers.is_empty(), "{vars:?}");
        assert!(
            loaded.notes.iter().any(|note| note.contains("is not used, because telemetry.otlp.")),
            "{:?}",
            loaded.notes
        );
    }
    // Of two vendors the first in the table has the telemetry, and the other's key stays here.
    let two = read("", &[("DATADOG_API_KEY", "dd"), ("HONEYCOMB_API_KEY", "hc")]).unwrap().settings;
    assert_eq!((header(&two, "dd-api-key").as_str(), two.telemetry.otlp.headers.len()), ("dd", 1));
    assert!(read("", &[("DATADOG_API_KEY", "dd"), ("DD_SITE", "evil.com/x?")]).is_err());
}

#[test]
fn datadog_and_new_relic_are_sent_deltas_unless_somebody_said_otherwise() {
    use telemetry::Temporality::{Cumulative, Delta};

    let ours = ("TRUNKLINE_TELEMETRY__OTLP__TEMPORALITY", "cumulative");
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    for (key, alone) in
        [("DATADOG_API_KEY", Delta), ("NEW_RELIC_LICENSE_KEY", Delta), ("HONEYCOMB_API_KEY", Cumulative)]
    {
        let key = (key, "k");
        let temporality =
            |file: &str, vars: &[(&str, &str)]| read(file, vars).unwrap().settings.telemetry.otlp.temporality;
        assert_eq!(temporality("", &[key]), alone, "{}", key.0);
        assert_eq!(temporality("telemetry: {otlp: {temporality: cumulative}}", &[key]), Cumulative);
        assert_eq!(temporality("telemetry: {otlp: {temporality: delta}}", &[key]), Delta);
        assert_eq!(temporality("", &[key, ours]), Cumulative);
        // A key that is not used changes nothing.
        assert_eq!(temporality("", &[key, collector]), Cumulative);
    }
}

#[test]
fn bare_ports_leave_written_listeners_alone() {
    let file = "server: {listeners: [{addr: '1.1.1.1:1', roles: [gateway]}]}";
    let loaded = read(file, &[("PORT", "7000"), ("LANGCHAIN_PORT", "tcp://10.0.0.1:80")]).unwrap();
    assert_eq!(listeners(&loaded.settings), "1.1.1.1:1/1");
    assert_eq!(loaded.notes, ["PORT is not used, because server.listeners says where to listen"]);
    let kept = read("server: {listen: '10.1.1.1:1'}", &[("LANGCHAIN_PORT", "7000")]).unwrap();
    assert_eq!(listeners(&kept.settings), "10.1.1.1:7000/4");
}

#[test]
fn kestrel_adds_to_what_is_there() {
    let file = "server: {listen: '1.1.1.1:1', roles: [gateway], tls: {cert: a, key: b}}";
    let loaded = read(file, &[URL, PFX]).unwrap().settings;
    let first = &loaded.server.listeners.as_ref().unwrap()[0];
    assert_eq!(
        (first.addr.to_string().as_str(), first.roles.len(), first.tls.is_some()),
        ("1.1.1.1:1", 1, true)
    );
    assert_eq!(loaded.server.listeners.as_ref().unwrap().len(), 2);
    let listed = "server: {listeners: [{addr: '1.1.1.1:1', roles: [gateway]}]}";
    assert_eq!(listeners(&read(listed, &[URL, PFX]).unwrap().settings).split(' ').count(), 2);
    // The same address by both names is one listener.
    let both = read("", &[("ASPNETCORE_URLS", "https://+:5443"), URL, PFX]).unwrap();
    assert_eq!(listeners(&both.settings).split(' ').count(), 1);
    assert!(
        read("", &[URL]).unwrap_err().contains(&format!("https needs a certificate: set {KESTREL_PATH}"))
    );
    assert!(
        read("", &[(KESTREL_URL, "http://+:80"), PFX]).unwrap_err().contains("must be an `https://` address")
    );
    let unused = read("", &[PFX]).unwrap();
    assert!(unused.notes[0].contains("is not used"), "{:?}", unused.notes);
}

#[test]
fn grpc_ports_are_warned_of() {
    let loaded = read("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317/")]).unwrap();
    assert!(loaded.notes.iter().any(|note| note.contains("4318")), "{:?}", loaded.notes);
}
