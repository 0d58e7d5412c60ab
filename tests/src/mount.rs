//! A Secret as the kubelet mounts it: the files are links through `..data`, which is swapped as a whole.
//!
//! Owns the directory. Never knows who reads it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use tempfile::TempDir;

use crate::company::Secret;

const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
/// As the kubelet gives the files of a Secret with `defaultMode: 0440`.
const MODE: u32 = 0o440;

/// A directory that is a mounted Secret.
#[derive(Debug)]
pub struct Mount {
    dir: TempDir,
    version: u32,
}

impl Mount {
    /// Mounts a Secret.
    ///
    /// # Panics
    /// When there is no directory for it.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let mut mount = Self { dir: TempDir::new().expect("a directory for the Secret"), version: 0 };
        mount.swap(secret);
        for name in FILES {
            symlink(Path::new("..data").join(name), mount.path().join(name)).expect("the directory takes links");
        }
        mount
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The lines of the section `[identity]` of a gateway that reads it.
    #[must_use]
    pub fn settings(&self) -> String {
        format!("source = \"files\"\ndir = \"{}\"", self.path().display())
    }

    /// Replaces all files at once.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn swap(&mut self, secret: &Secret) {
        self.version += 1;
        let (name, link) = (format!("..{}", self.version), self.path().join("..data"));
        let written = || {
            let version = self.path().join(&name);
            fs::create_dir(&version)?;
            let texts = [&secret.certificate, &secret.key, &secret.authorities];
            for (file, text) in FILES.iter().zip(texts) {
                fs::write(version.join(file), text)?;
                fs::set_permissions(version.join(file), fs::Permissions::from_mode(MODE))?;
            }
            symlink(&name, self.path().join("..data_tmp"))?;
            let old = fs::read_link(&link).ok();
            fs::rename(self.path().join("..data_tmp"), &link)?;
            old.map_or(Ok(()), |old| fs::remove_dir_all(self.path().join(old)))
        };
        written().expect("the Secret can be swapped");
    }
}
