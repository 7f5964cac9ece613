//! Names of the Conserver.

use super::super::convert;
use super::{How, Row, row};

const CONSERVER: &str = "Conserver";

/// Their rows.
pub const ROWS: &[Row] = &[
    row("CONSERVER_CONFIG_FILE", "conversations.config_file", CONSERVER, How::Set(convert::same)),
    row("CONSERVER_API_TOKEN", "conversations.api_token", CONSERVER, How::Secret(convert::same)),
    row("CONSERVER_API_TOKEN_FILE", "conversations.api_token_file", CONSERVER, How::Set(convert::same)),
    row("CONSERVER_HEADER_NAME", "conversations.header_name", CONSERVER, How::Set(header)),
    row("API_ROOT_PATH", "conversations.root_path", CONSERVER, How::Set(convert::same)),
    row("CONSERVER_WORKERS", "conversations.workers", CONSERVER, How::Set(convert::whole)),
    row("CONSERVER_VCON_CONCURRENCY", "conversations.concurrency", CONSERVER, How::Set(convert::whole)),
    row(
        "CONSERVER_PARALLEL_STORAGE",
        "conversations.parallel_storage",
        CONSERVER,
        How::Set(convert::boolean),
    ),
    row("VCON_REDIS_EXPIRY", "conversations.keep", CONSERVER, How::Set(convert::seconds)),
    row("VCON_INDEX_EXPIRY", "conversations.index_keep", CONSERVER, How::Set(convert::seconds)),
    row("VCON_CONTEXT_EXPIRY", "conversations.context_keep", CONSERVER, How::Set(convert::seconds)),
    row("VCON_SORTED_SET_NAME", "conversations.sorted_set", CONSERVER, How::Set(convert::same)),
    row(
        "VCON_STORAGE_FALLBACK_ENABLED",
        "conversations.storage_fallback",
        CONSERVER,
        How::Set(convert::boolean),
    ),
    row("EGRESS_FORMAT_VERSION", "conversations.egress_format", CONSERVER, How::Set(convert::same)),
];

/// The name of a header; names of headers know no case.
fn header(value: &str) -> Result<String, String> {
    let name = value.trim().to_ascii_lowercase();
    match reqwest::header::HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name),
        Err(_) => Err("must be the name of a header".into()),
    }
}
