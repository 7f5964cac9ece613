use super::super::{Env, Flags, load};

/// The problems of a file: line, path, message and suggestion.
fn problems(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    std::fs::write(&file, text).unwrap();
    let env = Env::from_iter([("FROM_ENV", "sk-secret")]);
    match load(Some(&file), &env, &Flags::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .map(|problem| {
                let line = problem.line().map_or_else(|| "-".into(), |line| line.to_string());
                let suggestion =
                    problem.suggestion.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
                format!("{line} {}: {}{suggestion}", problem.path, problem.message)
            })
            .collect(),
    }
}

const LAB: &str = "providers: {lab: {kind: openai-compatible, base_url: 'http://lab/v1'}}\n";

#[test]
fn each_rule_reports_its_place() {
    let with_lab = |rest: &str| format!("{LAB}{rest}");
    for (text, expected) in [
        (
            with_lab("models: {a: {targets: [{provider: lba, model: x}]}}"),
            "2 models.a.targets[0].provider: no provider `lba` is declared: did you mean `lab`?",
        ),
        (
            with_lab("models: {a/b: {targets: [{provider: lab, model: x}]}}"),
            "2 models.a/b: an alias must not be empty nor contain `/`",
        ),
        (with_lab("models: {a: {targets: []}}"), "models.a.targets: at least one target is needed"),
        (
            with_lab("models: {a: {targets: [{provider: lab, model: ''}]}}"),
            "targets[0].model: must not be empty",
        ),
        (
            with_lab("models: {a: {context_fallback: b, targets: [{provider: lab, model: x}]}}"),
            "a.context_fallback: no alias `b` is declared",
        ),
        (
            with_lab("models: {a: {context_fallback: lba/x, targets: [{provider: lab, model: x}]}}"),
            "no provider `lba`",
        ),
        (
            with_lab("models: {a: {context_fallback: a, targets: [{provider: lab, model: x}]}}"),
            "leads in a circle",
        ),
        (
            "providers: {p: {kind: openai-compatible}}".into(),
            "1 providers.p: a provider of kind `openai-compatible` needs a `base_url`",
        ),
        (
            "providers: {p: {kind: openai}}".into(),
            "1 providers.p: a provider of kind `openai` needs an `api_key`",
        ),
        ("providers: {p: {kind: openai, api_key: ''}}".into(), "p.api_key: must not be empty"),
        ("providers: {p: {kind: openai, api_key: \"a\\nb\"}}".into(), "p.api_key: contains a character"),
        ("providers: {P: {kind: demo}}".into(), "`P` is not a provider's name"),
        ("providers: {p: {kind: demo, api_key: x}}".into(), "p.api_key: means nothing for the kind `demo`"),
        (
            "providers: {p: {kind: openai-compatible, base_url: 'lab:80/v1'}}".into(),
            "base_url: must begin with `http://`",
        ),
        ("providers: {p: {kind: openai-compatible, base_url: 'not a url'}}".into(), "base_url: is not a URL"),
        (
            "providers: {p: {kind: openai-compatible, base_url: 'http://lab/v1?a=b'}}".into(),
            "base_url: must not contain a query",
        ),
        (
            "providers: {p: {kind: openai-compatible, base_url: 'http://u:sk-secret@lab/'}}".into(),
            "must not contain a user or password",
        ),
        (
            "providers: {p: {kind: demo, max_concurrent_requests: 0}}".into(),
            "max_concurrent_requests: must be at least 1",
        ),
        (
            "providers: {p: {kind: openai, api_key: x, headers: {'a b': x}}}".into(),
            "`a b` is not a header's name",
        ),
        (
            "providers: {p: {kind: openai, api_key: x, headers: {Host: x}}}".into(),
            "the header `host` is set by Trunkline itself",
        ),
        (
            "providers: {p: {kind: openai, api_key: x, headers: {A: \"sk-secret\\n\"}}}".into(),
            "headers.A: contains a character",
        ),
        ("server: {tls: {cert: a}}".into(), "1 server.tls: `cert` needs its `key`"),
        ("server: {tls: {key: a}}".into(), "`key` needs its `cert`"),
        ("server: {tls: {}}".into(), "a certificate is needed"),
        ("server: {tls: {cert: a, key: b, pkcs12: c}}".into(), "not both"),
        ("server: {tls: {cert: a, key: b, password: c}}".into(), "tls.password: is for `pkcs12`"),
        (
            "server: {tls: {pkcs12: a}, listeners: [{addr: '1.1.1.1:1', roles: [admin]}]}".into(),
            "`tls` belongs to `listen`",
        ),
        ("server: {listeners: []}".into(), "at least one listener"),
        (
            "server: {listeners: [{addr: '1.1.1.1:1', roles: []}]}".into(),
            "listeners[0].roles: at least one role",
        ),
        (
            "server: {listeners: [{addr: '1.1.1.1:1', roles: [admin]}, {addr: '1.1.1.1:1', roles: [admin]}]}"
                .into(),
            "listeners[1].addr: the address is the same as that of `server.listeners[0].addr`",
        ),
        (
            "server: {listen: '127.0.0.1:9090'}".into(),
            "server.metrics: the address is the same as that of `server.listen`",
        ),
        ("server: {roles: [admin, admin]}".into(), "server.roles: a role is named twice"),
        ("server: {threads: 0}".into(), "server.threads: must be from 1 to 1024"),
        ("server: {max_concurrent_requests: 0}".into(), "must be at least 1"),
        ("server: {max_body: 0B}".into(), "server.max_body: must be more than 0"),
        ("server: {header_timeout: 0s}".into(), "server.header_timeout: must be more than 0"),
        ("server: {drain_delay: 9999d}".into(), "server.drain_delay: must be at most 366d"),
        ("data: {dir: ''}".into(), "data.dir: must name a directory"),
        ("resilience: {retries: 21}".into(), "resilience.retries: must be at most 20"),
        ("resilience: {request_timeout: 0s}".into(), "resilience.request_timeout: must be more than 0"),
        ("resilience: {backoff: 1m}".into(), "resilience.backoff: must not be longer than `max_backoff`"),
        ("resilience: {breaker: {failures: 0}}".into(), "breaker.failures: must be at least 1"),
        ("resilience: {breaker: {open_for: 0s}}".into(), "breaker.open_for: must be more than 0"),
        (
            with_lab("models: {a: {resilience: {idle_timeout: 0s}, targets: [{provider: lab, model: x}]}}"),
            "models.a.resilience.idle_timeout: must be more than 0",
        ),
        (
            with_lab("models: {a: {targets: [{provider: lab, model: x, resilience: {retries: 99}}]}}"),
            "targets[0].resilience.retries: must be at most 20",
        ),
        ("telemetry: {log: {level: inof}}".into(), "telemetry.log.level: `inof`: expected off, error"),
        ("telemetry: {service: ''}".into(), "telemetry.service: must not be empty"),
        ("telemetry: {attributes: {'': x}}".into(), "an attribute must have a name"),
        ("telemetry: {otlp: {endpoint: 'collector:4318'}}".into(), "otlp.endpoint: must begin with"),
        ("telemetry: {otlp: {sample_ratio: 1.5}}".into(), "sample_ratio: must be from 0 to 1"),
        ("telemetry: {otlp: {metrics_interval: 0s}}".into(), "metrics_interval: must be more than 0"),
    ] {
        let found = problems(&text);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{text}\n  expected {expected}\n  got {found:#?}"
        );
        assert!(!found[0].contains("sk-secret"), "{}", found[0]);
    }
}

#[test]
fn what_is_sensible_passes() {
    for text in [
        "providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}",
        "providers: {local: {kind: openai, base_url: 'http://[::1]:9'}}",
        "server: {listen: '127.0.0.1:0', metrics: '127.0.0.1:0'}",
        "server: {metrics: null}",
        "server: {tls: {pkcs12: a, password: b}}",
        "resilience: {retries: 0, backoff: 0s}",
        "telemetry: {otlp: {traces_endpoint: 'https://a/v1/traces?key=x'}}",
    ] {
        assert_eq!(problems(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_circle_is_reported_at_its_members_only() {
    let model = |name: &str, to: &str| {
        format!("  {name}: {{context_fallback: {to}, targets: [{{provider: lab, model: x}}]}}\n")
    };
    let found = problems(&format!("{LAB}models:\n{}{}{}", model("a", "b"), model("b", "c"), model("c", "b")));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("models.b.") && found[1].contains("models.c."), "{found:?}");
}

#[test]
fn what_was_reported_is_not_missed_as_well() {
    let text = "providers: {lab: {kind: opnai}, other: {kind: openai, api_key: [x]}}\n\
                models: {a: {targets: [{provider: lab, model: x}]}, b: {targets: [{provider: [lab], model: x}]}}\n";
    let found = problems(text);
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn a_name_from_the_environment_is_not_repeated() {
    let found =
        problems(&format!("{LAB}models: {{a: {{targets: [{{provider: '${{FROM_ENV}}', model: x}}]}}}}"));
    assert!(found.len() == 1 && found[0].contains("no provider `***`"), "{found:?}");
    let found = problems("telemetry: {log: {level: '${FROM_ENV}'}}");
    assert!(found.len() == 1 && !found[0].contains("sk-secret"), "{found:?}");
}

#[test]
fn the_backends_of_data_make_sense() {
    for (data, expected) in [
        ("cache: redis", "1 data.cache.backend: `redis` needs `data.redis.url`"),
        ("cache: Memory", "data.cache.backend: must be `memory`, `store`, `redis`"),
        ("cache: 'amqp://h'", "data.cache.backend: must be `memory`"),
        ("cache: 'redis://h:x'", "data.cache.backend: the address of Redis: is not a Redis URL"),
        ("cache: {max_entries: 0}", "data.cache.max_entries: must be at least 1"),
        ("cache: {max_size: 0B}", "data.cache.max_size: must be more than 0"),
        ("queue: memory", "data.queue.backend: must be `store`"),
        ("queue: 'amqp://h'", "data.queue.backend: is a queue that processes share"),
        ("store: 'postgresql://h/d', queue: rabbitmq", "`rabbitmq` needs `data.rabbitmq.host`"),
        ("queue: {prefix: 'a b'}", "data.queue.prefix: must not contain spaces"),
        ("events: store", "data.events.backend: `store` needs a PostgreSQL server"),
        ("events: 'nats://h'", "data.events.backend: must be `auto`"),
        ("events: 'amqp://'", "data.events.backend: must be the URL of a RabbitMQ"),
        ("events: {prefix: ''}", "data.events.prefix: must not be empty"),
        ("blobs: 'ftp://h'", "data.blobs.backend: must be `local`, or the URL of a bucket"),
        ("blobs: redis", "data.blobs.backend: must be `local`"),
        ("blobs: {endpoint: 'minio:9000'}", "data.blobs.endpoint: must begin with `http://`"),
        ("blobs: {max_connections: 0}", "data.blobs.max_connections: must be from 1 to 10000"),
        ("redis: {url: 'postgresql://h'}", "data.redis.url: the address of Redis: a Redis URL begins"),
        ("redis: {url: 'h,sssl=true'}", "data.redis.url: the address of Redis: `sssl` is not an option"),
        ("redis: {pool_size: 0}", "data.redis.pool_size: must be from 1 to 10000"),
        ("redis: {connect_timeout: 0s}", "data.redis.connect_timeout: must be more than 0"),
        ("rabbitmq: {url: 'http://h'}", "data.rabbitmq.url: must be the URL of a RabbitMQ"),
        ("rabbitmq: {host: 'amqp://h'}", "data.rabbitmq.host: must be the name of a host alone"),
        ("rabbitmq: {partition_count: 1001}", "data.rabbitmq.partition_count: must be from 1 to 1000"),
        ("rabbitmq: {prefetch_count: 0}", "data.rabbitmq.prefetch_count: must be at least 1"),
        ("rabbitmq: {min_connections: 6}", "min_connections: must not be more than `max_connections`"),
        ("rabbitmq: {requested_heartbeat: 20h}", "requested_heartbeat: must be at most"),
        ("rabbitmq: {vhost: ''}", "data.rabbitmq.vhost: must not be empty"),
    ] {
        let found = problems(&format!("data: {{{data}}}"));
        assert!(found.len() == 1 && found[0].contains(expected), "{data}: {found:#?}");
    }
    for data in [
        "redis: {url: redis}, cache: redis, events: redis",
        "cache: 'redis-cluster:6379,abortConnect=false', blobs: 's3://bucket/p'",
        "store: 'postgresql://h/d', queue: 'amqps://u:p@h/v', events: store",
        "rabbitmq: {host: h, requested_heartbeat: 0s}, events: rabbitmq",
        "cache: , queue: store, events: auto, blobs: local",
    ] {
        assert_eq!(problems(&format!("data: {{{data}}}")), [""; 0], "{data}");
    }
}
