//! The Conserver's names.

use super::*;

fn path(path: Option<&std::path::PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

pub const CASES: &[Case] = &[
    case!(
        "CONSERVER_CONFIG_FILE",
        "/etc/conserver/config.yml",
        &[],
        |s| path(s.conversations.config_file.as_ref()),
        "/etc/conserver/config.yml"
    ),
    case!(
        "CONSERVER_API_TOKEN",
        "token-1",
        &[],
        |s| s.conversations.api_token.as_ref().map(|token| token.expose().to_owned()).unwrap_or_default(),
        "token-1"
    ),
    case!(
        "CONSERVER_API_TOKEN_FILE",
        "/run/secrets/tokens",
        &[],
        |s| path(s.conversations.api_token_file.as_ref()),
        "/run/secrets/tokens"
    ),
    case!(
        "CONSERVER_HEADER_NAME",
        "X-Our-Token",
        &[],
        |s| s.conversations.header_name.clone(),
        "x-our-token"
    ),
    case!("API_ROOT_PATH", "/vcons", &[], |s| s.conversations.root_path.clone(), "/vcons"),
    case!("CONSERVER_WORKERS", "3", &[], |s| s.conversations.workers.to_string(), "3"),
    case!("CONSERVER_VCON_CONCURRENCY", "7", &[], |s| s.conversations.concurrency.to_string(), "7"),
    case!(
        "CONSERVER_PARALLEL_STORAGE",
        "false",
        &[],
        |s| s.conversations.parallel_storage.to_string(),
        "false"
    ),
    case!(
        "VCON_REDIS_EXPIRY",
        "7200",
        &[],
        |s| s.conversations.keep.map(|keep| keep.0.as_secs().to_string()).unwrap_or_default(),
        "7200"
    ),
    case!("VCON_INDEX_EXPIRY", "7200", &[], |s| s.conversations.index_keep.0.as_secs().to_string(), "7200"),
    case!(
        "VCON_CONTEXT_EXPIRY",
        "7200",
        &[],
        |s| s.conversations.context_keep.0.as_secs().to_string(),
        "7200"
    ),
    case!("VCON_SORTED_SET_NAME", "ours", &[], |s| s.conversations.sorted_set.clone(), "ours"),
    case!(
        "VCON_STORAGE_FALLBACK_ENABLED",
        "false",
        &[],
        |s| s.conversations.storage_fallback.to_string(),
        "false"
    ),
    case!(
        "EGRESS_FORMAT_VERSION",
        "0.0.1",
        &[],
        |s| s.conversations.egress_format.clone().unwrap_or_default(),
        "0.0.1"
    ),
];
