//! The files of the workspace that people write.
//!
//! Owns the walk over them, and what counts as production code. Never judges.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::workspace::root;

/// The kinds of file that people write here.
const WRITTEN: [&str; 7] = ["rs", "proto", "toml", "sh", "yaml", "md", "json"];
/// Directories deep enough for this workspace; a loop of links would be deeper.
const DEEPEST: usize = 12;

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it says.
    pub(super) text: String,
}

impl Source {
    /// Every file, in order.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let mut paths = Vec::new();
        collect(&root(), 0, &mut paths);
        paths.sort();
        assert!(paths.len() > 50, "the sources were not found: {paths:?}");
        paths.into_iter().map(|path| Self { text: read(&path), path })
    }

    /// Every file of Rust.
    pub(super) fn rust() -> impl Iterator<Item = Self> {
        Self::all().filter(Self::is_rust)
    }

    /// Whether it is Rust.
    pub(super) fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether it holds the unit tests of the module it is named after the directory of.
    pub(super) fn is_unit_test(&self) -> bool {
        self.path.components().any(|part| part.as_os_str() == "src")
            && (self.path.ends_with("tests.rs") || self.path.components().any(|part| part.as_os_str() == "tests"))
            && !self.path.starts_with(root().join("tests"))
    }

    /// Lines up to the unit tests.
    pub(super) fn production_lines(&self) -> usize {
        if self.is_unit_test() {
            return 0;
        }
        let lines: Vec<_> = self.text.lines().map(str::trim).collect();
        let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
        tests.unwrap_or(lines.len())
    }

    /// The path as seen from the root of the workspace.
    pub(super) fn shown(&self) -> String {
        self.path.strip_prefix(root()).unwrap_or(&self.path).display().to_string()
    }
}

fn collect(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    assert!(depth < DEEPEST, "{} is too deep", directory.display());
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !hidden && name != "target" {
            collect(&path, depth + 1, paths);
        } else if kind.is_file() && path.extension().is_some_and(|e| WRITTEN.iter().any(|written| e == *written)) {
            paths.push(path);
        }
    }
}

/// The text of a file that must be there.
pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
