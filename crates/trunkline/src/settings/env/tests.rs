use super::super::schema;
use super::*;

fn apply_all(file: &str, vars: &[(&str, &str)]) -> (Node, Vec<String>) {
    let (tree, problems) = parse(file, &Source::File("t.yaml"));
    assert_eq!(problems, []);
    let mut tree = tree.unwrap();
    let mut found = Vec::new();
    apply(&mut tree, &vars.iter().copied().collect(), &schema(), &mut found);
    (tree, found.iter().map(ToString::to_string).collect())
}

fn text(tree: &Node, path: &str) -> Option<String> {
    tree.find(&Path::of(path)).and_then(Node::text).map(str::to_owned)
}

#[test]
fn sets_what_the_name_says() {
    let (tree, problems) = apply_all(
        "server: {listen: '127.0.0.1:1'}",
        &[
            ("TRUNKLINE_SERVER__LISTEN", "0.0.0.0:80"),
            ("TRUNKLINE_SERVER__ROLES", "gateway, admin"),
            ("TRUNKLINE_SERVER__TLS__CERT", "/cert.pem"),
            ("TRUNKLINE_RESILIENCE__BREAKER__FAILURES", "7"),
            ("TRUNKLINE_RESILIENCE__BREAKER", "{successes: 3}"),
            ("TRUNKLINE_MODELS__SMART__TARGETS", r#"[{"provider": "lab", "model": "q"}]"#),
            ("TRUNKLINE_TELEMETRY__LOG__FILE", "/log"),
        ],
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(text(&tree, "server.listen").unwrap(), "0.0.0.0:80");
    assert_eq!(tree.origin_of(&Path::of("server.listen")).to_string(), "env TRUNKLINE_SERVER__LISTEN");
    assert_eq!(tree.find(&Path::of("server.roles").index(1)).unwrap().text(), Some("admin"));
    assert_eq!(text(&tree, "server.tls.cert").unwrap(), "/cert.pem");
    assert_eq!(text(&tree, "resilience.breaker.failures").unwrap(), "7");
    assert_eq!(text(&tree, "resilience.breaker.successes").unwrap(), "3");
    assert_eq!(tree.find(&Path::of("models.smart.targets").index(0).key("model")).unwrap().text(), Some("q"));
    assert_eq!(text(&tree, "telemetry.log.file").unwrap(), "/log");
}

#[test]
fn names_in_the_file_are_found_whatever_their_dashes() {
    let file = "providers: {my_lab: {}, my-lab: {}, Other.Lab: {}}";
    let set = |name: &str| apply_all(file, &[(name, "x")]).0;
    assert!(text(&set("TRUNKLINE_PROVIDERS__MY_LAB__API_KEY"), "providers.my_lab.api_key").is_some());
    let tree = set("TRUNKLINE_PROVIDERS__OTHER_LAB__API_KEY");
    let other = Path(vec![
        super::super::Step::Key("providers".into()),
        super::super::Step::Key("Other.Lab".into()),
        super::super::Step::Key("api_key".into()),
    ]);
    assert!(tree.find(&other).is_some());
    assert!(text(&set("TRUNKLINE_PROVIDERS__NEW_LAB__API_KEY"), "providers.new-lab.api_key").is_some());
}

#[test]
fn unknown_names_are_errors_with_a_suggestion() {
    for (name, expected) in [
        ("TRUNKLINE_SERVER__LISTN", "did you mean TRUNKLINE_SERVER__LISTEN?"),
        ("TRUNKLINE_SERVER_LISTEN", "did you mean TRUNKLINE_SERVER__LISTEN?"),
        ("TRUNKLINE_ADMIN_KY", "did you mean TRUNKLINE_ADMIN_KEY?"),
        ("TRUNKLINE_SERVER____LISTEN", "no setting has the name"),
        ("TRUNKLINE_BANANAS_AND_CREAM", "`trunkline config schema` prints them all"),
        ("TRUNKLINE_SERVER__LISTENERS__0__ADDR", "no setting has the name"),
    ] {
        let (_, problems) = apply_all("", &[(name, "sk-secret")]);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{name}: {problems:?}");
        assert!(!problems[0].contains("sk-secret"));
    }
}

#[test]
fn names_that_are_no_settings_and_those_of_kubernetes_pass() {
    let (tree, problems) = apply_all(
        "",
        &[
            ("TRUNKLINE_ADMIN_KEY", "k"),
            ("TRUNKLINE_ADMIN_KEY_FILE", "/k"),
            ("TRUNKLINE_CONFIG", "x.yaml"),
            ("TRUNKLINE_SERVICE_HOST", "10.0.0.1"),
            ("TRUNKLINE_METRICS_SERVICE_PORT_HTTP", "80"),
            ("TRUNKLINE_PORT", "tcp://10.0.0.1:80"),
            ("TRUNKLINE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("TRUNKLINE_SERVER__LISTEN", ""),
            ("OTHER", "x"),
        ],
    );
    assert_eq!(problems, Vec::<String>::new());
    assert!(tree.entries().is_empty());
}

#[test]
fn a_value_that_cannot_be_read_is_reported_without_the_value() {
    let (_, problems) = apply_all("server: 5", &[("TRUNKLINE_SERVER__LISTEN", "sk-secret")]);
    assert!(problems[0].contains("`server` is not a map of keys"), "{problems:?}");
    let (_, problems) = apply_all("", &[("TRUNKLINE_SERVER__ROLES", "[sk-secret")]);
    assert!(
        problems[0].contains("is not a list or map") && !problems[0].contains("sk-secret"),
        "{problems:?}"
    );
}

#[test]
fn every_setting_with_a_fixed_place_can_be_named() {
    let schema = schema();
    let tree = Node::map(Origin::Default(""));
    let mut checked = 0;
    for path in paths(&schema).iter().filter(|path| !path.contains("[]")) {
        let name = path.replace("<name>", "some").to_uppercase().replace('.', "__");
        let (found, _) = resolve(&tree, &schema, &name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.to_string(), path.replace("<name>", "some"));
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}
