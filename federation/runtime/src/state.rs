//! Private files of a program: its keys and what it must not forget.
//!
//! Owns their modes, their atomic replacement and the lock of the directory. Never knows what is in them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Bits that let the group or others read or write.
const SHARED_BITS: u32 = 0o077;
/// Bits that let others do anything with a mounted key, or its group write or execute it.
const EXPOSED_BITS: u32 = 0o037;
/// The largest private file: a snapshot of every member and catalog is far below.
const MAX_FILE: u64 = 64 << 20;
const LOCK_FILE: &str = "lock";

/// Why private state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file is not there.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Other users could read a key.
    #[error("{} may be read by others (mode {mode:04o}): run `chmod 600 {}`", .path.display(), .path.display())]
    Shared {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Every user could read a mounted key, or its group change it.
    #[error(
        "{} may be read by every user or changed by its group (mode {mode:04o}): run `chmod 640 {}`; in Kubernetes set defaultMode: 0440 for the volume of the Secret",
        .path.display(), .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is larger than anything that is written here.
    #[error("{} has {size} bytes, more than {MAX_FILE}: it was not written by this program", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// The file is not text.
    #[error("{} is not text", .0.display())]
    NotText(PathBuf),
    /// Another program uses the directory.
    #[error("{} is in use by {holder}: stop it, or choose another directory", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as it wrote into the lock.
        holder: String,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |error| {
        let path = path.to_owned();
        if action == "read" && error.kind() == io::ErrorKind::NotFound {
            StateError::Missing(path)
        } else {
            StateError::Io { action, path, error }
        }
    }
}

/// Makes a directory that only this user may enter, and what is missing above it.
///
/// # Errors
/// When it cannot be made.
pub fn create_private_dir(path: &Path) -> Result<(), StateError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(io_error("create", path))
}

/// Replaces a file as a whole, mode 0600: after a crash it holds the old bytes or the new ones, never a mixture.
///
/// # Errors
/// When any step fails; the old file is then untouched.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let directory = directory_of(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = directory.join(name);
    let written = write_new(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(io_error("replace", path)))
        .and_then(|()| sync_dir(directory));
    if written.is_err() {
        // The error of the write is the one to tell; a leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
        // The mode above holds for a new file only.
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_error("write", path))
}

/// Removes a file for good; one that is not there is fine.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(directory_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn sync_dir(directory: &Path) -> Result<(), StateError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(io_error("sync", directory))
}

/// Reads a file that nobody else may read: a key.
///
/// # Errors
/// When it is missing, cannot be read, is too large, or is open to the group or others.
pub fn read_private(path: &Path) -> Result<Vec<u8>, StateError> {
    let file = File::open(path).map_err(io_error("read", path))?;
    let metadata = file.metadata().map_err(io_error("read", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & SHARED_BITS != 0 {
        return Err(StateError::Shared { path: path.to_owned(), mode });
    }
    bytes_of(path, file)
}

/// As [`read_private`], for text.
///
/// # Errors
/// As [`read_private`], and when it is not text.
pub fn read_private_text(path: &Path) -> Result<String, StateError> {
    String::from_utf8(read_private(path)?).map_err(|_| StateError::NotText(path.to_owned()))
}

/// Reads a key that somebody else put here, for this program to use. Its group may read it: the kubelet gives the files of a
/// Secret to root and to the pod's fsGroup, mode 0440 at best, and this program is in that group alone. Other users may never
/// read it, and nobody but its owner may change it.
///
/// # Errors
/// As [`read_private_text`], but with these bounds of the mode.
pub fn read_mounted_key(path: &Path) -> Result<String, StateError> {
    let file = File::open(path).map_err(io_error("read", path))?;
    let mode = file.metadata().map_err(io_error("read", path))?.permissions().mode() & 0o7777;
    if mode & EXPOSED_BITS != 0 {
        return Err(StateError::Exposed { path: path.to_owned(), mode });
    }
    String::from_utf8(bytes_of(path, file)?).map_err(|_| StateError::NotText(path.to_owned()))
}

/// Reads a file that is no secret: a certificate.
///
/// # Errors
/// When it is missing, cannot be read, is too large or is not text.
pub fn read_text(path: &Path) -> Result<String, StateError> {
    let file = File::open(path).map_err(io_error("read", path))?;
    String::from_utf8(bytes_of(path, file)?).map_err(|_| StateError::NotText(path.to_owned()))
}

fn bytes_of(path: &Path, file: File) -> Result<Vec<u8>, StateError> {
    let size = file.metadata().map_err(io_error("read", path))?.len();
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if read as u64 > MAX_FILE {
        return Err(StateError::TooLarge { path: path.to_owned(), size });
    }
    Ok(bytes)
}

/// A directory that no other program may use until this is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the directory when it is missing, and locks it for `program`.
    ///
    /// # Errors
    /// When another program holds it, or it cannot be made.
    pub fn acquire(directory: &Path, program: &str) -> Result<Self, StateError> {
        create_private_dir(directory)?;
        let path = directory.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&mut file).take(128).read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another program".to_owned() } else { holder };
                return Err(StateError::Locked { path: directory.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{program} (process {})", std::process::id()))
            .map_err(io_error("write", &path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn private_files_are_replaced_whole_and_only_their_owner_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/tls.key");
        create_private_dir(path.parent().unwrap()).unwrap();
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        write_private(&path, b"first, and longer").unwrap();
        write_private(&path, b"second").unwrap();
        assert_eq!((mode(&path), read_private(&path).unwrap()), (0o600, b"second".to_vec()));
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["tls.key"]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.key");
        write_private(&path, b"key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&path).unwrap_err().to_string();
        assert!(error.contains("(mode 0640): run `chmod 600 ") && error.contains("tls.key"), "{error}");
        assert_eq!(read_text(&path).unwrap(), "key");
    }

    #[test]
    fn a_mounted_key_may_be_read_by_its_group_and_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.key");
        write_private(&path, b"key").unwrap();
        for (mode, accepted) in [
            (0o400, true),
            (0o440, true),
            (0o600, true),
            (0o640, true),
            (0o660, false),
            (0o444, false),
            (0o644, false),
            (0o604, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_mounted_key(&path).is_ok(), accepted, "{mode:04o}");
        }
        let error = read_mounted_key(&path).unwrap_err().to_string();
        assert!(error.contains("(mode 0604): run `chmod 640 ") && error.contains("defaultMode: 0440"), "{error}");
    }

    #[test]
    fn a_missing_file_is_told_apart_from_an_unreadable_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_private(&dir.path().join("none")), Err(StateError::Missing(_))));
        assert!(matches!(read_private(&dir.path().join("none/below")), Err(StateError::Missing(_))));
        fs::write(dir.path().join("plain"), "").unwrap();
        assert!(matches!(read_text(&dir.path().join("plain/below")), Err(StateError::Io { .. })));
    }

    #[test]
    fn two_programs_never_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::acquire(dir.path(), "landbridge-gateway").unwrap();
        let error = StateLock::acquire(dir.path(), "landbridge-gateway").unwrap_err().to_string();
        assert!(error.contains("is in use by landbridge-gateway (process "), "{error}");
        drop(first);
        StateLock::acquire(dir.path(), "landbridge-gateway").unwrap();
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_private(&path, b"x").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
