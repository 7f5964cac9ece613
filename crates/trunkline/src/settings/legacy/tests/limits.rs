//! Limits, address rules, bans.

use access::ip::FilterSettings;
use access::limits::IpLimits;

use super::*;

const ADMIN_FILTER: (&str, &str) = ("CONDUIT_ADMIN_IP_FILTERING_ENABLED", "true");
const ADMIN_LIMITS: (&str, &str) = ("CONDUIT_ADMIN_RATE_LIMITING_ENABLED", "true");
const REQUESTS: (&str, &str) = ("CONDUIT_CORE_RATE_LIMIT_MAX_REQUESTS", "7");

fn filter(filter: Option<&FilterSettings>) -> String {
    let text = |networks: &[access::ip::Cidr]| {
        networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    filter
        .map(|filter| {
            let FilterSettings { enabled, mode, allow_private, allow, deny } = filter;
            format!("{enabled} {mode:?} {allow_private} [{}] [{}]", text(allow), text(deny))
        })
        .unwrap_or_default()
}

fn core_filter(settings: &Settings) -> String {
    filter(Some(&settings.ip.filter))
}

fn admin_filter(settings: &Settings) -> String {
    filter(settings.ip.admin_filter.as_ref())
}

/// Requests in a minute, an hour, and any other span.
fn limit(limits: &IpLimits) -> String {
    let number = |limit: Option<access::limits::Limit>| {
        limit.and_then(access::limits::Limit::max).map_or_else(|| "-".into(), |max| max.to_string())
    };
    let window = limits.requests_per_window.map(|limit| format!(" {}/{}", limit.requests, limit.window));
    format!(
        "{} {}{}",
        number(limits.requests_per_minute),
        number(limits.requests_per_hour),
        window.unwrap_or_default()
    )
}

fn core_limit(settings: &Settings) -> String {
    limit(&settings.limits.per_ip)
}

fn admin_limit(settings: &Settings) -> String {
    limit(&settings.limits.per_ip_admin)
}

pub const CASES: &[Case] = &[
    case!("CONDUIT_CORE_IP_FILTERING_ENABLED", "false", &[], core_filter, "false Auto true [] []"),
    case!("CONDUIT_CORE_IP_FILTER_MODE", "Restrictive", &[], core_filter, "true Restrictive true [] []"),
    case!("CONDUIT_CORE_IP_FILTER_ALLOW_PRIVATE", "false", &[], core_filter, "true Auto false [] []"),
    case!(
        "CONDUIT_CORE_IP_FILTER_WHITELIST",
        "203.0.113.0/24, 198.51.100.7",
        &[],
        core_filter,
        "true Auto true [203.0.113.0/24 198.51.100.7] []"
    ),
    case!(
        "CONDUIT_CORE_IP_FILTER_BLACKLIST",
        "203.0.113.66,",
        &[],
        core_filter,
        "true Auto true [] [203.0.113.66]"
    ),
    case!(ADMIN_FILTER.0, "true", &[], admin_filter, "true Auto true [] []"),
    case!(
        "CONDUIT_ADMIN_IP_FILTER_MODE",
        "restrictive",
        &[ADMIN_FILTER],
        admin_filter,
        "true Restrictive true [] []"
    ),
    case!(
        "CONDUIT_ADMIN_IP_FILTER_ALLOW_PRIVATE",
        "false",
        &[ADMIN_FILTER],
        admin_filter,
        "true Auto false [] []"
    ),
    case!(
        "CONDUIT_ADMIN_IP_FILTER_WHITELIST",
        "10.0.0.0/8",
        &[ADMIN_FILTER],
        admin_filter,
        "true Auto true [10.0.0.0/8] []"
    ),
    case!(
        "CONDUIT_ADMIN_IP_FILTER_BLACKLIST",
        "10.0.0.0/8",
        &[ADMIN_FILTER],
        admin_filter,
        "true Auto true [] [10.0.0.0/8]"
    ),
    case!("CONDUIT_CORE_RATE_LIMITING_ENABLED", "true", &[], core_limit, "1000 -"),
    case!("CONDUIT_CORE_RATE_LIMIT_MAX_REQUESTS", "50", &[], core_limit, "50 -"),
    case!("CONDUIT_CORE_RATE_LIMIT_WINDOW_SECONDS", "3600", &[], core_limit, "- 1000"),
    case!("CONDUIT_CORE_RATE_LIMIT_WINDOW_SECONDS", "90", &[REQUESTS], core_limit, "- - 7/90s"),
    case!(
        "CONDUIT_CORE_RATE_LIMIT_EXCLUDED_PATHS",
        "/health,/metrics",
        &[],
        |s| s.limits.exempt_paths.join(" "),
        "/health /metrics"
    ),
    case!(ADMIN_LIMITS.0, "true", &[], admin_limit, "100 -"),
    case!("CONDUIT_ADMIN_RATE_LIMIT_MAX_REQUESTS", "30", &[ADMIN_LIMITS], admin_limit, "30 -"),
    case!("CONDUIT_ADMIN_RATE_LIMIT_WINDOW_SECONDS", "3600", &[ADMIN_LIMITS], admin_limit, "- 100"),
    case!(
        "CONDUIT_CORE_MAX_FAILED_AUTH_ATTEMPTS",
        "3",
        &[],
        |s| format!("{} {}", s.ip.bans.failures, s.ip.ban_loopback),
        "3 true"
    ),
    case!("CONDUIT_CORE_AUTH_BAN_DURATION_MINUTES", "45", &[], |s| s.ip.bans.ban_for.to_string(), "45m"),
    case!("CONDUIT_ADMIN_IP_BANNING_ENABLED", "false", &[], |s| s.ip.admin_bans.enabled.to_string(), "false"),
    case!(
        "CONDUIT_ADMIN_MAX_FAILED_AUTH_ATTEMPTS",
        "2",
        &[],
        |s| format!("{} {}", s.ip.admin_bans.failures, s.ip.ban_loopback),
        "2 true"
    ),
    case!(
        "CONDUIT_ADMIN_AUTH_BAN_DURATION_MINUTES",
        "45",
        &[],
        |s| s.ip.admin_bans.ban_for.to_string(),
        "45m"
    ),
    case!(
        "CONDUIT_CORE_ENFORCE_VKEY_RATE_LIMITS",
        "false",
        &[],
        |s| s.limits.enforce_key_limits.to_string(),
        "false"
    ),
    case!(
        "CONDUIT_SECURITY_USE_DISTRIBUTED_TRACKING",
        "false",
        &[],
        |s| format!("{:?}", s.limits.shared),
        "Local"
    ),
    case!(
        "CONDUIT_RATE_LIMIT_FAILURE_MODE",
        "FailClosed",
        &[],
        |s| format!("{:?}", s.limits.on_failure),
        "Closed"
    ),
];

#[test]
fn the_switch_decides_about_the_limit_of_addresses() {
    let switch = |value| ("CONDUIT_CORE_RATE_LIMITING_ENABLED", value);
    let window = ("CONDUIT_CORE_RATE_LIMIT_WINDOW_SECONDS", "3600");
    let read = |file, vars: &[_]| super::read(file, vars).unwrap();
    assert_eq!(core_limit(&read("", &[switch("true"), REQUESTS, window]).settings), "- 7");
    assert_eq!(core_limit(&read("", &[switch("false"), REQUESTS, window]).settings), "- -");
    let file = "limits: {per_ip: {requests_per_minute: 3}}";
    let off = read(file, &[switch("false")]);
    assert_eq!(core_limit(&off.settings), "- -");
    assert_eq!(off.notes, ["CONDUIT_CORE_RATE_LIMITING_ENABLED removes limits.per_ip"]);
    // Its `_FILE` twin is the same switch.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("off");
    std::fs::write(&path, "false\n").unwrap();
    let twin = ("CONDUIT_CORE_RATE_LIMITING_ENABLED_FILE", path.to_str().unwrap());
    assert_eq!(core_limit(&read("", &[twin, REQUESTS]).settings), "- -");
}

#[test]
fn the_admin_apis_variables_wait_for_their_switch() {
    let alone = [("CONDUIT_ADMIN_IP_FILTER_BLACKLIST", "10.0.0.0/8"), (REQUESTS.0, "8")];
    let loaded = read("", &alone).unwrap();
    assert_eq!(admin_filter(&loaded.settings), "");
    let off = read("", &[(ADMIN_LIMITS.0, "false"), ("CONDUIT_ADMIN_RATE_LIMIT_MAX_REQUESTS", "1")]).unwrap();
    assert_eq!(admin_limit(&off.settings), "- -");
}

#[test]
fn nonsense_is_reported_at_its_variable() {
    for (name, value) in [
        ("CONDUIT_CORE_IP_FILTER_MODE", "sometimes"),
        ("CONDUIT_CORE_IP_FILTER_WHITELIST", "10.0.0.0/8,here"),
        ("CONDUIT_CORE_RATE_LIMIT_MAX_REQUESTS", "many"),
        ("CONDUIT_CORE_RATE_LIMIT_WINDOW_SECONDS", "0"),
        ("CONDUIT_CORE_MAX_FAILED_AUTH_ATTEMPTS", "0"),
        ("CONDUIT_CORE_AUTH_BAN_DURATION_MINUTES", "30m"),
        ("CONDUIT_RATE_LIMIT_FAILURE_MODE", "maybe"),
    ] {
        let problem = read("", &[(name, value)]).unwrap_err();
        assert!(problem.starts_with(&format!("env {name}: ")), "{name}: {problem}");
    }
}
