//! When a directory has to be read again.
//!
//! Owns the watch on the directory: bursts of events become one change, and a watch that fails or falls silent is made up
//! for by looking every ten seconds. Never reads a manifest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

use crate::directory;

/// How long the directory must be quiet: an editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// How long a busy directory is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the directory is looked at without an event: network file systems send none, and a watch on a link stays with
/// the old target when the link is replaced.
const POLL: Duration = Duration::from_secs(10);

/// What tells two states of a directory apart without reading it.
type Stamp = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// Waits for changes of one directory.
pub(crate) struct Follower {
    root: PathBuf,
    /// One place: a second event while the first is not handled yet changes nothing.
    events: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
    poll: tokio::time::Interval,
    stamp: Stamp,
}

impl Follower {
    /// Starts to watch. What changed before this call is not noticed.
    pub(crate) async fn new(root: &Path) -> Self {
        let (sender, events) = mpsc::channel(1);
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll.reset();
        let mut follower = Self { root: root.to_owned(), events, sender, watcher: None, poll, stamp: Stamp::new() };
        follower.watch();
        follower.stamp = follower.look().await;
        follower
    }

    fn watch(&mut self) {
        let sender = self.sender.clone();
        let started = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(event.kind)) {
                // A full channel means that the directory will be read after this event anyway.
                let _ = sender.try_send(());
            }
        })
        .and_then(|mut watcher| watcher.watch(&self.root, RecursiveMode::Recursive).map(|()| watcher));
        match started {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                self.watcher = None;
                tracing::warn!(
                    directory = %self.root.display(), %error,
                    "the directory cannot be watched; it is looked at every {} s (is fs.inotify.max_user_watches reached?)",
                    POLL.as_secs()
                );
            }
        }
    }

    /// Returns after a change, when the directory is quiet again. Safe to cancel.
    pub(crate) async fn changed(&mut self) {
        loop {
            tokio::select! {
                biased;
                // The sender is held by this value, so the channel is never closed.
                _ = self.events.recv() => {
                    self.quiet().await;
                    self.stamp = self.look().await;
                    return;
                }
                _ = self.poll.tick() => {
                    let stamp = self.look().await;
                    if stamp != self.stamp {
                        // No event told of this change: the watch is gone, or never was.
                        self.watch();
                        self.stamp = stamp;
                        return;
                    }
                }
            }
        }
    }

    /// Stamps the directory where blocking is allowed; the old stamp when the runtime is shutting down.
    async fn look(&self) -> Stamp {
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || stamp(&root)).await.unwrap_or_else(|_| self.stamp.clone())
    }

    async fn quiet(&mut self) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let until = (Instant::now() + QUIET).min(patience);
            match timeout_at(until, self.events.recv()).await {
                // Events come in thousands while a large tree is copied; each must not cost a turn of this loop.
                Ok(_) if Instant::now() < patience => sleep_until((Instant::now() + QUIET / 10).min(patience)).await,
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Whether an event can mean new content. Reading the directory makes events of its own, which must not lead to reading.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
        EventKind::Access(_) => false,
    }
}

fn stamp(root: &Path) -> Stamp {
    let walk = directory::walk(root);
    let stamps = walk.files.into_iter().map(|file| {
        let stamp = fs::metadata(&file).map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()));
        (file, stamp)
    });
    stamps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind};

    #[test]
    fn reading_the_directory_is_not_a_change_of_it() {
        assert!(!matters(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!matters(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(matters(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(matters(EventKind::Create(CreateKind::File)));
        assert!(matters(EventKind::Modify(ModifyKind::Any)));
        assert!(matters(EventKind::Other));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watch_a_change_is_noticed_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let mut follower = Follower::new(dir.path()).await;
        follower.watcher = None;
        while follower.events.try_recv().is_ok() {}
        let before = Instant::now();
        fs::write(dir.path().join("a.yaml"), "x").unwrap();
        follower.changed().await;
        assert!(before.elapsed() >= POLL);
        assert!(follower.watcher.is_some(), "the watch is set up again");
    }
}
