//! How long a provider asks us to wait.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// Reads the wait from `retry-after-ms`, `x-ms-retry-after-ms` and `x-ms-retry-after` (milliseconds, the
/// last in seconds), or `Retry-After` (RFC 9110 §10.2.3: seconds, also with a fraction as some providers
/// send, or a date). The finest one wins; what is negative, malformed or absent is `None`.
pub fn parse(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str, scale: f64| {
        let value = text(name)?.parse::<f64>().ok()? / scale;
        Duration::try_from_secs_f64(value).ok()
    };
    number("retry-after-ms", 1000.0)
        .or_else(|| number("x-ms-retry-after-ms", 1000.0))
        .or_else(|| number("x-ms-retry-after", 1.0))
        .or_else(|| number("retry-after", 1.0))
        .or_else(|| {
            let date = httpdate::parse_http_date(text("retry-after")?).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wait(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        parse(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(wait("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("x-ms-retry-after-ms", "20"), Some(Duration::from_millis(20)));
        assert_eq!(wait("x-ms-retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn ignores_nonsense() {
        for bad in ["", "-1", "soon", "NaN", "inf", "1e300"] {
            assert_eq!(wait("retry-after", bad), None, "{bad}");
        }
    }
}
