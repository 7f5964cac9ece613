//! Redis and RabbitMQ.

use super::*;

fn redis(settings: &Settings) -> String {
    let url = settings.data.redis.url.as_ref().map(|url| url.expose().to_owned());
    format!("{} {}", url.unwrap_or_default(), settings.data.cache.backend.expose())
}

pub const CASES: &[Case] = &[
    case!(
        "CONDUIT_REDIS_CONNECTION_STRING",
        "redis:6379,password=pw",
        &[],
        redis,
        "redis:6379,password=pw redis"
    ),
    case!(
        "REDIS_URL",
        "redis://:pw@redis-cluster:6379/0",
        &[],
        redis,
        "redis://:pw@redis-cluster:6379/0 redis"
    ),
    case!(
        "CONDUITLLM__REDIS__CONNECTIONSTRING",
        "redis-cluster:6379,abortConnect=false,connectTimeout=5000,syncTimeout=5000",
        &[("REDIS_URL", "redis://redis-cluster:6379/0")],
        redis,
        "redis-cluster:6379,abortConnect=false,connectTimeout=5000,syncTimeout=5000 redis"
    ),
    case!(
        "CONDUIT_REDIS_INSTANCE_NAME",
        "conduitllm-cache",
        &[],
        |s| s.data.redis.prefix.clone(),
        "conduitllm-cache:"
    ),
    case!(
        "CONDUITLLM__RABBITMQ__HOST",
        "rabbitmq-cluster",
        &[],
        |s| format!("{} {}", text(s.data.rabbitmq.host.as_ref()), s.data.rabbitmq.is_configured()),
        "rabbitmq-cluster true"
    ),
    case!("CONDUITLLM__RABBITMQ__PORT", "5673", &[], |s| s.data.rabbitmq.port.to_string(), "5673"),
    case!("CONDUITLLM__RABBITMQ__USERNAME", "conduit", &[], |s| s.data.rabbitmq.username.clone(), "conduit"),
    case!(
        "CONDUITLLM__RABBITMQ__PASSWORD",
        "secure-password",
        &[],
        |s| s.data.rabbitmq.password.expose().to_owned(),
        "secure-password"
    ),
    case!("CONDUITLLM__RABBITMQ__VHOST", "/conduit", &[], |s| s.data.rabbitmq.vhost.clone(), "/conduit"),
    case!(
        "CONDUITLLM__RABBITMQ__PREFETCHCOUNT",
        "10",
        &[],
        |s| s.data.rabbitmq.prefetch_count.to_string(),
        "10"
    ),
    case!(
        "CONDUITLLM__RABBITMQ__PARTITIONCOUNT",
        "12",
        &[],
        |s| s.data.rabbitmq.partition_count.to_string(),
        "12"
    ),
    case!(
        "CONDUITLLM__RABBITMQ__CONCURRENTMESSAGELIMIT",
        "51",
        &[],
        |s| s.data.rabbitmq.concurrent_message_limit.to_string(),
        "51"
    ),
    case!(
        "CONDUITLLM__RABBITMQ__MAXCONNECTIONS",
        "6",
        &[],
        |s| s.data.rabbitmq.max_connections.to_string(),
        "6"
    ),
    case!(
        "CONDUITLLM__RABBITMQ__MINCONNECTIONS",
        "2",
        &[],
        |s| s.data.rabbitmq.min_connections.to_string(),
        "2"
    ),
    case!(
        "CONDUITLLM__RABBITMQ__REQUESTEDHEARTBEAT",
        "45",
        &[],
        |s| s.data.rabbitmq.requested_heartbeat.to_string(),
        "45s"
    ),
    case!(
        "CONDUITLLM__RABBITMQ__PUBLISHERCONFIRMATION",
        "false",
        &[],
        |s| s.data.rabbitmq.publisher_confirmation.to_string(),
        "false"
    ),
];

#[test]
fn the_cache_goes_to_redis_unless_it_is_somewhere() {
    let url = ("REDIS_URL", "redis://h");
    for file in ["data: {cache: memory}", "data: {cache: {backend: memory}}"] {
        let loaded = read(file, &[url]).unwrap();
        assert_eq!(redis(&loaded.settings), "redis://h memory");
        assert_eq!(loaded.notes, ["REDIS_URL sets data.redis.url"]);
    }
    assert_eq!(redis(&read("data: {cache: {max_entries: 5}}", &[url]).unwrap().settings), "redis://h redis");
    assert_eq!(
        redis(&read("", &[url, ("TRUNKLINE_DATA__CACHE", "store")]).unwrap().settings),
        "redis://h store"
    );
}

#[test]
fn a_host_of_rabbitmq_is_stronger_than_the_files_url_and_weaker_than_ours() {
    let file = "data: {rabbitmq: {url: 'amqp://other'}}";
    let host = ("CONDUITLLM__RABBITMQ__HOST", "rabbit");
    let loaded = read(file, &[host]).unwrap();
    assert_eq!(loaded.settings.data.rabbitmq.url, None);
    assert_eq!(
        loaded.notes,
        ["CONDUITLLM__RABBITMQ__HOST sets data.rabbitmq.host, in place of data.rabbitmq.url"]
    );
    let ours = ("TRUNKLINE_DATA__RABBITMQ__URL", "amqp://ours");
    assert!(read(file, &[host, ours]).unwrap().settings.data.rabbitmq.url.is_some());
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    for (name, value) in [
        ("REDIS_URL", "http://:sk-secret@h"),
        ("REDIS_URL", "redis://:sk-secret@h:port"),
        ("CONDUITLLM__REDIS__CONNECTIONSTRING", "h,password=sk-secret,connectTimeout=5s"),
        ("CONDUITLLM__RABBITMQ__HOST", "amqp://u:sk-secret@h"),
        ("CONDUITLLM__RABBITMQ__PORT", "sk-secret"),
        ("CONDUITLLM__RABBITMQ__REQUESTEDHEARTBEAT", "70000"),
    ] {
        let problem = read("", &[(name, value)]).unwrap_err();
        assert!(problem.starts_with(&format!("env {name}: ")), "{name}: {problem}");
        assert!(!problem.contains("sk-secret"), "{problem}");
    }
}
