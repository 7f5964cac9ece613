//! The storages, one file each, and the table of their names.

mod file;

use serde_json::Value;

use crate::environment::Environment;
use crate::options::OptionsError;
use crate::storage::Storage;

/// Makes a storage of a module from its options; `null` for none given.
type Make = fn(Value, &Environment) -> Result<Box<dyn Storage>, OptionsError>;

/// Each module: its name, other names that old files use, and who makes it.
const TABLE: &[(&str, &[&str], Make)] = &[(file::MODULE, &["file"], file::make)];

/// Makes a storage. The module's name is as in the Conserver's file: `storage.file`.
pub fn make(
    module: &str,
    options: Value,
    environment: &Environment,
) -> Result<Box<dyn Storage>, OptionsError> {
    let row = TABLE.iter().find(|(name, aliases, _)| *name == module || aliases.contains(&module));
    let Some((_, _, make)) = row else {
        let names: Vec<&str> = modules().collect();
        return Err(OptionsError::new(format!(
            "there is no storage module `{module}`; there are {}",
            names.join(", ")
        )));
    };
    make(options, environment)
}

/// The names of all modules.
pub fn modules() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _, _)| *name)
}
