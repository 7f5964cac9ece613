//! Conduit's variables of limits, address rules and bans.

use super::super::convert;
use super::super::problem::{Origin, Path};
use super::super::tree::Node;
use super::super::vars::Found;
use super::{How, Row, Work, row};

const CORE_LIMITS: &str = "CONDUIT_CORE_RATE_LIMITING_ENABLED";
const CORE_REQUESTS: &str = "CONDUIT_CORE_RATE_LIMIT_MAX_REQUESTS";
const CORE_WINDOW: &str = "CONDUIT_CORE_RATE_LIMIT_WINDOW_SECONDS";
const ADMIN_LIMITS: &str = "CONDUIT_ADMIN_RATE_LIMITING_ENABLED";
const ADMIN_FILTER: &str = "CONDUIT_ADMIN_IP_FILTERING_ENABLED";
const CONDUIT: &str = "Conduit";

/// Their rows.
pub const ROWS: &[Row] = &[
    row("CONDUIT_CORE_IP_FILTERING_ENABLED", "ip.filter.enabled", CONDUIT, How::Set(convert::boolean)),
    row("CONDUIT_CORE_IP_FILTER_MODE", "ip.filter.mode", CONDUIT, How::Set(lower)),
    row(
        "CONDUIT_CORE_IP_FILTER_ALLOW_PRIVATE",
        "ip.filter.allow_private",
        CONDUIT,
        How::Set(convert::boolean),
    ),
    row(
        "CONDUIT_CORE_IP_FILTER_WHITELIST",
        "ip.filter.allow",
        CONDUIT,
        How::With(|w, f| list(w, f, "ip.filter.allow")),
    ),
    row(
        "CONDUIT_CORE_IP_FILTER_BLACKLIST",
        "ip.filter.deny",
        CONDUIT,
        How::With(|w, f| list(w, f, "ip.filter.deny")),
    ),
    // Off by default there, whatever else is set.
    row(ADMIN_FILTER, "ip.admin_filter.enabled", CONDUIT, How::With(admin_filter)),
    row("CONDUIT_ADMIN_IP_FILTER_MODE", "ip.admin_filter.mode", CONDUIT, How::Beside(ADMIN_FILTER)),
    row(
        "CONDUIT_ADMIN_IP_FILTER_ALLOW_PRIVATE",
        "ip.admin_filter.allow_private",
        CONDUIT,
        How::Beside(ADMIN_FILTER),
    ),
    row("CONDUIT_ADMIN_IP_FILTER_WHITELIST", "ip.admin_filter.allow", CONDUIT, How::Beside(ADMIN_FILTER)),
    row("CONDUIT_ADMIN_IP_FILTER_BLACKLIST", "ip.admin_filter.deny", CONDUIT, How::Beside(ADMIN_FILTER)),
    // On by default there with 1000 in 60 s; here only when one of the variables is set.
    row(CORE_LIMITS, "limits.per_ip", CONDUIT, How::With(core_limits)),
    row(CORE_REQUESTS, "limits.per_ip", CONDUIT, How::With(core_limits)),
    row(CORE_WINDOW, "limits.per_ip", CONDUIT, How::With(core_limits)),
    row(
        "CONDUIT_CORE_RATE_LIMIT_EXCLUDED_PATHS",
        "limits.exempt_paths",
        CONDUIT,
        How::With(|w, f| list(w, f, "limits.exempt_paths")),
    ),
    row(ADMIN_LIMITS, "limits.per_ip_admin", CONDUIT, How::With(admin_limits)),
    row("CONDUIT_ADMIN_RATE_LIMIT_MAX_REQUESTS", "limits.per_ip_admin", CONDUIT, How::Beside(ADMIN_LIMITS)),
    row("CONDUIT_ADMIN_RATE_LIMIT_WINDOW_SECONDS", "limits.per_ip_admin", CONDUIT, How::Beside(ADMIN_LIMITS)),
    row(
        "CONDUIT_CORE_MAX_FAILED_AUTH_ATTEMPTS",
        "ip.bans.failures",
        CONDUIT,
        How::With(|w, f| failures(w, f, "ip.bans.failures")),
    ),
    row("CONDUIT_CORE_AUTH_BAN_DURATION_MINUTES", "ip.bans.ban_for", CONDUIT, How::Set(minutes)),
    row("CONDUIT_ADMIN_IP_BANNING_ENABLED", "ip.admin_bans.enabled", CONDUIT, How::Set(convert::boolean)),
    row(
        "CONDUIT_ADMIN_MAX_FAILED_AUTH_ATTEMPTS",
        "ip.admin_bans.failures",
        CONDUIT,
        How::With(|w, f| failures(w, f, "ip.admin_bans.failures")),
    ),
    row("CONDUIT_ADMIN_AUTH_BAN_DURATION_MINUTES", "ip.admin_bans.ban_for", CONDUIT, How::Set(minutes)),
    row(
        "CONDUIT_CORE_ENFORCE_VKEY_RATE_LIMITS",
        "limits.enforce_key_limits",
        CONDUIT,
        How::Set(convert::boolean),
    ),
    row("CONDUIT_SECURITY_USE_DISTRIBUTED_TRACKING", "limits.shared", CONDUIT, How::Set(sharing)),
    row("CONDUIT_RATE_LIMIT_FAILURE_MODE", "limits.on_failure", CONDUIT, How::Set(failure_mode)),
    // CONDUIT_CORE_TRACK_FAILED_AUTH_ACROSS_KEYS: always so here (failures are counted by address).
];

fn lower(value: &str) -> Result<String, String> {
    Ok(value.trim().to_lowercase())
}

fn minutes(value: &str) -> Result<String, String> {
    convert::whole(value)
        .map(|minutes| format!("{minutes}m"))
        .map_err(|_| "must be a whole number of minutes".into())
}

/// `open` or `closed`, also as `FailOpen` or `fail-open`.
fn failure_mode(value: &str) -> Result<String, String> {
    let word = value.trim().to_lowercase();
    let word = word.strip_prefix("fail").unwrap_or(&word).trim_start_matches(['-', '_']);
    match word {
        "open" | "closed" => Ok(word.to_owned()),
        "close" => Ok("closed".into()),
        _ => Err("must be open or closed".into()),
    }
}

/// Who names a number of tries means it for every address. Conduit makes no exception for its own machine.
fn failures(work: &mut Work<'_>, found: &Found, path: &str) -> Result<(), String> {
    work.set(path, &convert::whole(&found.value)?, found)?;
    work.set("ip.ban_loopback", "true", found)?;
    work.note(format!("{} sets {path} and ip.ban_loopback", found.name));
    Ok(())
}

fn sharing(value: &str) -> Result<String, String> {
    Ok(if convert::boolean(value)? == "true" { "auto" } else { "local" }.into())
}

/// Items with commas between them.
fn list(work: &mut Work<'_>, found: &Found, path: &str) -> Result<(), String> {
    let origin = || Origin::Env(found.name.clone());
    let items = found.value.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items = items.map(|item| Node::hidden(item, origin())).collect();
    work.put(&Path::of(path), Node::list(items, origin()))?;
    work.note(format!("{} sets {path}", found.name));
    Ok(())
}

fn admin_filter(work: &mut Work<'_>, enabled: &Found) -> Result<(), String> {
    work.set("ip.admin_filter.enabled", &convert::boolean(&enabled.value)?, enabled)?;
    work.note(format!("{} sets ip.admin_filter.enabled", enabled.name));
    type Convert = fn(&str) -> Result<String, String>;
    let single: [(&str, &str, Convert); 2] =
        [("MODE", "mode", lower), ("ALLOW_PRIVATE", "allow_private", convert::boolean)];
    for (name, key, convert) in single {
        if let Some(found) = work.env.get(&format!("CONDUIT_ADMIN_IP_FILTER_{name}"))? {
            work.set(&format!("ip.admin_filter.{key}"), &convert(&found.value)?, &found)?;
        }
    }
    for (name, key) in [("WHITELIST", "allow"), ("BLACKLIST", "deny")] {
        if let Some(found) = work.env.get(&format!("CONDUIT_ADMIN_IP_FILTER_{name}"))? {
            list(work, &found, &format!("ip.admin_filter.{key}"))?;
        }
    }
    Ok(())
}

/// The three variables lead here; the first of them that is set speaks for all.
fn core_limits(work: &mut Work<'_>, found: &Found) -> Result<(), String> {
    if let Some(switch) = work.env.get(CORE_LIMITS)? {
        return match found.name == switch.name {
            true => switched(work, found, "CONDUIT_CORE", "limits.per_ip", "1000"),
            false => Ok(()),
        };
    }
    // On by default there.
    match work.env.get(CORE_REQUESTS)? {
        Some(requests) if found.name != requests.name => Ok(()),
        _ => address_limit(work, found, "CONDUIT_CORE", "limits.per_ip", "1000"),
    }
}

fn admin_limits(work: &mut Work<'_>, found: &Found) -> Result<(), String> {
    switched(work, found, "CONDUIT_ADMIN", "limits.per_ip_admin", "100")
}

/// The limit as the switch says. Off is stronger than what the file limits, as any variable is.
fn switched(
    work: &mut Work<'_>,
    switch: &Found,
    whose: &str,
    path: &str,
    default: &str,
) -> Result<(), String> {
    if convert::boolean(&switch.value)? == "true" {
        return address_limit(work, switch, whose, path, default);
    }
    let was = work.tree.remove(&Path::of(path)).is_some();
    work.note(format!("{} {} {path}", switch.name, if was { "removes" } else { "sets no" }));
    Ok(())
}

/// So many requests in so many seconds.
fn address_limit(
    work: &mut Work<'_>,
    found: &Found,
    whose: &str,
    path: &str,
    default: &str,
) -> Result<(), String> {
    let value = |name: &str, default: &str| -> Result<String, String> {
        let given = work.env.get(&format!("{whose}_RATE_LIMIT_{name}"))?;
        convert::whole(given.as_ref().map_or(default, |given| &given.value))
    };
    let (requests, seconds) = (value("MAX_REQUESTS", default)?, value("WINDOW_SECONDS", "60")?);
    let key = match seconds.as_str() {
        "1" => "burst",
        "60" => "requests_per_minute",
        "3600" => "requests_per_hour",
        "86400" => "requests_per_day",
        _ => {
            work.set(&format!("{path}.requests_per_window.window"), &format!("{seconds}s"), found)?;
            "requests_per_window.requests"
        }
    };
    work.set(&format!("{path}.{key}"), &requests, found)?;
    work.note(format!("{} sets {path}.{key}", found.name));
    Ok(())
}
