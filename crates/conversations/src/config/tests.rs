use serde_json::json;

use super::*;

const FILE: &str = r"
links:
  tag:
    module: links.tag
    ingress-lists: []
    options: {tags: [a]}
  webhook:
    module: links.webhook
    options:
      webhook-urls: ['https://u:hunter2@example.com/x']
      headers: {Authorization: Bearer hunter2}
      api_key: ${KEY}
      regex: 'a${b'
storages:
  file: {module: storage.file}
chains:
  zeta:
    links: [tag, {webhook: {timeout: 5}}]
    ingress_lists: [z]
    enabled: 0
  alpha:
    links: [tag]
    ingress_lists: [a, b]
    storages: [file]
    egress_lists: [out]
    enabled: 1
ingress_auth:
  one: hunter2
  two: [hunter2, hunter3]
  three: 7
tracers:
imports:
  os: os
followers:
  f: {url: 'http://x', egress_list: o, follower_ingress_list: i, auth_token: hunter2, pulling_interval: 1}
";

fn read() -> (Sections, Ordered) {
    Sections::from_yaml(FILE, |name| (name == "KEY").then(|| "hunter2".into())).unwrap()
}

/// V01: every section in its order, what the Conserver ignores having its effect. Mutation: `links` and `chains` as
/// sorted maps.
#[test]
fn promise_v01_a_conservers_file_is_read_as_it_is() {
    let (sections, _) = read();
    let names: Vec<&str> = sections.chains.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["zeta", "alpha"], "in the order of the file");
    let (zeta, alpha) = (sections.chains.get("zeta").unwrap(), sections.chains.get("alpha").unwrap());
    assert!(!zeta.is_enabled() && alpha.is_enabled());
    assert_eq!(zeta.links[1].options.0, json!({"timeout": 5}));
    let options = &sections.links.get("webhook").unwrap().options.0;
    assert_eq!((options["api_key"].as_str(), options["regex"].as_str()), (Some("hunter2"), Some("a${b")));
    assert_eq!(sections.ingress_auth.get("three"), Some(&IngressAuth::Wrong));
    assert!(sections.tracers.is_empty() && sections.storages.get("file").unwrap().options.0.is_null());
}

#[test]
fn secrets_are_hidden_and_found_again() {
    let (sections, written) = read();
    let shown = serde_json::to_string(&sections).unwrap() + &serde_json::to_string(&mask(&written)).unwrap();
    assert!(!shown.contains("hunter"), "{shown}");
    let back = unmask(mask(&written), &written).unwrap();
    assert_eq!(back, written);
    let moved = Ordered::from_yaml("links: {other: {options: {api_key: '***'}}}").unwrap();
    assert_eq!(unmask(moved, &written).unwrap_err(), ["links.other.options.api_key"]);
    let elsewhere =
        Ordered::from_yaml("links: {webhook: {options: {webhook-urls: ['https://u:***@evil.example/x']}}}");
    assert_eq!(unmask(elsewhere.unwrap(), &written).unwrap_err(), ["links.webhook.options.webhook-urls[0]"]);
}
