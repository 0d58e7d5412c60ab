//! The workspace as cargo sees it, for Linux.
//!
//! Owns the graph of packages. Never reads a Cargo.toml itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The platform whose build is looked at: other platforms pull other libraries in.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The directory of the workspace.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace is above this crate")
}

/// The names of everything that `package` alone is linked with, itself included.
pub(super) fn linked_with(package: &str) -> BTreeSet<String> {
    names_in(&cargo(&["tree", "-p", package, "-e", "normal", "--prefix", "none", "--target", TARGET]))
}

/// The names of everything that takes part in a build of the whole workspace, tests included.
pub(super) fn built() -> BTreeSet<String> {
    names_in(&cargo(&["tree", "--workspace", "-e", "normal,build,dev", "--prefix", "none", "--target", TARGET]))
}

fn names_in(tree: &str) -> BTreeSet<String> {
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.len() > 5, "cargo tree was not understood: {tree}");
    names
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).arg("--locked").current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// One package of ours.
#[derive(Debug)]
struct Package {
    directory: PathBuf,
    /// Names of the packages it names, for whatever purpose.
    named: BTreeSet<String>,
}

/// Our packages.
#[derive(Debug)]
pub(super) struct Workspace {
    packages: BTreeMap<String, Package>,
}

impl Workspace {
    /// Asks cargo.
    pub(super) fn load() -> Self {
        let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"]))
            .expect("cargo metadata is JSON");
        let packages = list(&metadata["packages"]).iter().map(|package| {
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            let directory = manifest.parent().expect("a manifest lies in a directory").to_owned();
            let named = list(&package["dependencies"]).iter().map(|dependency| text(&dependency["name"])).collect();
            (text(&package["name"]), Package { directory, named })
        });
        Self { packages: packages.collect() }
    }

    /// The names of our packages.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.packages.keys().map(String::as_str)
    }

    /// From each package of ours to the packages of ours that it names, for whatever purpose.
    pub(super) fn own_edges(&self) -> BTreeMap<String, BTreeSet<String>> {
        let own = |package: &Package| {
            package.named.iter().filter(|name| self.packages.contains_key(name.as_str())).cloned().collect()
        };
        self.packages.iter().map(|(name, package)| (name.clone(), own(package))).collect()
    }

    /// The packages of ours that name `library`, for whatever purpose.
    pub(super) fn users_of(&self, library: &str) -> BTreeSet<String> {
        let users = self.packages.iter().filter(|(_, package)| package.named.contains(library));
        users.map(|(name, _)| name.clone()).collect()
    }

    /// The directory of a package of ours.
    pub(super) fn directory_of(&self, member: &str) -> &Path {
        let package = self.packages.get(member);
        &package.unwrap_or_else(|| panic!("{member} is not a package of this workspace")).directory
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().expect("cargo metadata has text here").to_owned()
}
