//! When and where one peer cluster is dialled.
//!
//! Owns who of the two dials, the backoff of every address, and that an address is never dialled twice at once. Never
//! connects: the shell does what [`Dialer::poll_dial`] says and reports how it went.
//!
//! Both sides can be reached: the cluster with the lesser name dials at once, the other one only after [`DIAL_GRACE`] without
//! a tunnel of the peer. A side that cannot be reached always dials.

mod backoff;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use federation_model::{addr::GatewayAddr, member::MAX_ADVERTISED, names::ClusterName};

use backoff::Backoff;

/// How long the side with the greater name waits for a tunnel of the peer before it dials itself.
pub const DIAL_GRACE: Duration = Duration::from_secs(2);
/// The most addresses of one peer that are known at once: those it advertises, and as many it no longer does but that still
/// carry a tunnel.
pub const MAX_TARGETS: usize = 2 * MAX_ADVERTISED;

/// The pace of dialling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialConfig {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How long a tunnel must have lived for the next failure to count as the first.
    pub stable: Duration,
    /// How long the greater name waits for a tunnel of the lesser.
    pub grace: Duration,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(250),
            max: Duration::from_secs(15),
            stable: Duration::from_secs(10),
            grace: DIAL_GRACE,
        }
    }
}

/// The two clusters of a [`Dialer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// This cluster.
    pub own: ClusterName,
    /// The peer.
    pub peer: ClusterName,
    /// Whether this cluster has an address the peer can dial.
    pub own_advertises: bool,
}

/// What is going on with one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// It is dialled again at `due`, unless the peer is the one to dial.
    Waiting {
        /// When.
        due: Instant,
        /// Failures in a row.
        failures: u32,
    },
    /// A connection is being made.
    Dialling {
        /// Failures in a row before.
        failures: u32,
    },
    /// A tunnel to it is up.
    Up {
        /// Since when.
        since: Instant,
        /// Failures in a row before.
        failures: u32,
    },
}

#[derive(Debug)]
struct Target {
    state: TargetState,
    advertised: bool,
}

/// The dialling of one peer.
#[derive(Debug)]
pub struct Dialer {
    config: DialConfig,
    ends: Ends,
    backoff: Backoff,
    targets: BTreeMap<GatewayAddr, Target>,
    inbound: usize,
    /// Since when the peer could have dialled and did not.
    unreached_since: Instant,
}

impl Dialer {
    /// A dialer without addresses; `seed` decides the jitter.
    #[must_use]
    pub fn new(config: DialConfig, ends: Ends, seed: u64, now: Instant) -> Self {
        let backoff = Backoff::new(config.initial, config.max, seed);
        Self { config, ends, backoff, targets: BTreeMap::new(), inbound: 0, unreached_since: now }
    }

    /// The addresses the peer advertises, at most [`MAX_ADVERTISED`] of which are used. Tunnels to others stay.
    pub fn handle_targets(&mut self, targets: Vec<GatewayAddr>, now: Instant) {
        let advertised: BTreeSet<GatewayAddr> = targets.into_iter().take(MAX_ADVERTISED).collect();
        if !self.targets.values().any(|target| target.advertised) {
            self.unreached_since = now;
        }
        self.targets.retain(|address, target| {
            target.advertised = advertised.contains(address);
            target.advertised || !matches!(target.state, TargetState::Waiting { .. })
        });
        for address in advertised {
            if self.targets.len() >= MAX_TARGETS {
                break;
            }
            let state = TargetState::Waiting { due: now, failures: 0 };
            self.targets.entry(address).or_insert(Target { state, advertised: true });
        }
    }

    /// The connection to `target` is up.
    pub fn handle_connected(&mut self, target: &GatewayAddr, now: Instant) {
        if let Some(target) = self.targets.get_mut(target) {
            target.state = TargetState::Up { since: now, failures: failures(target.state) };
        }
    }

    /// The connection to `target` could not be made.
    pub fn handle_failed(&mut self, target: &GatewayAddr, now: Instant) {
        self.retry(target, now);
    }

    /// The connection to `target` is gone.
    pub fn handle_closed(&mut self, target: &GatewayAddr, now: Instant) {
        self.retry(target, now);
    }

    /// So many tunnels that the peer dialled are up.
    pub fn handle_inbound(&mut self, up: usize, now: Instant) {
        if self.inbound > 0 && up == 0 {
            self.unreached_since = now;
        }
        self.inbound = up;
    }

    /// An address to dial now: the caller reports it connected or failed, and later closed.
    pub fn poll_dial(&mut self, now: Instant) -> Option<GatewayAddr> {
        let allowed = self.allowed_from()?;
        let due = |target: &Target| target.due().is_some_and(|due| due.max(allowed) <= now);
        let (address, target) = self.targets.iter_mut().find(|(_, target)| due(target))?;
        target.state = TargetState::Dialling { failures: failures(target.state) };
        Some(address.clone())
    }

    /// When [`Dialer::poll_dial`] has the next address, and why then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let allowed = self.allowed_from()?;
        let due = self.targets.values().filter_map(Target::due).min()?;
        Some(if due < allowed { (allowed, "wait for the peer to dial") } else { (due, "dial") })
    }

    /// How long it is until the next dial; nothing when none is planned.
    #[must_use]
    pub fn next_dial_in(&self, now: Instant) -> Option<Duration> {
        self.poll_timeout().map(|(due, _)| due.saturating_duration_since(now))
    }

    /// Every known address and what is going on with it.
    pub fn targets(&self) -> impl Iterator<Item = (&GatewayAddr, TargetState)> {
        self.targets.iter().map(|(address, target)| (address, target.state))
    }

    /// From when on this side dials; nothing when the peer is the one to dial.
    fn allowed_from(&self) -> Option<Instant> {
        let dials_first = !self.ends.own_advertises || self.ends.own < self.ends.peer;
        match (dials_first, self.inbound) {
            (true, _) => Some(self.unreached_since),
            (false, 0) => Some(self.unreached_since + self.config.grace),
            (false, _) => None,
        }
    }

    fn retry(&mut self, address: &GatewayAddr, now: Instant) {
        let Some(target) = self.targets.get_mut(address) else { return };
        if !target.advertised {
            self.targets.remove(address);
            return;
        }
        let failures = match target.state {
            TargetState::Waiting { .. } => return,
            TargetState::Up { since, .. } if now.saturating_duration_since(since) >= self.config.stable => 1,
            TargetState::Dialling { failures } | TargetState::Up { failures, .. } => failures.saturating_add(1),
        };
        target.state = TargetState::Waiting { due: now + self.backoff.after(failures), failures };
    }
}

impl Target {
    fn due(&self) -> Option<Instant> {
        match self.state {
            TargetState::Waiting { due, .. } => Some(due),
            TargetState::Dialling { .. } | TargetState::Up { .. } => None,
        }
    }
}

fn failures(state: TargetState) -> u32 {
    match state {
        TargetState::Waiting { failures, .. }
        | TargetState::Dialling { failures }
        | TargetState::Up { failures, .. } => failures,
    }
}

#[cfg(test)]
mod tests;
