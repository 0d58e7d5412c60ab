//! Which of the other clusters have taken over an export of this one, and whether it can be reached from there.
//!
//! Owns that judgement, made of what their gateways say and of the tunnels to them, and the steps in which a round trip time is
//! told. Never asks anybody and never words it for a status: that is [`crate::conditions`].
//!
//! ```text
//! exports with their audience ──┐
//! members, tunnels, RTT ────────┼── of ──> for each export: every importing cluster, how far it is, how far away
//! reports of their gateways ────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use federation_model::{
    export::LocalExport,
    names::{ClusterName, ServiceKey},
    report::{ImportState, Reported},
};

/// The steps in milliseconds. A status that held the time itself would be written anew with every ping.
const STEPS: [u16; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// A round trip time, rounded up to one of a few steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtt(usize);

impl Rtt {
    /// The step of a measured time, where `before` is the one that was told last: it stays until the time has left it by a
    /// fifth, so that a time at the edge of two steps does not go back and forth.
    #[must_use]
    pub fn of(measured: Duration, before: Option<Self>) -> Self {
        let step = STEPS.iter().position(|step| measured <= millis(*step)).unwrap_or(STEPS.len());
        match before {
            Some(before) if before.nearly_holds(measured) => before,
            Some(_) | None => Self(step),
        }
    }

    fn nearly_holds(self, measured: Duration) -> bool {
        let least = self.0.checked_sub(1).map_or(Duration::ZERO, |below| millis(STEPS[below]));
        let within = |most: &u16| measured <= millis(*most) * 6 / 5;
        measured >= least * 4 / 5 && STEPS.get(self.0).is_none_or(within)
    }

    /// The most milliseconds of the step; nothing above the highest.
    #[must_use]
    pub fn most_millis(self) -> Option<u16> {
        STEPS.get(self.0).copied()
    }
}

fn millis(number: u16) -> Duration {
    Duration::from_millis(number.into())
}

impl fmt::Display for Rtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most_millis() {
            Some(1000) => f.write_str("1 s"),
            Some(millis) => write!(f, "{millis} ms"),
            None => f.write_str("over 1 s"),
        }
    }
}

/// What is known of one other member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// The round trip time of the nearest tunnel that takes new streams; nothing when there is none.
    pub tunnel: Option<Rtt>,
    /// What its gateways say; nothing before they did.
    pub reported: Option<Reported>,
}

/// How far one importing cluster is with an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Importer {
    /// What it made of the export, by the last word of its gateways.
    pub import: Imported,
    /// How far away it is; nothing without a tunnel.
    pub tunnel: Option<Rtt>,
}

/// What a cluster made of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Imported {
    /// Its gateways say this.
    Said(ImportState),
    /// Its gateways have not said anything of this export yet.
    Pending,
    /// Its gateways are of a version that does not say.
    Unsaid,
}

/// Whether something is known to be so, known not to be, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It should be known soon.
    NotYet,
    /// It cannot be known.
    Never,
}

impl Importer {
    /// Whether it has taken the export over.
    #[must_use]
    pub const fn imported(&self) -> Known {
        match self.import {
            Imported::Said(state) if state.is_imported() => Known::Yes,
            Imported::Said(_) => Known::No,
            Imported::Pending => Known::NotYet,
            Imported::Unsaid => Known::Never,
        }
    }

    /// Whether the export can be reached from there.
    #[must_use]
    pub const fn reachable(&self) -> Known {
        match (self.tunnel, self.import) {
            (None, Imported::Said(_) | Imported::Pending | Imported::Unsaid) => Known::No,
            (Some(_), Imported::Said(ImportState::Ready)) => Known::Yes,
            (Some(_), Imported::Said(_)) => Known::No,
            (Some(_), Imported::Pending) => Known::NotYet,
            (Some(_), Imported::Unsaid) => Known::Never,
        }
    }

    /// The word in metrics and in the answers of tools.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match (self.tunnel, self.import) {
            (None, Imported::Said(_) | Imported::Pending | Imported::Unsaid) => "no-tunnel",
            (Some(_), Imported::Pending) => "pending",
            (Some(_), Imported::Unsaid) => "unknown",
            (Some(_), Imported::Said(state)) => match state {
                ImportState::Ready => "reachable",
                ImportState::NoAddress => "no-address",
                ImportState::NoNamespace => "no-namespace",
                ImportState::PortConflict => "port-conflict",
                ImportState::TypeConflict => "type-conflict",
                ImportState::Other => "other",
            },
        }
    }

    /// Every label there is.
    pub const LABELS: [&'static str; 9] = [
        "reachable",
        "no-tunnel",
        "pending",
        "unknown",
        "no-address",
        "no-namespace",
        "port-conflict",
        "type-conflict",
        "other",
    ];
}

/// The clusters that an export is for and that are members, in order of name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ExportReach {
    importers: Vec<(ClusterName, Importer)>,
}

impl ExportReach {
    /// The clusters.
    pub fn importers(&self) -> impl ExactSizeIterator<Item = (&ClusterName, Importer)> {
        self.importers.iter().map(|(cluster, importer)| (cluster, *importer))
    }
}

impl FromIterator<(ClusterName, Importer)> for ExportReach {
    /// From clusters in order of name.
    fn from_iter<T: IntoIterator<Item = (ClusterName, Importer)>>(importers: T) -> Self {
        Self { importers: importers.into_iter().collect() }
    }
}

/// The reach of every export. Exports that are as far everywhere share one value: there may be as many entries as exports times
/// clusters.
pub type Reach = BTreeMap<ServiceKey, Arc<ExportReach>>;

/// How far each member is with each export.
#[must_use]
pub fn of(exports: &BTreeMap<ServiceKey, LocalExport>, peers: &BTreeMap<ClusterName, Peer>) -> Reach {
    let mut shared: BTreeSet<Arc<ExportReach>> = BTreeSet::new();
    let reach = |(service, export): (&ServiceKey, &LocalExport)| {
        let told = peers.iter().filter(|(cluster, _)| export.audience.includes(cluster));
        let reach: ExportReach = told.map(|(cluster, peer)| (cluster.clone(), peer.importer_of(service))).collect();
        let reach = shared.get(&reach).cloned().unwrap_or_else(|| {
            let reach = Arc::new(reach);
            shared.insert(reach.clone());
            reach
        });
        (service.clone(), reach)
    };
    exports.iter().map(reach).collect()
}

impl Peer {
    fn importer_of(&self, service: &ServiceKey) -> Importer {
        let import = match &self.reported {
            None => Imported::Pending,
            Some(Reported::Unable) => Imported::Unsaid,
            Some(Reported::Said(report)) => {
                report.get(service).map_or(Imported::Pending, |state| Imported::Said(*state))
            }
        };
        Importer { import, tunnel: self.tunnel }
    }
}

#[cfg(test)]
mod tests;
