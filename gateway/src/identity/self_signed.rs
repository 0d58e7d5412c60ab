//! The cluster's own authority, and the one that is to follow it.
//!
//! Owns their directories, in the layout of a Kubernetes TLS Secret. Which of them exist says how far a rotation is, so that
//! a crash at any moment leaves a state that is read correctly. Never decides when to rotate.
//!
//! ```text
//! ca              the authority                           ca + ca.next           a rotation is under way
//! ca.next alone   promotion was interrupted: it is done   ca + ca.old            promotion is done: the old key is removed
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use federation_pki::{Validity, ca::Authority};
use federation_runtime::state;

use crate::config::ClusterConfig;

/// Lifetime of a self-made authority: long, since replacing it needs every member's acknowledgement.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The authority, and the next one while a rotation is under way.
#[derive(Debug)]
pub(super) struct SelfSigned {
    dir: PathBuf,
    cluster: ClusterConfig,
    pub(super) current: Arc<Authority>,
    pub(super) next: Option<Arc<Authority>>,
}

impl SelfSigned {
    /// Loads what is there, and makes the first authority when there is none.
    ///
    /// # Errors
    /// When an authority cannot be read or written.
    pub(super) fn open(state_dir: &Path, cluster: &ClusterConfig) -> anyhow::Result<Self> {
        let dir = |name: &str| state_dir.join(name);
        if !exists(&dir("ca")) && exists(&dir("ca.next")) {
            fs::rename(dir("ca.next"), dir("ca")).context("cannot finish the promotion of the next authority")?;
        }
        remove(&dir("ca.old"))?;
        let current = match load(&dir("ca"), cluster)? {
            Some(authority) => authority,
            None => make(&dir("ca"), cluster)?,
        };
        let next = load(&dir("ca.next"), cluster)?;
        Ok(Self { dir: state_dir.to_owned(), cluster: cluster.clone(), current, next })
    }

    /// The authority that shall remain.
    pub(super) fn wanted(&self) -> &Arc<Authority> {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// Makes the next authority, unless there is one.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        if self.next.is_none() {
            // What an interrupted beginning left has no certificate, and counts for nothing.
            remove(&self.dir.join("ca.next"))?;
            self.next = Some(make(&self.dir.join("ca.next"), &self.cluster)?);
        }
        Ok(())
    }

    /// Gives the next authority up.
    pub(super) fn cancel(&mut self) -> anyhow::Result<()> {
        remove(&self.dir.join("ca.next"))?;
        self.next = None;
        Ok(())
    }

    /// Puts the next authority into the place of the current one, whose key is removed.
    pub(super) fn promote(&mut self) -> anyhow::Result<()> {
        let Some(next) = self.next.clone() else { return Ok(()) };
        let dir = |name: &str| self.dir.join(name);
        remove(&dir("ca.old"))?;
        fs::rename(dir("ca"), dir("ca.old")).context("cannot move the old authority away")?;
        fs::rename(dir("ca.next"), dir("ca")).context("cannot promote the next authority")?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).context("cannot write the state directory")?;
        remove(&dir("ca.old"))?;
        (self.current, self.next) = (next, None);
        Ok(())
    }
}

fn exists(dir: &Path) -> bool {
    dir.join("tls.crt").exists()
}

fn load(dir: &Path, cluster: &ClusterConfig) -> anyhow::Result<Option<Arc<Authority>>> {
    if !exists(dir) {
        return Ok(None);
    }
    let read = |name: &str| state::read_private_text(&dir.join(name));
    let loaded = Authority::from_pem(&read("tls.crt")?, &read("tls.key")?, &cluster.trust_domain);
    loaded
        .map(|authority| Some(Arc::new(authority)))
        .with_context(|| format!("the authority in {} is not usable", dir.display()))
}

fn make(dir: &Path, cluster: &ClusterConfig) -> anyhow::Result<Arc<Authority>> {
    let validity = Validity::starting(SystemTime::now().into(), LIFETIME);
    let authority = Authority::generate(&cluster.trust_domain, &format!("Landbridge {}", cluster.name), validity)?;
    state::create_private_dir(dir)?;
    // The key first: the certificate says that the pair is whole.
    state::write_private(&dir.join("tls.key"), authority.key_pem().expose().as_bytes())?;
    state::write_private(&dir.join("tls.crt"), authority.certificate_pem().as_bytes())?;
    tracing::info!(dir = %dir.display(), fingerprint = %authority.fingerprint(), "made an authority of the cluster's own");
    Ok(Arc::new(authority))
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterConfig {
        ClusterConfig {
            name: "east".parse().unwrap(),
            trust_domain: "east.example".parse().unwrap(),
            region: String::new(),
            zone: String::new(),
        }
    }

    fn open(dir: &Path) -> SelfSigned {
        SelfSigned::open(dir, &cluster()).unwrap()
    }

    #[test]
    fn a_rotation_survives_a_restart_after_every_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut authorities = open(dir.path());
        let old = authorities.current.fingerprint();
        assert_eq!(open(dir.path()).wanted().fingerprint(), old);
        authorities.begin().unwrap();
        let new = authorities.wanted().fingerprint();
        assert_ne!(new, old);
        let mut again = open(dir.path());
        again.begin().unwrap();
        assert_eq!((again.current.fingerprint(), again.wanted().fingerprint()), (old, new));
        again.promote().unwrap();
        assert_eq!(open(dir.path()).current.fingerprint(), new);
        assert!(!dir.path().join("ca.old").exists() && !dir.path().join("ca.next").exists());
    }

    #[test]
    fn an_interrupted_promotion_or_beginning_is_read_correctly() {
        let dir = tempfile::tempdir().unwrap();
        let mut authorities = open(dir.path());
        authorities.begin().unwrap();
        let (old, new) = (authorities.current.fingerprint(), authorities.wanted().fingerprint());
        // After the first rename.
        fs::rename(dir.path().join("ca"), dir.path().join("ca.old")).unwrap();
        assert_eq!(open(dir.path()).current.fingerprint(), new);
        assert!(!dir.path().join("ca.old").exists());
        // A next authority whose certificate is not written yet is none.
        fs::create_dir(dir.path().join("ca.next")).unwrap();
        fs::write(dir.path().join("ca.next/tls.key"), "half").unwrap();
        let mut authorities = open(dir.path());
        assert!(authorities.next.is_none() && authorities.current.fingerprint() != old);
        authorities.begin().unwrap();
        authorities.cancel().unwrap();
        assert_eq!(open(dir.path()).wanted().fingerprint(), new);
    }
}
