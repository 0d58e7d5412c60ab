//! The state of a gateway whose pod comes and goes, in a Secret of its namespace.
//!
//! Owns which files survive the pod, that they are there before the gateway starts, and that what it makes first is kept before
//! anybody relies on it. Never looks into a file. The gateway that leads writes; any reads when it starts.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use federation_kube::{
    connect::Cluster,
    leader::Leading,
    state_secret::{Contents, KeepError, StateSecret, Version},
};
use federation_runtime::{
    followed::Followed,
    state::{self, StateError},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// The files that survive a pod. Certificates are issued anew, and what policies on trial counted is the pod's.
const KEPT: [&str; 10] = [
    "ca/tls.crt",
    "ca/tls.key",
    "ca.next/tls.crt",
    "ca.next/tls.key",
    "ca.old/tls.crt",
    "ca.old/tls.key",
    "known.pb",
    "lineage.pb",
    "membership.pb",
    "reset.key",
];
/// The file that says which version of the Secret the files here follow.
const FOLLOWS: &str = "kept.version";
/// How long the API server is waited for at the start: without its state a gateway would be another cluster.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a gateway looks at what the others kept.
const LOOK: Duration = Duration::from_secs(10);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// The state of one gateway.
#[derive(Debug)]
pub struct KeptState {
    secret: StateSecret,
    dir: PathBuf,
    /// What the Secret holds, as far as this gateway knows.
    kept: Option<(Contents, Version)>,
}

impl KeptState {
    /// Brings the files back that an earlier pod had.
    ///
    /// # Errors
    /// When the Secret cannot be read for two minutes, or a file cannot be written.
    pub async fn restore(cluster: &Cluster, namespace: &str, name: &str, dir: &Path) -> anyhow::Result<Self> {
        let secret = StateSecret::new(cluster, namespace, name);
        let until = Instant::now() + PATIENCE;
        let kept = loop {
            match secret.load().await {
                Ok(kept) => break kept,
                Err(error) if error.may_pass() && Instant::now() < until => {
                    tracing::warn!(%error, "cannot read the state of the earlier pods; trying again");
                    sleep(RETRY).await;
                }
                Err(error) => return Err(error).context("a gateway without its state would be another cluster"),
            }
        };
        if let Some((contents, version)) = &kept {
            // After a mere crash the files are still here, and what changed last may not have been kept.
            if follows(dir).as_deref() != version.number() {
                write_files(contents, dir)?;
                note(dir, version);
                tracing::info!(secret = name, files = contents.0.len(), "the state of the earlier pods is back");
            }
        }
        Ok(Self { secret, dir: dir.to_owned(), kept })
    }

    /// Keeps what there is now, if nothing is kept yet: the authority that was made at the first start.
    ///
    /// # Errors
    /// When it cannot be kept, or another pod was first.
    pub async fn keep_first(&mut self) -> anyhow::Result<()> {
        if self.kept.is_some() {
            return Ok(());
        }
        let here = self.read().await;
        match self.write(&here).await {
            Err(KeepError::Overtaken(_)) => {
                anyhow::bail!("another gateway of this cluster made its state first; starting again takes that up")
            }
            written => written.context("the state of this gateway must survive its pod"),
        }
    }

    /// Keeps every change while this gateway leads, until `stop`. Any gateway keeps what it did itself, such as joining, and
    /// starts anew (`again`) when another one did: then it takes the state of that one up.
    pub async fn follow(
        mut self,
        mut leading: watch::Receiver<Leading>,
        again: CancellationToken,
        stop: CancellationToken,
    ) {
        let mut followed = Followed::at(&self.dir);
        // Said once, however long the API server is away.
        let mut behind = false;
        loop {
            let leads = leading.borrow_and_update().0;
            let kept = self.keep(leads).await;
            let pause = if kept.is_ok() { LOOK } else { RETRY };
            match kept {
                Ok(Standing::Same) => {
                    if std::mem::take(&mut behind) {
                        tracing::info!("the state of this gateway is kept again");
                    }
                }
                Ok(Standing::Overtaken) => {
                    tracing::info!(
                        "another gateway of this cluster joined, left or has a new authority: starting again with that"
                    );
                    // What is here counts no more, and must not be written over what the other one kept.
                    return again.cancel();
                }
                Err(error) => {
                    if !std::mem::replace(&mut behind, true) {
                        tracing::warn!(
                            %error,
                            "cannot keep the state of this gateway; what changes is lost if the pod ends before it is kept again"
                        );
                    }
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = leading.changed() => if changed.is_err() { break },
                () = followed.changed() => {}
                () = sleep(pause) => {}
            }
        }
        // What the last moments brought, such as that the cluster left its set.
        let leads = leading.borrow().0;
        if let Err(error) = self.keep(leads).await {
            tracing::warn!(%error, "cannot keep the state of this gateway");
        }
    }

    async fn keep(&mut self, leads: bool) -> Result<Standing, KeepError> {
        let here = self.read().await;
        let known = self.kept.as_ref().map(|(kept, _)| kept.clone());
        let changed = known.as_ref() != Some(&here);
        if changed && (leads || known.as_ref().is_none_or(|known| are_apart(known, &here))) {
            match self.write(&here).await {
                Err(KeepError::Overtaken(_)) if known.is_some() => {}
                written => return written.map(|()| Standing::Same),
            }
        }
        // The one that leads looks too: any gateway may have been told to join or to leave.
        self.kept = self.secret.load().await?;
        let there = self.kept.as_ref().map(|(kept, _)| kept);
        let overtaken =
            known.zip(there).is_some_and(|(known, there)| are_apart(&known, there) && are_apart(&here, there));
        // Where nobody else did anything of weight, this is written over it at the next look.
        Ok(if overtaken { Standing::Overtaken } else { Standing::Same })
    }

    async fn write(&mut self, here: &Contents) -> Result<(), KeepError> {
        let over = self.kept.as_ref().map(|(_, version)| version);
        let version = self.secret.save(here, over).await?;
        note(&self.dir, &version);
        self.kept = Some((here.clone(), version));
        Ok(())
    }

    /// Reads until two readings in a row are the same: files that belong together change one after the other.
    async fn read(&self) -> Contents {
        let dir = self.dir.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut last = read_files(&dir);
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(20));
                let again = read_files(&dir);
                if again == last {
                    break;
                }
                last = again;
            }
            last
        });
        reading.await.unwrap_or_else(|_| self.kept.clone().map(|(kept, _)| kept).unwrap_or_default())
    }
}

/// What the Secret is to the files of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Of the same cluster and membership.
    Same,
    /// Of another one, which counts.
    Overtaken,
}

/// Whether two states cannot both be that of this cluster: another authority, or a member and none.
fn are_apart(one: &Contents, other: &Contents) -> bool {
    let member = |state: &Contents| state.0.contains_key("membership.pb");
    let authority = |state: &Contents| state.0.get("ca_tls.crt").cloned();
    member(one) != member(other) || authority(one) != authority(other)
}

fn follows(dir: &Path) -> Option<String> {
    String::from_utf8(state::read_private(&dir.join(FOLLOWS)).ok()?).ok()
}

/// Without this note the next start takes the files of the Secret, which are the same or newer.
fn note(dir: &Path, version: &Version) {
    if let Err(error) = state::write_private(&dir.join(FOLLOWS), version.number().unwrap_or("").as_bytes()) {
        tracing::debug!(%error, "cannot note which version of the Secret is followed");
    }
}

fn read_files(dir: &Path) -> Contents {
    let read = |name: &&str| match state::read_private(&dir.join(name)) {
        Ok(bytes) => Some((key_of(name), bytes)),
        Err(StateError::Missing(_)) => None,
        Err(error) => {
            tracing::warn!(%error, "a file of the state cannot be kept");
            None
        }
    };
    Contents(KEPT.iter().filter_map(read).collect())
}

fn write_files(contents: &Contents, dir: &Path) -> anyhow::Result<()> {
    state::create_private_dir(dir)?;
    for name in KEPT {
        let file = dir.join(name);
        let parent = file.parent().unwrap_or(dir);
        match contents.0.get(&key_of(name)) {
            Some(bytes) => {
                state::create_private_dir(parent)?;
                state::write_private(&file, bytes)?;
            }
            // What a container that crashed left behind is older than what was kept.
            None => state::remove(&file)?,
        }
    }
    Ok(())
}

/// A key of a Secret has no slash.
fn key_of(name: &str) -> String {
    name.replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_nothing_else() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (from.path().join("state"), to.path().join("state"));
        state::create_private_dir(&from).unwrap();
        state::create_private_dir(&from.join("ca")).unwrap();
        state::write_private(&from.join("ca/tls.key"), b"key").unwrap();
        state::write_private(&from.join("membership.pb"), b"member").unwrap();
        state::write_private(&from.join("policy-report.json"), b"{}").unwrap();
        let contents = read_files(&from);
        assert_eq!(contents.0.len(), 2);
        state::create_private_dir(&to).unwrap();
        state::write_private(&to.join("known.pb"), b"stale").unwrap();
        write_files(&contents, &to).unwrap();
        assert_eq!(state::read_private(&to.join("ca/tls.key")).unwrap(), b"key");
        assert!(!to.join("known.pb").exists(), "what is older than what was kept");
        assert_eq!(read_files(&to), contents);
    }

    #[test]
    fn a_state_is_another_ones_when_its_authority_or_its_being_a_member_is() {
        let state = |files: &[(&str, &str)]| {
            Contents(files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect())
        };
        let joined = state(&[("ca_tls.crt", "a"), ("membership.pb", "1")]);
        assert!(!are_apart(&joined, &state(&[("ca_tls.crt", "a"), ("membership.pb", "2"), ("reset.key", "x")])));
        assert!(are_apart(&joined, &state(&[("ca_tls.crt", "a")])));
        assert!(are_apart(&joined, &state(&[("ca_tls.crt", "b"), ("membership.pb", "1")])));
    }

    #[test]
    fn what_is_kept_is_never_shown() {
        let contents = Contents([("ca_tls.key".to_owned(), b"secret".to_vec())].into());
        assert_eq!(format!("{contents:?}"), "{\"ca_tls.key\"}");
    }
}
