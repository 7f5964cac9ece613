use access::limits::Limit;
use base::Duration;

use super::super::{Env, Flags, Loaded, load};

fn read(file: &str, vars: &[(&str, &str)]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.yaml");
    std::fs::write(&path, file).unwrap();
    let env: Env = vars.iter().copied().collect();
    let told = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    load(Some(&path), &env, &Flags::default()).map_err(told)
}

fn origin(loaded: &Loaded, path: &str) -> String {
    loaded.show().into_iter().find(|row| row.0 == path).map(|row| row.2).unwrap_or_default()
}

/// R07, R15: the block of the guide as it stands there. Mutation: the names not rewritten in `settle`.
#[test]
fn promise_r07_the_guides_rate_limiting_is_limits() {
    let file = "rateLimiting:
  global: {rpm: 1000, rph: 50000, rpd: 1000000}
  perUser: {rpm: 60, burst: 10}
  perIP: {rpm: 100, blockDuration: '1h'}
";
    let loaded = read(file, &[]).unwrap();
    let limits = &loaded.settings.limits;
    assert_eq!(limits.global.requests_per_minute, Some(Limit::AtMost(1_000)));
    assert_eq!(limits.global.requests_per_hour, Some(Limit::AtMost(50_000)));
    assert_eq!(limits.global.requests_per_day, Some(Limit::AtMost(1_000_000)));
    assert_eq!(limits.per_user.requests_per_minute, Some(Limit::AtMost(60)));
    assert_eq!(limits.per_user.burst, Some(Limit::AtMost(10)));
    assert_eq!(limits.per_ip.requests_per_minute, Some(Limit::AtMost(100)));
    assert_eq!(limits.per_ip.block, Some(Duration::from_secs(3600)));
    assert!(origin(&loaded, "limits.per_ip.block").ends_with("t.yaml:4"));
    // Under whatever name it was written, the environment lays its value over it.
    let over = read(file, &[("TRUNKLINE_LIMITS__PER_USER__REQUESTS_PER_MINUTE", "7")]).unwrap();
    assert_eq!(over.settings.limits.per_user.requests_per_minute, Some(Limit::AtMost(7)));
    assert_eq!(over.settings.limits.per_user.burst, Some(Limit::AtMost(10)));
}

#[test]
fn two_names_for_one_thing_are_a_mistake() {
    let root = read("limits: {enabled: true}\nrateLimiting: {global: {rpm: 1}}\n", &[]).unwrap_err();
    assert!(root.contains(":2:") && root.contains("`rateLimiting` is another name of `limits`"), "{root}");
    let one = read("limits:\n  per_ip:\n    rpm: 1\n    requests_per_minute: 2\n", &[]).unwrap_err();
    assert!(one.contains(":3:10: limits.per_ip.rpm: `rpm` is another name"), "{one}");
    assert_eq!(one.lines().count(), 1, "{one}");
    let unknown = read("limits: {per_user: {blockDuration: 1h}}", &[]).unwrap_err();
    assert!(unknown.contains("unknown key `blockDuration`"), "{unknown}");
}

#[test]
fn a_section_of_one_word_can_be_reached_into() {
    let loaded = read(
        "data: {cache: store, blobs: 's3://bucket/p'}",
        &[("TRUNKLINE_DATA__CACHE__MAX_ENTRIES", "5"), ("TRUNKLINE_DATA__EVENTS", "local")],
    )
    .unwrap();
    let data = &loaded.settings.data;
    assert_eq!((data.cache.backend.expose(), data.cache.max_entries), ("store", 5));
    assert_eq!(data.blobs.backend.expose(), "s3://bucket/p");
    assert!(origin(&loaded, "data.cache.backend").ends_with("t.yaml:1"));
    assert_eq!(origin(&loaded, "data.events.backend"), "env TRUNKLINE_DATA__EVENTS");
    assert_eq!(origin(&loaded, "data.queue.backend"), "default");
    let unresolved = read("data: {cache: '${NOT_SET}'}", &[]).unwrap_err();
    assert!(unresolved.contains("the variable NOT_SET is not set"), "{unresolved}");
}
