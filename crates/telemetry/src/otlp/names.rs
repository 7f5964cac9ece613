//! The names that differ between Prometheus and OTLP.

use crate::gen_ai::{LABELS, METRICS};

/// Suffixes that Prometheus wants and OTLP says with the unit or the type.
const SUFFIXES: [&str; 4] = ["_seconds", "_bytes", "_tokens", "_total"];

/// The dotted name and unit of a family that has one.
pub(super) fn metric(name: &str) -> Option<(&'static str, &'static str)> {
    let bare = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    METRICS.iter().copied().find(|(dotted, _)| underscored(dotted, name) || underscored(dotted, bare))
}

/// The unit, in UCUM, that a Prometheus name says with its suffix.
pub(super) fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "",
    }
}

/// The dotted name of a label that is an attribute of the conventions.
pub(super) fn label(name: &str) -> Option<&'static str> {
    LABELS.iter().copied().find(|dotted| underscored(dotted, name))
}

fn underscored(dotted: &str, name: &str) -> bool {
    dotted.len() == name.len()
        && dotted.bytes().zip(name.bytes()).all(|(d, n)| d == n || (d, n) == (b'.', b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_get_their_dots() {
        assert_eq!(metric("gen_ai_client_token_usage"), Some(("gen_ai.client.token.usage", "{token}")));
        assert_eq!(
            metric("gen_ai_client_operation_duration_seconds"),
            Some(("gen_ai.client.operation.duration", "s"))
        );
        assert_eq!(metric("http_server_request_duration"), Some(("http.server.request.duration", "s")));
        assert_eq!(metric("rodger_query_duration"), Some(("rodger.query.duration", "s")));
        assert_eq!(metric("http_requests_total"), None);
        assert_eq!(label("gen_ai_request_model"), Some("gen_ai.request.model"));
        assert_eq!(label("http_response_status_code"), Some("http.response.status_code"));
        assert_eq!(label("agent_id"), None);
        assert_eq!((unit("process_resident_memory_bytes"), unit("http_requests_total")), ("By", ""));
    }
}
