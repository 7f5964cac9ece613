//! Values of legacy names, rewritten as settings write them. Errors say what is expected and never repeat
//! the value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use server::settings::ServerSettings;

use super::log_level;

/// Where an address of ASP.NET Core leads.
pub struct Listen {
    /// The address.
    pub addr: SocketAddr,
    /// Whether it is `https`.
    pub tls: bool,
}

/// As it is.
pub fn same(value: &str) -> Result<String, String> {
    Ok(value.trim().to_owned())
}

/// A whole number.
pub fn whole(value: &str) -> Result<String, String> {
    let value = value.trim();
    value.parse::<u64>().map(|number| number.to_string()).map_err(|_| "must be a whole number".into())
}

/// Whole seconds, or a duration with its unit.
pub fn seconds(value: &str) -> Result<String, String> {
    unit(value, "s", "must be a whole number of seconds")
}

/// Whole milliseconds, or a duration with its unit.
pub fn milliseconds(value: &str) -> Result<String, String> {
    unit(value, "ms", "must be a whole number of milliseconds")
}

fn unit(value: &str, unit: &str, wrong: &str) -> Result<String, String> {
    let value = value.trim();
    match value.parse::<u64>() {
        Ok(number) => Ok(format!("{number}{unit}")),
        Err(_) => base::Duration::parse(value).map(|duration| duration.to_string()).map_err(|_| wrong.into()),
    }
}

/// `true`, `1`, `yes`, `on` and their opposites.
pub fn boolean(value: &str) -> Result<String, String> {
    match value.trim().to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok("true".into()),
        "false" | "0" | "no" | "off" => Ok("false".into()),
        _ => Err("must be true or false".into()),
    }
}

/// Python's levels.
pub fn log_level(value: &str) -> Result<String, String> {
    let level = match value.trim().to_lowercase().as_str() {
        "critical" | "fatal" => "error".to_owned(),
        "warning" => "warn".into(),
        "notset" => "trace".into(),
        other => other.to_owned(),
    };
    log_level::check(&level).map(|()| level).map_err(|(_, message)| message.into())
}

/// Log directives, with DashFlow's modules as ours.
pub fn rust_log(value: &str) -> Result<String, String> {
    // What served requests there is several modules here: that of the log lines of requests among them.
    const MODULES: [(&str, &[&str]); 2] =
        [("dashflow_langserve", &["server", "access", "trunkline"]), ("dashflow_core", &["gateway", "llm"])];
    let ours = |directive: &str| {
        let directive = directive.trim();
        for (theirs, ours) in MODULES {
            if let Some(rest) = directive.strip_prefix(theirs)
                && (rest.is_empty() || rest.starts_with(['=', ':', '[']))
            {
                // A module alone means everything it says.
                let rest = if rest.is_empty() { "=trace" } else { rest };
                return ours.iter().map(|module| format!("{module}{rest}")).collect::<Vec<_>>().join(",");
            }
        }
        directive.to_owned()
    };
    let level = log_level::split(value).into_iter().map(ours).collect::<Vec<_>>().join(",");
    log_level::check(&level).map(|()| level).map_err(|(_, message)| message.into())
}

/// `json`, or one of the words for text.
pub fn log_format(value: &str) -> Result<String, String> {
    match value.trim().to_lowercase().as_str() {
        "json" => Ok("json".into()),
        "text" | "plain" | "console" | "pretty" => Ok("text".into()),
        _ => Err("must be json or text".into()),
    }
}

/// A port number.
pub fn port(value: &str) -> Result<u16, String> {
    value.trim().parse().map_err(|_| "must be a port, a number from 0 to 65535".into())
}

/// Where we listen when nobody says otherwise.
pub fn default_listen() -> String {
    ServerSettings::default().listen.to_string()
}

/// `http://+:5000`, `https://*:5443`, `http://localhost`, `http://[::]:80`.
pub fn listen_url(url: &str) -> Result<Listen, String> {
    let url = url.trim().trim_end_matches('/');
    let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("an address must begin with `http://` or `https://`".into()),
    };
    if rest.contains('/') {
        return Err("an address to listen on has no path".into());
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, self::port(port)?),
        _ => (rest, if tls { 443 } else { 80 }),
    };
    let ip: IpAddr = match host {
        "+" | "*" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| ADDRESS.to_owned())?,
            None => host.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| ADDRESS.to_owned())?,
        },
    };
    Ok(Listen { addr: SocketAddr::new(ip, port), tls })
}

const ADDRESS: &str = "the host must be an IP address, `+`, `*` or `localhost`";

/// `key=value,key2=value2`, percent-encoded (the form of W3C Baggage, which OpenTelemetry's variables have).
pub fn pairs(value: &str) -> Result<Vec<(String, String)>, String> {
    let wrong = || "must be `key=value,key2=value2`, percent-encoded".to_owned();
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let key = percent_decode(key.trim()).filter(|key| !key.is_empty()).ok_or_else(wrong)?;
            Ok((key, percent_decode(value.trim()).ok_or_else(wrong)?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_of_asp_net() {
        for (url, addr, tls) in [
            ("http://+:5000", "0.0.0.0:5000", false),
            ("https://*:5443/", "0.0.0.0:5443", true),
            ("https://0.0.0.0:5443", "0.0.0.0:5443", true),
            ("http://localhost", "127.0.0.1:80", false),
            ("https://[::]:443", "[::]:443", true),
            ("https://[::1]", "[::1]:443", true),
        ] {
            let listen = listen_url(url).unwrap();
            assert_eq!((listen.addr.to_string().as_str(), listen.tls), (addr, tls), "{url}");
        }
        for bad in
            ["5000", "http://example.com:80", "http://+:99999", "http://+:80/api", "ftp://+:21", "http://"]
        {
            assert!(listen_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_pairs_with_percent_encoding() {
        assert_eq!(
            pairs("api-key=a%3Db, x = y ,").unwrap(),
            [("api-key".into(), "a=b".into()), ("x".into(), "y".into())]
        );
        for bad in ["x", "=y", "x=%zz", "x=%f", "x=%ff"] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_guides_modules_are_ours() {
        let read = rust_log("dashflow_langserve=debug,dashflow_core=info").unwrap();
        assert_eq!(read, "server=debug,access=debug,trunkline=debug,gateway=info,llm=info");
        assert_eq!(
            rust_log("dashflow_core::node=trace,warn").unwrap(),
            "gateway::node=trace,llm::node=trace,warn"
        );
        assert_eq!(rust_log("dashflow_core").unwrap(), "gateway=trace,llm=trace");
        assert!(rust_log("inof").is_err());
    }

    #[test]
    fn reads_words_and_numbers() {
        assert_eq!(log_level("WARNING").unwrap(), "warn");
        assert_eq!(log_format("JSON").unwrap(), "json");
        assert_eq!(seconds("60").unwrap(), "60s");
        assert_eq!(seconds("2m").unwrap(), "2m");
        assert_eq!(boolean("Yes").unwrap(), "true");
        assert!(seconds("soon").is_err() && whole("-1").is_err() && boolean("maybe").is_err());
    }
}
