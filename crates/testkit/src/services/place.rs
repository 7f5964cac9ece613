//! Names, ports and programs for what a test starts or borrows.

use std::collections::HashSet;
use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use tempfile::TempDir;

/// A name that nobody else uses, of letters, digits and `_`, and safe unquoted in SQL: `trunkline_test_…`.
pub(super) fn random_name() -> String {
    format!("trunkline_test_{:016x}", fastrand::u64(..))
}

/// The ports that this process has given to servers.
static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A free port of 127.0.0.1 that stays its server's own while that is stopped: it lies below the ports that
/// systems give to outgoing connections and to listeners on port 0 (from 32768 on Linux, 49152 elsewhere).
pub(super) fn free_port() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        let port = fastrand::u16(20_000..32_000);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
    panic!("no free port between 20000 and 32000 on 127.0.0.1");
}

/// A folder for a server, removed when it is dropped; what a killed test leaves is known by its name.
pub(super) fn folder(service: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("trunkline-test-{service}-"))
        .tempdir()
        .expect("a folder for the server")
}

/// The program of this name in one of `first` or in PATH.
pub(super) fn program(name: &str, first: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/sbin", "/opt/homebrew/bin"];
    let folders = first.iter().cloned().chain(env::split_paths(&path)).chain(usual.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The folders `parent/*/tail`, the one with the highest version first.
pub(super) fn versions(parent: &str, tail: &str) -> Vec<PathBuf> {
    let entries = Path::new(parent).read_dir().into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path().join(tail)).filter(|path| path.is_dir()).collect();
    let numbers = |path: &PathBuf| -> Vec<u32> {
        let text = path.to_string_lossy();
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    found.sort_by_key(|path| std::cmp::Reverse(numbers(path)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "14"] {
            std::fs::create_dir_all(folder.path().join(version).join("bin")).unwrap();
        }
        std::fs::create_dir(folder.path().join("16")).unwrap();
        let found = versions(folder.path().to_str().unwrap(), "bin");
        let names: Vec<_> = found.iter().map(|path| path.parent().unwrap().file_name().unwrap()).collect();
        assert_eq!(names, ["15", "14", "9"]);
    }

    #[test]
    fn ports_and_names_are_not_given_twice() {
        let ports: HashSet<u16> = (0..50).map(|_| free_port()).collect();
        let names: HashSet<String> = (0..50).map(|_| random_name()).collect();
        assert_eq!((ports.len(), names.len()), (50, 50));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(program("sh", &[]).is_some());
        assert_eq!(program("trunkline-no-such-program", &[]), None);
    }
}
