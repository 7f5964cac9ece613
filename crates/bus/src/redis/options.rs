//! Where a Redis is and how to speak to it, from a URL or from Conduit's `host:port,option=value`.

use std::time::Duration;

use base::seams::SeamError;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::settings::{Address, Place, RedisSettings};

/// Options of StackExchange.Redis that say nothing to us: they are accepted, and named in a warning.
const WITHOUT_EFFECT: &[&str] = &[
    "abortonconnectfail",
    "allowadmin",
    "channelprefix",
    "checkcertificaterevocation",
    "configchannel",
    "configcheckseconds",
    "connectretry",
    "highintegrity",
    "keepalive",
    "name",
    "protocol",
    "proxy",
    "resolvedns",
    "servicename",
    "setlib",
    "sslhost",
    "sslprotocols",
    "tiebreaker",
    "tunnel",
    "version",
    "writebuffer",
];

/// What is known of one Redis, or of the nodes of one cluster.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    pub(crate) nodes: Vec<ConnectionInfo>,
    pub(crate) database: i64,
    pub(crate) pool_size: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) required: bool,
    pub(crate) prefix: String,
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) ignored: Vec<String>,
}

impl RedisOptions {
    /// Reads an address, with everything it does not say from `settings`; the word `redis` stands for the one that
    /// is there. Errors do not repeat the address.
    pub fn parse(address: &Address, settings: &RedisSettings) -> Result<Self, SeamError> {
        let ca = match &settings.ca_file {
            None => None,
            Some(file) => Some(std::fs::read(file).map_err(|error| {
                SeamError::Invalid(format!("data.redis.ca_file: {} cannot be read: {error}", file.display()))
            })?),
        };
        let mut options = RedisOptions {
            nodes: Vec::new(),
            database: 0,
            pool_size: settings.pool_size.clamp(1, 10_000) as usize,
            connect_timeout: settings.connect_timeout.0,
            response_timeout: settings.response_timeout.0,
            idle_timeout: settings.idle_timeout.0,
            required: settings.required,
            prefix: settings.prefix.clone(),
            ca,
            ignored: Vec::new(),
        };
        let address = match address.place() {
            Place::Named(word) if word == "redis" => {
                settings.url.as_ref().ok_or_else(|| invalid("`redis` needs `data.redis.url`"))?
            }
            _ => address,
        };
        let text = address.expose();
        if text.contains("://") {
            options.url(text)?;
        } else {
            options.option_string(text)?;
        }
        if options.connect_timeout.is_zero() || options.response_timeout.is_zero() {
            return Err(invalid("a timeout of Redis must be more than 0"));
        }
        Ok(options)
    }

    /// Whether the server is spoken to over TLS.
    pub fn tls(&self) -> bool {
        matches!(self.nodes.first().map(ConnectionInfo::addr), Some(ConnectionAddr::TcpTls { .. }))
    }

    fn url(&mut self, text: &str) -> Result<(), SeamError> {
        let scheme = text.split("://").next().unwrap_or_default();
        if !matches!(scheme, "redis" | "rediss") {
            return Err(invalid("a Redis URL begins with `redis://`, or with `rediss://` for TLS"));
        }
        let info = text.into_connection_info().map_err(|_| {
            invalid("is not a Redis URL: write `redis://user:password@host:port/database`, special characters of the password as `%XX`")
        })?;
        self.database = info.redis_settings().db();
        // SELECT is sent by us, where there is such a thing.
        let settings = info.redis_settings().clone().set_db(0);
        self.nodes = vec![info.set_redis_settings(settings)];
        Ok(())
    }

    /// `host:port,host:port,option=value,…` as StackExchange.Redis reads it: names in any case, times in
    /// milliseconds.
    fn option_string(&mut self, text: &str) -> Result<(), SeamError> {
        let (mut hosts, mut user, mut password, mut tls) = (Vec::new(), None, None, false);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                hosts.push(part);
                continue;
            };
            let (name, value) = (name.trim().to_lowercase(), value.trim());
            match name.as_str() {
                "abortconnect" => self.required = boolean("abortConnect", value)?,
                "connecttimeout" => self.connect_timeout = millis("connectTimeout", value)?,
                "synctimeout" | "asynctimeout" | "responsetimeout" => {
                    self.response_timeout = millis("syncTimeout", value)?;
                }
                "password" => password = Some(value),
                "user" => user = Some(value),
                "ssl" => tls = boolean("ssl", value)?,
                "defaultdatabase" => {
                    let number = value.parse().ok().filter(|n| (0..=1_000_000).contains(n));
                    self.database =
                        number.ok_or_else(|| invalid("defaultDatabase must be a whole number, 0 or more"))?;
                }
                known if WITHOUT_EFFECT.contains(&known) => self.ignored.push(known.to_owned()),
                unknown => {
                    return Err(invalid(&format!(
                        "`{unknown}` is not an option of a Redis connection string; there are abortConnect, connectTimeout, syncTimeout, user, password, ssl, defaultDatabase"
                    )));
                }
            }
        }
        let mut redis = RedisConnectionInfo::default();
        if let Some(user) = user {
            redis = redis.set_username(user);
        }
        if let Some(password) = password {
            redis = redis.set_password(password);
        }
        for host in hosts {
            let (host, port) = host_and_port(host, tls)?;
            let addr = if tls {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            };
            let info = addr.into_connection_info().map_err(|_| invalid("is not an address of a Redis"))?;
            self.nodes.push(info.set_redis_settings(redis.clone()));
        }
        if self.nodes.is_empty() {
            return Err(invalid("names no Redis server: write `host:port,option=value`"));
        }
        Ok(())
    }
}

fn host_and_port(text: &str, tls: bool) -> Result<(String, u16), SeamError> {
    let default = if tls { 6380 } else { 6379 };
    // `[::1]:6379`, `::1`, `host:6379`, `host`
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    };
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port != 0));
    let named = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@?#".contains(c));
    match (named, port) {
        (true, Some(port)) => Ok((host.to_owned(), port)),
        _ => Err(invalid("a Redis connection string begins with `host:port`")),
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, SeamError> {
    match value.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(&format!("{name} must be true or false"))),
    }
}

fn millis(name: &str, value: &str) -> Result<Duration, SeamError> {
    let number: Option<u32> = value.parse().ok().filter(|millis| *millis > 0);
    number
        .map(|millis| Duration::from_millis(millis.into()))
        .ok_or_else(|| invalid(&format!("{name} must be a number of milliseconds, 1 or more")))
}

fn invalid(message: &str) -> SeamError {
    SeamError::Invalid(format!("the address of Redis: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisOptions, SeamError> {
        RedisOptions::parse(&text.into(), &RedisSettings::default())
    }

    fn tcp(options: &RedisOptions) -> Vec<String> {
        options.nodes.iter().map(|node| node.addr().to_string()).collect()
    }

    /// C04: every option of the guide's connection string has its effect. Mutations tried: `connecttimeout`
    /// stored as the response timeout; `abortconnect` ignored.
    #[test]
    fn conduits_connection_string_is_read() {
        let options =
            parse("redis-cluster:6379,abortConnect=false,connectTimeout=4000,syncTimeout=3000").unwrap();
        assert_eq!(tcp(&options), ["redis-cluster:6379"]);
        assert_eq!((options.required, options.tls(), options.database), (false, false, 0));
        assert_eq!(options.connect_timeout, Duration::from_secs(4));
        assert_eq!(options.response_timeout, Duration::from_secs(3));

        let options =
            parse("a, b:7000 ,[::1]:7001,Password=p=w,USER=u,ssl=True,defaultDatabase=2,AbortConnect=TRUE,keepAlive=60")
                .unwrap();
        assert_eq!(tcp(&options).len(), 3);
        assert!(options.tls() && options.required);
        assert_eq!(options.database, 2);
        let redis = options.nodes[1].redis_settings();
        assert_eq!((redis.username(), redis.password()), (Some("u"), Some("p=w")));
        assert_eq!(options.ignored, ["keepalive"]);
        assert!(matches!(
            options.nodes[0].addr(),
            ConnectionAddr::TcpTls { port: 6380, insecure: false, .. }
        ));
    }

    #[test]
    fn a_url_is_read() {
        let options = parse("redis://user:p%40ss@redis:6400/2").unwrap();
        assert_eq!((tcp(&options), options.database), (vec!["redis:6400".to_owned()], 2));
        assert_eq!(options.nodes[0].redis_settings().password(), Some("p@ss"));
        assert_eq!(options.nodes[0].redis_settings().db(), 0);
        assert!(parse("rediss://h").unwrap().tls());
        assert!(parse("redis").is_err(), "which one?");
        let settings = RedisSettings { url: Some("redis,ssl=true".into()), ..RedisSettings::default() };
        assert!(RedisOptions::parse(&"redis".into(), &settings).unwrap().tls());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for bad in [
            "",
            ",",
            "h:0",
            "h:99999",
            "a b",
            "h,ssl=yes",
            "h,connectTimeout=0",
            "h,connectTimeout=5s",
            "h,pasword=secret",
            "h,defaultDatabase=-1",
            "http://:secret@h",
            "redis://:secret@h/x",
            "redis://",
            "redis://u:secret@h:x/0",
        ] {
            let error = parse(bad).expect_err(bad).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
