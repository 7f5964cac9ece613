//! The storages, one file each, and the table of their names.

mod chatgpt_files;
mod dataverse;
mod day;
mod elasticsearch;
mod file;
mod http;
mod milvus;
mod mongo;
mod postgres;
mod redis_storage;
mod s3;
mod sftp;
mod vcon_mcp;
mod webhook;

#[cfg(test)]
mod conformance;

use serde_json::Value;

use crate::environment::Environment;
use crate::options::OptionsError;
use crate::storage::Storage;

/// Makes a storage from its options; `null` for none given.
type Make = fn(Value, &Environment) -> Result<Box<dyn Storage>, OptionsError>;

/// A module of storages.
struct Module {
    /// Its name, as in the Conserver's file.
    name: &'static str,
    /// Other names that files use.
    aliases: &'static [&'static str],
    /// The options it knows.
    options: &'static [&'static str],
    /// Makes one.
    make: Make,
}

/// Every module. `docs/storages.md` tells the same, and a test holds it to that.
const TABLE: &[Module] = &[
    Module { name: file::MODULE, aliases: &["file"], options: file::OPTIONS, make: file::make },
    Module {
        name: redis_storage::MODULE,
        aliases: &["redis_storage", "storage.redis"],
        options: redis_storage::OPTIONS,
        make: redis_storage::make,
    },
    Module { name: s3::MODULE, aliases: &["s3"], options: s3::OPTIONS, make: s3::make },
    Module {
        name: postgres::MODULE,
        aliases: &["postgres"],
        options: postgres::OPTIONS,
        make: postgres::make,
    },
    Module {
        name: elasticsearch::MODULE,
        aliases: &["elasticsearch"],
        options: elasticsearch::OPTIONS,
        make: elasticsearch::make,
    },
    Module { name: milvus::MODULE, aliases: &["milvus"], options: milvus::OPTIONS, make: milvus::make },
    Module {
        name: mongo::MODULE,
        aliases: &["mongo", "storage.mongodb"],
        options: mongo::OPTIONS,
        make: mongo::make,
    },
    Module { name: sftp::MODULE, aliases: &["sftp"], options: sftp::OPTIONS, make: sftp::make },
    Module {
        name: vcon_mcp::MODULE,
        aliases: &["vcon_mcp"],
        options: vcon_mcp::OPTIONS,
        make: vcon_mcp::make,
    },
    Module { name: webhook::MODULE, aliases: &["webhook"], options: webhook::OPTIONS, make: webhook::make },
    Module {
        name: dataverse::MODULE,
        aliases: &["dataverse"],
        options: dataverse::OPTIONS,
        make: dataverse::make,
    },
    Module {
        name: chatgpt_files::MODULE,
        aliases: &["chatgpt_files"],
        options: chatgpt_files::OPTIONS,
        make: chatgpt_files::make,
    },
];

/// Makes a storage. The module's name is as in the Conserver's file: `storage.file`.
pub fn make(
    module: &str,
    options: Value,
    environment: &Environment,
) -> Result<Box<dyn Storage>, OptionsError> {
    let row = TABLE.iter().find(|row| row.name == module || row.aliases.contains(&module));
    let Some(row) = row else {
        let names: Vec<&str> = modules().collect();
        return Err(OptionsError::new(format!(
            "there is no storage module `{module}`; there are {}",
            names.join(", ")
        )));
    };
    (row.make)(options, environment)
}

/// The names of all modules.
pub fn modules() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.name)
}

/// The options that a module knows; none when there is no such module.
pub fn options(module: &str) -> &'static [&'static str] {
    TABLE.iter().find(|row| row.name == module).map_or(&[], |row| row.options)
}

#[cfg(test)]
mod tests;
