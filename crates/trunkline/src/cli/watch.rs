//! Noticing that the settings file was changed or replaced (Kubernetes swaps a link).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use trunkline::settings::MAX_FILE;

/// Compares what is in the file: times are too coarse for two edits in a row, and tools that copy files set
/// them back. Content counts when two looks in a row find it: who writes a file in place empties it first, and
/// an empty file is a valid one.
pub struct FileWatch<'a> {
    file: Option<&'a Path>,
    last: Option<Vec<u8>>,
    seen_once: Option<Vec<u8>>,
}

impl<'a> FileWatch<'a> {
    /// Watches this file, if there is one, from what is in it now.
    pub fn new(file: Option<&'a Path>) -> Self {
        let mut watch = FileWatch { file, last: None, seen_once: None };
        watch.last = watch.look();
        watch
    }

    /// Looks. Whether there is something new to read.
    pub fn changed(&mut self) -> bool {
        let now = self.look();
        // A file that is away for a moment is being replaced.
        if now.is_none() || now == self.last {
            self.seen_once = None;
            return false;
        }
        if now != self.seen_once {
            self.seen_once = now;
            return false;
        }
        self.last = self.seen_once.take();
        true
    }

    fn look(&self) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        // One byte more than a settings file may have: what lies beyond that makes no difference.
        File::open(self.file?).ok()?.take(MAX_FILE + 1).read_to_end(&mut content).ok()?;
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_counts_when_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new(Some(&file));
        assert!(!watch.changed() && !watch.changed());
        fs::write(&file, "").unwrap();
        assert!(!watch.changed(), "emptied, and about to be written");
        fs::write(&file, "two").unwrap();
        assert!(!watch.changed(), "seen once");
        assert!(watch.changed() && !watch.changed(), "told once");
        fs::remove_file(&file).unwrap();
        assert!(!watch.changed() && !watch.changed());
        fs::write(&file, "two").unwrap();
        assert!(!watch.changed() && !watch.changed(), "back as it was");
        assert!(!FileWatch::new(None).changed());
    }
}
