//! What a source of objects says, and the source that is a manifest directory.
//!
//! Owns the published state of one directory and its following; [`crate::cluster`] is the other source. A document that cannot be used is quarantined, with its
//! file, line and reason; everything else counts, and so does its last good version. Never changes a file; [`crate::promote`]
//! makes the new text of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use federation_catalog::objects::Objects;
use federation_model::{
    names::Namespace,
    policy::{PolicyKey, PolicyKind},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{assemble::Assembler, follow::Follower};

/// What a directory or an API server says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifests {
    /// The objects in force.
    pub objects: Objects,
    /// The namespaces there are; nothing where every namespace counts as being there, as in a directory.
    pub namespaces: Option<Arc<BTreeSet<Namespace>>>,
    /// What is not in force, by file and line, or by object.
    pub quarantined: Vec<Quarantined>,
    /// Where each policy in force was read, if in a file: the file, and the line of it.
    pub policy_origins: BTreeMap<(PolicyKind, PolicyKey), (PathBuf, u32)>,
}

/// A document or an object that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quarantined {
    /// The file, a directory when it could not be read; nothing for an object of an API server.
    pub file: Option<PathBuf>,
    /// The line of the file; nothing when all of it is meant.
    pub line: Option<u32>,
    /// The kind, namespace and name, when they are known.
    pub object: Option<String>,
    /// What is wrong, and whether an earlier version stays in force.
    pub reason: String,
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Why a directory cannot be a source of objects.
#[derive(Debug, thiserror::Error)]
#[error("the manifest directory {} cannot be read; create it, or set catalog.dir to the right one", directory.display())]
pub struct OpenError {
    directory: PathBuf,
    source: io::Error,
}

/// One manifest directory.
#[derive(Debug)]
pub struct ManifestSource {
    assembler: Assembler,
    published: watch::Sender<Arc<Manifests>>,
}

impl ManifestSource {
    /// Reads a directory for the first time. Blocks while it reads. A document that may be any policy refuses everything
    /// as a broken policy of the namespace `root`, whose policies hold for all namespaces.
    ///
    /// # Errors
    /// When the directory does not exist or may not be read; bad manifests in it are no error.
    pub fn open(directory: impl Into<PathBuf>, root: Namespace) -> Result<Self, OpenError> {
        let (assembler, manifests) = first_reading(directory.into(), root)?;
        report(assembler.directory(), &Manifests::default(), &manifests);
        Ok(Self { assembler, published: watch::Sender::new(Arc::new(manifests)) })
    }

    /// The manifests, and every change of them.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Manifests>> {
        self.published.subscribe()
    }

    /// Follows the directory until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { mut assembler, published } = self;
        let mut follower = Follower::new(assembler.directory()).await;
        loop {
            // Read at once: something may have changed between the first reading and the watch.
            let Some((returned, manifests)) = read(assembler).await else { return };
            assembler = returned;
            publish(&published, assembler.directory(), manifests);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = follower.changed() => {}
            }
        }
    }
}

/// Reads a directory once, as a gateway does when it starts. Blocks while it reads.
///
/// # Errors
/// As [`ManifestSource::open`].
pub fn read_once(directory: impl Into<PathBuf>, root: Namespace) -> Result<Manifests, OpenError> {
    first_reading(directory.into(), root).map(|(_, manifests)| manifests)
}

/// Reads a text as the only manifest of a directory, where it is called `file`.
#[must_use]
pub fn read_text(file: impl Into<PathBuf>, text: &str, root: Namespace) -> Manifests {
    Assembler::new(PathBuf::new(), root).read_text(file.into(), text)
}

fn first_reading(directory: PathBuf, root: Namespace) -> Result<(Assembler, Manifests), OpenError> {
    if let Err(source) = fs::read_dir(&directory) {
        return Err(OpenError { directory, source });
    }
    let mut assembler = Assembler::new(directory, root);
    let manifests = assembler.read();
    Ok((assembler, manifests))
}

/// Reads the directory where blocking is allowed; nothing when the runtime is shutting down.
async fn read(mut assembler: Assembler) -> Option<(Assembler, Manifests)> {
    let reading = tokio::task::spawn_blocking(move || {
        let manifests = assembler.read();
        (assembler, manifests)
    });
    match reading.await {
        Ok(result) => Some(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

fn publish(published: &watch::Sender<Arc<Manifests>>, directory: &Path, manifests: Manifests) {
    published.send_if_modified(|current| {
        if **current == manifests {
            return false;
        }
        report(directory, current, &manifests);
        *current = Arc::new(manifests);
        true
    });
}

fn report(directory: &Path, before: &Manifests, after: &Manifests) {
    for entry in after.quarantined.iter().filter(|entry| before.quarantined.binary_search(entry).is_err()) {
        tracing::warn!(%entry, "a manifest is quarantined");
    }
    tracing::info!(
        directory = %directory.display(),
        services = after.objects.services.len(),
        endpoint_slices = after.objects.endpoint_slices.len(),
        pods = after.objects.pods.len(),
        service_exports = after.objects.service_exports.len(),
        policies = after.objects.policies.authorization.len() + after.objects.policies.authentication.len(),
        broken_policies = after.objects.policies.broken.len(),
        quarantined = after.quarantined.len(),
        "manifests read"
    );
}

#[cfg(test)]
mod tests;
