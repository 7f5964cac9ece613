//! The security section of the Paladin guide, as printed.

use access::identity::{AuthKind, AuthSettings, RbacSettings, RoleSettings, Roles, TokenIssuerKind};
use serde::Deserialize;

use super::super::super::decode::decode;
use super::super::super::tree::{Source, parse};

const GUIDE: &str = r#"# Use strong authentication
auth:
  type: "oauth2"
  provider: "auth0"
  scopes: ["paladin:read", "paladin:write"]

# Implement role-based access control
rbac:
  roles:
    - admin: ["*"]
    - user: ["paladin:execute", "garrison:read"]
    - viewer: ["paladin:read"]
"#;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sections {
    auth: AuthSettings,
    rbac: RbacSettings,
    roles: RoleSettings,
}

fn read(text: &str) -> Result<Sections, Vec<String>> {
    let (tree, mut problems) = parse(text, &Source::File("trunkline.yaml"));
    let sections = decode(&mut tree.unwrap(), &mut problems);
    match sections {
        Some(sections) if problems.is_empty() => Ok(sections),
        _ => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

/// Mutation that made it fail: roles that must be a map.
#[test]
fn promise_p01_the_guide_s_yaml_loads_as_printed() {
    let read = read(GUIDE).unwrap();
    assert_eq!((read.auth.kind, read.auth.provider), (AuthKind::Oauth2, TokenIssuerKind::Auth0));
    assert_eq!(read.auth.scopes, ["paladin:read", "paladin:write"]);
    let (roles, notes) = Roles::of_settings(&read.roles, &read.rbac).unwrap();
    assert_eq!(read.auth.check(&roles), []);
    assert!(read.auth.note().unwrap().contains("auth.issuer"));
    assert_eq!(notes, ["the role `viewer` is [paladin:read] and replaces the built-in one, [*:read]"]);
    let allows = |role: &str, permission: &str| roles.get(role).unwrap().allows(permission);
    assert!(allows("admin", "keys:write") && allows("admin", "garrison:write"));
    assert!(allows("user", "paladin:execute") && allows("user", "garrison:read"));
    assert!(!allows("user", "garrison:write") && !allows("user", "paladin:read"));
    assert!(allows("viewer", "paladin:read") && !allows("viewer", "keys:read"));
}

#[test]
fn roles_may_be_a_map_and_mistakes_have_their_line() {
    let short = read("roles:\n  ops: [keys:*, usage:read]\n  reader: '*:read'\n").unwrap();
    let (roles, _) = Roles::of_settings(&short.roles, &short.rbac).unwrap();
    assert!(
        roles.get("ops").unwrap().allows("keys:write") && roles.get("reader").unwrap().allows("audit:read")
    );
    for (text, expected) in [
        (
            "roles:\n  ops: [keys:wirte]\n",
            "trunkline.yaml:2:9: roles.ops[0]: `keys:wirte` names no action of `keys`",
        ),
        (
            "rbac:\n  roles:\n    - ops: [key:read]\n",
            "trunkline.yaml:3:13: rbac.roles[0].ops[0]: `key:read` names no area",
        ),
        (
            "rbac:\n  roles:\n    - ops: ['*']\n    - ops: ['*']\n",
            "rbac.roles: the role `ops` is written in two places",
        ),
        (
            "auth:\n  algorithms: [HS256]\n",
            "trunkline.yaml:2:16: auth.algorithms[0]: `HS256` is not accepted",
        ),
        ("auth:\n  isuer: x\n", "unknown key `isuer` in `auth`: did you mean `issuer`?"),
        ("auth:\n  audience: {a: b}\n", "auth.audience: expected a text or a list of texts"),
    ] {
        let problems = read(text).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}{problems:?}");
    }
    assert_eq!(read("auth: {audience: one}").unwrap().auth.audience.0, ["one"]);
    assert_eq!(read("auth: {audience: [one, two]}").unwrap().auth.audience.0, ["one", "two"]);
    assert!(read("auth:\nroles:\nrbac:\n").is_ok(), "sections that are commented out");
}
