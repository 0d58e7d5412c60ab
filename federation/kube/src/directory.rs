//! The files of a manifest directory.
//!
//! Owns the walk and its limits, and reading one file whole. Names starting with '.' are passed over: editors and the
//! kubelet (`..data` of a ConfigMap volume) keep their own copies under such names. Never parses.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::document::mentions_policies;

/// The most files of a directory.
pub(crate) const MAX_FILES: usize = 10_000;
/// The most bytes of one file.
pub(crate) const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// The most bytes of all files together, so that a directory put in by mistake does not fill the memory.
pub(crate) const MAX_TOTAL_BYTES: u64 = 256 * 1024 * 1024;
/// How deep directories may be nested.
const MAX_DEPTH: usize = 16;

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The manifest files, sorted.
    pub(crate) files: Vec<PathBuf>,
    /// Directories that could not be read, or not wholly, and why.
    pub(crate) faults: Vec<(PathBuf, String)>,
}

/// Finds the manifests below `root`.
pub(crate) fn walk(root: &Path) -> Walk {
    let mut walker = Walker { walk: Walk::default(), seen: BTreeSet::new() };
    if let Err(error) = walker.enter(root, 0) {
        walker.walk.faults.push((root.to_owned(), format!("the directory cannot be read: {error}")));
    }
    let mut walk = walker.walk;
    walk.files.sort();
    if walk.files.len() > MAX_FILES {
        walk.files.truncate(MAX_FILES);
        let reason = format!("there are more than {MAX_FILES} manifests; the rest is not read");
        walk.faults.push((root.to_owned(), reason));
    }
    walk
}

struct Walker {
    walk: Walk,
    /// Real paths of the directories on the way, because links may form a circle.
    seen: BTreeSet<PathBuf>,
}

impl Walker {
    fn enter(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        if !self.seen.insert(fs::canonicalize(directory)?) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            let reason = format!("directories are nested more than {MAX_DEPTH} deep; this one is not read");
            self.walk.faults.push((directory.to_owned(), reason));
            return Ok(());
        }
        // Sorted, so that the same directory is met first on every walk and the same files are over the limit.
        let mut paths: Vec<PathBuf> =
            fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        for path in paths {
            if self.walk.files.len() > MAX_FILES {
                return Ok(());
            }
            if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let is_directory = fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            if is_directory {
                if let Err(error) = self.enter(&path, depth + 1) {
                    self.walk.faults.push((path, format!("the directory cannot be read: {error}")));
                }
            } else if is_manifest(&path) {
                self.walk.files.push(path);
            }
        }
        Ok(())
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) reason: String,
    /// What could be seen of it.
    pub(crate) seen: Seen,
}

/// What is known of a file that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It speaks of policies.
    Policies,
    /// There is nothing to read, or all of it was seen and none of it speaks of policies.
    NoPolicies,
    /// Not all of it was seen.
    NotAll,
}

impl Unreadable {
    fn new(reason: impl Into<String>, seen: Seen) -> Self {
        Self { reason: reason.into(), seen }
    }

    /// The beginning of it was seen; `otherwise` is what is known when that does not speak of policies.
    fn begins(reason: impl Into<String>, bytes: &[u8], otherwise: Seen) -> Self {
        let policies = mentions_policies(&String::from_utf8_lossy(bytes));
        Self::new(reason, if policies { Seen::Policies } else { otherwise })
    }
}

/// Reads one file; nothing when it is gone since the walk. A file over `limit` bytes is not read.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Option<String>, Unreadable> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(error) => {
            // A link that leads nowhere has nothing to say.
            let seen = if error.kind() == io::ErrorKind::NotFound { Seen::NoPolicies } else { Seen::NotAll };
            return Err(Unreadable::new(format!("the file cannot be read: {error}"), seen));
        }
    };
    // Opening a named pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(Unreadable::new("this is not a regular file", Seen::NoPolicies));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    let length = match read {
        Ok(length) => u64::try_from(length).unwrap_or(u64::MAX),
        Err(error) => return Err(Unreadable::new(format!("the file cannot be read: {error}"), Seen::NotAll)),
    };
    if length > limit {
        let reason = if limit < MAX_FILE_BYTES {
            format!("all manifests together are over {} MiB; this one is not read", MAX_TOTAL_BYTES >> 20)
        } else {
            format!("the file is over {} MiB", MAX_FILE_BYTES >> 20)
        };
        return Err(Unreadable::begins(reason, &bytes, Seen::NotAll));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let reason = format!("the file is not UTF-8: {}", error.utf8_error());
        Unreadable::begins(reason, error.as_bytes(), Seen::NoPolicies)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_manifests_are_found_and_hidden_names_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sub/deeper")).unwrap();
        fs::create_dir(root.join("..data")).unwrap();
        for name in ["b.yaml", "a.YML", "sub/deeper/c.json", "..data/b.yaml", ".d.yaml", "README.md", "e.yaml~"] {
            fs::write(root.join(name), "").unwrap();
        }
        let walk = walk(root);
        let names: Vec<_> = walk.files.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.YML", "b.yaml", "sub/deeper/c.json"]);
        assert_eq!(walk.faults, []);
    }

    #[test]
    fn a_circle_of_links_is_walked_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "").unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        assert_eq!(walk(dir.path()).files.len(), 1);
    }

    #[test]
    fn directories_nested_too_deep_are_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(["x"; MAX_DEPTH + 1].join("/"))).unwrap();
        let walk = walk(dir.path());
        assert_eq!(walk.faults.len(), 1);
        assert!(walk.faults[0].1.contains("nested"), "{:?}", walk.faults);
    }

    #[test]
    fn a_file_over_its_limit_or_not_text_is_refused_and_a_vanished_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_file(&path, 5), Ok(Some("12345".to_owned())));
        assert!(read_file(&path, 4).unwrap_err().reason.contains("together"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read_file(&path, 5).unwrap_err().reason.contains("UTF-8"));
        fs::remove_file(&path).unwrap();
        assert_eq!(read_file(&path, 5), Ok(None));
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(read_file(&path, 5).unwrap_err().reason.contains("cannot be read"));
        assert!(read_file(dir.path(), 5).unwrap_err().reason.contains("regular"));
    }
}
