//! Which gateway pod of a cluster writes.
//!
//! Owns the Lease and its renewal. Never decides by the clock of another pod: `election` judges by how long a record has
//! stood still here. A pod that cannot renew stops writing before another one may begin.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{call::CallError, connect::Cluster};

mod election;

use election::{Election, LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD, Record, Step};

/// Whether this pod is the one that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leading(pub bool);

/// The candidacy of one pod.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    server: String,
    election: Election,
    leading: watch::Sender<Leading>,
    /// What the last attempt failed with, so that it is said once.
    said: Option<CallError>,
}

impl Candidate {
    /// A candidate for the Lease `name` in `namespace`, known to the others as `identity`, its pod.
    #[must_use]
    pub fn new(cluster: &Cluster, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(cluster.client(), namespace),
            name: name.to_owned(),
            server: cluster.server().to_owned(),
            election: Election::new(identity),
            leading: watch::Sender::default(),
            said: None,
        }
    }

    /// Whether this pod leads, as it changes.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<Leading> {
        self.leading.subscribe()
    }

    /// Stands until `stop`, and then gives the Lease back, so that another pod takes it at once.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let attempt = timeout(RETRY_PERIOD.saturating_mul(2), self.attempt()).await;
            if let Ok(Err(error)) = attempt {
                self.tell(error);
            }
            self.publish();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(jittered(RETRY_PERIOD)) => {}
                () = sleep_until(self.election.leads_until()) => self.publish(),
            }
        }
        if self.leading.send_replace(Leading(false)).0 {
            // Whoever reads this finds the Lease free; whoever does not waits for it to run out.
            let _ = timeout(RETRY_PERIOD, self.release()).await;
        }
    }

    fn publish(&self) {
        let leads = self.election.leads(Instant::now().into_std());
        self.leading.send_if_modified(|leading| {
            let changed = leading.0 != leads;
            if changed {
                tracing::info!(lease = %self.name, leads, "whether this gateway writes to the API server changed");
            }
            leading.0 = leads;
            changed
        });
    }

    async fn attempt(&mut self) -> Result<(), CallError> {
        let lease = self.leases.get_opt(&self.name).await.map_err(|error| CallError::of(&error, &self.server))?;
        // What was true before the answer came is what the record says; so the time is taken before the write.
        let now = Instant::now().into_std();
        match self.election.judge(lease.as_ref().map(record), now) {
            Step::Wait => Ok(()),
            Step::Hold { transitions, taken_over } => {
                let written = self.write(lease, transitions, taken_over).await;
                match written {
                    Ok(lease) => {
                        self.election.held(record(&lease), now);
                        self.said = None;
                        Ok(())
                    }
                    // Another pod was faster; the next look tells who.
                    Err(CallError::Conflict { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn write(&self, lease: Option<Lease>, transitions: i32, taken_over: bool) -> Result<Lease, CallError> {
        let now = MicroTime(Timestamp::now());
        let exists = lease.is_some();
        let before = lease.unwrap_or_default();
        let spec = before.spec.unwrap_or_default();
        let acquired = if taken_over { None } else { spec.acquire_time };
        let lease = Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..before.metadata },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.identity().to_owned()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..spec
            }),
        };
        // Both carry what makes the API server refuse if somebody was faster: that it exists, or its resource version.
        let written = if exists {
            self.leases.replace(&self.name, &PostParams::default(), &lease).await
        } else {
            self.leases.create(&PostParams::default(), &lease).await
        };
        written.map_err(|error| CallError::of(&error, &self.server))
    }

    async fn release(&self) -> Result<(), CallError> {
        let lease = self.leases.get(&self.name).await.map_err(|error| CallError::of(&error, &self.server))?;
        if record(&lease).holder.as_deref() != Some(self.election.identity()) {
            return Ok(());
        }
        let spec = lease.spec.map(|spec| LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        });
        let freed = Lease { spec, ..lease };
        let replaced = self.leases.replace(&self.name, &PostParams::default(), &freed).await;
        replaced.map(|_| ()).map_err(|error| CallError::of(&error, &self.server))
    }

    fn tell(&mut self, error: CallError) {
        if self.said.as_ref() != Some(&error) {
            tracing::warn!(lease = %self.name, %error, "cannot read or renew the lease of the gateways; nothing is written meanwhile");
            self.said = Some(error);
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    Record {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        duration: spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(LEASE_DURATION, Duration::from_secs),
        renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0.to_string()),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
    }
}

/// Up to a fifth longer, so that the pods of a cluster do not all ask at once.
fn jittered(period: Duration) -> Duration {
    let spread = u64::try_from(period.as_millis() / 5).unwrap_or(0);
    period + Duration::from_millis(u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs()) % spread.max(1))
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) if deadline > Instant::now().into_std() => tokio::time::sleep_until(deadline.into()).await,
        Some(_) | None => std::future::pending().await,
    }
}

// A pod stops writing well before its Lease may be taken.
const _: () = assert!(RENEW_DEADLINE.as_secs() < LEASE_DURATION.as_secs());
