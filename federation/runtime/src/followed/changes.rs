//! When the directory has to be read again.
//!
//! Owns the watch on the directory itself: Kubernetes replaces the link `..data` in it, and a watch on a file behind that
//! link would stay with the old one. Never reads a file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// How long an update is given to make all of its events.
const QUIET: Duration = Duration::from_millis(100);

/// Waits for changes of one directory.
pub(super) struct Changes {
    dir: PathBuf,
    /// One place: a second event while the first is not handled yet changes nothing.
    events: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Starts to watch. What changed before this call is not noticed.
    pub(super) fn of(dir: &Path) -> Self {
        let (sender, events) = mpsc::channel(1);
        let mut changes = Self { dir: dir.to_owned(), events, sender, watcher: None };
        changes.watch();
        if changes.watcher.is_none() {
            tracing::warn!(
                directory = %dir.display(),
                "the directory cannot be watched; it is read every half minute (is fs.inotify.max_user_watches reached?)"
            );
        }
        changes
    }

    fn watch(&mut self) {
        let sender = self.sender.clone();
        let started = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(event.kind)) {
                // A full channel means that the directory will be read after this event anyway.
                let _ = sender.try_send(());
            }
        });
        self.watcher = started
            .and_then(|mut watcher| watcher.watch(&self.dir, RecursiveMode::NonRecursive).map(|()| watcher))
            .ok();
    }

    /// Returns after a change, or after `pause` without one. Safe to cancel.
    pub(super) async fn next_within(&mut self, pause: Duration) {
        // The sender is held by this value, so the channel is never closed.
        if timeout(pause, self.events.recv()).await.is_err() {
            // The directory itself may have been replaced; then the watch is still on the old one.
            self.watch();
            return;
        }
        sleep(QUIET).await;
        while self.events.try_recv().is_ok() {}
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
