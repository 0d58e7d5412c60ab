//! Tells the federation service of the steps of a rotation, for its audit log.
//!
//! Owns the queue, and how long a step is tried. Never delays a rotation: nothing waits for a report.

use std::{sync::Arc, time::Duration};

use federation_model::bundle::Fingerprint;
use federation_pki::rotation::Taken;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::membership::follow::Follower;

/// Steps that wait; a rotation has three.
const MAX_WAITING: usize = 16;
/// Pauses between the attempts of one step: some hours together.
const PAUSES: [u64; 12] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600];

/// A step to tell of.
#[derive(Debug, Clone)]
struct Report {
    taken: Taken,
    authority: Option<Fingerprint>,
    forced: bool,
}

/// Where steps are told.
#[derive(Debug)]
pub(super) struct Reports(mpsc::Sender<Report>);

impl Reports {
    /// Has a step told; `authority` is that of the certificate in use.
    pub(super) fn tell(&self, taken: Taken, authority: Option<Fingerprint>, forced: bool) {
        if self.0.try_send(Report { taken, authority, forced }).is_err() {
            tracing::warn!(step = taken.label(), "the audit log is not told of a step of the rotation: too many wait");
        }
    }
}

/// The owner of the queue.
#[derive(Debug)]
pub struct Reporter(mpsc::Receiver<Report>);

pub(super) fn channel() -> (Reports, Reporter) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Reports(sender), Reporter(receiver))
}

impl Reporter {
    /// Tells the service of one step after the other, until `stop`.
    pub async fn run(mut self, follower: Arc<Follower>, stop: CancellationToken) {
        let told = async {
            while let Some(report) = self.0.recv().await {
                Box::pin(tell(&follower, &report)).await;
            }
        };
        let _ = stop.run_until_cancelled(told).await;
    }
}

async fn tell(follower: &Follower, report: &Report) {
    let mut last = String::new();
    for pause in PAUSES {
        // A cluster that is no member has nobody to tell.
        let Some(membership) = follower.current() else { return };
        let told = match follower.client(&membership) {
            Ok(client) => {
                client.report_rotation(report.taken, report.authority, report.forced).await.map_err(Into::into)
            }
            Err(error) => Err(error),
        };
        match told {
            Ok(()) => return,
            Err(error) => last = format!("{error:#}"),
        }
        sleep(Duration::from_secs(pause)).await;
    }
    tracing::warn!(step = report.taken.label(), error = last, "the audit log is not told of a step of the rotation");
}
